//! Log lines as JSON, one flat object each, as agents of Datadog and Elastic read them without a rule of their own:
//! `timestamp` (RFC 3339, milliseconds, UTC), `level`, `message`, `target`, `service`, then the fields of the spans that
//! the line was written in, outermost first, and its own (`run_id`, `connection`, `stream`, `error`, …); `span` names
//! the innermost span, `trace_id` and `span_id` the trace where one is exported.

use std::{fmt, io::Write};

use chrono::{SecondsFormat, Utc};
use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

const SERVICE: &str = "thimble";
/// Names that a field cannot take; it gets an underscore behind its own.
const RESERVED: [&str; 8] = ["timestamp", "level", "message", "target", "service", "span", "trace_id", "span_id"];

/// Writes the lines.
pub(super) struct JsonLines<W> {
    writer: W,
    /// Whether spans belong to traces that somebody gets.
    traced: bool,
}

impl<W> JsonLines<W> {
    pub(super) fn new(writer: W, traced: bool) -> Self {
        Self { writer, traced }
    }
}

/// The fields of a span.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "run" => "run_id".to_owned(),
            name if RESERVED.contains(&name) => format!("{name}_"),
            name => name.trim_start_matches("r#").to_owned(),
        };
        self.0.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Message::default();
        event.record(&mut own);
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
        put("timestamp", Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).into());
        put("level", event.metadata().level().as_str().to_lowercase().into());
        put("message", own.message.into());
        put("target", event.metadata().target().into());
        put("service", SERVICE.into());
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(Fields(fields)) = span.extensions().get() {
                    line.extend(fields.clone());
                }
            }
        }
        line.extend(own.fields.0);
        if let Some(span) = context.event_span(event) {
            line.insert("span".to_owned(), span.name().into());
            self.trace(&span, &mut line);
        }
        let mut bytes = Value::Object(line).to_string().into_bytes();
        bytes.push(b'\n');
        // Nobody is left to be told where standard error is closed.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(&bytes);
    }
}

impl<W> JsonLines<W> {
    fn trace<S: for<'a> LookupSpan<'a>>(&self, span: &SpanRef<'_, S>, line: &mut Map<String, Value>) {
        if !self.traced {
            return;
        }
        let context =
            tracing::dispatcher::get_default(|dispatch| tracing_opentelemetry::get_otel_context(&span.id(), dispatch));
        let Some(context) = context else { return };
        let traced = context.span().span_context().clone();
        if traced.is_valid() {
            line.insert("trace_id".to_owned(), traced.trace_id().to_string().into());
            line.insert("span_id".to_owned(), traced.span_id().to_string().into());
        }
    }
}

/// A line's own fields, its message apart.
#[derive(Default)]
struct Message {
    message: String,
    fields: Fields,
}

impl Visit for Message {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.record_f64(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.record_i64(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.record_u64(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.record_bool(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.fields.record_str(field, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.fields.record_debug(field, value),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_flat_object_with_the_fields_of_its_spans() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let lines = JsonLines::new(move || writer.clone(), false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let run =
                tracing::info_span!("run", run_id = "01J", connection = "c", kind = tracing::field::Empty).entered();
            run.record("kind", "sync");
            let _stream = tracing::info_span!("read", stream = "s").entered();
            tracing::warn!(run = %"01K", level = 3, error = %"it \"broke\"\n", took_ms = 1.5, ok = false, "batch {} failed", 7);
        });
        let written = buffer.0.lock().unwrap().clone();
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert!(line.values().all(|value| !value.is_object() && !value.is_array()), "{text}");
        let stamp = line["timestamp"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(stamp).is_ok() && stamp.len() == "2025-11-24T16:00:00.123Z".len());
        let expected = serde_json::json!({
            "level": "warn", "message": "batch 7 failed", "target": "thimble_server::telemetry::json::tests", "service": "thimble",
            "run_id": "01K", "connection": "c", "kind": "sync", "stream": "s", "level_": 3, "error": "it \"broke\"\n",
            "took_ms": 1.5, "ok": false, "span": "read",
        });
        let mut rest = line.clone();
        rest.remove("timestamp");
        assert_eq!(Value::Object(rest), expected);
    }
}
