//! The list of topics.

use super::{Admin, Block, Page, Problem, text, topic_path};
use crate::{
    admin::{json, topics},
    broker::Broker,
};
use maud::{Markup, html};
use serde::Deserialize;

/// Topics on a page.
const TOPICS: usize = 50;
/// Most topics that are sorted by anything but their name: each is measured for that.
const SORTED_MAX: usize = 10_000;

/// Which topics, in which order. A form sends what is not filled in as nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// What their names hold, in any case.
    q: String,
    sort: Sort,
    /// The other way round.
    down: Option<u8>,
    /// Kafka's own, too.
    internal: Option<u8>,
    /// From 1.
    page: Option<usize>,
}

/// What the list is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Name,
    Partitions,
    Records,
    Size,
    In,
    Out,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Partitions => "partitions",
            Sort::Records => "records",
            Sort::Size => "size",
            Sort::In => "in",
            Sort::Out => "out",
        }
    }
}

/// The page.
pub async fn page(admin: &Admin, query: &Query) -> Result<Page, Problem> {
    let broker = admin.serving()?;
    let blocks = vec![Block::still(head(query)), Block::live("topics", table(broker, query))];
    Ok(Page { title: "Topics".into(), section: "/topics", period: 2, blocks })
}

fn head(query: &Query) -> Markup {
    html! {
        h1 { "Topics" }
        form method="get" action="/topics" role="search" {
            label { "Name holds" input type="search" name="q" value=(query.q); }
            @if query.sort != Sort::Name { input type="hidden" name="sort" value=(query.sort.name()); }
            @if query.down == Some(1) { input type="hidden" name="down" value="1"; }
            label.check { input type="checkbox" name="internal" value="1" checked[query.internal == Some(1)]; "Kafka's own topics" }
            button type="submit" { "Show" }
        }
    }
}

fn table(broker: &Broker, query: &Query) -> Markup {
    let image = broker.quorum.image();
    let wanted = query.q.to_ascii_lowercase();
    let found: Vec<_> = image
        .topics
        .iter()
        .filter(|(name, _)| wanted.is_empty() || name.to_ascii_lowercase().contains(&wanted))
        .filter(|(name, _)| query.internal == Some(1) || !crate::broker::topics::is_internal(name))
        .map(|(_, topic)| topic)
        .collect();
    let (count, down) = (found.len(), query.down == Some(1));
    let page = query.page.unwrap_or(1).clamp(1, count.div_ceil(TOPICS).max(1));
    let from = (page - 1) * TOPICS;
    let by_name = query.sort == Sort::Name || count > SORTED_MAX;
    let lines: Vec<json::TopicSummary> = if by_name {
        let place = |i: usize| if down && query.sort == Sort::Name { count - 1 - i } else { i };
        (from..(from + TOPICS).min(count)).map(|i| topics::summary(broker, found[place(i)])).collect()
    } else {
        let mut all: Vec<_> = found.iter().map(|topic| topics::summary(broker, topic)).collect();
        let key = |t: &json::TopicSummary| match query.sort {
            Sort::Name => 0.0,
            Sort::Partitions => t.partitions as f64,
            Sort::Records => t.records as f64,
            Sort::Size => t.size_bytes as f64,
            Sort::In => t.rates.in_bytes_per_s,
            Sort::Out => t.rates.out_bytes_per_s,
        };
        all.sort_by(|a, b| if down { key(b).total_cmp(&key(a)) } else { key(a).total_cmp(&key(b)) });
        all.into_iter().skip(from).take(TOPICS).collect()
    };
    html! {
        section.card {
            @if lines.is_empty() {
                p.empty { @if wanted.is_empty() { "No topics yet." } @else { "No topic's name holds that." } }
            } @else {
                @if count > SORTED_MAX && query.sort != Sort::Name { p.note.warn { "By name: more than " (text::grouped(SORTED_MAX as i64)) " topics are not sorted by anything else. Search for a part of the name." } }
                div.table { table.stack {
                    thead { tr {
                        (column(query, Sort::Name, "Topic", false)) (column(query, Sort::Partitions, "Partitions", true)) (column(query, Sort::Records, "Records", true))
                        (column(query, Sort::Size, "On disk", true)) (column(query, Sort::In, "In", true)) (column(query, Sort::Out, "Out", true)) th scope="col" { "Durability" }
                    } }
                    tbody { @for line in &lines { (row(line)) } }
                } }
            }
        }
        @if count > TOPICS {
            nav.pages aria-label="Pages of the list" {
                @if page > 1 { a href=(address(query, query.sort, down, page - 1)) rel="prev" { "Page before" } }
                span { (text::grouped(from as i64 + 1)) "–" (text::grouped((from + lines.len()) as i64)) " of " (text::grouped(count as i64)) }
                @if from + TOPICS < count { a href=(address(query, query.sort, down, page + 1)) rel="next" { "Next page" } }
            }
        }
    }
}

fn column(query: &Query, sort: Sort, words: &str, number: bool) -> Markup {
    let now = query.sort == sort;
    let down = query.down == Some(1);
    // Names from A; numbers from the largest.
    let next_down = if now { !down } else { sort != Sort::Name };
    let direction = if down { "descending" } else { "ascending" };
    html! {
        th.num[number] scope="col" aria-sort=[now.then_some(direction)] {
            a href=(address(query, sort, next_down, 1)) { (words) @if now { span aria-hidden="true" { @if down { " ↓" } @else { " ↑" } } } }
        }
    }
}

fn row(topic: &json::TopicSummary) -> Markup {
    let rate = |bytes: f64, records: f64| html! { (text::bytes(bytes)) "/s" span.muted.also { " " (text::count(records)) "/s" } };
    html! {
        tr data-key=(topic.name) {
            th scope="row" { a href=(topic_path(&topic.name)) { (text::name(&topic.name)) } @if topic.internal { " " span.pill { "internal" } } }
            td.num data-label="Partitions" { (text::grouped(topic.partitions as i64)) }
            td.num data-label="Records" { (text::count(topic.records as f64)) }
            td.num data-label="On disk" { (text::bytes(topic.size_bytes as f64)) }
            td.num data-label="In" { (rate(topic.rates.in_bytes_per_s, topic.rates.in_records_per_s)) }
            td.num data-label="Out" { (rate(topic.rates.out_bytes_per_s, topic.rates.out_records_per_s)) }
            td data-label="Durability" { (topic.durability) }
        }
    }
}

fn address(query: &Query, sort: Sort, down: bool, page: usize) -> String {
    let mut out = format!("/topics?sort={}", sort.name());
    if !query.q.is_empty() {
        out.push_str("&q=");
        out.push_str(&text::encoded(&query.q));
    }
    for (wanted, part) in [(down, "&down=1"), (query.internal == Some(1), "&internal=1")] {
        if wanted {
            out.push_str(part);
        }
    }
    if page > 1 {
        out.push_str(&format!("&page={page}"));
    }
    out
}
