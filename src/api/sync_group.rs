//! SyncGroup (key 14): the leader of a generation brings the assignment, everybody fetches theirs.
//!
//! Served: v0–5. v1+ throttle time, v3+ instance ids (KIP-345), v4+ tagged fields, v5 protocol type and name, which must be there and are answered.

use super::{
    Outcome, Request,
    groups::{self, kept},
    reply, topics,
};
use crate::{
    broker::readers::{Assigned, Owned},
    coordinator::group::{Event, GroupError, Reply, Sync, Synced},
    wire::{assignment, header::RequestHeader},
};
use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

pub(super) async fn handle(request: Request<'_>, message: SyncGroupRequest) -> Outcome {
    let header = request.header;
    if let Some(error) = refusal(&message, header.api_version) {
        return Outcome::Reply(answered(&header, Err(error)));
    }
    let broker = request.broker.clone();
    let address = request.connection.peer.ip();
    let (group, member, generation) = (kept(&message.group_id), kept(&message.member_id), message.generation_id);
    let event = Event::Sync(Sync {
        group: group.clone(),
        generation: message.generation_id,
        member_id: member.clone(),
        instance_id: message.group_instance_id.as_deref().map(kept),
        protocol_type: message.protocol_type.as_deref().map(kept),
        protocol: message.protocol_name.as_deref().map(kept),
        assignments: message
            .assignments
            .iter()
            .map(|a| (kept(&a.member_id), Bytes::copy_from_slice(&a.assignment)))
            .collect(),
    });
    let asked = request.broker.ask_group(&message.group_id, event).await;
    // Nothing of the message goes along: its slices would hold the receive buffer while the leader thinks.
    Outcome::Later(Box::pin(async move {
        let synced = groups::answer(asked, |reply| match reply {
            Reply::Sync(synced) => Some(Ok(synced)),
            _ => None,
        });
        let synced = synced.await;
        if broker.latency.is_on()
            && let Ok(synced) = &synced
            && let Some(owned) = owned(synced)
        {
            let client_id = header.client_id.as_deref().unwrap_or_default();
            let assigned = Assigned { group: &group, generation, member: &member, client_id, address, owned };
            broker.readers.assigned(assigned, broker.env.now_ms());
        }
        answered(&header, synced)
    }))
}

/// The partitions that a consumer was told to read; `None` where it was told nothing, or is no consumer.
fn owned(synced: &Synced) -> Option<Owned> {
    if synced.result.is_err() || synced.protocol_type.as_deref() != Some("consumer") {
        return None;
    }
    let owned = assignment::parse(&synced.assignment)?;
    Some(owned.into_iter().map(|(topic, partitions)| (topic.into(), partitions)).collect())
}

fn refusal(message: &SyncGroupRequest, version: i16) -> Option<GroupError> {
    if version >= 5 && (message.protocol_type.is_none() || message.protocol_name.is_none()) {
        return Some(GroupError::InconsistentGroupProtocol);
    }
    message.group_id.is_empty().then_some(GroupError::InvalidGroupId)
}

fn answered(header: &RequestHeader, synced: Result<Synced, GroupError>) -> crate::wire::Reply {
    let synced = synced.unwrap_or_else(Synced::refused);
    let mut response =
        SyncGroupResponse::default().with_error_code(groups::code(&synced.result)).with_assignment(synced.assignment);
    if header.api_version >= 5 {
        response.protocol_type = synced.protocol_type.as_deref().map(topics::text);
        response.protocol_name = synced.protocol.as_deref().map(topics::text);
    }
    reply::message(header, &response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_5_must_name_the_protocol() {
        let message = |group: &str, protocol: Option<&str>| {
            SyncGroupRequest::default()
                .with_group_id(topics::text(group).into())
                .with_protocol_type(Some(topics::text("consumer")))
                .with_protocol_name(protocol.map(topics::text))
        };
        assert_eq!(refusal(&message("g", None), 5), Some(GroupError::InconsistentGroupProtocol));
        assert_eq!(refusal(&message("", None), 5), Some(GroupError::InconsistentGroupProtocol));
        assert_eq!(refusal(&message("g", None), 4), None);
        assert_eq!(refusal(&message("g", Some("range")), 5), None);
        assert_eq!(refusal(&message("", Some("range")), 5), Some(GroupError::InvalidGroupId));
    }
}
