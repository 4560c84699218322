//! Pages at `/` for a person: overview, topics, groups, latency. Made by the server, readable without a script.
//!
//! Belongs here: what a page shows and how it looks. Must not: find things out by itself, beyond asking what `/v1` asks. No state but the count of open streams.
//!
//! A page is a list of blocks. Asked for as an event stream (`Accept: text/event-stream`, as the script does), the same address gives the blocks that have changed, as long as the
//! page is open ([`stream`]). No script or style stands in the HTML: the policy that `guard.rs` sends forbids both. Text from outside goes through [`text::name`], [`text::shown`] or
//! [`text::body`].

mod chart;
mod group;
mod groups;
mod latency;
mod overview;
mod stream;
mod text;
mod topic;
mod topics;

use super::{
    Admin, Problem,
    extract::{Name, Params},
    health,
};
use crate::{limits::TOPIC_NAME_BYTES_MAX, metadata::Image};
use axum::{
    Router,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Deserialize;

/// One part of a page.
#[derive(Debug)]
struct Block {
    /// Of a block that is kept up to date while the page is open.
    id: Option<&'static str>,
    html: Markup,
}

impl Block {
    /// One that stays as it is.
    fn still(html: Markup) -> Block {
        Block { id: None, html }
    }
    /// One that is kept up to date.
    fn live(id: &'static str, html: Markup) -> Block {
        Block { id: Some(id), html }
    }
}

/// What a page shows.
#[derive(Debug)]
struct Page {
    /// Of the window.
    title: String,
    /// Entry of the navigation that it belongs to.
    section: &'static str,
    /// How often it is looked at while it is open, in [`crate::limits::LIVE_PERIOD_MS`]; 0 = it stays as it is.
    period: u32,
    blocks: Vec<Block>,
}

/// Entries of the navigation.
const SECTIONS: [(&str, &str); 4] =
    [("/", "Overview"), ("/topics", "Topics"), ("/groups", "Groups"), ("/latency", "Latency")];

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("live.js");
/// Two waves and a wheel.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='7' fill='%230b62c4'/%3E%3Cpath d='M5 13q5.5-6 11 0t11 0M5 21q5.5-6 11 0t11 0' fill='none' stroke='white' stroke-width='3' stroke-linecap='round'/%3E%3C/svg%3E";

/// The pages' routes.
pub fn router() -> Router<Admin> {
    Router::new()
        .route("/", get(overview))
        .route("/topics", get(topics))
        .route("/topics/{topic}", get(topic))
        .route("/groups", get(groups))
        .route("/groups/{group}", get(group))
        .route("/group", get(group_by_query))
        .route("/latency", get(latency))
        .route("/assets/{file}", get(asset))
}

async fn overview(State(admin): State<Admin>, query: Result<Params<NoQuery>, Problem>, asked: Asked) -> Response {
    let host = asked.host.clone();
    answer(admin, asked, query, move |admin, NoQuery {}| {
        let host = host.clone();
        async move { overview::page(&admin, &host).await }
    })
    .await
}

async fn topics(State(admin): State<Admin>, query: Result<Params<topics::Query>, Problem>, asked: Asked) -> Response {
    answer(admin, asked, query, async |admin, query| topics::page(&admin, &query).await).await
}

async fn topic(
    State(admin): State<Admin>,
    name: Result<Name, Problem>,
    query: Result<Params<topic::Query>, Problem>,
    asked: Asked,
) -> Response {
    let seen = topic::Seen::default();
    let name = match name {
        Ok(Name(name)) => name,
        Err(problem) => return wrong(&admin, &problem, html! {}).await,
    };
    if let Some(broker) = admin.broker().filter(|_| !asked.stream)
        && broker.quorum.image().topic(&name).is_none()
    {
        return no_such_topic(&admin, &name, &broker.quorum.image()).await;
    }
    answer(admin, asked, query, move |admin, query| {
        let (name, seen) = (name.clone(), seen.clone());
        async move { topic::page(&admin, &name, &query, &seen).await }
    })
    .await
}

async fn no_such_topic(admin: &Admin, name: &str, image: &Image) -> Response {
    // The cost of looking grows with both.
    let known = image.topics.keys().map(|name| &**name).take(if name.len() > TOPIC_NAME_BYTES_MAX { 0 } else { 1_000 });
    let nearest = crate::config::nearest_of(name, known);
    let problem = Problem::new(StatusCode::NOT_FOUND, format!("There is no topic {name}."));
    let further = html! { @if let Some(nearest) = nearest { p { "Did you mean " a href=(topic_path(nearest)) { (text::name(nearest)) } "?" } } p { a href="/topics" { "All topics" } } };
    wrong(admin, &problem, further).await
}

async fn groups(State(admin): State<Admin>, query: Result<Params<groups::Query>, Problem>, asked: Asked) -> Response {
    answer(admin, asked, query, async |admin, query| groups::page(&admin, &query).await).await
}

async fn group(
    State(admin): State<Admin>,
    name: Result<Name, Problem>,
    query: Result<Params<NoQuery>, Problem>,
    asked: Asked,
) -> Response {
    let query = match (name, query) {
        (Ok(Name(name)), Ok(_)) => Ok(Params(GroupName { name })),
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    };
    group_by_query(State(admin), query, asked).await
}

async fn group_by_query(
    State(admin): State<Admin>,
    query: Result<Params<GroupName>, Problem>,
    asked: Asked,
) -> Response {
    answer(admin, asked, query, async |admin, query: GroupName| group::page(&admin, &query.name).await).await
}

async fn latency(State(admin): State<Admin>, query: Result<Params<latency::Query>, Problem>, asked: Asked) -> Response {
    answer(admin, asked, query, async |admin, query| latency::page(&admin, &query).await).await
}

/// A group by a parameter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupName {
    name: String,
}

/// Where a topic's page is.
fn topic_path(name: &str) -> String {
    format!("/topics/{}", text::encoded(name))
}

/// Where a group's page is. Browsers take `.` and `..` out of a path however they are written, and a path has no room for an empty name.
fn group_path(name: &str) -> String {
    match name {
        "" | "." | ".." => format!("/group?name={name}"),
        _ => format!("/groups/{}", text::encoded(name)),
    }
}

/// A page without parameters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

/// How a page was asked for.
#[derive(Debug, Clone)]
struct Asked {
    /// As a stream of what changes.
    stream: bool,
    /// The name by which the reader came, without port.
    host: String,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked, Self::Rejection> {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let host = text(header::HOST);
        // Without the port, but not within the brackets of an IPv6 address.
        let host = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(host, _)| host);
        Ok(Asked { stream: text(header::ACCEPT).contains("text/event-stream"), host: host.to_string() })
    }
}

/// Answers with the page that `make` makes, or with the stream of its changes.
async fn answer<Q, M, F>(admin: Admin, asked: Asked, query: Result<Params<Q>, Problem>, make: M) -> Response
where
    Q: Clone + Send + 'static,
    M: Fn(Admin, Q) -> F + Send + 'static,
    F: Future<Output = Result<Page, Problem>> + Send,
{
    let query = match query {
        Ok(Params(query)) => query,
        Err(problem) if asked.stream => return problem.into_response(),
        Err(problem) => return wrong(&admin, &problem, html! {}).await,
    };
    if asked.stream {
        return stream::open(admin.clone(), move || make(admin.clone(), query.clone())).await;
    }
    match make(admin.clone(), query).await {
        Ok(page) => document(&admin, StatusCode::OK, &page).await,
        Err(problem) => wrong(&admin, &problem, html! {}).await,
    }
}

/// A problem as a page, with what helps on.
async fn wrong(admin: &Admin, problem: &Problem, further: Markup) -> Response {
    let body = html! {
        h1 { (problem.title()) }
        p.lead { (text::shown(problem.detail())) }
        (further)
        p { a href="/" { "To the overview" } }
    };
    let page = Page { title: problem.title().into(), section: "", period: 0, blocks: vec![Block::still(body)] };
    document(admin, problem.status(), &page).await
}

/// Nothing lies at `uri`: the nearest page that there is.
pub async fn not_found(admin: &Admin, uri: &Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let nearest = ["/", "/topics", "/groups", "/latency", "/metrics", "/readyz", "/healthz", "/v1/openapi.json"];
    let nearest = crate::config::nearest_of(&path.to_ascii_lowercase(), nearest.into_iter()).unwrap_or("/");
    let problem = Problem::new(StatusCode::NOT_FOUND, format!("There is nothing at {path}."));
    wrong(admin, &problem, html! { p { "Did you mean " a href=(nearest) { (nearest) } "?" } }).await
}

/// Whether a request wants HTML: a browser that goes to a page.
pub fn wanted(headers: &header::HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("text/html"))
}

/// The block of every page that says whether the broker takes records.
async fn readiness(admin: &Admin) -> Markup {
    match health::reason(admin).await {
        None => html! { span.pill.good { "ready" } },
        Some(why) => html! { span.pill.bad title=(why) { "not ready" } },
    }
}

/// A page as a whole.
async fn document(admin: &Admin, status: StatusCode, page: &Page) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) " · Millstream" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href=(asset_path("style", STYLE, "css"));
                script src=(asset_path("live", SCRIPT, "js")) defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header.top {
                    div.bar {
                        a.brand href="/" { (PreEscaped(LOGO)) "Millstream" }
                        nav aria-label="Pages" {
                            @for (path, name) in SECTIONS {
                                a href=(path) aria-current=[(path == page.section).then_some("page")] { (name) }
                            }
                        }
                        div.status {
                            span #live.live role="status" {}
                            span #ready data-live[page.period > 0] { (readiness(admin).await) }
                        }
                    }
                }
                main #content tabindex="-1" {
                    @for block in &page.blocks {
                        @match block.id {
                            Some(id) => div.block id=(id) data-live { (block.html) }
                            None => (block.html)
                        }
                    }
                }
                footer {
                    "Millstream " (env!("CARGO_PKG_VERSION")) " · "
                    a href="/v1/openapi.json" { "HTTP API" } " · " a href="/metrics" { "Metrics" } " · times are UTC"
                }
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept"),
    ];
    (status, headers, markup.into_string()).into_response()
}

const LOGO: &str = r#"<svg class="logo" aria-hidden="true" width="22" height="22" viewBox="0 0 32 32"><path d="M3 12q6.500-7 13 0t13 0M3 22q6.500-7 13 0t13 0" fill="none" stroke="currentColor" stroke-width="3.500" stroke-linecap="round"/></svg>"#;

/// What tells one release's file from another's (FNV-1a, 64 bits).
const fn fingerprint(text: &str) -> u64 {
    let (bytes, mut hash, mut i) = (text.as_bytes(), 0xcbf2_9ce4_8422_2325_u64, 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    hash
}

fn asset_path(name: &str, text: &str, extension: &str) -> String {
    format!("/assets/{name}.{:016x}.{extension}", fingerprint(text))
}

/// The style sheet and the script, by names that change with what they hold: they are kept for good.
async fn asset(State(admin): State<Admin>, Path(_): Path<String>, headers: header::HeaderMap, uri: Uri) -> Response {
    let known = [("style", STYLE, "css", "text/css"), ("live", SCRIPT, "js", "text/javascript")];
    let found = known.into_iter().find(|(name, text, extension, _)| asset_path(name, text, extension) == uri.path());
    let Some((_, text, _, kind)) = found else { return super::nothing_at(&admin, &headers, &uri).await };
    let tag = format!("\"{:016x}\"", fingerprint(text));
    let same =
        headers.get(header::IF_NONE_MATCH).is_some_and(|tags| tags.to_str().is_ok_and(|tags| tags.contains(&tag)));
    let kept = [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".into()),
        (header::ETAG, tag),
    ];
    match same {
        true => (StatusCode::NOT_MODIFIED, kept).into_response(),
        false => (kept, text).into_response(),
    }
}

#[cfg(test)]
mod tests;
