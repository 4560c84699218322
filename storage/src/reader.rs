//! What readers of a log share, and what they do with it. No lock is taken on the way to bytes that are mapped.
//!
//! The order that makes it right: a reader loads the log end first and the segment list after it. The list is then at least as new as
//! the end, so below the end it holds what the log holds; a list that was replaced meanwhile still leads to bytes that do not change.

use crate::{
    Batch, Disk, Error, LogStat, PartitionId, Result,
    batch::HEADER_BYTES,
    epochs::Epochs,
    health::Health,
    index::Index,
    log::Dirty,
    record,
    segment::{Found, Opened, Segment},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
};

/// Bytes at the end of a log whose pages are taken to be in memory.
const HOT_BYTES: u64 = 64 << 20;

/// How often a read begins anew because a segment it found was removed under it.
const READ_ATTEMPTS: usize = 8;

/// Unpacks a compressed batch: (codec, compressed bytes) → the records' plain bytes.
pub type Unpack<'a> = &'a dyn Fn(u8, &[u8]) -> Option<Vec<u8>>;

/// Oldest first; the last one is the active one.
pub(crate) type SegmentList = Vec<Arc<Segment>>;

/// The state that a log's writer publishes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub id: PartitionId,
    pub health: Arc<Health>,
    pub segments: ArcSwap<SegmentList>,
    pub log_start: AtomicI64,
    pub log_end: AtomicI64,
    pub durable_end: AtomicI64,
    pub high_watermark: AtomicI64,
    /// Published bytes of all segments.
    pub size: AtomicU64,
    pub epochs: ArcSwap<Epochs>,
    /// The epochs' file does not say what `epochs` says.
    pub epochs_changed: AtomicBool,
    /// Counts truncations; held while the durable end is stored, so that a flush that began before a truncation moves nothing.
    pub generation: Mutex<u64>,
    pub closed: AtomicBool,
    /// Counts names that went from the directory without a new segment to show for it, and how many of them a flush made durable.
    pub names_gone: AtomicU64,
    pub names_gone_durable: AtomicU64,
    pub durable: AtomicBool,
    pub retention_ms: AtomicI64,
    pub index_interval: AtomicU32,
    pub opened_ms: i64,
    /// The catalogue's word on the oldest segment, until something better is known; `i64::MIN` = no word.
    pub catalogued_expires_ms: AtomicI64,
}

impl Shared {
    pub(crate) fn generation(&self) -> MutexGuard<'_, u64> {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn interval(&self) -> u32 {
        self.index_interval.load(Ordering::Relaxed)
    }

    pub(crate) fn stat(&self) -> LogStat {
        let log_end = self.log_end.load(Ordering::Acquire);
        let segments = self.segments.load();
        let expires_ms = match segments.first() {
            Some(s) if s.end_position() > 0 => {
                let catalogued = self.catalogued_expires_ms.load(Ordering::Relaxed);
                match s.max_timestamp_in_memory() {
                    None if catalogued != i64::MIN => catalogued,
                    _ => s.aged_in_memory(self.opened_ms).expires_ms(self.retention_ms.load(Ordering::Relaxed)),
                }
            }
            _ => i64::MAX,
        };
        LogStat {
            log_start: self.log_start.load(Ordering::Acquire),
            log_end,
            recovery_point: self.durable_end.load(Ordering::Acquire),
            high_watermark: self.high_watermark.load(Ordering::Acquire),
            size_bytes: self.size.load(Ordering::Relaxed),
            expires_ms,
            latest_epoch: self.epochs.load().latest(),
            needs_recovery: false,
        }
    }
}

/// Reads a log without locks. Cheap to clone (an `Arc` inside).
#[derive(Debug, Clone)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
}

/// Bytes of whole batches, contiguous in one segment. Keeps its segment alive.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Straight from the map; no copy.
    pub bytes: Bytes,
    /// Byte position in the segment file, for sendfile.
    pub position: u64,
    /// The segment file.
    pub file: Arc<dyn crate::DiskFile>,
    /// Base offset of the first batch (it may lie below the offset asked for, or above it where compaction left a gap).
    pub first_offset: i64,
    /// Offset behind the last batch.
    pub next_offset: i64,
    /// Whether the pages may be off memory or their CRCs unchecked in this run: call [`Slice::populate`] where blocking is allowed
    /// before touching them.
    pub cold: bool,
    segment: Arc<Segment>,
    opened: Arc<Opened>,
    health: Arc<Health>,
}

impl Slice {
    /// Brings the pages in (MADV_POPULATE_READ in 4 MiB steps) and checks the CRCs that were not checked in this run. An I/O error is
    /// `Error::Io` of this read. `Error::Corrupt` names a damaged batch, which is quarantined from then on: where it lies above the
    /// offset wanted, the same read made again gives what is before it. Blocks.
    pub fn populate(&self) -> Result<()> {
        let (from, to) = (self.position, self.position + self.bytes.len() as u64);
        self.opened
            .region
            .populate(from as usize, to as usize)
            .map_err(|e| Error::io("read", self.segment.path(), e))?;
        if !self.segment.is_checked(from, to) {
            let checked = self.segment.check_range(&self.opened, from, to);
            if checked.is_err() {
                self.health.check()?; // a page that could not be read looks like damage, and is not
            }
            checked?;
        }
        Ok(())
    }
}

impl LogReader {
    /// First offset there is.
    pub fn log_start(&self) -> i64 {
        self.shared.log_start.load(Ordering::Acquire)
    }
    /// Offset the next record gets (acquire load).
    pub fn log_end(&self) -> i64 {
        self.shared.log_end.load(Ordering::Acquire)
    }
    /// All below is durable.
    pub fn durable_end(&self) -> i64 {
        self.shared.durable_end.load(Ordering::Acquire)
    }
    /// Published bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.shared.size.load(Ordering::Relaxed)
    }
    /// How many segments there are, the active one included.
    pub fn segments(&self) -> usize {
        self.shared.segments.load().len()
    }
    /// What the catalogue keeps of this log, as of now.
    #[allow(dead_code)]
    pub(crate) fn stat(&self) -> LogStat {
        self.shared.stat()
    }
    /// What wants a flush; `None` when all is durable. Moves nothing.
    pub fn dirty(&self) -> Option<Dirty> {
        Dirty::of(&self.shared)
    }
    /// Bytes appended and not yet durable.
    pub fn dirty_bytes(&self) -> u64 {
        let segments = self.shared.segments.load();
        let mut bytes = 0;
        for s in segments.iter().rev() {
            let dirty = s.end_position().saturating_sub(s.durable_position());
            if dirty == 0 && s.end_position() > 0 {
                break;
            }
            bytes += dirty;
        }
        bytes
    }

    /// Whole batches from the one that holds `offset` on, up to `bytes_max` bytes, all below offset `end` (exclusive; at most the log
    /// end; a batch that reaches past `end` is left out), from one segment. At least one batch when `at_least_one`, however large.
    /// `None` when nothing fits or `offset == end`. `OffsetOutOfRange` outside log start..=log end; `Corrupt` when the first batch wanted
    /// is quarantined (damage further on ends the slice before it). A CRC that was not checked in this run is checked by
    /// [`Slice::populate`], not here. Takes no lock; blocks only where a closed segment must be opened.
    pub fn read(&self, offset: i64, bytes_max: usize, end: i64, at_least_one: bool) -> Result<Option<Slice>> {
        let list = || Arc::as_ptr(&self.shared.segments.load());
        for _ in 0..READ_ATTEMPTS {
            let before = list();
            match self.try_read(offset, bytes_max, end, at_least_one) {
                // Removed by retention or a truncation since the list was loaded: look again.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                // Replaced by a truncation.
                Err(Error::Corrupt { .. }) if list() != before => {}
                done => return done,
            }
        }
        Err(self.gone())
    }

    fn try_read(&self, offset: i64, bytes_max: usize, end: i64, at_least_one: bool) -> Result<Option<Slice>> {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let (log_end, log_start) = (self.log_end(), self.log_start());
        if offset < log_start || offset > log_end {
            return Err(Error::OffsetOutOfRange { offset, start: log_start, end: log_end });
        }
        let end = end.min(log_end);
        if offset >= end {
            return Ok(None);
        }
        let segments = shared.segments.load();
        // The start moves before the list loses its oldest: a list without them is met with the new start, not answered with what follows.
        let start = self.log_start();
        if offset < start {
            return Err(Error::OffsetOutOfRange { offset, start, end: log_end });
        }
        let first = segments.partition_point(|s| s.base <= offset).saturating_sub(1);
        for (i, segment) in segments.iter().enumerate().skip(first) {
            if segment.base >= end {
                break;
            }
            let Some((opened, index)) = self.view(segment, offset)? else { continue };
            match segment.find(&opened, &index, offset) {
                Found::End { position, .. } => self.complete(segment, &opened, position, offset)?,
                Found::Damaged(_) => {
                    shared.health.check()?; // a page that could not be read looks like damage, and is not
                    return Err(Error::Corrupt { path: segment.path().to_path_buf(), offset });
                }
                Found::At { position, batch, .. } => {
                    if batch.next_offset() > end || (batch.size_bytes > bytes_max && !at_least_one) {
                        return Ok(None);
                    }
                    let bytes = segment.bytes(&opened);
                    let (to, next_offset) = segment.slice_end(bytes, &index, position, &batch, bytes_max as u64, end);
                    let behind: u64 = segments[i + 1..].iter().rev().take(64).map(|s| s.end_position()).sum();
                    let far = behind + segment.end_position().saturating_sub(position) > HOT_BYTES;
                    return Ok(Some(Slice {
                        bytes: opened.region.slice(position as usize, to as usize),
                        position,
                        file: opened.file.clone(),
                        first_offset: batch.base_offset,
                        next_offset,
                        cold: far || !segment.is_checked(position, to),
                        segment: segment.clone(),
                        opened,
                        health: shared.health.clone(),
                    }));
                }
            }
        }
        Ok(None)
    }

    /// Map and index of a segment; `None` when it is empty.
    fn view(&self, segment: &Segment, offset: i64) -> Result<Option<(Arc<Opened>, Arc<Index>)>> {
        let disk = &*self.shared.disk;
        match segment.view(disk)? {
            Some(opened) => {
                let index = segment.index(disk, &opened, self.shared.interval());
                Ok(Some((opened, index)))
            }
            None if segment.end_position() == 0 => Ok(None),
            None => Err(Error::Corrupt { path: segment.path().to_path_buf(), offset }),
        }
    }

    /// The end of a segment is no gap when its file lost bytes.
    fn complete(&self, segment: &Segment, opened: &Opened, position: u64, offset: i64) -> Result<()> {
        let there = opened.region.published() as u64;
        if position >= there && there < segment.end_position() && offset < segment.end_offset() {
            return Err(Error::Corrupt { path: segment.path().to_path_buf(), offset });
        }
        Ok(())
    }

    /// First record with timestamp ≥ `timestamp_ms` below `end`: (timestamp, offset, leader epoch). Exact to the record for uncompressed
    /// batches; for compressed ones the batch's base offset and max timestamp stand in unless `unpack` gives the records' bytes (codec,
    /// compressed → plain). Damaged batches are passed over; what could not be read is an error. May block on cold pages.
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        end: i64,
        unpack: Option<Unpack<'_>>,
    ) -> Result<Option<(i64, i64, i32)>> {
        self.again(|| self.try_offset_for_timestamp(timestamp_ms, end, unpack))
    }

    fn try_offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        end: i64,
        unpack: Option<Unpack<'_>>,
    ) -> Result<Option<(i64, i64, i32)>> {
        let (end, segments) = self.snapshot(end)?;
        let start = self.log_start();
        for segment in segments.iter().filter(|s| s.end_offset() > start) {
            if segment.base >= end {
                break;
            }
            if segment.max_timestamp(&*self.shared.disk, self.shared.interval())? < timestamp_ms {
                continue;
            }
            let Some((opened, index)) = self.view(segment, segment.base)? else { continue };
            let from = index.time_below(timestamp_ms).map_or(segment.base, |(_, offset)| offset).max(start);
            let wanted = |batch: &Batch| batch.max_timestamp >= timestamp_ms;
            let found = walk_batches(segment, &opened, &index, from, end, |batch, bytes| {
                if !wanted(batch) {
                    return None;
                }
                first_record(batch, bytes, start, timestamp_ms, unpack)
            });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp below `end`: (timestamp, offset, leader epoch); the first of them when several have it. As
    /// above.
    pub fn max_timestamp(&self, end: i64, unpack: Option<Unpack<'_>>) -> Result<Option<(i64, i64, i32)>> {
        self.again(|| self.try_max_timestamp(end, unpack))
    }

    fn try_max_timestamp(&self, end: i64, unpack: Option<Unpack<'_>>) -> Result<Option<(i64, i64, i32)>> {
        let (end, segments) = self.snapshot(end)?;
        let start = self.log_start();
        let mut best: Option<(i64, &Arc<Segment>)> = None;
        for segment in segments.iter().filter(|s| s.end_offset() > start) {
            if segment.base >= end {
                break;
            }
            let whole = segment.end_offset() <= end && segment.base >= start;
            let max = match whole {
                true => segment.max_timestamp(&*self.shared.disk, self.shared.interval())?,
                false => self.max_in_part(segment, start, end)?,
            };
            if max >= 0 && best.is_none_or(|b| max > b.0) {
                best = Some((max, segment));
            }
        }
        let Some((max, segment)) = best else { return Ok(None) };
        let Some((opened, index)) = self.view(segment, segment.base)? else { return Ok(None) };
        let from = index.time_below(max).map_or(segment.base, |(_, offset)| offset).max(start);
        Ok(walk_batches(segment, &opened, &index, from, end, |batch, bytes| {
            (batch.max_timestamp >= max).then(|| {
                let exact = first_record(batch, bytes, start, max, unpack);
                exact.unwrap_or((batch.max_timestamp, batch.base_offset, batch.leader_epoch))
            })
        }))
    }

    /// Largest batch timestamp in [start, end) of one segment; -1 when there is none.
    fn max_in_part(&self, segment: &Segment, start: i64, end: i64) -> Result<i64> {
        let Some((opened, index)) = self.view(segment, segment.base)? else { return Ok(-1) };
        let (mut max, mut from) = (-1, start.max(segment.base));
        if let Some((timestamp, offset)) = index.time_before_offset(end)
            && offset >= from
        {
            (max, from) = (timestamp, offset);
        }
        if segment.base < start {
            (max, from) = (-1, start); // what the index noted may lie below the start
        }
        walk_batches(segment, &opened, &index, from, end, |batch, _| {
            max = max.max(batch.max_timestamp);
            None
        });
        Ok(max)
    }

    /// An answer by timestamps, made anew where a segment was removed (by retention or a truncation) since the list was loaded; an error
    /// when it may be made of pages that could not be read.
    fn again<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        for _ in 0..READ_ATTEMPTS {
            match attempt() {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => {
                    self.shared.health.check_read()?;
                    return done;
                }
            }
        }
        Err(self.gone())
    }

    /// A segment that is in the list has no file.
    fn gone(&self) -> Error {
        let source = io::Error::from(io::ErrorKind::NotFound);
        Error::Io { op: "open", path: self.shared.dir.clone(), source }
    }

    /// A log end and a segment list that is at least as new.
    fn snapshot(&self, end: i64) -> Result<(i64, Arc<SegmentList>)> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let end = end.min(self.log_end());
        Ok((end, self.shared.segments.load_full()))
    }

    /// KIP-101: (largest epoch ≤ `epoch`, its end offset); `None` when there is none known, or `epoch` is newer than all. An epoch older
    /// than all known gives itself and the start of the first known one, as in Kafka.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let log_end = self.log_end();
        self.shared.epochs.load().end_of(epoch, log_end)
    }
    /// Epoch of the newest batch, -1 = none.
    pub fn latest_epoch(&self) -> i32 {
        self.shared.epochs.load().latest()
    }
    /// Epoch that `offset` was written under.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.shared.epochs.load().at(offset)
    }
}

/// Calls `each` with every batch that holds or follows `from` and ends at or below `end`, until it gives something. Damage is passed
/// over.
fn walk_batches(
    segment: &Segment,
    opened: &Opened,
    index: &Index,
    from: i64,
    end: i64,
    mut each: impl FnMut(&Batch, &[u8]) -> Option<(i64, i64, i32)>,
) -> Option<(i64, i64, i32)> {
    let bytes = segment.bytes(opened);
    let mut found = segment.find(opened, index, from);
    loop {
        let (position, expected) = match found {
            Found::At { position, batch, .. } => {
                if batch.next_offset() > end {
                    return None;
                }
                let to = position + batch.size_bytes as u64;
                if let Some(answer) = each(&batch, &bytes[position as usize..to as usize]) {
                    return Some(answer);
                }
                (to, batch.next_offset())
            }
            Found::Damaged(bad) => (bad.to, bad.next_offset),
            Found::End { .. } => return None,
        };
        found = segment.walk(bytes, position, expected, expected);
    }
}

/// The first record of a batch at or after offset `start` with timestamp ≥ `timestamp`.
fn first_record(
    batch: &Batch,
    bytes: &[u8],
    start: i64,
    timestamp: i64,
    unpack: Option<Unpack<'_>>,
) -> Option<(i64, i64, i32)> {
    let epoch = batch.leader_epoch;
    let stand_in = (batch.max_timestamp, batch.base_offset.max(start), epoch);
    let plain;
    let payload = &bytes[HEADER_BYTES..];
    let payload = match (batch.compression(), unpack) {
        (0, _) => payload,
        (codec, Some(unpack)) => match unpack(codec, payload) {
            Some(bytes) => {
                plain = bytes;
                &plain
            }
            None => return Some(stand_in),
        },
        (_, None) => return Some(stand_in),
    };
    for record in record::records(payload, batch.record_count) {
        let Ok(record) = record else { return Some(stand_in) };
        let (t, offset) = (record.timestamp(batch), record.offset(batch));
        if t >= timestamp && offset >= start {
            return Some((t, offset, epoch));
        }
    }
    None
}
