//! The source: check, discover, plan, read.
//!
//! Owns the order of steps of each call. I/O happens behind [`Place`] only, so that the calls run over any.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use thimble_sdk::{
    Catalog, Field, Method, Partition, Plan, ReadRequest, Result, Sink, Source, Spec, Stream, StreamState,
};

use crate::{
    config::{Config, Incremental, SCHEMA, StreamConfig},
    decompress::{Compression, Decompressed},
    error::{FilesError, from_io},
    fetch::{FileVersion, Place, shown},
    location::Location,
    planning::{self, PlanState, Planned},
    progress::{Progress, Task},
    reading,
    remote::Remote,
    sampling,
    sdk::{ToSink, from_data_type, to_data_type, to_sdk},
};

/// Files over HTTP and S3.
pub struct Files;

impl Source for Files {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("files", env!("CARGO_PKG_VERSION"))
            .title("Files")
            .docs(include_str!("docs.md"))
            .config_schema(SCHEMA)
            .host("{{ streams.urls }}")
            .host("{{ s3.endpoint }}")
    }

    fn check(config: &Config) -> Result<String> {
        check(config, &Remote::new(&config.s3)).map_err(to_sdk)
    }

    fn discover(config: &Config) -> Result<Catalog> {
        discover(config, &Remote::new(&config.s3)).map_err(to_sdk)
    }

    fn plan(config: &Config, stream: &Stream, method: Method, state: &StreamState) -> Result<Plan> {
        plan(config, &Remote::new(&config.s3), stream, method, state)
    }

    fn read(config: &Config, request: &ReadRequest, sink: &mut Sink) -> Result<()> {
        read(config, &Remote::new(&config.s3), request, sink)
    }
}

/// Lists every location; says how many files there are.
pub fn check(config: &Config, place: &dyn Place) -> std::result::Result<String, FilesError> {
    config.validate()?;
    let mut all = 0;
    for (at, stream) in config.streams.iter().enumerate() {
        for (index, url) in stream.urls.iter().enumerate() {
            let found = place.list(&location(url)?, &stream.name, false)?.len();
            if found == 0 {
                return Err(FilesError::setting(
                    format!("streams[{at}].urls[{index}]"),
                    format!("matches no file: {} ", shown(url)).trim_end().to_owned(),
                ));
            }
            all += found;
        }
    }
    let (files, streams) = (plural(all, "file"), plural(config.streams.len(), "stream"));
    Ok(format!("Reached {files} of {streams}."))
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

fn location(url: &str) -> std::result::Result<Location, FilesError> {
    Location::parse(url).map_err(|problem| FilesError::setting(format!("urls, which holds {},", shown(url)), problem))
}

fn list(place: &dyn Place, stream: &StreamConfig, versions: bool) -> std::result::Result<Vec<FileVersion>, FilesError> {
    let mut files = Vec::new();
    for url in &stream.urls {
        files.extend(place.list(&location(url)?, &stream.name, versions)?);
    }
    Ok(files)
}

/// The streams with the fields that samples of their files show.
pub fn discover(config: &Config, place: &dyn Place) -> std::result::Result<Catalog, FilesError> {
    config.validate()?;
    let mut streams = Vec::with_capacity(config.streams.len());
    for (at, stream) in config.streams.iter().enumerate() {
        let overrides = stream.overrides(&format!("streams[{at}]"))?;
        let files = sampling::choose(list(place, stream, false)?);
        if files.is_empty() {
            thimble_sdk::warn!("stream {} has no files yet", stream.name);
        }
        let mut sample = sampling::sample(place, stream, &files)?;
        for note in std::mem::take(&mut sample.notes) {
            thimble_sdk::warn!("{note}");
        }
        let fields = sample.fields(&overrides).into_iter().map(|(name, kind)| Field::new(name, to_data_type(kind)));
        let methods = vec![Method::Incremental, Method::FullTable];
        streams.push(Stream::new(&stream.name).fields(fields.collect()).methods(methods));
    }
    Ok(Catalog::new(streams))
}

/// One partition for each file that is new, or for each file.
pub fn plan(config: &Config, place: &dyn Place, stream: &Stream, method: Method, state: &StreamState) -> Result<Plan> {
    config.validate().map_err(to_sdk)?;
    let setting = config.stream(&stream.name).map_err(to_sdk)?;
    let before: PlanState = state.completed()?.unwrap_or_default();
    let planned = list(place, setting, true).and_then(|files| {
        if files.is_empty() {
            thimble_sdk::warn!("stream {} has no files yet", stream.name);
        }
        choose(place, setting, method, files, &before)
    });
    let planned = planned.map_err(to_sdk)?;
    if planned.waiting > 0 {
        thimble_sdk::info!("stream {}: {} more files wait for the next run", stream.name, planned.waiting);
    }
    let partitions = planned.files.iter().map(|(id, file)| {
        let partition = Partition::new(id.as_str()).descriptor(file)?;
        Ok(match file.size {
            Some(size) => partition.estimated_bytes(size),
            None => partition,
        })
    });
    let plan = Plan::new(partitions.collect::<Result<_>>()?);
    match method {
        Method::FullTable => Ok(plan),
        Method::Incremental | Method::LogBased => plan.next_state(&planned.next),
    }
}

fn choose(
    place: &dyn Place,
    setting: &StreamConfig,
    method: Method,
    files: Vec<FileVersion>,
    before: &PlanState,
) -> std::result::Result<Planned, FilesError> {
    let name = &setting.name;
    match (method, setting.incremental) {
        (Method::FullTable, _) => planning::everything(files, name),
        (_, Incremental::Modified) => planning::by_modified(files, before, name),
        (_, Incremental::Digest) => planning::by_digest(files, before, name, |file| digest(place, file, name)),
    }
}

/// A digest of a file's content. S3 keeps one, which saves the reading.
fn digest(place: &dyn Place, version: &FileVersion, stream: &str) -> std::result::Result<String, FilesError> {
    if let Some(etag) = version.etag.as_ref().filter(|_| version.url.starts_with("s3://")) {
        return Ok(planning::short_hash(etag.as_bytes()));
    }
    let name = shown(&version.url);
    let mut reader = Decompressed::new(place.file(version, stream)?.open(0)?, Compression::None, &name, 0);
    let (mut hash, mut buffer, mut byte) = (Sha256::new(), vec![0; 256 * 1024], 0);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(planning::shorten(&hash.finalize())),
            Ok(count) => {
                hash.update(&buffer[..count]);
                byte += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(from_io(error, &name, byte)),
        }
    }
}

/// Reads one file from its last checkpoint to its end.
pub fn read(config: &Config, place: &dyn Place, request: &ReadRequest, sink: &mut Sink) -> Result<()> {
    let setting = config.stream(&request.stream.name).map_err(to_sdk)?;
    let version: FileVersion = request.descriptor()?;
    let name = shown(&version.url);
    let file = place.file(&version, &setting.name).map_err(to_sdk)?;
    let source = reading::Source { file, version: &version, config: setting, name: &name };
    let position = match request.checkpoint()? {
        Some(position) => position,
        None => source.start().map_err(to_sdk)?,
    };
    let fields = request.stream.fields.iter().map(|field| (field.name.clone(), from_data_type(field.data_type)));
    let task =
        Task { file: name.clone(), fields: fields.collect(), selected: request.selected.clone(), as_text: false };
    let mut output = ToSink(sink);
    source.read(&mut Progress::new(&task, &mut output, position)).map_err(to_sdk)
}
