//! Boot order, accept loops, connection loops, shutdown. Knows no single API.

mod buffers;
pub mod connection;
pub mod listener;

use crate::{Config, Env, broker::Broker};
use std::{net::SocketAddr, sync::Arc};

/// A running broker in this process.
#[derive(Debug)]
pub struct Node {
    broker: Arc<Broker>,
    kafka: SocketAddr,
    http: SocketAddr,
}

impl Node {
    /// Boots a broker and returns once a produce would succeed.
    pub async fn start(config: Config, env: Env) -> Result<Node, String> {
        todo!("{config:?} {env:?}")
    }
    /// Bound address of the Kafka listener.
    pub fn kafka(&self) -> SocketAddr {
        self.kafka
    }
    /// Bound address of the HTTP listener.
    pub fn http(&self) -> SocketAddr {
        self.http
    }
    /// The broker itself.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }
    /// Graceful stop.
    pub async fn stop(self) {
        todo!()
    }
}
