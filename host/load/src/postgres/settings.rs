//! Where the database is and how it is talked to. Must never show the password.

use std::time::Duration;

use url::Url;

use crate::error::LoadError;

/// A password. It has no `Debug`, `Display` or `Serialize`, on purpose.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// `text` with the password as `***`: a server may say back what it was told.
    pub(super) fn hide_in(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }
}

/// Whether and how the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    Disable,
    /// Encrypted where the server can. Its certificate is not checked.
    #[default]
    Prefer,
    /// Encrypted. The server's certificate is checked against [`PostgresSettings::ca_pem`], where that is set.
    Require,
    /// Encrypted; the server must prove that it has the name that is connected to.
    VerifyFull,
}

/// Where the database is, and how it is talked to.
#[derive(Clone)]
pub struct PostgresSettings {
    /// A name, an address, or the folder of a Unix socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Password>,
    pub database: String,
    /// Absent: the connection's name.
    pub schema: Option<String>,
    pub tls: TlsMode,
    /// Certificates of the authorities that are trusted instead of the well-known ones, as PEM.
    pub ca_pem: Option<String>,
    /// For connecting, encrypting and logging in together.
    pub connect_timeout: Duration,
    /// For one statement, a whole COPY included.
    pub statement_timeout: Duration,
    /// Wait for a lock that somebody else holds.
    pub lock_timeout: Duration,
    /// After which the server ends a transaction whose owner went silent.
    pub idle_timeout: Duration,
    /// How long a new owner lets an older one finish its transaction before it ends it.
    pub fence_patience: Duration,
    /// How the server shows the connection.
    pub application_name: String,
}

impl PostgresSettings {
    /// Default settings for a database.
    pub fn new(host: impl Into<String>, user: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: 5432,
            user: user.into(),
            password: None,
            database: database.into(),
            schema: None,
            tls: TlsMode::default(),
            ca_pem: None,
            connect_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(60 * 60),
            lock_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(10 * 60),
            fence_patience: Duration::from_secs(10),
            application_name: "thimble".into(),
        }
    }

    /// Reads `postgres://user[:password]@host[:port]/database[?sslmode=…&schema=…]`. A password given apart wins.
    ///
    /// # Errors
    /// [`LoadError::Config`] that names the part which is wrong, without the URL, for it may hold the password.
    pub fn from_url(url: &str, password: Option<Password>) -> Result<Self, LoadError> {
        let wrong = |what: &str| LoadError::Config(format!("the destination's PostgreSQL URL {what}"));
        let parsed = Url::parse(url).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        if !matches!(parsed.scheme(), "postgres" | "postgresql") {
            return Err(wrong("must begin with postgres://"));
        }
        let decoded = |text: &str| decode(text).ok_or_else(|| wrong("has a percent sign that is no escape"));
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?;
        let host = decoded(host.trim_start_matches('[').trim_end_matches(']'))?;
        let user = decoded(parsed.username())?;
        if user.is_empty() {
            return Err(wrong("names no user"));
        }
        let database = decoded(parsed.path().trim_start_matches('/'))?;
        let database = if database.is_empty() { user.clone() } else { database };
        let own = parsed.password().map(|text| decoded(text).map(Password::new)).transpose()?;
        let mut settings = Self { password: password.or(own), ..Self::new(host, user, database) };
        settings.port = parsed.port().unwrap_or(settings.port);
        for (name, value) in parsed.query_pairs() {
            settings.set(&name, &value).map_err(|reason| wrong(&reason))?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match (name, value) {
            ("sslmode", "disable") => self.tls = TlsMode::Disable,
            ("sslmode", "prefer") => self.tls = TlsMode::Prefer,
            ("sslmode", "require") => self.tls = TlsMode::Require,
            ("sslmode", "verify-full") => self.tls = TlsMode::VerifyFull,
            ("sslmode", other) => {
                return Err(format!("has sslmode={other}: use disable, prefer, require or verify-full"));
            }
            ("schema", schema) => self.schema = Some(schema.to_owned()),
            ("application_name", name) => self.application_name = name.to_owned(),
            ("host", folder) => self.host = folder.to_owned(),
            (other, _) => {
                return Err(format!("has a parameter {other:?}: use sslmode, schema, application_name or host"));
            }
        }
        Ok(())
    }
}

/// Undoes percent escapes; `None` where there is a wrong one.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.extend(hex::decode(digits).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_read_and_wrong_ones_never_show_the_password() {
        let read = |url: &str| PostgresSettings::from_url(url, None);
        let full = read("postgres://me:p%40ss@db.example:5433/shop?sslmode=verify-full&schema=raw")
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((full.host.as_str(), full.port, full.user.as_str()), ("db.example", 5433, "me"));
        assert_eq!(
            (full.database.as_str(), full.schema.as_deref(), full.tls),
            ("shop", Some("raw"), TlsMode::VerifyFull)
        );
        assert_eq!(full.password.unwrap().expose(), "p@ss");
        let short = read("postgresql://me@[::1]").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((short.host.as_str(), short.port, short.database.as_str()), ("::1", 5432, "me"));
        let apart = PostgresSettings::from_url("postgres://me:a@h/d", Some(Password::new("b")));
        assert_eq!(apart.unwrap_or_else(|e| panic!("{e}")).password.unwrap().expose(), "b");
        for (url, says) in [
            ("mysql://me:secret@h/d", "must begin"),
            ("postgres://h/d", "no user"),
            ("postgres://me:secret@/d", "host"),
            ("postgres://me:secret%@h/d", "percent"),
            ("postgres://me:secret@h/d?sslmode=allow", "use disable"),
            ("postgres://me:secret@h/d?tls=1", "parameter \"tls\""),
            ("me:secret", "begin"),
        ] {
            let error = read(url).err().unwrap().to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
