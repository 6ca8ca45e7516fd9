//! What API 0.1.0 lets a connector call: the sink, the log, named connections.
//!
//! Must only convert and delegate: limits and policy are behind it.

use wasmtime::component::Resource;

use super::{
    bindings::thimble::connector::{log, net, sink, types},
    convert,
};
use crate::{
    egress::NetStream,
    guest::Guest,
    log::{LogLevel, LogSink},
    reading::RejectedRecord,
};

/// The host's side of `net.connection`.
pub struct Connection {
    stream: NetStream,
}

type Answer<T> = wasmtime::Result<Result<T, types::ConnectorError>>;

impl types::Host for Guest {}

impl sink::Host for Guest {
    async fn emit(&mut self, stream: String, batch: types::Batch) -> Answer<()> {
        let batch = convert::batch(batch);
        let (meter, limits) = (self.meter.clone(), self.limits.clone());
        let sent = match self.reading() {
            Ok(reading) => reading.emit(&meter, &limits, &stream, batch).await,
            Err(refused) => Err(refused),
        };
        Ok(sent.map_err(convert::connector_error))
    }

    async fn reject(&mut self, stream: String, records: Vec<types::RejectedRecord>) -> Answer<()> {
        let records = records
            .into_iter()
            .map(|types::RejectedRecord { reason, message, raw }| RejectedRecord { reason, message, raw })
            .collect();
        let (meter, limits) = (self.meter.clone(), self.limits.clone());
        let sent = match self.reading() {
            Ok(reading) => reading.reject(&meter, &limits, &stream, records).await,
            Err(refused) => Err(refused),
        };
        Ok(sent.map_err(convert::connector_error))
    }

    async fn checkpoint(&mut self, stream: String, state: String) -> Answer<()> {
        let (meter, limits) = (self.meter.clone(), self.limits.clone());
        let sent = match self.reading() {
            Ok(reading) => reading.checkpoint(&meter, &limits, &stream, state).await,
            Err(refused) => Err(refused),
        };
        Ok(sent.map_err(convert::connector_error))
    }
}

impl log::Host for Guest {
    async fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.log.line(level, &message);
        Ok(())
    }
}

impl net::Host for Guest {
    async fn connect(&mut self, host: String, port: u16) -> Answer<Resource<Connection>> {
        let connected = self.egress.connect(&host, port).await;
        self.denial.note(connected.as_ref().err());
        match connected {
            Ok(stream) => Ok(Ok(self.table.push(Connection { stream })?)),
            Err(error) => Ok(Err(convert::connector_error(error.failure()))),
        }
    }
}

impl net::HostConnection for Guest {
    async fn read(&mut self, connection: Resource<Connection>, max: u32) -> Answer<Vec<u8>> {
        let max = (max as usize).min(self.limits.net_bytes);
        let stream = &mut self.table.get_mut(&connection)?.stream;
        Ok(stream.read(max).await.map(Vec::from).map_err(|error| convert::connector_error(error.failure())))
    }

    async fn write(&mut self, connection: Resource<Connection>, bytes: Vec<u8>) -> Answer<()> {
        if bytes.len() > self.limits.net_bytes {
            return Ok(Err(convert::connector_error(self.over_net_bytes(bytes.len()))));
        }
        let stream = &mut self.table.get_mut(&connection)?.stream;
        Ok(stream.write(&bytes).await.map_err(|error| convert::connector_error(error.failure())))
    }

    async fn start_tls(&mut self, connection: Resource<Connection>) -> Answer<()> {
        let stream = &mut self.table.get_mut(&connection)?.stream;
        Ok(stream.start_tls().await.map_err(|error| convert::connector_error(error.failure())))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}
