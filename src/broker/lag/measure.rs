//! What a committed offset means against the ends of its partition, and the time of the first record behind it.

use super::rates::Oldest;
use crate::{
    Env,
    broker::partitions::{Table, TopicEntry},
    coordinator::group::CommittedAt,
    limits::{LAG_TIMES_AT_ONCE, LAG_TIMES_PER_JOB},
    partition::{Offsets, Partition, PartitionError},
};
use millstream_storage::{self as storage, Batch, LogReader};
use std::sync::Arc;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

/// What an age in seconds rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// When the broker appended the record.
    Append,
    /// The timestamp in the header of the record's batch.
    Timestamp,
}

/// Why something is not known of a partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Neither is there a topic of the name.
    #[error("the topic does not exist any more")]
    TopicGone,
    /// There is one of the name, created since.
    #[error("committed to a topic of this name that was deleted; nothing is committed to the one there is now")]
    TopicAnew,
    #[error("the topic has no such partition")]
    NoPartition,
    #[error("led by broker {0}, which was not asked")]
    LedElsewhere(i32),
    /// Its log is being opened or recovered.
    #[error("its log is not open yet")]
    NotOpen,
    #[error("{0}")]
    Failed(String),
    /// Only the time of the first record not yet committed.
    #[error("the time of its first record not yet committed was not read")]
    NoTime,
}

/// A group's place in one partition.
#[derive(Clone, Debug)]
pub struct PartitionLag {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Committed offset, if there is one that counts.
    pub committed: Option<CommittedAt>,
    /// Read after what is committed.
    pub ends: Option<Offsets>,
    /// When the first record behind what is committed was appended.
    pub oldest: Oldest,
    pub basis: Option<Basis>,
    pub unknown: Option<Unknown>,
    /// Whose log it is.
    pub(super) log: Option<Arc<Partition>>,
}

impl PartitionLag {
    /// Records up to the watermark; `None` without a commit, never negative.
    pub fn lag_records(&self) -> Option<i64> {
        self.lag_to(|ends| ends.high_watermark)
    }

    /// Records up to the last stable offset.
    pub fn lag_records_stable(&self) -> Option<i64> {
        self.lag_to(|ends| ends.last_stable)
    }

    fn lag_to(&self, end: impl Fn(&Offsets) -> i64) -> Option<i64> {
        Some(end(self.ends.as_ref()?).saturating_sub(self.committed.as_ref()?.offset).max(0))
    }

    /// Records that were deleted before they were committed (retention, DeleteRecords).
    pub fn lost_records(&self) -> i64 {
        match (&self.committed, &self.ends) {
            (Some(committed), Some(ends)) => ends.log_start.saturating_sub(committed.offset).max(0),
            _ => 0,
        }
    }

    /// Offset of the first record there is behind what is committed; `None` = there is none, or nothing is known.
    pub(super) fn first_unread(&self) -> Option<i64> {
        let (committed, ends) = (self.committed.as_ref()?, self.ends.as_ref()?);
        let first = committed.offset.max(ends.log_start);
        (first < ends.high_watermark).then_some(first)
    }

    fn time(&mut self, ms: i64, basis: Basis) {
        (self.oldest, self.basis) = (Oldest::Since(ms), Some(basis));
        if self.unknown == Some(Unknown::NoTime) {
            self.unknown = None;
        }
    }
}

/// The topic that an offset was committed to, or why there is none.
fn topic_of<'a>(table: &'a Table, committed: &CommittedAt) -> Result<&'a Arc<TopicEntry>, Unknown> {
    let named = table.by_name(&committed.topic);
    let found = match committed.topic_id.is_nil() {
        true => named,
        false => table.by_id(committed.topic_id),
    };
    found.ok_or(if named.is_some() { Unknown::TopicAnew } else { Unknown::TopicGone })
}

/// Measures one committed offset: what was committed has been read, the ends are read now. No I/O.
pub(super) fn committed(table: &Table, committed: CommittedAt) -> PartitionLag {
    let topic = topic_of(table, &committed).cloned();
    let (name, partition) = (committed.topic.clone(), committed.partition);
    // One of a topic that is gone does not count.
    let counts = (topic.is_ok() && committed.offset >= 0).then_some(committed);
    measure(name, partition, topic, counts)
}

/// Measures a partition that nothing is committed to.
pub(super) fn uncommitted(table: &Table, topic: &Arc<str>, partition: i32) -> PartitionLag {
    measure(topic.clone(), partition, table.by_name(topic).cloned().ok_or(Unknown::TopicGone), None)
}

fn measure(
    topic: Arc<str>,
    partition: i32,
    entry: Result<Arc<TopicEntry>, Unknown>,
    committed: Option<CommittedAt>,
) -> PartitionLag {
    let mut lag = PartitionLag {
        topic,
        partition,
        committed,
        ends: None,
        oldest: Oldest::Unknown,
        basis: None,
        unknown: None,
        log: None,
    };
    match entry.and_then(|entry| entry.partition(partition).cloned().ok_or(Unknown::NoPartition)) {
        Err(unknown) => lag.unknown = Some(unknown),
        Ok(log) => {
            lag.log = Some(log);
            refresh(&mut lag);
        }
    }
    lag
}

/// Reads the ends anew, and the time from the append clock.
pub(super) fn refresh(lag: &mut PartitionLag) {
    let Some(log) = lag.log.clone() else { return };
    let offsets = match log.check_leader(-1) {
        Ok(()) => log.offsets(),
        Err(e) => Err(e),
    };
    (lag.ends, lag.oldest, lag.basis, lag.unknown) = (None, Oldest::Unknown, None, None);
    match offsets {
        Ok(ends) => lag.ends = Some(ends),
        Err(e) => {
            lag.unknown = Some(match e {
                PartitionError::NotLeader { leader, .. } => Unknown::LedElsewhere(leader),
                PartitionError::NotOpen => Unknown::NotOpen,
                PartitionError::Deleted => Unknown::TopicGone,
                e => Unknown::Failed(e.to_string()),
            });
            return;
        }
    }
    if lag.committed.is_none() {
        return;
    }
    match lag.first_unread() {
        None => lag.oldest = Oldest::None,
        Some(offset) => match log.appended_ms(offset) {
            Some(ms) => lag.time(ms, Basis::Append),
            None => lag.unknown = Some(Unknown::NoTime),
        },
    }
}

/// A time that is to be read off the workers: of which of many, and where.
#[derive(Debug)]
pub(super) struct Wanted<K> {
    pub key: K,
    pub log: Arc<Partition>,
    pub offset: i64,
    pub end: i64,
}

/// Reads the header timestamps of the batches that hold these offsets, where blocking is allowed, some at once; what is not read by `deadline`, cannot be read or has none is not
/// among the answers. A log that is cold is opened first.
pub(super) async fn times<K: Send + 'static>(
    env: &Env,
    permits: &Semaphore,
    mut wanted: Vec<Wanted<K>>,
    deadline: Instant,
) -> Vec<(K, i64)> {
    let mut jobs = Vec::new();
    while !wanted.is_empty() {
        let rest = wanted.split_off(wanted.len().min(LAG_TIMES_PER_JOB));
        jobs.push(job(env, permits, std::mem::replace(&mut wanted, rest), deadline));
    }
    let mut all = Vec::new();
    for some in futures_util::future::join_all(jobs).await {
        all.extend(some);
    }
    all
}

const _: () = assert!(LAG_TIMES_AT_ONCE > 0 && LAG_TIMES_PER_JOB > 0);

async fn job<K: Send + 'static>(
    env: &Env,
    permits: &Semaphore,
    wanted: Vec<Wanted<K>>,
    deadline: Instant,
) -> Vec<(K, i64)> {
    let work = async {
        let mut ready = Vec::with_capacity(wanted.len());
        for it in wanted {
            let reader = it.log.opened_reader().await;
            if let Ok(reader) = reader {
                ready.push((it.key, reader, it.offset, it.end));
            }
        }
        let Ok(_permit) = permits.acquire().await else { return Vec::new() };
        let read = move || {
            let mut found = Vec::with_capacity(ready.len());
            for (key, reader, offset, end) in ready {
                match header_ms(&reader, offset, end) {
                    Ok(Some(ms)) => found.push((key, ms)),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(offset, %error, "the time of a record was not read"),
                }
            }
            found
        };
        env.blocking(read).await
    };
    timeout_at(deadline, work).await.unwrap_or_default()
}

/// Base timestamp of the batch that holds `offset`, or of the next one; `None` = it has none. Blocks.
fn header_ms(reader: &LogReader, offset: i64, end: i64) -> storage::Result<Option<i64>> {
    // The first batch, however large.
    let Some(slice) = reader.read(offset, 1, end, true)? else { return Ok(None) };
    if slice.cold {
        slice.populate()?;
    }
    let batch = Batch::parse(&slice.bytes)?;
    let ms = if batch.is_log_append_time() { batch.max_timestamp } else { batch.base_timestamp };
    Ok((ms >= 0).then_some(ms))
}

/// Puts a time that was read to its place.
pub(super) fn read_time(lag: &mut PartitionLag, ms: i64) {
    lag.time(ms, Basis::Timestamp);
}
