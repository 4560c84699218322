//! Offsets of groups that have had their time: which of them go.
//!
//! What a group's own rules say is over (`coordinator/group/offsets/expiry.rs`) is kept nevertheless while it points into data that is still there, so that a consumer
//! that comes back after a month reads on where it stopped; unless a person has set `offsets.retention.minutes`: then Kafka's rules hold alone. What was committed to
//! topics that are gone goes at once, by topic id.
//!
//! Coordinators that are loaded are told of each deletion, and looked through at each period; those with something in their log are loaded behind a start, and looked
//! through for topics that went meanwhile. What was missed (a commit that crossed a deletion, a coordinator loaded later) is found at the next period.
//!
//! Whether a topic exists is asked of the metadata, as commits ask it: the partition table follows later.

use super::{Broker, partitions::Table};
use crate::{
    coordinator::{
        group::{Candidate, Event, GroupError, Groups, Reply},
        shard::{Shard, ShardError},
    },
    metadata::Image,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

/// What the task is told of.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Topics that were deleted and that nobody was told of yet.
    gone: Mutex<Vec<(Arc<str>, Uuid)>>,
    wake: Notify,
}

impl Expiry {
    /// Topics were deleted: their names and ids. The metadata does not know them any more.
    pub(super) fn topics_gone(&self, topics: impl Iterator<Item = (Arc<str>, Uuid)>) {
        self.lock().extend(topics);
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<(Arc<str>, Uuid)> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<str>, Uuid)>> {
        self.gone.lock().unwrap_or_else(|p| p.into_inner())
    }
}

impl Broker {
    /// Looks each `offsets.retention.check.interval.ms`, for ever, however often topics are deleted between.
    pub(super) async fn expire_offsets(self: Arc<Self>) {
        let mut last = Instant::now();
        loop {
            let period = Duration::from_millis(self.settings().offsets_retention_check_interval_ms.max(1));
            let left = period.saturating_sub(last.elapsed());
            // Whichever it was, the clock says whether a look is due.
            let _ = tokio::time::timeout(left, self.expiry.wake.notified()).await;
            let due = last.elapsed() >= period;
            let gone = with_names(self.expiry.take(), &self.quorum.image());
            for shard in self.groups.loaded() {
                let done = if due { self.look(&shard).await } else { self.drop_topics(&shard, gone.clone()).await };
                // One that has ended or cannot answer now: the next look finds it again.
                if let Err(e) = done {
                    tracing::debug!(error = %e, "offsets of a coordinator were not looked through");
                }
            }
            if due {
                last = Instant::now();
            }
        }
    }

    async fn look(&self, shard: &Shard<Groups>) -> Result<(), ShardError> {
        self.drop_gone(shard).await?;
        self.expire_of(shard).await
    }

    /// Drops offsets committed to topics that are not there any more. Returns once the coordinator is loaded and has dropped them.
    pub(super) async fn drop_gone(&self, shard: &Shard<Groups>) -> Result<(), ShardError> {
        let Reply::Topics(topics) = shard.ask(Event::Topics).await?.answer().await? else { return Ok(()) };
        // Later than every commit that is among them.
        let image = self.quorum.image();
        let gone = topics.into_iter().filter(|(name, id)| !is_there(&image, name, *id)).collect();
        self.drop_topics(shard, gone).await
    }

    async fn drop_topics(&self, shard: &Shard<Groups>, gone: Vec<(Arc<str>, Uuid)>) -> Result<(), ShardError> {
        if gone.is_empty() {
            return Ok(());
        }
        if let dropped @ 1.. = dropped(shard.ask(Event::TopicsDeleted(gone)).await?.answer().await?) {
            tracing::info!(offsets = dropped, "of deleted topics dropped");
        }
        Ok(())
    }

    async fn expire_of(&self, shard: &Shard<Groups>) -> Result<(), ShardError> {
        let Reply::ExpiryCandidates(candidates) = shard.ask(Event::ExpiryCandidates).await?.answer().await? else {
            return Ok(());
        };
        let given = self.settings().groups.offsets_retention_given;
        let (table, image) = (self.partitions.snapshot(), self.quorum.image());
        let over: Vec<_> =
            candidates.into_iter().filter(|it| given || it.own_expiry || !is_of_use(&table, &image, it)).collect();
        // Also when there is none: groups without anything go with it.
        if let expired @ 1.. = dropped(shard.ask(Event::Expire(over)).await?.answer().await?) {
            tracing::info!(offsets = expired, "expired");
        }
        Ok(())
    }
}

/// How many offsets were dropped; says so when some could not be.
fn dropped(reply: Reply) -> usize {
    match reply {
        Reply::Dropped(dropped) => dropped,
        Reply::DroppedInPart(dropped, error) => {
            match error {
                // Whoever leads the partition now looks for itself.
                GroupError::NotCoordinator(_) => tracing::debug!(%error, "offsets were not dropped"),
                error => tracing::warn!(%error, "offsets that expired or are of deleted topics were not dropped"),
            }
            dropped
        }
        _ => 0,
    }
}

/// Whether the topic exists; with a nil id, one of the name.
fn is_there(image: &Image, name: &str, id: Uuid) -> bool {
    if id.is_nil() { image.topic(name).is_some() } else { image.topic_by_id(id).is_some() }
}

/// `gone`, and their names alone (a nil id) where no topic has the name any more.
fn with_names(mut gone: Vec<(Arc<str>, Uuid)>, image: &Image) -> Vec<(Arc<str>, Uuid)> {
    let names: BTreeSet<_> = gone.iter().map(|(name, _)| name.clone()).collect();
    let free = names.into_iter().filter(|name| !is_there(image, name, Uuid::nil()));
    gone.extend(free.map(|name| (name, Uuid::nil())));
    gone
}

/// Whether a consumer that starts at the offset finds what follows it: nothing after it was removed, and the log is not empty. Where that is not known now, it does.
fn is_of_use(table: &Table, image: &Image, candidate: &Candidate) -> bool {
    let (name, id) = (&candidate.key.topic, candidate.topic_id);
    let topic = if id.is_nil() { table.by_name(name) } else { table.by_id(id) };
    let Some(partition) = topic.and_then(|topic| topic.partition(candidate.key.partition)) else {
        // Where the table has not followed yet, nothing is known.
        return is_there(image, name, id);
    };
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
    use crate::{coordinator::group::OffsetKey, metadata::Topic};

    const ID: Uuid = Uuid::from_u128(7);
    const OLDER: Uuid = Uuid::from_u128(6);

    fn image_with(name: &str, id: Uuid) -> Image {
        let name: Arc<str> = name.into();
        let topic = Topic { id, name: name.clone(), partitions: Arc::new([]), configs: Arc::default() };
        let mut image = Image::default();
        image.topics.insert(name.clone(), Arc::new(topic));
        image.topic_names.insert(id, name);
        image
    }

    #[test]
    fn a_topic_that_the_table_does_not_know_yet_is_there() {
        let image = image_with("orders", ID);
        let candidate = |topic_id| Candidate {
            key: OffsetKey { group: "g".into(), topic: "orders".into(), partition: 0 },
            topic_id,
            offset: 5,
            commit_ms: 0,
            own_expiry: false,
        };
        for (id, there) in [(ID, true), (Uuid::nil(), true), (OLDER, false)] {
            assert_eq!(is_there(&image, "orders", id), there, "{id}");
            assert_eq!(is_of_use(&Table::default(), &image, &candidate(id)), there, "{id}");
            assert!(!is_of_use(&Table::default(), &Image::default(), &candidate(id)), "{id}");
        }
    }

    #[test]
    fn a_name_goes_with_the_last_topic_of_it() {
        let gone = || vec![("orders".into(), OLDER), ("clicks".into(), ID)];
        let nil = Uuid::nil();
        let [orders, clicks] = [("orders".into(), nil), ("clicks".into(), nil)];
        assert_eq!(with_names(gone(), &Image::default())[2..], [clicks.clone(), orders]);
        assert_eq!(with_names(gone(), &image_with("orders", Uuid::from_u128(8)))[2..], [clicks]);
        assert!(with_names(Vec::new(), &Image::default()).is_empty());
    }

    #[test]
    fn what_was_dropped_counts_though_the_rest_was_not() {
        assert_eq!(dropped(Reply::Dropped(3)), 3);
        assert_eq!(dropped(Reply::DroppedInPart(2, GroupError::CommitTooLarge)), 2);
    }

    #[test]
    fn an_offset_is_of_use_while_nothing_behind_it_was_removed() {
        assert!(points_into(5, 5, 9), "the first record there is");
        assert!(points_into(9, 5, 9), "everything was read");
        assert!(!points_into(4, 5, 9), "what it points at is gone");
        assert!(!points_into(10, 5, 9), "beyond the log");
        assert!(!points_into(9, 9, 9), "nothing is left");
    }
}
