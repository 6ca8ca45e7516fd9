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

#[test]
fn formats_are_read_with_the_choices_of_python() {
    let cases = [
        ("2023111", "%Y%m%d", "2023-11-01 00:00:00+00:00"),
        ("2024-01-31T10:20:30.5-02:30", "%Y-%m-%dT%H:%M:%S.%f%z", "2024-01-31 10:20:30.500000-02:30"),
        ("Mon, 05 feb 2024 12:20 AM", "%a, %d %b %Y %I:%M %p", "2024-02-05 00:20:00+00:00"),
        ("69-1-1", "%y-%m-%d", "1969-01-01 00:00:00+00:00"),
        ("2024-060", "%Y-%j", "2024-02-29 00:00:00+00:00"),
        ("2024 10 1", "%Y %W %w", "2024-03-04 00:00:00+00:00"),
        ("2024 05 3", "%G %V %u", "2024-01-31 00:00:00+00:00"),
        ("created:gte:2024-01-01", "created:gte:%Y-%m-%d", "2024-01-01 00:00:00+00:00"),
    ];
    for (text, shape, expected) in cases {
        assert_eq!(parse(text, shape).unwrap().to_string(), expected, "{shape}");
    }
    for (text, shape) in [("2024-02-30", "%Y-%m-%d"), ("2024-01-31T24:00", "%Y-%m-%dT%H:%M"), ("x", "%s"), ("1", "%Q")]
    {
        let said = parse(text, shape).unwrap_err().to_string();
        assert!(said.contains(shape), "{said}");
    }
    assert!(parse("2024-01-01x", "%Y-%m-%d").unwrap_err().to_string().contains("`x` remains"));
}

#[test]
fn every_directive_is_written_as_the_c_library_does() {
    let at = DateTime::from_us(1_709_251_199_000_001).to_offset(-19_800);
    let cases = [
        ("%A %a %B %b %C %c", "Thursday Thu February Feb 20 Thu Feb 29 18:29:59 2024"),
        ("%D %d %e %F %G %g %H %h", "02/29/24 29 29 2024-02-29 2024 24 18 Feb"),
        ("%I %j %k %l %M %m %p %P", "06 060 18  6 29 02 PM pm"),
        ("%R %r %S %s %T %U %u %V %W %w", "18:29 06:29:59 PM 59 1709231399 18:29:59 08 4 09 09 4"),
        ("%X %x %Y %y %z %Z %f %%", "18:29:59 02/29/24 2024 24 -0530 UTC-05:30 000001 %"),
        ("%-m %_m %05d %^a %#Z|%-5d %Q %", "2  2 00029 THU |   29 %Q %"),
    ];
    for (shape, expected) in cases {
        assert_eq!(format(&at, shape), expected, "{shape}");
    }
}

#[test]
fn iso_dates_are_read_in_all_their_forms() {
    let cases = [
        ("2024", "2024-01-01 00:00:00"),
        ("20240131", "2024-01-31 00:00:00"),
        ("2024-W05-3", "2024-01-31 00:00:00"),
        ("2024-060", "2024-02-29 00:00:00"),
        ("2024-12-31T24:00", "2025-01-01 00:00:00"),
        ("2024-01-31 10:20:30,123456789+0230", "2024-01-31 10:20:30.123456+02:30"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_iso(text).unwrap().to_string(), expected, "{text}");
    }
    for text in ["202401", "2024-13", "2024-01-31T24:01", "2024-01-31T", "Jan 1 2024", "2024-01-31T10:20:30+2"] {
        assert!(parse_iso(text).is_err(), "{text}");
    }
}

#[test]
fn durations_move_dates_by_months_and_by_time() {
    let start = parse("2024-01-31", "%Y-%m-%d").unwrap();
    let moved = |text: &str| start.plus(&parse_duration(text).unwrap()).unwrap().to_string();
    assert_eq!(moved("P1M"), "2024-02-29 00:00:00+00:00");
    assert_eq!(moved("-P1Y2M"), "2022-11-30 00:00:00+00:00");
    assert_eq!(moved("P1W1DT1H0.5S"), "2024-02-08 01:00:00.500000+00:00");
    assert_eq!(parse_duration("P0.5D").unwrap(), Duration::from_us(43_200 * US_PER_SECOND));
    for text in ["P", "1D", "P1H", "PT1D", "P-1D", "P1D1W", "P0.5M", "P99999999999999999999D"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    let far = Duration { months: 12 * 9000, us: 0 };
    assert!(start.plus(&far).is_err());
    assert!(start.plus(&Duration { months: i64::MAX, us: i64::MAX }).is_err());
}

#[test]
fn dates_of_people_are_read_as_far_as_the_reference_does() {
    for (text, expected) in [
        ("2024-1-5", "2024-01-05T00:00:00+00:00"),
        ("1700000000", "2023-11-14T22:13:20+00:00"),
        ("Feb 5, 2024", "2024-02-05T00:00:00+00:00"),
        ("02/05/2024 10:00", "2024-02-05T10:00:00+00:00"),
        ("2024-01-31 10:20:30 -0500", "2024-01-31T10:20:30-05:00"),
    ] {
        assert_eq!(parse_lenient(text).unwrap().iso('T'), expected, "{text}");
    }
    for text in ["10:00", "17000000001", "-5", "2024-01-31T10", "x"] {
        assert!(parse_lenient(text).is_err(), "{text}");
    }
}
