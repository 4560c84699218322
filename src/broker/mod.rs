//! Which partitions live here, and questions that span them.
//!
//! Belongs here: the partition table, its reconciler, fetch sessions. Must not: parse or build protocol messages.

pub mod partitions;
pub mod reconciler;
pub mod sessions;

use crate::{
    Config, Env,
    config::{BrokerSettings, Dynamic},
    metadata::Quorum,
    metrics::Metrics,
};
use millstream_storage::Directory;
use std::sync::Arc;

/// One broker: everything the request handlers need. Shared as `Arc<Broker>`.
#[derive(Debug)]
pub struct Broker {
    pub env: Env,
    pub config: Config,
    pub metrics: Metrics,
    pub quorum: Quorum,
    pub directory: Directory,
    pub partitions: partitions::Partitions,
    pub sessions: sessions::Sessions,
}

impl Broker {
    /// Starts the broker over an open directory and quorum: partition table, reconciler, flusher, cleaner. Returns once every partition of the image is known here
    /// (those that need it recover behind).
    pub async fn start(
        env: Env,
        config: Config,
        metrics: Metrics,
        directory: Directory,
        quorum: Quorum,
    ) -> Result<Arc<Broker>, String> {
        todo!("{env:?} {config:?} {metrics:?} {directory:?} {quorum:?}")
    }
    /// Dynamic settings now in the image.
    pub fn dynamic(&self) -> Dynamic {
        todo!()
    }
    /// Broker settings now in force (cached; swapped when the image changes).
    pub fn settings(&self) -> Arc<BrokerSettings> {
        todo!()
    }
    /// Stops: no more appends, everything flushed, logs and directory closed cleanly.
    pub async fn stop(&self) {
        todo!()
    }
}
