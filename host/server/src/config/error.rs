//! What can be wrong with a configuration file, told with the file, the line and the key.
//!
//! Must never show a value that came from the environment.

use std::{fmt, path::PathBuf};

use serde::de::{Expected, Unexpected};

/// One thing that is wrong at one place of a document. The file's name is added by [`ConfigError`].
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// From 1; 0 where it is not known.
    pub line: u64,
    /// Keys from the innermost outwards.
    pub path: Vec<String>,
    /// What is wrong.
    pub what: What,
}

/// The kinds that are worded differently.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A key that no setting has, and the nearest one that exists.
    UnknownKey { key: String, nearest: Option<String>, known: Vec<String> },
    /// Any other sentence part.
    Message(String),
}

impl Problem {
    /// A message at a line.
    pub fn at(line: u64, message: impl Into<String>) -> Self {
        Self { line, path: Vec::new(), what: What::Message(message.into()) }
    }

    /// An unknown key, with the nearest of the known ones.
    pub fn unknown_key(key: &str, line: u64, known: &[&str]) -> Self {
        let nearest = Self::nearest(key, known);
        let known = known.iter().map(|name| (*name).to_owned()).collect();
        Self { line, path: Vec::new(), what: What::UnknownKey { key: key.to_owned(), nearest, known } }
    }

    /// The known key that `key` is most likely to mean. One that differs by more than half is another word.
    pub fn nearest(key: &str, known: &[&str]) -> Option<String> {
        known
            .iter()
            .map(|candidate| (strsim::damerau_levenshtein(key, candidate), *candidate))
            .min()
            .filter(|(distance, candidate)| *distance * 2 <= candidate.len().max(key.len()))
            .map(|(_, candidate)| candidate.to_owned())
    }

    /// The setting concerned, from the outermost key: `limits.batch.max_rows`.
    pub fn setting(&self) -> String {
        self.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

/// What is expected, in words for people who do not write Rust.
pub(super) fn plain(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a string" => "text".into(),
        "a sequence" => "a list".into(),
        other => other.into(),
    }
}

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::at(0, message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::at(0, format!("expected {}, found {found}", plain(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::at(0, format!("expected {}, found {found}", plain(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::at(0, format!("the key `{field}` is missing"))
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_problem(f, "the configuration", self)
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, file: &str, problem: &Problem) -> fmt::Result {
    let line = if problem.line > 0 { format!(" line {}", problem.line) } else { String::new() };
    match &problem.what {
        What::UnknownKey { key, nearest, known } => {
            write!(f, "unknown key `{key}` in {file}{line}")?;
            if !problem.path.is_empty() {
                write!(f, " (under `{}`)", problem.setting())?;
            }
            match nearest {
                Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                None => write!(f, "; the keys known there are {}", known.join(", ")),
            }
        }
        What::Message(message) if problem.path.is_empty() => write!(f, "{file}{line}: {message}"),
        What::Message(message) => write!(f, "{file}{line}: `{}`: {message}", problem.setting()),
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Correct the file at the place named.
    #[error("{}", Invalid(.file, .problem))]
    Invalid {
        /// As the operator named it.
        file: PathBuf,
        /// What and where.
        problem: Box<Problem>,
    },
    /// Make the file readable, or name another one.
    #[error("cannot read the configuration file {}: {source}", .file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Rename the file.
    #[error("the configuration file {} must end in .yaml, .yml or .toml", .0.display())]
    Extension(PathBuf),
    /// Make the file smaller.
    #[error("the configuration file {} is larger than {limit} bytes", .file.display())]
    TooLarge { file: PathBuf, limit: u64 },
}

impl fmt::Display for Invalid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_problem(f, &self.0.display().to_string(), self.1)
    }
}

struct Invalid<'a>(&'a PathBuf, &'a Problem);
