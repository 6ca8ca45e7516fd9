//! Types: which type of the server's holds which of ours, and what a column that exists can take. Pure.

use thimble_record::DataType;

/// The type of a column that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    Ours(DataType),
    /// `numeric` without a precision, which takes any number but infinity.
    Numeric,
    /// One that we never make, by the server's name for it.
    Other(String),
}

/// What is done so that a column takes a type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Nothing; values are sent as this type.
    As(DataType),
    /// The column is changed to this type.
    Widen(DataType),
}

/// The server's type.
pub(super) fn sql_type(data_type: DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal(precision, scale) => format!("numeric({precision},{scale})"),
        DataType::Text => "text".into(),
        DataType::Bytes => "bytea".into(),
        DataType::Date => "date".into(),
        DataType::Time => "time without time zone".into(),
        DataType::Timestamp => "timestamp without time zone".into(),
        DataType::TimestampTz => "timestamp with time zone".into(),
        DataType::Json => "jsonb".into(),
    }
}

/// Reads a type as the server writes it.
pub(super) fn held(sql: &str) -> Held {
    Held::Ours(match sql {
        "boolean" => DataType::Boolean,
        "bigint" => DataType::Int64,
        "double precision" => DataType::Float64,
        "text" => DataType::Text,
        "bytea" => DataType::Bytes,
        "date" => DataType::Date,
        "time without time zone" => DataType::Time,
        "timestamp without time zone" => DataType::Timestamp,
        "timestamp with time zone" => DataType::TimestampTz,
        "jsonb" => DataType::Json,
        "numeric" => return Held::Numeric,
        other => match decimal(other) {
            Some(decimal) => decimal,
            None => return Held::Other(other.to_owned()),
        },
    })
}

fn decimal(sql: &str) -> Option<DataType> {
    let (precision, scale) = sql.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
    let precision = precision.parse().ok().filter(|precision| *precision <= 38)?;
    Some(DataType::Decimal(precision, scale.parse().ok()?))
}

/// How a column takes a type; `None` where it cannot.
pub(super) fn fit(held: &Held, wanted: DataType) -> Option<Fit> {
    match (held, wanted) {
        (Held::Ours(held), wanted) => {
            let widest = held.widen(wanted)?;
            Some(if widest == *held { Fit::As(widest) } else { Fit::Widen(widest) })
        }
        (Held::Numeric, DataType::Int64) => Some(Fit::As(DataType::Decimal(19, 0))),
        (Held::Numeric, DataType::Decimal(..)) => Some(Fit::As(wanted)),
        (Held::Numeric, DataType::Float64) => Some(Fit::Widen(DataType::Float64)),
        (Held::Numeric | Held::Other(_), _) => None,
    }
}

/// The expression that turns a column of one type into another.
pub(super) fn converted(column: &str, to: DataType) -> String {
    format!("{column}::{}", sql_type(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        let all = [
            DataType::Boolean,
            DataType::Int64,
            DataType::Float64,
            DataType::Decimal(38, 0),
            DataType::Decimal(5, -3),
            DataType::Decimal(3, 38),
            DataType::Text,
            DataType::Bytes,
            DataType::Date,
            DataType::Time,
            DataType::Timestamp,
            DataType::TimestampTz,
            DataType::Json,
        ];
        for data_type in all {
            assert_eq!(held(&sql_type(data_type)), Held::Ours(data_type));
            assert_eq!(fit(&Held::Ours(data_type), data_type), Some(Fit::As(data_type)));
        }
        assert_eq!(held("numeric(39,0)"), Held::Other("numeric(39,0)".into()));
        assert_eq!(held("integer"), Held::Other("integer".into()));
    }

    #[test]
    fn columns_widen_and_never_narrow() {
        use DataType as T;
        let ours = |held, wanted| fit(&Held::Ours(held), wanted);
        assert_eq!(ours(T::Int64, T::Float64), Some(Fit::Widen(T::Float64)));
        assert_eq!(ours(T::Float64, T::Int64), Some(Fit::As(T::Float64)));
        assert_eq!(ours(T::Decimal(10, 2), T::Decimal(10, 4)), Some(Fit::Widen(T::Decimal(12, 4))));
        assert_eq!(ours(T::Json, T::Text), Some(Fit::Widen(T::Text)));
        assert_eq!(ours(T::Text, T::Json), Some(Fit::As(T::Text)));
        assert_eq!(ours(T::Boolean, T::Int64), None);
        assert_eq!(fit(&Held::Numeric, T::Int64), Some(Fit::As(T::Decimal(19, 0))));
        assert_eq!(fit(&Held::Other("integer".into()), T::Int64), None);
    }
}
