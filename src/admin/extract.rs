//! What requests bring: query parameters and JSON bodies, refused as problem documents.

use super::Problem;
use crate::limits::HTTP_BODY_BYTES_MAX;
use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Query parameters. `T` denies unknown fields: a misspelled parameter is refused, with its name.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Params(params)),
            Err(rejection) => Err(Problem::new(StatusCode::BAD_REQUEST, said(&rejection.body_text()))),
        }
    }
}

/// No query parameters: any is refused, with its name.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The variable parts of a path.
#[derive(Debug)]
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segments<T>, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Segments(segments)),
            Err(rejection) => Err(Problem::new(StatusCode::BAD_REQUEST, said(&rejection.body_text()))),
        }
    }
}

/// How many entries are asked for: 1 to `max`.
///
/// # Errors
///
/// 400.
pub fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, Problem> {
    match asked {
        None => Ok(default),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::new(StatusCode::BAD_REQUEST, format!("limit: {limit} is outside 1 to {max}"))),
    }
}

/// A JSON body. 415 without `content-type: application/json` (what a page of another site cannot send without being asked first), 413 where it is too large, 400 where it is
/// not JSON, 422 where it is not what was asked for.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        if !is_json(request.headers()) {
            let why = "the request must say that it is JSON: content-type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| match rejection.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(status, format!("the body is larger than {} MiB", HTTP_BODY_BYTES_MAX >> 20))
            }
            status => Problem::new(status, said(&rejection.body_text())),
        })?;
        match axum::Json::<T>::from_bytes(&bytes) {
            // A list of the fields' values would be taken for the object, too.
            Ok(_) if !bytes.trim_ascii_start().starts_with(b"{") => {
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the body is not a JSON object"))
            }
            Ok(axum::Json(body)) => Ok(Body(body)),
            // An enum that is written in none of its ways counts as bad syntax there, though it is JSON.
            Err(rejection) => {
                let is_json = serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
                let status = if is_json { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
                Err(Problem::new(status, said(&rejection.body_text())))
            }
        }
    }
}

/// What the framework says of a request, without the words on how it came to it.
fn said(text: &str) -> String {
    const WORDS: [&str; 3] = [
        "Failed to deserialize query string: ",
        "Failed to deserialize the JSON body into the target type: ",
        "Failed to parse the request body as JSON: ",
    ];
    WORDS.iter().find_map(|words| text.strip_prefix(words)).unwrap_or(text).to_string()
}

/// `application/json`, or another kind that ends in `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// A name in the path, percent-decoded: a group or topic may be called anything that is UTF-8.
#[derive(Debug)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, Problem> {
        Segments::<String>::from_request_parts(parts, state).await.map(|Segments(name)| Name(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[allow(dead_code, reason = "only whether it can be read is asked")]
        name: String,
    }

    async fn refused(body: Vec<u8>) -> Option<(u16, String)> {
        let request = Request::builder().header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap();
        let problem = Body::<Wanted>::from_request(request, &()).await.err()?;
        Some((problem.status().as_u16(), problem.detail().to_string()))
    }

    #[tokio::test]
    async fn a_body_is_an_object_of_bounded_size() {
        assert_eq!(refused(b" {\"name\":\"x\"}".to_vec()).await, None);
        assert_eq!(refused(b" [\"x\"]".to_vec()).await, Some((422, "the body is not a JSON object".into())));
        let (status, why) = refused(b"{\"name\":5}".to_vec()).await.unwrap();
        assert!(status == 422 && why.starts_with("name: "), "{why}");
        let (status, why) = refused(b"{\"name\":".to_vec()).await.unwrap();
        assert!(status == 400 && why.starts_with("name: EOF"), "{why}");
        assert_eq!(
            refused(vec![b' '; HTTP_BODY_BYTES_MAX + 1]).await.unwrap(),
            (413, "the body is larger than 4 MiB".into())
        );
    }

    #[tokio::test]
    async fn a_parameter_is_named_without_words_about_the_framework() {
        #[derive(Debug, serde::Deserialize)]
        struct Limit {
            #[allow(dead_code, reason = "only whether it can be read is asked")]
            limit: u32,
        }
        let (mut parts, ()) = Request::builder().uri("/?limit=x").body(()).unwrap().into_parts();
        let problem = Params::<Limit>::from_request_parts(&mut parts, &()).await.unwrap_err();
        assert_eq!(problem.detail(), "limit: invalid digit found in string");
    }
}
