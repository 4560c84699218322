//! Records as they come.
//!
//! A tail waits as a fetch does: registered with each partition it is up to date with, told by the append that moves one. It reads when it is asked for more, a chunk at a time; one that
//! is not asked (its reader takes nothing) holds that chunk, and each partition strikes it off its list the first time it moves: it costs a producer nothing after that.

use super::{Browse, BrowseError, Cursor, Filter, Found, Hole, Start, Visit, Walk, opened, shown_bytes};
use crate::{
    broker::{Broker, opening::Opening, partitions::TopicEntry},
    limits::{BROWSE_PARTITIONS_MAX, BROWSE_PAYLOAD_BYTES_MAX, TAIL_CHUNK_BYTES, TAIL_IDLE_MS, TAIL_SCAN_BYTES},
    partition::{
        Partition, PartitionError,
        waiters::{ReadyList, Watcher},
    },
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// Where a tail begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailFrom {
    /// What comes from now on.
    Latest,
    /// As a page does.
    Start(Start),
    /// Behind what was seen before.
    Cursor(Cursor),
}

/// What a tail tells.
#[derive(Debug)]
pub enum Told {
    /// A record.
    Record(Found),
    /// Records that will not come.
    Hole(Hole),
    /// Nothing for a while, or nothing that was wanted.
    Idle,
    /// The end, and why.
    End(String),
}

/// One who follows a topic.
#[derive(Debug)]
pub struct Tail {
    broker: Arc<Broker>,
    topic: Arc<TopicEntry>,
    /// The first of the partitions followed.
    first: i32,
    /// Partitions that are created later are followed as well.
    all: bool,
    /// Offset wanted next of each, as far as it was told.
    next: Vec<i64>,
    watchers: Vec<Arc<Watcher>>,
    ready: Arc<ReadyList>,
    /// Slots that may have more.
    behind: VecDeque<usize>,
    filter: Arc<Filter>,
    /// Read and not told yet; of one partition.
    pending: VecDeque<Told>,
    /// Where the partition of `pending` stands after it.
    after: Option<(usize, i64)>,
    told: Instant,
    ended: bool,
    /// One of the tails allowed at once.
    _permit: OwnedSemaphorePermit,
}

impl Browse {
    /// A permit for one tail, if there is one left.
    fn tail(&self) -> Option<OwnedSemaphorePermit> {
        self.tails.clone().try_acquire_owned().ok()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        for (partition, watcher) in self.partitions().iter().zip(&self.watchers) {
            partition.waiters().unwatch(watcher);
        }
    }
}

impl Tail {
    /// Begins to follow `partition`, or all of the topic.
    pub async fn begin(
        broker: &Arc<Broker>,
        topic: Arc<TopicEntry>,
        partition: Option<i32>,
        from: TailFrom,
        filter: Filter,
    ) -> Result<Tail, BrowseError> {
        let count = topic.partitions.len();
        if let Some(partition) = partition
            && topic.partition(partition).is_none()
        {
            return Err(BrowseError::UnknownPartition { partition, count });
        }
        let (first, next) = match from {
            TailFrom::Cursor(Cursor::Live { first, next }) => (first, next),
            TailFrom::Cursor(_) => return Err(BrowseError::Cursor("this cursor is one of a page, not of a tail")),
            from => {
                let wanted =
                    partition.map_or(&topic.partitions[..], |p| std::slice::from_ref(&topic.partitions[p as usize]));
                if wanted.len() > BROWSE_PARTITIONS_MAX {
                    return Err(BrowseError::TooManyPartitions { count });
                }
                let mut opening = Opening::new(&broker.opening_bytes, 0);
                let mut next = Vec::with_capacity(wanted.len());
                for found in wanted {
                    next.push(position(&mut opening, found, &from).await?);
                }
                (partition.unwrap_or(0), next)
            }
        };
        // One of all partitions begins at the first and has all there were.
        let all = partition.is_none() && first == 0 && (count == 1 || next.len() > 1);
        let permit = broker.browse.tail().ok_or(BrowseError::TooManyTails)?;
        let mut tail = Tail {
            broker: broker.clone(),
            topic,
            first,
            all,
            watchers: Vec::new(),
            ready: ReadyList::new(),
            behind: (0..next.len()).collect(),
            next,
            filter: Arc::new(filter),
            pending: VecDeque::new(),
            after: None,
            told: Instant::now(),
            ended: false,
            _permit: permit,
        };
        tail.add_watchers();
        tail.grow();
        Ok(tail)
    }

    fn partitions(&self) -> &[Arc<Partition>] {
        let first = self.first as usize;
        self.topic.partitions.get(first..first + self.next.len()).unwrap_or_default()
    }

    /// Where to begin in order to see what was not told yet.
    pub fn cursor(&self) -> Cursor {
        Cursor::Live { first: self.first, next: self.next.clone() }
    }

    /// Partitions followed.
    pub fn partition_count(&self) -> usize {
        self.next.len()
    }

    /// Whether more was read than was told.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What there is to tell next. Reads when nothing is left of the last chunk, waits when there is nothing to read. `None` after the end.
    pub async fn next(&mut self) -> Option<Told> {
        if self.ended {
            return None;
        }
        let told = self.tell().await;
        self.told = Instant::now();
        self.ended = matches!(told, Some(Told::End(_)) | None);
        told
    }

    async fn tell(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.pending.pop_front() {
                let passed = match &told {
                    Told::Record(found) => Some((found.partition, found.offset + 1)),
                    Told::Hole(hole) => Some((hole.partition, hole.next_offset)),
                    _ => None,
                };
                if let Some((partition, offset)) = passed {
                    let next = &mut self.next[(partition - self.first) as usize];
                    *next = offset.max(*next);
                }
                if self.pending.is_empty() {
                    self.pass();
                }
                return Some(told);
            }
            let idle_at = self.told + Duration::from_millis(TAIL_IDLE_MS);
            if let Some(slot) = self.behind.pop_front() {
                if let Err(e) = self.read(slot).await {
                    return self.failed(slot, e);
                }
                // What is wanted may be rare: the reader is to see that we live, and where we are.
                if self.pending.is_empty() && Instant::now() >= idle_at {
                    return Some(Told::Idle);
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.broker.draining() => return None,
                () = self.ready.ready() => {}
                () = tokio::time::sleep_until(idle_at) => {
                    self.grow();
                    return Some(Told::Idle);
                }
            }
            while let Some(slot) = self.ready.pop() {
                self.watchers[slot as usize].rearm();
                self.behind.push_back(slot as usize);
            }
        }
    }

    /// All of the chunk was told.
    fn pass(&mut self) {
        if let Some((slot, offset)) = self.after.take() {
            self.next[slot] = offset.max(self.next[slot]);
        }
    }

    /// Reads a chunk of one partition; registers with it when there is nothing more.
    async fn read(&mut self, slot: usize) -> Result<(), PartitionError> {
        let (partition, broker) = (self.partitions()[slot].clone(), self.broker.clone());
        // Registers first and looks after, so that nothing that moves in between is missed.
        partition.waiters().watch_once(&self.watchers[slot]).map_err(|_| PartitionError::TooManyWaiters)?;
        let offsets = {
            let mut opening = Opening::new(&broker.opening_bytes, 0);
            opened(&mut opening, &partition, Partition::offsets).await?
        };
        let (from, end) = (self.next[slot], offsets.high_watermark);
        let from = self.skip(partition.index(), from, offsets.log_start, offsets.log_end);
        if from >= end {
            self.after = Some((slot, from));
            if self.pending.is_empty() {
                self.pass();
            }
            // Deleted, or led elsewhere?
            return partition.check_leader(-1);
        }
        // There will be more to do here in any case: nobody has to tell.
        partition.waiters().unwatch(&self.watchers[slot]);
        let (on, filter, index) = (partition.clone(), self.filter.clone(), partition.index());
        let walked = broker.browse.tail_turn(&broker.env, move |unpacked| {
            let (mut told, mut holes, mut budget, mut shown) = (Vec::new(), Vec::new(), TAIL_SCAN_BYTES, 0);
            let filter = filter.compile();
            let mut walk = Walk { unpacked, budget_bytes: &mut budget, holes: &mut holes };
            let next = walk.run(&on, from, end, |visited| {
                if !filter.wants(&visited) {
                    return Visit::On;
                }
                shown += shown_bytes(&visited, BROWSE_PAYLOAD_BYTES_MAX);
                told.push(Found::new(index, &visited, BROWSE_PAYLOAD_BYTES_MAX));
                if shown >= TAIL_CHUNK_BYTES { Visit::Last } else { Visit::On }
            });
            (next, told, holes)
        });
        let (next, records, holes) = walked.await;
        let next = match next {
            Ok(next) => next,
            // Closed under our hands: once more.
            Err(PartitionError::NotOpen) => from,
            Err(e) => return Err(e),
        };
        let mut told: Vec<Told> =
            records.into_iter().map(Told::Record).chain(holes.into_iter().map(Told::Hole)).collect();
        told.sort_by_key(|told| match told {
            Told::Record(found) => found.offset,
            Told::Hole(hole) => hole.offset,
            _ => i64::MAX,
        });
        self.pending.extend(told);
        self.after = Some((slot, next));
        if self.pending.is_empty() {
            self.pass();
        }
        self.behind.push_back(slot);
        Ok(())
    }

    /// Goes over what is not there any more.
    fn skip(&mut self, partition: i32, offset: i64, log_start: i64, log_end: i64) -> i64 {
        let (next_offset, reason) = match offset {
            _ if offset < log_start => (log_start, "deleted before it was read"),
            // Only after a power loss of a topic that is not durable, or with a cursor of other data.
            _ if offset > log_end => (log_end, "the log ends before this offset"),
            _ => return offset,
        };
        let reason = reason.to_string();
        self.next[(partition - self.first) as usize] = next_offset;
        self.pending.push_back(Told::Hole(Hole { partition, offset, next_offset, reason }));
        next_offset
    }

    /// A partition cannot be read: the tail ends and says why, but where it only takes time.
    fn failed(&mut self, slot: usize, error: PartitionError) -> Option<Told> {
        match error {
            PartitionError::Deleted => Some(Told::End("the topic was deleted".into())),
            PartitionError::Stopping => None,
            // It takes long to recover, or was closed under our hands.
            PartitionError::NotOpen => {
                self.behind.push_back(slot);
                Some(Told::Idle)
            }
            error => {
                let partition = self.first + slot as i32;
                Some(Told::End(format!("partition {partition}: {error}")))
            }
        }
    }

    /// Takes in partitions that were created since.
    fn grow(&mut self) {
        if !self.all {
            return;
        }
        let now = self.broker.partitions.table().by_id(self.topic.state.id).cloned();
        let Some(now) = now.filter(|now| now.partitions.len() > self.next.len()) else { return };
        self.topic = now;
        let count = self.topic.partitions.len().min(BROWSE_PARTITIONS_MAX);
        for slot in self.next.len()..count {
            self.next.push(0);
            self.behind.push_back(slot);
        }
        self.add_watchers();
    }

    fn add_watchers(&mut self) {
        while self.watchers.len() < self.next.len() {
            self.watchers.push(Watcher::new(&self.ready, self.watchers.len() as u32));
        }
    }
}

/// Where a partition is followed from.
async fn position(
    opening: &mut Opening<'_>,
    partition: &Arc<Partition>,
    from: &TailFrom,
) -> Result<i64, PartitionError> {
    let offsets = opened(opening, partition, Partition::offsets).await?;
    Ok(match from {
        TailFrom::Start(Start::Earliest) => offsets.log_start,
        TailFrom::Start(Start::Offset(offset)) => (*offset).clamp(offsets.log_start, offsets.high_watermark),
        _ => offsets.high_watermark,
    })
}
