//! Kafka request → broker → response. One file an API; one table declares keys, versions and handlers.
//!
//! Holds no state beyond one request, spawns no tasks. A request has two stages: [`accept`] runs strictly one after another on a connection; the future of
//! [`Outcome::Later`] overlaps with the requests that follow. Replies leave in request order (the connection sees to that).

pub mod errors;
pub mod reply;

use crate::{
    broker::Broker,
    wire::{Reply, header::RequestHeader},
};
use bytes::Bytes;
use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc};

/// What a handler knows of the connection a request came by.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
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
}

/// Takes one frame (without its length prefix): header, version check, preflight, decode, handler.
pub async fn accept(broker: &Arc<Broker>, connection: &Connection, frame: Bytes) -> Outcome {
    let _ = (broker, connection, frame);
    todo!()
}
