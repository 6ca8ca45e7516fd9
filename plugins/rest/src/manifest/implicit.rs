//! Types that a manifest may leave out, by the type of the parent and the name of the member.

/// The type of a component without one.
pub fn default_type(parent: &str, member: &str) -> Option<&'static str> {
    Some(match (parent, member) {
        ("CompositeErrorHandler", "error_handlers") | ("HttpRequester", "error_handler") => "DefaultErrorHandler",
        ("CursorPagination", "decoder") | ("DefaultPaginator", "decoder") | ("DpathExtractor", "decoder") => {
            "JsonDecoder"
        }
        ("DatetimeBasedCursor", "end_datetime") | ("DatetimeBasedCursor", "start_datetime") => "MinMaxDatetime",
        ("DatetimeBasedCursor", "end_time_option")
        | ("DatetimeBasedCursor", "start_time_option")
        | ("DefaultPaginator", "page_size_option")
        | ("ListPartitionRouter", "request_option")
        | ("ParentStreamConfig", "request_option") => "RequestOption",
        ("DeclarativeSource", "check") => "CheckStream",
        ("DeclarativeSource", "spec") => "Spec",
        ("DeclarativeSource", "streams")
        | ("DynamicDeclarativeStream", "stream_template")
        | ("ParentStreamConfig", "stream") => "DeclarativeStream",
        ("DeclarativeStream", "retriever")
        | ("HttpComponentsResolver", "retriever")
        | ("DynamicSchemaLoader", "retriever") => "SimpleRetriever",
        ("DeclarativeStream", "schema_loader") => "JsonFileSchemaLoader",
        ("DynamicDeclarativeStream", "components_resolver") => "ConfigComponentResolver",
        ("HttpComponentsResolver", "components_mapping") | ("ConfigComponentsResolver", "components_mapping") => {
            "ComponentMappingDefinition"
        }
        ("ConfigComponentsResolver", "stream_config") => "StreamConfig",
        ("DefaultErrorHandler", "response_filters") => "HttpResponseFilter",
        ("DpathExtractor", "record_expander") => "RecordExpander",
        ("RecordExpander", "parent_fields") => "ParentFieldPath",
        ("RecordSelector", "extractor") => "DpathExtractor",
        ("RecordSelector", "record_filter") => "RecordFilter",
        ("SimpleRetriever", "paginator") => "NoPagination",
        ("SimpleRetriever", "record_selector") => "RecordSelector",
        ("SimpleRetriever", "requester") => "HttpRequester",
        ("SubstreamPartitionRouter", "parent_stream_configs") | ("CustomPartitionRouter", "parent_stream_configs") => {
            "ParentStreamConfig"
        }
        ("AddFields", "fields") => "AddedFieldDefinition",
        ("SchemaTypeIdentifier", "types_map") => "TypesMap",
        _ => return None,
    })
}

/// The type of a component without one that names a class.
pub fn custom_type(parent: &str, member: &str) -> Option<&'static str> {
    Some(match (parent, member) {
        ("CompositeErrorHandler", "backoff_strategies") | ("DefaultErrorHandler", "backoff_strategies") => {
            "CustomBackoffStrategy"
        }
        ("DeclarativeStream", "retriever") => "CustomRetriever",
        ("DeclarativeStream", "transformations") => "CustomTransformation",
        ("DefaultPaginator", "pagination_strategy") => "CustomPaginationStrategy",
        ("HttpRequester", "authenticator") => "CustomAuthenticator",
        ("HttpRequester", "error_handler") => "CustomErrorHandler",
        ("RecordSelector", "extractor") => "CustomRecordExtractor",
        ("SimpleRetriever", "partition_router") => "CustomPartitionRouter",
        _ => return None,
    })
}
