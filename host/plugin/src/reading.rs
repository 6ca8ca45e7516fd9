//! The sink's side of one `read`: what a guest hands over is checked here, for every API version, before it goes on.
//!
//! Must never pass on what is over a limit or of another stream, and never forget that the sink said no.

use std::sync::Arc;

use thimble_record::{ErrorKind, Failure, Rejected};

use crate::{
    connector::{RawBatch, RecordSink},
    limits::Limits,
    meter::Meter,
};

/// Longest code of a rejected record; the rest is cut.
const MAX_REASON_BYTES: usize = 64;

/// One rejected record as the guest described it.
pub(crate) struct RejectedRecord {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) raw: String,
}

/// The sink of one `read`.
pub(crate) struct Reading {
    sink: Arc<dyn RecordSink>,
    stream: String,
    /// The sink's first error. It ends the read, whatever the guest makes of it.
    failed: Option<Failure>,
}

impl Reading {
    pub(crate) fn new(sink: Arc<dyn RecordSink>, stream: String) -> Self {
        Self { sink, stream, failed: None }
    }

    /// The sink's error, which counts even where the guest went on and returned `ok`.
    pub(crate) fn failed(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }

    pub(crate) async fn emit(
        &mut self,
        meter: &Meter,
        limits: &Limits,
        stream: &str,
        batch: RawBatch,
    ) -> Result<(), Failure> {
        self.check(stream, "a batch", "batch_bytes", batch.len(), limits.batch_bytes)?;
        let sent = meter.exclude(self.sink.emit(stream, batch)).await;
        self.keep(sent)
    }

    pub(crate) async fn reject(
        &mut self,
        meter: &Meter,
        limits: &Limits,
        stream: &str,
        records: Vec<RejectedRecord>,
    ) -> Result<(), Failure> {
        self.check(stream, "a list of rejected records", "rejected_records", records.len(), limits.rejected_records)?;
        let records = records
            .into_iter()
            .map(|RejectedRecord { reason, message, raw }| {
                let reason = &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)];
                let message = &message[..message.floor_char_boundary(limits.message_bytes)];
                Rejected::new(stream, reason, message, &raw)
            })
            .collect();
        let sent = meter.exclude(self.sink.reject(stream, records)).await;
        self.keep(sent)
    }

    pub(crate) async fn checkpoint(
        &mut self,
        meter: &Meter,
        limits: &Limits,
        stream: &str,
        state: String,
    ) -> Result<(), Failure> {
        self.check(stream, "a checkpoint", "state_bytes", state.len(), limits.state_bytes)?;
        let sent = meter.exclude(self.sink.checkpoint(stream, state)).await;
        self.keep(sent)
    }

    fn check(
        &mut self,
        stream: &str,
        what: &str,
        limit: &'static str,
        found: usize,
        allowed: usize,
    ) -> Result<(), Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let refused = |message: String| Failure::new(ErrorKind::Refused, message);
        let checked = if stream != self.stream {
            let shown: String = stream.chars().take(64).collect();
            Err(refused(format!("{what} names stream {shown:?}, but stream {:?} is being read", self.stream)))
        } else if found > allowed {
            Err(refused(format!(
                "{what} of stream {:?} is {found}, more than the limit {limit} = {allowed}",
                self.stream
            )))
        } else {
            Ok(())
        };
        self.keep(checked)
    }

    fn keep(&mut self, sent: Result<(), Failure>) -> Result<(), Failure> {
        if let Err(failure) = &sent {
            self.failed.get_or_insert_with(|| failure.clone());
        }
        sent
    }
}
