//! The text that Prometheus reads.

use std::fmt::Write;

use crate::limits::{MAX_LABEL_BYTES, MAX_METRIC_SERIES};

/// What a family counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Families and their series, in the order in which they are written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    series: usize,
    dropped: usize,
}

impl Exposition {
    /// Begins a family; its samples follow. Names are ours, in ASCII.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample. Over [`MAX_METRIC_SERIES`] samples are left out and counted.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        if self.series >= MAX_METRIC_SERIES {
            self.dropped += 1;
            return;
        }
        self.series += 1;
        self.text.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            self.text.push(if number == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"");
            self.escape(value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn escape(&mut self, value: &str) {
        for letter in value[..value.floor_char_boundary(MAX_LABEL_BYTES)].chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                letter => self.text.push(letter),
            }
        }
    }

    /// The whole text, with a count of what was left out.
    pub fn finish(mut self) -> String {
        let dropped = self.dropped as f64;
        self.series = 0;
        let name = "thimble_metrics_series_dropped";
        self.family(name, Kind::Gauge, "Series left out of this answer because there are too many.");
        self.sample(name, &[], dropped);
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_series_are_bounded() {
        let mut text = Exposition::default();
        text.family("a", Kind::Gauge, "A.");
        text.sample("a", &[("x", "say \"hi\"\\\n"), ("y", "ä")], 1.5);
        text.sample("a", &[], f64::INFINITY);
        let expected = "# HELP a A.\n# TYPE a gauge\na{x=\"say \\\"hi\\\"\\\\\\n\",y=\"ä\"} 1.5\na inf\n";
        assert!(text.text.eq_ignore_ascii_case(expected), "{}", text.text);
        for _ in 0..MAX_METRIC_SERIES {
            text.sample("a", &[("long", &"x".repeat(MAX_LABEL_BYTES + 1))], 1.0);
        }
        let text = text.finish();
        assert!(text.ends_with("thimble_metrics_series_dropped 2\n"), "two were there already");
        assert!(!text.contains(&"x".repeat(MAX_LABEL_BYTES + 1)));
    }
}
