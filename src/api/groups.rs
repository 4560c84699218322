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
    wire::header::RequestHeader,
};
use std::{
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
