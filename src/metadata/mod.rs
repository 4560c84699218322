//! The replicated facts of the cluster and the only way to change them.
//!
//! Belongs here: the immutable [`Image`], the [`Command`]s that change it, the pure function that applies them, the quorum that orders
//! them. Must not: touch partition data or client requests. The raft state machine owns the image; others borrow it from a watch.
//!
//! Flow: [`Quorum::propose`] → raft log (a storage log) → [`apply`] → new image on the watch → the broker's reconciler.

pub mod apply;
pub mod command;
pub mod delta;
pub mod image;
pub mod placement;
pub mod quorum;
mod raft;

pub use command::{Command, ConfigResource, FEATURE_LEVEL, NewPartitions, NewTopic, Outcome, Refusal};
pub use delta::{Delta, TopicChange};
pub use image::{BrokerRegistration, Image, PartitionFacts, Topic};
pub use quorum::{ProposeError, Quorum, QuorumOptions};

/// Name of the metadata log's topic.
pub const METADATA_TOPIC: &str = "__cluster_metadata";
/// Id of the metadata log's topic (Kafka's).
pub const METADATA_TOPIC_ID: uuid::Uuid = uuid::Uuid::from_u128(1);
