//! What a connector says of itself.

/// Built by [`crate::Source::spec`]. Pure: the same on every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) title: String,
    pub(crate) docs: String,
    pub(crate) config_schema: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) memory_mib: Option<u32>,
    pub(crate) reads_secrets: Vec<String>,
}

impl Spec {
    /// `name`: lower case letters, digits and `-`, at most 64 bytes. `version`: semantic, usually
    /// `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            title: name.clone(),
            name,
            version: version.into(),
            docs: String::new(),
            config_schema: r#"{"type":"object"}"#.to_owned(),
            hosts: Vec::new(),
            memory_mib: None,
            reads_secrets: Vec::new(),
        }
    }

    /// What lists and forms show instead of the name.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Markdown for the operator, at most 64 KiB.
    #[must_use]
    pub fn docs(mut self, markdown: impl Into<String>) -> Self {
        self.docs = markdown.into();
        self
    }

    /// JSON Schema (draft 2020-12) of the configuration; secrets carry `"x-secret": true`.
    #[must_use]
    pub fn config_schema(mut self, json: impl Into<String>) -> Self {
        self.config_schema = json.into();
        self
    }

    /// Asks for a host: `name[:port]`, `*.name[:port]`, or a template such as `{{ url }}`.
    #[must_use]
    pub fn host(mut self, pattern: impl Into<String>) -> Self {
        self.hosts.push(pattern.into());
        self
    }

    /// Asks for linear memory other than the host's default of 256 MiB.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = Some(mib);
        self
    }

    /// Asks to see the value of an `x-secret` setting. Every other secret is a placeholder here, which
    /// the host replaces in requests to granted hosts.
    #[must_use]
    pub fn reads_secret(mut self, setting: impl Into<String>) -> Self {
        self.reads_secrets.push(setting.into());
        self
    }
}
