//! The one-way order of the crates, as a table, checked against what cargo says. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Which of our crates each may name in its dependencies. Tests and build dependencies do not count.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("record", &[]),
    ("engine", &["record"]),
    ("plugin", &["record"]),
    ("stage", &["record"]),
    ("load", &["record"]),
    ("store", &["record"]),
    ("registry", &["record"]),
    ("pipeline", &["record", "engine", "plugin", "stage", "load", "store"]),
    ("control", &["record", "engine", "store", "registry"]),
    ("server", &["record", "engine", "plugin", "stage", "load", "store", "registry", "pipeline", "control", "xtask"]),
    ("xtask", &[]),
    ("sdk", &[]),
    ("testkit", &["record", "plugin", "sdk"]),
    ("bench", &["record", "engine", "plugin", "stage", "load", "store", "registry", "pipeline", "control", "server"]),
];
/// Crates that must not come near another, however long the way.
const MUST_NOT_REACH: [(&str, &str); 4] =
    [("control", "wasmtime"), ("record", "tokio"), ("engine", "tokio"), ("registry", "wasmtime")];

/// Every violation, as one sentence each. `metadata` as `cargo metadata --format-version 1` prints it.
pub fn violations(metadata: &Value) -> Vec<String> {
    let graph = Graph::read(metadata);
    let mut found = Vec::new();
    for (id, name) in &graph.members {
        let Some(allowed) = allowed(name) else {
            if !name.starts_with("thimble-plugin-") && name != "thimble-tests" {
                found.push(format!("{name} has no place in the order of crates: add it to the table in order.rs"));
            }
            continue;
        };
        for used in graph.uses(id).filter(|used| used.starts_with("thimble-")) {
            if !allowed.contains(&used.trim_start_matches("thimble-")) {
                found.push(format!("{name} must not depend on {used}: data and calls go one way only"));
            }
        }
        for (_, far) in MUST_NOT_REACH.iter().filter(|(from, _)| format!("thimble-{from}") == *name) {
            if let Some(way) = graph.way(id, far) {
                found.push(format!("{name} must not reach {far}: {}", way.join(" -> ")));
            }
        }
    }
    for (id, name) in graph.members.iter().filter(|(_, name)| name.starts_with("thimble-plugin-")) {
        for used in graph.uses(id).filter(|used| used.starts_with("thimble-") && *used != "thimble-sdk") {
            found.push(format!("{name} must not depend on {used}: a connector knows the SDK only"));
        }
    }
    found
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    let short = name.strip_prefix("thimble-")?;
    MAY_USE.iter().find(|(known, _)| *known == short).map(|(_, allowed)| *allowed)
}

struct Graph {
    /// Package id to name.
    members: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
    /// Package id to the ids that it depends on, tests and build scripts left out.
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names: BTreeMap<_, _> =
            list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let members = list(&metadata["workspace_members"])
            .iter()
            .map(|id| (text(id), names.get(&text(id)).cloned().unwrap_or_default()))
            .collect();
        let normal = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let edges = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let deps = list(&node["deps"]).iter().filter(|dep| normal(dep)).map(|dep| text(&dep["pkg"])).collect();
                (text(&node["id"]), deps)
            })
            .collect();
        Self { members, names, edges }
    }

    fn name(&self, id: &str) -> &str {
        self.names.get(id).map_or("", String::as_str)
    }

    fn uses(&self, id: &str) -> impl Iterator<Item = &str> {
        self.edges.get(id).into_iter().flatten().map(|used| self.name(used))
    }

    /// The shortest chain of names to a package, if there is one.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut seen = BTreeSet::from([from]);
        let mut chains = std::collections::VecDeque::from([vec![from]]);
        while let Some(chain) = chains.pop_front() {
            let last = chain.last()?;
            if self.name(last) == to {
                return Some(chain.iter().map(|id| self.name(id).to_owned()).collect());
            }
            for next in self.edges.get(*last).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    chains.push_back(chain.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each crate with what it uses; a name with `~` in front is for tests only.
    fn metadata(crates: &[(&str, &[&str])]) -> Value {
        let node = |(name, uses): &(&str, &[&str])| {
            let deps: Vec<_> = uses
                .iter()
                .map(|used| {
                    let kind = if used.starts_with('~') { json!("dev") } else { Value::Null };
                    json!({"pkg": used.trim_start_matches('~'), "dep_kinds": [{"kind": kind}]})
                })
                .collect();
            json!({"id": name, "deps": deps})
        };
        let ours = crates.iter().filter(|(name, _)| name.starts_with("thimble-")).map(|(name, _)| name);
        json!({
            "packages": crates.iter().map(|(name, _)| json!({"id": name, "name": name})).collect::<Vec<_>>(),
            "workspace_members": ours.collect::<Vec<_>>(),
            "resolve": {"nodes": crates.iter().map(node).collect::<Vec<_>>()},
        })
    }

    #[test]
    fn the_order_of_the_design_is_fine() {
        let good = metadata(&[
            ("thimble-record", &["serde"]),
            ("thimble-store", &["thimble-record", "~thimble-load"]),
            ("thimble-load", &["thimble-record"]),
            ("thimble-pipeline", &["thimble-store", "thimble-load"]),
            ("thimble-plugin-files", &["thimble-sdk"]),
            ("thimble-sdk", &[]),
            ("thimble-tests", &["thimble-pipeline"]),
            ("serde", &[]),
        ]);
        assert_eq!(violations(&good), Vec::<String>::new());
    }

    #[test]
    fn every_wrong_arrow_is_named() {
        let bad = metadata(&[
            ("thimble-record", &["thimble-store"]),
            ("thimble-store", &["thimble-load"]),
            ("thimble-load", &[]),
            ("thimble-control", &["axum"]),
            ("axum", &["hidden"]),
            ("hidden", &["wasmtime"]),
            ("wasmtime", &[]),
            ("thimble-plugin-files", &["thimble-record"]),
            ("thimble-misc", &[]),
        ]);
        assert_eq!(
            violations(&bad),
            [
                "thimble-control must not reach wasmtime: thimble-control -> axum -> hidden -> wasmtime",
                "thimble-misc has no place in the order of crates: add it to the table in order.rs",
                "thimble-record must not depend on thimble-store: data and calls go one way only",
                "thimble-store must not depend on thimble-load: data and calls go one way only",
                "thimble-plugin-files must not depend on thimble-record: a connector knows the SDK only",
            ]
        );
    }
}
