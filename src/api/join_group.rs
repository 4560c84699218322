//! JoinGroup (key 11): a member comes to a classic group, or comes back at a rebalance.
//!
//! Served: v0–9. v0 has no rebalance timeout: it is the session timeout. v1+ rebalance timeout, v2+ throttle time, v4+ a member without id is given one first (KIP-394),
//! v5+ instance ids (KIP-345), v6 tagged fields, v7+ the protocol type in the answer and null for no protocol (before, an empty one), v8+ a reason (nothing shows it), v9 a leader may be told
//! to skip its assignment (KIP-814).

use super::{
    Outcome, Request,
    groups::{self, kept},
    reply, topics,
};
use crate::{
    coordinator::group::{Event, GroupError, Join, Joined, Reply},
    wire::header::RequestHeader,
};
use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, join_group_response::JoinGroupResponseMember};

pub(super) async fn handle(request: Request<'_>, message: JoinGroupRequest) -> Outcome {
    let version = request.header.api_version;
    if message.group_id.is_empty() {
        let refused = Joined::refused(kept(&message.member_id), GroupError::InvalidGroupId);
        return Outcome::Reply(answered(&request.header, refused));
    }
    let session_timeout_ms = message.session_timeout_ms;
    let event = Event::Join(Join {
        group: kept(&message.group_id),
        member_id: kept(&message.member_id),
        instance_id: message.group_instance_id.as_deref().map(kept),
        protocol_type: kept(&message.protocol_type),
        // Copies: they stay for as long as the member does.
        protocols: message.protocols.iter().map(|p| (kept(&p.name), Bytes::copy_from_slice(&p.metadata))).collect(),
        session_timeout_ms,
        rebalance_timeout_ms: if version == 0 { session_timeout_ms } else { message.rebalance_timeout_ms },
        caller: groups::caller(&request.header, request.connection),
        require_known_member_id: version >= 4,
        supports_skip_assignment: version >= 9,
        new_member: request.broker.env.random_uuid(),
    });
    let asked = request.broker.ask_group(&message.group_id, event).await;
    let header = request.header;
    // Nothing of the message goes along: a join may wait for minutes, and slices of it would hold the receive buffer.
    Outcome::Later(Box::pin(async move {
        let joined = groups::answer(asked, |reply| match reply {
            Reply::Join(joined) => Some(Ok(joined)),
            _ => None,
        });
        answered(&header, joined.await.unwrap_or_else(|e| Joined::refused("".into(), e)))
    }))
}

fn answered(header: &RequestHeader, joined: Joined) -> crate::wire::Reply {
    let version = header.api_version;
    let protocol = joined.protocol.filter(|name| !name.is_empty());
    let protocol = if version < 7 { Some(protocol.unwrap_or_default()) } else { protocol };
    let member = |(id, instance, metadata): (std::sync::Arc<str>, Option<std::sync::Arc<str>>, Bytes)| {
        JoinGroupResponseMember::default()
            .with_member_id(topics::text(&id))
            .with_group_instance_id(instance.as_deref().map(topics::text))
            .with_metadata(metadata)
    };
    let mut response = JoinGroupResponse::default()
        .with_error_code(groups::code(&joined.result))
        .with_generation_id(joined.generation)
        .with_protocol_name(protocol.as_deref().map(topics::text))
        .with_leader(topics::text(&joined.leader))
        .with_member_id(topics::text(&joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect());
    if version >= 7 {
        response.protocol_type = joined.protocol_type.as_deref().map(topics::text);
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    reply::message(header, &response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::protocol::Decodable;

    fn response(version: i16, joined: Joined) -> JoinGroupResponse {
        let header =
            RequestHeader { api_key: 11, api_version: version, correlation_id: 1, client_id: None, size_bytes: 0 };
        let reply = answered(&header, joined);
        let mut body = reply.chunks[0].slice(if version >= 6 { 9 } else { 8 }..);
        JoinGroupResponse::decode(&mut body, version).unwrap()
    }

    #[test]
    fn no_protocol_is_empty_at_first_and_null_since_version_7() {
        for version in 0..=9 {
            let refused = response(version, Joined::refused("m".into(), GroupError::UnknownMemberId));
            assert_eq!(refused.protocol_name.as_deref(), if version < 7 { Some("") } else { None }, "v{version}");
            assert_eq!((refused.error_code, refused.generation_id, &*refused.member_id), (25, -1, "m"));
        }
    }

    #[test]
    fn every_version_tells_what_it_has_room_for() {
        for version in 0..=9 {
            let joined = response(
                version,
                Joined {
                    result: Ok(()),
                    generation: 7,
                    protocol_type: Some("consumer".into()),
                    protocol: Some("range".into()),
                    leader: "m".into(),
                    skip_assignment: true,
                    member_id: "m".into(),
                    members: vec![("m".into(), Some("i".into()), Bytes::from_static(b"meta"))],
                },
            );
            assert_eq!((joined.error_code, joined.generation_id), (0, 7));
            assert_eq!(joined.protocol_name.as_deref(), Some("range"));
            assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
            assert_eq!(joined.members[0].group_instance_id.as_deref(), (version >= 5).then_some("i"));
            assert_eq!(joined.members[0].metadata, Bytes::from_static(b"meta"));
            assert_eq!(joined.skip_assignment, version >= 9);
        }
    }
}
