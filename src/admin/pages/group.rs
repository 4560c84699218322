//! One group: what is going on, its lag over time, its partitions and members.

use super::{
    Admin, Block, Page, Problem,
    chart::{Lines, Series, Unit, lines},
    groups::{drain, lag_seconds, missing, rate, state},
    text, topic_path,
};
use crate::admin::{groups, json};
use maud::{Markup, html};

/// Rows of a table here.
const ROWS: usize = 500;

/// The page.
pub async fn page(admin: &Admin, name: &str) -> Result<Page, Problem> {
    let group = groups::describe(admin, name).await?;
    let blocks = vec![
        Block::live("group", html! { (head(&group)) (missing(&group.missing)) }),
        Block::live("lag", charts(&group)),
        Block::live("partitions", partitions(&group)),
        Block::live("members", members(&group)),
    ];
    Ok(Page { title: format!("{} · Groups", text::shown(name)), section: "/groups", period: 1, blocks })
}

fn head(group: &json::Group) -> Markup {
    let s = &group.summary;
    html! {
        h1 { span.kind { "Group" } (text::name(&s.group)) " " (state(&s.state)) }
        p.note { (text::shown(&group.explanation)) }
        dl.figures {
            div { dt { "Lag" } dd { (text::count(s.lag_records as f64)) span.sub { "records" } } }
            div { dt { "Oldest not yet committed" } dd { (lag_seconds(s.lag_seconds)) span.sub { "old" } } }
            div { dt { "Consumes" } dd { (rate(s.consume_records_per_s)) span.sub { "comes in: " (rate(s.produce_records_per_s)) } } }
            div { dt { "Caught up in" } dd { (drain(s)) span.sub { "at the rates of the last minute" } } }
            div { dt { "Members" } dd { (text::grouped(s.members as i64)) @if !group.protocol.is_empty() { span.sub { "assignor " (text::name(&group.protocol)) } } } }
        }
    }
}

fn charts(group: &json::Group) -> Markup {
    let at_ms: Vec<i64> = group.series.iter().map(|p| p.at_ms).collect();
    let records = group.series.iter().map(|p| Some(p.lag_records as f64)).collect();
    let seconds = group.series.iter().map(|p| p.lag_seconds).collect();
    let chart = |label: &str, name, values, unit| {
        let series = vec![Series { name, values }];
        lines(&Lines {
            label,
            at_ms: &at_ms,
            series,
            unit,
            empty: "A point comes each 5 seconds while the group is in use.",
        })
    };
    html! {
        div.charts {
            section.card { h2 { "Lag in records" } (chart("Lag in records", "records", records, Unit::Records)) }
            section.card { h2 { "Lag in time" } (chart("Lag in time", "oldest record not yet committed", seconds, Unit::Seconds)) }
        }
    }
}

fn partitions(group: &json::Group) -> Markup {
    let client =
        |id: &Option<String>| id.as_ref().and_then(|id| group.member_details.iter().find(|m| m.member_id == *id));
    html! {
        section.card {
            h2 { "Partitions" }
            @if group.partitions.is_empty() { p.empty { "Nothing committed, nothing owned." } } @else {
                div.table { table.stack {
                    thead { tr {
                        th scope="col" { "Topic, partition" } th.num scope="col" { "Committed" } th.num scope="col" { "End" } th.num scope="col" { "Lag, records" }
                        th.num scope="col" { "Lag, time" } th scope="col" { "Member" }
                    } }
                    tbody { @for p in group.partitions.iter().take(ROWS) {
                        tr data-key={ (text::encoded(&p.topic)) "/" (p.partition) } {
                            th scope="row" { a href=(topic_path(&p.topic)) { (text::name(&p.topic)) } " " span.muted { (p.partition) } }
                            td.num data-label="Committed" { (offset(p.committed_offset)) }
                            td.num data-label="End" { (offset(p.high_watermark)) }
                            td.num data-label="Lag, records" {
                                (offset(p.lag_records))
                                @if p.lost_records > 0 { " " span.pill.bad title="Deleted before they were committed" { (text::count(p.lost_records as f64)) " lost" } }
                            }
                            td.num data-label="Lag, time" {
                                (lag_seconds(p.lag_seconds))
                                @if p.basis == Some(json::Basis::Timestamp) { span.muted title="By the timestamp that the record carries" { " *" } }
                            }
                            td data-label="Member" {
                                @if let Some(member) = client(&p.member_id) { (text::name(&member.client_id)) }
                                @if let Some(error) = &p.error { span.pill.bad { (text::shown(error)) } }
                            }
                        }
                    } }
                } }
                @if group.partitions.len() > ROWS { p.muted { "The first " (ROWS) " of " (group.partitions.len()) "; all are in the HTTP API." } }
                @if group.partitions.iter().any(|p| p.basis == Some(json::Basis::Timestamp)) {
                    p.muted { "* by the timestamp that the record carries, not by when it was appended" }
                }
            }
        }
    }
}

fn members(group: &json::Group) -> Markup {
    html! {
        section.card {
            h2 { "Members" }
            @if group.member_details.is_empty() { p.empty { "No member now." } } @else {
                div.table { table.stack {
                    thead { tr { th scope="col" { "Client" } th scope="col" { "From" } th scope="col" { "Owns" } th scope="col" { "Member id" } } }
                    tbody { @for m in group.member_details.iter().take(ROWS) {
                        tr data-key=(text::encoded(&m.member_id)) {
                            th scope="row" { (text::name(&m.client_id)) @if let Some(id) = &m.instance_id { span.muted { " static " (text::name(id)) } } }
                            td data-label="From" { (text::shown(&m.client_host)) }
                            td data-label="Owns" {
                                @if m.assignment.is_empty() { span.muted { "nothing" } }
                                @for (n, owned) in m.assignment.iter().enumerate() {
                                    @if n > 0 { ", " }
                                    (text::name(&owned.topic)) span.muted { " " (ranges(&owned.partitions)) }
                                }
                            }
                            td.wide data-label="Member id" { code { (text::shown(&m.member_id)) } }
                        }
                    } }
                } }
            }
        }
    }
}

fn offset(n: Option<i64>) -> String {
    n.map_or("–".into(), text::grouped)
}

/// `0–3, 5`.
fn ranges(numbers: &[i32]) -> String {
    let mut out = String::new();
    let mut i = 0;
    while i < numbers.len() {
        let mut end = i;
        while end + 1 < numbers.len() && numbers[end].checked_add(1) == Some(numbers[end + 1]) {
            end += 1;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&numbers[i].to_string());
        if end > i {
            out.push('–');
            out.push_str(&numbers[end].to_string());
        }
        i = end + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_follow_each_other_are_a_range() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 3, 5, 7, 8, i32::MAX]), "0–3, 5, 7–8, 2147483647");
    }

    #[test]
    fn nothing_that_a_client_calls_itself_breaks_out() {
        let hostile = "\"><script>alert(1)</script></title>'\u{202e}\u{0}";
        let summary = json::GroupSummary {
            group: hostile.into(),
            state: hostile.into(),
            protocol_type: hostile.into(),
            members: 1,
            topics: vec![hostile.into()],
            lag_records: i64::MAX,
            lag_seconds: Some(f64::MAX),
            consume_records_per_s: Some(0.0),
            produce_records_per_s: Some(f64::INFINITY),
            drain_seconds: None,
        };
        let member = json::Member {
            member_id: hostile.into(),
            instance_id: Some(hostile.into()),
            client_id: hostile.repeat(100),
            client_host: hostile.into(),
            assignment: vec![json::TopicPartitions { topic: hostile.into(), partitions: vec![1] }],
            subscription: vec![],
        };
        let partition = json::GroupPartition {
            topic: hostile.into(),
            partition: 0,
            member_id: Some(hostile.into()),
            committed_offset: None,
            committed_ms: None,
            start_offset: None,
            high_watermark: None,
            last_stable_offset: None,
            lag_records: None,
            lag_records_stable: None,
            lost_records: 1,
            lag_seconds: None,
            basis: Some(json::Basis::Timestamp),
            error: Some(hostile.into()),
        };
        let group = json::Group {
            summary,
            protocol: hostile.into(),
            explanation: hostile.into(),
            member_details: vec![member],
            partitions: vec![partition],
            series: vec![],
            missing: vec![hostile.into()],
        };
        let out =
            html! { (head(&group)) (charts(&group)) (partitions(&group)) (members(&group)) (missing(&group.missing)) }
                .into_string();
        for forbidden in ["<script", "</title", "\u{202e}", "\u{0}", "alert(1)\""] {
            assert!(!out.contains(forbidden), "{forbidden}");
        }
        assert!(out.contains("&lt;script&gt;"));
        assert!(super::super::group_path(hostile).bytes().all(|b| b.is_ascii_alphanumeric() || b"/%-._~".contains(&b)));
    }
}
