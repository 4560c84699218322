//! The overview: does it take records, what flows, what needs a look.

use super::{
    Admin, Block, Page, Problem,
    chart::{Lines, Series, Unit, lines},
    group_path, text, topic_path,
};
use crate::{
    admin::{cluster, groups, health, json},
    broker::{Broker, throughput},
    config::Listener,
};
use maud::{Markup, html};
use std::net::IpAddr;

/// Groups and partitions named as needing a look.
const ATTENTION: usize = 6;
/// A group this far behind and not catching up needs a look, seconds.
const BEHIND_S: f64 = 10.0;

/// The page, for a reader who came by the name `host`.
pub async fn page(admin: &Admin, host: &str) -> Result<Page, Problem> {
    let Some(broker) = admin.broker() else {
        let blocks = vec![Block::live("state", state(None, health::reason(admin).await.as_deref()))];
        return Ok(Page { title: "Overview".into(), section: "/", period: 1, blocks });
    };
    let cluster = cluster::cluster(admin, broker).await;
    let blocks = vec![
        Block::live("state", state(Some(&cluster), cluster.reason.as_deref())),
        Block::live("figures", figures(&cluster)),
        Block::live("attention", attention(admin, broker).await),
        Block::live("throughput", throughput_of(&broker.throughput.all(), "all topics")),
        Block::live("busiest", busiest(broker)),
        Block::still(connect(broker, host)),
    ];
    Ok(Page { title: "Overview".into(), section: "/", period: 2, blocks })
}

fn state(cluster: Option<&json::Cluster>, reason: Option<&str>) -> Markup {
    html! {
        h1 { "Overview" }
        @match reason {
            None => p.lead { "The broker takes records." }
            Some(why) => p.lead.alert { "The broker does not take records: " (text::shown(why)) "." }
        }
        @if let Some(cluster) = cluster {
            // By the minute once it is one: a number that ticks each second says nothing more.
            @let step_s = if cluster.uptime_s < 60.0 { 1.0 } else { 60.0 };
            p.muted { "Up for " (text::seconds((cluster.uptime_s / step_s).floor() * step_s)) ". Node " (cluster.node_id) " of cluster " code { (cluster.cluster_id) } ", Millstream " (cluster.version) }
        }
    }
}

fn figures(cluster: &json::Cluster) -> Markup {
    let (rates, at_risk) = (&cluster.rates, &cluster.at_risk);
    html! {
        dl.figures {
            div { dt { "In" } dd { (text::bytes(rates.in_bytes_per_s)) "/s" span.sub { (text::count(rates.in_records_per_s)) " records/s, last minute" } } }
            div { dt { "Out" } dd { (text::bytes(rates.out_bytes_per_s)) "/s" span.sub { (text::count(rates.out_records_per_s)) " records/s, last minute" } } }
            div { dt { "Topics" } dd { (text::grouped(cluster.topics as i64)) span.sub { (text::grouped(cluster.partitions as i64)) " partitions" } } }
            div { dt { "On disk" } dd { (text::bytes(cluster.size_bytes as f64)) span.sub { "of logs" } } }
            div {
                dt { "At risk" }
                dd {
                    (text::count(at_risk.records as f64))
                    span.sub {
                        "records not yet on disk"
                        @if let Some(oldest_ms) = at_risk.oldest_ms { ", oldest " (text::seconds(oldest_ms as f64 / 1e3)) }
                    }
                }
            }
            div { dt { "Connections" } dd { (text::grouped(cluster.connections as i64)) span.sub { "of Kafka clients" } } }
        }
    }
}

/// What needs a look: partitions that are not served, groups that fall behind or are stuck.
async fn attention(admin: &Admin, broker: &Broker) -> Markup {
    let table = broker.partitions.snapshot();
    let mut broken = Vec::new();
    for topic in table.topics() {
        for (number, partition) in topic.partitions.iter().enumerate() {
            if broken.len() < ATTENTION
                && let Err(error) = partition.offsets()
            {
                broken.push((topic.state.name.clone(), number, error.to_string()));
            }
        }
    }
    // The samples of the last seconds say whom to ask: no coordinator is bothered for those that are well.
    let summaries = broker.lag.summaries();
    let now_ms = broker.env.now_ms();
    let behind = summaries.iter().filter(|s| {
        s.lag_records > 0
            && s.rates.is_some_and(|rates| rates.drain_s(s.lag_records).is_none())
            && s.oldest.age_s(now_ms).is_none_or(|age_s| age_s >= BEHIND_S)
    });
    let mut said = Vec::new();
    for summary in behind.take(ATTENTION) {
        if let Ok(group) = groups::describe(admin, &summary.group).await {
            said.push(group);
        }
    }
    html! {
        section.card {
            h2 { "Needs a look" }
            @if broken.is_empty() && said.is_empty() { p.muted { "Nothing: every partition is served, no group falls behind." } }
            ul.attention {
                @for (topic, number, error) in &broken {
                    li { span.pill.bad { "partition" } " " a href=(topic_path(topic)) { (text::name(topic)) } " " (number) ": " (text::shown(error)) }
                }
                @for group in &said {
                    li data-key=(text::encoded(&group.summary.group)) {
                        span.pill.warn { "group" } " " a href=(group_path(&group.summary.group)) { (text::name(&group.summary.group)) } ": " (text::shown(&group.explanation))
                    }
                }
            }
        }
    }
}

/// The topics with most traffic.
fn busiest(broker: &Broker) -> Markup {
    let mut topics = broker.throughput.topics();
    topics.retain(|(_, rates)| rates.minute.bytes_in + rates.minute.bytes_out > 0.0);
    topics.sort_by(|(_, a), (_, b)| {
        (b.minute.bytes_in + b.minute.bytes_out).total_cmp(&(a.minute.bytes_in + a.minute.bytes_out))
    });
    html! {
        @if !topics.is_empty() {
            section.card {
                h2 { "Busiest topics" }
                div.table { table.stack {
                    thead { tr { th scope="col" { "Topic" } th.num scope="col" { "In" } th.num scope="col" { "Out" } } }
                    tbody { @for (topic, rates) in topics.iter().take(5) {
                        tr data-key=(topic) {
                            th scope="row" { a href=(topic_path(topic)) { (text::name(topic)) } }
                            td.num data-label="In" { (text::bytes(rates.minute.bytes_in)) "/s" span.muted { " " (text::count(rates.minute.records_in)) "/s" } }
                            td.num data-label="Out" { (text::bytes(rates.minute.bytes_out)) "/s" span.muted { " " (text::count(rates.minute.records_out)) "/s" } }
                        }
                    } }
                } }
            }
        }
    }
}

/// Throughput of the broker or a topic as charts of bytes and of records.
pub fn throughput_of(series: &throughput::Series, what: &str) -> Markup {
    let mut at_ms = Vec::with_capacity(series.points.len());
    let mut end_ms = series.end_ms;
    for point in series.points.iter().rev() {
        at_ms.push(end_ms);
        end_ms -= i64::from(point.ms);
    }
    at_ms.reverse();
    let values = |of: fn(throughput::Rate) -> f64| series.points.iter().map(|p| Some(of(p.rate()))).collect();
    let of = |label: &str, unit, into, out| {
        let series = vec![Series { name: "in", values: into }, Series { name: "out", values: out }];
        lines(&Lines {
            label: &format!("{label} of {what}"),
            at_ms: &at_ms,
            series,
            unit,
            empty: "No traffic in the last 15 minutes.",
        })
    };
    html! {
        div.charts {
            section.card {
                h2 { "Bytes a second" }
                (of("Bytes a second", Unit::BytesPerSecond, values(|r| r.bytes_in), values(|r| r.bytes_out)))
            }
            section.card {
                h2 { "Records a second" }
                (of("Records a second", Unit::RecordsPerSecond, values(|r| r.records_in), values(|r| r.records_out)))
            }
        }
    }
}

/// How a client gets here, which called this machine `host`.
fn connect(broker: &Broker, host: &str) -> Markup {
    let config = broker.config();
    let listeners: Vec<(&str, String)> =
        config.listeners.iter().map(|listener| (listener.name.as_str(), reached(listener, host))).collect();
    let first = listeners.first().map_or(host, |(_, address)| address);
    html! {
        section.card {
            h2 { "Connect" }
            @for (name, address) in &listeners {
                p {
                    code { "bootstrap.servers=" (address) }
                    @if listeners.len() > 1 { span.muted { " · listener " (name) } }
                }
            }
            (command(&format!("echo hello | millstream produce greetings --create --bootstrap {first}")))
            (command(&format!("millstream consume greetings --bootstrap {first}")))
            p.muted { "Or with any other client of Kafka:" }
            (command(&format!("echo hello | kcat -b {first} -P -t greetings")))
            (command(&format!("kcat -b {first} -C -t greetings -o beginning")))
            (command(&format!("kcat -b {first} -L")))
        }
    }
}

/// `HOST:PORT` by which somebody who calls this machine `host` (an IPv6 address in brackets) finds a listener.
fn reached(listener: &Listener, host: &str) -> String {
    let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    match &listener.advertised {
        Some((host, 0)) => format!("{}:{}", bracketed(host), listener.port),
        Some((host, port)) => format!("{}:{port}", bracketed(host)),
        None if listener.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) => {
            format!("{host}:{}", listener.port)
        }
        None => listener.address(),
    }
}

/// A line for a shell, with a button that copies it.
fn command(line: &str) -> Markup {
    html! { div.command { code { (line) } button type="button" data-copy=(line) { "Copy" } } }
}
