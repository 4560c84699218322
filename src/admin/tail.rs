//! `/v1/topics/{topic}/tail`: records as they come, as server-sent events.
//!
//! The stream is asked for an event only when the connection has room for one, and reads only then.

use super::{
    Admin, Problem,
    error::{Missing, Refusals},
    extract::{Name, Params},
    json::Message,
    messages::{self, From, bad},
    payload::{self, Format},
    topics::entry,
};
use crate::{
    broker::browse::{Cursor, Start, Tail, TailFrom, Told},
    limits::TAIL_CURSORS_PARTITIONS_MAX,
};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use std::{convert::Infallible, time::Duration};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// After so long a reader should come back.
const RETRY: Duration = Duration::from_secs(1);

/// Events that a tail makes before others have their turn.
const EVENTS_AT_ONCE: u32 = 8;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(tail))
}

/// Which records; at most one of `from`, `offset` and `cursor`.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TailParams {
    /// Only of this partition.
    #[param(minimum = 0)]
    pub partition: Option<i32>,
    /// Where to begin; `latest` where nothing says so: what comes from now on.
    #[param(inline)]
    pub from: Option<From>,
    /// From this offset on, in each partition; brought within what there is.
    #[param(minimum = 0)]
    pub offset: Option<i64>,
    /// Id of an event of another tail, or `live` of a page: goes on behind it. It stands for the partition and where to begin.
    #[param(max_length = 16384)]
    pub cursor: Option<String>,
    /// Only records with exactly this key.
    #[param(max_length = 1024)]
    pub key: Option<String>,
    /// Only records whose key, value, or a header holds this text.
    #[param(max_length = 1024)]
    pub contains: Option<String>,
    /// How payloads are shown.
    #[param(inline)]
    pub format: Option<Format>,
}

/// Follows records
///
/// Server-sent events: `message` (data: a record), `hole` (data: offsets that hold nothing to be shown, such as those deleted before they were read), `end` (data: why; the topic was
/// deleted). The id of an event is a cursor: a reader that comes back with it as `Last-Event-ID`, as browsers do by themselves, goes on behind it, seeing each record once (a tail of more
/// than 64 partitions: at least once). Events without data come each 15 seconds while there is nothing to tell. A reader that is too slow lags and goes on. A connection is ended after 5 to 10
/// minutes; 1,024 tails are served at once (fewer where the machine allows few files).
#[utoipa::path(
    get, path = "/v1/topics/{topic}/tail", tag = "messages", operation_id = "tailMessages",
    params(
        ("topic" = String, Path, description = "Topic", example = "orders"),
        TailParams,
        ("Last-Event-ID" = Option<String>, Header, description = "As `cursor`, which it overrides"),
    ),
    responses(
        (status = 200, description = "Events without end; the data of a `message` is this", body = Message, content_type = "text/event-stream"),
        Refusals, Missing,
    )
)]
async fn tail(
    State(admin): State<Admin>,
    Name(name): Name,
    Params(params): Params<TailParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let broker = admin.serving()?;
    let topic = entry(broker, &name)?;
    let last = match headers.get("last-event-id").map(HeaderValue::to_str) {
        Some(Ok(id)) => Some(id).filter(|id| !id.is_empty()),
        Some(Err(_)) => return Err(bad("Last-Event-ID is no cursor")),
        None => None,
    };
    let given = [params.from.is_some(), params.offset.is_some(), params.cursor.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(bad("only one of from, offset and cursor can be given"));
    }
    if params.cursor.is_some() && params.partition.is_some() {
        return Err(bad("a cursor stands for the partition: leave partition out"));
    }
    let (id, partitions) = (topic.state.id, topic.partitions.len());
    let from = match (last.or(params.cursor.as_deref()), params.offset, params.from) {
        (Some(cursor), ..) => TailFrom::Cursor(Cursor::decode(cursor, id, partitions)?),
        (_, Some(..0), _) => return Err(bad("an offset is 0 or later")),
        (_, Some(offset), _) => TailFrom::Start(Start::Offset(offset)),
        (_, _, Some(From::Earliest)) => TailFrom::Start(Start::Earliest),
        _ => TailFrom::Latest,
    };
    let filter = messages::filter(&params.key, &params.contains)?;
    let tail = Tail::begin(broker, topic, params.partition, from, filter).await?;
    let format = params.format.unwrap_or_default();
    // The first event has no data either: who comes back before there was one begins where it began here.
    let begin = Event::default().retry(RETRY).id(tail.cursor().encode(id));
    // Makes way for others after some events: else a thousand tails that begin at once hold up the threads that serve producers for all that their connections have room for.
    let events = stream::unfold((tail, 1u32), move |(mut tail, count)| async move {
        let told = tail.next().await?;
        if count.is_multiple_of(EVENTS_AT_ONCE) {
            tokio::task::yield_now().await;
        }
        Some((event(&tail, told, id, format), (tail, count.wrapping_add(1))))
    });
    let events = stream::once(async { begin }).chain(events).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).into_response();
    // Proxies are to pass it on as it comes.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn event(tail: &Tail, told: Told, topic: Uuid, format: Format) -> Event {
    let event = Event::default();
    let event = match tail.partition_count() <= TAIL_CURSORS_PARTITIONS_MAX || !tail.has_pending() {
        true => event.id(tail.cursor().encode(topic)),
        false => event,
    };
    let json = |event: Event, name: &str, data: serde_json::Result<String>| match data {
        Ok(data) => event.event(name).data(data),
        // Nothing of ours fails to be JSON.
        Err(e) => event.comment(e.to_string().replace(['\r', '\n'], " ")),
    };
    match told {
        Told::Record(found) => json(event, "message", serde_json::to_string(&payload::message(&found, format))),
        Told::Hole(hole) => json(event, "hole", serde_json::to_string(&payload::hole(hole))),
        Told::End(why) => json(event, "end", serde_json::to_string(&serde_json::json!({ "reason": why }))),
        Told::Idle => event.comment(""),
    }
}
