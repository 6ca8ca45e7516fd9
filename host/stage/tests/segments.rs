//! Segments on a real folder, disturbed: what was sealed comes back, or an error does.
#![allow(clippy::unwrap_used)]

mod faulty;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use faulty::{Fault, Faults, Request};
use futures::TryStreamExt;
use object_store::{ObjectStore, local::LocalFileSystem};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};
use thimble_record::{
    BatchSeq, ConnectionId, DataType, Epoch, ErrorKind, Field, SegmentRef, StreamSchema, envelope::HostKey,
};
use thimble_stage::{CHUNK_BYTES, FinishedSegment, PUT_ATTEMPTS, ROW_GROUP_BYTES, SegmentId, Stage, StageError};

const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 8;

struct Fixture {
    dir: tempfile::TempDir,
    stage: Stage,
    faults: Faults,
}

fn key(byte: u8) -> HostKey {
    HostKey::from_bytes(&[byte; 32]).unwrap()
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let local: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
    Fixture { stage: Stage::with_store(faults.wrap(local), key(1)), faults, dir }
}

fn connection(name: &str) -> ConnectionId {
    ConnectionId::new(name).unwrap()
}

fn id(seq: u64, number: u32) -> SegmentId {
    SegmentId { connection: connection("c"), epoch: Epoch(3), seq: BatchSeq(seq), stream: "s/ü".into(), number }
}

fn schema() -> StreamSchema {
    let field = |name: &str, data_type| Field { name: name.into(), data_type, nullable: true };
    StreamSchema::new(vec![
        field("id", DataType::Int64),
        field("text", DataType::Text),
        field("doc", DataType::Json),
        field("ratio", DataType::Float64),
        field("ok", DataType::Boolean),
    ])
}

/// Text that hardly compresses, so that few rows make many chunks.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8)
    };
    (0..length).map(letter).collect()
}

fn rows(from: u64, count: u64, text_bytes: usize) -> RecordBatch {
    let numbers = from..from + count;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n as i64))),
        Arc::new(StringArray::from_iter_values(numbers.clone().map(|n| noise(n, text_bytes)))),
        Arc::new(StringArray::from_iter(numbers.clone().map(|n| (n % 3 != 0).then(|| format!("{{\"n\":{n}}}"))))),
        Arc::new(Float64Array::from_iter_values(numbers.clone().map(|n| n as f64 / 7.0))),
        Arc::new(BooleanArray::from_iter(numbers.map(|n| Some(n % 2 == 0)))),
    ];
    RecordBatch::try_new(schema().to_arrow(), columns).unwrap()
}

fn segment(stage: &Stage, id: SegmentId, batch: &RecordBatch) -> FinishedSegment {
    let mut writer = stage.writer(id, &schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap()
}

/// About four and a half chunks.
fn large() -> RecordBatch {
    rows(0, 300, 5_000)
}

async fn read(stage: &Stage, id: &SegmentId, reference: &SegmentRef) -> Result<Bytes, StageError> {
    let pieces = stage.open_segment(&id.connection, id.epoch, id.seq, &id.stream, reference).await?;
    let pieces: Vec<Bytes> = pieces.try_collect().await?;
    Ok(pieces.concat().into())
}

fn decode(parquet: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().with_batch_size(1 << 20).build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    batches.into_iter().next().unwrap()
}

#[tokio::test]
async fn what_was_written_comes_back() {
    let f = fixture();
    let batch = large();
    let reference = f.stage.put(segment(&f.stage, id(1, 0), &batch)).await.unwrap();
    assert!(reference.bytes as usize > 4 * CHUNK_BYTES, "the test needs several chunks");
    assert_eq!((reference.rows, reference.number), (300, 0));
    let plain = read(&f.stage, &id(1, 0), &reference).await.unwrap();
    assert_eq!(plain.len() as u64, reference.plain_bytes);
    assert_eq!(hex::encode(Sha256::digest(&plain)), reference.plain_sha256);
    assert_eq!(decode(plain), batch);
    let stored = std::fs::read(f.dir.path().join(&reference.path)).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&stored)), reference.sha256);
    assert!(!stored.windows(4).any(|bytes| bytes == b"PAR1"), "the stored bytes must be ciphertext");
}

#[tokio::test]
async fn segments_of_every_size_around_a_chunk_come_back() {
    let f = fixture();
    for text_bytes in [0, 1, CHUNK_BYTES / 2, CHUNK_BYTES, CHUNK_BYTES * 5 / 4, CHUNK_BYTES * 3] {
        let batch = rows(0, 1, text_bytes);
        let reference = f.stage.put(segment(&f.stage, id(1, 7), &batch)).await.unwrap();
        assert_eq!(decode(read(&f.stage, &id(1, 7), &reference).await.unwrap()), batch);
    }
    let empty = f.stage.writer(id(1, 8), &schema()).unwrap().finish().unwrap();
    let reference = f.stage.put(empty).await.unwrap();
    assert_eq!(reference.rows, 0);
    assert!(read(&f.stage, &id(1, 8), &reference).await.unwrap().starts_with(b"PAR1"));
}

/// Stores changed bytes and says that they were sealed so: only the encryption itself can notice.
async fn read_tampered(
    f: &Fixture,
    reference: &SegmentRef,
    change: impl Fn(&mut Vec<u8>),
) -> Result<Bytes, StageError> {
    let path = f.dir.path().join(&reference.path);
    let honest = std::fs::read(&path).unwrap();
    let mut bytes = honest.clone();
    change(&mut bytes);
    assert_ne!(bytes, honest);
    std::fs::write(&path, &bytes).unwrap();
    let told =
        SegmentRef { sha256: hex::encode(Sha256::digest(&bytes)), bytes: bytes.len() as u64, ..reference.clone() };
    let result = read(&f.stage, &id(1, 0), &told).await;
    // The digest alone notices it too.
    let honestly_told = read(&f.stage, &id(1, 0), reference).await;
    assert!(matches!(honestly_told, Err(StageError::Corrupt { .. })), "{honestly_told:?}");
    std::fs::write(&path, honest).unwrap();
    result
}

#[tokio::test]
async fn changed_cut_and_reordered_chunks_are_noticed_by_the_encryption() {
    let f = fixture();
    let reference = f.stage.put(segment(&f.stage, id(1, 0), &large())).await.unwrap();
    let length = reference.bytes as usize;
    let sealed = CHUNK_BYTES + TAG_BYTES;
    for at in [0, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + CHUNK_BYTES, length - TAG_BYTES - 1, length - 1] {
        let result = read_tampered(&f, &reference, |bytes| bytes[at] ^= 0x40).await;
        assert!(matches!(result, Err(StageError::Corrupt { .. })), "flipped byte {at}: {result:?}");
    }
    for keep in [HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + sealed, HEADER_BYTES + 2 * sealed, length - 1] {
        let result = read_tampered(&f, &reference, |bytes| bytes.truncate(keep)).await;
        assert!(matches!(result, Err(StageError::Corrupt { .. })), "cut to {keep}: {result:?}");
    }
    let chunk = |n: usize| HEADER_BYTES + n * sealed..HEADER_BYTES + (n + 1) * sealed;
    let swap = |bytes: &mut Vec<u8>| {
        let (one, two) = (bytes[chunk(1)].to_vec(), bytes[chunk(2)].to_vec());
        bytes[chunk(1)].copy_from_slice(&two);
        bytes[chunk(2)].copy_from_slice(&one);
    };
    assert!(matches!(read_tampered(&f, &reference, swap).await, Err(StageError::Corrupt { .. })));
    let repeat = |bytes: &mut Vec<u8>| bytes.copy_within(chunk(0), chunk(1).start);
    assert!(matches!(read_tampered(&f, &reference, repeat).await, Err(StageError::Corrupt { .. })));
    let drop_one = |bytes: &mut Vec<u8>| drop(bytes.drain(chunk(1)));
    assert!(matches!(read_tampered(&f, &reference, drop_one).await, Err(StageError::Corrupt { .. })));
    let append = |bytes: &mut Vec<u8>| bytes.extend([0; TAG_BYTES]);
    assert!(matches!(read_tampered(&f, &reference, append).await, Err(StageError::Corrupt { .. })));
}

#[tokio::test]
async fn a_segment_cannot_stand_in_for_another() {
    let f = fixture();
    let reference = f.stage.put(segment(&f.stage, id(1, 0), &large())).await.unwrap();
    let own = id(1, 0);
    let others = [
        SegmentId { connection: connection("d"), ..own.clone() },
        SegmentId { epoch: Epoch(4), ..own.clone() },
        SegmentId { seq: BatchSeq(2), ..own.clone() },
        SegmentId { stream: "s/u".into(), ..own.clone() },
    ];
    for other in others {
        let result = read(&f.stage, &other, &reference).await;
        assert!(matches!(result, Err(StageError::Key { .. })), "{other:?}: {result:?}");
    }
    let renumbered = SegmentRef { number: 1, ..reference.clone() };
    assert!(matches!(read(&f.stage, &own, &renumbered).await, Err(StageError::Key { .. })));
    // Another segment's bytes under this one's key.
    let twin = f.stage.put(segment(&f.stage, own.clone(), &large())).await.unwrap();
    let mixed = SegmentRef { wrapped_key: twin.wrapped_key.clone(), ..reference.clone() };
    assert!(matches!(read(&f.stage, &own, &mixed).await, Err(StageError::Corrupt { .. })));
    let other_host = Stage::open(&url(&f), &BTreeMap::new(), key(2)).unwrap();
    assert!(matches!(read(&other_host, &own, &reference).await, Err(StageError::Key { .. })));
}

fn url(f: &Fixture) -> String {
    format!("file://{}", f.dir.path().display())
}

#[tokio::test]
async fn wrong_digest_length_or_rows_in_the_manifest_are_noticed() {
    let f = fixture();
    let good = f.stage.put(segment(&f.stage, id(1, 0), &large())).await.unwrap();
    let bad = [
        SegmentRef { plain_sha256: "0".repeat(64), ..good.clone() },
        SegmentRef { plain_bytes: good.plain_bytes + 1, ..good.clone() },
        SegmentRef { sha256: "0".repeat(64), ..good.clone() },
        SegmentRef { bytes: good.bytes - 1, ..good.clone() },
    ];
    for reference in bad {
        let result = read(&f.stage, &id(1, 0), &reference).await;
        assert!(matches!(result, Err(StageError::Corrupt { .. })), "{result:?}");
    }
    let gone = SegmentRef { path: "c/nothing.seg".into(), ..good };
    assert!(matches!(read(&f.stage, &id(1, 0), &gone).await, Err(StageError::Missing(_))));
}

#[tokio::test]
async fn disturbed_reads_never_end_well() {
    let f = fixture();
    let reference = f.stage.put(segment(&f.stage, id(1, 0), &large())).await.unwrap();
    let length = reference.bytes as usize;
    for fault in
        [Fault::Flip(length / 2), Fault::Flip(0), Fault::Cut(length / 2), Fault::Cut(length - 1), Fault::Cut(0)]
    {
        f.faults.inject(Request::Get, ".seg", fault);
        let result = read(&f.stage, &id(1, 0), &reference).await;
        assert!(matches!(result, Err(StageError::Corrupt { .. })), "{fault:?}: {result:?}");
    }
    f.faults.inject(Request::Get, ".seg", Fault::Reject);
    let error = read(&f.stage, &id(1, 0), &reference).await.unwrap_err();
    assert_eq!(error.failure().kind, ErrorKind::Transient);
    f.faults.assert_all_met();
    assert!(read(&f.stage, &id(1, 0), &reference).await.is_ok());
}

#[tokio::test]
async fn putting_twice_is_one_success_and_other_content_is_a_conflict() {
    let f = fixture();
    let finished = segment(&f.stage, id(1, 0), &large());
    let first = f.stage.put(finished.clone()).await.unwrap();
    assert_eq!(f.stage.put(finished.clone()).await.unwrap(), first);
    let path = f.dir.path().join(&first.path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[99] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(f.stage.put(finished.clone()).await, Err(StageError::Conflict(_))));
    std::fs::write(&path, b"short").unwrap();
    assert!(matches!(f.stage.put(finished).await, Err(StageError::Conflict(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"short", "nothing may be overwritten");
}

#[tokio::test]
async fn lost_answers_and_refusals_of_a_put() {
    let f = fixture();
    let finished = segment(&f.stage, id(1, 0), &rows(0, 1, 10));
    f.faults.inject(Request::Put, ".seg", Fault::LoseAnswer);
    let reference = f.stage.put(finished).await.unwrap();
    assert!(read(&f.stage, &id(1, 0), &reference).await.is_ok());

    let finished = segment(&f.stage, id(1, 1), &rows(0, 1, 10));
    for _ in 1..PUT_ATTEMPTS {
        f.faults.inject(Request::Put, ".seg", Fault::Reject);
    }
    f.stage.put(finished).await.unwrap();

    let finished = segment(&f.stage, id(1, 2), &rows(0, 1, 10));
    for _ in 0..PUT_ATTEMPTS {
        f.faults.inject(Request::Put, ".seg", Fault::Reject);
    }
    assert!(matches!(f.stage.put(finished.clone()).await, Err(StageError::Unavailable { .. })));

    f.faults.inject(Request::Put, ".seg", Fault::LoseAnswer);
    f.faults.inject(Request::Get, ".seg", Fault::Reject);
    assert!(matches!(f.stage.put(finished.clone()).await, Err(StageError::Unknown { .. })));
    f.stage.put(finished.clone()).await.unwrap();

    // A cut look at what is there says nothing about it either.
    let finished = segment(&f.stage, id(1, 3), &rows(0, 1, 10));
    for cut in [0, 100] {
        f.faults.inject(Request::Put, ".seg", Fault::LoseAnswer);
        f.faults.inject(Request::Get, ".seg", Fault::Cut(cut));
        assert!(matches!(f.stage.put(finished.clone()).await, Err(StageError::Unknown { .. })));
    }
    f.stage.put(finished.clone()).await.unwrap();

    f.faults.inject(Request::Put, ".seg", Fault::Forbid);
    let error = f.stage.put(finished).await.unwrap_err();
    assert_eq!(error.failure().kind, ErrorKind::Config);
    f.faults.assert_all_met();
}

#[tokio::test]
async fn collecting_leaves_the_batch_that_may_be_sealed() {
    let f = fixture();
    let mut paths = Vec::new();
    for seq in 1..=4 {
        let reference = f.stage.put(segment(&f.stage, id(seq, 0), &rows(0, 1, 10))).await.unwrap();
        paths.push(f.dir.path().join(reference.path));
    }
    let foreign = f.dir.path().join("c/00000000000000000001/readme.txt");
    std::fs::write(&foreign, "not ours").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let there = || paths.iter().map(|path| path.exists()).collect::<Vec<_>>();
    let hour = Duration::from_secs(3600);
    assert_eq!(f.stage.collect(&connection("c"), BatchSeq(1), Epoch(3), hour, now).await.unwrap(), 1);
    assert_eq!(there(), [false, true, true, true]);
    let later = now + 2 * 3_600_000;
    let overtaken = f.stage.collect(&connection("c"), BatchSeq(1), Epoch(2), hour, later).await.unwrap();
    assert_eq!(overtaken, 0, "a later owner may have sealed batch 3 meanwhile");
    assert_eq!(f.stage.collect(&connection("c"), BatchSeq(1), Epoch(3), hour, later).await.unwrap(), 2);
    assert_eq!(there(), [false, true, false, false], "batch 2 may be sealed and waiting");
    assert_eq!(f.stage.collect(&connection("other"), BatchSeq(9), Epoch(3), hour, later).await.unwrap(), 0);
    assert!(foreign.exists());
}

#[test]
fn rows_that_do_not_fit_are_refused_with_the_column() {
    let f = fixture();
    let mut writer = f.stage.writer(id(1, 0), &schema()).unwrap();
    let batch = rows(0, 2, 5);
    let other: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let error = writer.write(&RecordBatch::try_from_iter([("id", other)]).unwrap()).unwrap_err();
    assert!(error.to_string().contains("1 columns instead of 5"), "{error}");
    let swapped = batch.project(&[1, 0, 2, 3, 4]).unwrap();
    let error = writer.write(&swapped).unwrap_err().to_string();
    assert!(error.contains("\"text\" (Utf8) instead of \"id\" (Int64)") && error.contains("s/ü"), "{error}");
    writer.write(&batch).unwrap();
    assert_eq!(writer.finish().unwrap().reference().rows, 2);
}

#[test]
fn row_groups_stay_bounded() {
    let f = fixture();
    let mut writer = f.stage.writer(id(1, 0), &schema()).unwrap();
    let batch = rows(0, 1_000, 4_000);
    let mut last = 0;
    for _ in 0..12 {
        writer.write(&batch).unwrap();
        assert!(writer.encoded_bytes() >= last, "the size must not shrink");
        last = writer.encoded_bytes();
    }
    assert_eq!(writer.rows(), 12_000);
    assert!(last as usize > ROW_GROUP_BYTES);
    let finished = writer.finish().unwrap();
    let estimate = last as f64 / finished.reference().plain_bytes as f64;
    assert!((0.8..1.3).contains(&estimate), "the estimate is off by a factor of {estimate}");
}

/// Runs against the S3 server that `THIMBLE_TEST_S3` names, such as `http://127.0.0.1:8333`.
#[tokio::test]
async fn an_s3_store_keeps_segments_as_a_folder_does() {
    let Ok(endpoint) = std::env::var("THIMBLE_TEST_S3") else { return };
    let bucket = std::env::var("THIMBLE_TEST_S3_BUCKET").unwrap_or_else(|_| "staging".into());
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "any".into());
    let options = BTreeMap::from([
        ("endpoint".to_owned(), endpoint),
        ("allow_http".to_owned(), "true".to_owned()),
        ("region".to_owned(), "us-east-1".to_owned()),
        ("access_key_id".to_owned(), variable("AWS_ACCESS_KEY_ID")),
        ("secret_access_key".to_owned(), variable("AWS_SECRET_ACCESS_KEY")),
    ]);
    let stage = Stage::open(&format!("s3://{bucket}/thimble-test/stage"), &options, key(1)).unwrap();
    let finished = segment(&stage, id(1, 0), &large());
    let reference = stage.put(finished.clone()).await.unwrap();
    assert_eq!(stage.put(finished).await.unwrap(), reference, "it exists already, with the same content");
    assert_eq!(decode(read(&stage, &id(1, 0), &reference).await.unwrap()), large());
    assert!(stage.collect(&connection("c"), BatchSeq(1), Epoch(3), Duration::ZERO, 0).await.unwrap() >= 1);
    assert!(matches!(read(&stage, &id(1, 0), &reference).await, Err(StageError::Missing(_))));
}
