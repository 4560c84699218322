//! Appending records from the outside: the way that Produce and the admin API share, and publishing for those who speak no Kafka.

use super::{Broker, opening::Opening, partitions::TopicEntry, topics::is_internal};
use crate::{
    client::partitioner,
    limits::PUBLISH_WAIT_MS_MAX,
    partition::{
        Effects, Partition, PartitionError,
        leader::{self, Appended},
        recode,
        waiters::{Acks, Goal},
    },
};
use bytes::Bytes;
use millstream_storage::record::BatchBuilder;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Appends what a producer sent for one partition, opening its log first where it is cold; unpacks and packs anew where the topic wants that.
pub async fn append(
    broker: &Broker,
    partition: &Arc<Partition>,
    records: Bytes,
    acks: i16,
    now_ms: i64,
    effects: &mut Effects,
    opening: &mut Opening<'_>,
) -> Result<Appended, PartitionError> {
    let settings = partition.topic().settings.load_full();
    let (records, header) = if recode::is_work(&records, &settings) {
        drop(std::mem::take(effects));
        // Never closed. No more at once than memory is meant for.
        let _one = broker.unpacking.acquire().await;
        broker.env.blocking(move || recode::prepare(&records, &settings, now_ms)).await?
    } else {
        let header = leader::check(&records, &settings, now_ms)?;
        (records, header)
    };
    loop {
        match partition.append_as_leader(&records, &header, acks, now_ms, effects) {
            Err(PartitionError::NotOpen) => {
                // What was appended before must not wait for a cold partition.
                drop(std::mem::take(effects));
                opening.wait(partition.open()).await?;
            }
            done => return done,
        }
    }
}

/// A record to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Where to; else the key decides as in Kafka's clients (murmur2), without a key any.
    pub partition: Option<i32>,
    /// 0 or later; now where it is not given.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Why a record was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Only their coordinators write to these.
    #[error("{0} is written by the broker itself")]
    Internal(String),
    /// The topic has fewer.
    #[error("the topic has {count} partitions, from 0 on: there is no partition {partition}")]
    UnknownPartition { partition: i32, count: usize },
    /// Before 1970.
    #[error("a timestamp is 0 or later, {0} is not")]
    Timestamp(i64),
    /// Appended, and not known to be durable in time.
    #[error(
        "partition {partition} took the records, but did not say within {PUBLISH_WAIT_MS_MAX} ms that they are durable: whether they stay is not known"
    )]
    Unknown { partition: i32 },
    /// Appended, and the flush failed.
    #[error("partition {partition} could not make the records durable: whether they stay is not known")]
    NotDurable { partition: i32 },
    /// Refused by the partition; nothing of it was stored.
    #[error("partition {partition}: {error}")]
    Refused {
        /// Which.
        partition: i32,
        /// Why.
        error: PartitionError,
    },
}

/// Where a record went and what became of it: its offset, or why it has none.
pub type Outcome = (i32, Result<i64, Arc<PublishError>>);

impl Broker {
    /// Publishes records to a topic as acks=all does, those of one partition as one batch: stored together or not at all. Gives what became of each, in order. A record that cannot be
    /// published whatever the partition says fails all of them before anything is stored.
    pub async fn publish(
        self: &Arc<Self>,
        topic: &Arc<TopicEntry>,
        records: Vec<NewRecord>,
    ) -> Result<Vec<Outcome>, PublishError> {
        if is_internal(&topic.state.name) {
            return Err(PublishError::Internal(topic.state.name.to_string()));
        }
        let now_ms = self.env.now_ms();
        let count = topic.partitions.len();
        let any = (self.env.random_u64() % count.max(1) as u64) as i32;
        let mut batches: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
        // Partition, and place within its batch.
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let partition = match (record.partition, &record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partitioner::of_key(key, count),
                (None, None) => any,
            };
            if topic.partition(partition).is_none() {
                return Err(PublishError::UnknownPartition { partition, count });
            }
            let timestamp_ms = record.timestamp_ms.unwrap_or(now_ms);
            if timestamp_ms < 0 {
                return Err(PublishError::Timestamp(timestamp_ms));
            }
            let headers: Vec<_> = record.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
            let batch = batches.entry(partition).or_default();
            places.push((partition, i64::from(batch.record_count())));
            batch.push(timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        let outcomes = self.append_all(topic, batches, now_ms).await;
        let outcome = |(partition, n): (i32, i64)| {
            let base = outcomes.get(&partition).cloned();
            // Each partition of `places` has a batch.
            let unknown = || Arc::new(PublishError::UnknownPartition { partition, count });
            (partition, base.unwrap_or_else(|| Err(unknown())).map(|base| base + n))
        };
        Ok(places.into_iter().map(outcome).collect())
    }

    /// Appends a batch to each partition and waits for all; gives their base offsets.
    async fn append_all(
        &self,
        topic: &TopicEntry,
        batches: BTreeMap<i32, BatchBuilder>,
        now_ms: i64,
    ) -> BTreeMap<i32, Result<i64, Arc<PublishError>>> {
        let mut outcomes = BTreeMap::new();
        let mut waiting: Vec<(i32, &Arc<Partition>, Goal, i64)> = Vec::new();
        let mut effects = Effects::default();
        let bytes = batches.values().map(BatchBuilder::size_bytes).sum();
        let mut opening = Opening::new(&self.opening_bytes, bytes);
        for (index, batch) in batches {
            let Some(partition) = topic.partition(index) else { continue };
            let bytes = Bytes::from(batch.build());
            drop(batch);
            match append(self, partition, bytes, -1, now_ms, &mut effects, &mut opening).await {
                Ok(appended) => {
                    outcomes.insert(index, Ok(appended.base_offset));
                    waiting.extend(appended.wait.map(|(goal, offset)| (index, partition, goal, offset)));
                }
                Err(error) => {
                    outcomes.insert(index, Err(Arc::new(PublishError::Refused { partition: index, error })));
                }
            }
        }
        // The flush starts before anything is parked: parking looks again.
        drop(effects);
        let acks = Acks::new();
        for (slot, (index, partition, goal, offset)) in waiting.iter().enumerate() {
            if partition.park(*goal, *offset, slot as u32, &acks).is_err() {
                outcomes.insert(*index, Err(Arc::new(PublishError::Unknown { partition: *index })));
            }
        }
        let timeout = Duration::from_millis(PUBLISH_WAIT_MS_MAX);
        let ended = tokio::time::timeout(timeout, acks.clone().done()).await;
        let failed = ended.as_ref().map_or_else(|_| acks.take_failed(), Clone::clone);
        for slot in failed {
            let (partition, ..) = waiting[slot as usize];
            outcomes.insert(partition, Err(Arc::new(PublishError::NotDurable { partition })));
        }
        if ended.is_err() {
            for (index, _, _, _) in waiting.iter().filter(|(_, on, goal, offset)| !on.has_reached(*goal, *offset)) {
                let unknown = || Arc::new(PublishError::Unknown { partition: *index });
                outcomes.entry(*index).and_modify(|outcome| {
                    if outcome.is_ok() {
                        *outcome = Err(unknown());
                    }
                });
            }
        }
        outcomes
    }
}
