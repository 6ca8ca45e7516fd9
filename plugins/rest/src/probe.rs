//! Which streams a check reads: those that the manifest names, and so many of those that are made for the configuration.
//!
//! Pure: whoever checks reads their first records.

use crate::{
    error::Result,
    manifest::Manifest,
    node::Node,
    stream::dynamic::{self, MADE_BY},
    value::Value,
};

/// Names out of `streams`, which are all streams of the manifest, in the order in which they are read.
///
/// # Errors
/// Kind config: the manifest has nothing to check, or names what it has not.
pub fn names(manifest: &Manifest, streams: &Value) -> Result<Vec<String>> {
    let Some(check) = manifest.check() else { return Ok(Vec::new()) };
    let all: Vec<&Value> = streams.as_list().unwrap_or_default().iter().collect();
    match check.kind() {
        "CheckDynamicStream" => counted(&check, &all),
        _ => {
            let mut names: Vec<String> = manifest.check_streams().into_iter().map(str::to_owned).collect();
            for wanted in check.items("dynamic_streams_check_configs") {
                names.extend(of_template(manifest, &wanted, &all)?);
            }
            Ok(names)
        }
    }
}

/// `CheckDynamicStream`: the first so many of all.
fn counted(check: &Node<'_>, all: &[&Value]) -> Result<Vec<String>> {
    if all.is_empty() {
        return Err(check.wrong("the manifest makes no stream of this configuration: there is nothing to read"));
    }
    if !check.flag("use_check_availability", true)? {
        return Ok(Vec::new());
    }
    Ok(first(all.iter().copied(), check.int("stream_count")?))
}

/// The first so many that one template of `dynamic_streams` made; all of them where the check does not say.
fn of_template(manifest: &Manifest, wanted: &Node<'_>, all: &[&Value]) -> Result<Vec<String>> {
    let name = wanted.need("dynamic_stream_name")?;
    let name = name.text()?;
    let known = manifest.dynamic_streams().iter().enumerate().any(|(at, node)| dynamic::name_of(node, at) == name);
    if !known {
        return Err(wanted.wrong(format!("there is no dynamic stream `{name}` to check")));
    }
    let made = all.iter().copied().filter(|stream| stream.get(MADE_BY).and_then(Value::as_str) == Some(name));
    Ok(first(made, wanted.int("stream_count")?))
}

fn first<'a>(streams: impl Iterator<Item = &'a Value>, count: Option<i64>) -> Vec<String> {
    let count = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(0));
    streams.take(count).filter_map(|stream| stream.get("name")?.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{http::script::value, manifest};

    fn asked(check: &str, streams: &str) -> Result<Vec<String>> {
        let stream = "{name: fixed, retriever: {requester: {url_base: \"https://a.example\"}, \
            record_selector: {extractor: {field_path: []}}}}";
        let dynamic =
            "{name: tables, stream_template: {}, components_resolver: {type: ParametrizedComponentsResolver}}";
        let text = format!("version: 6.0.0\ncheck: {check}\nstreams: [{stream}]\ndynamic_streams: [{dynamic}, {{}}]\n");
        names(&manifest::load(text.as_bytes()).unwrap(), &value(streams))
    }

    const ALL: &str = r#"[{"name":"fixed"},{"name":"a","dynamic_stream_name":"tables"},
        {"name":"b","dynamic_stream_name":"tables"},{"name":"c","dynamic_stream_name":"dynamic_stream_1"}]"#;

    #[test]
    fn the_first_streams_are_read_where_only_a_number_is_given() {
        assert_eq!(asked("{type: CheckDynamicStream, stream_count: 2}", ALL).unwrap(), ["fixed", "a"]);
        assert_eq!(asked("{type: CheckDynamicStream, stream_count: 9}", ALL).unwrap(), ["fixed", "a", "b", "c"]);
        let without = "{type: CheckDynamicStream, stream_count: 2, use_check_availability: false}";
        assert_eq!(asked(without, ALL).unwrap(), [""; 0]);
        let error = asked(without, "[]").unwrap_err();
        assert!(error.message.contains("makes no stream"), "{error}");
    }

    #[test]
    fn streams_that_a_template_made_are_read_beside_those_with_a_name() {
        let check = |more: &str| format!("{{stream_names: [fixed], dynamic_streams_check_configs: [{more}]}}");
        assert_eq!(asked(&check("{dynamic_stream_name: tables, stream_count: 1}"), ALL).unwrap(), ["fixed", "a"]);
        let two = check("{dynamic_stream_name: tables}, {dynamic_stream_name: dynamic_stream_1}");
        assert_eq!(asked(&two, ALL).unwrap(), ["fixed", "a", "b", "c"]);
        let error = asked(&check("{dynamic_stream_name: nowhere}"), ALL).unwrap_err();
        assert!(error.message.contains("no dynamic stream `nowhere`"), "{error}");
    }
}
