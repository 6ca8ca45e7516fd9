//! An output that keeps what is committed, and dies on demand.

use std::{
    io::{Cursor, Read},
    sync::Arc,
};

use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use thimble_plugin_files::{
    config::StreamConfig,
    error::FilesError,
    fetch::{Fetch, FileVersion},
    kind::Kind,
    progress::{Output, Position, Progress, Task},
    reading::Source,
};

/// A file in memory.
pub struct Memory(pub Arc<Vec<u8>>);

impl Fetch for Memory {
    fn open(&self, offset: u64) -> Result<Box<dyn Read>, FilesError> {
        let mut cursor = Cursor::new(Shared(Arc::clone(&self.0)));
        cursor.set_position(offset);
        Ok(Box::new(cursor))
    }

    fn bytes(&self, start: u64, length: usize) -> Result<Vec<u8>, FilesError> {
        Ok(self.0[start as usize..][..length].to_vec())
    }

    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Keeps records as text; what came after the last checkpoint is lost when the read dies.
#[derive(Default)]
pub struct Taken {
    pub committed: Vec<String>,
    pub pending: Vec<String>,
    pub position: Option<Position>,
    pub rejected: Vec<(String, String, Vec<u8>)>,
    pub notes: Vec<String>,
    pub checkpoints: usize,
    pub batches: Vec<RecordBatch>,
    pub keep_batches: bool,
    /// Dies after this many batches.
    pub dies_after: Option<usize>,
    pub emitted: usize,
}

impl Taken {
    fn emit(&mut self) -> Result<(), FilesError> {
        self.emitted += 1;
        match self.dies_after {
            Some(limit) if self.emitted > limit => Err(FilesError::Enough),
            _ => Ok(()),
        }
    }

    fn commit(&mut self) {
        self.committed.append(&mut self.pending);
    }

    pub fn reasons(&self) -> Vec<&str> {
        self.rejected.iter().map(|(reason, ..)| reason.as_str()).collect()
    }
}

impl Output for Taken {
    fn arrow(&mut self, batch: &RecordBatch) -> Result<(), FilesError> {
        self.emit()?;
        let options = FormatOptions::default().with_null("∅");
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            self.pending.push(values.join("|"));
        }
        assert!(batch.columns().iter().all(|column| column.len() == batch.num_rows()));
        if self.keep_batches {
            self.batches.push(batch.clone());
        }
        Ok(())
    }

    fn json(&mut self, page: &[u8]) -> Result<(), FilesError> {
        self.emit()?;
        assert!(page.len() <= 4 * 1024 * 1024, "a page of {} bytes", page.len());
        for record in serde_json::Deserializer::from_slice(page).into_iter::<serde_json::Value>() {
            self.pending.push(record.unwrap().to_string());
        }
        Ok(())
    }

    fn reject(&mut self, reason: &str, message: &str, raw: &[u8]) -> Result<(), FilesError> {
        self.rejected.push((reason.to_owned(), message.to_owned(), raw.to_vec()));
        Ok(())
    }

    fn checkpoint(&mut self, position: &Position) -> Result<(), FilesError> {
        self.commit();
        self.checkpoints += 1;
        // The state has to survive being stored.
        self.position = Some(serde_json::from_str(&serde_json::to_string(position).unwrap()).unwrap());
        Ok(())
    }

    fn info(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }
}

/// The stream of a test.
pub fn stream(settings: serde_json::Value) -> StreamConfig {
    let mut stream = serde_json::json!({"name": "s", "urls": ["http://h/f"]});
    stream.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    serde_json::from_value(stream).unwrap()
}

/// Reads `name` with `bytes` from where `taken` stopped.
pub fn read_on(
    name: &str,
    bytes: &Arc<Vec<u8>>,
    config: &StreamConfig,
    fields: &[(&str, Kind)],
    taken: &mut Taken,
) -> Result<(), FilesError> {
    let version = FileVersion { url: format!("http://h/{name}"), ..FileVersion::default() };
    let file = Arc::new(Memory(Arc::clone(bytes)));
    let source = Source { file, version: &version, config, name };
    let position = match taken.position.clone() {
        Some(position) => position,
        None => source.start()?,
    };
    let fields = fields.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    let task = Task { file: name.to_owned(), fields, selected: Vec::new(), as_text: false };
    source.read(&mut Progress::new(&task, taken, position))?;
    taken.commit();
    Ok(())
}

/// Reads a whole file in one go.
pub fn read(name: &str, bytes: Vec<u8>, config: &StreamConfig) -> (Taken, Result<(), FilesError>) {
    let mut taken = Taken { keep_batches: true, ..Taken::default() };
    let result = read_on(name, &Arc::new(bytes), config, &[], &mut taken);
    (taken, result)
}
