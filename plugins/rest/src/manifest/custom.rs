//! Components written in Python: refused, with what of the language could stand in their place.

use crate::{node::Node, value::Value};

/// Whether a component is a class of its author's.
pub fn is_custom(node: &Node<'_>) -> bool {
    node.kind().starts_with("Custom") || (node.value.get("class_name").is_some() && !node.kind().is_empty())
}

/// One sentence for the operator.
pub fn refusal(node: &Node<'_>) -> String {
    let class = node.value.get("class_name").and_then(Value::as_str).unwrap_or("a class without a name");
    format!("this is Python code (`{class}`), which is not run here; {}", instead(node.kind()))
}

fn instead(kind: &str) -> &'static str {
    match kind {
        "CustomTransformation" => {
            "use AddFields with a template, RemoveFields, KeysReplace, FlattenFields or DpathFlattenFields"
        }
        "CustomRecordExtractor" => {
            "use DpathExtractor, with `*` in its path or a record_expander, or CombinedExtractor"
        }
        "CustomRecordFilter" => "use RecordFilter with a condition",
        "CustomAuthenticator" => {
            "use BearerAuthenticator, ApiKeyAuthenticator, OAuthAuthenticator, JwtAuthenticator or SessionTokenAuthenticator"
        }
        "CustomRequester" => "use HttpRequester with templates in its parameters, headers and body",
        "CustomRetriever" => "use SimpleRetriever, or AsyncRetriever for jobs",
        "CustomPartitionRouter" => "use SubstreamPartitionRouter, ListPartitionRouter or GroupingPartitionRouter",
        "CustomPaginationStrategy" => "use CursorPagination with cursor_value and stop_condition",
        "CustomIncrementalSync" | "CustomCursor" => "use DatetimeBasedCursor or IncrementingCountCursor",
        "CustomErrorHandler" => "use DefaultErrorHandler or CompositeErrorHandler with HttpResponseFilters",
        "CustomBackoffStrategy" => {
            "use WaitTimeFromHeader, WaitUntilTimeFromHeader, WaitTimeFromResponse, ConstantBackoffStrategy or \
             ExponentialBackoffStrategy"
        }
        "CustomSchemaLoader" => "use InlineSchemaLoader or DynamicSchemaLoader",
        "CustomSchemaNormalization" => "use `schema_normalization: Default`",
        "CustomStateMigration" => "use LegacyToPerPartitionStateMigration, or begin without the old state",
        "CustomDecoder" => "use JsonDecoder, JsonlDecoder, CsvDecoder, XmlDecoder, GzipDecoder or ZipfileDecoder",
        "CustomConfigTransformation" => "use ConfigAddFields, ConfigRemapField or ConfigRemoveFields",
        "CustomValidationStrategy" => "use ValidateAdheresToSchema",
        _ => "use a component of the language",
    }
}
