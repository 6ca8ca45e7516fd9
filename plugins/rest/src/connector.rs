//! The source: spec, check, discover, plan, read.
//!
//! Owns the order of steps of each call, and the two ways in which a manifest arrives: inside the component, or in the
//! configuration.

use std::rc::Rc;

use thimble_sdk::{Catalog, Method, Plan, ReadRequest, Result as SdkResult, Sink, Source, Spec, StreamState};

use crate::{
    catalog, description,
    error::{RestError, Result, to_sdk},
    extract::Record,
    http::Budget,
    limits::MAX_AT_ONCE,
    manifest::{self, Manifest},
    probe,
    setting::Setting,
    stream::{Env, Stream, resume::Checkpoint, run},
    value::{Map, Value},
    wire::{Wire, host::HostWire},
};

/// Any REST API by a manifest.
pub struct Rest;

/// The configuration as it comes.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub struct Config(Value);

impl Source for Rest {
    type Config = Config;

    fn spec() -> Spec {
        match description::preset() {
            Some(Ok(manifest)) => description::spec(&manifest),
            Some(Err(error)) => Spec::new("invalid-manifest", env!("CARGO_PKG_VERSION"))
                .docs(format!("The manifest inside this component cannot be read: {error}")),
            None => Spec::new("rest", env!("CARGO_PKG_VERSION"))
                .title("REST API")
                .docs(include_str!("docs.md"))
                .config_schema(include_str!("schema.json"))
                .host("{{ hosts }}"),
        }
    }

    fn check(config: &Config) -> SdkResult<String> {
        check(config).map_err(to_sdk)
    }

    fn discover(config: &Config) -> SdkResult<Catalog> {
        let found = Session::new(config).and_then(|session| {
            description::refuse_errors(&session.manifest)?;
            session.catalog()
        });
        found.map_err(to_sdk)
    }

    fn plan(_: &Config, _: &thimble_sdk::Stream, method: Method, state: &StreamState) -> SdkResult<Plan> {
        Plan::single(method, state)
    }

    fn read(config: &Config, request: &ReadRequest, sink: &mut Sink) -> SdkResult<()> {
        let kept = request.cursor::<Value>()?.unwrap_or_default();
        read(config, request, &kept, sink).map_err(to_sdk)
    }
}

/// What every call but `spec` begins with.
struct Session {
    manifest: Manifest,
    env: Env,
    wire: Rc<HostWire>,
}

impl Session {
    fn new(config: &Config) -> Result<Self> {
        let setting = Setting::read(&config.0, description::preset())?;
        let wire = Rc::new(setting.now_us.map_or_else(HostWire::new, HostWire::standing));
        let config = manifest::normalize(&setting.manifest.resolved, setting.config, wire.now_us())?;
        let mut env = Env { orders: true, ..Env::new(wire.clone(), config, "") };
        env.budget = setting.manifest.api_budget().map(|node| Budget::build(&node, &env)).transpose()?.map(Rc::new);
        Ok(Self { manifest: setting.manifest, env, wire })
    }

    /// The manifest's streams, those that are made of others' records included.
    fn streams(&self) -> Result<Value> {
        self.wire.block_on(crate::stream::dynamic::streams(&self.manifest, &self.env))
    }

    fn catalog(&self) -> Result<Catalog> {
        let streams = self.streams()?;
        self.wire.block_on(catalog::of(&streams, &self.env))
    }
}

/// Reads the first record of the streams that the manifest wants for it, or only looks at the manifest.
fn check(config: &Config) -> Result<String> {
    if config.0.get("only").and_then(Value::as_str) == Some("lint") {
        let text = config.0.get("manifest").cloned().unwrap_or_default();
        return Ok(description::report(&text)?.to_json());
    }
    let mut session = Session::new(config)?;
    description::refuse_errors(&session.manifest)?;
    session.env.config = session.manifest.check_config(&session.env.config);
    let streams = session.streams()?;
    let names = probe::names(&session.manifest, &streams)?;
    for name in &names {
        let node = catalog::find(&streams, name)?;
        let stream = Stream::build(&node, &session.env, &Value::map(Map::new()))?;
        session.wire.block_on(stream.first_record()).map_err(|error| RestError {
            message: format!("stream {name} is not available: {}", error.message),
            ..error
        })?;
    }
    Ok(format!("Read from {}.", if names.is_empty() { "no stream".to_owned() } else { names.join(", ") }))
}

fn read(config: &Config, request: &ReadRequest, kept: &Value, sink: &mut Sink) -> Result<()> {
    let session = Session::new(config)?;
    let streams = session.streams()?;
    let node = catalog::find(&streams, &request.stream.name)?;
    let checkpoint = Checkpoint::read(kept, session.wire.now_us());
    let selected = (!request.selected.is_empty()).then(|| Rc::new(request.selected.clone()));
    let env = Env { pinned_now_us: checkpoint.pinned_now_us, selected, ..session.env.clone() };
    let state = match checkpoint.state {
        Value::Null => Value::map(Map::new()),
        state => state,
    };
    let at_once = usize::try_from(session.manifest.concurrency(&env.scope())?).unwrap_or(1).min(MAX_AT_ONCE);
    let mut output = ToSink { sink, page: Vec::new() };
    session.wire.block_on(async {
        let state = crate::stream::migration::migrate(&node, &env, state)?;
        let stream = Stream::build(&node, &env, &state)?;
        run::read(stream, &state, checkpoint.resume, at_once, &mut output).await
    })
}

/// The host's end of a read.
struct ToSink<'a> {
    sink: &'a mut Sink,
    page: Vec<u8>,
}

impl run::Output for ToSink<'_> {
    fn records(&mut self, records: Vec<Record>) -> Result<usize> {
        self.page.clear();
        for record in records {
            match record {
                Record::Raw(text) => self.page.extend_from_slice(&text),
                Record::Parsed(value) => {
                    serde_json::to_writer(&mut self.page, &value).expect("a value is always JSON");
                }
            }
            self.page.push(b'\n');
        }
        if !self.page.is_empty() {
            self.sink.json_page(&self.page).map_err(crate::error::from_sdk)?;
        }
        Ok(self.page.len())
    }

    fn checkpoint(&mut self, state: &Value) -> Result<()> {
        self.sink.checkpoint(state).map_err(crate::error::from_sdk)
    }
}
