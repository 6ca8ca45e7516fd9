//! Tells components from other files by their first bytes, so that an upload is refused at once.
//!
//! Everything else about a component is judged by the install run, in a process that may die of it.

/// Bytes that [`refusal`] looks at.
pub(crate) const PREAMBLE: usize = 8;

/// Whether a file that begins with these bytes may be a manifest.
pub(crate) fn may_be_text(start: &[u8]) -> bool {
    !start.is_empty() && start.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || b"\t\r\n".contains(byte))
}

/// Why a file that begins with these bytes cannot be a component; `None` where it may be one.
pub(crate) fn refusal(start: &[u8]) -> Option<&'static str> {
    match start {
        // Magic, then version and layer as in the binary format of the component model.
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => None,
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Some("the file is a core WebAssembly module: build the plugin as a component")
        }
        [0, b'a', b's', b'm', ..] => Some("the file is WebAssembly of an unknown version"),
        [0x7f, b'E', b'L', b'F', ..] => {
            Some("the file is native or precompiled code, which is never loaded: upload the component")
        }
        [] => Some("the body is empty: send the component's bytes"),
        _ => Some("the file is neither WebAssembly nor a declarative manifest: send the component's bytes as the body"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_components_pass() {
        assert_eq!(refusal(b"\0asm\x0d\0\x01\0rest"), None);
        for other in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", b"\0asm\x02\0\0\0", b"\x7fELF....", b"hello, world"] {
            assert!(refusal(other).is_some(), "{other:?}");
            assert_eq!(may_be_text(other), other.starts_with(b"hello"), "{other:?}");
        }
    }
}
