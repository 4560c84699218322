//! `POST /v1/topics/{topic}/messages`: records published.

use super::{
    Admin, Problem,
    error::{BadBody, Missing, Refusals},
    extract::{Body, Name, Nothing, Params},
    json::{NewMessage, Payload, Position, Publish, Published},
    payload,
    topics::entry,
};
use crate::{
    broker::publish::NewRecord,
    limits::{PUBLISH_RECEIVE_MS_MAX, PUBLISHES_MAX},
};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::time::Duration;
use tokio::time::timeout;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(publish))
}

/// Publishes records
///
/// As a producer with acks=all: answered once the records are as durable as the topic asks for. A key decides the partition as Kafka's clients do (murmur2). The topic must be there. Bodies have
/// 4 MiB at most. Sent twice they are stored twice.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/messages", tag = "messages", operation_id = "publishMessages",
    params(("topic" = String, Path, description = "Topic", example = "orders")),
    request_body(content = Publish, example = json!({"messages": [{
        "key": {"encoding": "text", "data": "order-17"},
        "value": {"encoding": "json", "data": {"order": 17, "total": 29.90}},
        "headers": [{"key": "trace", "value": {"encoding": "base64", "data": "3q2+7w=="}}],
    }]})),
    responses(
        (status = 200, description = "All are stored", body = Published),
        (status = 207, description = "Some are stored", body = Published),
        Refusals, Missing, BadBody,
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "Not durable; what became of the records is not known", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Not durable in time; what became of the records is not known", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The disk is full; nothing is stored", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn publish(
    State(admin): State<Admin>,
    Name(name): Name,
    Params(_): Params<Nothing>,
    request: Request,
) -> Result<Response, Problem> {
    let broker = admin.serving()?;
    let topic = entry(broker, &name)?;
    let patience = Duration::from_millis(PUBLISH_RECEIVE_MS_MAX);
    let busy = |_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{PUBLISHES_MAX} such requests are under way already"))
    };
    // Never closed.
    let _one = timeout(patience, broker.publishing.acquire()).await.map_err(busy)?;
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    let Body(Publish { messages }) = timeout(patience, Body::from_request(request, &())).await.map_err(late)??;
    if messages.is_empty() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "there is no record to be published"));
    }
    let records = messages.into_iter().enumerate().map(|(n, message)| record(n, message));
    let outcomes = broker.publish(&topic, records.collect::<Result<_, _>>()?).await.map_err(|e| Problem::from(&e))?;
    let failed = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().err());
    let failed: Vec<&_> = failed.collect();
    let status = match failed.first() {
        None => StatusCode::OK,
        Some(first) if failed.len() == outcomes.len() => {
            let first = Problem::from(&***first);
            // All for reasons of one kind: the answer is that.
            if failed.iter().all(|error| Problem::from(&***error).status() == first.status()) {
                return Err(first);
            }
            StatusCode::MULTI_STATUS
        }
        Some(_) => StatusCode::MULTI_STATUS,
    };
    let results = outcomes
        .iter()
        .map(|(partition, outcome)| Position {
            partition: *partition,
            offset: outcome.as_ref().ok().copied(),
            error: outcome.as_ref().err().map(|error| error.to_string()),
        })
        .collect();
    Ok((status, Json(Published { results })).into_response())
}

/// The record that message number `n` stands for.
fn record(n: usize, message: NewMessage) -> Result<NewRecord, Problem> {
    let refuse =
        |what: &str, why: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("messages[{n}].{what}: {why}"));
    let bytes = |what: &str, payload: &Option<Payload>| match payload {
        Some(payload) => payload::bytes(payload).map(Some).map_err(|why| refuse(what, why)),
        None => Ok(None),
    };
    Ok(NewRecord {
        partition: message.partition,
        timestamp_ms: message.timestamp_ms,
        key: bytes("key", &message.key)?,
        value: bytes("value", &message.value)?,
        headers: message
            .headers
            .into_iter()
            .map(|header| Ok((header.key, bytes("headers", &header.value)?)))
            .collect::<Result<_, Problem>>()?,
    })
}
