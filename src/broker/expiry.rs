//! Offsets of groups that have had their time: which of them go.
//!
//! What a group's own rules say is over (`coordinator/group/offsets/expiry.rs`) is kept nevertheless while it points into data that is still there, so that a consumer
//! that comes back after a month reads on where it stopped; unless a person has set `offsets.retention.minutes`: then Kafka's rules hold alone. What was committed to
//! topics that are gone goes at once, by topic id.
//!
//! Only coordinators that are loaded are asked: one that nobody has spoken to since the start costs nothing, and expires when it is loaded.

use super::{Broker, partitions::Table};
use crate::coordinator::{
    group::{Candidate, Event, Groups, Reply},
    shard::{Shard, ShardError},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

/// What wakes the task before its time.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Topics were deleted.
    pub(super) topics_gone: Notify,
}

impl Broker {
    /// Looks each `offsets.retention.check.interval.ms`, for ever.
    pub(super) async fn expire_offsets(self: Arc<Self>) {
        loop {
            let period = Duration::from_millis(self.settings().offsets_retention_check_interval_ms.max(1));
            let gone = tokio::time::timeout(period, self.expiry.topics_gone.notified()).await.is_ok();
            for shard in self.groups.loaded() {
                let done = match self.drop_gone(&shard).await {
                    Ok(()) if !gone => self.expire_of(&shard).await,
                    other => other,
                };
                // One that has ended or cannot answer now: the next look finds it again.
                if let Err(e) = done {
                    tracing::debug!(error = %e, "offsets of a coordinator were not looked through");
                }
            }
        }
    }

    /// Offsets committed to topics that are not there any more.
    async fn drop_gone(&self, shard: &Shard<Groups>) -> Result<(), ShardError> {
        let Reply::Topics(topics) = shard.ask(Event::Topics).await?.answer().await? else { return Ok(()) };
        let table = self.partitions.snapshot();
        let gone = |(name, id): &(Arc<str>, Uuid)| {
            if id.is_nil() { table.by_name(name).is_none() } else { table.by_id(*id).is_none() }
        };
        let gone: Vec<_> = topics.into_iter().filter(gone).collect();
        if !gone.is_empty() {
            tracing::info!(topics = gone.len(), "offsets of deleted topics are dropped");
            shard.ask(Event::TopicsDeleted(gone)).await?.answer().await?;
        }
        Ok(())
    }

    async fn expire_of(&self, shard: &Shard<Groups>) -> Result<(), ShardError> {
        let Reply::ExpiryCandidates(candidates) = shard.ask(Event::ExpiryCandidates).await?.answer().await? else {
            return Ok(());
        };
        let given = self.settings().groups.offsets_retention_given;
        let table = self.partitions.snapshot();
        let over: Vec<_> =
            candidates.into_iter().filter(|it| given || it.own_expiry || !is_of_use(&table, it)).collect();
        // Also when there is none: groups without anything go with it.
        if let Reply::Dropped(dropped @ 1..) = shard.ask(Event::Expire(over)).await?.answer().await? {
            tracing::info!(offsets = dropped, "expired");
        }
        Ok(())
    }
}

/// Whether a consumer that starts at the offset finds what follows it: nothing after it was removed, and the log is not empty. Where that is not known now, it does.
fn is_of_use(table: &Table, candidate: &Candidate) -> bool {
    let topic =
        if candidate.topic_id.is_nil() { table.by_name(&candidate.key.topic) } else { table.by_id(candidate.topic_id) };
    let Some(partition) = topic.and_then(|topic| topic.partition(candidate.key.partition)) else { return false };
    match partition.offsets() {
        Ok(offsets) => points_into(candidate.offset, offsets.log_start, offsets.log_end),
        Err(_) => true,
    }
}

fn points_into(offset: i64, log_start: i64, log_end: i64) -> bool {
    log_start < log_end && (log_start..=log_end).contains(&offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_of_use_while_nothing_behind_it_was_removed() {
        assert!(points_into(5, 5, 9), "the first record there is");
        assert!(points_into(9, 5, 9), "everything was read");
        assert!(!points_into(4, 5, 9), "what it points at is gone");
        assert!(!points_into(10, 5, 9), "beyond the log");
        assert!(!points_into(9, 9, 9), "nothing is left");
    }
}
