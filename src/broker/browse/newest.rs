//! Newest first, over several partitions.
//!
//! A log is read forwards only. So the work is done twice: a first walk over windows at the ends of the partitions gathers little more than offsets and timestamps and merges them, a
//! second one over what was chosen (in each partition one range) brings the records. Memory is bounded by what a page may hold, whatever the partitions hold.

use super::{
    BrowseError, Compiled, Cursor, Filter, Found, Hole, Page, Step, Unpacked, Visit, Walk, opened, shown_bytes,
};
use crate::{
    broker::{Broker, opening::Opening, partitions::TopicEntry},
    limits::{
        BROWSE_ANSWER_BYTES_MAX, BROWSE_HOLES_MAX, BROWSE_PARTITIONS_MAX, BROWSE_PAYLOAD_BYTES_MAX,
        BROWSE_SCAN_BYTES_MAX, BROWSE_WINDOW_BYTES,
    },
    partition::{Partition, PartitionError},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// A record that was met: enough to choose by.
#[derive(Debug, Clone, Copy)]
struct Head {
    timestamp_ms: i64,
    offset: i64,
    shown_bytes: usize,
}

/// One partition.
#[derive(Debug)]
struct End {
    /// Log start when the page began.
    start: i64,
    /// What is below was not looked at yet.
    at: i64,
    /// Where the page began.
    top: i64,
    /// Offsets to be looked at in one go.
    window: i64,
    /// Met and not yet chosen, newest first.
    heads: VecDeque<Head>,
    /// The lowest chosen.
    chosen: Option<i64>,
}

impl End {
    /// What is still to be shown lies below.
    fn left(&self) -> i64 {
        self.heads.front().map_or(self.at, |head| head.offset + 1)
    }
    fn is_done(&self) -> bool {
        self.heads.is_empty() && self.at <= self.start
    }
}

#[derive(Debug)]
struct Newest {
    first: i32,
    ends: Vec<End>,
    limit: usize,
    /// (index into `ends`, offset), in order.
    chosen: Vec<(usize, i64)>,
    shown_bytes: usize,
    budget_bytes: usize,
    holes: Vec<Hole>,
    choosing: bool,
    /// What the second walk brought.
    found: HashMap<(usize, i64), Found>,
    /// The second walk is there.
    bringing: usize,
}

impl Broker {
    pub(super) async fn newest(
        &self,
        topic: &Arc<TopicEntry>,
        first: i32,
        count: usize,
        ends: Option<Vec<i64>>,
        limit: usize,
        filter: Filter,
    ) -> Result<Page, BrowseError> {
        if count > BROWSE_PARTITIONS_MAX {
            return Err(BrowseError::TooManyPartitions { count });
        }
        let partitions: Arc<[Arc<Partition>]> =
            topic.partitions.iter().skip(first as usize).take(count).cloned().collect();
        let mut wait = Opening::new(&self.opening_bytes, 0);
        let (mut holes, mut states, mut live) = (Vec::new(), Vec::new(), Vec::new());
        for (n, partition) in partitions.iter().enumerate() {
            let (start, end) = match opened(&mut wait, partition, Partition::offsets).await {
                Ok(offsets) => (offsets.log_start, offsets.high_watermark),
                Err(e) => {
                    unreadable(partition, e, count == 1, &mut holes)?;
                    (0, 0)
                }
            };
            live.push(end);
            let top = ends.as_ref().map_or(end, |ends| ends[n].min(end));
            let window = (limit as i64 * 2 / count as i64).clamp(1, limit as i64);
            states.push(End { start, at: top, top, window, heads: VecDeque::new(), chosen: None });
        }
        let mut newest = Newest {
            first,
            ends: states,
            limit,
            chosen: Vec::new(),
            shown_bytes: 0,
            budget_bytes: BROWSE_SCAN_BYTES_MAX,
            holes,
            choosing: true,
            found: HashMap::new(),
            bringing: 0,
        };
        let filter = Arc::new(filter);
        loop {
            let (partitions, filter) = (partitions.clone(), filter.clone());
            let (after, step) = self
                .browse
                .turn(&self.env, move |unpacked| {
                    let step = newest.run(&partitions, unpacked, &filter.compile());
                    (newest, step)
                })
                .await;
            newest = after;
            match step? {
                Step::Done => {
                    let mut page = newest.page();
                    page.live = ends.is_none().then_some(Cursor::Live { first, next: live });
                    return Ok(page);
                }
                Step::Open(partition) => {
                    if let Err(e) = wait.wait(partition.open()).await {
                        newest.failed(&partition, e)?;
                    }
                }
            }
        }
    }
}

/// One of several that cannot be read is passed over, and named.
fn unreadable(
    partition: &Partition,
    error: PartitionError,
    only: bool,
    holes: &mut Vec<Hole>,
) -> Result<(), BrowseError> {
    if only || matches!(error, PartitionError::Deleted | PartitionError::Stopping) {
        return Err(error.into());
    }
    if holes.len() < BROWSE_HOLES_MAX {
        holes.push(Hole { partition: partition.index(), offset: 0, next_offset: 0, reason: error.to_string() });
    }
    Ok(())
}

impl Newest {
    fn run(
        &mut self,
        partitions: &[Arc<Partition>],
        unpacked: &Unpacked,
        filter: &Compiled<'_>,
    ) -> Result<Step, BrowseError> {
        while self.choosing {
            match self.choose(partitions, unpacked, filter) {
                Ok(()) => self.choosing = false,
                Err((n, PartitionError::NotOpen)) => return Ok(Step::Open(partitions[n].clone())),
                Err((n, e)) => self.failed(&partitions[n], e)?,
            }
        }
        while self.bringing < self.ends.len() {
            match self.bring(&partitions[self.bringing], unpacked, filter) {
                Ok(()) => self.bringing += 1,
                Err(PartitionError::NotOpen) => return Ok(Step::Open(partitions[self.bringing].clone())),
                Err(e) => {
                    unreadable(&partitions[self.bringing], e, self.ends.len() == 1, &mut self.holes)?;
                    self.bringing += 1;
                }
            }
        }
        Ok(Step::Done)
    }

    /// Merges until the page is full, everything was seen, or enough was looked at.
    fn choose(
        &mut self,
        partitions: &[Arc<Partition>],
        unpacked: &Unpacked,
        filter: &Compiled<'_>,
    ) -> Result<(), (usize, PartitionError)> {
        while self.chosen.len() < self.limit {
            for (n, partition) in partitions.iter().enumerate() {
                while self.ends[n].heads.is_empty() && !self.ends[n].is_done() {
                    if self.budget_bytes == 0 && !self.is_stuck() {
                        break;
                    }
                    self.fill(n, partition, unpacked, filter).map_err(|e| (n, e))?;
                }
            }
            // Where the budget ended early a partition may have newer ones than those merged here: they come on the next page.
            let newest = (0..self.ends.len())
                .filter_map(|n| Some((n, *self.ends[n].heads.front()?)))
                .max_by_key(|(n, head)| (head.timestamp_ms, std::cmp::Reverse(*n)));
            let Some((n, head)) = newest else { return Ok(()) };
            self.shown_bytes += head.shown_bytes;
            if self.shown_bytes > BROWSE_ANSWER_BYTES_MAX && !self.chosen.is_empty() {
                return Ok(());
            }
            let end = &mut self.ends[n];
            end.heads.pop_front();
            end.chosen = Some(head.offset);
            self.chosen.push((n, head.offset));
            if self.budget_bytes == 0 && end.heads.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Nothing was looked at so far: the page has to go on, whatever that costs.
    fn is_stuck(&self) -> bool {
        self.ends.iter().all(|end| end.at == end.top)
    }

    /// Looks at the window below.
    fn fill(
        &mut self,
        n: usize,
        partition: &Partition,
        unpacked: &Unpacked,
        filter: &Compiled<'_>,
    ) -> Result<(), PartitionError> {
        let end = &mut self.ends[n];
        let (mut window, mut budget, mut heads, mut holes) =
            (end.window, BROWSE_WINDOW_BYTES, VecDeque::new(), Vec::new());
        let from = loop {
            let from = end.at.saturating_sub(window).max(end.start);
            // One record is always enough of a window.
            let mut all = usize::MAX;
            let budget_bytes = if end.at - from <= 1 { &mut all } else { &mut budget };
            let before = *budget_bytes;
            let mut walk = Walk { unpacked, budget_bytes, holes: &mut holes };
            let next = walk.run(partition, from, end.at, |visited| {
                if filter.wants(&visited) {
                    let shown_bytes = shown_bytes(&visited, BROWSE_PAYLOAD_BYTES_MAX);
                    let (timestamp_ms, offset) = (visited.timestamp_ms(), visited.offset());
                    heads.push_front(Head { timestamp_ms, offset, shown_bytes });
                }
                Visit::On
            })?;
            let cost = before - *walk.budget_bytes;
            self.budget_bytes = self.budget_bytes.saturating_sub(cost.max(256));
            if next >= end.at {
                break from;
            }
            // Too far back: so many offsets as there was budget for, and a little less.
            window = ((next - from) / 2).clamp(1, (window / 2).max(1));
            (budget, heads) = (BROWSE_WINDOW_BYTES, VecDeque::new());
            holes.clear();
        };
        // Where nothing was wanted the next window is larger.
        end.window = if heads.is_empty() { window.saturating_mul(4).min(1 << 20) } else { window };
        end.at = from;
        end.heads = heads;
        let room = BROWSE_HOLES_MAX.saturating_sub(self.holes.len());
        self.holes.extend(holes.into_iter().take(room));
        Ok(())
    }

    /// Brings what was chosen of the partition whose turn it is.
    fn bring(
        &mut self,
        partition: &Partition,
        unpacked: &Unpacked,
        filter: &Compiled<'_>,
    ) -> Result<(), PartitionError> {
        let (n, end) = (self.bringing, &self.ends[self.bringing]);
        let Some(lowest) = end.chosen else { return Ok(()) };
        let (mut budget, found, index) = (usize::MAX, &mut self.found, partition.index());
        // Named by the first walk.
        let mut holes = Vec::new();
        let mut walk = Walk { unpacked, budget_bytes: &mut budget, holes: &mut holes };
        walk.run(partition, lowest, end.top, |visited| {
            if filter.wants(&visited) {
                let record = Found::new(index, &visited, BROWSE_PAYLOAD_BYTES_MAX);
                found.insert((n, record.offset), record);
            }
            Visit::On
        })?;
        Ok(())
    }

    fn failed(&mut self, partition: &Partition, error: PartitionError) -> Result<(), BrowseError> {
        let only = self.ends.len() == 1;
        unreadable(partition, error, only, &mut self.holes)?;
        let n = (partition.index() - self.first) as usize;
        let end = &mut self.ends[n];
        if self.choosing {
            (end.at, end.start) = (0, 0);
            end.heads.clear();
        } else {
            end.chosen = None;
        }
        Ok(())
    }

    fn page(mut self) -> Page {
        let mut page = Page { holes: self.holes, ..Page::default() };
        page.records = self.chosen.iter().filter_map(|key| self.found.remove(key)).collect();
        if !self.ends.iter().all(End::is_done) {
            let ends = self.ends.iter().map(|end| if end.is_done() { 0 } else { end.left() }).collect();
            page.next = Some(Cursor::Back { first: self.first, ends });
        }
        page
    }
}
