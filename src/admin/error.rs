//! The one place where errors become HTTP: problem details (RFC 9457).

use crate::{
    broker::{browse::BrowseError, lag::ResetError},
    coordinator::group::GroupError,
    partition::PartitionError,
};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, axum::Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

impl From<PartitionError> for Problem {
    fn from(error: PartitionError) -> Problem {
        let status = match &error {
            PartitionError::NotOpen
            | PartitionError::NotLeader { .. }
            | PartitionError::NotEnoughReplicas { .. }
            | PartitionError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            PartitionError::TooLarge { .. }
            | PartitionError::InvalidTimestamp { .. }
            | PartitionError::InvalidRecord(_)
            | PartitionError::Batch(_) => StatusCode::UNPROCESSABLE_ENTITY,
            PartitionError::Deleted => StatusCode::NOT_FOUND,
            PartitionError::DiskFull(_) => StatusCode::INSUFFICIENT_STORAGE,
            // The record may be in the log.
            PartitionError::TooManyWaiters => StatusCode::GATEWAY_TIMEOUT,
            PartitionError::OffsetOutOfRange { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<BrowseError> for Problem {
    fn from(error: BrowseError) -> Problem {
        let status = match error {
            BrowseError::Partition(error) => return error.into(),
            BrowseError::UnknownPartition { .. } | BrowseError::NoRecord { .. } => StatusCode::NOT_FOUND,
            BrowseError::Beyond { .. } | BrowseError::TooManyPartitions { .. } | BrowseError::Cursor(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        Problem::new(status, error.to_string())
    }
}
