//! `/v1/latency`: histograms by API, topic and group, as percentiles, as buckets, or as an HDR interval log.

use super::{
    Admin, Problem,
    error::Refusals,
    extract::{Params, limit},
    json::{Bucket, Latency, LatencyList, Percentile},
};
use crate::{
    broker::{
        Broker,
        latency::{GroupStage, Stage, Subject},
    },
    client::error::api_name,
    limits::{HTTP_BUCKET_LISTS_MAX, HTTP_LIST_DEFAULT, HTTP_LIST_MAX},
};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};
use serde::Deserialize;
use std::time::{Duration, UNIX_EPOCH};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Percentiles that are shown.
const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];

/// The routes here.
pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(get_latency))
}

/// How the histograms are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// An HDR interval log (text), one line a histogram with its tag, values in microseconds.
    Hdr,
}

/// What a histogram is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KindParam {
    /// Requests of an API.
    Api,
    /// Produce requests of a topic.
    Topic,
    /// What a group consumed.
    Group,
}

/// Which histograms, and how.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct LatencyParams {
    /// Only those of this kind.
    #[param(inline)]
    pub kind: Option<KindParam>,
    /// Only those of this API, topic or group.
    pub name: Option<String>,
    /// Only those of this stage.
    pub stage: Option<String>,
    /// Every bucket with samples, too; at most 20 histograms in one answer then.
    pub buckets: Option<bool>,
    /// JSON where it is not given.
    #[param(inline)]
    pub format: Option<Format>,
    /// Histograms in one answer; 100 where it is not given (20 with buckets).
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// `next` of the answer before.
    pub cursor: Option<String>,
}

/// Latency histograms by API, topic and group. `other` stands for all those that have no histogram of their own.
#[utoipa::path(get, path = "/v1/latency", tag = "figures", params(LatencyParams),
    responses((status = 200, description = "The histograms", content((LatencyList = "application/json"), (String = "text/plain"))), Refusals))]
async fn get_latency(State(admin): State<Admin>, Params(params): Params<LatencyParams>) -> Result<Response, Problem> {
    let broker = admin.serving()?;
    match params.format.unwrap_or_default() {
        Format::Json => Ok(Json(latency(broker, &params)?).into_response()),
        Format::Hdr => {
            // Up to a thousand histograms, each deflated: not on a thread that serves connections.
            let (broker, env, uptime) = (broker.clone(), broker.env.clone(), admin.uptime());
            let log = env.blocking(move || {
                let now_ms = u64::try_from(broker.env.now_ms()).unwrap_or(0);
                Ok::<_, Problem>(interval_log(&page(&broker, &params)?.0, now_ms, uptime))
            });
            let log = log.await?;
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], log).into_response())
        }
    }
}

/// A histogram with its name.
#[derive(Debug)]
pub struct Named {
    pub kind: &'static str,
    pub name: String,
    pub stage: &'static str,
    pub histogram: Histogram<u32>,
}

/// Kind, name and stage of a subject.
fn names(subject: &Subject) -> (&'static str, String, &'static str) {
    let stage = |stage: &Stage| match stage {
        Stage::Append => "received_to_appended",
        Stage::Settle => "appended_to_settled",
        Stage::Acknowledge => "settled_to_acknowledged",
        Stage::Total => "received_to_acknowledged",
    };
    let of_group = |stage: &GroupStage| match stage {
        GroupStage::Commit => "appended_to_committed",
        GroupStage::Fetch => "appended_to_fetched",
    };
    match subject {
        Subject::Api(key) => ("api", api_name(*key), "total"),
        Subject::ApiWorked(key) => ("api", api_name(*key), "worked"),
        Subject::OtherApis => ("api", "other".into(), "total"),
        Subject::Topic { name, stage: s } => ("topic", name.to_string(), stage(s)),
        // No topic or group is called so: no name of a topic holds a blank, and the kinds below stand apart by it.
        Subject::OtherTopics(s) => ("topic", "other topics".into(), stage(s)),
        Subject::Group { name, stage: s } => ("group", name.to_string(), of_group(s)),
        Subject::OtherGroups(s) => ("group", "other groups".into(), of_group(s)),
    }
}

/// The histograms asked for, in the order of the broker's list, and the cursor of those that follow.
fn page(broker: &Broker, params: &LatencyParams) -> Result<(Vec<Named>, Option<String>), Problem> {
    let (default, max) = match params.buckets == Some(true) && params.format != Some(Format::Hdr) {
        true => (HTTP_BUCKET_LISTS_MAX, HTTP_BUCKET_LISTS_MAX),
        false => (HTTP_LIST_DEFAULT, HTTP_LIST_MAX),
    };
    let limit = limit(params.limit, default, max)?;
    let from = match params.cursor.as_deref().map(str::parse::<u32>) {
        None => 0,
        Some(Ok(from)) => from as usize,
        Some(Err(_)) => return Err(Problem::new(StatusCode::BAD_REQUEST, "cursor: not one that an answer gave")),
    };
    let kind = params.kind.map(|kind| match kind {
        KindParam::Api => "api",
        KindParam::Topic => "topic",
        KindParam::Group => "group",
    });
    let wanted = |(k, n, s): &(&'static str, String, &'static str)| {
        kind.is_none_or(|kind| kind == *k)
            && params.name.as_ref().is_none_or(|name| name == n)
            && params.stage.as_ref().is_none_or(|stage| stage == s)
    };
    let subjects = broker.latency.subjects();
    let mut found = subjects.iter().enumerate().skip(from).filter(|(_, subject)| wanted(&names(subject)));
    let named = |subject: &Subject| {
        let (kind, name, stage) = names(subject);
        Some(Named { kind, name, stage, histogram: broker.latency.histogram(subject)? })
    };
    let page = found.by_ref().take(limit).filter_map(|(_, subject)| named(subject)).collect();
    let next = found.next().map(|(place, _)| place.to_string());
    Ok((page, next))
}

/// The histograms asked for.
pub fn latency(broker: &Broker, params: &LatencyParams) -> Result<LatencyList, Problem> {
    let (page, next) = page(broker, params)?;
    let buckets = params.buckets == Some(true);
    let histograms = page.iter().map(|named| shown(named, buckets)).collect();
    Ok(LatencyList { histograms, next, unattributed: broker.latency.unattributed() })
}

/// A histogram in numbers.
pub fn shown(named: &Named, buckets: bool) -> Latency {
    let h = &named.histogram;
    let percentile = |percentile| Percentile { percentile, us: h.value_at_percentile(percentile).min(h.max()) };
    let bucket = |v: hdrhistogram::iterators::IterationValue<u32>| Bucket {
        to_us: v.value_iterated_to(),
        count: u64::from(v.count_at_value()),
    };
    Latency {
        kind: named.kind.into(),
        name: named.name.clone(),
        stage: named.stage.into(),
        count: h.len(),
        mean_us: h.mean(),
        max_us: h.max(),
        percentiles: PERCENTILES.into_iter().map(percentile).collect(),
        buckets: buckets.then(|| h.iter_recorded().map(bucket).collect()),
    }
}

/// The histograms as an HDR interval log: one interval, from the broker's start until now, a line for each with the tag `kind/name/stage`.
fn interval_log(histograms: &[Named], now_ms: u64, up: Duration) -> Vec<u8> {
    let mut serializer = V2DeflateSerializer::new();
    let mut log = Vec::new();
    let started = Duration::from_millis(now_ms).saturating_sub(up);
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_start_time(UNIX_EPOCH + started).with_base_time(UNIX_EPOCH + started);
    builder.add_comment("Latencies since the broker's start, in microseconds");
    // Writing to memory does not fail.
    let Ok(mut writer) = builder.begin_log_with(&mut log, &mut serializer) else { return Vec::new() };
    for named in histograms {
        let tag = format!("{}/{}/{}", named.kind, escaped(&named.name), named.stage);
        let Some(tag) = Tag::new(&tag) else { continue };
        let written = writer.write_histogram(&named.histogram, Duration::ZERO, up, Some(tag));
        if let Err(error) = written {
            tracing::warn!(%error, name = named.name, "a histogram was not written");
        }
    }
    log
}

/// A name as a tag may hold it: what is not printable ASCII, and `,`, `%` and `/`, as `%XX`.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b',' | b'%' | b'/' => text.push_str(&format!("%{byte:02X}")),
            b'!'..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };

    fn named(name: &str, values: &[u64]) -> Named {
        let mut histogram = Histogram::new_with_bounds(1, 120_000_000, 2).unwrap();
        values.iter().for_each(|v| histogram.record(*v).unwrap());
        Named { kind: "group", name: name.into(), stage: "appended_to_committed", histogram }
    }

    #[test]
    fn a_histogram_is_shown_with_all_its_samples() {
        let values: Vec<u64> = (1..=1000).collect();
        let shown = shown(&named("g", &values), true);
        assert_eq!((shown.count, shown.percentiles.len()), (1000, 7));
        assert_eq!(shown.buckets.as_ref().unwrap().iter().map(|b| b.count).sum::<u64>(), 1000);
        let p50 = shown.percentiles[0];
        assert!((p50.us as f64 / 500.0 - 1.0).abs() < 0.01, "{p50:?}");
        assert!(shown.percentiles.iter().all(|p| p.us <= shown.max_us));
    }

    #[test]
    fn the_interval_log_is_read_back_by_its_reader() {
        let log = interval_log(
            &[named("a, b/c%\u{e9}", &[5, 7]), named("x", &[1])],
            1_700_000_000_000,
            Duration::from_secs(9),
        );
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            if let LogEntry::Interval(line) = entry.expect("a line that can be read") {
                let bytes = base64_of(line.encoded_histogram());
                let histogram: Histogram<u32> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                read.push((line.tag().unwrap().as_str().to_owned(), line.duration().as_secs(), histogram.len()));
            }
        }
        let expected = [
            ("group/a%2C%20b%2Fc%25%C3%A9/appended_to_committed".to_owned(), 9, 2),
            ("group/x/appended_to_committed".to_owned(), 9, 1),
        ];
        assert_eq!(read, expected);
    }

    fn base64_of(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits = text.bytes().filter(|b| *b != b'=').map(|b| ALPHABET.iter().position(|a| *a == b).unwrap() as u32);
        let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
        for digit in digits {
            (held, bits) = ((held << 6) | digit, bits + 6);
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits) as u8);
                held &= (1 << bits) - 1;
            }
        }
        bytes
    }
}
