//! Follows a run by server-sent events (WHATWG HTML §9.2): its log lines, its progress, its end.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::{
        Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use thimble_record::RunId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Caller, ControlSettings, Problem,
    extract::Place,
    limits::{LINES_FOLLOWED_AT_ONCE, MAX_FOLLOWERS, WAIT_POLL},
    runs::{self, Log, Run},
};

/// Streams that may be opened; each costs a connection and a look at the store now and then.
#[derive(Clone)]
struct Followers(Arc<Semaphore>);

pub(crate) fn routes() -> OpenApiRouter<ControlSettings> {
    let followers = Followers(Arc::new(Semaphore::new(MAX_FOLLOWERS)));
    OpenApiRouter::new().routes(routes!(follow)).layer(Extension(followers))
}

/// The log of a run as it is written: events `log` (a line, its `seq` as the event's id), `progress` (the report so far)
/// and at last `end` (the run). `Last-Event-ID` goes on after that line.
#[utoipa::path(get, path = "/runs/{run}/follow", operation_id = "followRun",
    extensions(("x-roles" = json!(["viewer", "operator", "author", "admin"]))), tag = "runs",
    params(("run" = String, Path, description = "The run's id."),
        ("Last-Event-ID" = Option<String>, Header, description = "The last line that was seen.")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")))]
async fn follow(
    State(settings): State<ControlSettings>,
    Extension(Followers(followers)): Extension<Followers>,
    caller: Caller,
    Place(id): Place<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let run = runs::seen(&settings, &caller, id).await?.id;
    let permit = followers
        .try_acquire_owned()
        .map_err(|_| Problem::busy(format!("{MAX_FOLLOWERS} clients follow runs already: try again later")))?;
    let after = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let changes = settings.signals.watch();
    let follower = Follower {
        settings,
        run,
        changes,
        after: after.unwrap_or(0),
        progress: Value::Null,
        ended: false,
        _permit: permit,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let events = follower.next().await?;
        Some((stream::iter(events.into_iter().map(Ok)), follower))
    });
    Ok(Sse::new(events.flatten()).keep_alive(KeepAlive::default()))
}

struct Follower {
    settings: ControlSettings,
    run: RunId,
    changes: watch::Receiver<u64>,
    after: i64,
    progress: Value,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// What is new, as soon as something is; `None` after the end.
    async fn next(&mut self) -> Option<Vec<Event>> {
        while !self.ended {
            // Before the look, so that a change after it is not missed.
            self.changes.mark_unchanged();
            let events = self.look().await.unwrap_or_else(|problem| {
                self.ended = true;
                vec![event("problem", &json!(problem))]
            });
            if !events.is_empty() {
                return Some(events);
            }
            tokio::select! {
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(WAIT_POLL) => {}
                () = self.settings.shutdown.cancelled() => self.ended = true,
            }
        }
        None
    }

    async fn look(&mut self) -> Result<Vec<Event>, Problem> {
        let store = &self.settings.store;
        // The run before its lines: what an ended run has written is all there is.
        let run = store.run(&self.run).await?;
        let lines = store.logs(&self.run, self.after, LINES_FOLLOWED_AT_ONCE).await?;
        let more = lines.len() >= LINES_FOLLOWED_AT_ONCE as usize;
        let mut events = Vec::with_capacity(lines.len() + 1);
        for line in lines {
            self.after = line.seq;
            events.push(event("log", &json!(Log::from(line))).id(self.after.to_string()));
        }
        if run.status.finished() && !more {
            self.ended = true;
            events.push(event("end", &json!(Run::from(run))));
        } else if run.report != self.progress {
            self.progress = run.report.clone();
            events.push(event("progress", &run.report));
        }
        Ok(events)
    }
}

fn event(name: &'static str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}
