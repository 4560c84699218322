use super::*;
use crate::{Config, metrics::Metrics};
use axum::{body::Body, extract::Request};
use hyper::body::{Body as _, Frame};
use hyper_util::service::TowerToHyperService;
use std::pin::Pin;

/// Status, headers and body of what the router answers.
async fn ask(admin: &Admin, path: &str, headers: &[(&str, &str)]) -> (StatusCode, header::HeaderMap, String) {
    let mut request = Request::get(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let service = TowerToHyperService::new(admin.router());
    let response = hyper::service::Service::call(&service, request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes.extend_from_slice(&frame.map(Frame::into_data).unwrap().unwrap());
    }
    (parts.status, parts.headers, String::from_utf8(bytes).unwrap())
}

fn admin() -> Admin {
    Admin::new(&Config::local("/nowhere"), Metrics::new())
}

#[tokio::test]
async fn a_starting_broker_has_an_overview_that_says_so() {
    let (status, headers, body) = ask(&admin(), "/", &[("accept", "text/html")]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("the broker is starting") && body.contains("not ready"), "{body}");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(
        (&headers["x-content-type-options"], &headers["referrer-policy"]),
        (&"nosniff".parse().unwrap(), &"no-referrer".parse().unwrap())
    );
    assert_eq!(headers["cache-control"], "no-store");
    for forbidden in [" style=", "<style", " onclick", "javascript:"] {
        assert!(!body.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_page_for_people_and_a_document_for_programs() {
    let (status, headers, body) = ask(&admin(), "/topcis%3Cscript%3E", &[("accept", "text/html,*/*")]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(body.contains(r#"<a href="/topics">"#) && !body.contains("topcis<script>"), "{body}");
    for (path, accept) in [("/topcis", "*/*"), ("/v1/topcis", "text/html")] {
        let (status, headers, _) = ask(&admin(), path, &[("accept", accept)]).await;
        assert_eq!(
            (status, headers["content-type"].to_str().unwrap()),
            (StatusCode::NOT_FOUND, "application/problem+json")
        );
    }
}

#[tokio::test]
async fn a_misspelled_parameter_is_refused_by_name() {
    let (status, _, body) = ask(&admin(), "/?sotr=name", &[("accept", "text/html")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("sotr"), "{body}");
}

#[tokio::test]
async fn what_a_page_loads_is_kept_for_good() {
    let (_, _, body) = ask(&admin(), "/", &[]).await;
    for (kind, start) in [("text/css", "/assets/style."), ("text/javascript", "/assets/live.")] {
        let at = body.find(start).unwrap();
        let path = &body[at..at + body[at..].find('"').unwrap()];
        let (status, headers, text) = ask(&admin(), path, &[]).await;
        assert!(status == StatusCode::OK && !text.is_empty());
        assert!(headers["content-type"].to_str().unwrap().starts_with(kind));
        assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
        let (status, _, text) = ask(&admin(), path, &[("if-none-match", headers["etag"].to_str().unwrap())]).await;
        assert_eq!((status, text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }
    assert_eq!(ask(&admin(), "/assets/style.0000000000000000.css", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn live_pages_have_a_bound() {
    let admin = admin();
    let all = admin.0.live.clone().try_acquire_many_owned(crate::limits::LIVE_PAGES_MAX as u32).unwrap();
    let (status, _, _) = ask(&admin, "/", &[("accept", "text/event-stream")]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    drop(all);
    // It ends at the first look of a broker that stops.
    admin.stopping();
    let (status, headers, _) = ask(&admin, "/", &[("accept", "text/event-stream")]).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, "text/event-stream"));
    assert_eq!(admin.0.live.available_permits(), crate::limits::LIVE_PAGES_MAX);
}
