//! What is to be said about a manifest: a list with a limit, so that one mistake in a shared part fills no screen.

use crate::{limits::MAX_FINDINGS, node::Node};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The manifest, or this part of it, cannot run.
    Error,
    /// It runs, but something will not be as in the reference, or may be refused on the way.
    Warning,
    Note,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// Inside the manifest; `manifest` for the whole.
    pub path: String,
    pub message: String,
}

/// Collects findings.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    more: usize,
}

impl Findings {
    pub fn error(&mut self, node: &Node<'_>, message: impl Into<String>) {
        self.add(Level::Error, &node.path, message);
    }

    pub fn warning(&mut self, node: &Node<'_>, message: impl Into<String>) {
        self.add(Level::Warning, &node.path, message);
    }

    pub fn note(&mut self, node: &Node<'_>, message: impl Into<String>) {
        self.add(Level::Note, &node.path, message);
    }

    pub fn add(&mut self, level: Level, path: &str, message: impl Into<String>) {
        if self.list.len() >= MAX_FINDINGS {
            self.more += 1;
            return;
        }
        let path = if path.is_empty() { "manifest" } else { path };
        self.list.push(Finding { level, path: path.to_owned(), message: message.into() });
    }

    pub fn into_list(mut self) -> Vec<Finding> {
        if self.more > 0 {
            let message = format!("{} more findings are left out", self.more);
            self.list.push(Finding { level: Level::Note, path: "manifest".into(), message });
        }
        self.list
    }
}
