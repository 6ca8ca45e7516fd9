//! `thimble state`.

use std::path::PathBuf;

use serde_json::{Value, json};
use thimble_record::{BatchSeq, Position, StreamPosition};
use thimble_store::StoreError;

use crate::{
    cli::Global,
    context::{Context, connection_id, now_ms, read_input, small_runtime},
    exit::{CliError, Exit},
    output::{Output, Table, instant},
};

/// Largest position that is read.
const MAX_STATE_BYTES: u64 = 64 * 1024 * 1024;

/// Show or set how far a connection was read.
#[derive(Debug, clap::Subcommand)]
pub enum State {
    /// Print the position of a connection, or of one stream
    #[command(after_help = "Example:\n  thimble state show flights --output json > state.json")]
    Show {
        /// The connection.
        connection: String,
        /// Only this stream.
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
    },
    /// Set the position of a connection, or of one stream; the next sync starts there
    ///
    /// The position becomes effective in the next sync, which commits it to the destination first. With `--stream`
    /// the file holds that stream's position, and the others stay.
    #[command(
        after_help = "Examples:\n  thimble state set flights state.json\n  echo '{}' | thimble state set flights --stream airports    # read it again from the start"
    )]
    Set {
        /// The connection.
        connection: String,
        /// Only this stream.
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
        /// JSON file, `-` for standard input.
        #[arg(default_value = "-", value_name = "FILE")]
        file: PathBuf,
    },
    /// List the batches whose positions can be gone back to, the newest first
    History {
        /// The connection.
        connection: String,
        /// At most so many.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Go back to the position that was committed with a batch; the next sync starts there
    ///
    /// What was read after that batch is read again. Tables keep their rows: in mode `upsert` they take the newer values,
    /// in mode `append` records that were read before come a second time.
    #[command(
        after_help = "Example:\n  thimble state history flights\n  thimble state rewind flights --batch 17 --stream airports"
    )]
    Rewind {
        /// The connection.
        connection: String,
        /// Number of the batch.
        #[arg(long, value_name = "N")]
        batch: u64,
        /// Only this stream.
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
    },
}

/// Runs the subcommand.
pub fn run(command: State, global: &Global, output: Output) -> Result<(), CliError> {
    let context = Context::existing(global, output)?;
    match command {
        State::Show { connection, stream } => show(&context, &connection, stream.as_deref()),
        State::Set { connection, stream, file } => {
            let bytes = read_input(&file, MAX_STATE_BYTES)?;
            set(&context, &connection, stream.as_deref(), &bytes)
        }
        State::History { connection, limit } => history(&context, &connection, limit),
        State::Rewind { connection, batch, stream } => rewind(&context, &connection, batch, stream.as_deref()),
    }
}

fn show(context: &Context, connection: &str, stream: Option<&str>) -> Result<(), CliError> {
    let id = connection_id(connection)?;
    let (known, edit) = small_runtime()?.block_on(async {
        let store = context.store().await?;
        store.connection(&id).await?;
        Ok::<_, CliError>((store.position(&id).await?, store.position_edit(&id).await?))
    })?;
    let pending = edit.is_some();
    let (seq, committed) = known.map_or_else(Default::default, |(seq, position)| (seq, position));
    let position = edit.map_or(committed, |edit| edit.position);
    if let Some(stream) = stream {
        let position = position.streams.get(stream).ok_or_else(|| no_stream(connection, stream))?;
        return context.output.show(position, |out| {
            serde_json::to_writer_pretty(&mut *out, position)?;
            writeln!(out)
        });
    }
    context.output.show(&position, |out| {
        writeln!(out, "batches committed: {seq}{}", if pending { "; an edit waits for the next sync" } else { "" })?;
        let mut table = Table::new(&["stream", "completed", "generation#", "open partitions#"]);
        for (name, stream) in &position.streams {
            let StreamPosition { completed, generation, refreshing, first_batch: _, pass: _, partitions } = stream;
            let open = partitions.values().filter(|partition| !partition.done).count();
            table.row([
                name.clone(),
                completed.as_deref().map_or_else(|| "-".into(), |state| shortened(state, 60)),
                format!("{generation}{}", if *refreshing { " (refreshing)" } else { "" }),
                open.to_string(),
            ]);
        }
        table.write(out)
    })
}

fn no_stream(connection: &str, stream: &str) -> CliError {
    CliError::new(Exit::NotFound, format!("connection {connection} has no position for the stream {stream}"))
}

fn shortened(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn history(context: &Context, connection: &str, limit: u32) -> Result<(), CliError> {
    let id = connection_id(connection)?;
    let checkpoints = small_runtime()?.block_on(async {
        let store = context.store().await?;
        store.connection(&id).await?;
        Ok::<_, CliError>(store.checkpoints(&id, limit).await?)
    })?;
    context.output.show(&checkpoints, |out| {
        let mut table = Table::new(&["batch#", "committed"]);
        for checkpoint in &checkpoints {
            table.row([checkpoint.seq.to_string(), instant(checkpoint.committed_at)]);
        }
        table.write(out)
    })
}

fn rewind(context: &Context, connection: &str, batch: u64, stream: Option<&str>) -> Result<(), CliError> {
    let id = connection_id(connection)?;
    small_runtime()?.block_on(async {
        let store = context.store().await?;
        let past = store.checkpoint(&id, BatchSeq(batch)).await.map_err(|error| match error {
            StoreError::NotFound { .. } => {
                CliError::new(Exit::NotFound, format!("connection {connection} has no position of a batch {batch}"))
                    .hint(format!("thimble state history {connection}"))
            }
            error => error.into(),
        })?;
        let current = store.position(&id).await?.map(|(_, position)| position).unwrap_or_default();
        if let Some(stream) = stream.filter(|stream| !current.streams.contains_key(*stream)) {
            return Err(no_stream(connection, stream));
        }
        let position = current.rewound(&past, stream);
        let now = now_ms();
        let edit = store.put_position_edit(&id, &position, "cli", now).await?;
        let detail = json!({ "stream": stream, "batch": batch, "edit": edit.id });
        store.append_audit("cli", "state.rewind", connection, &detail, now).await?;
        let document = json!({ "connection": connection, "pending": true, "position": position });
        context
            .output
            .show(&document, |out| writeln!(out, "the next sync of {connection} starts where batch {batch} ended"))
    })
}

fn set(context: &Context, connection: &str, stream: Option<&str>, bytes: &[u8]) -> Result<(), CliError> {
    let id = connection_id(connection)?;
    let wrong = |error: serde_json::Error| CliError::new(Exit::Usage, format!("that is not a position: {error}"));
    refuse_unknown_keys(&serde_json::from_slice(bytes).map_err(wrong)?, stream.is_some())?;
    small_runtime()?.block_on(async {
        let store = context.store().await?;
        let position = match stream {
            None => serde_json::from_slice::<Position>(bytes).map_err(wrong)?,
            Some(stream) => {
                let one = serde_json::from_slice::<StreamPosition>(bytes).map_err(wrong)?;
                let mut position = match store.position_edit(&id).await? {
                    Some(edit) => edit.position,
                    None => store.position(&id).await?.map(|(_, position)| position).unwrap_or_default(),
                };
                position.streams.insert(stream.to_owned(), one);
                position
            }
        };
        let now = now_ms();
        let edit = store.put_position_edit(&id, &position, "cli", now).await?;
        let detail = json!({ "stream": stream, "edit": edit.id });
        store.append_audit("cli", "state.set", connection, &detail, now).await?;
        let document = json!({ "connection": connection, "pending": true, "position": position });
        context.output.show(&document, |out| writeln!(out, "the next sync of {connection} starts at this position"))
    })
}

/// Every key of a position may be absent, so a misspelt one, or a stream's position in the place of the whole, would
/// mean "from the start".
fn refuse_unknown_keys(position: &Value, of_stream: bool) -> Result<(), CliError> {
    const STREAM: [&str; 6] = ["completed", "generation", "refreshing", "first_batch", "pass", "partitions"];
    let refuse = |place: &str, value: &Value, known: &[&str]| {
        let keys = value.as_object().into_iter().flatten().map(|(key, _)| key);
        match keys.into_iter().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let message = format!("that is not a position: unknown key `{key}`{place}");
                Err(CliError::new(Exit::Usage, message).hint(format!("the keys there are {}", known.join(", "))))
            }
        }
    };
    if of_stream {
        return refuse("", position, &STREAM);
    }
    refuse("", position, &["streams", "backfills"])?;
    let streams = position.get("streams").and_then(Value::as_object);
    streams
        .into_iter()
        .flatten()
        .try_for_each(|(name, stream)| refuse(&format!(" in the stream `{name}`"), stream, &STREAM))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_that_would_be_passed_over_are_refused() {
        let told = |position: Value, of_stream| refuse_unknown_keys(&position, of_stream).unwrap_err().message;
        assert!(told(json!({ "completed": "7" }), false).ends_with("unknown key `completed`"));
        assert!(told(json!({ "complete": "7" }), true).ends_with("unknown key `complete`"));
        let inside = json!({ "streams": { "s": { "partition": {} } } });
        assert!(told(inside, false).ends_with("unknown key `partition` in the stream `s`"));
        refuse_unknown_keys(&json!({}), true).unwrap();
        refuse_unknown_keys(&json!({ "streams": { "s": { "completed": "7" } } }), false).unwrap();
    }

    /// The names above are those of the position.
    #[test]
    fn known_keys_are_those_of_the_position() {
        let mut position = Position::default();
        let mut stream = StreamPosition { completed: Some("x".into()), refreshing: true, ..StreamPosition::default() };
        stream.partitions.insert("p".into(), thimble_record::PartitionPosition::default());
        position.streams.insert("s".into(), stream);
        refuse_unknown_keys(&serde_json::to_value(&position).unwrap(), false).unwrap();
    }
}
