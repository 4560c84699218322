//! DeleteGroups (key 42): groups without members, and all they have committed.
//!
//! Served: v0–3. v1+ throttle time, v2+ tagged fields, v3 an error message (null here). A group named twice is deleted and answered once.

use super::{
    CloseReason, Outcome, Request,
    groups::{self, kept},
    reply,
};
use crate::{
    coordinator::group::{Event, Reply},
    limits::GROUPS_PER_REQUEST_MAX,
    wire::newer::{self, As, DeleteGroupsRequest},
};
use kafka_protocol::messages::{DeleteGroupsResponse, GroupId, delete_groups_response::DeletableGroupResult};

pub(super) async fn handle(request: Request<'_>, As(message): DeleteGroupsRequest) -> Outcome {
    let (broker, header) = (request.broker.clone(), request.header);
    if message.groups_names.len() > GROUPS_PER_REQUEST_MAX {
        return Outcome::Close(CloseReason::Unreadable(format!("{} groups", message.groups_names.len())));
    }
    let question = |id: &GroupId| (kept(id), Event::Delete { group: kept(id) });
    let mut left = groups::distinct(message.groups_names).into_iter();
    let mut asked = groups::ask_some(&broker, &mut left, question).await;
    Outcome::Later(Box::pin(async move {
        let mut results = Vec::with_capacity(asked.len() + left.len());
        while !asked.is_empty() {
            for (id, asked) in asked {
                let deleted = groups::answer(asked, |reply| match reply {
                    Reply::Delete(result) => Some(result),
                    _ => None,
                });
                let code = groups::code(&deleted.await);
                results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code));
            }
            asked = groups::ask_some(&broker, &mut left, question).await;
        }
        let response = DeleteGroupsResponse::default().with_results(results);
        match header.api_version {
            3.. => reply::body(&header, &newer::delete_groups_3(&response)),
            _ => reply::message(&header, &response),
        }
    }))
}
