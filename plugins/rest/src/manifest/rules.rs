//! What only makes sense together: members that exclude or need each other, names that have to exist.

use std::collections::HashSet;

use super::{
    finding::Findings,
    walk::{Text, Visitor, walk},
};
use crate::{interpolation::Template, node::Node, value::Value};

pub fn check(root: &Node<'_>, findings: &mut Findings) {
    names(root, findings);
    walk(root, &mut Rules { findings });
}

fn name<'a>(stream: &Node<'a>) -> Option<&'a str> {
    stream.value.get("name").and_then(Value::as_str)
}

fn names(root: &Node<'_>, findings: &mut Findings) {
    let mut known = HashSet::new();
    for node in root.items("streams") {
        let streams = if node.kind() == "ConditionalStreams" { node.items("streams") } else { vec![node] };
        for stream in streams {
            match name(&stream) {
                None => findings.error(&stream, "the stream has no `name`"),
                Some(name) if !known.insert(name) => {
                    findings
                        .warning(&stream, format!("another stream is called `{name}` as well; only one can be read"));
                }
                Some(_) => {}
            }
        }
    }
    let Some(check) = root.get("check") else { return };
    let dynamic = root.get("dynamic_streams").is_some();
    for stream in check.items("stream_names") {
        if let Some(name) = stream.value.as_str().filter(|name| !known.contains(name) && !dynamic) {
            findings.error(&stream, format!("there is no stream `{name}` to check"));
        }
    }
    if check.kind() == "CheckStream"
        && check.get("stream_names").is_none()
        && check.get("dynamic_streams_check_configs").is_none()
    {
        findings.error(&check, "`CheckStream` needs `stream_names` or `dynamic_streams_check_configs`");
    }
}

struct Rules<'f> {
    findings: &'f mut Findings,
}

impl Visitor for Rules<'_> {
    fn component(&mut self, node: &Node<'_>) {
        match node.kind() {
            "RequestOption" => self.request_option(node),
            "DefaultPaginator" => self.paginator(node),
            "HttpRequester" => self.requester(node),
            "ApiKeyAuthenticator" => self.api_key(node),
            "OAuthAuthenticator" => self.oauth(node),
            "DatetimeBasedCursor" => self.cursor(node),
            "DeclarativeStream" => self.stream(node),
            "SubstreamPartitionRouter" if node.items("parent_stream_configs").is_empty() => {
                self.findings.error(node, "a `SubstreamPartitionRouter` needs at least one parent stream");
            }
            "JsonFileSchemaLoader" => self.findings.note(
                node,
                "no schema files come with a manifest, so that the schema is found while reading; put it into an \
                 `InlineSchemaLoader` to fix it",
            ),
            _ => {}
        }
    }

    fn text(&mut self, text: &Text<'_>) {
        if !text.text.contains("{{") && !text.text.contains("{%") {
            return;
        }
        if let Err(error) = Template::new(&text.node, text.component) {
            self.findings.error(&text.node, error.message);
        }
    }
}

impl Rules<'_> {
    fn request_option(&mut self, node: &Node<'_>) {
        let (name, path) = (node.get("field_name").is_some(), node.get("field_path").is_some());
        let inject = node.value.get("inject_into").and_then(Value::as_str);
        match (name, path) {
            (false, false) => self.findings.error(node, "`RequestOption` needs `field_name` or `field_path`"),
            (true, true) => self.findings.error(node, "`RequestOption` takes `field_name` or `field_path`, not both"),
            (false, true) if inject != Some("body_json") => {
                self.findings.error(node, "`field_path` works only where `inject_into` is `body_json`");
            }
            _ => {}
        }
    }

    fn paginator(&mut self, node: &Node<'_>) {
        let Some(strategy) = node.get("pagination_strategy") else { return };
        let sized = strategy.get("page_size").is_some_and(|size| size.value.truthy());
        if node.get("page_size_option").is_some() && !sized && !super::custom::is_custom(&strategy) {
            let message =
                "`page_size_option` says where to put a page size, but `pagination_strategy` has no `page_size`";
            self.findings.error(node, message);
        }
    }

    fn requester(&mut self, node: &Node<'_>) {
        if ["url", "url_base", "path"].iter().all(|member| node.get(member).is_none()) {
            self.findings.error(node, "`HttpRequester` needs a `url`");
        }
        let filled = |member| node.get(member).is_some_and(|body| body.value.truthy());
        if filled("request_body_json") && filled("request_body_data") {
            self.findings.error(node, "a request has `request_body_json` or `request_body_data`, not both");
        }
    }

    fn api_key(&mut self, node: &Node<'_>) {
        match (node.get("inject_into").is_some(), node.get("header").is_some()) {
            (true, true) => {
                self.findings.error(node, "`ApiKeyAuthenticator` takes `inject_into` or `header`, not both");
            }
            (false, false) => self.findings.error(node, "`ApiKeyAuthenticator` needs `inject_into`"),
            _ => {}
        }
    }

    fn oauth(&mut self, node: &Node<'_>) {
        let asserted = node.get("use_profile_assertion").is_some_and(|flag| flag.value.truthy());
        if asserted && node.get("profile_assertion").is_none() {
            self.findings.error(node, "`use_profile_assertion` needs a `profile_assertion`");
        }
        let grant = node.value.get("grant_type").and_then(Value::as_str).unwrap_or("refresh_token");
        let refreshable = node.get("refresh_token").is_some() || node.get("refresh_token_updater").is_some();
        if grant == "refresh_token" && !refreshable && node.get("token_refresh_endpoint").is_some() && !asserted {
            self.findings.error(node, "the grant `refresh_token` needs a `refresh_token`");
        }
    }

    fn cursor(&mut self, node: &Node<'_>) {
        if node.get("step").is_some() != node.get("cursor_granularity").is_some() {
            self.findings.error(node, "`step` and `cursor_granularity` need each other");
        }
    }

    fn stream(&mut self, node: &Node<'_>) {
        let Some(sync) = node.get("incremental_sync") else { return };
        let routed = node.get("retriever").is_some_and(|retriever| retriever.get("partition_router").is_some());
        if sync.kind() == "IncrementingCountCursor" && routed {
            self.findings
                .error(&sync, "an `IncrementingCountCursor` cannot be used together with a `partition_router`");
        }
    }
}
