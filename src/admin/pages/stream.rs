//! What changes on a page while it is open: a server-sent event for each block that is not as it was, a look each [`LIVE_PERIOD_MS`] or every so many of them.
//!
//! Bounds: [`LIVE_PAGES_MAX`] at once. One that nobody reads is not made further (the socket is full), and ends with its connection. It ends, too, when the page is gone (the topic
//! was deleted) and when the broker stops; the script comes back by itself.

use super::{Admin, Page, Problem, readiness};
use crate::limits::{LIVE_PAGES_MAX, LIVE_PERIOD_MS};
use axum::{
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde_json::json;
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};
use tokio::sync::OwnedSemaphorePermit;

struct Live<M> {
    admin: Admin,
    make: M,
    /// In [`LIVE_PERIOD_MS`].
    period: u32,
    /// What the reader has, by block.
    has: HashMap<&'static str, u64>,
    ready: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

/// The stream of a page's changes; 503 where there are too many.
pub async fn open<M, F>(admin: Admin, make: M) -> Response
where
    M: Fn() -> F + Send + 'static,
    F: Future<Output = Result<Page, Problem>> + Send,
{
    let Ok(_permit) = admin.0.live.clone().try_acquire_owned() else {
        let why = format!("{LIVE_PAGES_MAX} live pages are open already; this one does not update");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    // What cannot be shown at all is said before the stream begins.
    let period = match make().await {
        Ok(page) => page.period,
        Err(problem) => return problem.into_response(),
    };
    let live = Live { admin, make, period, has: HashMap::new(), ready: VecDeque::new(), _permit };
    let events = stream::unfold(live, async |mut live| {
        loop {
            if let Some(event) = live.ready.pop_front() {
                return Some((Ok::<_, Infallible>(event), live));
            }
            tokio::time::sleep(Duration::from_millis(LIVE_PERIOD_MS) * live.period).await;
            if live.admin.is_stopping() {
                return None;
            }
            let page = (live.make)().await.ok()?;
            let readiness = readiness(&live.admin).await;
            let blocks = page.blocks.into_iter().filter_map(|block| Some((block.id?, block.html)));
            for (id, html) in blocks.chain([("ready", readiness)]) {
                let html = html.into_string();
                let mut hasher = DefaultHasher::new();
                html.hash(&mut hasher);
                let is = hasher.finish();
                if live.has.insert(id, is) != Some(is) {
                    live.ready.push_back(Event::default().data(json!({ "id": id, "html": html }).to_string()));
                }
            }
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
