//! Kafka request → broker → response. One file an API; one table declares keys, versions and handlers.
//!
//! Holds no state beyond one request, spawns no tasks. A request has two stages: [`accept`] runs strictly one after another on a connection; the future of
//! [`Outcome::Later`] overlaps with the requests that follow. Replies leave in request order (the connection sees to that).
//!
//! **Adding an API**: a file here with `pub async fn handle(request: Request<'_>, message: XRequest) -> Outcome`, its `mod` line, its row in [`apis!`]
//! below, and its shape in `wire/preflight.rs`. The table is what ApiVersions lists, so a row comes together with its handler, never before.

pub mod errors;
pub mod reply;

mod alter_configs;
mod api_versions;
mod config_changes;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod endpoints;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod topics;

use crate::{
    broker::Broker,
    wire::{
        Reply,
        header::{self, RequestHeader},
        newer::{ApiVersionsRequest, DeleteGroupsRequest, DescribeLogDirsRequest, ListOffsetsRequest},
        offset_ids::{Body, OffsetCommitRequest, OffsetFetchRequest},
        preflight,
    },
};
use bytes::Bytes;
use kafka_protocol::{messages::*, protocol::Message};
use std::{
    future::Future,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};
use tokio::time::Instant;

/// What kind of work a request is; decides frame limits and, later, quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Brings records: its frames may be as large as `socket.request.max.bytes`.
    Produce,
    /// Takes records out; may wait (long poll).
    Fetch,
    /// Everything else a client sends: metadata, offsets, groups, administration.
    Control,
}

/// One API as it is advertised and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    pub key: i16,
    /// Kafka's name, for logs and metrics.
    pub name: &'static str,
    /// Lowest version advertised.
    pub min: i16,
    /// Highest version advertised and served.
    pub max: i16,
    /// Lowest version served. Above `min` for Produce only: librdkafka wants 0 to 2 advertised, though they close the connection (as in Kafka).
    pub served_min: i16,
    /// First version whose header and body carry tagged fields; `i16::MAX` = none.
    pub flexible: i16,
    pub class: Class,
}

impl Api {
    /// Whether requests of `version` are answered.
    pub fn serves(&self, version: i16) -> bool {
        (self.served_min..=self.max).contains(&version)
    }
}

/// Makes [`APIS`] and the dispatch out of one row an API.
macro_rules! apis {
    ($($key:literal $versions:literal ..= $max:literal, $flexible:expr, $class:ident, $message:ident => $handler:path;)*) => {
        /// Every API served, by key: what ApiVersions lists.
        pub const APIS: &[Api] = &[$(Api {
            key: $key,
            name: api_name(stringify!($message)),
            min: $versions,
            max: $max,
            served_min: if $versions < <$message as Message>::VERSIONS.min { <$message as Message>::VERSIONS.min } else { $versions },
            flexible: $flexible,
            class: Class::$class,
        }),*];

        // Served is what the message crate knows, or `wire` by hand.
        $(const _: () = assert!($max <= <$message as Message>::VERSIONS.max);)*

        /// Decodes the body and runs the handler.
        async fn dispatch(request: Request<'_>) -> Outcome {
            match request.header.api_key {
                $($key => match decode::<$message>(&request) {
                    Ok(message) => $handler(request, message).await,
                    Err(reason) => Outcome::Close(reason),
                },)*
                // `accept` has looked the key up in the table that this match is made from.
                key => unreachable!("API {key} is in the table without a handler"),
            }
        }
    };
}

// One row a line, sorted by key: key, versions advertised, first flexible version, class, message, handler.
#[rustfmt::skip]
apis! {
     0 0..=13, 9, Produce, ProduceRequest => produce::handle;
     1 4..=18, 12, Fetch, FetchRequest => fetch::handle;
     2 1..=11, 6, Control, ListOffsetsRequest => list_offsets::handle;
     3 0..=13, 9, Control, MetadataRequest => metadata::handle;
     8 2..=10, 8, Control, OffsetCommitRequest => offset_commit::handle;
     9 1..=10, 6, Control, OffsetFetchRequest => offset_fetch::handle;
    10 0..=6, 3, Control, FindCoordinatorRequest => find_coordinator::handle;
    11 0..=9, 6, Control, JoinGroupRequest => join_group::handle;
    12 0..=4, 4, Control, HeartbeatRequest => heartbeat::handle;
    13 0..=5, 4, Control, LeaveGroupRequest => leave_group::handle;
    14 0..=5, 4, Control, SyncGroupRequest => sync_group::handle;
    15 0..=6, 5, Control, DescribeGroupsRequest => describe_groups::handle;
    16 0..=5, 3, Control, ListGroupsRequest => list_groups::handle;
    18 0..=5, 3, Control, ApiVersionsRequest => api_versions::handle;
    19 2..=7, 5, Control, CreateTopicsRequest => create_topics::handle;
    20 1..=6, 4, Control, DeleteTopicsRequest => delete_topics::handle;
    21 0..=2, 2, Control, DeleteRecordsRequest => delete_records::handle;
    22 0..=5, 2, Control, InitProducerIdRequest => init_producer_id::handle;
    23 2..=4, 4, Control, OffsetForLeaderEpochRequest => offset_for_leader_epoch::handle;
    32 1..=4, 4, Control, DescribeConfigsRequest => describe_configs::handle;
    33 0..=2, 2, Control, AlterConfigsRequest => alter_configs::handle;
    35 1..=5, 2, Control, DescribeLogDirsRequest => describe_log_dirs::handle;
    37 0..=3, 2, Control, CreatePartitionsRequest => create_partitions::handle;
    42 0..=3, 2, Control, DeleteGroupsRequest => delete_groups::handle;
    44 0..=1, 1, Control, IncrementalAlterConfigsRequest => incremental_alter_configs::handle;
    47 0..=0, i16::MAX, Control, OffsetDeleteRequest => offset_delete::handle;
    60 0..=2, 0, Control, DescribeClusterRequest => describe_cluster::handle;
    61 0..=0, 0, Control, DescribeProducersRequest => describe_producers::handle;
    75 0..=0, 0, Control, DescribeTopicPartitionsRequest => describe_topic_partitions::handle;
}

/// "ApiVersions" out of "ApiVersionsRequest".
const fn api_name(message: &'static str) -> &'static str {
    message.split_at(message.len() - "Request".len()).0
}

/// The API of a key, if it is served.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.binary_search_by_key(&key, |api| api.key).ok().map(|i| &APIS[i])
}

/// Whether the header of (key, version) carries tagged fields. ApiVersions above what is served still has a header that can be read, since it is answered.
fn is_flexible(key: i16, version: i16) -> bool {
    find(key).is_some_and(|api| version >= api.flexible)
}

/// What a handler knows of the connection a request came by.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// Listener it came in by: its place in [`crate::Config::listeners`].
    pub listener: usize,
    /// Address it was accepted on.
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// What becomes of a request.
pub enum Outcome {
    /// Answered now.
    Reply(Reply),
    /// Accepted; the reply comes when the future is done (flush, replicas, long poll). Dropping it (the connection closed) gives up waiting, nothing else.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// No reply is owed (Produce with acks=0).
    Silent,
    /// The connection is to be closed, with the reason for the log: where Kafka closes it.
    Close(CloseReason),
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Reply(reply) => f.debug_tuple("Reply").field(reply).finish(),
            Outcome::Later(_) => f.write_str("Later"),
            Outcome::Silent => f.write_str("Silent"),
            Outcome::Close(reason) => f.debug_tuple("Close").field(reason).finish(),
        }
    }
}

/// Why a connection is closed by a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// Header or body not readable.
    Unreadable(String),
    /// API or version not served.
    Unsupported { api_key: i16, api_version: i16, client_id: Option<String> },
    /// A Produce with acks=0 failed.
    SilentFailure,
}

/// A request being handled.
#[derive(Debug)]
pub struct Request<'a> {
    pub broker: &'a Arc<Broker>,
    pub connection: &'a Connection,
    pub header: RequestHeader,
    /// The frame after the header. Slices of it keep the receive buffer alive.
    pub body: Bytes,
    /// When the last byte of the frame was received.
    pub received: Instant,
}

/// Takes one frame (without its length prefix) that was received at `received`: header, version check, preflight, decode, handler. A panic of a handler passes through: the connection
/// that polls this closes.
pub async fn accept(broker: &Arc<Broker>, connection: &Connection, frame: Bytes, received: Instant) -> Outcome {
    let Some(header) = header::parse(&frame, is_flexible) else {
        return Outcome::Close(CloseReason::Unreadable("request header".to_string()));
    };
    let (api_key, api_version) = (header.api_key, header.api_version);
    if !find(api_key).is_some_and(|api| api.serves(api_version)) {
        if api_key == api_versions::KEY {
            return Outcome::Reply(api_versions::unsupported(&header));
        }
        return Outcome::Close(CloseReason::Unsupported { api_key, api_version, client_id: header.client_id });
    }
    let body = frame.slice(header.size_bytes..);
    if let Err(reason) = preflight::check(api_key, api_version, &body) {
        return Outcome::Close(CloseReason::Unreadable(reason.to_string()));
    }
    dispatch(Request { broker, connection, header, body, received }).await
}

/// Decodes a body that preflight let through. Bytes after the message are ignored, as Kafka does.
fn decode<M: Body>(request: &Request<'_>) -> Result<M, CloseReason> {
    let mut body = request.body.clone();
    match catch_unwind(AssertUnwindSafe(|| M::read(&mut body, request.header.api_version))) {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => Err(CloseReason::Unreadable(error.to_string())),
        Err(_) => Err(CloseReason::Unreadable("the decoder panicked".to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_by_key_without_duplicates() {
        assert!(APIS.is_sorted_by(|a, b| a.key < b.key), "{APIS:?}");
    }

    #[test]
    fn versions_stay_within_what_the_messages_know() {
        for api in APIS {
            let key = ApiKey::try_from(api.key).unwrap_or_else(|_| panic!("{api:?} is not Kafka's"));
            let known = key.valid_versions();
            assert!(api.served_min >= known.min, "{api:?}: messages know {known}");
            for version in api.served_min..=api.max {
                let flexible = key.request_header_version(version) == 2;
                assert_eq!(flexible, version >= api.flexible, "{} v{version}", api.name);
            }
            assert_eq!(format!("{key:?}"), api.name);
        }
    }

    #[test]
    fn every_api_served_has_a_shape() {
        for api in APIS {
            assert!(preflight::shape(api.key).is_some(), "{} has no shape in wire/preflight.rs", api.name);
        }
    }
}
