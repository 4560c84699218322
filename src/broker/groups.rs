//! The group coordinators that live here: one shard a partition of `__consumer_offsets` led by this broker, started by the first who asks.

use super::Broker;
use crate::coordinator::{
    group::{Event, GroupError, Groups, Reply},
    shard::{Asked, Shard},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use uuid::Uuid;

/// The topic that holds groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Shards by topic id and partition.
#[derive(Debug, Default)]
pub struct GroupShards {
    shards: Mutex<BTreeMap<(Uuid, i32), Shard<Groups>>>,
}

impl GroupShards {
    /// The shards that run now.
    pub(super) fn loaded(&self) -> Vec<Shard<Groups>> {
        let shards = self.shards.lock().unwrap_or_else(|p| p.into_inner());
        shards.values().filter(|shard| !shard.is_over()).cloned().collect()
    }
}

impl Broker {
    /// Creates `__consumer_offsets` where it is not there; returns once this broker serves it. An error is a sentence.
    pub async fn ensure_offsets_topic(&self) -> Result<(), GroupError> {
        todo!()
    }

    /// Asks the coordinator of `group`. `NotAvailable` while there is no `__consumer_offsets`, `NotCoordinator` when another broker leads its partition.
    pub async fn ask_group(self: &Arc<Self>, group: &str, event: Event) -> Result<Asked<Reply>, GroupError> {
        let _ = (group, event);
        todo!()
    }

    /// Asks every coordinator that lives here (ListGroups); shards not yet loaded are loaded first.
    pub async fn ask_all_groups(
        self: &Arc<Self>,
        event: impl Fn() -> Event + Send,
    ) -> Vec<Result<Asked<Reply>, GroupError>> {
        let _ = event();
        todo!()
    }
}
