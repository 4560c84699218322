//! The one place where errors become HTTP: problem details (RFC 9457).

use crate::{
    broker::{browse::BrowseError, changes::ChangeError, lag::ResetError, publish::PublishError},
    coordinator::group::GroupError,
    metadata::{ProposeError, Refusal},
    partition::PartitionError,
};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{Ref, RefOr, content::ContentBuilder, response::ResponseBuilder},
};

/// Why a request is not answered as asked, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A link to what the problem is; `about:blank` = nothing beyond the status.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status code, repeated.
    status: u16,
    /// One sentence about this occurrence.
    detail: String,
}

impl Problem {
    /// A problem with nothing to say beyond status and sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or("Error");
        Problem { kind: "about:blank", title, status: status.as_u16(), detail: detail.into() }
    }
    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
    /// The status in words.
    pub fn title(&self) -> &'static str {
        self.title
    }
    /// The sentence about this occurrence.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// What coordinators refuse.
impl From<GroupError> for Problem {
    fn from(e: GroupError) -> Problem {
        let status = match &e {
            GroupError::GroupIdNotFound => StatusCode::NOT_FOUND,
            GroupError::NonEmptyGroup
            | GroupError::GroupSubscribedToTopic
            | GroupError::RebalanceInProgress
            | GroupError::UnknownMemberId
            | GroupError::IllegalGeneration { .. }
            | GroupError::FencedInstanceId => StatusCode::CONFLICT,
            GroupError::NotAvailable(_) | GroupError::NotCoordinator(_) | GroupError::Loading => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            GroupError::InvalidGroupId
            | GroupError::MemberIdRequired
            | GroupError::InvalidRequest(_)
            | GroupError::InconsistentGroupProtocol
            | GroupError::InvalidSessionTimeout { .. }
            | GroupError::OffsetMetadataTooLarge { .. }
            | GroupError::GroupMaxSizeReached { .. }
            | GroupError::CommitTooLarge => StatusCode::BAD_REQUEST,
            GroupError::Unknown(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, e.to_string())
    }
}

/// Why offsets were not reset at all.
impl From<ResetError> for Problem {
    fn from(e: ResetError) -> Problem {
        let status = match e {
            ResetError::Group(e) => return e.into(),
            ResetError::UnknownTopic(_) | ResetError::UnknownPartition { .. } => StatusCode::NOT_FOUND,
            ResetError::HasMembers(_) => StatusCode::CONFLICT,
            ResetError::TooMany { .. } => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, e.to_string())
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Problem {
        Problem::new(change(&error), error.to_string())
    }
}

impl From<PartitionError> for Problem {
    fn from(error: PartitionError) -> Problem {
        Problem::new(partition(&error), error.to_string())
    }
}

/// Status of a change that was not made.
fn change(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::InvalidName(_)
        | ChangeError::Reserved(_)
        | ChangeError::Partitions(_)
        | ChangeError::ReplicationFactor(_)
        | ChangeError::Assignment(_)
        | ChangeError::Config(_)
        | ChangeError::Request(_)
        | ChangeError::TooManyTopics { .. }
        | ChangeError::Internal(_)
        | ChangeError::CompactedOnly(_)
        | ChangeError::Placement(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ChangeError::Exists(_) => StatusCode::CONFLICT,
        ChangeError::UnknownTopic(_) | ChangeError::UnknownId | ChangeError::UnknownPartition { .. } => {
            StatusCode::NOT_FOUND
        }
        ChangeError::DeletionDisabled => StatusCode::FORBIDDEN,
        ChangeError::Refused(refusal) => match refusal {
            Refusal::TopicExists | Refusal::NotMorePartitions => StatusCode::CONFLICT,
            Refusal::UnknownTopic => StatusCode::NOT_FOUND,
            Refusal::TopicNameCollision(_) | Refusal::UnknownBroker(_) | Refusal::FeatureLevel { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        },
        ChangeError::Propose(ProposeError::TooLarge { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
        ChangeError::Propose(_) | ChangeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        ChangeError::Unanswered => StatusCode::INTERNAL_SERVER_ERROR,
        ChangeError::Partition(error) => partition(error),
    }
}

/// Status of what a partition refused.
fn partition(error: &PartitionError) -> StatusCode {
    match error {
        PartitionError::NotOpen
        | PartitionError::NotLeader { .. }
        | PartitionError::FencedLeaderEpoch { .. }
        | PartitionError::UnknownLeaderEpoch { .. }
        | PartitionError::NotEnoughReplicas { .. }
        | PartitionError::Storage(_)
        | PartitionError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        PartitionError::DiskFull(_) => StatusCode::INSUFFICIENT_STORAGE,
        // The record may be in the log.
        PartitionError::TooManyWaiters => StatusCode::GATEWAY_TIMEOUT,
        PartitionError::TooLarge { .. }
        | PartitionError::InvalidTimestamp { .. }
        | PartitionError::InvalidRecord(_)
        | PartitionError::UnsupportedCompression
        | PartitionError::InvalidTransactionState(_)
        | PartitionError::Batch(_)
        | PartitionError::Producer(_) => StatusCode::UNPROCESSABLE_ENTITY,
        PartitionError::OffsetOutOfRange { .. } => StatusCode::BAD_REQUEST,
        PartitionError::Corrupt { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        PartitionError::Deleted => StatusCode::NOT_FOUND,
    }
}

/// A response of the OpenAPI document that is a problem.
fn documented(status: StatusCode, when: &str) -> (String, RefOr<utoipa::openapi::Response>) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(when).content("application/problem+json", content).build();
    (status.as_str().to_owned(), RefOr::T(response))
}

/// Refusals that every route of `/v1` knows, for `responses(…)` of its `#[utoipa::path]`.
#[derive(Debug)]
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        [
            documented(StatusCode::BAD_REQUEST, "A parameter is not known here, given twice, or not of its kind"),
            documented(StatusCode::FORBIDDEN, "A host or a page that may not call"),
            documented(StatusCode::METHOD_NOT_ALLOWED, "Not a method of this path"),
            documented(StatusCode::SERVICE_UNAVAILABLE, "The broker starts, stops, or cannot do this now"),
        ]
        .into()
    }
}

/// Refusals that routes about one thing know besides.
#[derive(Debug)]
pub struct Missing;

impl IntoResponses for Missing {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        [documented(StatusCode::NOT_FOUND, "There is no such thing")].into()
    }
}

/// Refusals that routes with a body know besides.
#[derive(Debug)]
pub struct BadBody;

impl IntoResponses for BadBody {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        [
            documented(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            documented(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not said to be application/json"),
            documented(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The body is JSON, but not what is wanted: a field that is not known, or a value that is refused",
            ),
        ]
        .into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, axum::Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

impl From<&PublishError> for Problem {
    fn from(error: &PublishError) -> Problem {
        let status = match error {
            PublishError::Internal(_) => StatusCode::FORBIDDEN,
            PublishError::UnknownPartition { .. } | PublishError::Timestamp(_) => StatusCode::UNPROCESSABLE_ENTITY,
            PublishError::Unknown { .. } => StatusCode::GATEWAY_TIMEOUT,
            PublishError::NotDurable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            PublishError::Refused { error, .. } => partition(error),
        };
        Problem::new(status, error.to_string())
    }
}

impl From<BrowseError> for Problem {
    fn from(error: BrowseError) -> Problem {
        let status = match error {
            BrowseError::Partition(error) => return error.into(),
            BrowseError::TooManyTails => StatusCode::SERVICE_UNAVAILABLE,
            BrowseError::UnknownPartition { .. } | BrowseError::NoRecord { .. } => StatusCode::NOT_FOUND,
            BrowseError::Beyond { .. } | BrowseError::TooManyPartitions { .. } | BrowseError::Cursor(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        Problem::new(status, error.to_string())
    }
}
