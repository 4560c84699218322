//! `/metrics`: the page that Prometheus scrapes, written from the state at each scrape.

use super::{Admin, Problem, error::Refusals, extract::Params};
use crate::{
    broker::{
        Broker,
        latency::{GroupStage, Stage, Subject},
        partitions::{Table, TopicEntry},
    },
    client::error::api_name,
    limits::{METRICS_NAMES_MAX, METRICS_PARTITIONS_MAX},
    metrics::{self as m, Metric, Page},
    partition::traffic::Counts,
};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use hdrhistogram::Histogram;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// What is told of a summary.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (0.999, "0.999")];

/// The routes here.
pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// What may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Tell of partitions too.
    partitions: Option<bool>,
}

/// The metrics as Prometheus' text. While the broker starts those of connections and requests only.
#[utoipa::path(get, path = "/metrics", tag = "figures", params(Wanted),
    responses((status = 200, description = "Prometheus' text", body = String, content_type = "text/plain"), Refusals))]
pub async fn metrics(State(admin): State<Admin>, Params(wanted): Params<Wanted>) -> Result<Response, Problem> {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let mut text = admin.0.metrics.render();
    if let Some(broker) = admin.broker().cloned() {
        // Milliseconds with many topics: not on a thread that serves connections.
        let env = broker.env.clone();
        text.push_str(&env.blocking(move || page(&broker, wanted.partitions.unwrap_or(false))).await);
    }
    Ok((kind, text).into_response())
}

/// What is told of the broker's state. Blocks.
fn page(broker: &Broker, partitions: bool) -> String {
    let mut page = Page::default();
    let table = broker.partitions.snapshot();
    topics(&mut page, broker, &table);
    if partitions {
        of_partitions(&mut page, &table);
    }
    groups(&mut page, broker);
    if broker.latency.is_on() {
        latency(&mut page, broker);
    }
    if let Some(process) = broker.env.process() {
        page.single(&m::PROCESS_CPU_SECONDS, process.cpu_ms as f64 / 1000.0);
        page.single(&m::PROCESS_RESIDENT_BYTES, process.resident_bytes);
        page.single(&m::PROCESS_OPEN_FILES, process.open_files);
    }
    page.finish()
}

fn leads(topic: &TopicEntry) -> usize {
    topic.partitions.iter().filter(|p| p.check_leader(-1).is_ok()).count()
}

fn topics(page: &mut Page, broker: &Broker, table: &Table) {
    let count = table.topics().count();
    page.single(&m::TOPICS, count);
    page.single(&m::TOPICS_NOT_SHOWN, count.saturating_sub(METRICS_NAMES_MAX));
    page.single(&m::PARTITIONS, table.topics().map(|topic| leads(topic)).sum::<usize>());
    let shown: Vec<&Arc<TopicEntry>> = table.topics().take(METRICS_NAMES_MAX).collect();
    let mut each = |metric: &Metric, value: &dyn Fn(usize, &TopicEntry) -> u64| {
        page.metric(metric);
        for (n, topic) in shown.iter().enumerate() {
            page.sample(metric, "", &[&topic.state.name], value(n, topic));
        }
    };
    each(&m::TOPIC_PARTITIONS, &|_, topic| leads(topic) as u64);
    each(&m::TOPIC_SIZE_BYTES, &|_, topic| topic.partitions.iter().map(|p| p.size_bytes()).sum());
    let at_risk: Vec<_> = shown.iter().map(|topic| broker.at_risk(topic)).collect();
    each(&m::TOPIC_AT_RISK_RECORDS, &|n, _| at_risk[n].records);
    each(&m::TOPIC_AT_RISK_BYTES, &|n, _| at_risk[n].bytes);
    if broker.latency.is_on() {
        // A scrape sees one state of each topic's counters.
        let counts: Vec<Counts> = shown.iter().map(|topic| topic.state.traffic.counts()).collect();
        each(&m::TOPIC_IN_BYTES, &|n, _| counts[n].bytes_in);
        each(&m::TOPIC_IN_RECORDS, &|n, _| counts[n].records_in);
        each(&m::TOPIC_IN_BATCHES, &|n, _| counts[n].batches_in);
        each(&m::TOPIC_OUT_BYTES, &|n, _| counts[n].bytes_out);
        each(&m::TOPIC_OUT_RECORDS, &|n, _| counts[n].records_out);
        page.metric(&m::TOPIC_AT_RISK_SECONDS);
        for (topic, at_risk) in shown.iter().zip(&at_risk) {
            let age_s = at_risk.oldest_ms.unwrap_or(0) as f64 / 1000.0;
            page.sample(&m::TOPIC_AT_RISK_SECONDS, "", &[&topic.state.name], age_s);
        }
    }
}

fn of_partitions(page: &mut Page, table: &Table) {
    let count = table.partitions().count();
    page.single(&m::PARTITIONS_NOT_SHOWN, count.saturating_sub(METRICS_PARTITIONS_MAX));
    let all = table.topics().flat_map(|topic| topic.partitions.iter().map(|p| (&topic.state.name, p)));
    let told =
        |(name, p): (_, &Arc<crate::partition::Partition>)| (name, p.index().to_string(), p.offsets(), p.size_bytes());
    let shown: Vec<_> = all.take(METRICS_PARTITIONS_MAX).map(told).collect();
    let mut each = |metric: &Metric, value: fn(&crate::partition::Offsets) -> i64| {
        page.metric(metric);
        for (name, index, offsets, _) in &shown {
            // Those that wait for their recovery, or are offline, have none.
            if let Ok(offsets) = offsets {
                page.sample(metric, "", &[name, index], value(offsets));
            }
        }
    };
    each(&m::PARTITION_LOG_START, |offsets| offsets.log_start);
    each(&m::PARTITION_HIGH_WATERMARK, |offsets| offsets.high_watermark);
    each(&m::PARTITION_LOG_END, |offsets| offsets.log_end);
    page.metric(&m::PARTITION_SIZE_BYTES);
    for (name, index, _, size_bytes) in &shown {
        page.sample(&m::PARTITION_SIZE_BYTES, "", &[name, index], size_bytes);
    }
}

fn groups(page: &mut Page, broker: &Broker) {
    let now_ms = broker.env.now_ms();
    let groups = broker.lag.summaries();
    page.single(&m::GROUPS_NOT_SHOWN, broker.lag.others() + groups.len().saturating_sub(METRICS_NAMES_MAX));
    page.metric(&m::GROUP_LAG_RECORDS);
    for group in groups.iter().take(METRICS_NAMES_MAX) {
        page.sample(&m::GROUP_LAG_RECORDS, "", &[&group.group], group.lag_records);
    }
    page.metric(&m::GROUP_LAG_SECONDS);
    for group in groups.iter().take(METRICS_NAMES_MAX) {
        if let Some(age_s) = group.oldest.age_s(now_ms) {
            page.sample(&m::GROUP_LAG_SECONDS, "", &[&group.group], age_s);
        }
    }
}

fn latency(page: &mut Page, broker: &Broker) {
    page.single(&m::HISTOGRAMS, broker.latency.made());
    page.single(&m::FETCHES_UNATTRIBUTED, broker.latency.unattributed());
    let subjects = broker.latency.subjects();
    let mut each = |metric: &Metric, labels: &dyn Fn(&Subject) -> Option<Vec<Arc<str>>>| {
        page.metric(metric);
        for subject in &subjects {
            if let Some(labels) = labels(subject)
                && let Some(histogram) = broker.latency.histogram(subject)
            {
                summary(page, metric, &labels, &histogram);
            }
        }
    };
    let api = |key: &i16| Some(vec![api_name(*key).into()]);
    each(&m::REQUEST_SECONDS, &|subject| match subject {
        Subject::Api(key) => api(key),
        Subject::OtherApis => Some(vec!["other".into()]),
        _ => None,
    });
    each(&m::REQUEST_WORKED_SECONDS, &|subject| match subject {
        Subject::ApiWorked(key) => api(key),
        _ => None,
    });
    let of_stage = |name: &Arc<str>, stage: &Stage| Some(vec![name.clone(), stage.name().into()]);
    each(&m::PRODUCE_SECONDS, &|subject| match subject {
        Subject::Topic { name, stage } => of_stage(name, stage),
        Subject::OtherTopics(stage) => of_stage(&"".into(), stage),
        _ => None,
    });
    let of_stage = |name: &Arc<str>, stage: &GroupStage| Some(vec![name.clone(), stage.name().into()]);
    each(&m::GROUP_SECONDS, &|subject| match subject {
        Subject::Group { name, stage } => of_stage(name, stage),
        Subject::OtherGroups(stage) => of_stage(&"".into(), stage),
        _ => None,
    });
}

/// Quantiles, sum and count of a histogram in µs. Sum and quantiles are as exact as its buckets are wide (0.8 %).
fn summary(page: &mut Page, metric: &Metric, labels: &[Arc<str>], histogram: &Histogram<u32>) {
    let mut values: Vec<&str> = labels.iter().map(|label| &**label).collect();
    for (quantile, name) in QUANTILES {
        values.push(name);
        page.sample(metric, "", &values, seconds(histogram.value_at_quantile(quantile) as f64));
        values.pop();
    }
    page.sample(metric, "_sum", &values, seconds(histogram.mean() * histogram.len() as f64));
    page.sample(metric, "_count", &values, histogram.len());
}

fn seconds(us: f64) -> f64 {
    us / 1e6
}
