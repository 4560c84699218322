//! DescribeGroups (key 15): state and members of classic groups.
//!
//! Served: v0–6. v1+ throttle time, v3+ authorized operations, v4+ instance ids, v5+ tagged fields, v6 a group that is not known is GROUP_ID_NOT_FOUND with a sentence (before, it is
//! Dead without an error). A group named twice is answered once; one that the answer has no room for is told to be asked about anew.

use super::{
    CloseReason, Outcome, Request,
    errors::{self, Fault},
    groups::{self, GROUP_OPERATIONS, Room, kept},
    reply, topics,
};
use crate::{
    coordinator::group::{Description, Event, GroupError, MemberDescription, Reply, State},
    limits::GROUPS_PER_REQUEST_MAX,
};
use kafka_protocol::messages::{
    DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    describe_groups_response::{DescribedGroup, DescribedGroupMember},
};

pub(super) async fn handle(request: Request<'_>, message: DescribeGroupsRequest) -> Outcome {
    let (broker, header) = (request.broker.clone(), request.header);
    let version = header.api_version;
    if message.groups.len() > GROUPS_PER_REQUEST_MAX {
        return Outcome::Close(CloseReason::Unreadable(format!("{} groups", message.groups.len())));
    }
    let operations = if message.include_authorized_operations { GROUP_OPERATIONS } else { topics::NOT_ASKED };
    let question = |id: &GroupId| (kept(id), Event::Describe { group: kept(id) });
    let mut left = groups::distinct(message.groups).into_iter();
    let mut asked = groups::ask_some(&broker, &mut left, question).await;
    Outcome::Later(Box::pin(async move {
        let mut described = Vec::with_capacity(asked.len() + left.len());
        let mut room = Room::new();
        while !asked.is_empty() {
            for (id, asked) in asked {
                let found = groups::answer(asked, |reply| match reply {
                    Reply::Describe(result) => Some(result),
                    _ => None,
                });
                let found = found.await;
                described.push(match room.take(found.as_ref().map_or(0, size_bytes)) {
                    Ok(()) => one(id, found, version, operations),
                    Err(error) => DescribedGroup::default().with_group_id(id).with_error_code(error.code()),
                });
            }
            asked = groups::ask_some(&broker, &mut left, question).await;
        }
        reply::message(&header, &DescribeGroupsResponse::default().with_groups(described))
    }))
}

/// About what a group takes in the answer.
fn size_bytes(group: &Description) -> usize {
    let member = |m: &MemberDescription| {
        let texts = [&m.member_id, &m.caller.client_id, &m.caller.client_host];
        let texts = texts.into_iter().chain(&m.instance_id).map(|text| text.len()).sum::<usize>();
        200 + texts + m.metadata.len() + m.assignment.len()
    };
    200 + group.protocol_type.len() + group.protocol.len() + group.members.iter().map(member).sum::<usize>()
}

fn one(id: GroupId, found: Result<Description, GroupError>, version: i16, operations: i32) -> DescribedGroup {
    let shown = DescribedGroup::default().with_group_id(id);
    match found {
        Ok(group) => shown
            .with_group_state(topics::text(group.state.name()))
            .with_protocol_type(topics::text(&group.protocol_type))
            .with_protocol_data(topics::text(&group.protocol))
            .with_members(group.members.into_iter().map(|m| member(m, version)).collect())
            .with_authorized_operations(operations),
        Err(GroupError::GroupIdNotFound) if version < 6 => {
            shown.with_group_state(topics::text(State::Dead.name())).with_authorized_operations(operations)
        }
        Err(error) => {
            let dead = error == GroupError::GroupIdNotFound;
            let fault = Fault::new(errors::group(&error), error.to_string());
            let mut shown = shown.with_error_code(fault.code());
            if dead {
                shown.group_state = topics::text(State::Dead.name());
            }
            if version >= 6 {
                shown.error_message = fault.text();
            }
            shown
        }
    }
}

fn member(member: MemberDescription, version: i16) -> DescribedGroupMember {
    let shown = DescribedGroupMember::default()
        .with_member_id(topics::text(&member.member_id))
        .with_client_id(topics::text(&member.caller.client_id))
        .with_client_host(topics::text(&member.caller.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    if version >= 4 { shown.with_group_instance_id(member.instance_id.as_deref().map(topics::text)) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::group::Caller;
    use bytes::Bytes;
    use kafka_protocol::protocol::Encodable;

    fn id() -> GroupId {
        GroupId(topics::text("g"))
    }

    #[test]
    fn a_group_that_is_not_known_is_dead_and_since_version_6_an_error() {
        for version in 0..=6 {
            let shown = one(id(), Err(GroupError::GroupIdNotFound), version, topics::NOT_ASKED);
            assert_eq!(&*shown.group_state, "Dead");
            assert_eq!(shown.error_code, if version < 6 { 0 } else { 69 });
            assert_eq!(shown.error_message.is_some(), version >= 6);
        }
    }

    #[test]
    fn all_that_is_shown_of_members_counts() {
        let member = MemberDescription {
            member_id: "m".repeat(1000).into(),
            instance_id: Some("i".repeat(2000).into()),
            caller: Caller { client_id: "c".repeat(4000).into(), client_host: "h".repeat(100).into() },
            metadata: Bytes::from(vec![0; 10_000]),
            assignment: Bytes::from(vec![0; 20_000]),
        };
        let group = Description {
            group: "g".into(),
            state: State::Stable,
            state_ms: None,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![member; 50],
        };
        let counted = size_bytes(&group);
        let shown = DescribeGroupsResponse::default().with_groups(vec![one(id(), Ok(group), 6, GROUP_OPERATIONS)]);
        let encoded = shown.compute_size(6).unwrap();
        assert!(counted >= encoded && counted < encoded + 50 * 300, "{counted} counted, {encoded} encoded");
    }

    #[test]
    fn an_error_tells_no_operations() {
        let shown = one(id(), Err(GroupError::NotCoordinator("x".into())), 5, GROUP_OPERATIONS);
        assert_eq!((shown.error_code, shown.authorized_operations), (16, topics::NOT_ASKED));
        assert_eq!(&*shown.group_state, "");
    }
}
