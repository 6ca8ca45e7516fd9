//! How many rejected records a run bears.

use thimble_record::{MaxRejected, Rejected};

/// Records of one stream in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Those that came in, the rejected ones included.
    pub emitted: u64,
    pub rejected: u64,
}

/// Why a run fails by its rejected records; `None` while it may go on. `closing` says that a batch closes, which is when a
/// share counts: of the first few records, one bad one would be too many. `last` is a rejected record to name.
pub fn exceeded(stream: &str, max: MaxRejected, tally: Tally, closing: bool, last: &Rejected) -> Option<String> {
    let MaxRejected { records, percent } = max;
    let Tally { emitted, rejected } = tally;
    #[allow(clippy::cast_precision_loss, reason = "a share needs no exact count")]
    let share = rejected as f64 * 100.0 / emitted.max(1) as f64;
    let over = match (records, percent) {
        (Some(most), _) if rejected > most => format!("`max_rejected.records` allows {most}"),
        (_, Some(most)) if closing && share > most => format!("`max_rejected.percent` allows {most}"),
        _ => return None,
    };
    let Rejected { reason, message, .. } = last;
    Some(format!(
        "stream {stream}: {rejected} of {emitted} records were rejected, but {over}; the last one: {reason}: {message}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_crossed_by_one_more() {
        let last = Rejected::new("s", "bad", "the field x is bad", "{}");
        let tally = |emitted, rejected| Tally { emitted, rejected };
        let records = MaxRejected { records: Some(10), percent: None };
        let percent = MaxRejected { records: None, percent: Some(1.0) };
        let cases = [
            (MaxRejected::default(), tally(10, 10), true, false),
            (records, tally(1_000, 10), true, false),
            (records, tally(1_000, 11), false, true),
            (percent, tally(100, 1), true, false),
            (percent, tally(100, 2), true, true),
            (percent, tally(100, 2), false, false),
            (MaxRejected { records: Some(0), percent: None }, tally(1, 1), false, true),
        ];
        for (max, tally, closing, fails) in cases {
            assert_eq!(exceeded("s", max, tally, closing, &last).is_some(), fails, "{max:?} {tally:?} {closing}");
        }
        let told = exceeded("s", records, tally(1_000, 11), false, &last).unwrap_or_default();
        assert_eq!(
            told,
            "stream s: 11 of 1000 records were rejected, but `max_rejected.records` allows 10; the last one: bad: the field x is bad"
        );
    }
}
