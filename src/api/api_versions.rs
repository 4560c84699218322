//! ApiVersions (18), v0–5: which APIs and versions there are. The list is the table of [`super::APIS`].
//!
//! v3 is flexible, but the response header never is (KIP-511). An unknown version is answered with UNSUPPORTED_VERSION in v0, ApiVersions' own entry in
//! it. In v5 a client may say which cluster and node it means, and hears REBOOTSTRAP_REQUIRED where that is another one (KIP-1242); the response is as in v4. Finalized features are advertised once something stands behind them: none yet.

use super::{APIS, Api, Outcome, Request, reply};
use crate::wire::{Reply, header::RequestHeader, newer::ApiVersionsRequest};
use kafka_protocol::{
    ResponseError,
    messages::{ApiVersionsResponse, api_versions_response::ApiVersion},
    protocol::Message,
};

/// Kafka's code for "look the cluster up anew": the client means another one.
const REBOOTSTRAP_REQUIRED: i16 = 129;

/// Key of this API.
pub const KEY: i16 = 18;

/// Answers with the table.
pub async fn handle(request: Request<'_>, asked: ApiVersionsRequest) -> Outcome {
    let header = &request.header;
    let message = asked.known;
    let name_is_wrong = |name: &str| header.api_version >= 3 && !is_software_name(name);
    if name_is_wrong(&message.client_software_name) || name_is_wrong(&message.client_software_version) {
        return Outcome::Reply(refused(header, ResponseError::InvalidRequest.code()));
    }
    let broker = request.broker;
    let own = (broker.quorum.image().cluster_id.clone(), broker.config().node_id);
    match (&asked.cluster_id, asked.node_id) {
        (None, -1) => {}
        (Some(cluster), node) if node != -1 => {
            if (cluster.as_str(), node) != (&own.0, own.1) {
                return Outcome::Reply(refused(header, REBOOTSTRAP_REQUIRED));
            }
        }
        // Half of it says nothing.
        _ => return Outcome::Reply(refused(header, ResponseError::InvalidRequest.code())),
    }
    let response = ApiVersionsResponse::default().with_api_keys(APIS.iter().map(entry).collect());
    Outcome::Reply(encoded(header, &response))
}

fn refused(header: &RequestHeader, error_code: i16) -> Reply {
    encoded(header, &ApiVersionsResponse::default().with_error_code(error_code))
}

/// The response did not change since the last version that the crate has.
fn encoded(header: &RequestHeader, response: &ApiVersionsResponse) -> Reply {
    reply::message_as(header, response, header.api_version.min(ApiVersionsResponse::VERSIONS.max))
}

/// The reply to a version that is not served: v0, error 35, ApiVersions' own entry.
pub fn unsupported(header: &RequestHeader) -> Reply {
    let own = APIS.iter().filter(|api| api.key == KEY).map(entry).collect();
    let response =
        ApiVersionsResponse::default().with_error_code(ResponseError::UnsupportedVersion.code()).with_api_keys(own);
    reply::message_as(header, &response, 0)
}

fn entry(api: &Api) -> ApiVersion {
    ApiVersion::default().with_api_key(api.key).with_min_version(api.min).with_max_version(api.max)
}

/// KIP-511: letters and digits, with dots and dashes between them.
fn is_software_name(name: &str) -> bool {
    let is_alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    is_alphanumeric(bytes.first())
        && is_alphanumeric(bytes.last())
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_version_is_answered_in_v0_with_the_own_entry() {
        let header = RequestHeader { api_key: KEY, api_version: 6, correlation_id: 7, client_id: None, size_bytes: 0 };
        let own = APIS.iter().find(|api| api.key == KEY).unwrap();
        let mut expected = vec![0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1];
        for value in [KEY, own.min, own.max] {
            expected.extend_from_slice(&value.to_be_bytes());
        }
        assert_eq!(unsupported(&header).chunks.concat(), expected);
    }

    #[test]
    fn software_names_follow_kip_511() {
        assert!(is_software_name("apache-kafka-java") && is_software_name("4.4.0") && is_software_name("a"));
        assert!(
            !is_software_name("") && !is_software_name("-a") && !is_software_name("a.") && !is_software_name("a b")
        );
    }
}
