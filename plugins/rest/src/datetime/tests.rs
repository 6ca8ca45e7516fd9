#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_airbyte_formats_go_both_ways() {
    let cases = [
        ("1700000000", "%s", 1_700_000_000_000_000),
        ("1700000000123", "%ms", 1_700_000_000_123_000),
        ("1700000000123456", "%epoch_microseconds", 1_700_000_000_123_456),
        ("1700000000.5", "%s_as_float", 1_700_000_000_500_000),
        ("2023-11-14T22:13:20.123Z", "%Y-%m-%dT%H:%M:%S.%_msZ", 1_700_000_000_123_000),
        ("2023-11-14T22:13:20.123456+0000", "%Y-%m-%dT%H:%M:%S.%f%z", 1_700_000_000_123_456),
    ];
    for (text, shape, us) in cases {
        let at = parse(text, shape).unwrap();
        assert_eq!(at.us(), us, "{shape}");
        assert_eq!(format(&at, shape), text, "{shape}");
    }
}
