//! The hosts that a manifest talks to, as patterns for the host's permissions.
//!
//! What cannot be seen in the manifest (an address that an answer gives) is told, and asked for in a block
//! `permissions: {hosts: […]}`.

use super::{
    finding::{Findings, Level},
    template_values::{Piece, Variant, variants},
    walk::{Visitor, walk},
};
use crate::{
    node::Node,
    value::{Map, Value},
};

/// Patterns and templates over the configuration, whose settings stand under `prefix`.
pub fn hosts(root: &Node<'_>, prefix: &str, findings: &mut Findings) -> Vec<String> {
    let declared = root.get("permissions").filter(|permissions| permissions.get("hosts").is_some());
    if let Some(permissions) = declared {
        return declared_hosts(&permissions, prefix, findings);
    }
    let mut seeker = Seeker { prefix, made: made_settings(root), hosts: Vec::new(), told: Vec::new(), findings };
    walk(root, &mut seeker);
    seeker.hosts
}

fn declared_hosts(permissions: &Node<'_>, prefix: &str, findings: &mut Findings) -> Vec<String> {
    let mut hosts = Vec::new();
    for node in permissions.items("hosts") {
        let text = node.value.as_str().unwrap_or_default();
        for variant in variants(text, &Value::Null) {
            match pattern(&host_pieces(&variant), prefix) {
                Some(host) if !hosts.contains(&host) => hosts.push(host),
                Some(_) => {}
                None => findings.error(&node, format!("`{text}` is no host; write one such as `api.example.com`")),
            }
        }
    }
    hosts
}

/// Settings that the manifest makes of others, with what they can become: the host knows only what was given.
type Made = Vec<(Vec<String>, Vec<Variant>)>;

fn made_settings(root: &Node<'_>) -> Made {
    let mut collector = Collector(Vec::new());
    walk(root, &mut collector);
    collector.0
}

struct Collector(Made);

impl Visitor for Collector {
    fn component(&mut self, node: &Node<'_>) {
        let path = |node: &Node<'_>, key| -> Vec<String> {
            node.items(key).iter().filter_map(|part| part.value.as_str()).map(str::to_owned).collect()
        };
        match node.kind() {
            "ConfigAddFields" => {
                for field in node.items("fields") {
                    let template = field.value.get("value").and_then(Value::as_str).unwrap_or_default();
                    self.0.push((path(&field, "path"), variants(template, &Value::Null)));
                }
            }
            "ConfigRemapField" => {
                let map = node.value.get("map").and_then(Value::as_map);
                let mapped = map.into_iter().flat_map(Map::values).filter_map(Value::as_str);
                let all = mapped.flat_map(|text| variants(text, &Value::Null)).collect();
                // Before it, the setting held what is mapped.
                let path = path(node, "field_path");
                self.0.retain(|(made, _)| *made != path);
                self.0.push((path, all));
            }
            _ => {}
        }
    }
}

struct Seeker<'a> {
    prefix: &'a str,
    made: Made,
    hosts: Vec<String>,
    /// Places that were told, by their template: a shared requester is told once.
    told: Vec<String>,
    findings: &'a mut Findings,
}

impl Visitor for Seeker<'_> {
    fn component(&mut self, node: &Node<'_>) {
        match node.kind() {
            "HttpRequester" => self.requester(node),
            "OAuthAuthenticator" => self.member(node, "token_refresh_endpoint"),
            "LegacySessionTokenAuthenticator" => {
                self.member(node, "login_url");
                self.member(node, "validate_session_url");
            }
            "QuotaStatusSource" => self.member(node, "url"),
            "RequestPath" => self.tell(
                Level::Note,
                node,
                "next pages are read from addresses that the source answers; where they are on another host, name it in \
                 `permissions: {hosts: […]}`",
            ),
            _ => {}
        }
    }
}

impl Seeker<'_> {
    fn requester(&mut self, node: &Node<'_>) {
        let text = |key| node.value.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let path = text("path").filter(|path| path.starts_with("http://") || path.starts_with("https://"));
        let base = ["url", "url_base"].into_iter().find(|key| text(key).is_some());
        match (path, base) {
            (Some(_), _) => self.member(node, "path"),
            (None, Some(key)) => self.member(node, key),
            (None, None) => self.member(node, "path"),
        }
    }

    fn member(&mut self, node: &Node<'_>, key: &str) {
        let Some(template) = node.get(key) else { return };
        let Some(text) = template.value.as_str() else { return };
        let parameters = node.value.get("$parameters").cloned().unwrap_or_default();
        let seen = variants(text.trim(), &parameters);
        let all: Vec<Variant> = seen.iter().flat_map(|variant| self.replaced(variant)).collect();
        for variant in all {
            let host = host_pieces(&variant);
            if host.is_empty() || relative(&variant) {
                continue;
            }
            match pattern(&host, self.prefix) {
                Some(host) if !self.hosts.contains(&host) => self.hosts.push(host),
                Some(_) => {}
                None => {
                    let message = format!(
                        "the host of `{}` is known only while reading; name it in `permissions: {{hosts: […]}}`",
                        shortened(text)
                    );
                    self.tell(Level::Warning, &template, &message);
                }
            }
        }
    }

    /// Variants with the settings that the manifest makes itself written out.
    fn replaced(&self, variant: &Variant) -> Vec<Variant> {
        let made = |piece: &Piece| match piece {
            Piece::Setting(path) => self.made.iter().find(|(known, _)| known == path).map(|(_, variants)| variants),
            _ => None,
        };
        // One is enough for every manifest that is known.
        let Some((at, variants)) = variant.iter().enumerate().find_map(|(at, piece)| Some((at, made(piece)?))) else {
            return vec![variant.clone()];
        };
        let with = |inside: &Variant| [&variant[..at], inside, &variant[at + 1..]].concat();
        variants.iter().map(with).collect()
    }

    fn tell(&mut self, level: Level, node: &Node<'_>, message: &str) {
        if !self.told.iter().any(|told| told == message) {
            self.told.push(message.to_owned());
            self.findings.add(level, &node.path, message);
        }
    }
}

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 80 { line } else { format!("{}…", line.chars().take(80).collect::<String>()) }
}

/// A path under another address, such as `session`.
fn relative(variant: &Variant) -> bool {
    matches!(variant.as_slice(), [Piece::Text(text)] if !text.contains("://") && !text.contains('.'))
}

/// A host as a pattern; `None` where it cannot be seen.
fn pattern(host: &[Piece], prefix: &str) -> Option<String> {
    let host = match host {
        [Piece::Setting(path)] => return template(path, prefix),
        // After a whole name, what an answer gives can only be the path.
        [name @ Piece::Text(text), Piece::Unknown, ..] if text.contains('.') && !text.ends_with(['.', '-']) => {
            std::slice::from_ref(name)
        }
        host => host,
    };
    let mut pattern = String::new();
    for piece in host {
        match piece {
            // Names of hosts have no case; names of settings do.
            Piece::Text(text) => pattern.push_str(&text.to_ascii_lowercase()),
            Piece::Setting(path) => pattern.push_str(&template(path, prefix)?),
            Piece::Unknown => return None,
        }
    }
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:*[]".contains(&byte));
    let texts = host.iter().all(|piece| match piece {
        Piece::Text(text) => plain(text),
        _ => true,
    });
    (texts && !pattern.is_empty()).then_some(pattern)
}

fn template(path: &[String], prefix: &str) -> Option<String> {
    let part = |part: &String| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !path.iter().all(part) {
        return None;
    }
    Some(format!("{{{{ {} }}}}", super::secrets::prefixed(prefix, &path.join("."))))
}

/// From after `://` up to the path.
fn host_pieces(variant: &Variant) -> Variant {
    let scheme = variant.iter().position(|piece| matches!(piece, Piece::Text(text) if text.contains("://")));
    let mut host = Vec::new();
    for (at, piece) in variant.iter().enumerate().skip(scheme.unwrap_or(0)) {
        let Piece::Text(text) = piece else {
            host.push(piece.clone());
            continue;
        };
        let text = match scheme {
            Some(start) if start == at => text.split_once("://").map_or(text.as_str(), |(_, rest)| rest),
            _ => text.as_str(),
        };
        let text = text.trim();
        // A setting that begins an address holds the whole of it, and ends with a slash where a name follows.
        let whole = scheme.is_none() && matches!(host.as_slice(), [Piece::Setting(_)]);
        if whole && !text.starts_with(['.', '-', ':']) {
            return host;
        }
        match text.find(['/', '?', '#']) {
            Some(end) => {
                push_text(&mut host, &text[..end]);
                return host;
            }
            None => push_text(&mut host, text),
        }
    }
    host
}

fn push_text(host: &mut Variant, text: &str) {
    if !text.is_empty() {
        host.push(Piece::Text(text.to_owned()));
    }
}
