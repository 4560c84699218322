//! FindCoordinator (key 10): which broker coordinates a group.
//!
//! Served: v0–6. v0 has no key type (a group), v1+ key type and error message, v3+ tagged fields, v4+ several keys (KIP-699), v5 and v6 as v4 (v6: key type share). The first
//! question creates `__consumer_offsets`, and is answered once it is there (Kafka answers COORDINATOR_NOT_AVAILABLE first). Transactions and share groups are not built: INVALID_REQUEST.

use super::{
    CloseReason, Outcome, Request,
    endpoints::{Endpoint, endpoints},
    errors::{Fault, ResponseError},
    reply, topics,
};
use crate::{
    broker::groups::OFFSETS_TOPIC, coordinator::partition_for, limits::GROUPS_PER_REQUEST_MAX, metadata::Image,
};
use kafka_protocol::{
    messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator},
    protocol::StrBytes,
};

/// Key type: a group.
const GROUP: i8 = 0;

pub(super) async fn handle(request: Request<'_>, message: FindCoordinatorRequest) -> Outcome {
    let broker = request.broker;
    let version = request.header.api_version;
    if message.coordinator_keys.len() > GROUPS_PER_REQUEST_MAX {
        return Outcome::Close(CloseReason::Unreadable(format!("{} keys", message.coordinator_keys.len())));
    }
    let ready = match message.key_type {
        GROUP => broker.ensure_offsets_topic().await.map_err(|e| {
            tracing::warn!(error = %e, "{OFFSETS_TOPIC} was not created");
            not_available(&e.to_string())
        }),
        other => Err(Fault::new(
            ResponseError::InvalidRequest,
            format!("there are no coordinators of key type {other} here, only of groups (0)"),
        )),
    };
    let image = broker.quorum.image();
    let endpoints = endpoints(&image, &broker.config(), request.connection);
    let look = |key: &StrBytes| ready.clone().and_then(|()| find(&image, &endpoints, key));
    let response = match version {
        4.. => FindCoordinatorResponse::default()
            .with_error_message(None)
            .with_coordinators(message.coordinator_keys.into_iter().map(|key| one(look(&key), key)).collect()),
        _ => {
            let found = one(look(&message.key), message.key);
            FindCoordinatorResponse::default()
                .with_error_code(found.error_code)
                // Kafka says "NONE" where nothing went wrong.
                .with_error_message(found.error_message.or(Some(StrBytes::from_static_str("NONE"))))
                .with_node_id(found.node_id)
                .with_host(found.host)
                .with_port(found.port)
        }
    };
    Outcome::Reply(reply::message(&request.header, &response))
}

fn not_available(why: &str) -> Fault {
    Fault::new(ResponseError::CoordinatorNotAvailable, why)
}

/// The broker that leads the partition of a group.
fn find<'a>(image: &Image, endpoints: &'a [Endpoint], group: &str) -> Result<&'a Endpoint, Fault> {
    let topic = image.topic(OFFSETS_TOPIC).ok_or_else(|| not_available("there is no offsets topic yet"))?;
    let index = partition_for(group, topic.partitions.len() as i32);
    let facts = topic.partitions.get(index as usize);
    let leader = facts.map_or(-1, |p| p.leader);
    let found = endpoints.iter().find(|e| e.node_id == leader && !e.fenced);
    found.ok_or_else(|| not_available("the coordinator's partition has no leader now"))
}

fn one(found: Result<&Endpoint, Fault>, key: StrBytes) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key);
    match found {
        Ok(endpoint) => coordinator
            .with_error_message(None)
            .with_node_id(BrokerId(endpoint.node_id))
            .with_host(topics::text(&endpoint.host))
            .with_port(endpoint.port.into()),
        Err(fault) => coordinator
            .with_error_code(fault.code())
            .with_error_message(fault.text())
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::tests::{cluster, with_topic};

    fn endpoint(node_id: i32, fenced: bool) -> Endpoint {
        Endpoint { node_id, host: format!("b{node_id}"), port: 9092, rack: None, fenced }
    }

    #[test]
    fn the_leader_of_the_groups_partition_is_its_coordinator() {
        let image = with_topic(&cluster(2), OFFSETS_TOPIC, 50);
        let both = [endpoint(1, false), endpoint(2, false)];
        assert_eq!(find(&image, &both, "g").unwrap().node_id, 1);
        assert_eq!(find(&image, &both, "").unwrap().node_id, 1, "the empty id has a coordinator, as in Kafka");
        let away = [endpoint(1, true), endpoint(2, false)];
        assert_eq!(find(&image, &away, "g").unwrap_err().error, ResponseError::CoordinatorNotAvailable);
        let error = find(&cluster(1), &both, "g").unwrap_err().error;
        assert_eq!(error, ResponseError::CoordinatorNotAvailable);
        assert!(error.is_retriable());
    }

    #[test]
    fn a_coordinator_that_is_not_there_has_no_address() {
        let shown = one(Err(not_available("why")), topics::text("g"));
        assert_eq!((shown.error_code, shown.node_id.0, shown.port, &*shown.host), (15, -1, -1, ""));
        let at = endpoint(1, false);
        let shown = one(Ok(&at), topics::text("g"));
        assert_eq!((shown.error_code, shown.node_id.0, shown.port, &*shown.host, &*shown.key), (0, 1, 9092, "b1", "g"));
    }
}
