//! The list of groups.

use super::{Admin, Block, Page, Problem, chart, group_path, text};
use crate::admin::{groups, json};
use maud::{Markup, html};
use serde::Deserialize;

/// Groups on a page.
const GROUPS: usize = 50;

/// Which groups. A form sends what is not filled in as nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// What their names begin with.
    q: String,
    /// In this state only.
    state: String,
    /// That read this topic only.
    topic: String,
    /// Behind this name.
    after: Option<String>,
}

/// The page.
pub async fn page(admin: &Admin, query: &Query) -> Result<Page, Problem> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let asked = groups::GroupQuery {
        limit: Some(GROUPS),
        cursor: query.after.clone(),
        state: given(&query.state),
        topic: given(&query.topic),
        prefix: given(&query.q),
    };
    let found = groups::list(admin, asked).await?;
    let broker = admin.serving()?;
    let series = |group: &str| broker.lag.records_over_time(group);
    let blocks = vec![
        Block::still(head(query)),
        Block::live("groups", html! { (missing(&found.missing)) (table(query, &found, series)) }),
    ];
    Ok(Page { title: "Groups".into(), section: "/groups", period: 2, blocks })
}

fn head(query: &Query) -> Markup {
    const STATES: [&str; 4] = ["Stable", "PreparingRebalance", "CompletingRebalance", "Empty"];
    html! {
        h1 { "Groups" }
        form method="get" action="/groups" role="search" {
            label { "Name begins with" input type="search" name="q" value=(query.q); }
            label { "State" select name="state" {
                option value="" { "any" }
                @for state in STATES { option value=(state) selected[state == query.state] { (state) } }
            } }
            label { "Reads topic" input type="search" name="topic" value=(query.topic); }
            button type="submit" { "Show" }
        }
    }
}

fn table(query: &Query, found: &json::GroupList, series: impl Fn(&str) -> Vec<i64>) -> Markup {
    let filtered = !(query.q.is_empty() && query.state.is_empty() && query.topic.is_empty());
    if found.groups.is_empty() {
        return html! {
            section.card { p.empty {
                @if query.after.is_some() { "No further groups." }
                @else if filtered { "No such group." }
                @else { "No groups yet: a consumer with a group.id makes one." }
            } }
        };
    }
    html! {
        section.card {
            div.table { table.stack {
                thead { tr {
                    th scope="col" { "Group" } th scope="col" { "State" } th.num scope="col" { "Members" } th.num scope="col" { "Lag, records" }
                    th scope="col" { "Last 15 min" } th.num scope="col" { "Lag, time" } th.num scope="col" { "Consumes" } th.num scope="col" { "Caught up in" }
                } }
                tbody { @for group in &found.groups { (row(group, &series(&group.group))) } }
            } }
        }
        @if found.next.is_some() || query.after.is_some() {
            nav.pages aria-label="Pages of the list" {
                @if query.after.is_some() { a href=(address(query, None)) { "First page" } }
                @if let Some(next) = &found.next { a href=(address(query, Some(next))) rel="next" { "Next page" } }
            }
        }
    }
}

fn row(group: &json::GroupSummary, series: &[i64]) -> Markup {
    let values: Vec<f64> = series.iter().map(|n| *n as f64).collect();
    html! {
        tr data-key=(text::encoded(&group.group)) {
            th scope="row" { a href=(group_path(&group.group)) { (text::name(&group.group)) } }
            td data-label="State" { (state(&group.state)) }
            td.num data-label="Members" { (text::grouped(group.members as i64)) }
            td.num data-label="Lag, records" { (text::count(group.lag_records as f64)) }
            td { (chart::spark(&values, "Lag over the last 15 minutes")) }
            td.num data-label="Lag, time" { (lag_seconds(group.lag_seconds)) }
            td.num data-label="Consumes" { (rate(group.consume_records_per_s)) }
            td.num data-label="Caught up in" { (drain(group)) }
        }
    }
}

/// A state of a group.
pub fn state(state: &str) -> Markup {
    match state {
        "Stable" => html! { span.pill.good { (state) } },
        "Empty" => html! { span.pill { (state) } },
        _ => html! { span.pill.warn { (text::shown(state)) } },
    }
}

/// Lag in seconds as far as it is known.
pub fn lag_seconds(seconds: Option<f64>) -> String {
    seconds.map_or("–".into(), text::seconds)
}

/// Records a second as far as they are known.
pub fn rate(per_s: Option<f64>) -> String {
    per_s.map_or("–".into(), |n| format!("{}/s", text::count(n)))
}

/// When a group will have caught up.
pub fn drain(group: &json::GroupSummary) -> String {
    match group.drain_seconds {
        _ if group.lag_records == 0 => "now".into(),
        Some(seconds) => text::seconds(seconds),
        None if group.consume_records_per_s.is_none() => "–".into(),
        None => "not shrinking".into(),
    }
}

/// What could not be asked in time.
pub fn missing(missing: &[String]) -> Markup {
    html! { @for what in missing { p.note.warn { "Not all is shown: " (text::shown(what)) } } }
}

fn address(query: &Query, after: Option<&str>) -> String {
    let mut out = format!(
        "/groups?q={}&state={}&topic={}",
        text::encoded(&query.q),
        text::encoded(&query.state),
        text::encoded(&query.topic)
    );
    if let Some(after) = after {
        out.push_str("&after=");
        out.push_str(&text::encoded(after));
    }
    out
}
