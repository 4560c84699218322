//! `/v1/topics/{topic}/messages`: records looked at.

use super::{
    Admin, Problem,
    error::{Missing, Refusals},
    extract::{Name, Params, Segments},
    json::{Message, MessagePage},
    payload::{self, Format},
    topics::entry,
};
use crate::{
    broker::{
        browse::{Ask, Cursor, Filter, Found, Place, Start},
        partitions::TopicEntry,
    },
    limits::{
        BROWSE_FILTER_BYTES_MAX, BROWSE_RECORDS_DEFAULT, BROWSE_RECORDS_MAX, RECORD_PAYLOAD_BYTES_MAX,
        UNPACKED_BATCH_BYTES_MAX,
    },
};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one))
}

/// The end of a topic at which a look begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The oldest record; oldest first, partition by partition.
    Earliest,
    /// The newest record; newest first, all partitions merged by timestamp.
    Latest,
}

/// Which records; at most one of `from`, `offset`, `time_ms` and `cursor`.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Look {
    /// Only of this partition.
    #[param(minimum = 0)]
    pub partition: Option<i32>,
    /// Where to begin; `earliest` where nothing says so. `latest` goes back from the newest record.
    #[param(inline)]
    pub from: Option<From>,
    /// From this offset on (the first record there is, where that is later). Negative: the last so many records of all partitions asked for, newest first, without `limit`.
    pub offset: Option<i64>,
    /// From the first record of each partition whose timestamp is this or later.
    pub time_ms: Option<i64>,
    /// Records at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: Option<usize>,
    /// `next` of another page: goes on behind it. It stands for the partition and where to begin.
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

impl Look {
    /// What the broker is asked.
    pub fn ask(&self, topic: Arc<TopicEntry>) -> Result<Ask, Problem> {
        let given = [self.from.is_some(), self.offset.is_some(), self.time_ms.is_some(), self.cursor.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(bad("only one of from, offset, time_ms and cursor can be given"));
        }
        if self.cursor.is_some() && self.partition.is_some() {
            return Err(bad("a cursor stands for the partition: leave partition out"));
        }
        let mut limit = self.limit.unwrap_or(BROWSE_RECORDS_DEFAULT);
        let place = match (&self.cursor, self.offset, self.time_ms, self.from) {
            (Some(cursor), ..) => Place::Cursor(Cursor::decode(cursor, topic.state.id, topic.partitions.len())?),
            (_, Some(back @ ..0), ..) => {
                if self.limit.is_some() {
                    return Err(bad("a negative offset says how many records: leave limit out"));
                }
                limit = usize::try_from(back.unsigned_abs()).unwrap_or(usize::MAX);
                Place::Newest
            }
            (_, Some(offset), ..) => Place::From(Start::Offset(offset)),
            (_, _, Some(ms), _) => Place::From(Start::TimeMs(ms)),
            (_, _, _, Some(From::Latest)) => Place::Newest,
            _ => Place::From(Start::Earliest),
        };
        if limit == 0 || limit > BROWSE_RECORDS_MAX {
            return Err(bad(format!("1 to {BROWSE_RECORDS_MAX} records can be asked for at once")));
        }
        let filter = filter(&self.key, &self.contains)?;
        Ok(Ask { topic, partition: self.partition, place, limit, filter })
    }
}

pub(super) fn filter(key: &Option<String>, contains: &Option<String>) -> Result<Filter, Problem> {
    let long = |text: &&String| text.len() > BROWSE_FILTER_BYTES_MAX;
    if key.iter().chain(contains).any(|text| long(&text)) {
        return Err(bad(format!("key and contains have {BROWSE_FILTER_BYTES_MAX} bytes at most")));
    }
    let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
    Ok(Filter { key: bytes(key), contains: bytes(contains).filter(|text| !text.is_empty()) })
}

pub(super) fn bad(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, why)
}

/// Looks at records
///
/// Only what consumers see: below the high watermark, without control records. Payloads are cut at 16 KiB (`truncated`), a page ends at `limit` records, 2 MiB of payload, or 64 MiB looked at.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/messages", tag = "messages", operation_id = "listMessages",
    params(("topic" = String, Path, description = "Topic", example = "orders"), Look),
    responses(
        (status = 200, description = "Records", body = MessagePage),
        Refusals, Missing,
    )
)]
async fn list(
    State(admin): State<Admin>,
    Name(name): Name,
    Params(look): Params<Look>,
) -> Result<Json<MessagePage>, Problem> {
    Ok(Json(browse(&admin, &name, &look).await?))
}

/// A page of records, as pages and JSON show it.
pub async fn browse(admin: &Admin, name: &str, look: &Look) -> Result<MessagePage, Problem> {
    let broker = admin.serving()?;
    let topic = entry(broker, name)?;
    let (id, format) = (topic.state.id, look.format.unwrap_or_default());
    let page = broker.browse(look.ask(topic)?).await?;
    let messages = page.records.iter().map(|found| payload::message(found, format)).collect();
    let text = |cursor: Option<Cursor>| cursor.map(|cursor| cursor.encode(id));
    let holes = page.holes.into_iter().map(payload::hole).collect();
    Ok(MessagePage { messages, holes, next: text(page.next), live: text(page.live) })
}

/// Which part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Its key.
    Key,
    /// Its value.
    Value,
}

/// How a record is wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OneParams {
    /// Only this part of it, as it is: bytes to be saved, whatever their size.
    #[param(inline)]
    pub part: Option<Part>,
    /// How payloads are shown.
    #[param(inline)]
    pub format: Option<Format>,
}

/// Looks at one record
///
/// Its payloads are cut at 1 MiB (`truncated`); with `part` one of them comes whole, as bytes.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/messages/{partition}/{offset}", tag = "messages", operation_id = "getMessage",
    params(
        ("topic" = String, Path, description = "Topic", example = "orders"),
        ("partition" = i32, Path, description = "Partition", example = 0, minimum = 0),
        ("offset" = i64, Path, description = "Offset", example = 0, minimum = 0),
        OneParams,
    ),
    responses(
        (status = 200, description = "The record", content(
            (Message = "application/json"),
            (Vec<u8> = "application/octet-stream"),
        )),
        Refusals, Missing,
    )
)]
async fn one(
    State(admin): State<Admin>,
    Segments((name, partition, offset)): Segments<(String, i32, i64)>,
    Params(params): Params<OneParams>,
) -> Result<Response, Problem> {
    let broker = admin.serving()?;
    let topic = entry(broker, &name)?;
    let bytes_max = if params.part.is_some() { UNPACKED_BATCH_BYTES_MAX } else { RECORD_PAYLOAD_BYTES_MAX };
    let found = broker.record(&topic, partition, offset, bytes_max).await?;
    match params.part {
        Some(part) => download(found, part),
        None => Ok(Json(payload::message(&found, params.format.unwrap_or_default())).into_response()),
    }
}

/// The bytes of one part, for the disk of whoever asks: never to be shown as a page of ours.
fn download(found: Found, part: Part) -> Result<Response, Problem> {
    let (name, bytes) = match part {
        Part::Key => ("key", found.key),
        Part::Value => ("value", found.value),
    };
    let bytes = bytes.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("the record has no {name}")))?;
    let (partition, offset) = (found.partition, found.offset);
    let disposition = format!("attachment; filename=\"{partition}-{offset}.{name}\"");
    let mut response = bytes.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}
