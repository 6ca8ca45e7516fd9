//! The preset: data that somebody packed with the component after it was built.

use std::{io::Read, sync::OnceLock};

/// What the component carries in its section `thimble:preset`, such as a manifest that it runs; `None` where it carries
/// none. The host gives the same bytes to every instance, in `spec` too, as standard input; a connector that asks here
/// must not read standard input itself.
pub fn preset() -> Option<Vec<u8>> {
    static PRESET: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    // Standard input can be read once.
    PRESET.get_or_init(|| read(std::io::stdin().lock())).clone()
}

fn read(mut input: impl Read) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    input.read_to_end(&mut data).ok()?;
    if data.is_empty() { None } else { Some(data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_is_no_preset() {
        assert_eq!(read(&b""[..]), None);
        assert_eq!(read(&b"streams: []"[..]), Some(b"streams: []".to_vec()));
    }
}
