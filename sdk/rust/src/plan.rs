//! How a stream divides into partitions, and how a read resumes.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Method, Result, Stream};

/// The most bytes that a partition's descriptor may have: as many as a state, which it may have to hand on.
pub const MAX_DESCRIPTOR_BYTES: usize = 1024 * 1024;

/// How far a stream was read and committed before this run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamState {
    /// `next_state` of the last plan whose partitions were all read to their end; where that plan had
    /// one partition and no `next_state`, the last checkpoint of that partition.
    pub completed: Option<String>,
    /// Partitions of a plan that did not end.
    pub partitions: Vec<PartitionState>,
}

/// How far one partition was read and committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    pub id: String,
    /// Its last committed checkpoint, as text.
    pub state: Option<String>,
    /// Whether it was read to its end.
    pub done: bool,
}

impl StreamState {
    /// `completed`, parsed from the JSON that [`Plan::next_state`] wrote.
    ///
    /// # Errors
    /// Kind system where it is not a `T`.
    pub fn completed<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.completed.as_deref().map(|text| parse("completed state", text)).transpose()
    }

    /// What is known of a partition.
    pub fn partition(&self, id: &str) -> Option<&PartitionState> {
        self.partitions.iter().find(|partition| partition.id == id)
    }
}

/// A piece of a stream that can be read alone, in any order, beside the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Stable between runs; changes when the content that it stands for changes. At most 1 KiB.
    pub id: String,
    /// For the connector alone, given back to `read`. At most 1 MiB.
    pub descriptor: String,
    pub estimated_records: Option<u64>,
    pub estimated_bytes: Option<u64>,
}

impl Partition {
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), descriptor: String::new(), estimated_records: None, estimated_bytes: None }
    }

    /// What `read` needs to know, kept as JSON; [`ReadRequest::descriptor`] gives it back.
    ///
    /// # Errors
    /// Kind refused where it is over 1 MiB.
    pub fn descriptor(mut self, value: &impl Serialize) -> Result<Self> {
        self.descriptor = serde_json::to_string(value)?;
        if self.descriptor.len() > MAX_DESCRIPTOR_BYTES {
            let (id, size) = (&self.id, self.descriptor.len());
            return Err(Error::refused(format!(
                "partition {id}: descriptor has {size} bytes, at most {MAX_DESCRIPTOR_BYTES} fit"
            )));
        }
        Ok(self)
    }

    #[must_use]
    pub fn estimated_records(mut self, records: u64) -> Self {
        self.estimated_records = Some(records);
        self
    }

    #[must_use]
    pub fn estimated_bytes(mut self, bytes: u64) -> Self {
        self.estimated_bytes = Some(bytes);
        self
    }
}

/// What is new in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// At most 100,000.
    pub partitions: Vec<Partition>,
    /// Becomes [`StreamState::completed`] in the commit that ends the last partition.
    pub next_state: Option<String>,
}

impl Plan {
    pub fn new(partitions: Vec<Partition>) -> Self {
        Self { partitions, next_state: None }
    }

    /// What the next plan starts from, kept as JSON.
    ///
    /// # Errors
    /// Kind system where it cannot be written as JSON.
    pub fn next_state(mut self, state: &impl Serialize) -> Result<Self> {
        self.next_state = Some(serde_json::to_string(state)?);
        Ok(self)
    }

    /// The default plan: the whole stream is one partition. Incremental: the partition carries on from
    /// `completed`, and its last checkpoint becomes `completed` when it ends.
    ///
    /// # Errors
    /// Kind refused where `completed` is too large to hand to a partition.
    pub fn single(method: Method, state: &StreamState) -> Result<Self> {
        let mut partition = Partition::new("all");
        if let (Method::Incremental | Method::LogBased, Some(completed)) = (method, &state.completed) {
            if completed.len() > MAX_DESCRIPTOR_BYTES {
                let size = completed.len();
                return Err(Error::refused(format!(
                    "the completed state has {size} bytes, at most {MAX_DESCRIPTOR_BYTES} fit: write a plan of your own"
                )));
            }
            // A partition read to its end is not read again, so its id must tell the rounds apart.
            partition.id = format!("all-{:016x}", fnv1a(completed.as_bytes()));
            partition.descriptor = completed.clone();
        }
        Ok(Self::new(vec![partition]))
    }
}

/// FNV-1a. Only has to differ from one round to the next; needs no dependency.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One partition to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    pub stream: Stream,
    pub method: Method,
    /// Names of the fields wanted; empty means all.
    pub selected: Vec<String>,
    pub partition: Partition,
    /// The last committed checkpoint of this partition, as text. Absent at its start.
    pub state: Option<String>,
}

impl ReadRequest {
    /// A request as the default plan would make it, for tests.
    pub fn new(stream: Stream, method: Method) -> Self {
        Self { stream, method, selected: Vec::new(), partition: Partition::new("all"), state: None }
    }

    /// This partition's own checkpoint, as written by [`crate::Sink::checkpoint`].
    ///
    /// # Errors
    /// Kind system where it is not a `T`.
    pub fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let what = || format!("checkpoint of stream {}", self.stream.name);
        self.state.as_deref().map(|text| parse(what(), text)).transpose()
    }

    /// Where to read on, for the default plan: this partition's own checkpoint, else the state that
    /// the last completed read left, else nothing.
    ///
    /// # Errors
    /// Kind system where it is not a `T`.
    pub fn cursor<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        if self.state.is_none() && !self.partition.descriptor.is_empty() {
            return parse(format!("completed state of stream {}", self.stream.name), &self.partition.descriptor)
                .map(Some);
        }
        self.checkpoint()
    }

    /// What the plan gave this partition by [`Partition::descriptor`].
    ///
    /// # Errors
    /// Kind system where it is not a `T`.
    pub fn descriptor<T: DeserializeOwned>(&self) -> Result<T> {
        parse(format!("descriptor of partition {}", self.partition.id), &self.partition.descriptor)
    }

    /// Whether a field is wanted.
    pub fn wants(&self, field: &str) -> bool {
        self.selected.is_empty() || self.selected.iter().any(|name| name == field)
    }
}

fn parse<T: DeserializeOwned>(what: impl std::fmt::Display, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::system(format!("{what} cannot be read by this version of the connector ({error}): reset the state"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(partition: Partition, state: Option<&str>) -> ReadRequest {
        let mut request = ReadRequest::new(Stream::new("items").incremental("id"), Method::Incremental);
        request.partition = partition;
        request.state = state.map(str::to_owned);
        request
    }

    #[test]
    fn a_completed_read_hands_its_cursor_to_the_next() {
        let first = Plan::single(Method::Incremental, &StreamState::default()).unwrap();
        assert_eq!(first.partitions[0].id, "all");
        assert_eq!(first.next_state, None);
        assert_eq!(request(first.partitions[0].clone(), None).cursor::<u64>().unwrap(), None);

        let completed = StreamState { completed: Some("41".into()), ..StreamState::default() };
        let second = Plan::single(Method::Incremental, &completed).unwrap();
        assert_ne!(second.partitions[0].id, first.partitions[0].id);
        assert_eq!(request(second.partitions[0].clone(), None).cursor::<u64>().unwrap(), Some(41));
        assert_eq!(request(second.partitions[0].clone(), Some("57")).cursor::<u64>().unwrap(), Some(57));
        let third =
            Plan::single(Method::Incremental, &StreamState { completed: Some("57".into()), ..completed }).unwrap();
        assert_ne!(third.partitions[0].id, second.partitions[0].id);
    }

    #[test]
    fn full_table_forgets_the_completed_state() {
        let completed = StreamState { completed: Some("41".into()), ..StreamState::default() };
        let plan = Plan::single(Method::FullTable, &completed).unwrap();
        assert_eq!(plan, Plan::new(vec![Partition::new("all")]));
    }

    #[test]
    fn a_completed_state_over_the_limit_is_refused() {
        let completed = StreamState { completed: Some("x".repeat(MAX_DESCRIPTOR_BYTES + 1)), ..StreamState::default() };
        assert_eq!(Plan::single(Method::Incremental, &completed).unwrap_err().kind, crate::ErrorKind::Refused);
        assert!(Partition::new("p").descriptor(&"x".repeat(MAX_DESCRIPTOR_BYTES)).is_err());
    }

    #[test]
    fn unreadable_state_names_the_stream() {
        let error = request(Partition::new("all"), Some("{")).cursor::<u64>().unwrap_err();
        assert!(error.message.starts_with("checkpoint of stream items cannot be read"), "{error}");
    }

    #[test]
    fn descriptors_come_back() {
        let partition = Partition::new("p").descriptor(&("a", 3)).unwrap();
        assert_eq!(request(partition, None).descriptor::<(String, u8)>().unwrap(), ("a".to_owned(), 3));
    }
}
