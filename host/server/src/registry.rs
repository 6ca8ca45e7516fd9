//! A registry in a folder: `index.json`, and each component as `<digest>.wasm`.
//!
//! Must never believe what the index says of a component: whoever installs compares the digest.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use thimble_control::Packages;
use thimble_record::Failure;
use thimble_registry::{Index, Limits, Release};

/// Name of the index in the folder.
const INDEX: &str = "index.json";

/// A registry in a folder. The index is read again when its file changed.
pub struct RegistryFolder {
    folder: PathBuf,
    read: Mutex<Option<(SystemTime, Arc<Index>)>>,
}

impl RegistryFolder {
    /// Reads nothing yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, read: Mutex::default() }
    }

    /// The index; an empty one where the folder has none.
    pub fn load(&self) -> Result<Arc<Index>, Failure> {
        let file = self.folder.join(INDEX);
        let changed = match fs::metadata(&file).and_then(|metadata| metadata.modified()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            changed => changed.map_err(|error| unreadable(&file, &error))?,
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, index)) = read.as_ref().filter(|(when, _)| *when == changed) {
            return Ok(Arc::clone(index));
        }
        let limits = Limits::default();
        let bytes = bounded(&file, limits.index_bytes)?;
        let index = Arc::new(Index::from_json(&bytes, &limits).map_err(|error| error.failure())?);
        *read = Some((changed, Arc::clone(&index)));
        Ok(index)
    }

    /// Writes a component and then the index that lists it.
    pub fn save(&self, index: &Index, release: &Release, component: &[u8]) -> Result<(), Failure> {
        let failed = |error: io::Error| unreadable(&self.folder, &error);
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let json = index.to_json(&Limits::default()).map_err(|error| error.failure())?;
        replace(&self.component_file(release), component).map_err(failed)?;
        replace(&self.folder.join(INDEX), &json).map_err(failed)
    }

    fn component_file(&self, release: &Release) -> PathBuf {
        // The index takes digests of 64 hexadecimal digits only.
        self.folder.join(format!("{}.wasm", release.digest))
    }
}

#[async_trait]
impl Packages for RegistryFolder {
    async fn index(&self) -> Result<Arc<Index>, Failure> {
        self.load()
    }

    async fn component(&self, release: &Release) -> Result<Vec<u8>, Failure> {
        let file = self.component_file(release);
        let limit = Limits::default().package_bytes;
        tokio::task::spawn_blocking(move || bounded(&file, limit)).await.expect("reading a file does not panic")
    }
}

fn bounded(file: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    use io::Read;
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(|error| unreadable(file, &error))?;
    opened.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(file, &error))?;
    if bytes.len() > limit {
        return Err(Failure::system(format!("{} is larger than {limit} bytes", file.display())));
    }
    Ok(bytes)
}

/// Writes beside it and renames, so that a reader sees the old bytes or the new ones.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = file.with_extension(format!("draft-{}", std::process::id()));
    fs::write(&draft, bytes)?;
    fs::rename(&draft, file)
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::system(format!("the registry: {}: {error}", file.display()))
}
