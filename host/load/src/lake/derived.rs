//! Files for plain readers, derived from the commit records: `current`, `manifest.json`, `views.sql`.
//!
//! They may be stale for a moment and are never read back as the truth. A failure to write them is logged, not returned:
//! the batch is committed. `views.sql` is written last and names its batch, so that the next fence sees what is missing.

use std::path::{Path as FilePath, PathBuf};

use serde::Serialize;
use thimble_record::{BatchSeq, ConnectionId, Generation};

use super::{
    Lake,
    commit::{CommitRecord, DataFile, LakeState, TableState},
    names,
    views::heading,
};
use crate::{
    error::LoadError,
    limits::{EAGER_FILES, LAZY_EVERY},
};

/// The content of a table's `manifest.json`.
#[derive(Serialize)]
struct Manifest<'a> {
    stream: &'a str,
    generation: Generation,
    /// The batch that it was written after.
    seq: BatchSeq,
    rows: u64,
    files: Vec<ManifestFile<'a>>,
}

#[derive(Serialize)]
struct ManifestFile<'a> {
    /// Absolute path or URL.
    location: String,
    rows: u64,
    bytes: u64,
    sha256: &'a str,
}

impl Lake {
    /// Rewrites what a commit touched.
    pub(super) async fn write_derived(&self, connection: &ConnectionId, state: &LakeState, record: &CommitRecord) {
        // When the batch before was not derived by this owner, or not completely, everything is rewritten.
        let continues = self.derived(connection).is_some_and(|seq| seq.next() == record.seq);
        let touched = |stream: &String| !continues || record.streams.iter().any(|part| part.stream == *stream);
        self.derive(connection, state, touched).await;
    }

    /// Rewrites everything, unless it is there for the last batch.
    pub(super) async fn repair_derived(&self, connection: &ConnectionId, state: &LakeState) {
        if state.seq == BatchSeq::default() {
            return;
        }
        let views = self.client.read(&names::views(connection)).await.ok().flatten();
        if views.is_some_and(|views| views.starts_with(heading(state.seq).as_bytes())) {
            self.set_derived(connection, state.seq);
        } else {
            self.derive(connection, state, |_| true).await;
        }
    }

    fn derived(&self, connection: &ConnectionId) -> Option<BatchSeq> {
        self.derived.lock().expect("no code panics while it holds this lock").get(connection).copied()
    }

    fn set_derived(&self, connection: &ConnectionId, seq: BatchSeq) {
        self.derived.lock().expect("no code panics while it holds this lock").insert(connection.clone(), seq);
    }

    async fn derive(&self, connection: &ConnectionId, state: &LakeState, touched: impl Fn(&String) -> bool) {
        for (stream, table) in state.tables.iter().filter(|(stream, _)| touched(stream)) {
            if let Err(error) = self.derive_table(connection, stream, table, state.seq).await {
                tracing::warn!(%connection, stream, %error, "files for plain readers could not be written");
                return;
            }
        }
        let views = self.views(connection, state);
        match self.client.replace_derived(&names::views(connection), views).await {
            Ok(()) => self.set_derived(connection, state.seq),
            Err(error) => tracing::warn!(%connection, %error, "the views file could not be written"),
        }
    }

    async fn derive_table(
        &self,
        connection: &ConnectionId,
        stream: &str,
        table: &TableState,
        seq: BatchSeq,
    ) -> Result<(), LoadError> {
        let Some((generation, visible)) = table.current() else { return Ok(()) };
        self.point_current_at(connection, &table.table, generation).await?;
        if visible.files.len() > EAGER_FILES && !seq.0.is_multiple_of(LAZY_EVERY) {
            return Ok(());
        }
        let file = |file: &DataFile| self.location(&file.path);
        let manifest = Manifest {
            stream,
            generation,
            seq,
            rows: visible.files.iter().map(|file| file.rows).sum(),
            files: (visible.files.iter())
                .map(|f| ManifestFile { location: file(f), rows: f.rows, bytes: f.bytes, sha256: &f.sha256 })
                .collect(),
        };
        let content =
            serde_json::to_string_pretty(&manifest).expect("a manifest is plain data, which always serializes");
        self.client.replace_derived(&names::manifest(connection, &table.table), content).await
    }

    /// Switches the link that plain readers of a local lake follow, in one rename.
    async fn point_current_at(
        &self,
        connection: &ConnectionId,
        table: &str,
        generation: Generation,
    ) -> Result<(), LoadError> {
        let Some(root) = &self.client.objects.folder else { return Ok(()) };
        let folder = root.join(connection.as_str()).join(table);
        let target = format!("g{generation}");
        let switched = tokio::task::spawn_blocking(move || switch_link(&folder, &target)).await;
        let source: Box<dyn std::error::Error + Send + Sync> = match switched {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Box::new(error),
            Err(error) => Box::new(error),
        };
        let object = format!("{connection}/{table}/current");
        Err(LoadError::store("switch", &object, object_store::Error::Generic { store: "file", source }))
    }
}

#[cfg(unix)]
fn link(target: &str, at: &FilePath) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(not(unix))]
fn link(_target: &str, _at: &FilePath) -> std::io::Result<()> {
    Ok(())
}

fn switch_link(folder: &FilePath, target: &str) -> std::io::Result<()> {
    let current = folder.join("current");
    if std::fs::read_link(&current).is_ok_and(|now| now == FilePath::new(target)) {
        return Ok(());
    }
    // A generation may have no file and so no folder yet; a link to nothing would confuse readers.
    std::fs::create_dir_all(folder.join(target))?;
    let staged: PathBuf = folder.join(format!(".current.{}", std::process::id()));
    match std::fs::remove_file(&staged) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => link(target, &staged)?,
    }
    std::fs::rename(&staged, &current)
}
