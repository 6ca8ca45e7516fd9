//! How fast files are read natively. Run with `--ignored --nocapture`.

use std::sync::Arc;

use crate::{making, taking::stream};

/// Seconds that this thread was on a CPU: other work on the machine does not count.
fn on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

struct Nowhere(u64);

impl thimble_plugin_files::progress::Output for Nowhere {
    fn arrow(&mut self, batch: &arrow_array::RecordBatch) -> Result<(), thimble_plugin_files::error::FilesError> {
        self.0 += batch.num_rows() as u64;
        Ok(())
    }

    fn json(&mut self, page: &[u8]) -> Result<(), thimble_plugin_files::error::FilesError> {
        self.0 += page.len() as u64;
        Ok(())
    }

    fn reject(&mut self, _: &str, _: &str, _: &[u8]) -> Result<(), thimble_plugin_files::error::FilesError> {
        Ok(())
    }

    fn checkpoint(
        &mut self,
        _: &thimble_plugin_files::progress::Position,
    ) -> Result<(), thimble_plugin_files::error::FilesError> {
        Ok(())
    }

    fn info(&mut self, _: &str) {}
}

#[test]
#[ignore = "prints speeds"]
fn speeds() {
    let mut noise = making::Noise(3);
    let mut flights = "date,delay,distance,origin,destination\n".to_owned();
    for _ in 0..2_000_000 {
        let (a, b) = (noise.next(), noise.next());
        flights.push_str(&format!(
            "2001-01-{:02} {:02}:{:02}:00,{},{},SAN,{}\n",
            a % 28 + 1,
            a % 24,
            b % 60,
            a as i8,
            b % 3_000,
            ["PHX", "LAX", "ORD"][(a % 3) as usize]
        ));
    }
    let files: Vec<(&str, Vec<u8>, serde_json::Value)> = vec![
        ("flights.csv", flights.into_bytes(), serde_json::json!({})),
        ("f.csv", making::csv(1_500_000), serde_json::json!({})),
        ("f.jsonl", making::jsonl(600_000), serde_json::json!({})),
        ("f.json", making::json(600_000), serde_json::json!({"json": {"records": "data.items"}})),
    ];
    for (name, bytes, settings) in files {
        for (suffix, packed) in [("", bytes.clone()), (".gz", making::gzip(&bytes)), (".zst", making::zstd(&bytes))] {
            let name = format!("{name}{suffix}");
            let config = stream(settings.clone());
            let version =
                thimble_plugin_files::fetch::FileVersion { url: format!("http://h/{name}"), ..Default::default() };
            let file = Arc::new(crate::taking::Memory(Arc::new(packed)));
            let source =
                thimble_plugin_files::reading::Source { file, version: &version, config: &config, name: &name };
            let task = thimble_plugin_files::progress::Task {
                file: name.clone(),
                fields: vec![],
                selected: vec![],
                as_text: false,
            };
            let mut nowhere = Nowhere(0);
            let started = on_cpu();
            let position = source.start().unwrap();
            source.read(&mut thimble_plugin_files::progress::Progress::new(&task, &mut nowhere, position)).unwrap();
            let seconds = on_cpu() - started;
            println!(
                "{name}: {:.0} MB/s of {:.0} MB uncompressed",
                bytes.len() as f64 / 1e6 / seconds,
                bytes.len() as f64 / 1e6
            );
        }
    }
}
