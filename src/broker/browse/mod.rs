//! Records for the eyes of a person: a page of them, one of them, or as they come.
//!
//! Belongs here: finding, unpacking and cutting records; filters; cursors. Must not: know how they are shown (`admin`). Only what lies below the watermark is seen; control
//! records never.
//!
//! Everything here is bounded: what a page holds in records and bytes, what it looks at before it stops (its cursor goes on from there), how many look at once, what one batch
//! unpacks to. The work is done where blocking is allowed: records may be off memory, and unpacking takes time.

mod cursor;
mod newest;
mod tail;
mod walk;

pub use cursor::Cursor;
pub use tail::{Tail, TailFrom, Told};
pub use walk::Hole;

use super::{Broker, opening::Opening, partitions::TopicEntry};
use crate::{
    Env,
    limits::{
        BROWSE_ANSWER_BYTES_MAX, BROWSE_HEADERS_MAX, BROWSE_HOLES_MAX, BROWSE_PARTITIONS_MAX, BROWSE_PAYLOAD_BYTES_MAX,
        BROWSE_RECORDS_MAX, BROWSE_SCAN_BYTES_MAX, BROWSES_MAX, TAIL_TURNS_MAX, UNPACKED_BATCH_BYTES_MAX,
    },
    partition::{Partition, PartitionError},
    wire::codec,
};
use bytes::Bytes;
use memchr::memmem::Finder;
use std::sync::Arc;
use tokio::sync::Semaphore;
use walk::{Unpacked, Visit, Visited, Walk};

/// What all looks at records of a broker share.
#[derive(Debug)]
pub struct Browse {
    /// [`BROWSES_MAX`] permits.
    looking: Arc<Semaphore>,
    /// [`TAIL_TURNS_MAX`] permits: pages that take long do not hold up tails.
    following: Arc<Semaphore>,
    /// A permit for each tail there may be.
    tails: Arc<Semaphore>,
    unpacked: Arc<Unpacked>,
}

impl Browse {
    /// With room for so many tails.
    pub(super) fn new(tails_max: usize) -> Browse {
        Browse {
            looking: Arc::new(Semaphore::new(BROWSES_MAX)),
            following: Arc::new(Semaphore::new(TAIL_TURNS_MAX)),
            tails: Arc::new(Semaphore::new(tails_max)),
            unpacked: Arc::default(),
        }
    }

    /// Runs `work` where blocking is allowed, [`BROWSES_MAX`] at once.
    async fn turn<T: Send + 'static>(&self, env: &Env, work: impl FnOnce(&Unpacked) -> T + Send + 'static) -> T {
        self.with(&self.looking, env, work).await
    }

    /// The same for tails, [`TAIL_TURNS_MAX`] at once.
    async fn tail_turn<T: Send + 'static>(&self, env: &Env, work: impl FnOnce(&Unpacked) -> T + Send + 'static) -> T {
        self.with(&self.following, env, work).await
    }

    async fn with<T: Send + 'static>(
        &self,
        permits: &Arc<Semaphore>,
        env: &Env,
        work: impl FnOnce(&Unpacked) -> T + Send + 'static,
    ) -> T {
        let permit = permits.clone().acquire_owned().await;
        let unpacked = self.unpacked.clone();
        env.blocking(move || {
            // Held by the work: it goes on when nobody waits for it any more.
            let _permit = permit;
            work(&unpacked)
        })
        .await
    }
}

/// Why there is nothing to be shown.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// The topic has fewer.
    #[error("the topic has {count} partitions, from 0 on: there is no partition {partition}")]
    UnknownPartition { partition: i32, count: usize },
    /// Above the watermark.
    #[error(
        "offset {offset} is beyond the end: partition {partition} has records {start} to {end}, the latter excluded"
    )]
    Beyond { partition: i32, offset: i64, start: i64, end: i64 },
    /// There is no such record, or none any more.
    #[error("partition {partition} has no record at offset {offset}: {reason}")]
    NoRecord { partition: i32, offset: i64, reason: String },
    /// See [`BROWSE_PARTITIONS_MAX`].
    #[error("{count} partitions cannot be merged, at most {BROWSE_PARTITIONS_MAX}: name one")]
    TooManyPartitions { count: usize },
    /// See [`crate::limits::HTTP_TAILS_MAX`].
    #[error("too many follow topics already: try again later")]
    TooManyTails,
    #[error("{0}")]
    Cursor(&'static str),
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

/// Where partitions are read from, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record there is.
    Earliest,
    /// This offset, or the first record where that is later.
    Offset(i64),
    /// The first record whose timestamp is this or later.
    TimeMs(i64),
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Partition by partition, each oldest first.
    From(Start),
    /// Newest first, over all partitions by timestamp; within a partition always by offset.
    Newest,
    /// Behind another page.
    Cursor(Cursor),
}

/// Which records are wanted; all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The key is exactly this.
    pub key: Option<Vec<u8>>,
    /// Key, value, a header's key or its value holds this.
    pub contains: Option<Vec<u8>>,
}

impl Filter {
    fn compile(&self) -> Compiled<'_> {
        Compiled { key: self.key.as_deref(), contains: self.contains.as_deref().map(Finder::new) }
    }
}

/// A [`Filter`] ready to be used many times.
#[derive(Debug)]
struct Compiled<'a> {
    key: Option<&'a [u8]>,
    contains: Option<Finder<'a>>,
}

impl Compiled<'_> {
    fn wants(&self, visited: &Visited<'_>) -> bool {
        let record = &visited.record;
        let holds = |finder: &Finder<'_>, bytes: Option<&[u8]>| bytes.is_some_and(|b| finder.find(b).is_some());
        self.key.is_none_or(|key| record.key == Some(key))
            && self.contains.as_ref().is_none_or(|finder| {
                holds(finder, record.key)
                    || holds(finder, record.value)
                    || record.headers().any(|(key, value)| holds(finder, Some(key)) || holds(finder, value))
            })
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The topic.
    pub topic: Arc<TopicEntry>,
    /// One partition of it; `None` = all.
    pub partition: Option<i32>,
    /// Where to begin.
    pub place: Place,
    /// Records at most; [`BROWSE_RECORDS_MAX`] at most.
    pub limit: usize,
    /// Which.
    pub filter: Filter,
}

/// Bytes, or the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// These.
    pub bytes: Bytes,
    /// How many there are in all.
    pub size_bytes: usize,
}

impl Cut {
    fn new(bytes: &[u8], bytes_max: usize) -> Cut {
        Cut { bytes: Bytes::copy_from_slice(&bytes[..bytes.len().min(bytes_max)]), size_bytes: bytes.len() }
    }
}

/// A record, its payloads cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub partition: i32,
    /// Where it lies.
    pub offset: i64,
    /// -1 = none.
    pub timestamp_ms: i64,
    /// The timestamp is that of the append.
    pub append_time: bool,
    /// Its key.
    pub key: Option<Cut>,
    /// Its value.
    pub value: Option<Cut>,
    /// Its first headers: key and value.
    pub headers: Vec<(Cut, Option<Cut>)>,
    /// How many headers there are in all.
    pub header_count: usize,
}

impl Found {
    fn new(partition: i32, visited: &Visited<'_>, bytes_max: usize) -> Found {
        let record = &visited.record;
        let cut = |bytes| Cut::new(bytes, bytes_max);
        // All headers together have as much room as the value.
        let mut left = bytes_max;
        let mut headers = Vec::new();
        for (key, value) in record.headers().take(BROWSE_HEADERS_MAX) {
            let key = Cut::new(key, left);
            left -= key.bytes.len();
            let value = value.map(|value| Cut::new(value, left));
            left -= value.as_ref().map_or(0, |v| v.bytes.len());
            headers.push((key, value));
        }
        Found {
            partition,
            offset: visited.offset(),
            timestamp_ms: visited.timestamp_ms(),
            append_time: visited.batch.is_log_append_time(),
            key: record.key.map(cut),
            value: record.value.map(cut),
            headers,
            header_count: record.header_count(),
        }
    }
}

/// Bytes that a record takes in an answer, its payloads cut to `bytes_max`.
fn shown_bytes(visited: &Visited<'_>, bytes_max: usize) -> usize {
    let record = &visited.record;
    let cut = |bytes: Option<&[u8]>| bytes.map_or(0, |b| b.len().min(bytes_max));
    let headers: usize = record
        .headers()
        .take(BROWSE_HEADERS_MAX)
        .map(|(key, value)| 32 + key.len() + value.map_or(0, <[u8]>::len))
        .sum();
    128 + cut(record.key) + cut(record.value) + headers.min(bytes_max + 32 * BROWSE_HEADERS_MAX)
}

/// Records found.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The records.
    pub records: Vec<Found>,
    /// What could not be shown.
    pub holes: Vec<Hole>,
    /// Where to go on; `None` = everything was seen.
    pub next: Option<Cursor>,
    /// Where what comes after this page was made begins; only on the first page, newest first.
    pub live: Option<Cursor>,
}

impl Broker {
    /// A page of records. Waits for logs to be opened, `OPENING_WAIT_MS_MAX` in all.
    pub async fn browse(self: &Arc<Self>, ask: Ask) -> Result<Page, BrowseError> {
        let count = ask.topic.partitions.len();
        if let Some(partition) = ask.partition
            && ask.topic.partition(partition).is_none()
        {
            return Err(BrowseError::UnknownPartition { partition, count });
        }
        let limit = ask.limit.clamp(1, BROWSE_RECORDS_MAX);
        let (partition, only) = (ask.partition.unwrap_or(0), ask.partition.is_some());
        match ask.place {
            Place::From(start) => {
                if let (Some(partition), Start::Offset(offset)) = (ask.partition, start) {
                    self.check_beyond(&ask.topic, partition, offset).await?;
                }
                self.forward(&ask.topic, Forward::new(partition, None, only, start), limit, ask.filter).await
            }
            Place::Cursor(Cursor::Forward { partition, offset, only, start }) => {
                self.forward(&ask.topic, Forward::new(partition, offset, only, start), limit, ask.filter).await
            }
            Place::Newest => {
                let partitions = if only { 1 } else { count };
                self.newest(&ask.topic, partition, partitions, None, limit, ask.filter).await
            }
            Place::Cursor(Cursor::Back { first, ends }) => {
                self.newest(&ask.topic, first, ends.len(), Some(ends), limit, ask.filter).await
            }
            Place::Cursor(Cursor::Live { .. }) => Err(BrowseError::Cursor("this cursor is one of a tail")),
        }
    }

    /// The record at one offset, its payloads cut at `bytes_max`.
    pub async fn record(
        self: &Arc<Self>,
        topic: &Arc<TopicEntry>,
        partition: i32,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Found, BrowseError> {
        let count = topic.partitions.len();
        let found = topic.partition(partition).ok_or(BrowseError::UnknownPartition { partition, count })?.clone();
        let none = |reason: String| BrowseError::NoRecord { partition, offset, reason };
        let offsets = opened(&mut Opening::new(&self.opening_bytes, 0), &found, Partition::offsets).await?;
        let (start, end) = (offsets.log_start, offsets.high_watermark);
        if offset < start || offset >= end {
            return Err(none(format!("it has {start} to {end}, the latter excluded")));
        }
        let mut wait = Opening::new(&self.opening_bytes, 0);
        loop {
            let on = found.clone();
            let (met, holes) = self
                .browse
                .turn(&self.env, move |unpacked| {
                    let (mut met, mut holes, mut budget) = (None, Vec::new(), usize::MAX);
                    let mut walk = Walk { unpacked, budget_bytes: &mut budget, holes: &mut holes };
                    let walked = walk.run(&on, offset, offset + 1, |visited| {
                        met = Some(Found::new(on.index(), &visited, bytes_max));
                        Visit::Last
                    });
                    (walked.map(|_| met), holes)
                })
                .await;
            match met {
                Ok(Some(record)) => return Ok(record),
                Ok(None) => {
                    let hole = holes.into_iter().next().map(|hole| hole.reason);
                    return Err(none(hole.unwrap_or_else(|| "it was compacted away, or is a control record".into())));
                }
                Err(PartitionError::NotOpen) => wait.wait(found.open()).await?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn check_beyond(&self, topic: &TopicEntry, partition: i32, offset: i64) -> Result<(), BrowseError> {
        let Some(found) = topic.partition(partition) else { return Ok(()) };
        let offsets = opened(&mut Opening::new(&self.opening_bytes, 0), found, Partition::offsets).await?;
        let (start, end) = (offsets.log_start, offsets.high_watermark);
        if offset > end { Err(BrowseError::Beyond { partition, offset, start, end }) } else { Ok(()) }
    }

    async fn forward(
        &self,
        topic: &Arc<TopicEntry>,
        mut forward: Forward,
        limit: usize,
        filter: Filter,
    ) -> Result<Page, BrowseError> {
        let mut wait = Opening::new(&self.opening_bytes, 0);
        let filter = Arc::new(filter);
        loop {
            let (topic, filter) = (topic.clone(), filter.clone());
            let (after, step) = self
                .browse
                .turn(&self.env, move |unpacked| {
                    let step = forward.run(&topic.partitions, unpacked, &filter.compile(), limit);
                    (forward, step)
                })
                .await;
            forward = after;
            match step? {
                Step::Done => return Ok(forward.page()),
                Step::Open(partition) => {
                    if let Err(e) = wait.wait(partition.open()).await {
                        forward.failed(&partition, e)?;
                    }
                }
            }
        }
    }
}

/// Asks a partition, opening its log first where that is needed.
async fn opened<T>(
    wait: &mut Opening<'_>,
    partition: &Arc<Partition>,
    ask: impl Fn(&Partition) -> Result<T, PartitionError>,
) -> Result<T, PartitionError> {
    loop {
        match ask(partition) {
            Err(PartitionError::NotOpen) => wait.wait(partition.open()).await?,
            answer => return answer,
        }
    }
}

/// How a turn where blocking is allowed ends.
#[derive(Debug)]
enum Step {
    Done,
    /// This one's log is to be opened, then again.
    Open(Arc<Partition>),
}

/// Partition by partition, oldest first.
#[derive(Debug)]
struct Forward {
    partition: i32,
    /// `None` = where `start` says.
    offset: Option<i64>,
    only: bool,
    start: Start,
    page: Page,
    shown_bytes: usize,
    budget_bytes: usize,
    ended: bool,
}

impl Forward {
    fn new(partition: i32, offset: Option<i64>, only: bool, start: Start) -> Forward {
        let budget_bytes = BROWSE_SCAN_BYTES_MAX;
        Forward { partition, offset, only, start, page: Page::default(), shown_bytes: 0, budget_bytes, ended: false }
    }

    fn run(
        &mut self,
        partitions: &[Arc<Partition>],
        unpacked: &Unpacked,
        filter: &Compiled<'_>,
        limit: usize,
    ) -> Result<Step, BrowseError> {
        while let Some(partition) = partitions.get(self.partition as usize) {
            match self.one(partition, unpacked, filter, limit) {
                Ok(true) => {
                    if !self.next_partition() {
                        return Ok(Step::Done);
                    }
                }
                // Full, or tired: the cursor goes on here.
                Ok(false) => return Ok(Step::Done),
                Err(PartitionError::NotOpen) => return Ok(Step::Open(partition.clone())),
                Err(e) => {
                    self.failed(partition, e)?;
                    if self.ended {
                        return Ok(Step::Done);
                    }
                }
            }
        }
        self.ended = true;
        Ok(Step::Done)
    }

    /// Whether the partition was seen to its end.
    fn one(
        &mut self,
        partition: &Partition,
        unpacked: &Unpacked,
        filter: &Compiled<'_>,
        limit: usize,
    ) -> Result<bool, PartitionError> {
        let offsets = partition.offsets()?;
        let (log_start, end) = (offsets.log_start, offsets.high_watermark);
        let from = match (self.offset, self.start) {
            (Some(offset), _) | (None, Start::Offset(offset)) => offset.max(log_start),
            (None, Start::Earliest) => log_start,
            (None, Start::TimeMs(_)) if log_start >= end => end,
            (None, Start::TimeMs(ms)) => {
                let reader = partition.reader().ok_or(PartitionError::NotOpen)?;
                let unpack = |codec, bytes: &[u8]| codec::unpack(codec, bytes, UNPACKED_BATCH_BYTES_MAX);
                reader.offset_for_timestamp(ms, end, Some(&unpack))?.map_or(end, |(_, offset, _)| offset)
            }
        };
        self.offset = Some(from);
        // So that a topic of very many empty partitions ends as well.
        self.budget_bytes = self.budget_bytes.saturating_sub(256);
        if from >= end {
            return Ok(true);
        }
        if self.page.records.len() >= limit || self.budget_bytes == 0 {
            return Ok(false);
        }
        let (page, shown) = (&mut self.page, &mut self.shown_bytes);
        let mut full = false;
        let mut walk = Walk { unpacked, budget_bytes: &mut self.budget_bytes, holes: &mut page.holes };
        let index = partition.index();
        let records = &mut page.records;
        let next = walk.run(partition, from, end, |visited| {
            if !filter.wants(&visited) {
                return Visit::On;
            }
            *shown += shown_bytes(&visited, BROWSE_PAYLOAD_BYTES_MAX);
            if *shown > BROWSE_ANSWER_BYTES_MAX && !records.is_empty() {
                full = true;
                return Visit::Before;
            }
            records.push(Found::new(index, &visited, BROWSE_PAYLOAD_BYTES_MAX));
            full = records.len() >= limit;
            if full { Visit::Last } else { Visit::On }
        })?;
        self.offset = Some(next);
        Ok(next >= end)
    }

    /// False behind the last one.
    fn next_partition(&mut self) -> bool {
        self.ended = self.only;
        if !self.ended {
            (self.partition, self.offset) = (self.partition + 1, None);
        }
        !self.ended
    }

    /// One of several that cannot be read is passed over, and named.
    fn failed(&mut self, partition: &Partition, error: PartitionError) -> Result<(), BrowseError> {
        if self.only || matches!(error, PartitionError::Deleted | PartitionError::Stopping) {
            return Err(error.into());
        }
        let offset = self.offset.unwrap_or(0);
        if self.page.holes.len() < BROWSE_HOLES_MAX {
            let reason = error.to_string();
            self.page.holes.push(Hole { partition: partition.index(), offset, next_offset: offset, reason });
        }
        self.next_partition();
        Ok(())
    }

    fn page(self) -> Page {
        let Forward { partition, offset, only, start, mut page, ended, .. } = self;
        page.next = (!ended).then_some(Cursor::Forward { partition, offset, only, start });
        page
    }
}
