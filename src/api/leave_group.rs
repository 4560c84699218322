//! LeaveGroup (key 13): members go, or are removed by a tool.
//!
//! Served: v0–5. v0–2 one member, whose code is the answer's; v1+ throttle time; v3+ several members, by id or instance id, each with a code of its own (KIP-345); v4+ tagged
//! fields; v5 a reason, which only the client's own log would miss.

use super::{
    Outcome, Request,
    groups::{self, kept},
    reply,
};
use crate::coordinator::group::{Event, GroupError, Leave, Reply};
use kafka_protocol::messages::{
    LeaveGroupRequest, LeaveGroupResponse, leave_group_request::MemberIdentity, leave_group_response::MemberResponse,
};

pub(super) async fn handle(request: Request<'_>, message: LeaveGroupRequest) -> Outcome {
    let header = request.header;
    let version = header.api_version;
    if message.group_id.is_empty() {
        return Outcome::Reply(reply::message(&header, &answered(version, &[], Err(GroupError::InvalidGroupId))));
    }
    let members = match version {
        3.. => message.members,
        _ => vec![MemberIdentity::default().with_member_id(message.member_id)],
    };
    let event = Event::Leave(Leave {
        group: kept(&message.group_id),
        members: members.iter().map(|m| (kept(&m.member_id), m.group_instance_id.as_deref().map(kept))).collect(),
    });
    let broker = request.broker.clone();
    let asked = request.broker.ask_group(&message.group_id, event).await;
    Outcome::Later(Box::pin(async move {
        let left = groups::answer(asked, |reply| match reply {
            Reply::Leave(result) => Some(result),
            _ => None,
        });
        let left = left.await;
        if left.is_ok() {
            members.iter().for_each(|m| broker.readers.left(&message.group_id, &m.member_id));
        }
        reply::message(&header, &answered(version, &members, left))
    }))
}

fn answered(
    version: i16,
    members: &[MemberIdentity],
    left: Result<Vec<Result<(), GroupError>>, GroupError>,
) -> LeaveGroupResponse {
    // Of a group that is not known nobody is a member: said of each, as in Kafka.
    let left = match left {
        Err(GroupError::UnknownMemberId) => Ok(vec![Err(GroupError::UnknownMemberId); members.len()]),
        left => left,
    };
    let error_code = groups::code(&left);
    let codes = left.unwrap_or_default().into_iter().map(|result| groups::code(&result));
    if version < 3 {
        let first = codes.into_iter().next();
        return LeaveGroupResponse::default().with_error_code(first.unwrap_or(error_code));
    }
    let member = |(member, code): (&MemberIdentity, i16)| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code)
    };
    LeaveGroupResponse::default()
        .with_error_code(error_code)
        .with_members(members.iter().zip(codes).map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::text;

    fn member(id: &str, instance: Option<&str>) -> MemberIdentity {
        MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance.map(text))
    }

    #[test]
    fn one_member_gives_its_code_to_the_whole_before_version_3() {
        let one = [member("m", None)];
        for version in 0..=2 {
            for (left, code) in [
                (Ok(vec![Ok(())]), 0),
                (Ok(vec![Err(GroupError::UnknownMemberId)]), 25),
                (Err(GroupError::UnknownMemberId), 25),
                (Err(GroupError::NotCoordinator("x".into())), 16),
            ] {
                let shown = answered(version, &one, left);
                assert_eq!((shown.error_code, shown.members.len()), (code, 0), "v{version}");
            }
        }
    }

    #[test]
    fn members_of_a_batch_have_codes_of_their_own() {
        let two = [member("m", None), member("", Some("i"))];
        let shown = answered(3, &two, Ok(vec![Ok(()), Err(GroupError::FencedInstanceId)]));
        let codes: Vec<_> = shown.members.iter().map(|m| (m.group_instance_id.as_deref(), m.error_code)).collect();
        assert_eq!((shown.error_code, &codes[..]), (0, &[(None, 0), (Some("i"), 82)][..]));
        let shown = answered(5, &two, Err(GroupError::UnknownMemberId));
        assert_eq!((shown.error_code, shown.members.len(), shown.members[1].error_code), (0, 2, 25));
        let shown = answered(5, &two, Err(GroupError::NotAvailable("x".into())));
        assert_eq!((shown.error_code, shown.members.len()), (15, 0));
    }
}
