//! `make bench`: every figure beside a floor measured in the same run, because machines differ and are noisy.
//!
//! Figures are medians of several runs. `--only NAME` runs one group.

mod boundary;
mod fleet;
mod guest;
mod load;
mod process;
mod rest;
mod sync;

use clap::Parser;

/// Measures the boundary, JSON pages to the lake and to PostgreSQL, loading alone, small syncs, an idle host and a thousand connections.
#[derive(Parser)]
struct Cli {
    /// One group: boundary, pages, small, idle, load, postgres, rest or fleet.
    #[arg(long)]
    only: Option<String>,
    /// Runs of each measurement; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Rows of the boundary measurements.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Load what this file names, and nothing else.
    #[arg(long, hide = true)]
    load_child: Option<std::path::PathBuf>,
    /// Rows that are loaded into PostgreSQL.
    #[arg(long, default_value_t = 1_000_000)]
    load_rows: u64,
    /// Connections that are synced every minute.
    #[arg(long, default_value_t = 1_000)]
    fleet: usize,
    /// Records of the JSON API.
    #[arg(long, default_value_t = 200_000)]
    records: u64,
}

/// One line of the table.
pub struct Figure {
    pub what: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// What the value is to be compared with, and its name.
    pub floor: Option<(f64, &'static str)>,
    /// The target: at least (`>=`) or at most (`<=`).
    pub target: Option<(&'static str, f64)>,
}

/// The median of some measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(figures: &[Figure]) {
    println!("\n| what | measured | floor in the same run | ratio | target |\n|---|---|---|---|---|");
    for Figure { what, value, unit, floor, target } in figures {
        let floor_text = floor.map_or("–".into(), |(floor, name)| format!("{} {unit} ({name})", human(floor)));
        let ratio = floor.map_or("–".into(), |(floor, _)| format!("{:.3}", value / floor));
        let target = target.map_or("–".into(), |(sense, target)| {
            let met = if sense == ">=" { *value >= target } else { *value <= target };
            format!("{sense} {} {unit}: {}", human(target), if met { "met" } else { "NOT MET" })
        });
        println!("| {what} | {} {unit} | {floor_text} | {ratio} | {target} |", human(*value));
    }
}

fn human(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.0} k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    if let Some(file) = &cli.load_child {
        return load::child(file);
    }
    let wanted = |name: &str| cli.only.as_deref().is_none_or(|only| only == name);
    let mut figures = Vec::new();
    if wanted("boundary") {
        figures.extend(boundary::measure(cli.rows, cli.runs)?);
    }
    if wanted("pages") {
        figures.extend(sync::pages(cli.records, cli.runs)?);
    }
    if wanted("small") {
        figures.extend(sync::small(cli.runs.max(10))?);
    }
    if wanted("idle") {
        figures.extend(sync::idle()?);
    }
    if wanted("load") {
        figures.extend(load::postgres(cli.load_rows, cli.runs)?);
    }
    if wanted("postgres") {
        figures.extend(sync::postgres(cli.records, cli.runs)?);
    }
    if wanted("rest") {
        figures.extend(rest::measure(cli.records, cli.runs, std::env::var_os("PEERS").is_some())?);
    }
    if wanted("fleet") {
        figures.extend(fleet::measure(cli.fleet)?);
    }
    print(&figures);
    Ok(())
}
