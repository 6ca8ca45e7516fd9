//! Makes identifiers. The only place of the crate that draws randomness.

use thimble_record::RunId;

use crate::StoreError;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A run id in the form of a ULID: 10 characters of `now_ms` (48 bits), 16 of randomness (80 bits), so that ids sort
/// by creation.
pub fn run_id(now_ms: i64, random: [u8; 10]) -> RunId {
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&random);
    let mut bits = u128::from_be_bytes(bytes);
    let mut text = [0u8; 26];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    RunId(text.iter().map(|byte| char::from(*byte)).collect())
}

/// A new run id.
pub(crate) fn new_run_id(now_ms: i64) -> Result<RunId, StoreError> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random)
        .map_err(|error| StoreError::Unavailable(sqlx::Error::Io(std::io::Error::other(error.to_string()))))?;
    Ok(run_id(now_ms, random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_26_characters_and_sort_by_time() {
        let early = run_id(1_700_000_000_000, [0xff; 10]);
        let late = run_id(1_700_000_000_001, [0; 10]);
        assert_eq!(early.0.len(), 26);
        assert!(early < late);
        assert_ne!(run_id(1, [0; 10]), run_id(1, [1; 10]));
    }
}
