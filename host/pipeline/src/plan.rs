//! From selections and positions to the partitions that a run reads.

use std::collections::{BTreeMap, BTreeSet};

use thimble_engine::shape::Shape;
use thimble_load::Capabilities;
use thimble_plugin::{Connector, Partition, Plan, ReadRequest, Session, StreamState};
use thimble_record::{
    BatchSeq, Catalog, Contract, DataType, DeleteMode, Disposition, ErrorKind, Failure, Field, Nesting,
    ReplicationMethod, Stream, StreamPosition, StreamSchema, StreamSelection, WriteMode,
    decode::{DecodeOptions, Decoder, MAX_COLUMNS},
    selection::EVERY_STREAM,
};

use crate::{
    batch::Target,
    collect::{NextState, StreamWork},
    request::SyncRequest,
    tables::SYSTEM_COLUMNS,
};

/// Most partitions in one plan, and longest partition id and descriptor in bytes; the WIT promises them.
pub const MAX_PARTITIONS: usize = 100_000;
pub const MAX_PARTITION_ID_BYTES: usize = 1024;
pub const MAX_DESCRIPTOR_BYTES: usize = 64 * 1024;
/// Longest state of a stream or partition, in bytes.
pub const MAX_STATE_BYTES: usize = 1024 * 1024;

/// A stream that this run reads.
pub struct Chosen {
    pub stream: Stream,
    pub method: ReplicationMethod,
    pub mode: Disposition,
    /// Names of the key's fields.
    pub key: Vec<String>,
    /// The operator's choices, `stream` being the catalog's name.
    pub selection: StreamSelection,
    pub shape: Shape,
    /// Read all of it into a new generation.
    pub full_refresh: bool,
}

impl Chosen {
    /// Names of the fields to keep; `None` keeps all. Keys are kept whatever is selected: without them rows cannot be
    /// told apart.
    fn selected(&self) -> Option<BTreeSet<String>> {
        wanted(&self.selection, &self.key)
    }

    /// Whether the stream is read into a generation of its own.
    fn refreshes(&self) -> bool {
        match self.mode {
            Disposition::Replace => true,
            Disposition::Append | Disposition::Upsert => self.full_refresh,
            // Versions outlive every refresh.
            Disposition::History => false,
        }
    }

    fn write_mode(&self) -> WriteMode {
        match self.mode {
            Disposition::Append | Disposition::Replace => WriteMode::Append,
            Disposition::Upsert => WriteMode::Upsert,
            Disposition::History => WriteMode::History,
        }
    }
}

fn wanted(selection: &StreamSelection, key: &[String]) -> Option<BTreeSet<String>> {
    (!selection.columns.is_empty()).then(|| selection.columns.iter().chain(key).cloned().collect())
}

fn wrong(stream: &str, what: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Config, format!("stream {stream}: {what}"))
}

/// The streams to read, by the connection's selection (empty: the whole catalog) and the request. `key` keys the digests of
/// hashed values.
pub fn choose(
    catalog: &Catalog,
    selections: &[StreamSelection],
    request: &SyncRequest,
    capabilities: Capabilities,
    key: [u8; 32],
) -> Result<Vec<Chosen>, Failure> {
    let unknown = |name: &str| {
        let known: Vec<_> = catalog.streams.iter().map(|stream| stream.name.as_str()).take(20).collect();
        let message = format!("the source has no stream `{name}`; it has: {}", known.join(", "));
        Failure::new(ErrorKind::Config, message)
    };
    let all = expand(catalog, selections);
    if let Some(missing) = request.streams.iter().find(|name| !all.iter().any(|selection| selection.stream == **name)) {
        return Err(unknown(missing));
    }
    all.into_iter()
        .filter(|selection| request.streams.is_empty() || request.streams.contains(&selection.stream))
        .filter(|selection| !request.except.contains(&selection.stream))
        .map(|selection| {
            let stream = catalog.stream(&selection.stream).ok_or_else(|| unknown(&selection.stream))?.clone();
            chosen(stream, selection, request, capabilities, key)
        })
        .collect()
}

/// One selection for each stream: those that are named, and for the others the one for every stream.
fn expand(catalog: &Catalog, selections: &[StreamSelection]) -> Vec<StreamSelection> {
    let every = StreamSelection::of(EVERY_STREAM);
    let rest = match selections {
        [] => Some(&every),
        selections => selections.iter().find(|selection| selection.stream == EVERY_STREAM),
    };
    let named: Vec<_> = selections.iter().filter(|selection| selection.stream != EVERY_STREAM).cloned().collect();
    let others = rest.into_iter().flat_map(|rest| {
        let others = catalog.streams.iter().filter(|stream| !named.iter().any(|named| named.stream == stream.name));
        others.map(|stream| StreamSelection { stream: stream.name.clone(), ..rest.clone() })
    });
    others.chain(named.iter().cloned()).collect()
}

fn chosen(
    stream: Stream,
    selection: StreamSelection,
    request: &SyncRequest,
    capabilities: Capabilities,
    hash_key: [u8; 32],
) -> Result<Chosen, Failure> {
    let name = stream.name.clone();
    let default = stream.methods.first().copied().unwrap_or(ReplicationMethod::FullTable);
    let method = selection.method.unwrap_or(default);
    if !stream.methods.contains(&method) {
        let offered = &stream.methods;
        return Err(wrong(&name, format!("its source cannot replicate it by {method:?}; it can by {offered:?}")));
    }
    let key = if selection.key.is_empty() { stream.key.clone() } else { selection.key.clone() };
    let natural = match method {
        ReplicationMethod::FullTable => Disposition::Replace,
        _ if !key.is_empty() && capabilities.upsert => Disposition::Upsert,
        _ => Disposition::Append,
    };
    let mode = selection.mode.unwrap_or(natural);
    check_mode(&name, mode, method, &key, &selection, capabilities)?;
    if request.backfill.is_some() && mode == Disposition::Replace {
        return Err(wrong(&name, "a backfill adds to a table, but mode `replace` keeps the last full read only"));
    }
    let shape = Shape::new(&selection, wanted(&selection, &key), hash_key)
        .map_err(|message| Failure::new(ErrorKind::Config, message))?;
    if let Some(clash) = stream.schema.fields.iter().find_map(|field| shape.clash(&field.name)) {
        return Err(wrong(&name, clash));
    }
    Ok(Chosen { stream, method, mode, key, selection, shape, full_refresh: request.full_refresh })
}

fn check_mode(
    stream: &str,
    mode: Disposition,
    method: ReplicationMethod,
    key: &[String],
    selection: &StreamSelection,
    capabilities: Capabilities,
) -> Result<(), Failure> {
    let keyed = matches!(mode, Disposition::Upsert | Disposition::History);
    let full = method == ReplicationMethod::FullTable;
    if mode == Disposition::Replace && !full {
        return Err(wrong(stream, "mode `replace` needs the replication method full-table"));
    }
    if keyed && key.is_empty() {
        return Err(wrong(
            stream,
            "its mode needs a key, and its source names none: set `key` to the identifying fields",
        ));
    }
    let can = match mode {
        Disposition::Append | Disposition::Replace => true,
        Disposition::Upsert => capabilities.upsert,
        Disposition::History => capabilities.history,
    };
    if !can {
        return Err(wrong(
            stream,
            format!("the destination cannot hold mode {mode:?}: choose another mode or destination"),
        ));
    }
    if selection.infer_deletes && !(keyed && full) {
        return Err(wrong(stream, "`infer_deletes` needs the method full-table and mode `upsert` or `history`"));
    }
    Ok(())
}

/// Sets the stream's position for this run, whose first batch is `next`: a full refresh that is not under way begins a
/// new generation, a full read into a table with a key a new pass.
pub fn begin(chosen: &Chosen, position: &mut StreamPosition, next: BatchSeq, backfill: bool) {
    let full = chosen.method == ReplicationMethod::FullTable;
    if backfill {
        return;
    }
    if chosen.refreshes() && !position.refreshing {
        *position = StreamPosition {
            generation: position.generation.next(),
            refreshing: true,
            first_batch: next,
            ..StreamPosition::default()
        };
    } else if position.partitions.is_empty() && (full || chosen.full_refresh) && !position.refreshing {
        position.completed = None;
        let keyed = matches!(chosen.mode, Disposition::Upsert | Disposition::History);
        position.pass = (full && keyed).then_some(next);
    }
}

/// One stream, planned.
pub struct Planned {
    pub work: StreamWork,
    pub requests: Vec<ReadRequest>,
    pub estimated_bytes: Option<u64>,
    pub estimated_records: Option<u64>,
}

/// What the decoder of a stream starts from.
pub struct Known {
    /// The stream's schema as of its last batch; `None` before the first.
    pub stored: Option<StreamSchema>,
    /// Names of all streams of the source, which no subtable may take.
    pub streams: BTreeSet<String>,
    pub capabilities: Capabilities,
}

/// Asks the connector for a plan and leaves out what was read.
pub async fn plan(
    connector: &dyn Connector,
    session: &Session,
    chosen: Chosen,
    position: &StreamPosition,
    known: Known,
) -> Result<Planned, Failure> {
    let partitions = position.partitions.iter().map(|(id, p)| (id.clone(), p.state.clone(), p.done)).collect();
    let state = StreamState { completed: position.completed.clone(), partitions };
    let plan = connector.plan(session, &chosen.stream, chosen.method, state).await.map_err(|error| error.failure())?;
    check(&chosen.stream.name, &plan)?;
    divide(chosen, position, known, plan)
}

fn check(stream: &str, plan: &Plan) -> Result<(), Failure> {
    let refuse =
        |what: String| Err(Failure::new(ErrorKind::Refused, format!("stream {stream}: the connector planned {what}")));
    if plan.partitions.len() > MAX_PARTITIONS {
        return refuse(format!("{} partitions; the limit is {MAX_PARTITIONS}", plan.partitions.len()));
    }
    if plan.next_state.as_ref().is_some_and(|state| state.len() > MAX_STATE_BYTES) {
        return refuse(format!("a state of more than {MAX_STATE_BYTES} bytes"));
    }
    let mut ids = BTreeSet::new();
    for Partition { id, descriptor, .. } in &plan.partitions {
        if id.is_empty() || id.len() > MAX_PARTITION_ID_BYTES || descriptor.len() > MAX_DESCRIPTOR_BYTES {
            return refuse(format!(
                "a partition whose id is empty or over {MAX_PARTITION_ID_BYTES} bytes, or whose descriptor is over {MAX_DESCRIPTOR_BYTES}"
            ));
        }
        if !ids.insert(id) {
            return refuse(format!("the partition `{id}` twice"));
        }
    }
    Ok(())
}

fn divide(chosen: Chosen, position: &StreamPosition, known: Known, plan: Plan) -> Result<Planned, Failure> {
    let next = match (plan.next_state, plan.partitions.as_slice()) {
        (None, [only]) => NextState::LastCheckpoint { partition_id: only.id.clone() },
        // Nothing new and no state given: what was completed stays.
        (None, []) => NextState::Given(position.completed.clone()),
        (next, _) => NextState::Given(next),
    };
    let left: Vec<_> = plan
        .partitions
        .into_iter()
        .filter(|p| !position.partitions.get(&p.id).is_some_and(|known| known.done))
        .collect();
    let sum = |f: fn(&Partition) -> Option<u64>| left.iter().map(f).sum::<Option<u64>>();
    let (estimated_bytes, estimated_records) = (sum(|p| p.estimated_bytes), sum(|p| p.estimated_records));
    let requests: Vec<_> = left
        .into_iter()
        .map(|partition| ReadRequest {
            stream: chosen.stream.clone(),
            method: chosen.method,
            selected: chosen.selection.columns.clone(),
            state: position.partitions.get(&partition.id).and_then(|known| known.state.clone()),
            partition,
        })
        .collect();
    let work = work(chosen, position, known, requests.len(), next)?;
    Ok(Planned { work, requests, estimated_bytes, estimated_records })
}

/// The stream as the collector works on it.
///
/// # Errors
/// `config`, where two fields would become one column.
pub fn work(
    chosen: Chosen,
    position: &StreamPosition,
    known: Known,
    remaining: usize,
    next: NextState,
) -> Result<StreamWork, Failure> {
    let decoder = decoder(&chosen, known)?;
    Ok(StreamWork {
        target: target(&chosen, position),
        decoder,
        shape: chosen.shape.clone(),
        max_rejected: chosen.selection.max_rejected,
        remaining,
        next,
        records: 0,
        bytes: 0,
        rejected: 0,
    })
}

/// Where the stream's rows go.
pub fn target(chosen: &Chosen, position: &StreamPosition) -> Target {
    Target {
        stream: chosen.stream.name.clone(),
        root: None,
        mode: chosen.write_mode(),
        // A refresh that was interrupted goes on as one, whatever this run was asked for: readers do not see its
        // generation yet.
        refreshing: position.refreshing,
        generation: position.generation,
        // An append table keeps no key: rows of one key stand beside each other.
        key: chosen.key.iter().map(|field| chosen.shape.column(field)).collect(),
        deletes: chosen.selection.deletes,
        infer_deletes: chosen.selection.infer_deletes,
        system: chosen.selection.system_columns,
    }
}

fn decoder(chosen: &Chosen, known: Known) -> Result<Decoder, Failure> {
    let Known { stored, streams, capabilities } = known;
    let selected = chosen.selected();
    // What is not stored yet has nothing to be held to.
    let contract = if stored.is_some() { chosen.selection.contract } else { Contract::Evolve };
    // Declared fields first, so that a stream without records still gets its columns.
    let schema = stored.unwrap_or_else(|| declared(&chosen.stream.schema, selected.as_ref(), chosen.selection.nested));
    let mut columns = BTreeMap::new();
    for Field { name, .. } in &schema.fields {
        if let Some(other) = columns.insert(chosen.shape.column(name), name) {
            let what = format!("its fields `{other}` and `{name}` would become one column: correct `rename`");
            return Err(wrong(&chosen.stream.name, what));
        }
    }
    let options = DecodeOptions {
        selected,
        nesting: chosen.selection.nested,
        contract,
        max_columns: capabilities.max_columns.saturating_sub(SYSTEM_COLUMNS).min(MAX_COLUMNS),
        taken: chosen.shape.taken(),
        reserved_streams: streams,
    };
    Ok(Decoder::new(&chosen.stream.name, schema, options))
}

fn declared(schema: &StreamSchema, selected: Option<&BTreeSet<String>>, nested: Nesting) -> StreamSchema {
    // What is to be flattened gets its columns from the records.
    let flat = |field: &Field| nested == Nesting::Flatten && field.data_type == DataType::Json;
    let wanted = |field: &&Field| selected.is_none_or(|selected| selected.contains(&field.name)) && !flat(field);
    StreamSchema::new(schema.fields.iter().filter(wanted).cloned().collect())
}

/// The rejected-records table.
pub fn rejected_target(capabilities: Capabilities) -> Target {
    Target {
        stream: thimble_record::rejected::REJECTED_STREAM.into(),
        root: None,
        mode: if capabilities.upsert { WriteMode::Upsert } else { WriteMode::Append },
        refreshing: false,
        generation: thimble_record::Generation::default(),
        key: thimble_record::rejected::REJECTED_KEY.map(String::from).to_vec(),
        deletes: DeleteMode::Soft,
        infer_deletes: false,
        system: thimble_record::SystemNaming::Thimble,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn partition(id: impl Into<String>) -> Partition {
        Partition { id: id.into(), descriptor: String::new(), estimated_records: None, estimated_bytes: None }
    }

    fn planned(partitions: Vec<Partition>, next_state: Option<String>) -> Result<(), Failure> {
        check("s", &Plan { partitions, next_state })
    }

    #[test]
    fn every_limit_of_a_plan_is_crossed_by_one_more() {
        let many = |count: usize| (0..count).map(|at| partition(at.to_string())).collect::<Vec<_>>();
        planned(many(MAX_PARTITIONS), Some("x".repeat(MAX_STATE_BYTES))).unwrap();
        let told = |result: Result<(), Failure>| result.unwrap_err().message;
        assert!(told(planned(many(MAX_PARTITIONS + 1), None)).contains("100001 partitions"));
        assert!(told(planned(vec![], Some("x".repeat(MAX_STATE_BYTES + 1)))).contains("state of more than"));
        assert!(
            told(planned(vec![partition("x".repeat(MAX_PARTITION_ID_BYTES + 1))], None))
                .contains("id is empty or over")
        );
        assert!(told(planned(vec![partition("")], None)).contains("id is empty or over"));
        let long = Partition { descriptor: "x".repeat(MAX_DESCRIPTOR_BYTES + 1), ..partition("a") };
        assert!(told(planned(vec![long], None)).contains("descriptor is over"));
        assert!(told(planned(vec![partition("a"), partition("a")], None)).contains("`a` twice"));
    }

    fn stream(name: &str, key: &[&str]) -> Stream {
        Stream {
            name: name.into(),
            schema: StreamSchema::default(),
            key: key.iter().map(|key| (*key).to_owned()).collect(),
            methods: vec![ReplicationMethod::Incremental, ReplicationMethod::FullTable],
            cursor: None,
        }
    }

    fn capable(upsert: bool, history: bool) -> Capabilities {
        Capabilities { max_columns: 1_000, upsert, history }
    }

    fn chosen_of(catalog: &Catalog, selections: &[StreamSelection], upsert: bool) -> Result<Vec<Chosen>, Failure> {
        choose(catalog, selections, &SyncRequest::default(), capable(upsert, false), [0; 32])
    }

    #[test]
    fn a_selection_of_every_stream_leaves_out_those_that_are_named() {
        let catalog = Catalog { streams: vec![stream("a", &["id"]), stream("b", &[])] };
        let every = StreamSelection { mode: Some(Disposition::Append), ..StreamSelection::of(EVERY_STREAM) };
        let named = StreamSelection { method: Some(ReplicationMethod::FullTable), ..StreamSelection::of("b") };
        let chosen = chosen_of(&catalog, &[named, every], true).unwrap();
        let modes: Vec<_> = chosen.iter().map(|chosen| (chosen.stream.name.as_str(), chosen.mode)).collect();
        assert_eq!(modes, [("a", Disposition::Append), ("b", Disposition::Replace)]);
        let missing = chosen_of(&catalog, &[StreamSelection::of("c")], true).err().unwrap();
        assert_eq!(missing.message, "the source has no stream `c`; it has: a, b");
    }

    #[test]
    fn streams_with_a_schedule_of_their_own_can_be_left_out() {
        let catalog = Catalog { streams: vec![stream("a", &["id"]), stream("b", &[])] };
        let request = SyncRequest { except: vec!["b".into(), "gone".into()], ..SyncRequest::default() };
        let chosen = choose(&catalog, &[], &request, capable(true, false), [0; 32]).unwrap();
        assert_eq!(chosen.iter().map(|chosen| chosen.stream.name.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_stream_with_a_key_is_merged_where_the_destination_can() {
        let catalog = Catalog { streams: vec![stream("a", &["id"]), stream("b", &[])] };
        let modes =
            |upsert| chosen_of(&catalog, &[], upsert).unwrap().iter().map(|chosen| chosen.mode).collect::<Vec<_>>();
        assert_eq!(modes(true), [Disposition::Upsert, Disposition::Append]);
        assert_eq!(modes(false), [Disposition::Append, Disposition::Append]);
        let history = StreamSelection { mode: Some(Disposition::History), ..StreamSelection::of("a") };
        assert!(chosen_of(&catalog, &[history], true).err().unwrap().message.contains("cannot hold mode History"));
    }

    #[test]
    fn a_run_begins_a_generation_a_pass_or_nothing() {
        let catalog = Catalog { streams: vec![stream("a", &["id"])] };
        let of = |mode, method| {
            let selection = StreamSelection { mode: Some(mode), method: Some(method), ..StreamSelection::of("a") };
            chosen_of(&catalog, &[selection], true).unwrap().remove(0)
        };
        let read = StreamPosition { completed: Some("7".into()), ..StreamPosition::default() };
        let begun = |chosen: &Chosen, backfill| {
            let mut position = read.clone();
            begin(chosen, &mut position, BatchSeq(5), backfill);
            position
        };
        let incremental = of(Disposition::Upsert, ReplicationMethod::Incremental);
        assert_eq!(begun(&incremental, false), read);
        let full = of(Disposition::Upsert, ReplicationMethod::FullTable);
        assert_eq!(begun(&full, false), StreamPosition { pass: Some(BatchSeq(5)), ..StreamPosition::default() });
        assert_eq!(begun(&full, true), read);
        let replaced = begun(&of(Disposition::Replace, ReplicationMethod::FullTable), false);
        assert_eq!((replaced.generation.0, replaced.refreshing, replaced.first_batch), (1, true, BatchSeq(5)));
        let mut again = replaced.clone();
        begin(&of(Disposition::Replace, ReplicationMethod::FullTable), &mut again, BatchSeq(6), false);
        assert_eq!(again, replaced, "a refresh under way goes on");
    }
}
