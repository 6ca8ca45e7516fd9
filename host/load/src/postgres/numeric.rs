//! Encodes decimals in the binary form of `numeric`: groups of four digits, the weight of the first, the scale. Pure.

/// Groups that 38 digits at any alignment have at most.
const GROUPS: usize = 11;

const NEGATIVE: u16 = 0x4000;

/// Appends `value` × 10^-`scale`, its length in front.
pub(super) fn encode(value: i128, scale: i8, out: &mut Vec<u8>) {
    // Groups from the last to the first, and how many of four digits lie below the point.
    let mut groups = [0u16; GROUPS];
    let scale = i32::from(scale);
    // Digits of the last group that the value does not have: it is filled up with zeros.
    let missing = scale.rem_euclid(4);
    let missing = if missing == 0 { 0 } else { 4 - missing };
    let below = (scale + missing) / 4;
    let magnitude = value.unsigned_abs();
    let mut count = 0;
    let mut rest = magnitude;
    if missing != 0 {
        let (unit, fill) = (10u128.pow(4 - missing as u32), 10u16.pow(missing as u32));
        groups[0] = (rest % unit) as u16 * fill;
        rest /= unit;
        count = 1;
    }
    // Dividing 64 bits is much quicker than 128; most values have no more.
    while rest > u128::from(u64::MAX) {
        groups[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    let mut rest = rest as u64;
    while rest != 0 {
        groups[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    write(&groups[..count], below, value < 0, scale.max(0), out);
}

/// `below`: groups of the slice, or zeros that follow it, that lie below the point.
fn write(groups: &[u16], below: i32, negative: bool, scale: i32, out: &mut Vec<u8>) {
    let count = groups.iter().rposition(|group| *group != 0).map_or(0, |last| last + 1);
    let first = groups.iter().position(|group| *group != 0).unwrap_or(0);
    let significant = &groups[first.min(count)..count];
    // Zero has no group and weight 0.
    let weight = if significant.is_empty() { 0 } else { count as i32 - below - 1 };
    let sign = if negative { NEGATIVE } else { 0 };
    let length = 8 + 2 * significant.len();
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(&(significant.len() as u16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(scale as u16).to_be_bytes());
    for group in significant.iter().rev() {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the form back, written independently: digits of the whole part, digits of the fraction.
    fn decode(bytes: &[u8]) -> (bool, String, String, u16) {
        let at = |n: usize| i16::from_be_bytes([bytes[n], bytes[n + 1]]);
        assert_eq!(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize, bytes.len() - 4);
        let (count, weight, sign, scale) = (at(4), at(6), at(8), at(10));
        let digits: Vec<i16> = (0..count).map(|n| at(12 + 2 * n as usize)).collect();
        assert!(digits.iter().all(|digit| (0..10_000).contains(digit)));
        let group = |place: i16| {
            let index = weight - place;
            if (0..count).contains(&index) { digits[index as usize] } else { 0 }
        };
        let whole: String = (0..=40).rev().map(|place| format!("{:04}", group(place))).collect();
        let fraction: String = (1..=40).map(|place| format!("{:04}", group(-place))).collect();
        (sign as u16 == NEGATIVE, whole, fraction, scale as u16)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn every_value_is_read_back(digits in 0u32..=38, seed: i128, scale in -40i8..=80) {
            let value = if digits == 0 { 0 } else { seed % 10i128.pow(digits) };
            let mut out = Vec::new();
            encode(value, scale, &mut out);
            let (negative, whole, fraction, dscale) = decode(&out);
            let text = value.unsigned_abs().to_string();
            let expected = if scale >= 0 {
                let padded = format!("{text:0>200}");
                let (w, f) = padded.split_at(200 - scale as usize);
                (format!("{w:0>164}")[w.len().saturating_sub(164)..].to_owned(), format!("{f:0<160}"))
            } else {
                let whole = format!("{text}{}", "0".repeat(scale.unsigned_abs().into()));
                (format!("{whole:0>164}"), "0".repeat(160))
            };
            prop_assert_eq!((whole, fraction), expected);
            prop_assert_eq!(negative, value < 0);
            prop_assert_eq!(dscale, scale.max(0) as u16);
        }
    }
}
