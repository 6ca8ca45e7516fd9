//! Answers of a connector, checked against the limits and the contract of the WIT.
//!
//! Must never cut or repair an answer: what is wrong is refused with the name of the limit or of the rule.

use std::collections::HashSet;

use thimble_record::{Catalog, DataType, Field, Stream, StreamSchema};

use super::{convert, types as wit};
use crate::{
    connector::{Partition, Permissions, Plan, Spec},
    error::{Call, PluginError},
    limits::Limits,
};

/// Names of plugins end up in paths and commands.
const MAX_PLUGIN_NAME: usize = 64;
/// Version and title of a spec.
const MAX_VERSION: usize = 64;
/// Most digits that a decimal column holds.
const MAX_PRECISION: u8 = 38;

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Limit { what: String, found: u64, limit: &'static str, allowed: u64 },
    Rule(String),
}

impl Wrong {
    pub(super) fn of(self, plugin: String, call: Call) -> PluginError {
        match self {
            Self::Limit { what, found, limit, allowed } => {
                PluginError::Limit { plugin, call, what, found, limit, allowed }
            }
            Self::Rule(reason) => PluginError::Answer { plugin, call, reason },
        }
    }
}

fn within(what: impl FnOnce() -> String, found: usize, limit: &'static str, allowed: usize) -> Result<(), Wrong> {
    if found <= allowed {
        return Ok(());
    }
    Err(Wrong::Limit { what: what(), found: found as u64, limit, allowed: allowed as u64 })
}

fn rule(holds: bool, reason: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong::Rule(reason())) }
}

/// A name as a message may show it.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(64).collect::<String>())
}

pub(super) fn spec(spec: wit::Spec, limits: &Limits) -> Result<Spec, Wrong> {
    let wit::Spec { name, version, title, docs, config_schema, permissions } = spec;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    rule(!name.is_empty() && name.len() <= MAX_PLUGIN_NAME && name.bytes().all(plain), || {
        format!("the name {} is not 1 to {MAX_PLUGIN_NAME} lower-case letters, digits or '-'", shown(&name))
    })?;
    let number = |b: u8| b.is_ascii_alphanumeric() || b".-+".contains(&b);
    rule(!version.is_empty() && version.len() <= MAX_VERSION && version.bytes().all(number), || {
        format!("the version {} is not a version such as 1.2.3", shown(&version))
    })?;
    within(|| "the title".into(), title.len(), "message_bytes", limits.message_bytes)?;
    rule(!title.chars().any(char::is_control), || "the title holds a control character".into())?;
    within(|| "the documentation".into(), docs.len(), "docs_bytes", limits.docs_bytes)?;
    within(|| "the configuration's schema".into(), config_schema.len(), "schema_bytes", limits.schema_bytes)?;
    let config_schema: serde_json::Value = serde_json::from_str(&config_schema)
        .map_err(|error| Wrong::Rule(format!("the configuration's schema is not JSON: {error}")))?;
    rule(config_schema.is_object(), || "the configuration's schema is not a JSON object".into())?;
    let permissions = self::permissions(permissions, limits)?;
    Ok(Spec { name, version, title, docs, config_schema, permissions })
}

fn permissions(permissions: wit::Permissions, limits: &Limits) -> Result<Permissions, Wrong> {
    let wit::Permissions { hosts, memory_mib, reads_secrets } = permissions;
    within(|| "the number of hosts".into(), hosts.len(), "permissions", limits.permissions)?;
    within(|| "the number of secrets to read".into(), reads_secrets.len(), "permissions", limits.permissions)?;
    for text in hosts.iter().chain(&reads_secrets) {
        within(|| "a permission".into(), text.len(), "name_bytes", limits.name_bytes)?;
        rule(!text.is_empty() && !text.chars().any(char::is_control), || {
            format!("the permission {} is empty or holds a control character", shown(text))
        })?;
    }
    if let Some(asked) = memory_mib {
        within(
            || "the memory that it asks for".into(),
            asked as usize,
            "max_memory_mib",
            limits.max_memory_mib as usize,
        )?;
    }
    Ok(Permissions { hosts, memory_mib, reads_secrets })
}

pub(super) fn catalog(catalog: wit::Catalog, limits: &Limits) -> Result<Catalog, Wrong> {
    let wit::Catalog { streams } = catalog;
    within(|| "the number of streams".into(), streams.len(), "streams", limits.streams)?;
    let mut names = HashSet::with_capacity(streams.len());
    for stream in &streams {
        rule(names.insert(stream.name.as_str()), || format!("stream {} is listed twice", shown(&stream.name)))?;
    }
    let streams = streams.into_iter().map(|stream| self::stream(stream, limits)).collect::<Result<_, _>>()?;
    Ok(Catalog { streams })
}

fn stream(stream: wit::Stream, limits: &Limits) -> Result<Stream, Wrong> {
    let wit::Stream { name, fields, key, methods, cursor } = stream;
    let at = shown(&name);
    rule(!name.is_empty(), || "a stream has no name".into())?;
    rule(!name.chars().any(char::is_control), || format!("the name of stream {at} holds a control character"))?;
    within(|| format!("the name of stream {at}"), name.len(), "name_bytes", limits.name_bytes)?;
    within(|| format!("the number of fields of stream {at}"), fields.len(), "fields", limits.fields)?;
    within(|| format!("the number of key fields of stream {at}"), key.len(), "fields", limits.fields)?;
    rule(!methods.is_empty(), || format!("stream {at} has no replication method"))?;
    let mut names = HashSet::with_capacity(fields.len());
    let mut known = Vec::with_capacity(fields.len());
    for wit::Field { name, data_type, nullable } in fields {
        within(|| format!("the name of a field of stream {at}"), name.len(), "name_bytes", limits.name_bytes)?;
        let data_type = convert::data_type_of(data_type);
        let field = shown(&name);
        rule(names.insert(name.clone()), || format!("field {field} of stream {at} is listed twice"))?;
        if let DataType::Decimal(precision, scale) = data_type {
            rule((1..=MAX_PRECISION).contains(&precision) && scale.unsigned_abs() <= precision, || {
                format!("field {field} of stream {at} is a decimal({precision}, {scale}), which does not exist")
            })?;
        }
        known.push(Field { name, data_type, nullable });
    }
    // Document sources may know a key or a cursor without listing every field.
    for name in key.iter().chain(&cursor) {
        within(|| format!("the name of a field of stream {at}"), name.len(), "name_bytes", limits.name_bytes)?;
    }
    let mut by = Vec::new();
    for method in methods.into_iter().map(convert::method_of) {
        if !by.contains(&method) {
            by.push(method);
        }
    }
    Ok(Stream { name, schema: StreamSchema::new(known), key, methods: by, cursor })
}

pub(super) fn plan(plan: wit::Plan, limits: &Limits) -> Result<Plan, Wrong> {
    let wit::Plan { partitions, next_state } = plan;
    within(|| "the number of partitions".into(), partitions.len(), "partitions", limits.partitions)?;
    if let Some(state) = &next_state {
        within(|| "the next state".into(), state.len(), "state_bytes", limits.state_bytes)?;
    }
    let mut ids = HashSet::with_capacity(partitions.len());
    for partition in &partitions {
        let id = &partition.id;
        rule(!id.is_empty(), || "a partition has no id".into())?;
        within(
            || format!("the id of partition {}", shown(id)),
            id.len(),
            "partition_id_bytes",
            limits.partition_id_bytes,
        )?;
        rule(ids.insert(id.as_str()), || format!("partition {} is planned twice", shown(id)))?;
        within(
            || format!("the descriptor of partition {}", shown(id)),
            partition.descriptor.len(),
            "descriptor_bytes",
            limits.descriptor_bytes,
        )?;
    }
    let partitions = partitions
        .into_iter()
        .map(|wit::Partition { id, descriptor, estimated_records, estimated_bytes }| Partition {
            id,
            descriptor,
            estimated_records,
            estimated_bytes,
        })
        .collect();
    Ok(Plan { partitions, next_state })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn limits() -> Limits {
        Limits {
            message_bytes: 10,
            docs_bytes: 11,
            schema_bytes: 12,
            permissions: 2,
            max_memory_mib: 13,
            name_bytes: 14,
            streams: 3,
            fields: 4,
            partitions: 5,
            partition_id_bytes: 15,
            descriptor_bytes: 16,
            state_bytes: 17,
            ..Limits::default()
        }
    }

    /// The name of the crossed limit, or the broken rule.
    fn wrong<T: std::fmt::Debug>(result: Result<T, Wrong>) -> String {
        match result.unwrap_err() {
            Wrong::Limit { limit, found, allowed, .. } => {
                assert_eq!(found, allowed + 1, "{limit}");
                limit.to_owned()
            }
            Wrong::Rule(reason) => reason,
        }
    }

    fn text(bytes: usize) -> String {
        "a".repeat(bytes)
    }

    fn good_spec() -> wit::Spec {
        wit::Spec {
            name: "files-2".into(),
            version: "1.0.0-rc.1+b".into(),
            title: text(10),
            docs: text(11),
            config_schema: "{\"type\": 12}".into(),
            permissions: wit::Permissions {
                hosts: vec!["{{ url }}".into(), text(14)],
                memory_mib: Some(13),
                reads_secrets: vec![text(14), "b".into()],
            },
        }
    }

    #[test]
    fn specs() {
        let check = |change: fn(&mut wit::Spec)| {
            let mut spec = good_spec();
            change(&mut spec);
            wrong(super::spec(spec, &limits()))
        };
        let good = super::spec(good_spec(), &limits()).unwrap();
        assert_eq!(good.permissions.memory_mib, Some(13));
        assert_eq!(check(|spec| spec.title = text(11)), "message_bytes");
        assert_eq!(check(|spec| spec.docs = text(12)), "docs_bytes");
        assert_eq!(check(|spec| spec.config_schema = text(13)), "schema_bytes");
        assert_eq!(check(|spec| spec.permissions.hosts.push("c".into())), "permissions");
        assert_eq!(check(|spec| spec.permissions.reads_secrets.push("c".into())), "permissions");
        assert_eq!(check(|spec| spec.permissions.hosts[0] = text(15)), "name_bytes");
        assert_eq!(check(|spec| spec.permissions.memory_mib = Some(14)), "max_memory_mib");
        for name in ["", "Files", "../files", "fïles", &text(65)] {
            let mut spec = good_spec();
            spec.name = name.into();
            assert!(wrong(super::spec(spec, &limits())).contains("lower-case letters"), "{name}");
        }
        assert!(check(|spec| spec.version = "1; rm".into()).contains("not a version"));
        assert!(check(|spec| spec.title = "a\u{1b}[31m".into()).contains("control character"));
        assert!(check(|spec| spec.config_schema = "{".into()).contains("not JSON"));
        assert!(check(|spec| spec.config_schema = "[]".into()).contains("not a JSON object"));
        assert!(check(|spec| spec.permissions.hosts[0] = "a\nb".into()).contains("control character"));
    }

    fn good_stream(name: &str) -> wit::Stream {
        let field = |name: &str, data_type| wit::Field { name: name.into(), data_type, nullable: true };
        wit::Stream {
            name: name.into(),
            fields: vec![field("id", wit::DataType::Int64), field("price", wit::DataType::Decimal((38, 2)))],
            key: vec!["id".into()],
            methods: vec![wit::ReplicationMethod::Incremental, wit::ReplicationMethod::Incremental],
            cursor: Some(text(14)),
        }
    }

    #[test]
    fn catalogs() {
        let of = |streams: Vec<wit::Stream>| super::catalog(wit::Catalog { streams }, &limits());
        let check = |change: fn(&mut wit::Stream)| {
            let mut stream = good_stream("records");
            change(&mut stream);
            wrong(of(vec![stream]))
        };
        let good = of(vec![good_stream("a"), good_stream(&text(14)), good_stream("c")]).unwrap();
        assert_eq!(good.streams[0].methods.len(), 1);
        assert_eq!(good.streams[0].schema.fields[1].data_type, DataType::Decimal(38, 2));
        assert_eq!(wrong(of(["a", "b", "c", "d"].map(good_stream).into())), "streams");
        assert!(wrong(of(vec![good_stream("a"), good_stream("a")])).contains("listed twice"));
        assert_eq!(check(|stream| stream.name = text(15)), "name_bytes");
        assert!(check(|stream| stream.name = String::new()).contains("no name"));
        assert!(check(|stream| stream.name = "a\0".into()).contains("control character"));
        assert_eq!(check(|stream| stream.fields = vec![stream.fields[0].clone(); 5]), "fields");
        assert!(check(|stream| stream.fields = vec![stream.fields[0].clone(); 2]).contains("listed twice"));
        assert_eq!(check(|stream| stream.fields[0].name = text(15)), "name_bytes");
        assert_eq!(check(|stream| stream.key = vec!["id".into(); 5]), "fields");
        assert_eq!(check(|stream| stream.key = vec![text(15)]), "name_bytes");
        assert_eq!(check(|stream| stream.cursor = Some(text(15))), "name_bytes");
        assert!(check(|stream| stream.methods.clear()).contains("no replication method"));
        for kind in [(0, 0), (39, 0), (5, 6), (5, -6)] {
            let mut stream = good_stream("records");
            stream.fields[0].data_type = wit::DataType::Decimal(kind);
            assert!(wrong(of(vec![stream])).contains("does not exist"), "{kind:?}");
        }
    }

    fn good_plan() -> wit::Plan {
        let partition =
            |id: String| wit::Partition { id, descriptor: text(16), estimated_records: Some(1), estimated_bytes: None };
        wit::Plan {
            partitions: (0..5).map(|n| partition(format!("{n}{}", text(14)))).collect(),
            next_state: Some(text(17)),
        }
    }

    #[test]
    fn plans() {
        let check = |change: fn(&mut wit::Plan)| {
            let mut plan = good_plan();
            change(&mut plan);
            wrong(super::plan(plan, &limits()))
        };
        assert_eq!(super::plan(good_plan(), &limits()).unwrap().partitions.len(), 5);
        assert_eq!(check(|plan| plan.partitions.push(plan.partitions[0].clone())), "partitions");
        assert_eq!(check(|plan| plan.partitions[0].id = text(16)), "partition_id_bytes");
        assert_eq!(check(|plan| plan.partitions[0].descriptor = text(17)), "descriptor_bytes");
        assert_eq!(check(|plan| plan.next_state = Some(text(18))), "state_bytes");
        assert!(check(|plan| plan.partitions[0].id = String::new()).contains("no id"));
        assert!(check(|plan| plan.partitions[0].id = plan.partitions[1].id.clone()).contains("planned twice"));
    }
}
