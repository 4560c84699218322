//! ListGroups (key 16): the groups coordinated by this broker.
//!
//! Served: v0–5. v1+ throttle time, v3+ tagged fields, v4+ filter by state, v5 filter by type. Names in filters match whatever their case; one that is not known matches nothing. A list
//! longer than an answer may be is INVALID_REQUEST: filters make it shorter.

use super::{
    Outcome, Request,
    errors::{self, ResponseError},
    groups::{self, Room},
    reply, topics,
};
use crate::coordinator::group::{Event, GroupError, Listed, Reply};
use kafka_protocol::{
    messages::{GroupId, ListGroupsRequest, ListGroupsResponse, list_groups_response::ListedGroup},
    protocol::StrBytes,
};

/// The only type there is so far; groups of offsets alone are of it, as in Kafka.
const CLASSIC: &str = "classic";

pub(super) async fn handle(request: Request<'_>, message: ListGroupsRequest) -> Outcome {
    let (broker, header) = (request.broker.clone(), request.header);
    Outcome::Later(Box::pin(async move {
        let mut response = ListGroupsResponse::default();
        let mut room = Room::new();
        for asked in broker.ask_all_groups(|| Event::List).await {
            let listed = groups::answer(asked, |reply| match reply {
                Reply::List(groups) => Some(Ok(groups)),
                _ => None,
            });
            let added = match listed.await {
                Ok(groups) => {
                    let matching = matching(groups, &message, header.api_version);
                    add(&mut response.groups, &mut room, matching)
                }
                // Led by another broker since: that one lists them.
                Err(GroupError::NotCoordinator(_)) => Ok(()),
                Err(error) => Err(errors::group(&error)),
            };
            if let Err(error) = added {
                // A list with holes would pass for a whole one.
                response = ListGroupsResponse::default().with_error_code(error.code());
                break;
            }
        }
        reply::message(&header, &response)
    }))
}

/// Adds `groups` to the list, as long as the answer has room for them.
fn add(
    list: &mut Vec<ListedGroup>,
    room: &mut Room,
    groups: impl Iterator<Item = ListedGroup>,
) -> Result<(), ResponseError> {
    for group in groups {
        // Asking anew would not make it shorter.
        let bytes = 100 + group.group_id.len() + group.protocol_type.len();
        room.take(bytes).map_err(|_| ResponseError::InvalidRequest)?;
        list.push(group);
    }
    Ok(())
}

fn matching(listed: Vec<Listed>, wanted: &ListGroupsRequest, version: i16) -> impl Iterator<Item = ListedGroup> {
    let states: Vec<String> = wanted.states_filter.iter().map(|s| s.trim().to_lowercase()).collect();
    let of_type = |types: &[StrBytes]| types.is_empty() || types.iter().any(|t| t.to_lowercase() == CLASSIC);
    let listed = if of_type(&wanted.types_filter) { listed } else { Vec::new() };
    let wanted = move |group: &Listed| {
        states.is_empty() || states.iter().any(|state| group.state.name().eq_ignore_ascii_case(state))
    };
    listed.into_iter().filter(wanted).map(move |group| {
        let mut shown = ListedGroup::default()
            .with_group_id(GroupId(topics::text(&group.group)))
            .with_protocol_type(topics::text(&group.protocol_type));
        if version >= 4 {
            shown.group_state = StrBytes::from_static_str(group.state.name());
        }
        if version >= 5 {
            shown.group_type = StrBytes::from_static_str(CLASSIC);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{coordinator::group::State, limits::REPLY_BYTES_MAX};

    #[test]
    fn a_list_is_as_long_as_an_answer_may_be() {
        let name = "g".repeat(32_000);
        let group = ListedGroup::default().with_group_id(GroupId(topics::text(&name)));
        let add = |count| add(&mut Vec::new(), &mut Room::new(), std::iter::repeat_n(group.clone(), count));
        assert_eq!(add(REPLY_BYTES_MAX / 32_100), Ok(()));
        assert_eq!(add(REPLY_BYTES_MAX / 32_100 + 1), Err(ResponseError::InvalidRequest));
    }

    #[test]
    fn filters_match_whatever_their_case() {
        let listed = || {
            [("a", State::Stable), ("b", State::Empty), ("c", State::PreparingRebalance)]
                .map(|(group, state)| Listed { group: group.into(), state, protocol_type: "consumer".into() })
                .to_vec()
        };
        let shown = |states: &[&str], types: &[&str]| {
            let texts = |list: &[&str]| list.iter().map(|t| topics::text(t)).collect::<Vec<_>>();
            let wanted = ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types));
            matching(listed(), &wanted, 5).map(|g| g.group_id.to_string()).collect::<String>()
        };
        assert_eq!(shown(&[], &[]), "abc");
        assert_eq!(shown(&["stable", " PREPARINGRebalance "], &[]), "ac");
        assert_eq!(shown(&["nonsense"], &[]), "");
        assert_eq!(shown(&["Empty"], &["Classic"]), "b");
        assert_eq!(shown(&[], &["consumer", "nonsense"]), "");
    }
}
