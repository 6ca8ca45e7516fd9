//! From selections and positions to the partitions that a run reads.

use std::collections::BTreeSet;

use thimble_plugin::{Connector, Partition, Plan, ReadRequest, Session, StreamState};
use thimble_record::{
    Catalog, Disposition, ErrorKind, Failure, Position, ReplicationMethod, Stream, StreamPosition, StreamSchema,
    StreamSelection, WriteMode,
    decode::{DecodeOptions, Decoder},
};

use crate::{
    batch::Target,
    collect::{NextState, StreamWork},
};

/// Most partitions in one plan, and longest partition id and descriptor in bytes; the WIT promises them.
pub const MAX_PARTITIONS: usize = 100_000;
pub const MAX_PARTITION_ID_BYTES: usize = 1024;
pub const MAX_DESCRIPTOR_BYTES: usize = 64 * 1024;
/// Longest state of a stream or partition, in bytes.
pub const MAX_STATE_BYTES: usize = 1024 * 1024;

/// What a run was asked to do beyond the connection's own settings.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SyncRequest {
    /// Only these streams; empty means all selected ones.
    pub streams: Vec<String>,
    /// Read everything again into a new generation.
    pub full_refresh: bool,
}

/// A stream that this run reads.
pub struct Chosen {
    pub stream: Stream,
    pub method: ReplicationMethod,
    pub mode: Disposition,
    pub columns: Vec<String>,
}

/// The streams to read, by the connection's selection (empty: the whole catalog) and the request.
pub fn choose(
    catalog: &Catalog,
    selections: &[StreamSelection],
    request: &SyncRequest,
) -> Result<Vec<Chosen>, Failure> {
    let unknown = |name: &str| {
        let known: Vec<_> = catalog.streams.iter().map(|stream| stream.name.as_str()).take(20).collect();
        let message = format!("the source has no stream `{name}`; it has: {}", known.join(", "));
        Failure::new(ErrorKind::Config, message)
    };
    let all: Vec<StreamSelection> = if selections.is_empty() {
        catalog.streams.iter().map(|stream| StreamSelection::of(&stream.name)).collect()
    } else {
        selections.to_vec()
    };
    if let Some(missing) = request.streams.iter().find(|name| !all.iter().any(|selection| selection.stream == **name)) {
        return Err(unknown(missing));
    }
    all.into_iter()
        .filter(|selection| request.streams.is_empty() || request.streams.contains(&selection.stream))
        .map(|selection| {
            let stream = catalog.stream(&selection.stream).ok_or_else(|| unknown(&selection.stream))?.clone();
            chosen(stream, selection, request.full_refresh)
        })
        .collect()
}

fn chosen(stream: Stream, selection: StreamSelection, full_refresh: bool) -> Result<Chosen, Failure> {
    let default = stream.methods.first().copied().unwrap_or(ReplicationMethod::FullTable);
    let method = selection.method.unwrap_or(default);
    if !stream.methods.contains(&method) {
        let message = format!(
            "stream {}: its source cannot replicate it by {method:?}; it can by {:?}",
            stream.name, stream.methods
        );
        return Err(Failure::new(ErrorKind::Config, message));
    }
    let natural = if method == ReplicationMethod::FullTable { Disposition::Replace } else { Disposition::Append };
    let mode = if full_refresh { Disposition::Replace } else { selection.mode.unwrap_or(natural) };
    if mode == Disposition::Replace && method != ReplicationMethod::FullTable && !full_refresh {
        let message = format!("stream {}: mode `replace` needs the replication method full-table", stream.name);
        return Err(Failure::new(ErrorKind::Config, message));
    }
    Ok(Chosen { stream, method, mode, columns: selection.columns })
}

/// Sets the stream's position for this run: a full refresh that is not under way begins a new generation.
pub fn begin(chosen: &Chosen, position: &mut Position) {
    let stream = position.streams.entry(chosen.stream.name.clone()).or_default();
    if chosen.mode == Disposition::Replace && !stream.refreshing {
        *stream =
            StreamPosition { generation: stream.generation.next(), refreshing: true, ..StreamPosition::default() };
    } else if chosen.method == ReplicationMethod::FullTable && stream.partitions.is_empty() {
        stream.completed = None;
    }
}

/// One stream, planned.
pub struct Planned {
    pub work: StreamWork,
    pub requests: Vec<ReadRequest>,
    pub estimated_bytes: Option<u64>,
    pub estimated_records: Option<u64>,
}

/// Asks the connector for a plan and leaves out what was read.
pub async fn plan(
    connector: &dyn Connector,
    session: &Session,
    chosen: &Chosen,
    position: &StreamPosition,
    stored: Option<StreamSchema>,
) -> Result<Planned, Failure> {
    let partitions = position.partitions.iter().map(|(id, p)| (id.clone(), p.state.clone(), p.done)).collect();
    let state = StreamState { completed: position.completed.clone(), partitions };
    let plan = connector.plan(session, &chosen.stream, chosen.method, state).await.map_err(|error| error.failure())?;
    check(&chosen.stream.name, &plan)?;
    Ok(divide(chosen, position, stored, plan))
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

fn divide(chosen: &Chosen, position: &StreamPosition, stored: Option<StreamSchema>, plan: Plan) -> Planned {
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
            selected: chosen.columns.clone(),
            state: position.partitions.get(&partition.id).and_then(|known| known.state.clone()),
            partition,
        })
        .collect();
    let selected = (!chosen.columns.is_empty()).then(|| {
        // Keys are kept whatever is selected: without them rows cannot be told apart.
        chosen.columns.iter().chain(&chosen.stream.key).cloned().collect()
    });
    // Declared fields first, so that a stream without records still gets its columns.
    let schema = stored.unwrap_or_else(|| declared(&chosen.stream.schema, selected.as_ref()));
    let target = Target {
        stream: chosen.stream.name.clone(),
        // A refresh that was interrupted goes on as one, whatever this run was asked for: readers do not see its generation yet.
        mode: WriteMode::Append,
        refreshing: position.refreshing,
        generation: position.generation,
        key: chosen.stream.key.clone(),
    };
    let decoder = Decoder::new(&chosen.stream.name, schema, DecodeOptions { selected, ..DecodeOptions::default() });
    let work = StreamWork { target, decoder, remaining: requests.len(), next, records: 0, bytes: 0, rejected: 0 };
    Planned { work, requests, estimated_bytes, estimated_records }
}

fn declared(schema: &StreamSchema, selected: Option<&BTreeSet<String>>) -> StreamSchema {
    let wanted = |name: &String| selected.is_none_or(|selected| selected.contains(name));
    StreamSchema::new(schema.fields.iter().filter(|field| wanted(&field.name)).cloned().collect())
}
