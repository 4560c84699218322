//! Heartbeat (key 12): a member of a classic group is still there.
//!
//! Served: v0–4. v1+ throttle time, v3+ instance id (KIP-345), v4 tagged fields.

use super::{
    Outcome, Request,
    groups::{self, kept},
    reply,
};
use crate::coordinator::group::{Event, GroupError, Heartbeat, Reply};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

pub(super) async fn handle(request: Request<'_>, message: HeartbeatRequest) -> Outcome {
    let header = request.header;
    if message.group_id.is_empty() {
        let response =
            HeartbeatResponse::default().with_error_code(groups::code::<()>(&Err(GroupError::InvalidGroupId)));
        return Outcome::Reply(reply::message(&header, &response));
    }
    let client_id = header.client_id.as_deref().unwrap_or_default();
    request.broker.readers.seen(client_id, request.connection.peer.ip(), request.broker.env.now_ms());
    let event = Event::Heartbeat(Heartbeat {
        group: kept(&message.group_id),
        generation: message.generation_id,
        member_id: kept(&message.member_id),
        instance_id: message.group_instance_id.as_deref().map(kept),
    });
    let asked = request.broker.ask_group(&message.group_id, event).await;
    Outcome::Later(Box::pin(async move {
        let result = groups::answer(asked, |reply| match reply {
            Reply::Heartbeat(result) => Some(result),
            _ => None,
        });
        reply::message(&header, &HeartbeatResponse::default().with_error_code(groups::code(&result.await)))
    }))
}
