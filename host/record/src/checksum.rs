//! A checksum of rows that does not depend on their order or on how they are divided into batches.
//!
//! It is computed where rows are extracted, where they are staged and where they are loaded; a difference means that a
//! value changed on the way. Against faults, not against forgery: staged bytes have their own digests.
//!
//! How: each value that is not null is hashed to 64 bits together with its column's name; the hashes of a row are added
//! up and mixed once more, and the rows are added up, all modulo 2⁶⁴. Mixing between the two sums is what makes values
//! that trade places between rows or columns visible. For values of one word every step is a bijection, so that a change
//! of a single number, time or boolean is always seen; of texts, one in 2⁶⁴ may hide.
//!
//! A column that is widened keeps its values' hashes: an integral number hashes alike as integer, decimal and double, a
//! date like the timestamp of its midnight, JSON like text. The results are pinned by tests, because stored batches hold
//! them: never change a constant.

use std::{fmt, ops::AddAssign};

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType},
};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const NUMBER: u64 = 0x6e75_6d62_6572_0001;
const WIDE_NUMBER: u64 = 0x6e75_6d62_6572_0002;
const FRACTION: u64 = 0x6e75_6d62_6572_0003;
const DOUBLE: u64 = 0x6e75_6d62_6572_0004;
const BOOLEAN: u64 = 0x626f_6f6c_6561_6e00;
const BYTES: u64 = 0x6279_7465_7300_0000;
const INSTANT: u64 = 0x696e_7374_616e_7400;
const CLOCK: u64 = 0x636c_6f63_6b00_0000;
const NAME: u64 = 0x636f_6c75_6d6e_0000;
const ROW: u64 = 0x726f_7700_0000_0000;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The sum of the rows' hashes. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The checksum of a batch's rows: of each value with its column's name, nulls left out, so that a column which
    /// was added later changes nothing for the rows before.
    ///
    /// # Panics
    /// When a column has a type that [`DataType::to_arrow`](crate::DataType::to_arrow) never gives.
    pub fn of(batch: &RecordBatch) -> Self {
        let mut rows = vec![0_u64; batch.num_rows()];
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            add_column(&mut rows, bytes_hash(NAME, field.name().as_bytes()), array);
        }
        Self(rows.into_iter().fold(0, |sum, row| sum.wrapping_add(mix(row ^ ROW))))
    }
}

/// A bijection that spreads every bit over all (the finalizer of MurmurHash3).
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

fn word_hash(seed: u64, word: u64) -> u64 {
    mix(word.wrapping_mul(MULTIPLIER) ^ seed)
}

fn step(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 32)
}

fn bytes_hash(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = seed;
    for word in words {
        hash = step(hash, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = step(hash, u64::from_le_bytes(last));
    }
    mix(step(hash, bytes.len() as u64))
}

fn integer_hash(seed: u64, value: i64) -> u64 {
    word_hash(seed ^ NUMBER, value as u64)
}

fn wide_hash(seed: u64, value: i128) -> u64 {
    match i64::try_from(value) {
        Ok(value) => integer_hash(seed, value),
        Err(_) => bytes_hash(seed ^ WIDE_NUMBER, &value.to_le_bytes()),
    }
}

/// As the integer where it is one, so that widening shows nothing; otherwise without trailing zeros.
fn decimal_hash(seed: u64, mut value: i128, mut scale: i8) -> u64 {
    while scale > 0 && value % 10 == 0 {
        if value == 0 {
            scale = 0;
        } else {
            value /= 10;
            scale -= 1;
        }
    }
    while scale < 0 {
        let Some(larger) = value.checked_mul(10) else { break };
        value = larger;
        scale += 1;
    }
    if scale == 0 { wide_hash(seed, value) } else { bytes_hash(seed ^ FRACTION ^ scale as u64, &value.to_le_bytes()) }
}

fn double_hash(seed: u64, value: f64) -> u64 {
    // 2^127: below it, every integral double is exactly an i128.
    const LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    let negative_zero = value == 0.0 && value.is_sign_negative();
    if value.fract() == 0.0 && value.abs() < LIMIT && !negative_zero {
        return wide_hash(seed, value as i128);
    }
    word_hash(seed ^ DOUBLE, if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
}

/// Adds a column's hashes to those of the rows.
fn add_column(rows: &mut [u64], seed: u64, array: &ArrayRef) {
    let words = |seed: u64| move |value: i64| word_hash(seed, value as u64);
    match array.data_type() {
        ArrowType::Boolean => {
            let array = array.as_boolean();
            add(rows, array, |row| word_hash(seed ^ BOOLEAN, u64::from(array.value(row))));
        }
        ArrowType::Int64 => {
            let values = array.as_primitive::<Int64Type>().values();
            add(rows, array, |row| integer_hash(seed, values[row]));
        }
        ArrowType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            add(rows, array, |row| double_hash(seed, values[row]));
        }
        ArrowType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>().values(), *scale);
            add(rows, array, |row| decimal_hash(seed, values[row], scale));
        }
        ArrowType::Utf8 => {
            let array = array.as_string::<i32>();
            add(rows, array, |row| bytes_hash(seed ^ BYTES, array.value(row).as_bytes()));
        }
        ArrowType::Binary => {
            let array = array.as_binary::<i32>();
            add(rows, array, |row| bytes_hash(seed ^ BYTES, array.value(row)));
        }
        ArrowType::Date32 => {
            let values = array.as_primitive::<Date32Type>().values();
            let hash = words(seed ^ INSTANT);
            add(rows, array, |row| hash(i64::from(values[row]).wrapping_mul(MICROS_PER_DAY)));
        }
        ArrowType::Time64(TimeUnit::Microsecond) => {
            let values = array.as_primitive::<Time64MicrosecondType>().values();
            let hash = words(seed ^ CLOCK);
            add(rows, array, |row| hash(values[row]));
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<TimestampMicrosecondType>().values();
            let hash = words(seed ^ INSTANT);
            add(rows, array, |row| hash(values[row]));
        }
        other => panic!("batches have the types of `DataType::to_arrow`, and {other} is none of them"),
    }
}

fn add(rows: &mut [u64], array: &dyn Array, hash: impl Fn(usize) -> u64) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => rows.iter_mut().enumerate().for_each(|(row, sum)| *sum = sum.wrapping_add(hash(row))),
        Some(nulls) => nulls.valid_indices().for_each(|row| rows[row] = rows[row].wrapping_add(hash(row))),
    }
}

impl AddAssign for Checksum {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(|_| D::Error::custom("a checksum is 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow_array::{Decimal128Array, Float64Array, Int64Array, StringArray, new_null_array};
    use proptest::prelude::*;

    use super::*;
    use crate::DataType;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
    }

    fn ints(values: Vec<Option<i64>>) -> ArrayRef {
        Arc::new(Int64Array::from(values))
    }

    fn texts(values: &[Option<String>]) -> ArrayRef {
        Arc::new(StringArray::from_iter(values.iter()))
    }

    fn every_type() -> RecordBatch {
        let source: ArrayRef = ints(vec![Some(0), Some(1), None, Some(-7)]);
        let types = [
            DataType::Boolean,
            DataType::Int64,
            DataType::Float64,
            DataType::Decimal(20, 3),
            DataType::Text,
            DataType::Bytes,
            DataType::Date,
            DataType::Time,
            DataType::Timestamp,
            DataType::TimestampTz,
            DataType::Json,
        ];
        let column = |data_type: &DataType| {
            let from = match data_type {
                DataType::Bytes => arrow_cast::cast(&source, &ArrowType::Utf8).unwrap(),
                DataType::Date => arrow_cast::cast(&source, &ArrowType::Int32).unwrap(),
                _ => Arc::clone(&source),
            };
            arrow_cast::cast(&from, &data_type.to_arrow()).unwrap()
        };
        batch(types.iter().map(|t| (t.short_name(), column(t))).collect())
    }

    #[test]
    fn pinned_because_stored_batches_hold_it() {
        assert_eq!(Checksum::of(&every_type()).to_string(), "812cbcd792828897");
        assert_eq!(Checksum::of(&batch(vec![("id", ints(vec![Some(1)]))])).to_string(), "785116bcf2e3b4b7");
        assert_eq!(bytes_hash(0, b""), 0x0000000000000000);
        assert_eq!(bytes_hash(1, b"twelve bytes"), 0x8796dca3ebec7318);
    }

    #[test]
    fn order_and_division_do_not_matter() {
        let whole = every_type();
        let mut parts = Checksum::of(&whole.slice(2, 2));
        parts += Checksum::of(&whole.slice(0, 2));
        assert_eq!(parts, Checksum::of(&whole));
        assert_ne!(Checksum::of(&whole.slice(0, 3)), Checksum::of(&whole.slice(0, 2)));
    }

    #[test]
    fn added_columns_and_widened_columns_change_nothing() {
        let old = batch(vec![("id", ints(vec![Some(1), None, Some(-4_000_000)]))]);
        let mut columns = vec![("id", Arc::clone(old.column(0)))];
        columns.push(("new", new_null_array(&ArrowType::Utf8, 3)));
        assert_eq!(Checksum::of(&old), Checksum::of(&batch(columns)));
        for wider in [DataType::Float64, DataType::Decimal(19, 0), DataType::Decimal(30, 11)] {
            let cast = arrow_cast::cast(old.column(0), &wider.to_arrow()).unwrap();
            assert_eq!(Checksum::of(&old), Checksum::of(&batch(vec![("id", cast)])), "{wider:?}");
        }
        let days = arrow_cast::cast(&Int64Array::from(vec![1, -2]), &ArrowType::Int32).unwrap();
        let days = arrow_cast::cast(&days, &ArrowType::Date32).unwrap();
        let micros = arrow_cast::cast(&days, &DataType::Timestamp.to_arrow()).unwrap();
        assert_eq!(Checksum::of(&batch(vec![("d", days)])), Checksum::of(&batch(vec![("d", micros)])));
        let decimal = |value, scale| -> ArrayRef {
            Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap())
        };
        assert_eq!(
            Checksum::of(&batch(vec![("d", decimal(15, 1))])),
            Checksum::of(&batch(vec![("d", decimal(1500, 3))]))
        );
        assert_ne!(
            Checksum::of(&batch(vec![("d", decimal(15, 1))])),
            Checksum::of(&batch(vec![("d", decimal(15, 2))]))
        );
        assert_ne!(
            Checksum::of(&batch(vec![("d", decimal(15, -1))])),
            Checksum::of(&batch(vec![("d", decimal(15, 0))]))
        );
    }

    #[test]
    fn doubles_that_differ_differ() {
        let of = |v: f64| Checksum::of(&batch(vec![("v", Arc::new(Float64Array::from(vec![v])) as ArrayRef)]));
        let values = [
            0.0,
            -0.0,
            0.1,
            0.1 + f64::EPSILON,
            1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e300,
            2_f64.powi(127),
        ];
        for (i, a) in values.iter().enumerate() {
            assert_eq!(of(*a), of(*a));
            for b in &values[i + 1..] {
                assert_ne!(of(*a), of(*b), "{a} {b}");
            }
        }
    }

    proptest! {
        #[test]
        fn changes_and_swaps_are_seen(
            rows in prop::collection::vec((any::<Option<i64>>(), any::<Option<i64>>(), prop::option::of("\\PC{0,20}")), 2..20),
            (first, second) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            other in any::<i64>(),
            text in "\\PC{0,20}",
        ) {
            let of = |rows: &[(Option<i64>, Option<i64>, Option<String>)]| {
                let t: Vec<_> = rows.iter().map(|row| row.2.clone()).collect();
                Checksum::of(&batch(vec![
                    ("a", ints(rows.iter().map(|row| row.0).collect())),
                    ("b", ints(rows.iter().map(|row| row.1).collect())),
                    ("t", texts(&t)),
                ]))
            };
            let before = of(&rows);
            let (i, j) = (first.index(rows.len()), second.index(rows.len()));
            let check = |changed: &[(Option<i64>, Option<i64>, Option<String>)]| {
                // A swap may only have reordered the rows.
                let (mut a, mut b) = (rows.clone(), changed.to_vec());
                a.sort();
                b.sort();
                prop_assert_eq!(a == b, of(changed) == before);
                Ok(())
            };
            let mut changed = rows.clone();
            changed[i].0 = Some(other);
            check(&changed)?;
            let mut changed = rows.clone();
            changed[i].2 = Some(text);
            check(&changed)?;
            let mut changed = rows.clone();
            changed[i].1 = None;
            check(&changed)?;
            let mut changed = rows.clone();
            (changed[i].0, changed[i].1) = (changed[i].1, changed[i].0);
            check(&changed)?;
            let mut changed = rows.clone();
            (changed[i].0, changed[j].0) = (rows[j].0, rows[i].0);
            check(&changed)?;
            let mut changed = rows.clone();
            (changed[i].2, changed[j].2) = (rows[j].2.clone(), rows[i].2.clone());
            check(&changed)?;
        }
    }
}
