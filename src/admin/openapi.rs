//! `/v1`: every route with its place in the OpenAPI document. A route is declared once, by `#[utoipa::path]` on its handler and its line in [`router`]; axum's router and the
//! document are both made from that.

use super::{
    Admin, Problem, cluster,
    error::Refusals,
    extract::{Nothing, Params},
    groups, health, latency, messages, metrics, publish, tail, throughput, topics,
};
use axum::{Router, http::header, response::IntoResponse};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::LazyLock};
use utoipa::{
    IntoResponses, OpenApi,
    openapi::{RefOr, Response, response::ResponseBuilder},
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// What the document says of itself.
#[derive(OpenApi)]
#[openapi(
    info(title = "Millstream admin API", license(name = "")),
    components(schemas(Problem)),
    tags(
        (name = "cluster", description = "The broker and its settings"),
        (name = "topics", description = "Topics, their partitions and settings"),
        (name = "messages", description = "Records: look, publish, follow"),
        (name = "groups", description = "Consumer groups, their lag and their offsets"),
        (name = "figures", description = "Throughput and latency"),
    )
)]
struct Document;

/// Every route that is in the document.
fn routes() -> OpenApiRouter<Admin> {
    // One line a module.
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(get_document))
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(cluster::routes())
        .merge(topics::routes())
        .merge(groups::routes())
        .merge(messages::routes())
        .merge(publish::routes())
        .merge(tail::routes())
        .merge(throughput::routes())
        .merge(latency::routes())
}

/// The routes.
pub fn router() -> Router<Admin> {
    routes().split_for_parts().0
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "cluster",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value), Refusals))]
async fn get_document(Params(_): Params<Nothing>) -> axum::response::Response {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(text()));
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
}

/// The document as it is served. The crate writes the operation that a link leads to under a name that OpenAPI does not have.
fn text() -> String {
    document().to_json().unwrap_or_default().replace(r#""operation_id":"#, r#""operationId":"#)
}

/// The document, made from the routes; what every one of them may answer is added to each.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = routes().split_for_parts().1;
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            for (status, response) in common() {
                operation.responses.responses.entry(status).or_insert(response);
            }
        }
    }
    document
}

/// Answers of every route: refusals, and what is refused before a route is looked for (a path with its parameters above 64 KiB).
fn common() -> BTreeMap<String, RefOr<Response>> {
    let mut common = Refusals::responses();
    let too_long = ResponseBuilder::new().description("The path with its parameters is too long").build();
    common.insert("414".into(), RefOr::T(too_long));
    let too_large = ResponseBuilder::new().description("The head of the request is too large").build();
    common.insert("431".into(), RefOr::T(too_large));
    common
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, metrics::Metrics};
    use std::{fs, path::Path};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    /// Method and path of every operation in the document.
    fn operations() -> Vec<(String, String)> {
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap().clone();
        let of_path = |(path, item): (String, serde_json::Value)| {
            let methods = ["get", "post", "put", "patch", "delete"].into_iter().filter(move |m| item.get(*m).is_some());
            methods.map(move |m| (m.to_uppercase(), path.clone())).collect::<Vec<_>>()
        };
        paths.into_iter().flat_map(of_path).collect()
    }

    async fn status(address: std::net::SocketAddr, method: &str, path: &str) -> u16 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer[9..12].parse().unwrap()
    }

    #[tokio::test]
    async fn every_operation_of_the_document_has_a_route() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin::new(&Config::local("/nowhere"), Metrics::new());
        let server = tokio::spawn(axum::serve(listener, admin.router()).into_future());
        let operations = operations();
        assert!(operations.len() >= 13, "{operations:?}");
        for (method, path) in operations {
            let path: String = path.replace(['{', '}'], "");
            let status = status(address, &method, &path).await;
            assert!(![404, 405, 500].contains(&status), "{method} {path}: {status}");
        }
        assert_eq!(status(address, "GET", "/v1/nothing").await, 404);
        assert_eq!(status(address, "PUT", "/v1/topics").await, 405);
        server.abort();
    }

    /// A route is made by `routes!`, which takes it from the handler's `#[utoipa::path]`; only pages, which are no part of the API, are made otherwise.
    #[test]
    fn every_route_is_in_the_document() {
        fn look(dir: &Path, wrong: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
                if entry.is_dir() {
                    if !entry.ends_with("pages") {
                        look(&entry, wrong);
                    }
                    continue;
                }
                let text = fs::read_to_string(&entry).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap();
                if [".route(", ".route_service(", ".nest("].iter().any(|made| code.contains(made)) {
                    wrong.push(entry.display().to_string());
                }
            }
        }
        let mut wrong = Vec::new();
        look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin"), &mut wrong);
        assert!(wrong.is_empty(), "routes beside the document: {wrong:?}");
    }

    #[test]
    fn every_operation_is_described() {
        let document = serde_json::to_value(document()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(m, _)| *m != "parameters") {
                let at = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{at} says nothing of itself");
                assert!(operation["responses"].as_object().unwrap().contains_key("503"), "{at} knows no 503");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                for p in parameters {
                    assert!(p["description"].as_str().is_some_and(|s| !s.is_empty()), "{at}: {}", p["name"]);
                }
            }
        }
        // Every schema and every operation that is named is there.
        let text = text();
        let ids: Vec<&str> =
            text.split(r#""operationId":""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let declared = operations().len();
        let different: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(
            different.len(),
            declared,
            "an operation is named that is not there, or two are named alike: {ids:?}"
        );
        assert!(ids.len() > declared, "no links: {ids:?}");
        for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is named, but not there");
        }
    }
}
