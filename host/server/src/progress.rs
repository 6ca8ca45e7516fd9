//! Progress of a sync on standard error: bars on a terminal, else a line a second.
//!
//! Must never write to standard output.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{count, size};

/// How often lines are written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How often bars are drawn: often enough to look alive.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Bars drawn at the same time; the streams after these are only counted.
const MAX_BARS: usize = 40;

/// How far one stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progressed {
    pub records: u64,
    pub bytes: u64,
    pub rejected: u64,
    /// 0 until the plan is known.
    pub partitions: u64,
    /// How many records the connector expects, where it can tell.
    pub expected: Option<u64>,
}

/// Shows progress in the way that fits the terminal.
pub struct Progress {
    shown: Shown,
    streams: BTreeMap<String, Progressed>,
}

enum Shown {
    Nothing,
    Lines { last: Option<Instant>, changed: bool },
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
}

impl Progress {
    /// Chooses by the terminal. `quiet` shows nothing.
    pub fn start(quiet: bool) -> Self {
        let shown = if quiet {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            Shown::Bars { all: MultiProgress::new(), bars: BTreeMap::new() }
        } else {
            Shown::Lines { last: None, changed: false }
        };
        Self { shown, streams: BTreeMap::new() }
    }

    /// Takes a stream's new figures. `now` only spaces the lines.
    pub fn update(&mut self, stream: &str, progressed: Progressed, now: Instant) {
        let known = self.streams.entry(stream.to_owned()).or_default();
        if *known == progressed {
            return;
        }
        *known = progressed;
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Lines { last, changed } => {
                *changed = true;
                // The first line also waits, so that a short sync prints its result only.
                if now.duration_since(*last.get_or_insert(now)) >= LINE_EVERY {
                    *last = Some(now);
                    *changed = false;
                    print_lines(&self.streams);
                }
            }
            Shown::Bars { all, bars } => {
                if bars.len() < MAX_BARS || bars.contains_key(stream) {
                    draw(bars.entry(stream.to_owned()).or_insert_with(|| bar(all, stream)), progressed);
                }
            }
        }
    }

    /// Says something above the bars.
    pub fn say(&self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            // Progress is not worth failing for, wherever it goes.
            Shown::Lines { .. } => drop(writeln!(io::stderr(), "{text}")),
            Shown::Bars { all, .. } => drop(all.println(text)),
        }
    }

    /// Leaves the bars as they are.
    pub fn finish(self) {
        match self.shown {
            Shown::Bars { bars, .. } => bars.values().for_each(ProgressBar::abandon),
            Shown::Lines { last: Some(_), changed: true } if self.streams.len() > 1 => print_lines(&self.streams),
            _ => {}
        }
    }
}

fn bar(all: &MultiProgress, stream: &str) -> ProgressBar {
    let bar = all.add(ProgressBar::new_spinner());
    bar.set_prefix(stream.to_owned());
    bar.enable_steady_tick(DRAW_EVERY);
    bar
}

fn draw(bar: &ProgressBar, progressed: Progressed) {
    let Progressed { records, bytes, rejected, partitions, expected } = progressed;
    match expected {
        Some(expected) if bar.length() != Some(expected) => {
            bar.set_length(expected);
            bar.set_style(style("{prefix:24!} [{bar:24}] {percent:>3}%  {msg}  {elapsed}"));
        }
        None if bar.length().is_some() => {
            bar.unset_length();
            bar.set_style(style("{prefix:24!} {spinner}  {msg}  {elapsed}"));
        }
        _ => {}
    }
    bar.set_position(records);
    bar.set_message(told(records, bytes, rejected, partitions));
}

fn told(records: u64, bytes: u64, rejected: u64, partitions: u64) -> String {
    let mut text = format!("{} records, {}", count(records), size(bytes));
    if rejected > 0 {
        text.push_str(&format!(", {} rejected", count(rejected)));
    }
    if partitions > 1 {
        text.push_str(&format!(", {} parts", count(partitions)));
    }
    text
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants that parse").progress_chars("=> ")
}

fn print_lines(streams: &BTreeMap<String, Progressed>) {
    let mut stderr = io::stderr().lock();
    for (stream, progressed) in streams {
        let Progressed { records, bytes, rejected, partitions, expected: _ } = *progressed;
        let _ = writeln!(stderr, "{stream}: {}", told(records, bytes, rejected, partitions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        let bar = ProgressBar::hidden();
        draw(&bar, Progressed::default());
        assert_eq!(bar.length(), None);
        draw(&bar, Progressed { records: 5, bytes: 10, rejected: 1, partitions: 2, expected: Some(50) });
        assert_eq!(bar.length(), Some(50));
        assert_eq!(bar.message(), "5 records, 10 B, 1 rejected, 2 parts");
    }

    #[test]
    fn lines_come_once_a_second() {
        let start = Instant::now();
        let mut progress = Progress { shown: Shown::Lines { last: None, changed: false }, streams: BTreeMap::new() };
        let printed = |progress: &Progress| match &progress.shown {
            Shown::Lines { last, changed } => (*last, *changed),
            _ => (None, false),
        };
        let at = |records| Progressed { records, ..Progressed::default() };
        progress.update("a", at(1), start);
        assert_eq!(printed(&progress), (Some(start), true));
        progress.update("a", at(2), start + LINE_EVERY / 2);
        assert_eq!(printed(&progress), (Some(start), true));
        progress.update("a", at(3), start + LINE_EVERY);
        assert_eq!(printed(&progress), (Some(start + LINE_EVERY), false));
    }
}
