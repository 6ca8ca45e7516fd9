//! Log lines of guests and about them: the sink's trait, and what stands in front of it.
//!
//! Owns the rate limit, the length limit, the escaping and the scrubbing of guest lines. Must never read the clock
//! (time is a parameter) and never hand a line to a sink that was not scrubbed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::secrets::Secrets;

/// How much a line matters. Mirrors the WIT's `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// Where log lines end up. Must not wait.
pub trait LogSink: Send + Sync {
    /// Takes one line without a line feed.
    fn line(&self, level: LogLevel, message: &str);

    /// Takes note that the policy refused traffic to `host`. The line of the log comes besides.
    fn denied(&self, host: &str, message: &str) {
        let _ = (host, message);
    }
}

/// Limits of the lines of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogLimits {
    /// Lines a second in the long run. Default 100.
    pub lines_per_second: u32,
    /// Lines at once. Default 1,000.
    pub burst: u32,
    /// Bytes of one line; the rest is cut. Default 1 KiB.
    pub line_bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { lines_per_second: 100, burst: 1_000, line_bytes: 1_024 }
    }
}

/// What is appended to a line that was cut; part of its length.
const CUT_MARK: &str = "…";

/// Longest host and longest sentence of a denial.
const DENIAL_BYTES: usize = 512;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A token bucket over lines that counts what it drops. Pure: it is told the time.
pub struct LogLimiter {
    limits: LogLimits,
    /// Tokens in billionths of a line.
    tokens: u128,
    refilled: Instant,
    dropped: u64,
}

impl LogLimiter {
    /// A full bucket.
    pub fn new(limits: LogLimits, now: Instant) -> Self {
        let tokens = u128::from(limits.burst) * NANOS_PER_SECOND;
        Self { limits, tokens, refilled: now, dropped: 0 }
    }

    /// Hands `message` to `sink` as one scrubbed, escaped and cut line, or counts it as dropped. Dropped lines are
    /// reported once a second's worth of tokens has come back.
    pub fn line(&mut self, now: Instant, level: LogLevel, message: &str, secrets: &Secrets, sink: &dyn LogSink) {
        self.refill(now);
        let rested = u128::from(self.limits.lines_per_second.min(self.limits.burst)) * NANOS_PER_SECOND;
        if self.tokens >= rested {
            self.report(sink);
        }
        if self.tokens < NANOS_PER_SECOND {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.tokens -= NANOS_PER_SECOND;
        sink.line(level, &clean(message, self.limits.line_bytes, secrets));
    }

    /// Reports what was dropped and not reported yet. Call it at the end of the instance.
    pub fn finish(&mut self, sink: &dyn LogSink) {
        self.report(sink);
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(u64::from(u32::MAX)));
        self.refilled = self.refilled.max(now);
        let full = u128::from(self.limits.burst) * NANOS_PER_SECOND;
        let gained = passed.as_nanos().saturating_mul(u128::from(self.limits.lines_per_second));
        self.tokens = self.tokens.saturating_add(gained).min(full);
    }

    fn report(&mut self, sink: &dyn LogSink) {
        if self.dropped == 0 {
            return;
        }
        let LogLimits { lines_per_second, burst, line_bytes: _ } = self.limits;
        let message = format!(
            "{} log lines were dropped, over the limit of {lines_per_second} a second and {burst} at once",
            self.dropped
        );
        sink.line(LogLevel::Warn, &message);
        self.dropped = 0;
    }
}

/// One line of at most `max` bytes: secrets replaced, control characters escaped, cut between characters.
///
/// Scrubbing comes before the cut and sees as far beyond it as the longest secret reaches, so that no half of a
/// secret stays.
pub fn clean(message: &str, max: usize, secrets: &Secrets) -> String {
    let window = floor_boundary(message, max.saturating_add(secrets.longest()));
    let scrubbed = secrets.scrub(&message[..window]);
    let mut line = String::with_capacity(max.min(scrubbed.len()));
    let room = max.saturating_sub(CUT_MARK.len());
    let mut kept = 0;
    for char in scrubbed.chars() {
        push_escaped(&mut line, char);
        if line.len() <= room {
            kept = line.len();
        }
        if line.len() > max {
            return cut(line, kept, max);
        }
    }
    if window < message.len() {
        return cut(line, kept, max);
    }
    line
}

fn cut(mut line: String, kept: usize, max: usize) -> String {
    line.truncate(kept);
    if kept + CUT_MARK.len() <= max {
        line.push_str(CUT_MARK);
    }
    line
}

/// Control characters, and the format characters that reorder or hide text in a terminal, become `\n`, `\t`,
/// `\u{…}`.
fn push_escaped(line: &mut String, char: char) {
    let hidden =
        matches!(char, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
    if char.is_control() || hidden { line.extend(char.escape_default()) } else { line.push(char) }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

/// A sink that anyone may write to: every line passes the limiter and the scrubber of its instance.
pub struct LimitedLog {
    limiter: Mutex<LogLimiter>,
    secrets: Secrets,
    sink: Arc<dyn LogSink>,
    clock: fn() -> Instant,
}

impl LimitedLog {
    /// `clock` is `Instant::now` outside tests.
    pub fn new(sink: Arc<dyn LogSink>, secrets: Secrets, limits: LogLimits, clock: fn() -> Instant) -> Self {
        Self { limiter: Mutex::new(LogLimiter::new(limits, clock())), secrets, sink, clock }
    }

    /// Reports dropped lines; also done on drop.
    pub fn finish(&self) {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner).finish(&*self.sink);
    }
}

impl LogSink for LimitedLog {
    fn line(&self, level: LogLevel, message: &str) {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.line((self.clock)(), level, message, &self.secrets, &*self.sink);
    }

    /// Not limited, as whoever takes it counts each host once; scrubbed, as a guest may spell a secret in a host.
    fn denied(&self, host: &str, message: &str) {
        let clean = |text| clean(text, DENIAL_BYTES, &self.secrets);
        self.sink.denied(&clean(host), &clean(message));
    }
}

impl Drop for LimitedLog {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogSink for Kept {
        fn line(&self, level: LogLevel, message: &str) {
            self.0.lock().unwrap().push(format!("{level}: {message}"));
        }
    }

    impl Kept {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    fn secrets(value: &str) -> Secrets {
        Secrets::conceal(&json!({ "token": value }), &["token".to_owned()], &[], &mut || [0; 16]).1
    }

    fn flood(limiter: &mut LogLimiter, now: Instant, lines: usize, sink: &Kept) -> Vec<String> {
        for index in 0..lines {
            limiter.line(now, LogLevel::Info, &format!("line {index}"), &Secrets::default(), sink);
        }
        sink.take()
    }

    #[test]
    fn floods_are_dropped_counted_and_reported_once() {
        let (start, sink) = (Instant::now(), Kept::default());
        let mut limiter = LogLimiter::new(LogLimits::default(), start);
        assert_eq!(flood(&mut limiter, start, 5_000, &sink).len(), 1_000);
        // Half a second gives fifty more, and no report yet.
        let lines = flood(&mut limiter, start + Duration::from_millis(500), 5_000, &sink);
        assert_eq!(lines.len(), 50);
        assert_eq!(lines[0], "info: line 0");
        // A second's rest: the report comes first.
        let rested = start + Duration::from_millis(1_500);
        let lines = flood(&mut limiter, rested, 1, &sink);
        assert_eq!(
            lines,
            ["warn: 8950 log lines were dropped, over the limit of 100 a second and 1000 at once", "info: line 0"]
        );
        assert_eq!(flood(&mut limiter, rested, 1, &sink).len(), 1);
        limiter.finish(&sink);
        assert!(sink.take().is_empty());
        // What is dropped at the end is reported at the end, once.
        flood(&mut limiter, rested, 2_000, &sink);
        limiter.finish(&sink);
        limiter.finish(&sink);
        assert_eq!(sink.take(), ["warn: 1902 log lines were dropped, over the limit of 100 a second and 1000 at once"]);
    }

    #[test]
    fn the_bucket_is_never_fuller_than_full_and_time_never_runs_back() {
        let (start, sink) = (Instant::now() + Duration::from_secs(10), Kept::default());
        let mut limiter = LogLimiter::new(LogLimits { burst: 3, ..LogLimits::default() }, start);
        assert_eq!(flood(&mut limiter, start + Duration::from_secs(1_000_000), 10, &sink).len(), 3);
        assert_eq!(flood(&mut limiter, start, 10, &sink).len(), 0);
        let mut closed = LogLimiter::new(LogLimits { burst: 0, ..LogLimits::default() }, start);
        // Nothing passes; the empty bucket counts as rested, so that the dropped lines are told one by one.
        assert!(flood(&mut closed, start, 3, &sink).iter().all(|line| line.contains("dropped")));
    }

    #[test]
    fn lines_are_cut_between_characters() {
        let none = Secrets::default();
        for (message, max, expected) in [
            ("short", 5, "short"),
            ("sixsix", 5, "si…"),
            ("ääääää", 6, "ä…"),
            ("ääääää", 12, "ääääää"),
            ("🦀🦀🦀", 8, "🦀…"),
            ("abc", 2, ""),
            ("", 0, ""),
            ("a\nb\tc\u{1b}[31m\0", 100, "a\\nb\\tc\\u{1b}[31m\\u{0}"),
            ("a\u{202e}b\u{200b}\u{2028}\u{85}", 100, "a\\u{202e}b\\u{200b}\\u{2028}\\u{85}"),
            // An escape is kept whole or not at all.
            ("\u{1b}\u{1b}\u{1b}", 12, "\\u{1b}…"),
            ("größe", 100, "größe"),
        ] {
            let line = clean(message, max, &none);
            assert_eq!(line, expected, "{message:?} at {max}");
            assert!(line.len() <= max);
        }
        let long = "x".repeat(1_000_000);
        assert_eq!(clean(&long, 1_024, &none).len(), 1_024);
    }

    #[test]
    fn no_half_of_a_secret_stays() {
        let secrets = secrets("correct horse battery");
        for before in 0..60 {
            let message = format!("{}correct horse battery and more text that is cut away", "x".repeat(before));
            let line = clean(&message, 40, &secrets);
            assert!(!line.contains("corr") && !line.contains("horse") && !line.contains("tery"), "{line}");
        }
        // Escaping comes after, so that a secret with a line feed is found.
        assert_eq!(clean("a one\ntwo b", 100, &super::tests::secrets("one\ntwo")), "a *** b");
    }

    #[test]
    fn shared_logs_scrub_and_report_at_their_end() {
        let sink = Arc::new(Kept::default());
        let limits = LogLimits { burst: 1, lines_per_second: 1, ..LogLimits::default() };
        let log = LimitedLog::new(sink.clone(), secrets("hunter2"), limits, Instant::now);
        log.line(LogLevel::Warn, "the password is hunter2");
        log.line(LogLevel::Warn, "more");
        drop(log);
        let lines = sink.take();
        assert_eq!(lines[0], "warn: the password is ***");
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("1 log lines were dropped"), "{}", lines[1]);
    }
}
