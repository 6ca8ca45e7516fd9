//! The types of fields, and how samples of text or JSON decide them.
//!
//! Owns the ladder of inference: a type is chosen only if it keeps every digit of every sampled value. Pure.

use serde_json::value::RawValue;

use crate::{
    moment,
    scalar::{self, EXACT_DOUBLE, Number},
};

/// Type of a field; `data-type` of the WIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Int64,
    Float64,
    Decimal(u8, i8),
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Json,
}

impl Kind {
    /// Reads `int64`, `decimal(38,2)`, … as they stand in the setting `schema`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.trim() {
            "boolean" => Self::Boolean,
            "int64" | "integer" => Self::Int64,
            "float64" | "double" => Self::Float64,
            "text" => Self::Text,
            "bytes" => Self::Bytes,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" | "timestamp-tz" => Self::TimestampTz,
            "json" => Self::Json,
            other => {
                let (precision, scale) = other.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
                let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
                let valid = (1..=38).contains(&precision) && (0..=i8::try_from(precision).ok()?).contains(&scale);
                return valid.then_some(Self::Decimal(precision, scale));
            }
        })
    }
}

/// What the values of one field have looked like so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guess {
    boolean: bool,
    integer: bool,
    /// An integer that is not exact as a double.
    large: bool,
    /// An integer over 64 bits.
    huge: bool,
    float: bool,
    /// A number whose digits a double would lose.
    lossy: bool,
    /// A number with an exponent, NaN or infinite: no decimal.
    exponent: bool,
    date: bool,
    time: bool,
    timestamp: bool,
    timestamp_tz: bool,
    json: bool,
    text: bool,
    whole_digits: usize,
    fraction_digits: usize,
}

impl Guess {
    /// Looks at a value that is not null.
    pub fn see_text(&mut self, text: &[u8]) {
        let first = text.first().copied().unwrap_or_default();
        match first {
            b'0'..=b'9' | b'-' | b'.' if self.see_number(text) || self.see_time(text) => {}
            b't' | b'f' | b'T' | b'F' if scalar::boolean(text).is_some() => self.boolean = true,
            b'N' | b'n' | b'i' | b'I' | b'-' if scalar::float64(text).is_some() => {
                self.float = true;
                self.exponent = true;
            }
            _ => self.text = true,
        }
    }

    fn see_number(&mut self, text: &[u8]) -> bool {
        let Some(number) = Number::of(text) else { return false };
        if number.leading_zero {
            return false;
        }
        self.whole_digits = self.whole_digits.max(number.whole.len());
        self.fraction_digits = self.fraction_digits.max(number.fraction.len());
        if number.integer(text) {
            self.integer = true;
            match scalar::int64(text) {
                Some(value) => self.large |= value.unsigned_abs() > EXACT_DOUBLE.unsigned_abs(),
                None => self.huge = true,
            }
        } else {
            self.float = true;
            self.exponent |= number.exponent;
            self.lossy |= !number.exact_as_float(text);
        }
        true
    }

    fn see_time(&mut self, text: &[u8]) -> bool {
        if moment::date(text).is_some() {
            self.date = true;
        } else if let Some((_, zone)) = moment::timestamp(text) {
            self.timestamp |= !zone;
            self.timestamp_tz |= zone;
        } else if moment::time(text).is_some() {
            self.time = true;
        } else {
            return false;
        }
        true
    }

    /// Looks at a JSON value. Strings become dates and timestamps only in ISO 8601, which is what the host reads.
    pub fn see_json(&mut self, value: &RawValue) {
        let raw = value.get().as_bytes();
        match raw.first() {
            None | Some(b'n') => {}
            Some(b't' | b'f') => self.boolean = true,
            Some(b'{' | b'[') => self.json = true,
            Some(b'"') => {
                let text = &raw[1..raw.len().max(2) - 1];
                let iso =
                    text.get(4) == Some(&b'-') && !text.contains(&b'\\') && text.get(19).is_none_or(|b| *b != b' ');
                if !(iso && self.see_time(text)) {
                    self.text = true;
                }
            }
            Some(_) => {
                self.see_number(raw);
            }
        }
    }

    /// Joins what another file showed.
    pub fn join(&mut self, other: Self) {
        self.boolean |= other.boolean;
        self.integer |= other.integer;
        self.large |= other.large;
        self.huge |= other.huge;
        self.float |= other.float;
        self.lossy |= other.lossy;
        self.exponent |= other.exponent;
        self.date |= other.date;
        self.time |= other.time;
        self.timestamp |= other.timestamp;
        self.timestamp_tz |= other.timestamp_tz;
        self.json |= other.json;
        self.text |= other.text;
        self.whole_digits = self.whole_digits.max(other.whole_digits);
        self.fraction_digits = self.fraction_digits.max(other.fraction_digits);
    }

    /// A guess that holds exactly this type, for fields whose type is known.
    pub fn of(kind: Kind) -> Self {
        let mut guess = Self::default();
        match kind {
            Kind::Boolean => guess.boolean = true,
            Kind::Int64 => guess.integer = true,
            Kind::Float64 => guess.float = true,
            Kind::Date => guess.date = true,
            Kind::Time => guess.time = true,
            Kind::Timestamp => guess.timestamp = true,
            Kind::TimestampTz => guess.timestamp_tz = true,
            Kind::Json => guess.json = true,
            Kind::Decimal(..) | Kind::Text | Kind::Bytes => guess.text = true,
        }
        guess
    }

    /// The type that keeps everything seen; text where nothing was.
    pub fn kind(&self) -> Kind {
        let number = self.integer || self.float;
        let moment = self.date || self.timestamp || self.timestamp_tz;
        let families = [self.boolean, number, moment, self.time].into_iter().filter(|seen| *seen).count();
        if self.json {
            return Kind::Json;
        }
        if self.text || families != 1 {
            return Kind::Text;
        }
        if self.boolean {
            return Kind::Boolean;
        }
        if self.time {
            return Kind::Time;
        }
        if number {
            return self.number();
        }
        match (self.timestamp, self.timestamp_tz) {
            (false, false) => Kind::Date,
            (_, false) => Kind::Timestamp,
            (false, true) if !self.date => Kind::TimestampTz,
            _ => Kind::Text,
        }
    }

    fn number(&self) -> Kind {
        if !self.float && !self.huge {
            return Kind::Int64;
        }
        let lossy = self.lossy || self.huge || (self.float && self.large);
        if !lossy {
            return Kind::Float64;
        }
        match i8::try_from(self.fraction_digits) {
            // All of 38 digits: later files may hold greater numbers.
            Ok(scale) if !self.exponent && self.whole_digits + self.fraction_digits <= 38 => Kind::Decimal(38, scale),
            _ => Kind::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(values: &[&str]) -> Kind {
        let mut guess = Guess::default();
        values.iter().for_each(|value| guess.see_text(value.as_bytes()));
        guess.kind()
    }

    #[test]
    fn text_decides_the_type() {
        let table: &[(&[&str], Kind)] = &[
            (&[], Kind::Text),
            (&["1", "-2"], Kind::Int64),
            (&["1", "2.5"], Kind::Float64),
            (&["1e3", "NaN", "-inf"], Kind::Float64),
            (&["9007199254740993", "0.5"], Kind::Decimal(38, 1)),
            (&["18446744073709551615"], Kind::Decimal(38, 0)),
            (&["12345678901234567.89"], Kind::Decimal(38, 2)),
            (&["12345678901234567.89", "1e5"], Kind::Text),
            (&["1", "007"], Kind::Text),
            (&["true", "False"], Kind::Boolean),
            (&["true", "1"], Kind::Text),
            (&["2020-01-01", "2020/12/31"], Kind::Date),
            (&["2020-01-01", "2020-01-01 10:00"], Kind::Timestamp),
            (&["2020-01-01T10:00:00Z", "2020-01-01 10:00:00+02:00"], Kind::TimestampTz),
            (&["2020-01-01T10:00:00Z", "2020-01-01 10:00:00"], Kind::Text),
            (&["10:00:00"], Kind::Time),
            (&["03/04/2020"], Kind::Text),
            (&["1", "x"], Kind::Text),
            (&["-"], Kind::Text),
            (&["127.0.0.1"], Kind::Text),
        ];
        for (values, kind) in table {
            assert_eq!(of(values), *kind, "{values:?}");
        }
    }

    #[test]
    fn json_decides_the_type() {
        let table: &[(&str, Kind)] = &[
            ("[1, null, 2]", Kind::Int64),
            ("[1, 2.5]", Kind::Float64),
            ("[1, \"a\"]", Kind::Text),
            ("[{}, 1]", Kind::Json),
            ("[[1], null]", Kind::Json),
            ("[\"2020-01-01\"]", Kind::Date),
            ("[\"2020-01-01T10:00:00Z\"]", Kind::TimestampTz),
            ("[\"2001/01/10 18:20\"]", Kind::Text),
            ("[\"1\"]", Kind::Text),
            ("[\"\"]", Kind::Text),
            ("[false]", Kind::Boolean),
        ];
        for (document, kind) in table {
            let values: Vec<&RawValue> = serde_json::from_str(document).unwrap();
            let mut guess = Guess::default();
            values.iter().for_each(|value| guess.see_json(value));
            assert_eq!(guess.kind(), *kind, "{document}");
        }
    }

    #[test]
    fn settings_name_types() {
        assert_eq!(Kind::parse("decimal(12, 2)"), Some(Kind::Decimal(12, 2)));
        assert_eq!(Kind::parse("decimal(39,2)"), None);
        assert_eq!(Kind::parse("decimal(2,3)"), None);
        assert_eq!(Kind::parse("timestamptz"), Some(Kind::TimestampTz));
        assert_eq!(Kind::parse("varchar"), None);
    }
}
