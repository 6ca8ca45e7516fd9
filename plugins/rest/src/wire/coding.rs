//! Content codings of answers.

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

use crate::{
    error::{RestError, Result},
    limits::MAX_ANSWER_BYTES,
    wire::Answer,
};

/// Undoes `content-encoding`.
///
/// # Errors
/// Kind system where the body is not what the header says; refused where it grows over [`MAX_ANSWER_BYTES`].
pub fn undo(answer: &mut Answer) -> Result<()> {
    let Some(coding) = answer.header("content-encoding").map(str::to_ascii_lowercase) else { return Ok(()) };
    for coding in coding.split(',').rev().map(str::trim) {
        let body = answer.body.clone();
        let undone = match coding {
            "gzip" | "x-gzip" => unpacked(GzDecoder::new(body.as_ref())),
            // Some servers send the bare stream.
            "deflate" => unpacked(ZlibDecoder::new(body.as_ref())).or_else(|error| match error.kind {
                crate::error::Kind::Refused => Err(error),
                _ => unpacked(DeflateDecoder::new(body.as_ref())),
            }),
            "" | "identity" => continue,
            other => Err(RestError::system(format!("the answer is coded as `{other}`, which was not asked for"))),
        };
        answer.body = undone?.into();
    }
    answer.headers.retain(|(name, _)| name != "content-encoding" && name != "content-length");
    Ok(())
}

fn unpacked(reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut bytes);
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        return Err(RestError::refused(format!(
            "the answer unpacks to more than {MAX_ANSWER_BYTES} bytes: ask for smaller pages"
        )));
    }
    read.map_err(|error| RestError::system(format!("the answer's content coding is broken: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::error::Kind;

    fn coded(coding: &str, body: Vec<u8>) -> Answer {
        let headers = vec![("content-encoding".to_owned(), coding.to_owned())];
        Answer { status: 200, headers, body: body.into(), url: String::new() }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn codings_are_undone() {
        let mut answer = coded("gzip", gzip(b"{}"));
        undo(&mut answer).unwrap();
        assert_eq!((&answer.body[..], answer.headers.len()), (&b"{}"[..], 0));
        assert_eq!(undo(&mut coded("gzip", b"{}".to_vec())).unwrap_err().kind, Kind::System);
        assert!(undo(&mut coded("br", b"{}".to_vec())).unwrap_err().message.contains("`br`"));
    }

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0; usize::try_from(MAX_ANSWER_BYTES).unwrap() + 1];
        assert_eq!(undo(&mut coded("gzip", gzip(&zeros))).unwrap_err().kind, Kind::Refused);
    }
}
