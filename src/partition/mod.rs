//! One replica of one partition: append, read, watermark, producers; the tasks that flush and clean.
//!
//! Belongs here: [`Partition`] and everything it owns, what it counts included ([`traffic`], [`clock`]). Must not: know groups, connections, client-facing requests (errors are named here and become
//! Kafka's codes in `api`).
//!
//! State and its guards: the log's writer and the producers lie behind the partition's one mutex, which is never held across an await; log end, durable end and
//! watermark are atomics that anybody loads; what waits has a leaf lock of its own ([`waiters`]). A partition is *cold* until something needs its log: then it has no
//! file, no map, no timer, and its offsets come from the directory's catalogue.
//!
//! Flow of an append: [`leader::check`] (no lock; [`recode`] where the topic wants another codec) → [`Partition::append_as_leader`] (one lock, one copy) → the log end is published → [`Effects`] tells the
//! [`flusher`] → a round makes it durable → [`Partition::settle`] moves the watermark and ends what waits.

pub mod cleaner;
pub mod clock;
pub mod flusher;
pub mod histogram;
pub mod leader;
mod lifecycle;
pub mod producers;
pub mod recode;
#[cfg(test)]
pub(crate) mod tests;
pub mod traffic;
pub mod vital;
pub mod waiters;

use crate::{
    Env,
    config::TopicSettings,
    metadata::PartitionFacts,
    metrics::Metrics,
    partition::{
        clock::AppendClock,
        flusher::Flusher,
        producers::Producers,
        waiters::{Goal, Waiters, Wakers},
    },
};
use arc_swap::{ArcSwap, ArcSwapOption};
use millstream_storage::{self as storage, Directory, Log, LogReader, LogStat, PartitionId, Slice};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, oneshot, watch};
use uuid::Uuid;

/// What all partitions of a node share.
#[derive(Debug)]
pub struct Shared {
    pub env: Env,
    pub directory: Directory,
    pub metrics: Metrics,
    pub node_id: i32,
    pub flusher: Flusher,
    /// Something was appended since the catalogue was written last.
    pub catalogue_stale: AtomicBool,
    /// Notified by an append that found the disk full: what waits for its removal is to go now.
    pub disk_full: Notify,
    /// Bytes of the batch that the disk had no room for last; 0 = none, or there was room again since.
    pub room_wanted_bytes: AtomicU64,
    pub sweep: cleaner::Sweep,
    /// Topics whose data is being deleted, by name (how many of that name): one created anew under a name opens its logs after that.
    pub deleting: watch::Sender<BTreeMap<Arc<str>, usize>>,
    /// Logs open now, and a bell that rings with each opening above the bound.
    pub open_logs: AtomicUsize,
    pub open_logs_max: usize,
    pub crowded: Notify,
    /// Append clocks and counters are kept (`millstream.figures`).
    pub figures: bool,
    /// Topics with traffic.
    pub active: traffic::Active,
}

/// What all partitions of a topic share.
#[derive(Debug)]
pub struct TopicState {
    pub id: Uuid,
    pub name: Arc<str>,
    /// Settings in force; swapped when they change.
    pub settings: ArcSwap<TopicSettings>,
    /// What went in and out.
    pub traffic: traffic::Traffic,
    pub produce_latency: traffic::ProduceLatency,
}

impl TopicState {
    /// A topic without traffic.
    pub fn new(id: Uuid, name: Arc<str>, settings: Arc<TopicSettings>) -> TopicState {
        let (traffic, produce_latency) = Default::default();
        TopicState { id, name, settings: ArcSwap::from(settings), traffic, produce_latency }
    }
}

/// One replica of one partition on this broker.
#[derive(Debug)]
pub struct Partition {
    shared: Arc<Shared>,
    topic: Arc<TopicState>,
    index: i32,
    leader: AtomicI32,
    leader_epoch: AtomicI32,
    isr_count: AtomicI32,
    replica_count: AtomicI32,
    high_watermark: AtomicI64,
    /// The log's readers while it is open.
    reader: ArcSwapOption<LogReader>,
    state: Mutex<Phase>,
    waiters: Waiters,
    /// A leaf lock: nothing else is locked under it.
    clock: Mutex<AppendClock>,
    /// On the flusher's queue.
    queued: AtomicBool,
    /// Number of its entry on the list of those that are flushed in the background, 0 = none. Written under that list's lock.
    background: AtomicU32,
    /// The flusher is to see to the producers' snapshot.
    snapshot_due: AtomicBool,
    /// Nothing will be acknowledged any more: a flush failed, or a panic under the lock.
    failed: AtomicBool,
    deleted: AtomicBool,
    /// Wall clock of the last use of the log, ms.
    used_ms: AtomicI64,
}

#[derive(Debug)]
enum Phase {
    Cold,
    /// Being opened or closed; these want to hear of the end of it.
    Busy(Vec<oneshot::Sender<Option<Arc<str>>>>),
    Open(Box<Open>),
    /// Not served until a restart, and why.
    Offline(Arc<str>),
    Deleted,
    /// The broker stops.
    Stopped,
}

/// What the lock guards while the log is open.
#[derive(Debug)]
struct Open {
    log: Log,
    producers: Producers,
    bytes_since_snapshot: u64,
    /// A snapshot taken at an offset, to be written once all below is durable.
    snapshot: Option<(i64, Vec<u8>)>,
}

/// Why a partition did not do what was asked. Each variant is one of Kafka's codes (`api/errors.rs`).
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The log is cold: await [`Partition::open`] and ask again. A client sees it as a reason to try again, where the opening takes too long.
    #[error("the log is not open")]
    NotOpen,
    #[error("broker is not the leader; it is {leader} in epoch {epoch}")]
    NotLeader { leader: i32, epoch: i32 },
    #[error("leader epoch {given} is older than {current}")]
    FencedLeaderEpoch { given: i32, current: i32 },
    #[error("leader epoch {given} is newer than {current}")]
    UnknownLeaderEpoch { given: i32, current: i32 },
    #[error("{in_sync} replicas in sync, {needed} needed")]
    NotEnoughReplicas { in_sync: i32, needed: i32 },
    #[error("batch of {size_bytes} bytes, at most {max_bytes} are allowed (max.message.bytes)")]
    TooLarge { size_bytes: usize, max_bytes: usize },
    #[error("timestamp {timestamp} is out of range at {now_ms}")]
    InvalidTimestamp { timestamp: i64, now_ms: i64 },
    #[error("{0}")]
    InvalidRecord(&'static str),
    /// The client's version knows no zstd, which the topic is stored with (compression.type).
    #[error("the topic is compressed with zstd, which needs a newer version of Fetch")]
    UnsupportedCompression,
    #[error("{0}")]
    InvalidTransactionState(&'static str),
    #[error(transparent)]
    Batch(#[from] storage::batch::BatchError),
    #[error(transparent)]
    Producer(#[from] producers::ProducerError),
    #[error("offset {offset} is outside {start}..={end}")]
    OffsetOutOfRange { offset: i64, start: i64, end: i64 },
    #[error("damaged batch at offset {offset}")]
    Corrupt { offset: i64 },
    #[error("{0}")]
    Storage(Arc<str>),
    /// No room; the next append may find some.
    #[error("{0}")]
    DiskFull(Arc<str>),
    #[error("the topic was deleted")]
    Deleted,
    #[error("the broker is stopping")]
    Stopping,
    /// See `limits::WAITERS_PER_PARTITION_MAX`.
    #[error("too many requests wait for this partition")]
    TooManyWaiters,
}

impl From<storage::Error> for PartitionError {
    fn from(e: storage::Error) -> Self {
        match e {
            storage::Error::OffsetOutOfRange { offset, start, end } => {
                PartitionError::OffsetOutOfRange { offset, start, end }
            }
            storage::Error::Corrupt { offset, .. } => PartitionError::Corrupt { offset },
            storage::Error::Batch(e) => PartitionError::Batch(e),
            // Closed under our hands: the caller opens it again.
            storage::Error::Closed => PartitionError::NotOpen,
            e @ storage::Error::NoSpace { .. } => PartitionError::DiskFull(e.to_string().into()),
            e => PartitionError::Storage(e.to_string().into()),
        }
    }
}

/// What appends leave to be done once no lock is held, gathered over one request: tasks to wake, partitions to flush. Dropping it does it.
#[derive(Debug, Default)]
pub struct Effects {
    wakers: Wakers,
    dirty: Vec<Arc<Partition>>,
}

impl Drop for Effects {
    fn drop(&mut self) {
        if let Some(first) = self.dirty.first() {
            let shared = first.shared.clone();
            shared.flusher.mark(std::mem::take(&mut self.dirty));
        }
        self.wakers.wake();
    }
}

/// The offsets a client may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: i64,
    /// Equal to the watermark while there are no transactions.
    pub last_stable: i64,
    pub high_watermark: i64,
    pub log_end: i64,
}

/// Records appended and not yet durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Undurable {
    pub records: u64,
    pub bytes: u64,
    /// When the oldest of them was appended, wall clock in ms; `None` without any, or where the append clock does not reach.
    pub since_ms: Option<i64>,
}

/// One read of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    pub offset: i64,
    pub bytes_max: usize,
    /// Give the first batch however large it is.
    pub at_least_one: bool,
    /// -1 = not given.
    pub current_leader_epoch: i32,
    /// -1 = not given.
    pub last_fetched_epoch: i32,
}

/// What a read gives.
#[derive(Debug)]
pub struct Read {
    pub offsets: Offsets,
    pub slice: Option<Slice>,
    /// The reader's log parted from ours: largest epoch of ours that is not above the reader's, and its end.
    pub diverging: Option<(i32, i64)>,
}

impl Partition {
    /// A cold partition as the metadata has it. No I/O.
    pub fn new(shared: Arc<Shared>, topic: Arc<TopicState>, index: i32, facts: &PartitionFacts) -> Arc<Partition> {
        let partition = Partition {
            shared,
            topic,
            index,
            leader: AtomicI32::new(-1),
            leader_epoch: AtomicI32::new(-1),
            isr_count: AtomicI32::new(0),
            replica_count: AtomicI32::new(0),
            high_watermark: AtomicI64::new(0),
            reader: ArcSwapOption::empty(),
            state: Mutex::new(Phase::Cold),
            waiters: Waiters::default(),
            clock: Mutex::default(),
            queued: AtomicBool::new(false),
            background: AtomicU32::new(0),
            snapshot_due: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            used_ms: AtomicI64::new(0),
        };
        partition.store_facts(facts);
        Arc::new(partition)
    }

    /// Its name for ever.
    pub fn id(&self) -> PartitionId {
        PartitionId { topic_id: self.topic.id.into_bytes(), partition: self.index }
    }
    /// Its topic.
    pub fn topic(&self) -> &Arc<TopicState> {
        &self.topic
    }
    /// Its number within the topic.
    pub fn index(&self) -> i32 {
        self.index
    }
    /// Whether its topic is gone.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }
    /// Whether its log is open now.
    pub fn is_open(&self) -> bool {
        self.reader.load().is_some()
    }
    /// The log's reader, where it is open now.
    pub fn reader(&self) -> Option<Arc<LogReader>> {
        self.reader.load_full()
    }
    /// Node id of the leader (-1 = none) and its epoch.
    pub fn leader(&self) -> (i32, i32) {
        (self.leader.load(Ordering::Acquire), self.leader_epoch.load(Ordering::Acquire))
    }
    /// Where it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
    /// What waits for it.
    pub fn waiters(&self) -> &Waiters {
        &self.waiters
    }
    /// Bytes of its segments.
    pub fn size_bytes(&self) -> u64 {
        match &*self.reader.load() {
            Some(reader) => reader.size_bytes(),
            None => self.stat().size_bytes,
        }
    }

    /// How many segments its log has; `None` while it is cold.
    pub fn segments(&self) -> Option<usize> {
        self.reader.load().as_ref().map(|reader| reader.segments())
    }

    /// When the first record at or after `offset` was appended by this broker, wall clock in ms; `None` where the append clock does not reach (see [`clock`] for its resolution) and
    /// where there is no such record.
    pub fn appended_ms(&self, offset: i64) -> Option<i64> {
        self.clock().appended_ms(offset)
    }

    /// Frees the append clock if nothing was appended after `since_ms`.
    pub fn rest_clock(&self, since_ms: i64) {
        let mut clock = self.clock();
        if clock.last_ms().is_some_and(|last_ms| last_ms <= since_ms) {
            clock.clear();
        }
    }

    fn clock(&self) -> MutexGuard<'_, AppendClock> {
        self.clock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What this broker appended and what is not durable yet: records and bytes. Nothing while the log is closed.
    pub fn undurable(&self) -> Undurable {
        let guard = self.reader.load();
        let Some(reader) = &*guard else { return Undurable::default() };
        let durable_end = reader.durable_end();
        let records = u64::try_from(reader.log_end() - durable_end).unwrap_or(0);
        if records == 0 {
            return Undurable::default();
        }
        Undurable { records, bytes: reader.dirty_bytes(), since_ms: self.appended_ms(durable_end) }
    }

    /// Records were given to a fetcher.
    pub fn note_fetched(&self, bytes: u64, records: u64) {
        if self.shared.figures && bytes > 0 {
            self.shared.active.fetched(&self.topic, bytes, records);
        }
    }

    /// Follows the metadata.
    pub fn set_facts(&self, facts: &PartitionFacts) {
        self.store_facts(facts);
        self.waiters.moved(&mut Wakers::default());
    }

    fn store_facts(&self, facts: &PartitionFacts) {
        self.isr_count.store(facts.isr.len() as i32, Ordering::Release);
        self.replica_count.store(facts.replicas.len() as i32, Ordering::Release);
        self.leader_epoch.store(facts.leader_epoch, Ordering::Release);
        self.leader.store(facts.leader, Ordering::Release);
    }

    /// The topic's settings changed: the log follows.
    pub fn settings_changed(self: &Arc<Self>) {
        let settings = self.topic.settings.load_full();
        let unflushed = match &mut *self.lock() {
            Phase::Open(open) => {
                open.log.set_config(settings.log_of(self.id().topic_id, self.index));
                open.log.reader().dirty_bytes() > 0
            }
            _ => false,
        };
        // What was relaxed and is durable now wants its flush, what was durable and is relaxed now is visible and has a time to be flushed.
        let mut effects = Effects::default();
        if unflushed && settings.durable {
            effects.dirty.push(self.clone());
        } else if unflushed {
            self.shared.flusher.remark_relaxed(self, flusher::period_ms(&settings));
        }
        self.settle(&mut effects.wakers);
    }

    /// Refuses when this broker does not lead the partition, or the client's idea of the epoch (-1 = none) is not ours.
    pub fn check_leader(&self, given: i32) -> Result<(), PartitionError> {
        if self.is_deleted() {
            return Err(PartitionError::Deleted);
        }
        let (leader, current) = self.leader();
        if given >= 0 && given < current {
            return Err(PartitionError::FencedLeaderEpoch { given, current });
        }
        if given > current {
            return Err(PartitionError::UnknownLeaderEpoch { given, current });
        }
        if leader != self.shared.node_id {
            return Err(PartitionError::NotLeader { leader, epoch: current });
        }
        Ok(())
    }

    /// Offsets now; from the catalogue while cold. `NotOpen` when the log has to be recovered first.
    pub fn offsets(&self) -> Result<Offsets, PartitionError> {
        // In this order: a watermark read later could pass the end read before.
        let reader = self.reader.load();
        if let Some(reader) = &*reader {
            let high_watermark = self.high_watermark.load(Ordering::Acquire);
            return Ok(Offsets {
                log_start: reader.log_start(),
                last_stable: high_watermark,
                high_watermark,
                log_end: reader.log_end(),
            });
        }
        let stat = self.stat();
        // One that went offline was not closed: its figures tell of records that may not be durable. Opening says why.
        if stat.needs_recovery || self.failed.load(Ordering::Acquire) {
            return Err(PartitionError::NotOpen);
        }
        // Closed means flushed: all of it is settled.
        let end = stat.log_end;
        Ok(Offsets { log_start: stat.log_start, last_stable: end, high_watermark: end, log_end: end })
    }

    /// Leader epoch that `offset` was written under; -1 when it is not known without opening the log, or there is no such record.
    pub fn epoch_of(&self, offset: i64) -> i32 {
        self.reader.load().as_ref().and_then(|reader| reader.epoch_of(offset)).unwrap_or(-1)
    }

    /// Reads for a consumer: whole batches from the one that holds the offset, below the watermark. `NotOpen` when the log is needed and cold.
    pub fn read(&self, query: &Query) -> Result<Read, PartitionError> {
        self.check_leader(query.current_leader_epoch)?;
        let guard = self.reader.load();
        let Some(reader) = &*guard else { return self.read_cold(query) };
        self.touch(self.shared.env.now_ms());
        let offsets = self.offsets()?;
        if query.last_fetched_epoch >= 0 {
            match self.end_of_epoch(reader, query.last_fetched_epoch) {
                Some((epoch, end)) if epoch < query.last_fetched_epoch || end < query.offset => {
                    return Ok(Read { offsets, slice: None, diverging: Some((epoch, end)) });
                }
                Some(_) => {}
                // As in Kafka: there is nothing the reader could truncate to.
                None => {
                    let (offset, start, end) = (query.offset, offsets.log_start, offsets.log_end);
                    return Err(PartitionError::OffsetOutOfRange { offset, start, end });
                }
            }
        }
        let (offset, start, end) = (query.offset, offsets.log_start, offsets.log_end);
        if offset < start || offset > end {
            return Err(PartitionError::OffsetOutOfRange { offset, start, end });
        }
        if offset >= offsets.high_watermark {
            return Ok(Read { offsets, slice: None, diverging: None });
        }
        let slice = reader.read(offset, query.bytes_max, offsets.high_watermark, query.at_least_one)?;
        Ok(Read { offsets, slice, diverging: None })
    }

    /// KIP-101: the largest epoch ≤ `epoch` and the offset at which it ends; `None` for an epoch that never was. As in Kafka a leader's own epoch is known before
    /// its first record.
    pub fn end_of_epoch(&self, reader: &LogReader, epoch: i32) -> Option<(i32, i64)> {
        let (latest, leader_epoch) = (reader.latest_epoch(), self.leader().1);
        if epoch > latest && (0..=leader_epoch).contains(&epoch) {
            // Nothing was written after the latest epoch.
            let known = if epoch == leader_epoch || latest < 0 { epoch } else { latest };
            return Some((known, reader.log_end()));
        }
        reader.end_of_epoch(epoch)
    }

    /// A poll at the end of a cold log needs no log.
    fn read_cold(&self, query: &Query) -> Result<Read, PartitionError> {
        let offsets = self.offsets()?;
        let at_end = query.offset == offsets.log_end && query.last_fetched_epoch < 0;
        if at_end {
            return Ok(Read { offsets, slice: None, diverging: None });
        }
        Err(PartitionError::NotOpen)
    }

    /// What the catalogue knows of it.
    fn stat(&self) -> LogStat {
        let empty = LogStat { latest_epoch: -1, expires_ms: i64::MAX, ..LogStat::default() };
        self.shared.directory.stat(self.id()).unwrap_or(empty)
    }

    /// Where this replica's settled end lies (design §5).
    fn settled_end(&self, reader: &LogReader) -> i64 {
        if self.topic.settings.load().durable { reader.durable_end() } else { reader.log_end() }
    }

    /// Moves the watermark to what is settled now and ends what waited for it. Called after every append that is settled at once and after every
    /// flush round; holds no lock but the waiters' own.
    fn settle(&self, wakers: &mut Wakers) {
        let guard = self.reader.load();
        let Some(reader) = &*guard else { return };
        if !self.failed.load(Ordering::Acquire) {
            let settled = self.settled_end(reader);
            if self.high_watermark.fetch_max(settled, Ordering::AcqRel) < settled {
                self.waiters.reached(Goal::Watermark, settled, wakers);
                self.waiters.moved(wakers);
            }
        }
        self.waiters.reached(Goal::Durable, reader.durable_end(), wakers);
    }

    /// A flush failed: nothing parked here will be acknowledged.
    fn fail(&self, wakers: &mut Wakers) {
        self.failed.store(true, Ordering::Release);
        self.waiters.fail(wakers);
    }

    /// Whether `goal` has reached `offset`.
    pub fn has_reached(&self, goal: Goal, offset: i64) -> bool {
        self.goal_now(goal).is_some_and(|now| now >= offset)
    }

    /// Where `goal` stands; `None` when it will not move any more.
    fn goal_now(&self, goal: Goal) -> Option<i64> {
        if self.failed.load(Ordering::Acquire) || self.is_deleted() {
            return None;
        }
        Some(match goal {
            Goal::Watermark => self.high_watermark.load(Ordering::Acquire),
            // Closed means flushed.
            Goal::Durable => self.reader.load().as_ref().map_or(i64::MAX, |r| r.durable_end()),
        })
    }

    /// Parks slot `slot` of `acks` until `goal` reaches `offset`.
    pub fn park(&self, goal: Goal, offset: i64, slot: u32, acks: &Arc<waiters::Acks>) -> Result<(), PartitionError> {
        self.waiters.park(goal, offset, slot, acks, || self.goal_now(goal)).map_err(|_| PartitionError::TooManyWaiters)
    }

    /// DeleteRecords: moves the log start to `offset`, -1 = the watermark; gives the log start. The log must be open. Blocks.
    pub fn delete_records(&self, offset: i64) -> Result<i64, PartitionError> {
        self.check_leader(-1)?;
        let high_watermark = self.high_watermark.load(Ordering::Acquire);
        let offset = if offset == -1 { high_watermark } else { offset };
        let start = match &mut *self.lock() {
            Phase::Open(open) => {
                let (start, end) = (open.log.reader().log_start(), high_watermark);
                if offset < 0 || offset > high_watermark {
                    return Err(PartitionError::OffsetOutOfRange { offset, start, end });
                }
                open.log.delete_records(offset, high_watermark, self.shared.env.now_ms())?
            }
            other => return Err(other.refusal()),
        };
        self.note_change();
        self.sweep_later();
        self.waiters.moved(&mut Wakers::default());
        Ok(start)
    }

    /// The producers remembered, by id. The log must be open.
    pub fn active_producers(&self) -> Result<Vec<producers::Active>, PartitionError> {
        match &*self.lock() {
            Phase::Open(open) => Ok(open.producers.active()),
            other => Err(other.refusal()),
        }
    }

    fn note_change(&self) {
        if !self.shared.catalogue_stale.load(Ordering::Relaxed) {
            self.shared.catalogue_stale.store(true, Ordering::Relaxed);
        }
    }

    /// The one lock. A panic under it has left the log or the producers half changed: the partition goes offline.
    fn lock(&self) -> MutexGuard<'_, Phase> {
        match self.state.lock() {
            Ok(guard) => guard,
            Err(poisoned) => {
                self.state.clear_poison();
                let mut guard = poisoned.into_inner();
                if !matches!(*guard, Phase::Offline(_)) {
                    tracing::error!(topic = %self.topic.name, partition = self.index, "a panic under its lock takes the partition offline");
                    self.shared.metrics.partitions_offline.increment(1.0);
                    // Before the reader goes: without one, offsets are told unless it failed.
                    self.fail(&mut Wakers::default());
                    self.publish_reader(None);
                    *guard = Phase::Offline("a panic took the partition offline until a restart".into());
                }
                guard
            }
        }
    }
}

impl Open {
    /// Whether a close would find nothing to flush.
    fn is_durable(&self) -> bool {
        let reader = self.log.reader();
        reader.dirty_bytes() == 0 && reader.durable_end() >= reader.log_end()
    }
}

impl Phase {
    /// Why nothing can be done with the log in this phase.
    fn refusal(&self) -> PartitionError {
        match self {
            Phase::Open(_) | Phase::Cold | Phase::Busy(_) => PartitionError::NotOpen,
            Phase::Offline(reason) => PartitionError::Storage(reason.clone()),
            Phase::Deleted => PartitionError::Deleted,
            Phase::Stopped => PartitionError::Stopping,
        }
    }
}
