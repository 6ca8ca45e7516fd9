//! Traces and logs to a collector, by OTLP over HTTP with protobuf.
//!
//! The SDK's threads wait for the collector, never the work; what they cannot send is dropped when their queues are
//! full. Must never log what it exports, and never speak of the collector's headers, which may hold a key.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, logs::SdkLoggerProvider, trace::SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

use crate::{
    config,
    exit::{CliError, Exit},
};

const SERVICE: &str = "thimble";
/// For one export.
const DEADLINE: Duration = Duration::from_secs(10);
/// For what waits when the process ends.
const LAST_DEADLINE: Duration = Duration::from_secs(3);
/// Largest answer of a collector.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Between two warnings about the collector.
const WARN_EVERY: Duration = Duration::from_secs(300);

/// Variables that name a collector where the configuration does not.
const ENDPOINTS: [&str; 3] =
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"];

/// What sends traces and logs.
pub(super) struct Exporter {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

impl Exporter {
    /// `None` where neither configuration nor environment names a collector.
    pub(super) fn start(
        otlp: &config::Otlp,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, CliError> {
        let named = |name: &&str| environment(name).is_some_and(|value| !value.is_empty());
        let disabled = environment("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if disabled || (otlp.endpoint.is_none() && !ENDPOINTS.iter().any(&named)) {
            return Ok(None);
        }
        let wrong = |error: &dyn fmt::Display| {
            CliError::new(Exit::Usage, format!("telemetry.otlp: traces and logs cannot be exported: {error}"))
        };
        let headers: HashMap<String, String> = otlp.headers.0.clone().into_iter().collect();
        let mut spans = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new().map_err(|error| wrong(&error))?)
            .with_timeout(DEADLINE)
            .with_headers(headers.clone());
        let mut lines = LogExporter::builder()
            .with_http()
            .with_http_client(Collector::new().map_err(|error| wrong(&error))?)
            .with_timeout(DEADLINE)
            .with_headers(headers);
        if let Some(endpoint) = &otlp.endpoint {
            let endpoint = endpoint.trim_end_matches('/');
            spans = spans.with_endpoint(format!("{endpoint}/v1/traces"));
            lines = lines.with_endpoint(format!("{endpoint}/v1/logs"));
        }
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !named(&"OTEL_SERVICE_NAME") {
            resource = resource.with_service_name(SERVICE);
        }
        let resource = resource.build();
        let spans = spans.build().map_err(|error| wrong(&error))?;
        let lines = lines.build().map_err(|error| wrong(&error))?;
        Ok(Some(Self {
            traces: SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build(),
            logs: SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(lines).build(),
        }))
    }

    /// Takes spans.
    pub(super) fn spans<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.traces.tracer(SERVICE));
        layer.with_location(false).with_threads(false).with_tracked_inactivity(false)
    }

    /// Takes log lines.
    pub(super) fn lines<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        OpenTelemetryTracingBridge::new(&self.logs)
    }

    /// Sends what waits, within a few seconds.
    pub(super) fn stop(&self) {
        for stopped in
            [self.traces.shutdown_with_timeout(LAST_DEADLINE), self.logs.shutdown_with_timeout(LAST_DEADLINE)]
        {
            if let Err(error) = stopped {
                tracing::debug!(%error, "the last traces and logs were not exported");
            }
        }
    }
}

type Https = hyper_rustls::HttpsConnector<HttpConnector>;

/// The way to the collector. It is used on a thread of the SDK, which may wait; the runtime is its own, so that an
/// export neither needs nor disturbs the one that does the work.
struct Collector {
    runtime: Mutex<tokio::runtime::Runtime>,
    client: Client<Https, Full<Bytes>>,
    warned: Mutex<Option<Instant>>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tls = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(std::io::Error::other)?
            .https_or_http()
            .enable_http1()
            .build();
        // Nobody polls a connection between two exports.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(tls);
        Ok(Self { runtime: Mutex::new(runtime), client, warned: Mutex::new(None) })
    }

    async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    /// At most one in a while.
    fn warn(&self, what: &dyn fmt::Display) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!(error = %what, "traces and logs do not reach the collector; they are dropped until they do");
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = {
            let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
            runtime.block_on(async { tokio::time::timeout(DEADLINE, self.ask(request)).await })
        };
        match answer {
            Ok(Ok(answer)) => {
                if !answer.status().is_success() {
                    self.warn(&answer.status());
                }
                Ok(answer)
            }
            Ok(Err(error)) => {
                // The innermost cause says what is wrong.
                let mut cause: &dyn std::error::Error = error.as_ref();
                while let Some(source) = cause.source() {
                    cause = source;
                }
                self.warn(&cause);
                Err(error)
            }
            Err(late) => {
                self.warn(&late);
                Err(late.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        collections::BTreeMap,
        sync::{Arc, mpsc},
    };

    use axum::{Router, extract::State, http::HeaderMap, routing::post};
    use opentelemetry_proto::tonic::{
        collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
        common::v1::{KeyValue, any_value::Value},
    };
    use prost::Message;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::config::{Options, Otlp};

    type Heard = (&'static str, HeaderMap, Bytes);

    fn collector() -> (String, mpsc::Receiver<Heard>) {
        let (tell, heard) = mpsc::channel::<Heard>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let take = |path: &'static str| {
                post(move |State(tell): State<Arc<mpsc::Sender<Heard>>>, headers: HeaderMap, body: Bytes| async move {
                    tell.send((path, headers, body)).unwrap();
                })
            };
            let router = Router::new()
                .route("/v1/traces", take("traces"))
                .route("/v1/logs", take("logs"))
                .with_state(Arc::new(tell));
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        (endpoint, heard)
    }

    fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
        let text = |value: &Value| match value {
            Value::StringValue(text) => text.clone(),
            other => format!("{other:?}"),
        };
        attributes
            .iter()
            .filter_map(|KeyValue { key, value, .. }| Some((key.clone(), text(value.as_ref()?.value.as_ref()?))))
            .collect()
    }

    fn to(endpoint: String) -> Exporter {
        let headers = Options([("x-key".to_owned(), "planted-secret".to_owned())].into());
        Exporter::start(&Otlp { endpoint: Some(endpoint), headers }, &|_| None).unwrap().unwrap()
    }

    fn work(exporter: &Exporter) {
        let subscriber = tracing_subscriber::registry().with(exporter.spans()).with(exporter.lines());
        tracing::subscriber::with_default(subscriber, || {
            let _run = tracing::info_span!("run", run_id = "01J", connection = "c").entered();
            let _read = tracing::info_span!("read", stream = "s").entered();
            tracing::warn!(error = "it broke", "a partition failed");
        });
    }

    #[test]
    fn spans_and_lines_arrive_with_their_fields() {
        let (endpoint, heard) = collector();
        let exporter = to(endpoint);
        work(&exporter);
        exporter.stop();
        let heard: BTreeMap<_, _> = [heard.recv().unwrap(), heard.recv().unwrap()]
            .into_iter()
            .map(|(path, headers, body)| {
                assert_eq!(headers["x-key"], "planted-secret");
                assert_eq!(headers["content-type"], "application/x-protobuf");
                (path, body)
            })
            .collect();
        let traces = ExportTraceServiceRequest::decode(heard["traces"].clone()).unwrap();
        let resource = texts(&traces.resource_spans[0].resource.as_ref().unwrap().attributes);
        assert_eq!(resource["service.name"], "thimble");
        let spans = &traces.resource_spans[0].scope_spans[0].spans;
        let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!(texts(&named("run").attributes)["connection"], "c");
        assert_eq!(texts(&named("read").attributes)["stream"], "s");
        assert_eq!(named("read").parent_span_id, named("run").span_id);
        let logs = ExportLogsServiceRequest::decode(heard["logs"].clone()).unwrap();
        let line = &logs.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!(line.severity_text, "WARN");
        assert_eq!(texts(&line.attributes)["error"], "it broke");
        assert_eq!(line.trace_id, named("run").trace_id, "lines belong to their trace");
    }

    #[test]
    fn a_collector_that_is_away_holds_nothing_up() {
        let exporter = to("http://127.0.0.1:1".into());
        let began = Instant::now();
        for _ in 0..10_000 {
            work(&exporter);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        exporter.stop();
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    #[test]
    fn it_is_off_unless_somebody_names_a_collector() {
        let none = |_: &str| None;
        assert!(Exporter::start(&Otlp::default(), &none).unwrap().is_none());
        let disabled = |name: &str| (name == "OTEL_SDK_DISABLED").then(|| "true".to_owned());
        let named = Otlp { endpoint: Some("http://127.0.0.1:1".into()), ..Otlp::default() };
        assert!(Exporter::start(&named, &disabled).unwrap().is_none());
        let broken = Otlp { endpoint: Some("no url".into()), ..Otlp::default() };
        assert!(Exporter::start(&broken, &none).err().unwrap().message.contains("telemetry.otlp"));
    }
}
