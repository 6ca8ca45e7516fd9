//! `--record` and `--replay`: what commands that talk to a source can do with the traffic.

use std::{path::PathBuf, sync::Arc};

use thimble_plugin::egress::{EgressLimits, Recorder, Rehearsal, Replay};

use crate::exit::{CliError, Exit};

/// Where exchanges with the source are written to or taken from.
#[derive(Debug, Default, clap::Args)]
pub struct Recording {
    /// Write every request and its answer to this file, with secrets masked.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Take the answers from a recording instead of the source.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

impl Recording {
    /// Opens the file that was named.
    pub fn open(&self, limits: &EgressLimits) -> Result<Rehearsal, CliError> {
        let mut rehearsal = Rehearsal::default();
        if let Some(file) = &self.record {
            let recorder = Recorder::create(file, limits.recording_bytes).map_err(|error| {
                CliError::new(Exit::Failed, format!("cannot write the recording {}: {error}", file.display()))
            })?;
            rehearsal.watchers.push(Arc::new(recorder));
        }
        if let Some(file) = &self.replay {
            rehearsal.replay = Some(Arc::new(Replay::open(file, limits).map_err(|error| error.failure())?));
        }
        Ok(rehearsal)
    }
}
