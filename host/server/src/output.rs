//! What goes to standard output: text for people, or one JSON document.
//!
//! Must never write anything else there: progress, logs and errors for people belong on standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::exit::{CliError, Exit};

/// The form of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document; JSON lines where output is followed.
    Json,
}

/// Writes results in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub format: Format,
    /// Progress and remarks are left out.
    pub quiet: bool,
}

impl Output {
    /// Whether a person reads it.
    pub fn is_text(self) -> bool {
        self.format == Format::Text
    }

    /// Prints `value` as JSON, or what `text` writes.
    pub fn show<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let written = match self.format {
            Format::Text => text(&mut out),
            Format::Json => {
                serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from).and_then(|()| writeln!(out))
            }
        };
        delivered(written.and_then(|()| out.flush()))
    }

    /// Prints one line of followed output.
    pub fn line<T: Serialize>(self, value: &T, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        let written = match self.format {
            Format::Text => writeln!(out, "{text}"),
            Format::Json => {
                serde_json::to_writer(&mut out, value).map_err(io::Error::from).and_then(|()| writeln!(out))
            }
        };
        delivered(written.and_then(|()| out.flush()))
    }

    /// Says something to the person at the terminal that is no result.
    pub fn remark(self, text: &str) {
        if !self.quiet {
            // Standard error may be closed; a remark is not worth failing for.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Tells an error: to people on standard error, to programs also as the document on standard output.
    pub fn error(self, error: &CliError) {
        let CliError { exit, message, hint } = error;
        let mut stderr = io::stderr().lock();
        let _ = writeln!(stderr, "{} {message}", paint("error:", "1;31"));
        if let Some(hint) = hint {
            let _ = writeln!(stderr, "{}  {hint}", paint("hint:", "1;36"));
        }
        if self.format == Format::Json {
            let document = json!({
                "error": { "kind": exit, "message": message, "hint": hint, "exit_code": *exit as u8 }
            });
            let _ = writeln!(io::stdout(), "{document:#}");
        }
    }
}

/// A reader that went away (`| head`) is no error of ours.
fn delivered(written: io::Result<()>) -> Result<(), CliError> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

fn paint(text: &str, code: &str) -> String {
    if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Rows of text in columns.
pub struct Table {
    headers: Vec<String>,
    /// Which columns hold numbers.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns; a header that ends in `#` is a column of numbers.
    pub fn new(headers: &[&'static str]) -> Self {
        Self {
            headers: headers.iter().map(|header| header.trim_end_matches('#').to_uppercase()).collect(),
            right: headers.iter().map(|header| header.ends_with('#')).collect(),
            rows: Vec::new(),
        }
    }

    /// A table whose headers are data, left as they are.
    pub fn owned(headers: Vec<String>) -> Self {
        Self { right: vec![false; headers.len()], headers, rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a row whose length is known at run time.
    pub fn cells(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes it.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.headers[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headers.len()).map(width).collect();
        for row in std::iter::once(&self.headers).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths.get(column).copied().unwrap_or(0).saturating_sub(cell.chars().count()));
                let (before, after) =
                    if self.right.get(column) == Some(&true) { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun: `1 batch`, `2 batches`.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Bytes with a unit: `1.4 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Milliseconds since the epoch as an instant in UTC.
pub fn instant(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis)
        .map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Milliseconds as seconds: `1.25 s`.
pub fn seconds(millis: i64) -> String {
    format!("{:.2} s", millis as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1_468_006), "1.4 MiB");
        assert_eq!(instant(0), "1970-01-01 00:00:00Z");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["stream", "records#"]);
        table.row(["a".into(), "12".into()]);
        table.row(["longer".into(), "1,000".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "STREAM  RECORDS\na            12\nlonger    1,000\n");
    }
}
