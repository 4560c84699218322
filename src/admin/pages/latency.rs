//! Latency: every histogram in figures, one of them drawn.

use super::{Admin, Block, Page, Problem, chart, text};
use crate::admin::{
    json,
    latency::{KindParam, LatencyParams, latency},
};
use maud::{Markup, html};
use serde::Deserialize;

/// Histograms on a page.
const HISTOGRAMS: usize = 100;

/// Which histograms.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// `api`, `topic` or `group`.
    kind: String,
    name: String,
    /// Of the one that is drawn.
    stage: String,
    cursor: Option<String>,
}

/// The page.
pub async fn page(admin: &Admin, query: &Query) -> Result<Page, Problem> {
    let broker = admin.serving()?;
    let kind = match query.kind.as_str() {
        "api" => Some(KindParam::Api),
        "topic" => Some(KindParam::Topic),
        "group" => Some(KindParam::Group),
        _ => None,
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let list = latency(
        broker,
        &LatencyParams {
            kind,
            name: given(&query.name),
            limit: Some(HISTOGRAMS),
            cursor: query.cursor.clone(),
            ..LatencyParams::default()
        },
    )?;
    // The one asked for, else where a person would look first: all of it of the busiest topic, else of the busiest API.
    let first = |h: &&json::Latency| match h.stage.as_str() {
        "received_to_acknowledged" => (2, h.count),
        "total" => (1, h.count),
        _ => (0, h.count),
    };
    let wanted = list.histograms.iter().find(|h| !query.stage.is_empty() && h.stage == query.stage);
    let drawn = wanted.or_else(|| list.histograms.iter().max_by_key(first));
    let drawing = match drawn {
        None => html! { section.card { p.empty { "Nothing was measured yet." } } },
        Some(drawn) => {
            let kind = match drawn.kind.as_str() {
                "api" => KindParam::Api,
                "topic" => KindParam::Topic,
                _ => KindParam::Group,
            };
            let one = LatencyParams {
                kind: Some(kind),
                name: Some(drawn.name.clone()),
                stage: Some(drawn.stage.clone()),
                buckets: Some(true),
                ..LatencyParams::default()
            };
            latency(broker, &one)?.histograms.first().map(drawing).unwrap_or_default()
        }
    };
    let blocks = vec![
        Block::still(head(query)),
        Block::live("histogram", drawing),
        Block::live("histograms", table(query, &list)),
    ];
    Ok(Page { title: "Latency".into(), section: "/latency", period: 2, blocks })
}

fn head(query: &Query) -> Markup {
    const KINDS: [(&str, &str); 4] = [("", "everything"), ("api", "APIs"), ("topic", "topics"), ("group", "groups")];
    html! {
        h1 { "Latency" }
        p.muted { "Since the start of the broker. Produce requests by topic and stage, groups from append to commit and fetch, requests by API." }
        form method="get" action="/latency" {
            label { "Of" select name="kind" { @for (value, words) in KINDS { option value=(value) selected[value == query.kind] { (words) } } } }
            label { "Name" input type="search" name="name" value=(query.name); }
            button type="submit" { "Show" }
        }
    }
}

fn drawing(one: &json::Latency) -> Markup {
    let what = format!("{} {}, {}", one.kind, text::shown(&one.name), stage(&one.stage));
    html! {
        section.card {
            h2 { (text::name(&one.name)) span.muted { " " (one.kind) " · " (stage(&one.stage)) } }
            (chart::histogram(&what, one.buckets.as_deref().unwrap_or_default(), &one.percentiles, "No samples."))
            figcaption {
                span.key { (text::grouped(one.count as i64)) span.muted { " samples" } }
                @for p in &one.percentiles { span.key { span.muted { "p" (p.percentile) " " } (text::micros(p.us as f64)) } }
                span.key { span.muted { "largest " } (text::micros(one.max_us as f64)) }
            }
        }
    }
}

fn table(query: &Query, list: &json::LatencyList) -> Markup {
    let at = |h: &json::Latency, wanted: f64| {
        h.percentiles
            .iter()
            .find(|p| (p.percentile - wanted).abs() < 1e-6)
            .map_or("–".into(), |p| text::micros(p.us as f64))
    };
    html! {
        section.card {
            h2 { "All" }
            @if list.histograms.is_empty() { p.empty { "Nothing was measured yet." } } @else {
                div.table { table.stack {
                    thead { tr {
                        th scope="col" { "Of" } th scope="col" { "Stage" } th.num scope="col" { "Samples" } th.num scope="col" { "Mean" } th.num scope="col" { "p50" }
                        th.num scope="col" { "p90" } th.num scope="col" { "p99" } th.num scope="col" { "p99.9" } th.num scope="col" { "Largest" }
                    } }
                    tbody { @for h in &list.histograms {
                        tr data-key={ (h.kind) "/" (h.stage) "/" (text::encoded(&h.name)) } {
                            th scope="row" { a href=(address(h)) { (text::name(&h.name)) } span.muted { " " (h.kind) } }
                            td data-label="Stage" { (stage(&h.stage)) }
                            td.num data-label="Samples" { (text::count(h.count as f64)) }
                            td.num data-label="Mean" { (text::micros(h.mean_us)) }
                            td.num data-label="p50" { (at(h, 50.0)) }
                            td.num data-label="p90" { (at(h, 90.0)) }
                            td.num data-label="p99" { (at(h, 99.0)) }
                            td.num data-label="p99.9" { (at(h, 99.9)) }
                            td.num data-label="Largest" { (text::micros(h.max_us as f64)) }
                        }
                    } }
                } }
            }
        }
        nav.pages aria-label="Histograms" {
            @if let Some(next) = &list.next {
                a rel="next" href={ "/latency?kind=" (text::encoded(&query.kind)) "&name=" (text::encoded(&query.name)) "&cursor=" (text::encoded(next)) } { "Further ones" }
            }
            a href="/v1/latency?format=hdr&limit=1000" download="millstream.hdr.log" { "All as an HDR log" }
        }
    }
}

fn address(h: &json::Latency) -> String {
    format!(
        "/latency?kind={}&name={}&stage={}",
        text::encoded(&h.kind),
        text::encoded(&h.name),
        text::encoded(&h.stage)
    )
}

/// A stage in words.
fn stage(stage: &str) -> String {
    match stage {
        "total" => "request → reply".into(),
        "worked" => "request → reply, without waiting".into(),
        other => other.replace("_to_", " → "),
    }
}
