//! `/metrics`: what Prometheus scrapes. Figures of connections and streams come from the database, so that they survive
//! restarts and are the same from every process; what a process measured itself begins with the process.
//!
//! Must never show more than a bounded number of series, whatever the installation holds.

mod exposition;
mod measures;
mod summary;

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use thimble_store::{Backlog, ConnectionTotals, StreamTotals, Times, WRITE_TIME_BOUNDS, WriteTimes};

pub use exposition::{Exposition, Kind};
pub use measures::{Histogram, Measures};
pub(crate) use summary::routes;

use crate::{
    Caller, ControlSettings, Problem,
    auth::{self, Gate},
    limits::{MAX_METRIC_CONNECTIONS, MAX_METRIC_STREAMS},
};

/// Version of the text format, <https://prometheus.io/docs/instrumenting/exposition_formats/>.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Further figures of this process, from parts that the control plane does not know. Called at every scrape.
pub trait MetricsSource: Send + Sync + 'static {
    /// Adds its families.
    fn write(&self, to: &mut Exposition);
}

/// Lets a scrape pass without a token where the operator allows that, or as [`auth`] says.
pub(crate) async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Result<Response, Problem> {
    if gate.settings().observe.open_metrics && !request.headers().contains_key(header::AUTHORIZATION) {
        let anybody = Caller { actor: "metrics".into(), role: crate::Role::Viewer, workspace: None };
        request.extensions_mut().insert(anybody);
        return Ok(next.run(request).await);
    }
    auth::require_token(State(gate), request, next).await
}

/// Everything, as text.
pub(crate) async fn metrics(State(settings): State<ControlSettings>, caller: Caller) -> Result<Response, Problem> {
    let now_ms = settings.now_ms();
    let workspace = caller.workspace.as_deref();
    let mut text = Exposition::default();
    let connections = settings.store.connection_totals(workspace, MAX_METRIC_CONNECTIONS).await?;
    write_connections(&mut text, &connections, now_ms);
    let streams = settings.store.stream_totals(workspace, MAX_METRIC_STREAMS).await?;
    write_streams(&mut text, &connections, &streams, now_ms);
    // Figures of the whole installation are for whoever sees the whole of it.
    if workspace.is_none() {
        write_backlog(&mut text, &settings.store.backlog(now_ms).await?, now_ms);
        settings.observe.measures.write(&mut text);
        write_store(&mut text, &settings.store.write_times());
        for source in settings.observe.metrics.iter() {
            source.write(&mut text);
        }
    }
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.finish()).into_response())
}

/// How long writing to the control database takes this process.
fn write_store(text: &mut Exposition, kinds: &[WriteTimes]) {
    type Figure = fn(&WriteTimes) -> &Times;
    let families: [(&'static str, &str, Figure); 2] = [
        (
            "thimble_store_write_wait_seconds",
            "How long transactions waited until they could write, by what their commit waits for.",
            |times| &times.wait,
        ),
        (
            "thimble_store_write_seconds",
            "How long committed transactions took from then on, by what their commit waits for.",
            |times| &times.work,
        ),
    ];
    for (name, help, figure) in families {
        text.family(name, Kind::Histogram, help);
        for times in kinds {
            let Times { counts, sum_seconds } = *figure(times);
            let histogram = Histogram::of(&WRITE_TIME_BOUNDS, &counts, sum_seconds);
            histogram.write(text, name, &[("durability", times.durability.word())]);
        }
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

fn write_connections(text: &mut Exposition, connections: &[ConnectionTotals], now_ms: i64) {
    text.family("thimble_runs_total", Kind::Counter, "Syncs that ended, by how.");
    for totals in connections {
        let ConnectionTotals { workspace, connection, succeeded, failed, cancelled, interrupted, .. } = totals;
        let counts =
            [("succeeded", succeeded), ("failed", failed), ("cancelled", cancelled), ("interrupted", interrupted)];
        for (status, count) in counts {
            let labels = [("workspace", workspace.as_str()), ("connection", connection), ("status", status)];
            text.sample("thimble_runs_total", &labels, *count as f64);
        }
    }
    let fresh_at = |totals: &ConnectionTotals| totals.complete_at.unwrap_or(totals.created_at);
    gauge(
        text,
        "thimble_connection_freshness_seconds",
        "Time since the extraction of the last complete load began; since the connection was made where there was none.",
        connections,
        |totals| Some(seconds(now_ms - fresh_at(totals))),
    );
    gauge(
        text,
        "thimble_connection_freshness_objective_seconds",
        "What the freshness should be at most.",
        connections,
        |totals| totals.freshness_ms.map(seconds),
    );
    gauge(text, "thimble_connection_paused", "Whether its schedules rest.", connections, |totals| {
        Some(f64::from(u8::from(totals.paused)))
    });
}

fn gauge(
    text: &mut Exposition,
    name: &'static str,
    help: &str,
    connections: &[ConnectionTotals],
    value: impl Fn(&ConnectionTotals) -> Option<f64>,
) {
    text.family(name, Kind::Gauge, help);
    for totals in connections {
        if let Some(value) = value(totals) {
            let labels = [("workspace", totals.workspace.as_str()), ("connection", &totals.connection)];
            text.sample(name, &labels, value);
        }
    }
}

fn write_streams(text: &mut Exposition, connections: &[ConnectionTotals], streams: &[StreamTotals], now_ms: i64) {
    type Figure = fn(&StreamTotals, i64) -> Option<f64>;
    let families: [(&'static str, Kind, &str, Figure); 5] = [
        ("thimble_stream_records_total", Kind::Counter, "Rows loaded or merged.", |s, _| Some(s.records as f64)),
        ("thimble_stream_bytes_total", Kind::Counter, "Bytes of staged Parquet.", |s, _| Some(s.bytes as f64)),
        ("thimble_stream_rejected_total", Kind::Counter, "Records rejected.", |s, _| Some(s.rejected as f64)),
        (
            "thimble_stream_freshness_seconds",
            Kind::Gauge,
            "Time since the extraction of its last complete load began.",
            |s, now_ms| s.complete_at.map(|at| seconds(now_ms - at)),
        ),
        ("thimble_stream_lag_seconds", Kind::Gauge, "Time since rows of it were loaded last.", |s, now_ms| {
            Some(seconds(now_ms - s.loaded_at))
        }),
    ];
    for (name, kind, help, figure) in families {
        text.family(name, kind, help);
        for totals in streams {
            // Both are in the order of their names.
            let found = connections.binary_search_by(|known| known.connection.as_str().cmp(&totals.connection));
            let (Ok(at), Some(value)) = (found, figure(totals, now_ms)) else { continue };
            let workspace = connections[at].workspace.as_str();
            let labels = [("workspace", workspace), ("connection", &totals.connection), ("stream", &totals.stream)];
            text.sample(name, &labels, value);
        }
    }
}

fn write_backlog(text: &mut Exposition, backlog: &Backlog, now_ms: i64) {
    let Backlog { queued, running, oldest_queued_at, oldest_slot_at, open_alerts, pending_deliveries, dead_deliveries } =
        backlog;
    text.family("thimble_runs", Kind::Gauge, "Runs that wait and runs under way.");
    text.sample("thimble_runs", &[("status", "queued")], *queued as f64);
    text.sample("thimble_runs", &[("status", "running")], *running as f64);
    let name = "thimble_queue_oldest_seconds";
    text.family(name, Kind::Gauge, "How long the oldest queued run waits that may begin; 0 where none does.");
    text.sample(name, &[], oldest_queued_at.map_or(0.0, |at| seconds((now_ms - at).max(0))));
    let name = "thimble_slot_delay_seconds";
    text.family(
        name,
        Kind::Gauge,
        "How long ago the oldest time of a schedule came that nobody has looked at; 0 where none.",
    );
    text.sample(name, &[], oldest_slot_at.map_or(0.0, |at| seconds((now_ms - at).max(0))));
    text.family("thimble_alerts_open", Kind::Gauge, "Conditions that last.");
    text.sample("thimble_alerts_open", &[], *open_alerts as f64);
    text.family("thimble_deliveries", Kind::Gauge, "Notifications and hooks that wait, and that were given up.");
    text.sample("thimble_deliveries", &[("status", "pending")], *pending_deliveries as f64);
    text.sample("thimble_deliveries", &[("status", "dead")], *dead_deliveries as f64);
}
