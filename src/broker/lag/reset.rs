//! Other offsets for a group: worked out for each partition, shown, and committed if so wished.
//!
//! Only a group without members is reset: its members would go on from where they are, and commit over it. The coordinator checks that again when it stores the commit, so a member that comes in
//! between is not passed over.

use super::{Broker, strange};
use crate::{
    broker::groups::OFFSETS_TOPIC,
    coordinator::group::{Commit, CommitPartition, CommitTopic, Event, Fetch, FetchTopic, GroupError, Reply, State},
    limits::{
        OFFSETS_PER_REQUEST_MAX, OPENING_WAIT_MS_MAX, RESET_AT_ONCE, RESET_COMMIT_PARTITIONS, UNPACKED_BATCH_BYTES_MAX,
    },
    partition::{Offsets, Partition, PartitionError},
    wire::codec,
};
use futures_util::{StreamExt, stream};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// The first record there is.
    Earliest,
    /// The watermark.
    Latest,
    /// An offset, brought within log start and watermark.
    Offset(i64),
    /// So many records from what is committed, brought within log start and watermark.
    Shift(i64),
    /// The first record whose timestamp (ms) is this or later; the watermark where there is none.
    TimeMs(i64),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Reset {
    pub group: Arc<str>,
    pub topic: Arc<str>,
    /// `None` = all.
    pub partitions: Option<Vec<i32>>,
    pub to: ResetTo,
    /// Nothing is committed.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug)]
pub struct ResetDone {
    /// By number.
    pub partitions: Vec<ResetPartition>,
}

/// One partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetPartition {
    pub partition: i32,
    /// Committed before.
    pub from: Option<i64>,
    /// Committed now, or would be; `Err` = nothing was changed, and why.
    pub to: Result<i64, String>,
}

/// Why nothing was done at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("there is no topic {0}")]
    UnknownTopic(Arc<str>),
    #[error("{topic} has no partition {partition}, it has {count}")]
    UnknownPartition { topic: Arc<str>, partition: i32, count: usize },
    #[error("the group has members ({}); stop them first, for they would go on where they are", .0.name())]
    HasMembers(State),
    #[error("{count} partitions, at most {OFFSETS_PER_REQUEST_MAX} at once")]
    TooMany { count: usize },
}

/// Where a partition goes to; `found` is what [`ResetTo::TimeMs`] found.
fn target(to: ResetTo, committed: Option<i64>, ends: &Offsets, found: Option<i64>) -> Result<i64, String> {
    let wanted = match to {
        ResetTo::Earliest => ends.log_start,
        ResetTo::Latest => ends.high_watermark,
        ResetTo::Offset(offset) => offset,
        ResetTo::Shift(by) => {
            let from = committed.ok_or("nothing is committed that could be shifted")?;
            from.saturating_add(by)
        }
        ResetTo::TimeMs(_) => found.unwrap_or(ends.high_watermark),
    };
    Ok(wanted.max(ends.log_start).min(ends.high_watermark))
}

impl Broker {
    /// Works out a reset, and commits it unless it is a dry run. Partial failures stand with their partitions. Waits at most [`OPENING_WAIT_MS_MAX`] for logs and each answer.
    pub async fn reset_offsets(self: &Arc<Self>, reset: Reset) -> Result<ResetDone, ResetError> {
        let deadline = Instant::now() + Duration::from_millis(OPENING_WAIT_MS_MAX);
        if self.quorum.image().topic(OFFSETS_TOPIC).is_none() {
            return Err(GroupError::GroupIdNotFound.into());
        }
        let state = self.described(&reset.group, deadline).await?.state;
        if state != State::Empty {
            return Err(ResetError::HasMembers(state));
        }
        let table = self.partitions.snapshot();
        let Some(topic) = table.by_name(&reset.topic) else {
            return Err(ResetError::UnknownTopic(reset.topic));
        };
        let count = topic.partitions.len();
        let wanted: BTreeSet<i32> = match reset.partitions {
            Some(named) => named.into_iter().collect(),
            None => (0..count as i32).collect(),
        };
        if wanted.len() > OFFSETS_PER_REQUEST_MAX {
            return Err(ResetError::TooMany { count: wanted.len() });
        }
        if let Some(partition) = wanted.iter().find(|index| topic.partition(**index).is_none()) {
            return Err(ResetError::UnknownPartition { topic: reset.topic, partition: *partition, count });
        }
        let committed = self.committed_to(&reset.group, topic.state.id, &reset.topic, &wanted, deadline).await?;
        let mut named = Vec::with_capacity(wanted.len());
        named.extend(wanted.iter().filter_map(|index| topic.partition(*index).cloned()));
        let planned = named.into_iter().map(|partition| {
            let (broker, from) = (self.clone(), committed.get(&partition.index()).copied());
            async move {
                let index = partition.index();
                let plan = broker.plan(partition, reset.to, from);
                let late = || Err("its log was not read in time".to_string());
                let to = timeout_at(deadline, plan).await.unwrap_or_else(|_| late());
                ResetPartition { partition: index, from, to }
            }
        });
        let mut partitions: Vec<ResetPartition> = stream::iter(planned).buffered(RESET_AT_ONCE).collect().await;
        if !reset.dry_run {
            let to = (reset.topic.clone(), topic.state.id);
            self.commit_reset(&reset.group, to, &mut partitions).await?;
        }
        Ok(ResetDone { partitions })
    }

    /// What the group has committed to these partitions of the topic.
    async fn committed_to(
        self: &Arc<Self>,
        group: &Arc<str>,
        id: uuid::Uuid,
        topic: &Arc<str>,
        partitions: &BTreeSet<i32>,
        deadline: Instant,
    ) -> Result<HashMap<i32, i64>, GroupError> {
        let topic = FetchTopic { name: topic.clone(), id, partitions: partitions.iter().copied().collect() };
        let event = Event::Fetch(Fetch { group: group.clone(), topics: Some(vec![topic]) });
        match self.ask_within(group, event, deadline).await? {
            Reply::Fetch(result) => Ok(result?.into_iter().map(|it| (it.partition, it.offset)).collect()),
            other => Err(strange(&other)),
        }
    }

    async fn plan(&self, partition: Arc<Partition>, to: ResetTo, committed: Option<i64>) -> Result<i64, String> {
        let in_words = |e: PartitionError| e.to_string();
        partition.check_leader(-1).map_err(in_words)?;
        let ends = loop {
            match partition.offsets() {
                Ok(ends) => break ends,
                Err(PartitionError::NotOpen) => partition.open().await.map_err(in_words)?,
                Err(e) => return Err(in_words(e)),
            }
        };
        let mut found = None;
        if let ResetTo::TimeMs(ms) = to
            && ends.log_start < ends.high_watermark
        {
            let reader = partition.opened_reader().await.map_err(in_words)?;
            let end = ends.high_watermark;
            let look = move || {
                let unpack = |codec, bytes: &[u8]| codec::unpack(codec, bytes, UNPACKED_BATCH_BYTES_MAX);
                reader.offset_for_timestamp(ms, end, Some(&unpack))
            };
            found = self.env.blocking(look).await.map_err(|e| e.to_string())?.map(|(_, offset, _)| offset);
        }
        target(to, committed, &ends, found)
    }

    /// Commits what was planned, some partitions at a time. An error is one that came before anything was stored; later ones stand with their partitions.
    async fn commit_reset(
        self: &Arc<Self>,
        group: &Arc<str>,
        (topic, id): (Arc<str>, uuid::Uuid),
        partitions: &mut [ResetPartition],
    ) -> Result<(), ResetError> {
        let mut stored = false;
        let mut planned: Vec<&mut ResetPartition> = partitions.iter_mut().filter(|it| it.to.is_ok()).collect();
        for some in planned.chunks_mut(RESET_COMMIT_PARTITIONS) {
            // A topic deleted meanwhile: what is committed to its id would go with the next look at what expired, and be no offset until then.
            if self.quorum.image().topic_by_id(id).is_none() {
                return Err(ResetError::UnknownTopic(topic));
            }
            let of = |it: &&mut ResetPartition| {
                let offset = *it.to.as_ref().ok()?;
                Some(CommitPartition { index: it.partition, offset, leader_epoch: -1, metadata: "".into() })
            };
            let commit = Commit {
                group: group.clone(),
                generation: -1,
                member_id: "".into(),
                instance_id: None,
                retention_ms: None,
                topics: vec![CommitTopic { name: topic.clone(), id, partitions: some.iter().filter_map(of).collect() }],
            };
            let deadline = Instant::now() + Duration::from_millis(OPENING_WAIT_MS_MAX);
            let results = match self.ask_within(group, Event::Commit(commit), deadline).await {
                Ok(Reply::Commit(result)) => result,
                Ok(other) => Err(strange(&other)),
                // It may be stored yet.
                Err(GroupError::Loading) => {
                    Err(GroupError::Unknown("the coordinator has not answered: it may or may not be stored".into()))
                }
                Err(e) => Err(e),
            };
            match results {
                Ok(results) => {
                    for (it, result) in some.iter_mut().zip(results.into_iter().flatten()) {
                        match result {
                            Ok(_) => stored = true,
                            Err(e) => it.to = Err(e.to_string()),
                        }
                    }
                }
                // A commit without a member is refused so where there are members.
                Err(GroupError::UnknownMemberId) if !stored => return Err(ResetError::HasMembers(State::Stable)),
                Err(e) if !stored => return Err(e.into()),
                Err(e) => some.iter_mut().for_each(|it| it.to = Err(e.to_string())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_within_the_log() {
        let ends = Offsets { log_start: 10, last_stable: 100, high_watermark: 100, log_end: 120 };
        let to = |to, committed, found| target(to, committed, &ends, found).unwrap();
        assert_eq!(to(ResetTo::Earliest, None, None), 10);
        assert_eq!(to(ResetTo::Latest, Some(50), None), 100, "the watermark, not the end");
        assert_eq!(to(ResetTo::Offset(42), None, None), 42);
        assert_eq!((to(ResetTo::Offset(-5), None, None), to(ResetTo::Offset(9), None, None)), (10, 10));
        assert_eq!((to(ResetTo::Offset(101), None, None), to(ResetTo::Offset(i64::MAX), None, None)), (100, 100));
        assert_eq!((to(ResetTo::Shift(-20), Some(50), None), to(ResetTo::Shift(20), Some(50), None)), (30, 70));
        assert_eq!((to(ResetTo::Shift(-90), Some(50), None), to(ResetTo::Shift(90), Some(50), None)), (10, 100));
        assert_eq!(
            (to(ResetTo::Shift(i64::MIN), Some(50), None), to(ResetTo::Shift(i64::MAX), Some(50), None)),
            (10, 100)
        );
        assert_eq!((to(ResetTo::TimeMs(1), None, Some(33)), to(ResetTo::TimeMs(1), None, None)), (33, 100));
        assert!(target(ResetTo::Shift(1), None, &ends, None).unwrap_err().contains("nothing is committed"));
    }
}
