//! Databases of the test server, and owners of them.
#![allow(dead_code)]

use std::time::Duration;

use thimble_load::postgres::{Password, Postgres, PostgresSettings, TlsMode};

use crate::postgres_server::{Server, server};

/// One database.
pub struct Base {
    pub server: &'static Server,
    pub name: String,
}

impl Base {
    pub fn new() -> Self {
        let server = server();
        Self { name: server.database(), server }
    }

    pub fn settings(&self) -> PostgresSettings {
        let mut settings = PostgresSettings::new("127.0.0.1", "thimble", &self.name);
        settings.port = self.server.port;
        settings.password = Some(Password::new("sesame"));
        settings.tls = TlsMode::Prefer;
        settings.fence_patience = Duration::from_millis(200);
        settings.lock_timeout = Duration::from_secs(5);
        settings
    }

    /// A new owner: nothing fenced, not connected.
    pub fn owner(&self) -> Postgres {
        Postgres::new(self.settings())
    }

    pub fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql)
    }

    /// The ids of a table, in order.
    pub fn ids(&self, table: &str) -> Vec<i64> {
        let text = self.sql(&format!("select id from shop.\"{table}\" order by id"));
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    pub fn exists(&self, table: &str) -> bool {
        self.sql(&format!("select to_regclass('shop.\"{table}\"') is not null")) == "t"
    }
}

impl Base {
    /// A client for reading, with another driver's conversions left out: ask for text.
    pub async fn client(&self) -> tokio_postgres::Client {
        let config = format!(
            "host=127.0.0.1 port={} user=thimble password=sesame dbname={} options='-c TimeZone=UTC'",
            self.server.port, self.name
        );
        let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}
