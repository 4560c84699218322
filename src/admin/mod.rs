//! HTTP → broker → JSON and pages: health, readiness, metrics.
//!
//! Belongs here: routes, who may call them, how answers look. Must not: hold state beyond one request, know Kafka's messages. It answers before the broker is up: health at once,
//! readiness with the reason why not.

mod cluster;
mod error;
pub mod extract;
pub mod groups;
mod guard;
mod health;
pub mod json;
pub mod latency;
pub mod messages;
mod metrics;
mod openapi;
mod pages;
mod payload;
pub mod publish;
pub mod tail;
pub mod throughput;
pub mod topics;

pub use error::Problem;

use crate::{
    Config,
    broker::Broker,
    limits::{HTTP_BODY_BYTES_MAX, LIVE_PAGES_MAX},
    metrics::Metrics,
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    middleware,
    response::{IntoResponse, Response},
};
use guard::Hosts;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// What the HTTP listener answers from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hosts: Hosts,
    metrics: Metrics,
    /// Set once the broker is up.
    broker: OnceLock<Arc<Broker>>,
    /// When that was.
    up_since: OnceLock<Instant>,
    /// Pages that may be kept up to date at once.
    live: Arc<Semaphore>,
    stopping: AtomicBool,
}

impl Admin {
    /// For a broker that is still starting: `/healthz` answers, `/readyz` says that it starts.
    pub fn new(config: &Config, metrics: Metrics) -> Admin {
        let (broker, up_since, stopping) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(false));
        let live = Arc::new(Semaphore::new(LIVE_PAGES_MAX));
        Admin(Arc::new(Inner { hosts: Hosts::of(config), metrics, broker, up_since, live, stopping }))
    }
    /// The broker is up: a produce would succeed.
    pub fn up(&self, broker: Arc<Broker>) {
        let _ = self.0.up_since.set(Instant::now());
        let _ = self.0.broker.set(broker);
    }
    /// The broker stops: not ready any more.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }
    /// All routes.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(openapi::router())
            .merge(pages::router())
            .fallback(not_found)
            .method_not_allowed_fallback(not_allowed)
            .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(self.clone(), guard::check))
            .with_state(self.clone())
    }
    fn broker(&self) -> Option<&Arc<Broker>> {
        self.0.broker.get()
    }
    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }
    /// The broker while it serves.
    ///
    /// # Errors
    ///
    /// 503 while it starts or stops.
    pub fn serving(&self) -> Result<&Arc<Broker>, Problem> {
        let refuse = |why: &str| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
        match self.broker() {
            _ if self.is_stopping() => refuse("the broker is stopping"),
            None => refuse("the broker is starting"),
            Some(broker) => Ok(broker),
        }
    }
    /// How long it has been up; nothing while it starts.
    pub fn uptime(&self) -> Duration {
        self.0.up_since.get().map_or(Duration::ZERO, Instant::elapsed)
    }
}

async fn not_found(State(admin): State<Admin>, headers: HeaderMap, uri: Uri) -> Response {
    nothing_at(&admin, &headers, &uri).await
}

/// A page for a person, a problem document for a program.
async fn nothing_at(admin: &Admin, headers: &HeaderMap, uri: &Uri) -> Response {
    if pages::wanted(headers) && !uri.path().starts_with("/v1/") {
        return pages::not_found(admin, uri).await;
    }
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}")).into_response()
}

async fn not_allowed(method: Method) -> impl IntoResponse {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed here"))
}
