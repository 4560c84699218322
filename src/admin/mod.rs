//! HTTP → broker → JSON and pages.

use crate::broker::Broker;
use axum::{Router, routing::get};
use std::sync::Arc;

/// The routes of the admin API.
pub fn router(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ready\n" }))
        .route("/metrics", get(move || async move { broker.metrics.render() }))
}
