//! `thimble manifest try`: reads streams of a manifest in the sandbox, and shows what happens.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use thimble_plugin::{
    Connector, Installed, Plan, PluginError, ReadRequest, Secrets, Session, StreamState,
    egress::{Detour, RunServices, expand},
    secrets::{random_bytes, secret_fields},
};
use thimble_record::{Catalog, Failure, ReplicationMethod, Stream};

use super::{
    With,
    printer::{Printer, Told, as_json},
    sandbox::{self, Sandbox},
};
use crate::{
    commands::recording::Recording,
    context::read_input,
    exit::{CliError, Exit},
    output::Output,
};

/// Size of a configuration or a state.
const MAX_SETTINGS_BYTES: u64 = 16 * 1024 * 1024;

/// Read streams of a manifest, and show every request, record and state.
#[derive(Debug, clap::Args)]
pub struct Try {
    /// The manifest, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The manifest's configuration, from `--config`.
    #[arg(skip)]
    pub(super) settings: Option<PathBuf>,
    /// Read this stream; may be given several times.
    #[arg(long = "stream", value_name = "NAME", conflicts_with = "all")]
    streams: Vec<String>,
    /// Read all streams.
    #[arg(long)]
    all: bool,
    /// States to go on from: an object of states by stream.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Records of each stream.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Read whole streams, whatever the state says.
    #[arg(long)]
    full_refresh: bool,
    /// The time that the manifest sees, in microseconds since the epoch.
    #[arg(long, value_name = "US")]
    now: Option<u64>,
    /// Connect to another origin instead, such as https://api.example.com=http://127.0.0.1:8080; may be given several
    /// times.
    #[arg(long = "map", value_name = "FROM=TO")]
    maps: Vec<String>,
    /// Let the manifest's hosts lead into private networks and to this machine.
    #[arg(long)]
    pub(super) allow_private: bool,
    /// Show answers too.
    #[arg(long)]
    bodies: bool,
    #[command(flatten)]
    recording: Recording,
    #[command(flatten)]
    pub(super) with: With,
}

/// A component with its session, ready to be called.
struct Attempt {
    connector: Arc<dyn Connector>,
    session: Session,
    printer: Arc<Printer>,
    full_refresh: bool,
}

pub(super) async fn run(sandbox: &Sandbox, arguments: Try, output: Output) -> Result<(), CliError> {
    let packed = sandbox.packed(&sandbox::read(&arguments.manifest)?)?;
    let printer = Arc::new(Printer::new(!output.is_text(), arguments.bodies, arguments.limit));
    let installed = match sandbox.plugins.install(&packed).await {
        Ok(installed) => installed,
        Err(error) => return Err(told(&printer, None, error.failure())),
    };
    let outcome = attempt(sandbox, &arguments, &installed, &printer).await;
    // The compiled code stays, as all manifests share it.
    sandbox.plugins.remove(&installed.digest).await.map_err(|error| error.failure())?;
    outcome
}

async fn attempt(
    sandbox: &Sandbox,
    arguments: &Try,
    installed: &Installed,
    printer: &Arc<Printer>,
) -> Result<(), CliError> {
    let session = session(sandbox, arguments, installed, printer)?;
    let states = arguments.state.as_deref().map(document).transpose()?.map(states).unwrap_or_default();
    let connector = sandbox.plugins.load(&installed.digest).await.map_err(|error| error.failure())?;
    let catalog = match connector.discover(&session).await {
        Ok(catalog) => catalog,
        Err(error) => return Err(told(printer, None, error.failure())),
    };
    let attempt = Attempt { connector, session, printer: Arc::clone(printer), full_refresh: arguments.full_refresh };
    let mut first = None;
    for stream in chosen(&catalog, arguments)? {
        let state = states.get(&stream.name).cloned();
        if let Err(failure) = attempt.stream(stream, state).await {
            let error = told(printer, Some(&stream.name), failure);
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Prints a failure, and makes it the end of the command.
fn told(printer: &Printer, stream: Option<&str>, failure: Failure) -> CliError {
    printer.failure(stream, &failure);
    let mut error = CliError::from(failure);
    if let Some(stream) = stream {
        error.message = format!("stream {stream}: {}", error.message);
    }
    error
}

fn session(
    sandbox: &Sandbox,
    arguments: &Try,
    installed: &Installed,
    printer: &Arc<Printer>,
) -> Result<Session, CliError> {
    let config = arguments.settings.as_deref().map(document).transpose()?.unwrap_or_else(|| json!({}));
    let spec = &installed.spec;
    let asked = &spec.permissions;
    let fields = secret_fields(&spec.config_schema, &config);
    // Whoever tries a manifest lets it reach what it asks for, and nothing else.
    let grants = expand(&asked.hosts, &asked.hosts, &config).map_err(|error| error.failure())?;
    let (config, secrets) = Secrets::conceal(&config, &fields, &asked.reads_secrets, &mut random_bytes);
    let mut rehearsal = arguments.recording.open(&sandbox.limits.egress)?;
    rehearsal.watchers.push(Arc::clone(printer) as _);
    rehearsal.now = arguments.now.map(|now| SystemTime::UNIX_EPOCH + Duration::from_micros(now));
    let detours: Result<Vec<_>, _> = arguments.maps.iter().map(|text| Detour::parse(text)).collect();
    rehearsal.detours = detours.map_err(|error| CliError::new(Exit::Usage, error.to_string()))?;
    Ok(Session { config, secrets, grants, log: Arc::clone(printer) as _, services: RunServices::default(), rehearsal })
}

fn document(file: &std::path::Path) -> Result<Value, CliError> {
    let bytes = read_input(file, MAX_SETTINGS_BYTES)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CliError::new(Exit::Usage, format!("{} is not JSON: {error}", file.display())))
}

/// States by stream: an object, or a list of state messages as Airbyte keeps them.
fn states(document: Value) -> BTreeMap<String, Value> {
    let messages = match document {
        Value::Object(states) => return states.into_iter().collect(),
        Value::Array(messages) => messages,
        _ => return BTreeMap::new(),
    };
    let one = |message: &Value| {
        let stream = message.get("stream")?;
        let name = stream.pointer("/stream_descriptor/name")?.as_str()?.to_owned();
        Some((name, stream.get("stream_state")?.clone()))
    };
    messages.iter().filter_map(one).collect()
}

fn chosen<'a>(catalog: &'a Catalog, arguments: &Try) -> Result<Vec<&'a Stream>, CliError> {
    let names = || catalog.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>().join(", ");
    if arguments.all {
        return Ok(catalog.streams.iter().collect());
    }
    if arguments.streams.is_empty() {
        let message = format!("say which streams to read, with --stream NAME or --all: there are {}", names());
        return Err(CliError::new(Exit::Usage, message));
    }
    let find = |name: &String| {
        let missing = || CliError::new(Exit::NotFound, format!("there is no stream {name}: there are {}", names()));
        catalog.stream(name).ok_or_else(missing)
    };
    arguments.streams.iter().map(find).collect()
}

impl Attempt {
    async fn stream(&self, stream: &Stream, state: Option<Value>) -> Result<(), Failure> {
        let incremental = stream.methods.contains(&ReplicationMethod::Incremental) && !self.full_refresh;
        let method = if incremental { ReplicationMethod::Incremental } else { ReplicationMethod::FullTable };
        let completed = state.filter(|_| incremental).map(|state| match state {
            Value::String(text) => text,
            state => state.to_string(),
        });
        let before = StreamState { completed, partitions: Vec::new() };
        let planned = self.connector.plan(&self.session, stream, method, before).await;
        let Plan { partitions, next_state } = planned.map_err(|error| error.failure())?;
        let alone = partitions.len() == 1;
        let mut reached = next_state;
        let mut failed = None;
        for partition in partitions {
            if self.printer.has_enough() {
                break;
            }
            let request = ReadRequest { stream: stream.clone(), method, selected: vec![], partition, state: None };
            let ended = self.connector.read(&self.session, request, Arc::clone(&self.printer) as _).await;
            let checkpoint = self.printer.take_checkpoint();
            match ended {
                // As the pipeline does: the last checkpoint of a partition that is the whole plan is the state.
                Ok(()) if alone => reached = reached.or(checkpoint),
                Ok(()) => {}
                Err(PluginError::Connector(_)) if self.printer.has_enough() => break,
                Err(error) => failed = failed.or(Some(error.failure())),
            }
        }
        let complete = failed.is_none() && !self.printer.has_enough();
        self.tell(stream, reached.filter(|_| complete));
        failed.map_or(Ok(()), Err)
    }

    /// Tells what the stream came to.
    fn tell(&self, stream: &Stream, state: Option<String>) {
        let Told { records, fields } = self.printer.end_stream();
        let declared: BTreeMap<&str, &str> =
            stream.schema.fields.iter().map(|field| (field.name.as_str(), field.data_type.short_name())).collect();
        let name = &stream.name;
        let document = json!({
            "type": "schema", "stream": name, "records": records, "declared": declared, "observed": fields,
        });
        self.printer.line(&document, || {
            let mut text = format!("{name}: {records} records");
            for (field, types) in &fields {
                let observed = types.iter().copied().collect::<Vec<_>>().join(" or ");
                let declared = declared.get(field.as_str()).copied().unwrap_or("not declared");
                text.push_str(&format!("\n  {field}: {observed} ({declared})"));
            }
            text
        });
        if let Some(state) = state {
            let document = json!({ "type": "state", "stream": name, "state": as_json(&state) });
            self.printer.line(&document, || format!("{name}: state {state}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_by_stream_or_as_messages() {
        let expected = BTreeMap::from([("a".to_owned(), json!({ "cursor": 1 }))]);
        assert_eq!(states(json!({ "a": { "cursor": 1 } })), expected);
        let message = json!({
            "type": "STREAM",
            "stream": { "stream_descriptor": { "name": "a" }, "stream_state": { "cursor": 1 } },
        });
        assert_eq!(states(json!([message, { "type": "GLOBAL" }])), expected);
        assert!(states(json!(1)).is_empty());
    }
}
