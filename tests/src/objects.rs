//! A real S3 store of our own: SeaweedFS in a scratch folder, on free ports of the loopback interface.

use std::{
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres::free_port;

const BUCKET: &str = "thimble";
const KEY: &str = "key-of-the-tests";
const SECRET: &str = "secret-of-the-tests";
const PATIENCE: Duration = Duration::from_secs(30);
/// Every service of the program wants a port of its own.
const PORTS: [&str; 11] = [
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
    "s3.port.iceberg",
    "s3.port.lance",
    "admin.port",
    "admin.port.grpc",
];

/// Ends with its value.
pub struct ObjectServer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl ObjectServer {
    /// `program` is SeaweedFS's `weed`.
    ///
    /// # Errors
    /// Where it cannot be started, or does not answer within 30 seconds.
    pub fn start(program: &Path) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"]);
        command.arg(format!("-bucket={BUCKET}")).arg(format!("-dir={}", folder.path().display()));
        command.arg(format!("-s3.port={port}"));
        for name in PORTS {
            command.arg(format!("-{name}={}", free_port()?));
        }
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { child, port, _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the S3 store does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// A place in it, as the host's configuration names one.
    pub fn place(&self, prefix: &str) -> Value {
        json!({
            "url": format!("s3://{BUCKET}/{prefix}"),
            "options": {
                "aws_endpoint": format!("http://127.0.0.1:{}", self.port),
                "aws_allow_http": "true",
                "aws_region": "us-east-1",
                "aws_access_key_id": KEY,
                "aws_secret_access_key": SECRET,
            },
        })
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        // It may have ended by itself; nothing depends on it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
