//! The overview: does it take records, what flows, what needs a look.

use super::{
    Admin, Block, Page, Problem,
    chart::{Lines, Series, Unit, lines},
    text,
};
use crate::{admin::health, broker::Broker, broker::throughput, config::Listener};
use maud::{Markup, html};
use std::net::IpAddr;

/// The page, for a reader who came by the name `host`.
pub async fn page(admin: &Admin, host: &str) -> Result<Page, Problem> {
    let reason = health::reason(admin).await;
    let mut blocks = vec![Block::live("state", state(admin, reason.as_deref()))];
    if let Some(broker) = admin.broker() {
        blocks.push(Block::live("figures", figures(broker)));
        blocks.push(Block::live("throughput", throughput_of(&broker.throughput.all(), "all topics")));
        blocks.push(Block::still(connect(broker, host)));
    }
    Ok(Page { title: "Overview".into(), section: "/", blocks })
}

fn state(admin: &Admin, reason: Option<&str>) -> Markup {
    let cluster = admin.broker().map(|broker| broker.quorum.image().cluster_id.clone());
    html! {
        h1 { "Overview" }
        @match reason {
            None => p.lead { "The broker takes records." }
            Some(why) => p.lead.alert { "The broker does not take records: " (text::shown(why)) "." }
        }
        @if let Some(cluster) = cluster { p.muted { "Cluster " code { (cluster) } } }
    }
}

fn figures(broker: &Broker) -> Markup {
    let image = broker.quorum.image();
    let partitions: usize = image.topics.values().map(|topic| topic.partitions.len()).sum();
    let table = broker.partitions.table();
    let (mut records, mut bytes, mut oldest_ms) = (0, 0, None);
    for at_risk in table.topics().map(|topic| broker.at_risk(topic)) {
        records += at_risk.records;
        bytes += at_risk.bytes;
        oldest_ms = oldest_ms.max(at_risk.oldest_ms);
    }
    html! {
        dl.figures {
            div { dt { "Topics" } dd { (text::grouped(image.topics.len() as i64)) } }
            div { dt { "Partitions" } dd { (text::grouped(partitions as i64)) } }
            div {
                dt { "At risk" span.muted { " not yet on disk" } }
                dd {
                    (text::count(records as f64)) " records"
                    span.sub {
                        (text::bytes(bytes as f64))
                        @if let Some(oldest_ms) = oldest_ms { ", oldest " (text::seconds(oldest_ms as f64 / 1e3)) }
                    }
                }
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
