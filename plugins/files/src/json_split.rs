//! Splits JSON documents into records without parsing them.
//!
//! Owns the walk to the records (along a path of keys), and where each record starts and ends. A record is only
//! delimited here: whether it is valid is for [`crate::json_lines::judge`]. Pure: takes windows of bytes, keeps no
//! copy, and works through each byte once however the windows fall.

use memchr::memchr2;

use crate::limits::{MAX_JSON_KEY, MAX_RECORD_BYTES};

/// Where a value ends: a small machine over brackets and strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueScan {
    /// Bytes looked at, from the value's first.
    pub seen: usize,
    depth: usize,
    deepest: usize,
    in_string: bool,
    /// A number or a word, which ends where something else starts.
    bare: bool,
}

impl ValueScan {
    /// Goes on over `value`, which starts at the value's first byte and has grown. Where the value ends, or `None`
    /// where more is needed. `last`: nothing follows.
    pub fn end(&mut self, value: &[u8], last: bool) -> Option<usize> {
        while self.seen < value.len() {
            if self.in_string {
                self.string(value);
                if self.in_string {
                    return None;
                }
            } else if self.bare {
                let rest = &value[self.seen..];
                let end = rest.iter().position(|b| matches!(b, b',' | b']' | b'}' | b':') || b.is_ascii_whitespace());
                self.seen += end.unwrap_or(rest.len());
                return end.map(|_| self.seen).or(last.then_some(self.seen));
            } else {
                self.structure(value);
            }
            if self.depth == 0 && !self.in_string && !self.bare {
                return Some(self.seen);
            }
        }
        (last && self.bare).then_some(self.seen)
    }

    /// Outside strings: to the next quote, or the end of the value.
    fn structure(&mut self, value: &[u8]) {
        while self.seen < value.len() {
            let byte = value[self.seen];
            self.seen += 1;
            match byte {
                b'"' => {
                    self.in_string = true;
                    return;
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    self.deepest = self.deepest.max(self.depth);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return;
                    }
                }
                _ if self.depth == 0 => {
                    self.bare = true;
                    return;
                }
                _ => {}
            }
        }
    }

    /// Inside a string: behind its closing quote, or to the end of what is there.
    fn string(&mut self, value: &[u8]) {
        while let Some(at) = memchr2(b'"', b'\\', &value[self.seen..]) {
            let at = self.seen + at;
            if value[at] == b'"' {
                self.seen = at + 1;
                self.in_string = false;
                return;
            }
            if at + 1 == value.len() {
                // The escaped byte is still to come.
                self.seen = at;
                return;
            }
            self.seen = at + 2;
        }
        self.seen = value.len();
    }

    /// How deep a whole value is nested.
    pub fn depth_of(value: &[u8]) -> usize {
        let mut scan = Self::default();
        scan.end(value, true);
        scan.deepest
    }
}

/// What a step came to. Positions are within the data of the call.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A record. The next call starts at `end`.
    Record { start: usize, end: usize },
    /// A record at `start` is over the limit. The next call starts at `next`; the calls to come walk over the rest
    /// of it, up to [`Step::Dropped`].
    Oversized { start: usize, next: usize },
    /// The record that was over the limit ends. The next call starts at `end`.
    Dropped { end: usize },
    /// All before `keep` was dealt with; call again with more data from there.
    More { keep: usize },
    /// The records are over; the rest of the document is of no interest.
    End,
}

/// The document is not laid out as expected, at `at` of the data.
#[derive(Debug, PartialEq, Eq)]
pub struct Misfit {
    pub at: usize,
    pub what: String,
    /// The path to the records is wrong, rather than the document.
    pub path: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the document.
    Start,
    /// In the object at this level of the path: before a key or its end. `first`: before its first key.
    Key { level: usize, first: bool },
    /// Inside a value that is of no interest, of the object at this level.
    Pass { level: usize },
    /// Behind such a value.
    Passed { level: usize },
    /// In the array: before a record or the end. `first`: before its first record.
    Element { first: bool },
    /// In the array: behind a record.
    AfterElement,
    /// Between records that stand one after the other.
    Between,
    /// Behind the root array.
    Tail,
}

/// What became of a value.
enum Passage {
    Say(Step),
    GoOn(usize),
}

/// Walks through one document.
#[derive(Debug)]
pub struct Splitter {
    path: Vec<String>,
    stage: Stage,
    /// The value under way, which starts at the first byte of the data; with it the mode.
    scan: Option<ValueScan>,
    /// The record under way is over the limit and is walked over.
    dropping: bool,
    /// The records are elements of an array.
    array: bool,
}

impl Splitter {
    /// At the start of a document. `path`: the keys to the array of records; empty: the root.
    pub fn new(path: Vec<String>) -> Self {
        Self { path, stage: Stage::Start, scan: None, dropping: false, array: false }
    }

    /// Behind a record.
    pub fn resume(path: Vec<String>, in_array: bool) -> Self {
        let stage = if in_array { Stage::AfterElement } else { Stage::Between };
        Self { path, stage, scan: None, dropping: false, array: in_array }
    }

    /// Whether the records are elements of an array; said once the first was found.
    pub fn in_array(&self) -> bool {
        self.array
    }

    /// Finds what comes next in `data`. `last`: nothing follows it.
    pub fn step(&mut self, data: &[u8], last: bool) -> Result<Step, Misfit> {
        let mut at = 0;
        loop {
            if self.scan.is_some() {
                match self.value(data, at, last)? {
                    Passage::Say(step) => return Ok(step),
                    Passage::GoOn(end) => at = end,
                }
            }
            at += data[at..].iter().take_while(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t')).count();
            let Some(byte) = data.get(at).copied() else { return self.ran_out(at, last) };
            match self.stage {
                Stage::Start => at = self.start(at, byte)?,
                Stage::Key { level, first } => match self.key(data, at, level, first, last)? {
                    Some(next) => at = next,
                    None => return Ok(Step::More { keep: at }),
                },
                Stage::Pass { .. } => self.scan = Some(ValueScan::default()),
                Stage::Passed { level } => match byte {
                    b',' => (self.stage, at) = (Stage::Key { level, first: false }, at + 1),
                    b'}' => return Err(self.missing(at, level)),
                    _ => return Err(misfit(at, "a comma or } is missing behind a value")),
                },
                Stage::Element { first } => match byte {
                    b']' if first => at = self.close(at),
                    b']' | b',' => return Err(misfit(at, "a record is missing behind a comma")),
                    b'}' => return Err(misfit(at, "a record starts with }")),
                    _ => self.scan = Some(ValueScan::default()),
                },
                Stage::AfterElement => match byte {
                    b',' => (self.stage, at) = (Stage::Element { first: false }, at + 1),
                    b']' => at = self.close(at),
                    _ => return Err(misfit(at, "a comma or ] is missing behind a record")),
                },
                Stage::Between if matches!(byte, b'}' | b']' | b',' | b':') => {
                    return Err(misfit(at, "a record is missing before a bracket or comma"));
                }
                Stage::Between => self.scan = Some(ValueScan::default()),
                Stage::Tail if self.path.is_empty() => return Err(misfit(at, "text follows the array of records")),
                Stage::Tail => return Ok(Step::End),
            }
        }
    }

    /// Goes on with the value at `at`: where it ends, or what to say to the caller.
    fn value(&mut self, data: &[u8], at: usize, last: bool) -> Result<Passage, Misfit> {
        let pass = matches!(self.stage, Stage::Pass { .. });
        let scan = self.scan.get_or_insert_default();
        let Some(length) = scan.end(&data[at..], last) else {
            if last {
                return Err(misfit(data.len(), "the document ends inside a value"));
            }
            if pass || self.dropping {
                return Ok(Passage::Say(Step::More { keep: self.forget(at) }));
            }
            if data.len() - at <= MAX_RECORD_BYTES {
                return Ok(Passage::Say(Step::More { keep: at }));
            }
            self.dropping = true;
            let next = self.forget(at);
            return Ok(Passage::Say(Step::Oversized { start: at, next }));
        };
        self.scan = None;
        let end = at + length;
        self.stage = match self.stage {
            Stage::Pass { level } => Stage::Passed { level },
            Stage::Element { .. } => Stage::AfterElement,
            other => other,
        };
        Ok(match (pass, std::mem::take(&mut self.dropping)) {
            (true, _) => Passage::GoOn(end),
            (_, true) => Passage::Say(Step::Dropped { end }),
            (_, false) => Passage::Say(Step::Record { start: at, end }),
        })
    }

    /// What was looked at of the value under way need not be seen again. Returns where to go on.
    fn forget(&mut self, at: usize) -> usize {
        self.scan.as_mut().map_or(at, |scan| at + std::mem::take(&mut scan.seen))
    }

    fn ran_out(&self, at: usize, last: bool) -> Result<Step, Misfit> {
        match self.stage {
            _ if !last => Ok(Step::More { keep: at }),
            Stage::Start | Stage::Between | Stage::Tail => Ok(Step::End),
            _ => Err(misfit(at, "the document ends before its last bracket")),
        }
    }

    fn start(&mut self, at: usize, byte: u8) -> Result<usize, Misfit> {
        match (byte, self.path.is_empty()) {
            (b'[', true) => self.open(),
            (b'{', true) => {
                self.stage = Stage::Between;
                return Ok(at);
            }
            (b'{', false) => self.stage = Stage::Key { level: 0, first: true },
            (_, true) => return Err(misfit(at, "the document is neither an array nor an object")),
            (_, false) => return Err(self.missing(at, 0)),
        }
        Ok(at + 1)
    }

    /// A key with its colon, or the end of the object. `None`: more data is needed.
    fn key(&mut self, data: &[u8], at: usize, level: usize, first: bool, last: bool) -> Result<Option<usize>, Misfit> {
        match data[at] {
            b'"' => {}
            b'}' if first => return Err(self.missing(at, level)),
            _ => return Err(misfit(at, "a key is missing")),
        }
        let key_end = ValueScan::default().end(&data[at..], false).map(|end| at + end);
        let colon = key_end.and_then(|end| {
            let blank = data[end..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            data.get(end + blank).map(|byte| (end, end + blank, *byte))
        });
        let Some((end, colon, byte)) = colon else {
            return match data.len() - at {
                _ if last => Err(misfit(at, "the document ends inside a key")),
                held if held > MAX_JSON_KEY => Err(misfit(at, "a key is longer than 64 KiB")),
                _ => Ok(None),
            };
        };
        if byte != b':' {
            return Err(misfit(colon, "a colon is missing behind a key"));
        }
        // The kind of value decides whether the path goes on, so it has to be there.
        let value = colon + 1 + data[colon + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        let Some(first_byte) = data.get(value).copied() else {
            return if last { Err(misfit(value, "a value is missing behind a key")) } else { Ok(None) };
        };
        let key: String = serde_json::from_slice(&data[at..end]).map_err(|_| misfit(at, "a key is not valid JSON"))?;
        if key != self.path[level] {
            self.stage = Stage::Pass { level };
            return Ok(Some(value));
        }
        let leaf = level + 1 == self.path.len();
        match first_byte {
            b'[' if leaf => self.open(),
            b'{' if !leaf => self.stage = Stage::Key { level: level + 1, first: true },
            _ => {
                let (wanted, path) = (if leaf { "an array" } else { "an object" }, self.path[..=level].join("."));
                return Err(Misfit { at: value, what: format!("\"{path}\" is not {wanted}"), path: true });
            }
        }
        Ok(Some(value + 1))
    }

    fn open(&mut self) {
        self.array = true;
        self.stage = Stage::Element { first: true };
    }

    fn close(&mut self, at: usize) -> usize {
        self.stage = Stage::Tail;
        at + 1
    }

    fn missing(&self, at: usize, level: usize) -> Misfit {
        Misfit { at, what: format!("it has no \"{}\"", self.path[..=level].join(".")), path: true }
    }
}

fn misfit(at: usize, what: &str) -> Misfit {
    Misfit { at, what: what.into(), path: false }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::{Value, value::RawValue};

    use super::*;

    /// Splits a document that arrives in pieces; also says how the document ended.
    fn split(document: &[u8], path: &[&str], piece: usize) -> Result<Vec<String>, Misfit> {
        let mut splitter = Splitter::new(path.iter().map(|key| (*key).to_owned()).collect());
        let (mut records, mut from, mut to) = (Vec::new(), 0, piece.min(document.len()));
        loop {
            let last = to == document.len();
            match splitter.step(&document[from..to], last)? {
                Step::Record { start, end } => {
                    records.push(String::from_utf8(document[from + start..from + end].to_vec()).unwrap());
                    from += end;
                }
                Step::Oversized { next, .. } => from += next,
                Step::Dropped { end } => {
                    records.push("oversized".into());
                    from += end;
                }
                Step::More { keep } => {
                    assert!(!last, "asked for more at the end");
                    from += keep;
                    to = (to + piece).min(document.len());
                }
                Step::End => return Ok(records),
            }
        }
    }

    fn reference(document: &[u8]) -> Vec<String> {
        let records: Vec<&RawValue> = serde_json::from_slice(document).unwrap();
        records.iter().map(|record| record.get().to_owned()).collect()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = proptest::string::string_regex("[a-z\"\\\\\\[\\]{},: \\n\u{e9}\u{1f600}]{0,8}").unwrap().boxed();
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map(text.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]

        #[test]
        fn splits_as_serde_json_does(records in proptest::collection::vec(any_value(), 0..8), piece in 1usize..40, pretty: bool) {
            let document = if pretty { serde_json::to_vec_pretty(&records) } else { serde_json::to_vec(&records) }.unwrap();
            prop_assert_eq!(split(&document, &[], piece).unwrap(), reference(&document));
        }

        #[test]
        fn finds_the_array_along_a_path(
            records in proptest::collection::vec(any_value(), 0..6), other in any_value(), piece in 1usize..40,
        ) {
            let document = serde_json::json!({"aa": other, "data": {"aa": other, "it\"ems": records, "z": other}, "z": other});
            let document = serde_json::to_vec_pretty(&document).unwrap();
            let expected = reference(&serde_json::to_vec(&records).unwrap());
            let found = split(&document, &["data", "it\"ems"], piece).unwrap();
            let found: Vec<Value> = found.iter().map(|record| serde_json::from_str(record).unwrap()).collect();
            let expected: Vec<Value> = expected.iter().map(|record| serde_json::from_str(record).unwrap()).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn objects_may_stand_one_after_the_other(
            records in proptest::collection::vec(proptest::collection::hash_map("[a-z]{0,3}", any_value(), 0..3), 1..6), piece in 1usize..40,
        ) {
            let lines: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
            prop_assert_eq!(split(lines.join("\n").as_bytes(), &[], piece).unwrap(), lines.clone());
            prop_assert_eq!(split(lines.concat().as_bytes(), &[], piece).unwrap(), lines);
        }

        #[test]
        fn whatever_comes_in_ends(document in proptest::collection::vec(proptest::sample::select(b"[]{},:\"\\ a1".to_vec()), 0..60), piece in 1usize..70) {
            let _ = split(&document, &[], piece);
            let _ = split(&document, &["a", "1"], piece);
        }

        #[test]
        fn a_valid_array_that_is_cut_is_an_error(records in proptest::collection::vec(any_value(), 1..5), cut in 1usize..400, piece in 1usize..40) {
            let document = serde_json::to_vec(&records).unwrap();
            if cut < document.len() {
                prop_assert!(split(&document[..cut], &[], piece).is_err());
            }
        }
    }

    #[test]
    fn says_what_is_missing() {
        let error = |document: &str, path: &[&str]| split(document.as_bytes(), path, 7).unwrap_err();
        assert_eq!(error("{\"a\": 1}", &["data"]).what, "it has no \"data\"");
        assert_eq!(error("{\"data\": {\"x\": []}}", &["data", "items"]).what, "it has no \"data.items\"");
        assert_eq!(error("{\"data\": 3}", &["data"]).what, "\"data\" is not an array");
        assert!(error("{\"data\": 3}", &["data"]).path);
        assert_eq!(error("[{}] x", &[]).what, "text follows the array of records");
        assert_eq!(error("[{} {}]", &[]).what, "a comma or ] is missing behind a record");
        assert_eq!(error("\"text\"", &[]).what, "the document is neither an array nor an object");
        assert!(split(b"", &[], 7).unwrap().is_empty());
        assert!(split(b" [ ] ", &[], 1).unwrap().is_empty());
    }

    #[test]
    fn a_key_over_the_limit_is_an_error() {
        let document = format!("{{\"{}\": 1}}", "k".repeat(2 * MAX_JSON_KEY));
        assert!(split(document.as_bytes(), &["data"], 1000).unwrap_err().what.contains("64 KiB"));
    }

    #[test]
    fn records_over_the_limit_are_walked_over() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(2 * MAX_RECORD_BYTES));
        let document = format!("[{{\"b\":1}},{large},{{\"c\":2}}]");
        for piece in [100_000, 1_000_000] {
            assert_eq!(split(document.as_bytes(), &[], piece).unwrap(), ["{\"b\":1}", "oversized", "{\"c\":2}"]);
        }
    }
}
