//! The group coordinators that live here: one shard a partition of `__consumer_offsets` led by this broker, started by the first who asks, and behind a start of the broker
//! wherever there is something in the log (so that sessions and retention run on).

use super::{
    Broker,
    partitions::{Table, TopicEntry},
    so_many_at_once,
};
use crate::{
    config::GroupSettings,
    coordinator::{
        group::{Event, GroupError, Groups, Reply},
        partition_for,
        shard::{Asked, Shard, ShardError},
    },
    limits::OPENING_WAIT_MS_MAX,
    partition::{Partition, PartitionError},
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use uuid::Uuid;

/// The topic that holds groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Coordinators loaded at once behind a start: those that are asked do not wait for the others, and flushes need threads too.
const LOADED_AT_ONCE: usize = 2;

/// Shards by topic id and partition.
#[derive(Debug)]
pub struct GroupShards {
    shards: Mutex<Shards>,
    settings: Arc<ArcSwap<GroupSettings>>,
}

#[derive(Debug, Default)]
struct Shards {
    by_partition: BTreeMap<(Uuid, i32), Shard<Groups>>,
    /// The broker stops: no new ones.
    closed: bool,
}

impl GroupShards {
    /// None yet.
    pub(super) fn new(settings: &GroupSettings) -> GroupShards {
        GroupShards { shards: Mutex::default(), settings: Arc::new(ArcSwap::from_pointee(settings.clone())) }
    }

    /// New settings are in force from each shard's next turn on.
    pub(super) fn set_settings(&self, settings: &GroupSettings) {
        if **self.settings.load() != *settings {
            self.settings.store(Arc::new(settings.clone()));
        }
    }

    /// No lock is taken and nothing awaited under it.
    fn lock(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// Those that are alive.
    pub(super) fn loaded(&self) -> Vec<Shard<Groups>> {
        self.lock().by_partition.values().filter(|shard| !shard.is_over()).cloned().collect()
    }

    /// The same with topic id and partition of their logs.
    pub(super) fn loaded_by_partition(&self) -> Vec<((Uuid, i32), Shard<Groups>)> {
        let shards = self.lock();
        shards
            .by_partition
            .iter()
            .filter(|(_, shard)| !shard.is_over())
            .map(|(key, shard)| (*key, shard.clone()))
            .collect()
    }

    /// The broker is about to stop: what members wait for is answered at once, and nothing is asked any more.
    pub(super) fn begin_stop(&self) {
        let mut shards = self.lock();
        shards.closed = true;
        shards.by_partition.values().for_each(Shard::begin_stop);
    }

    /// Ends all; they append nothing any more when this returns.
    pub(super) async fn stop(&self) {
        self.begin_stop();
        let all = std::mem::take(&mut self.lock().by_partition);
        for shard in all.values() {
            shard.stop().await;
        }
    }
}

impl From<ShardError> for GroupError {
    fn from(e: ShardError) -> Self {
        match e {
            ShardError::NotAvailable(why) => GroupError::NotAvailable(why.to_string()),
            ShardError::NotHere(why) => GroupError::NotCoordinator(why.to_string()),
        }
    }
}

pub(super) fn stopping() -> GroupError {
    GroupError::NotCoordinator("the broker is stopping".into())
}

impl Broker {
    /// Asks the coordinator of `group`. `NotCoordinator` while there is no `__consumer_offsets` (as in Kafka: the client looks the coordinator up,
    /// which creates it) and when another broker leads its partition.
    pub async fn ask_group(self: &Arc<Self>, group: &str, event: Event) -> Result<Asked<Reply>, GroupError> {
        let topic = self.offsets_topic()?;
        let index = partition_for(group, topic.partitions.len() as i32);
        let Some(partition) = topic.partition(index) else {
            return Err(GroupError::NotAvailable(format!("{OFFSETS_TOPIC} has no partition {index}")));
        };
        self.ask_shard(partition, event).await
    }

    /// Asks every coordinator that lives here (ListGroups); shards not yet loaded are loaded first. Partitions that nothing was ever written to have no groups.
    pub async fn ask_all_groups(
        self: &Arc<Self>,
        event: impl Fn() -> Event + Send,
    ) -> Vec<Result<Asked<Reply>, GroupError>> {
        let mut asked = Vec::new();
        for partition in self.coordinators() {
            asked.push(self.ask_shard(&partition, event()).await);
        }
        asked
    }

    /// Partitions of coordinators that live here and may have groups.
    pub(super) fn coordinators(&self) -> Vec<Arc<Partition>> {
        let Ok(topic) = self.offsets_topic() else { return Vec::new() };
        let lives = |p: &&Arc<Partition>| p.check_leader(-1).is_ok() && (self.has_shard(p) || has_records(p));
        topic.partitions.iter().filter(lives).cloned().collect()
    }

    fn offsets_topic(&self) -> Result<Arc<TopicEntry>, GroupError> {
        let topic = self.partitions.table().by_name(OFFSETS_TOPIC).cloned();
        topic.ok_or_else(|| GroupError::NotCoordinator(format!("{OFFSETS_TOPIC} does not exist yet")))
    }

    /// Asks the coordinator over `partition`.
    pub(super) async fn ask_shard(&self, partition: &Arc<Partition>, event: Event) -> Result<Asked<Reply>, GroupError> {
        let asked = async {
            // One that has just ended gives the event back.
            let event = match self.shard(partition)?.try_ask(event).await {
                Ok(asked) => return Ok(asked),
                Err(event) => event,
            };
            Ok(self.shard(partition)?.ask(event).await?)
        };
        within_wait(asked).await
    }

    /// The shard over `partition`, started if there is none.
    fn shard(&self, partition: &Arc<Partition>) -> Result<Shard<Groups>, GroupError> {
        partition.check_leader(-1).map_err(|e| match e {
            PartitionError::NotLeader { .. } | PartitionError::Deleted => GroupError::NotCoordinator(e.to_string()),
            e => GroupError::NotAvailable(e.to_string()),
        })?;
        let mut shards = self.groups.lock();
        if shards.closed {
            return Err(stopping());
        }
        let key = (partition.topic().id, partition.index());
        if let Some(shard) = shards.by_partition.get(&key).filter(|shard| !shard.is_over()) {
            return Ok(shard.clone());
        }
        let settings = self.groups.settings.clone();
        let shard = Shard::start(&self.env, partition.clone(), Groups::default(), settings);
        shards.by_partition.insert(key, shard.clone());
        Ok(shard)
    }

    fn has_shard(&self, partition: &Partition) -> bool {
        let key = (partition.topic().id, partition.index());
        self.groups.lock().by_partition.get(&key).is_some_and(|shard| !shard.is_over())
    }

    /// Starts the coordinators that have something in their log, a few at a time.
    pub(super) async fn start_groups(self: Arc<Self>) {
        let Ok(topic) = self.offsets_topic() else { return };
        let led = |p: &&Arc<Partition>| p.check_leader(-1).is_ok() && has_records(p);
        let partitions = topic.partitions.iter().filter(led).cloned().collect();
        let broker = self.clone();
        so_many_at_once(&self.env, LOADED_AT_ONCE, partitions, move |partition| {
            let broker = broker.clone();
            async move {
                // Topics may have gone while nobody listened. Answered when it has loaded.
                let looked = match broker.shard(&partition) {
                    Ok(shard) => broker.drop_gone(&shard).await.map_err(GroupError::from),
                    Err(e) => Err(e),
                };
                if let Err(error) = looked {
                    tracing::warn!(topic = OFFSETS_TOPIC, partition = partition.index(), %error, "coordinator not loaded");
                }
            }
        })
        .await;
    }

    /// The metadata has moved on: coordinators whose partition is gone, led elsewhere or led in another epoch end.
    pub(super) fn groups_follow(&self, table: &Table) {
        let node_id = self.config().node_id;
        self.groups.lock().by_partition.retain(|(topic, index), shard| {
            let partition = table.by_id(*topic).and_then(|topic| topic.partition(*index));
            if partition.is_none_or(|p| p.leader() != (node_id, shard.epoch())) {
                shard.begin_stop();
            }
            // Until it is over, no other one may start.
            !shard.is_over()
        });
    }
}

/// Waits for room in a mailbox so long, then the asker is told to come again: the coordinator loads, or has more to do than it can.
async fn within_wait<T>(asked: impl Future<Output = Result<T, GroupError>>) -> Result<T, GroupError> {
    match tokio::time::timeout(Duration::from_millis(OPENING_WAIT_MS_MAX), asked).await {
        Ok(asked) => asked,
        Err(_) => Err(GroupError::Loading),
    }
}

/// Whether anything was ever written to it, as far as is known without opening it.
fn has_records(partition: &Partition) -> bool {
    partition.offsets().map_or(true, |offsets| offsets.log_end > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_room() {
        let begun = tokio::time::Instant::now();
        assert_eq!(within_wait(std::future::pending::<Result<(), _>>()).await, Err(GroupError::Loading));
        assert_eq!(begun.elapsed(), Duration::from_millis(OPENING_WAIT_MS_MAX));
        assert_eq!(within_wait(async { Ok(1) }).await, Ok(1));
    }
}
