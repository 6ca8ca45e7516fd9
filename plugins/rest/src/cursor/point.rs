//! The values that order a stream: moments, or counts.
//!
//! Owns how they are read from records and state, written back, and compared. The rules are those of the reference's
//! state converters.

use std::cmp::Ordering;

use crate::{
    datetime::{self, DateTime, Duration},
    error::{RestError, Result},
    value::Value,
};

/// One value of a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    Time(DateTime),
    Count(i64),
    /// After every count: counts have no end.
    Never,
}

impl Point {
    /// What Python's `bool()` says: the reference treats a count of 0 as no value.
    pub fn truthy(&self) -> bool {
        !matches!(self, Self::Count(0))
    }

    /// `self + step`; `None` where there is no such moment.
    pub fn plus(&self, step: &Duration) -> Option<Self> {
        match self {
            Self::Time(at) => at.plus(step).ok().map(Self::Time),
            other => Some(other.clone()),
        }
    }

    /// `self - step`; `None` where there is no such moment.
    pub fn minus(&self, step: &Duration) -> Option<Self> {
        match self {
            Self::Time(at) => at.minus(step).ok().map(Self::Time),
            other => Some(other.clone()),
        }
    }
}

impl PartialOrd for Point {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Time(a), Self::Time(b)) => a.us().partial_cmp(&b.us()),
            (Self::Count(a), Self::Count(b)) => a.partial_cmp(b),
            (Self::Never, Self::Never) => Some(Ordering::Equal),
            (Self::Never, _) => Some(Ordering::Greater),
            (_, Self::Never) => Some(Ordering::Less),
            _ => None,
        }
    }
}

/// The greater of two.
pub fn later(a: Point, b: Point) -> Point {
    if b > a { b } else { a }
}

/// How points are written.
#[derive(Debug, Clone)]
pub enum Scale {
    Time {
        /// Of requests and state.
        format: String,
        /// Of records and state, tried in order; the last one is `format`.
        inputs: Vec<String>,
        /// The smallest step between two moments; a millisecond where the manifest names none.
        granularity: Option<Duration>,
    },
    Count,
}

impl Scale {
    /// Reads a record's or a state's value.
    ///
    /// # Errors
    /// Kind config, naming value and formats.
    pub fn parse(&self, value: &Value) -> Result<Point> {
        match self {
            Self::Count => match value {
                Value::Int(count) => Ok(Point::Count(*count)),
                #[allow(clippy::cast_possible_truncation)]
                Value::Float(count) => Ok(Point::Count(*count as i64)),
                Value::Str(text) => text.trim().parse().map(Point::Count).map_err(|_| no_count(value)),
                _ => Err(no_count(value)),
            },
            Self::Time { inputs, .. } => {
                let text = written(value);
                let parsed = inputs.iter().find_map(|format| datetime::parse(&text, format).ok());
                parsed.map(Point::Time).ok_or_else(|| {
                    let shown: String = text.chars().take(60).collect();
                    RestError::config(format!("the cursor's value `{shown}` matches none of {}", inputs.join(", ")))
                })
            }
        }
    }

    /// As requests and state have it.
    pub fn write(&self, point: &Point) -> Value {
        match (self, point) {
            (Self::Time { format, .. }, Point::Time(at)) => Value::from(datetime::format(at, format)),
            (_, Point::Count(count)) => Value::Int(*count),
            _ => Value::Null,
        }
    }

    /// The next point after one, by which two neighbours touch.
    pub fn after(&self, point: &Point) -> Point {
        match (self, point) {
            (Self::Time { granularity, .. }, at) => {
                at.plus(granularity.as_ref().unwrap_or(&MILLISECOND)).unwrap_or_else(|| at.clone())
            }
            (Self::Count, Point::Count(count)) => Point::Count(count.saturating_add(1)),
            (Self::Count, other) => other.clone(),
        }
    }
}

const MILLISECOND: Duration = Duration { months: 0, us: 1_000 };

fn no_count(value: &Value) -> RestError {
    let shown: String = value.to_json().chars().take(60).collect();
    RestError::config(format!("the cursor's value {shown} is no whole number"))
}

/// A value as Python's `str()` has it, as far as moments go.
fn written(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        // `int()` of a float drops what follows the point; formats of text never match one.
        #[allow(clippy::cast_possible_truncation)]
        Value::Float(float) if float.is_finite() => (*float as i64).to_string(),
        other => other.to_json(),
    }
}
