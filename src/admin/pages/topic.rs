//! One topic: figures, throughput, latency, messages, partitions, settings.

use super::{Admin, Block, Page, Problem, chart, group_path, overview::throughput_of, text, topic_path};
use crate::{
    admin::{
        groups::{self, GroupQuery},
        json,
        latency::{KindParam, LatencyParams, latency},
        messages::{self, From, Look},
        topics::{self, TopicParams},
    },
    broker::Broker,
};
use axum::http::StatusCode;
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use std::sync::{Arc, Mutex};

/// Messages on the page.
const MESSAGES: usize = 20;
/// Partitions on the page.
const PARTITIONS: usize = 50;
/// Characters of a value in the line of a message.
const PREVIEW_CHARS: usize = 200;

/// Which messages. A form sends what is not filled in as nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// `newest`, `oldest`, `offset` or `time`.
    from: String,
    /// An offset, or a moment (UTC).
    at: String,
    partition: String,
    contains: String,
    cursor: Option<String>,
    /// The partitions behind this one.
    partitions: Option<String>,
}

/// The newest messages as last shown, with the ends of the partitions then: a topic that stands still is not read again each second.
pub type Seen = Arc<Mutex<Option<(Vec<Option<i64>>, String)>>>;

/// The page.
pub async fn page(admin: &Admin, name: &str, query: &Query, seen: &Seen) -> Result<Page, Problem> {
    let broker = admin.serving()?;
    let params = TopicParams { limit: Some(PARTITIONS), cursor: query.partitions.clone() };
    let topic = topics::describe(broker, name, &params)?;
    let mut blocks = vec![
        Block::live("topic", head(&topic)),
        Block::live("throughput", throughput_of(&broker.throughput.topic(name).unwrap_or_default(), name)),
        Block::live("latency", histogram(broker, name)?),
        Block::still(
            html! { section.card #messages-of { h2 { "Messages" } (form(name, query, topic.summary.partitions)) } },
        ),
    ];
    let found = found(admin, broker, name, query, seen).await;
    let found = found.unwrap_or_else(|problem| html! { p.note.warn { (text::shown(problem.detail())) } });
    blocks.push(match is_newest(query) {
        true => Block::live("messages", found),
        false => Block::still(found),
    });
    blocks.push(Block::live("groups", readers(admin, name).await?));
    blocks.push(Block::live("partitions", partitions(name, &topic)));
    blocks.push(Block::live("settings", settings(&topic.configs)));
    Ok(Page { title: format!("{} · Topics", text::shown(name)), section: "/topics", period: 1, blocks })
}

fn head(topic: &json::Topic) -> Markup {
    let s = &topic.summary;
    html! {
        h1 { span.kind { "Topic" } (text::name(&s.name)) @if s.internal { " " span.pill { "internal" } } }
        dl.figures {
            div { dt { "Records" } dd { (text::count(s.records as f64)) span.sub { (text::bytes(s.size_bytes as f64)) " on disk" } } }
            div { dt { "In" } dd { (text::bytes(s.rates.in_bytes_per_s)) "/s" span.sub { (text::count(s.rates.in_records_per_s)) " records/s, last minute" } } }
            div { dt { "Out" } dd { (text::bytes(s.rates.out_bytes_per_s)) "/s" span.sub { (text::count(s.rates.out_records_per_s)) " records/s, last minute" } } }
            div { dt { "Partitions" } dd { (text::grouped(s.partitions as i64)) span.sub { (s.replication_factor) @if s.replication_factor == 1 { " replica" } @else { " replicas" } " each" } } }
            div { dt { "At risk" } dd { (text::count(s.at_risk.records as f64)) span.sub { "records not yet on disk; " (s.durability) } } }
        }
    }
}

fn histogram(broker: &Broker, name: &str) -> Result<Markup, Problem> {
    let params = LatencyParams {
        kind: Some(KindParam::Topic),
        name: Some(name.into()),
        stage: Some("received_to_acknowledged".into()),
        buckets: Some(true),
        ..LatencyParams::default()
    };
    let list = latency(broker, &params)?;
    let one = list.histograms.first();
    let (buckets, percentiles) =
        one.map_or((&[][..], &[][..]), |one| (one.buckets.as_deref().unwrap_or_default(), &one.percentiles));
    Ok(html! {
        section.card {
            h2 { "Latency of produce requests " span.muted { "received → acknowledged, since the start" } }
            (chart::histogram("Latency of produce requests", buckets, percentiles, "No produce request was answered since the start."))
            @if let Some(one) = one {
                figcaption {
                    span.key { (text::grouped(one.count as i64)) span.muted { " requests" } }
                    span.key { span.muted { "mean " } (text::micros(one.mean_us)) }
                    span.key { span.muted { "largest " } (text::micros(one.max_us as f64)) }
                    span.key { a href={ "/latency?kind=topic&name=" (text::encoded(name)) } { "By stage" } }
                }
            }
        }
    })
}

fn is_newest(query: &Query) -> bool {
    matches!(query.from.as_str(), "" | "newest") && query.cursor.is_none() && query.contains.is_empty()
}

fn form(name: &str, query: &Query, partitions: usize) -> Markup {
    const FROM: [(&str, &str); 4] = [
        ("newest", "newest first"),
        ("oldest", "oldest first"),
        ("offset", "from offset"),
        ("time", "from time (UTC)"),
    ];
    html! {
        form method="get" action={ (topic_path(name)) "#messages-of" } {
            label { "Order" select name="from" {
                @for (value, words) in FROM { option value=(value) selected[value == query.from] { (words) } }
            } }
            label { "Offset or time" input type="text" name="at" value=(query.at) placeholder="1000 or 2026-01-31 12:00" size="22"; }
            label { "Partition" input type="number" name="partition" value=(query.partition) min="0" max=(partitions.saturating_sub(1)) placeholder="all"; }
            label { "Contains" input type="search" name="contains" value=(query.contains) size="14"; }
            button type="submit" { "Show" }
        }
    }
}

/// The messages asked for.
async fn found(admin: &Admin, broker: &Broker, name: &str, query: &Query, seen: &Seen) -> Result<Markup, Problem> {
    let look = look(query)?;
    let ends = is_newest(query).then(|| {
        let entry = broker.partitions.table().by_name(name).cloned();
        let partitions = entry.as_ref().map_or(&[][..], |entry| &entry.partitions);
        partitions.iter().map(|p| p.offsets().ok().map(|o| o.high_watermark)).collect::<Vec<_>>()
    });
    if let (Some(ends), Some((before, html))) = (&ends, &*lock(seen))
        && before == ends
    {
        return Ok(PreEscaped(html.clone()));
    }
    let page = messages::browse(admin, name, &look).await?;
    let markup = messages_of(name, query, &page);
    if let Some(ends) = ends {
        *lock(seen) = Some((ends, markup.0.clone()));
    }
    Ok(markup)
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(|p| p.into_inner())
}

/// What the form asks for.
fn look(query: &Query) -> Result<Look, Problem> {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let mut look = Look { limit: Some(MESSAGES), ..Look::default() };
    look.contains = (!query.contains.is_empty()).then(|| query.contains.clone());
    if query.cursor.is_some() {
        look.cursor = query.cursor.clone();
        return Ok(look);
    }
    if !query.partition.is_empty() {
        let number = query.partition.trim().parse();
        look.partition = Some(number.map_err(|_| bad(format!("{} is no partition", query.partition)))?);
    }
    match query.from.as_str() {
        "" | "newest" => look.from = Some(From::Latest),
        "oldest" => look.from = Some(From::Earliest),
        "offset" => {
            let offset = query.at.trim().replace(',', "").parse::<u32>().map(i64::from);
            let offset = offset.or_else(|_| query.at.trim().replace(',', "").parse::<i64>());
            let offset = offset.ok().filter(|offset| *offset >= 0);
            look.offset = Some(offset.ok_or_else(|| bad(format!("an offset is a whole number, not {:?}", query.at)))?);
        }
        "time" => {
            let ms = text::parse_moment(query.at.trim());
            look.time_ms =
                Some(ms.ok_or_else(|| bad(format!("a time is written as 2026-01-31 12:00, not {:?}", query.at)))?);
        }
        other => {
            return Err(bad(format!("messages are shown from newest, oldest, offset or time, not from {other:?}")));
        }
    }
    Ok(look)
}

fn messages_of(name: &str, query: &Query, page: &json::MessagePage) -> Markup {
    let next = page.next.as_ref().map(|cursor| {
        format!(
            "{}?from={}&contains={}&cursor={}#messages-of",
            topic_path(name),
            text::encoded(&query.from),
            text::encoded(&query.contains),
            text::encoded(cursor)
        )
    });
    let newest = matches!(query.from.as_str(), "" | "newest");
    html! {
        section.card {
            @if page.messages.is_empty() && page.holes.is_empty() {
                p.empty { @if query.contains.is_empty() { "No messages here." } @else { "Nothing found so far." } }
            }
            @for message in &page.messages { (message_of(name, message)) }
            @for hole in &page.holes {
                p.note.warn data-key={ "hole " (hole.partition) "/" (hole.offset) } {
                    "Partition " (hole.partition)
                    // One that cannot be read at all has no offsets.
                    @if hole.next_offset > hole.offset { ", offsets " (text::grouped(hole.offset)) " to " (text::grouped(hole.next_offset - 1)) }
                    ": " (text::shown(&hole.reason))
                }
            }
        }
        nav.pages aria-label="Messages" {
            @if !is_newest(query) { a href={ (topic_path(name)) "#messages-of" } { "Newest" } }
            @if query.from != "oldest" || query.cursor.is_some() { a href={ (topic_path(name)) "?from=oldest#messages-of" } { "Oldest" } }
            @if let Some(next) = next { a href=(next) rel="next" { @if newest { "Older messages" } @else { "Next messages" } } }
        }
    }
}

fn message_of(name: &str, m: &json::Message) -> Markup {
    let key = m.key.as_ref().map(shown);
    let value = m.value.as_ref().map(shown);
    let cut = |text: &str| {
        let line: String = text.chars().take(PREVIEW_CHARS).collect();
        text::shown(&line.replace(['\n', '\r', '\t'], " "))
    };
    html! {
        details.message data-key={ (m.partition) "/" (m.offset) } {
            summary {
                span.mono { (m.partition) span.muted { " : " } (text::grouped(m.offset)) }
                span.nowrap.muted { @match m.timestamp_ms { Some(ms) => (text::moment(ms)), None => "no time" } }
                span.cut.mono { @match &key { Some(key) => bdi { (cut(key)) }, None => span.muted { "no key" } } }
                span.cut.mono.value { @match &value { Some(value) => bdi { (cut(value)) }, None => span.muted { "tombstone" } } }
            }
            dl {
                dt { "Key" } dd { (payload(m.key.as_ref(), key.as_deref(), "no key")) }
                dt { "Value" } dd { (payload(m.value.as_ref(), value.as_deref(), "none: a tombstone")) }
                @if m.header_count > 0 {
                    dt { "Headers" }
                    dd {
                        @for header in &m.headers {
                            div.mono { (text::name(&header.key)) ": " @match &header.value { Some(value) => bdi { (cut(&shown(value))) }, None => span.muted { "null" } } }
                        }
                        @if m.header_count > m.headers.len() { div.muted { "and " (m.header_count - m.headers.len()) " more" } }
                    }
                }
                dt { "Time" } dd { @match m.timestamp_ms { Some(ms) => { (text::Time(ms)) span.muted { @if m.timestamp_type == "append" { " of the append" } @else { " of the producer" } } } None => "none" } }
                dt { "Alone" } dd { a href={ "/v1" (topic_path(name)) "/messages/" (m.partition) "/" (m.offset) } { "as JSON" } }
            }
        }
    }
}

/// A payload as text: JSON laid out, text as it is, bytes in base64.
fn shown(payload: &json::Payload) -> String {
    let raw = payload.data.get();
    match payload.encoding {
        json::Encoding::Json => raw.to_string(),
        json::Encoding::Text | json::Encoding::Base64 => serde_json::from_str(raw).unwrap_or_else(|_| raw.to_string()),
    }
}

fn payload(payload: Option<&json::Payload>, shown: Option<&str>, none: &str) -> Markup {
    let (Some(payload), Some(shown)) = (payload, shown) else { return html! { span.muted { (none) } } };
    let kind = match payload.encoding {
        json::Encoding::Json => "JSON",
        json::Encoding::Text => "text",
        json::Encoding::Base64 => "bytes, in base64",
    };
    html! {
        pre tabindex="0" { bdi { (text::body(shown)) } }
        span.muted {
            (kind)
            @if let Some(size) = payload.size_bytes { ", " (text::bytes(size as f64)) }
            @if payload.truncated { ", cut" }
        }
    }
}

/// The groups that read the topic.
async fn readers(admin: &Admin, name: &str) -> Result<Markup, Problem> {
    let query = GroupQuery { limit: Some(20), topic: Some(name.into()), ..GroupQuery::default() };
    let found = groups::list(admin, query).await?;
    Ok(html! {
        @if !found.groups.is_empty() {
            section.card {
                h2 { "Groups that read it" }
                div.table { table.stack {
                    thead { tr { th scope="col" { "Group" } th scope="col" { "State" } th.num scope="col" { "Lag of all its topics" } th.num scope="col" { "Lag, time" } } }
                    tbody { @for g in &found.groups {
                        tr data-key=(text::encoded(&g.group)) {
                            th scope="row" { a href=(group_path(&g.group)) { (text::name(&g.group)) } }
                            td data-label="State" { (super::groups::state(&g.state)) }
                            td.num data-label="Lag of all its topics" { (text::count(g.lag_records as f64)) }
                            td.num data-label="Lag, time" { (super::groups::lag_seconds(g.lag_seconds)) }
                        }
                    } }
                } }
                @if found.next.is_some() { p { a href={ "/groups?topic=" (text::encoded(name)) } { "All of them" } } }
            }
        }
    })
}

fn partitions(name: &str, topic: &json::Topic) -> Markup {
    let offset = |n: Option<i64>| n.map_or("–".into(), text::grouped);
    let list = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    html! {
        section.card {
            h2 { "Partitions" }
            div.table { table.stack {
                thead { tr {
                    th scope="col" { "Partition" } th.num scope="col" { "Start" } th.num scope="col" { "End" } th.num scope="col" { "Records" } th.num scope="col" { "On disk" }
                    th scope="col" { "Leader" } th scope="col" { "In sync" }
                } }
                tbody { @for p in &topic.partition_details {
                    tr data-key=(p.partition) {
                        th scope="row" { a href={ (topic_path(name)) "?partition=" (p.partition) "#messages-of" } { (p.partition) } @if let Some(error) = &p.error { " " span.pill.bad { (text::shown(error)) } } }
                        td.num data-label="Start" { (offset(p.start_offset)) }
                        td.num data-label="End" { (offset(p.high_watermark)) }
                        td.num data-label="Records" { (offset(p.high_watermark.zip(p.start_offset).map(|(end, start)| (end - start).max(0)))) }
                        td.num data-label="On disk" { (text::bytes(p.size_bytes as f64)) }
                        td data-label="Leader" { (p.leader) }
                        td data-label="In sync" { (list(&p.isr)) @if p.isr.len() < p.replicas.len() { " " span.pill.warn { (p.isr.len()) " of " (p.replicas.len()) } } }
                    }
                } }
            } }
            @if let Some(next) = &topic.next { p { a href={ (topic_path(name)) "?partitions=" (text::encoded(next)) "#partitions" } { "Further partitions" } } }
        }
    }
}

fn settings(configs: &[json::Setting]) -> Markup {
    let (own, default): (Vec<_>, Vec<_>) = configs.iter().partition(|setting| setting.source != "default");
    let rows = |settings: &[&json::Setting]| {
        html! {
            div.table { table.stack {
                thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } th scope="col" { "Meaning" } } }
                tbody { @for s in settings {
                    tr {
                        th scope="row" { code { (s.name) } }
                        td data-label="Value" { code { (s.value.as_deref().map_or("–".into(), text::shown)) } }
                        td data-label="From" { (s.source) }
                        td.wide.muted { (s.meaning) }
                    }
                } }
            } }
        }
    };
    html! {
        section.card {
            h2 { "Settings" }
            @if own.is_empty() { p.muted { "All have their defaults." } } @else { (rows(&own)) }
            details { summary { "Defaults (" (default.len()) ")" } (rows(&default)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: &str, at: &str) -> Result<Look, Problem> {
        look(&Query { from: from.into(), at: at.into(), ..Query::default() })
    }

    #[test]
    fn the_form_says_where_to_look() {
        assert_eq!(asked("", "").unwrap().from, Some(From::Latest));
        assert_eq!(asked("oldest", "").unwrap().from, Some(From::Earliest));
        assert_eq!(asked("offset", " 1,000 ").unwrap().offset, Some(1000));
        assert_eq!(asked("time", "1970-01-01 00:01").unwrap().time_ms, Some(60_000));
        for (from, at) in [("offset", "-1"), ("offset", "x"), ("offset", ""), ("time", "yesterday"), ("else", "")] {
            assert_eq!(asked(from, at).unwrap_err().status(), StatusCode::BAD_REQUEST, "{from} {at}");
        }
        let look = look(&Query { cursor: Some("c".into()), partition: "1".into(), ..Query::default() }).unwrap();
        assert_eq!((look.cursor.as_deref(), look.partition, look.from), (Some("c"), None, None));
    }

    #[test]
    fn a_partition_that_cannot_be_read_is_said_without_offsets() {
        let hole = |offset, next_offset| json::Hole { partition: 3, offset, next_offset, reason: "gone".into() };
        let page = |hole| json::MessagePage { messages: vec![], holes: vec![hole], next: None, live: None };
        let of = |hole| messages_of("t", &Query::default(), &page(hole)).into_string();
        assert!(of(hole(0, 0)).contains("Partition 3: gone"), "{}", of(hole(0, 0)));
        assert!(of(hole(5, 1200)).contains("Partition 3, offsets 5 to 1,199: gone"), "{}", of(hole(5, 1200)));
    }

    #[test]
    fn a_hostile_message_stays_in_its_place() {
        let hostile = "</pre><script>alert(1)</script>\"'\u{202e}\u{0}\n\tline";
        let payload = |text: &str| json::Payload {
            encoding: json::Encoding::Text,
            data: serde_json::value::to_raw_value(text).unwrap(),
            size_bytes: Some(1),
            truncated: true,
        };
        let message = json::Message {
            partition: 0,
            offset: i64::MAX,
            timestamp_ms: Some(i64::MAX),
            timestamp_type: "create".into(),
            key: Some(payload(hostile)),
            value: Some(payload(&hostile.repeat(1000))),
            headers: vec![json::Header { key: hostile.into(), value: Some(payload(hostile)) }],
            header_count: 2,
        };
        let out = message_of("t", &message).into_string();
        for forbidden in ["<script", "\u{202e}", "\u{0}", "</pre><"] {
            assert!(!out.replace("</pre><span class", "").contains(forbidden), "{forbidden}");
        }
        assert!(out.contains("&lt;/pre&gt;&lt;script&gt;"));
    }
}
