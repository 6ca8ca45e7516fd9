//! Byte streams to named hosts, for protocols other than HTTP. TLS is done by the host.

use std::io::{Read, Write};

use crate::{Result, bindings::thimble::connector::net as host};

/// The most bytes of one call across the boundary (`wit/v0.1`).
const MAX_CALL_BYTES: usize = 1024 * 1024;

/// A TCP connection, blocking. Closes when dropped.
pub struct Connection {
    inner: host::Connection,
    buffer: Vec<u8>,
    taken: usize,
}

/// Opens a connection to a granted host.
///
/// # Errors
/// Kind refused where the host is not granted; transient where it cannot be reached.
pub fn connect(host: &str, port: u16) -> Result<Connection> {
    let inner = host::connect(host, port)?;
    Ok(Connection { inner, buffer: Vec::new(), taken: 0 })
}

impl Connection {
    /// Turns the connection into TLS; the certificate is verified for the granted name.
    ///
    /// # Errors
    /// Kind config where the certificate is not valid for the name; transient where the peer broke off.
    pub fn start_tls(&mut self) -> Result<()> {
        Ok(self.inner.start_tls()?)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.taken == self.buffer.len() {
            let most = into.len().clamp(8 * 1024, MAX_CALL_BYTES);
            self.buffer = self.inner.read(u32::try_from(most).unwrap_or(u32::MAX)).map_err(crate::Error::from)?;
            self.taken = 0;
        }
        let left = &self.buffer[self.taken..];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = &bytes[..bytes.len().min(MAX_CALL_BYTES)];
        self.inner.write(piece).map_err(crate::Error::from)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
