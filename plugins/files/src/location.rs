//! URLs of files and globs over them.
//!
//! Owns the syntax of locations: what is literal, what matches. Pure; must never show the user, password or query
//! of a URL.

use url::Url;

use crate::limits::MAX_GLOB_ALTERNATIVES;

/// Where files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// One file over HTTP.
    Http(Url),
    /// Files below the folder `base`: those whose path matches.
    HttpGlob { base: Url, glob: Glob },
    /// One object.
    S3 { bucket: String, key: String },
    /// Objects of a bucket whose key matches.
    S3Glob { bucket: String, glob: Glob },
}

impl Location {
    /// Reads a URL or glob. The error says what is wrong, to stand after the setting's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("s3://") {
            return Self::parse_s3(rest);
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err("must start with http://, https:// or s3://".into());
        }
        let (path, query) = text.split_once('?').map_or((text, ""), |(path, query)| (path, query));
        let authority_end = path[8..].find('/').map_or(path.len(), |at| at + 8);
        let (authority, path) = path.split_at(authority_end);
        if !Glob::is_glob(path) {
            return Url::parse(text).map(Self::Http).map_err(|error| format!("is not a URL: {error}"));
        }
        if Glob::is_glob(authority) {
            return Err("may have globs in the path only".into());
        }
        if !query.is_empty() {
            return Err("may not have both a glob and a query".into());
        }
        let glob = Glob::parse(path)?;
        let base =
            Url::parse(&format!("{authority}{}", glob.folder())).map_err(|error| format!("is not a URL: {error}"))?;
        Ok(Self::HttpGlob { base, glob })
    }

    fn parse_s3(rest: &str) -> Result<Self, String> {
        let (bucket, key) = rest.split_once('/').ok_or("must be s3://bucket/key")?;
        let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
        if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(name) || key.is_empty() {
            return Err("must be s3://bucket/key with a bucket of lower case letters, digits, - and .".into());
        }
        let bucket = bucket.to_owned();
        if Glob::is_glob(key) {
            return Ok(Self::S3Glob { bucket, glob: Glob::parse(key)? });
        }
        Ok(Self::S3 { bucket, key: key.to_owned() })
    }
}

/// A URL as it may be shown: without user, password, query and fragment.
pub fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    let cut = shown.query().is_some();
    shown.set_query(None);
    shown.set_fragment(None);
    if cut { format!("{shown}?…") } else { shown.into() }
}

/// Text of a path with its percent escapes replaced; invalid UTF-8 by U+FFFD.
pub fn unescape(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        plain.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// A pattern over whole paths: `*` within a folder, `**` across folders, `[a-z]`, `[!a]`, `{a,b}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    alternatives: Vec<Vec<Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// Any characters but `/`.
    Star,
    /// Any characters.
    StarStar,
    /// `**/`: nothing, or folders.
    Folders,
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Whether a path has characters that match.
    pub fn is_glob(path: &str) -> bool {
        path.contains(['*', '[', '{'])
    }

    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut alternatives = vec![text.to_owned()];
        while let Some(at) = alternatives.iter().position(|text| text.contains('{')) {
            let braced = alternatives.swap_remove(at);
            let open = braced.find('{').expect("it was found above");
            let close = braced[open..].find('}').map(|close| open + close).ok_or("has a { without }")?;
            for choice in braced[open + 1..close].split(',') {
                alternatives.push(format!("{}{choice}{}", &braced[..open], &braced[close + 1..]));
            }
            if alternatives.len() > MAX_GLOB_ALTERNATIVES {
                return Err(format!("stands for more than {MAX_GLOB_ALTERNATIVES} alternatives"));
            }
        }
        let alternatives = alternatives.iter().map(|text| tokens(text)).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), alternatives })
    }

    /// What stands before the first character that matches.
    pub fn literal_prefix(&self) -> &str {
        &self.text[..self.text.find(['*', '[', '{']).unwrap_or(self.text.len())]
    }

    /// The literal prefix up to its last `/`, with it.
    pub fn folder(&self) -> &str {
        let prefix = self.literal_prefix();
        &prefix[..prefix.rfind('/').map_or(0, |at| at + 1)]
    }

    /// Whether files may lie in folders below [`Glob::folder`].
    pub fn deep(&self) -> bool {
        self.text.contains("**") || self.text[self.folder().len()..].contains('/')
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        self.alternatives.iter().any(|tokens| matches(tokens, &path))
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '*' if chars.get(at + 1) == Some(&'*') => {
                at += 2;
                let folder_starts = tokens.last().is_none_or(|token| *token == Token::Literal('/'));
                if folder_starts && chars.get(at) == Some(&'/') {
                    at += 1;
                    tokens.push(Token::Folders);
                } else {
                    tokens.push(Token::StarStar);
                }
            }
            '*' => {
                at += 1;
                tokens.push(Token::Star);
            }
            '[' => {
                let close = chars[at + 1..].iter().skip(1).position(|c| *c == ']').ok_or("has a [ without ]")?;
                let close = at + 2 + close;
                tokens.push(class(&chars[at + 1..close]));
                at = close + 1;
            }
            literal => {
                at += 1;
                tokens.push(Token::Literal(literal));
            }
        }
    }
    Ok(tokens)
}

fn class(inside: &[char]) -> Token {
    let (not, inside) = match inside {
        ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
        inside => (false, inside),
    };
    let (mut ranges, mut at) = (Vec::new(), 0);
    while at < inside.len() {
        if let Some([from, '-', to]) = inside.get(at..at + 3) {
            ranges.push((*from, *to));
            at += 3;
        } else {
            ranges.push((inside[at], inside[at]));
            at += 1;
        }
    }
    Token::Class { not, ranges }
}

/// Matches in time proportional to pattern × path: one row of reachable positions per token.
fn matches(tokens: &[Token], path: &[char]) -> bool {
    let mut reachable = vec![false; path.len() + 1];
    reachable[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        let mut open = false;
        for at in 0..=path.len() {
            let before = at.checked_sub(1).map(|i| path[i]);
            next[at] = match token {
                Token::Literal(c) => before == Some(*c) && reachable[at - 1],
                Token::Class { not, ranges } => {
                    before.is_some_and(|b| b != '/' && ranges.iter().any(|(l, h)| (*l..=*h).contains(&b)) != *not)
                        && reachable[at - 1]
                }
                Token::Star => {
                    open = reachable[at] || (open && before != Some('/'));
                    open
                }
                Token::StarStar => {
                    open |= reachable[at];
                    open
                }
                Token::Folders => {
                    let here = reachable[at] || (open && before == Some('/'));
                    open |= reachable[at];
                    here
                }
            };
        }
        reachable = next;
    }
    reachable[path.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn globs_match_as_shells_do() {
        let table = [
            ("/a/*.csv", "/a/b.csv", true),
            ("/a/*.csv", "/a/b/c.csv", false),
            ("/a/**/*.csv", "/a/b.csv", true),
            ("/a/**/*.csv", "/a/b/c/d.csv", true),
            ("/a/**/*.csv", "/ab/d.csv", false),
            ("/a/**", "/a/b/c", true),
            ("/a/x**y", "/a/x/b/y", true),
            ("/a/[0-9][!x].csv", "/a/5y.csv", true),
            ("/a/[0-9][!x].csv", "/a/5x.csv", false),
            ("/a/{b,c}/{1,2}.csv", "/a/c/2.csv", true),
            ("/a/{b,c}/{1,2}.csv", "/a/d/2.csv", false),
            ("/a/*", "/a/", true),
            ("/2024-*/part-*.parquet", "/2024-01/part-7.parquet", true),
        ];
        for (glob, path, expected) in table {
            assert_eq!(Glob::parse(glob).unwrap().matches(path), expected, "{glob} on {path}");
        }
        let evil = Glob::parse(&format!("/{}b", "*a".repeat(50))).unwrap();
        assert!(!evil.matches(&format!("/{}", "a".repeat(5_000))), "must not take exponential time");
    }

    #[test]
    fn locations_know_their_literal_part() {
        let Location::HttpGlob { base, glob } = Location::parse("https://h:8/a%20b/c/f-*.csv").unwrap() else {
            panic!()
        };
        assert_eq!(base.as_str(), "https://h:8/a%20b/c/");
        assert!(!glob.deep());
        let Location::S3Glob { bucket, glob } = Location::parse("s3://b-1/pre/**/x*.gz").unwrap() else { panic!() };
        assert_eq!((bucket.as_str(), glob.literal_prefix()), ("b-1", "pre/"));
        assert!(glob.deep());
        assert!(matches!(Location::parse("http://h/a?x=*").unwrap(), Location::Http(_)));
        assert!(
            Location::parse("http://h*/a").is_err() || matches!(Location::parse("http://h*/a"), Ok(Location::Http(_)))
        );
        for bad in
            ["ftp://h/a", "a.csv", "s3://b", "s3:///k", "s3://B/k", "http://h/{a", "http://h/[a", "http://h/*?x=1"]
        {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn alternatives_are_limited() {
        let many = "{a,b}".repeat(11);
        assert!(Glob::parse(&many).unwrap_err().contains("1000"));
        assert_eq!(Glob::parse("{a,b}{c,d}").unwrap().alternatives.len(), 4);
    }

    #[test]
    fn shown_urls_hold_no_secret() {
        let url = Url::parse("https://user:pass@h/a.csv?sig=secret#f").unwrap();
        assert_eq!(shown(&url), "https://h/a.csv?…");
        assert_eq!(unescape("a%20b%zz%C3%A9"), "a b%zzé");
    }
}
