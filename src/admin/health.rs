//! `/healthz`, `/readyz`.

use super::{Admin, Problem, error::Refusals, json::Status};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes here.
pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

/// 200 while the process lives, also while it recovers: a supervisor must not kill it then.
#[utoipa::path(get, path = "/healthz", tag = "cluster", responses((status = 200, description = "It lives", body = Status), Refusals))]
pub async fn healthz() -> Response {
    Json(Status { status: "alive".into() }).into_response()
}

/// 200 while the broker takes records, else 503 with the reason: it starts or stops, a flush or the metadata log failed, the disk has no room for the batch that was
/// refused last. A single partition that is offline shows in the metrics only.
#[utoipa::path(get, path = "/readyz", tag = "cluster", responses((status = 200, description = "It takes records", body = Status), Refusals))]
pub async fn readyz(State(admin): State<Admin>) -> Response {
    match reason(&admin).await {
        None => Json(Status { status: "ready".into() }).into_response(),
        Some(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// Why the broker is not ready, if so.
pub(super) async fn reason(admin: &Admin) -> Option<String> {
    if admin.is_stopping() {
        return Some("the broker is stopping".into());
    }
    let Some(broker) = admin.broker() else { return Some("the broker is starting".into()) };
    match broker.directory.failure().or_else(|| broker.quorum.failure()) {
        None => broker.disk_full().await,
        failed => failed,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, admin::Admin, metrics::Metrics};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    /// Status and the rest of the answer to a request for `path` by the name `host`.
    async fn get(admin: &Admin, request: &str, host: &str) -> (u16, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(axum::serve(listener, admin.router()).into_future());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        (answer[9..12].parse().unwrap(), answer)
    }

    #[tokio::test]
    async fn a_starting_broker_is_alive_but_not_ready() {
        let admin = Admin::new(&Config::local("/nowhere"), Metrics::new());
        let (status, _) = get(&admin, "GET /healthz", "localhost").await;
        assert_eq!(status, 200);
        let (status, answer) = get(&admin, "GET /readyz", "localhost").await;
        assert_eq!(status, 503);
        assert!(answer.contains("application/problem+json") && answer.contains("starting"), "{answer}");
        assert!(answer.contains(r#""status":503"#) && answer.contains("Service Unavailable"), "{answer}");
        admin.stopping();
        assert!(get(&admin, "GET /readyz", "localhost").await.1.contains("stopping"));
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let metrics = Metrics::new();
        metrics.requests.increment(3);
        let (status, answer) = get(&Admin::new(&Config::local("/nowhere"), metrics), "GET /metrics", "localhost").await;
        assert_eq!(status, 200);
        assert!(answer.contains("millstream_requests_total 3"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_a_problem_document() {
        let admin = Admin::new(&Config::local("/nowhere"), Metrics::new());
        for (request, host, expected) in [
            ("GET /nothing", "localhost", 404),
            ("POST /healthz", "localhost", 405),
            ("GET /healthz", "evil.example", 403),
            ("GET /nothing", "evil.example", 403),
        ] {
            let (status, answer) = get(&admin, request, host).await;
            assert_eq!(status, expected, "{request} {host}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
    }
}
