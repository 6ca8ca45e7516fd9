//! Lakes on real stores, and sealed batches to load into them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use parquet::arrow::ArrowWriter;
use sha2::{Digest, Sha256};
use thimble_load::{LoadError, SegmentSource, lake::Lake};
use thimble_record::{
    BatchSeq, Checksum, ConnectionId, Counts, DataType, Epoch, Failure, Field, Generation, Position, SealedBatch,
    SegmentRef, StreamBatch, StreamPosition, StreamSchema,
};

use crate::faulty::Faults;

enum Place {
    Folder(tempfile::TempDir),
    Memory(Arc<InMemory>),
    S3(String, BTreeMap<String, String>),
}

/// One store, disturbed by `faults`.
pub struct World {
    place: Place,
    pub faults: Faults,
}

impl World {
    pub fn folder() -> Self {
        Self { place: Place::Folder(tempfile::tempdir().unwrap()), faults: Faults::default() }
    }

    /// A store without folders.
    pub fn memory() -> Self {
        Self { place: Place::Memory(Arc::default()), faults: Faults::default() }
    }

    /// A local folder, a store without folders, and the S3 server that `THIMBLE_TEST_S3` names, such as
    /// `http://127.0.0.1:8333`; its bucket is `THIMBLE_TEST_S3_BUCKET` (default `staging`).
    pub fn all() -> Vec<Self> {
        let mut worlds = vec![Self::folder(), Self::memory()];
        if let Ok(endpoint) = std::env::var("THIMBLE_TEST_S3") {
            let bucket = std::env::var("THIMBLE_TEST_S3_BUCKET").unwrap_or_else(|_| "staging".into());
            let unique = hex::encode(Sha256::digest(format!("{:?}", std::time::Instant::now())));
            let url = format!("s3://{bucket}/thimble-test/{}", &unique[..16]);
            let options = [
                ("endpoint", endpoint.as_str()),
                ("allow_http", "true"),
                ("region", "us-east-1"),
                ("access_key_id", &std::env::var("AWS_ACCESS_KEY_ID").unwrap_or_else(|_| "any".into())),
                ("secret_access_key", &std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_else(|_| "any".into())),
            ];
            let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            worlds.push(Self { place: Place::S3(url, options), faults: Faults::default() });
        }
        worlds
    }

    /// A new owner's view of the store: nothing known, nothing fenced.
    pub fn lake(&self) -> Lake {
        let lake = match &self.place {
            Place::Folder(dir) => {
                let options = BTreeMap::from([("fsync".to_owned(), "false".to_owned())]);
                Lake::open(&format!("file://{}", dir.path().display()), &options).unwrap()
            }
            Place::Memory(store) => Lake::with_store(Arc::clone(store) as Arc<dyn ObjectStore>, "memory:///"),
            Place::S3(url, options) => Lake::open(url, options).unwrap(),
        };
        lake.wrapped(|store| self.faults.wrap(store)).with_clock(|| 1_000_000)
    }

    /// The folder of a local lake.
    pub fn path(&self) -> &std::path::Path {
        let Place::Folder(dir) = &self.place else { panic!("this world is not a folder") };
        dir.path()
    }

    pub fn is_folder(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// The store, undisturbed.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        match &self.place {
            Place::Folder(dir) => Arc::new(object_store::local::LocalFileSystem::new_with_prefix(dir.path()).unwrap()),
            Place::Memory(store) => Arc::clone(store) as Arc<dyn ObjectStore>,
            Place::S3(..) => panic!("not needed for S3"),
        }
    }

    pub async fn put(&self, path: &str, content: &str) {
        self.store().put(&Path::from(path), content.to_owned().into()).await.unwrap();
    }
}

pub fn connection() -> ConnectionId {
    ConnectionId::new("shop").unwrap()
}

pub fn field(name: &str, data_type: DataType) -> Field {
    Field { name: name.into(), data_type, nullable: true }
}

pub fn schema() -> StreamSchema {
    StreamSchema::new(vec![field("id", DataType::Int64), field("note", DataType::Text)])
}

pub fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("note {id}"))));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_new(schema().to_arrow(), vec![ids, notes]).unwrap()
}

/// What is done while a segment is opened.
pub type Hook = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Staged segments in memory.
#[derive(Default)]
pub struct Staging {
    segments: Mutex<HashMap<String, Bytes>>,
    pub hook: Mutex<Option<Hook>>,
}

impl Staging {
    /// Stages rows as one Parquet file.
    pub fn stage(&self, number: u32, schema: &StreamSchema, batch: &RecordBatch) -> SegmentRef {
        let mut writer = ArrowWriter::try_new(Vec::new(), schema.to_arrow(), None).unwrap();
        writer.write(batch).unwrap();
        let plain = writer.into_inner().unwrap().into();
        let segment = self.stage_bytes(number, schema, plain, batch.num_rows() as u64);
        SegmentRef { checksum: Checksum::of(batch), ..segment }
    }

    pub fn stage_bytes(&self, number: u32, schema: &StreamSchema, plain: Bytes, rows: u64) -> SegmentRef {
        let mut segments = self.segments.lock().unwrap();
        let path = format!("segment-{}", segments.len());
        let plain_sha256 = hex::encode(Sha256::digest(&plain));
        let plain_bytes = plain.len() as u64;
        segments.insert(path.clone(), plain);
        SegmentRef {
            checksum: Checksum::default(),
            path,
            sha256: String::new(),
            bytes: 0,
            plain_sha256,
            plain_bytes,
            rows,
            wrapped_key: String::new(),
            number,
            schema: schema.clone(),
        }
    }

    /// Changes what is staged behind the manifest's back.
    pub fn change(&self, segment: &SegmentRef, change: impl FnOnce(&mut Vec<u8>)) {
        let mut segments = self.segments.lock().unwrap();
        let mut bytes = segments[&segment.path].to_vec();
        change(&mut bytes);
        segments.insert(segment.path.clone(), bytes.into());
    }

    pub fn lose(&self, segment: &SegmentRef) {
        self.segments.lock().unwrap().remove(&segment.path);
    }
}

#[async_trait]
impl SegmentSource for Staging {
    async fn open(
        &self,
        _batch: &SealedBatch,
        _stream: &StreamBatch,
        segment: &SegmentRef,
    ) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
        let hook = self.hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook().await;
        }
        let found = self.segments.lock().unwrap().get(&segment.path).cloned();
        let content = found.ok_or_else(|| Failure::system("the segment is gone"))?;
        let pieces: Vec<_> = content.chunks(300_007).map(|piece| Ok(content.slice_ref(piece))).collect();
        Ok(stream::iter(pieces).boxed())
    }
}

/// One stream's part of a batch, appended to generation 0.
pub fn append(stream: &str, segments: Vec<SegmentRef>) -> StreamBatch {
    let emitted = segments.iter().map(|segment| segment.rows).sum();
    let schema = segments.last().map_or_else(schema, |segment| segment.schema.clone());
    let mut checksum = Checksum::default();
    segments.iter().for_each(|segment: &SegmentRef| checksum += segment.checksum);
    StreamBatch {
        key: vec!["id".into()],
        counts: Counts { emitted, ..Counts::default() },
        checksum,
        segments,
        ..StreamBatch::new(stream, schema)
    }
}

/// One stream's part of a batch of a full refresh.
pub fn replace(stream: &str, generation: u64, swap: bool, segments: Vec<SegmentRef>) -> StreamBatch {
    StreamBatch { refreshing: true, generation: Generation(generation), swap, ..append(stream, segments) }
}

/// Seals batches one after the other.
pub struct Chain {
    pub seq: u64,
    pub position: Position,
    pub epoch: u64,
}

impl Chain {
    pub fn new() -> Self {
        Self { seq: 0, position: Position::default(), epoch: 1 }
    }

    pub fn seal(&mut self, streams: Vec<StreamBatch>) -> SealedBatch {
        self.seq += 1;
        let from = self.position.digest();
        for part in &streams {
            let at = StreamPosition {
                completed: Some(format!("state {}", self.seq)),
                generation: part.generation,
                ..StreamPosition::default()
            };
            self.position.streams.insert(part.stream.clone(), at);
        }
        SealedBatch {
            connection: connection(),
            epoch: Epoch(self.epoch),
            seq: BatchSeq(self.seq),
            from,
            to: self.position.clone(),
            streams,
        }
    }
}

/// The ids of a stream, as a reader without any knowledge sees them.
pub async fn ids(lake: &Lake, stream: &str) -> Result<Vec<i64>, LoadError> {
    let batches = lake.scan(&connection(), stream, None).await?.collect().await?;
    let of = |batch: &RecordBatch| {
        batch.column_by_name("id").unwrap().as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    Ok(batches.iter().flat_map(of).collect())
}
