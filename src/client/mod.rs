//! Outgoing Kafka connections: one ([`Connection`]), those of a cluster with its metadata ([`Cluster`]), and what stands on them: [`Producer`], [`Consumer`],
//! [`GroupConsumer`], administration ([`admin`]), offsets ([`offsets`]).
//!
//! Works with any broker that speaks the protocol of Kafka 2.1 or later. Belongs here: whatever a client needs. Must not be here: that it runs inside a broker.
//! A connection's state belongs to its two tasks (one writes, one reads), a producer's to one task beside the queue that callers append to; a consumer has no task of its own: what was
//! asked for arrives while its owner works. Nothing that a broker answers panics or sizes an allocation unchecked.

pub mod admin;
pub mod cluster;
pub mod connection;
pub mod consumer;
pub mod error;
pub mod group;
pub mod membership;
pub mod offsets;
pub mod partitioner;
pub mod producer;

pub use cluster::{Cluster, ClusterOptions};
pub use connection::Connection;
pub use consumer::{Consumer, ConsumerOptions, Fetched, Record};
pub use error::ClientError;
pub use group::{GroupConsumer, GroupOptions};
pub use offsets::Start;
pub use producer::{Acks, Compression, Delivery, NewRecord, Producer, ProducerOptions};
