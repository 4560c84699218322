//! What the requests about groups share: asking coordinators, who calls, what may be kept of a request.
//!
//! A request about one group puts its question into the coordinator's mailbox in the accept stage, so that the questions of one connection arrive in order; the answer is
//! awaited in the settle stage. One about many groups asks for some of them at a time.

use super::{
    Connection,
    errors::{self, ResponseError},
};
use crate::{
    broker::Broker,
    coordinator::{
        group::{Caller, Event, GroupError, Reply},
        shard::Asked,
    },
    limits::REPLY_BYTES_MAX,
    wire::header::RequestHeader,
};
use kafka_protocol::messages::GroupId;
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Bits of "authorized operations" of a group, where nobody forbids anything: read, delete, describe, describe and alter configs.
pub const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Questions of one request that wait for their answers at once.
const ASKED_AT_ONCE: usize = 64;

/// A question that was put, or why it was not.
pub type Question = Result<Asked<Reply>, GroupError>;

/// Awaits the answer; `take` picks the kind that was asked for.
///
/// Panics when it is another kind: a mistake of the machine. The connection that asked closes.
pub async fn answer<T>(
    asked: Question,
    take: impl FnOnce(Reply) -> Option<Result<T, GroupError>>,
) -> Result<T, GroupError> {
    let reply = asked?.answer().await?;
    take(reply).expect("the answer is of the kind asked for")
}

/// Puts questions about the next of `left`, a bounded number of them; empty once all have been asked about. Those of one connection stay in order.
pub async fn ask_some<W>(
    broker: &Arc<Broker>,
    left: &mut std::vec::IntoIter<W>,
    question: impl Fn(&W) -> (Arc<str>, Event),
) -> Vec<(W, Question)> {
    let mut asked = Vec::with_capacity(left.len().min(ASKED_AT_ONCE));
    for wanted in left.take(ASKED_AT_ONCE) {
        let (group, event) = question(&wanted);
        asked.push((wanted, broker.ask_group(&group, event).await));
    }
    asked
}

/// The code of a result on the wire: 0 when it is one.
pub fn code<T>(result: &Result<T, GroupError>) -> i16 {
    result.as_ref().err().map_or(0, |e| errors::group(e).code())
}

/// The same where clients take COORDINATOR_NOT_AVAILABLE for a lasting error (OffsetFetch: Java before 3.9): they are sent to look the coordinator up anew.
pub fn fetch_error(error: &GroupError) -> ResponseError {
    match errors::group(error) {
        ResponseError::CoordinatorNotAvailable => ResponseError::NotCoordinator,
        error => error,
    }
}

/// Each group once, in the place of its first mention: naming one again costs the asker a few bytes, and may cost the answer megabytes.
pub fn distinct(ids: Vec<GroupId>) -> Vec<GroupId> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

/// What an answer has room for, [`REPLY_BYTES_MAX`] in all (by estimates of what its parts take).
#[derive(Debug)]
pub struct Room {
    left_bytes: usize,
}

impl Room {
    /// An answer with nothing in it yet.
    pub fn new() -> Room {
        Room { left_bytes: REPLY_BYTES_MAX }
    }

    /// Takes what a part of `bytes` needs. Where there is no room: COORDINATOR_LOAD_IN_PROGRESS, retriable, so that clients ask for that part anew; INVALID_REQUEST, which
    /// they do not repeat, for a part that no answer has room for.
    pub fn take(&mut self, bytes: usize) -> Result<(), ResponseError> {
        if bytes > REPLY_BYTES_MAX {
            return Err(ResponseError::InvalidRequest);
        }
        let left = self.left_bytes.checked_sub(bytes).ok_or(ResponseError::CoordinatorLoadInProgress)?;
        self.left_bytes = left;
        Ok(())
    }
}

/// Who calls, as the coordinator keeps it.
pub fn caller(header: &RequestHeader, connection: &Connection) -> Caller {
    Caller {
        client_id: header.client_id.as_deref().unwrap_or_default().into(),
        client_host: host(connection.peer).into(),
    }
}

/// An address as Java's `InetAddress.toString` shows one without a name: `/127.0.0.1`, `/0:0:0:0:0:0:0:1`.
fn host(peer: SocketAddr) -> String {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}"),
        IpAddr::V6(ip) => {
            let parts: Vec<String> = ip.segments().iter().map(|part| format!("{part:x}")).collect();
            format!("/{}", parts.join(":"))
        }
    }
}

/// A string of a request as something that may be kept: a copy, which does not hold the receive buffer.
pub fn kept(text: &str) -> Arc<str> {
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::text;

    #[test]
    fn a_group_named_twice_is_asked_about_once_in_its_first_place() {
        let ids = |names: &str| names.chars().map(|c| GroupId(text(&c.to_string()))).collect::<Vec<_>>();
        assert_eq!(distinct(ids("abacb")), ids("abc"));
    }

    #[test]
    fn an_answer_takes_what_it_has_room_for() {
        let mut room = Room::new();
        assert_eq!(room.take(REPLY_BYTES_MAX + 1), Err(ResponseError::InvalidRequest), "asking again would not help");
        assert_eq!(room.take(REPLY_BYTES_MAX - 1), Ok(()));
        assert_eq!(room.take(2), Err(ResponseError::CoordinatorLoadInProgress));
        assert_eq!((room.take(1), room.take(1)), (Ok(()), Err(ResponseError::CoordinatorLoadInProgress)));
    }

    #[test]
    fn hosts_look_as_in_java() {
        for (peer, shown) in [
            ("127.0.0.1:9", "/127.0.0.1"),
            ("[::1]:9", "/0:0:0:0:0:0:0:1"),
            ("[::ffff:10.1.2.3]:9", "/10.1.2.3"),
            ("[fe80::a:1]:9", "/fe80:0:0:0:0:0:a:1"),
        ] {
            assert_eq!(host(peer.parse().unwrap()), shown);
        }
    }

    #[test]
    fn an_offset_fetch_is_sent_to_look_for_its_coordinator() {
        assert_eq!(fetch_error(&GroupError::NotAvailable("x".into())), ResponseError::NotCoordinator);
        assert_eq!(fetch_error(&GroupError::UnknownMemberId), ResponseError::UnknownMemberId);
    }
}
