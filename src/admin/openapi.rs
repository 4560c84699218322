//! `/v1`: every route with its place in the OpenAPI document. A route is declared once, by `#[utoipa::path]` on its handler and its line in [`router`]; axum's router and the
//! document are both made from that.

use super::Admin;
use axum::{
    Json, Router,
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// What the document says of itself.
#[derive(OpenApi)]
#[openapi(
    info(title = "Millstream admin API", license(name = "")),
    tags(
        (name = "cluster", description = "The broker and its settings"),
        (name = "topics", description = "Topics, their partitions and settings"),
        (name = "messages", description = "Records: look, publish, follow"),
        (name = "groups", description = "Consumer groups, their lag and their offsets"),
        (name = "figures", description = "Throughput and latency"),
    )
)]
struct Document;

/// Every route of `/v1`.
fn routes() -> OpenApiRouter<Admin> {
    // One line a module.
    OpenApiRouter::with_openapi(Document::openapi()).merge(super::groups::routes()).merge(super::messages::routes())
}

/// The routes, and `/v1/openapi.json`.
pub fn router() -> Router<Admin> {
    let (router, document) = routes().split_for_parts();
    let document = Arc::new(document);
    router.route("/v1/openapi.json", get(move || async move { Json(&*document).into_response() as Response }))
}
