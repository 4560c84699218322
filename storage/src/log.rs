//! One partition's log: its settings and its one writer ([`Log`]). Readers are in `reader.rs`, flushing in `dirty.rs`, opening in
//! `recovery.rs`.

mod snapshots;
mod trim;
mod truncation;

use crate::{
    Batch, Disk, DiskFile, Error, PartitionId, Result,
    batch::{self, BatchError, HEADER_BYTES},
    dirty::write_epochs,
    disk::Open,
    epochs::Epochs,
    health::Health,
    index::Index,
    names,
    reader::{SegmentList, Shared},
    recovery,
    region::RegionWriter,
    seat::Seat,
    segment::{self, Opened, Segment, Tail},
};
use arc_swap::ArcSwap;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
};

pub use crate::{
    dirty::Dirty,
    reader::{LogReader, Slice},
};

/// Settings of one log, all in Kafka's units and meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// segment.bytes, 1 KiB..=i32::MAX (the broker enforces Kafka's minimum of 1 MiB; tests use less).
    pub segment_bytes: u32,
    /// segment.ms (roll by time), minus jitter already drawn; `i64::MAX` = never.
    pub segment_ms: i64,
    /// index.interval.bytes.
    pub index_interval_bytes: u32,
    /// segment.index.bytes.
    pub segment_index_bytes: u32,
    /// retention.ms; -1 = for ever.
    pub retention_ms: i64,
    /// retention.bytes; -1 = no limit.
    pub retention_bytes: i64,
    /// file.delete.delay.ms.
    pub file_delete_delay_ms: i64,
    /// Appends are acknowledged only once durable (`millstream.durability=fsync`): chooses how bytes are written (see design: `pwrite`
    /// over blocks zeroed ahead), never whether a flush happens.
    pub durable: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            durable: true,
        }
    }
}

/// message.timestamp.type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What the catalogue knows of a log without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStat {
    pub log_start: i64,
    pub log_end: i64,
    /// Nothing below it is ever cut.
    pub recovery_point: i64,
    /// High watermark when last catalogued.
    pub high_watermark: i64,
    /// Published bytes of all segments.
    pub size_bytes: u64,
    /// When the oldest closed segment falls to retention, ms since 1970; `i64::MAX` = never.
    pub expires_ms: i64,
    /// Latest leader epoch in the log, -1 = none.
    pub latest_epoch: i32,
    /// The partition was open at an unclean stop: these figures are a lower bound until it is recovered.
    pub needs_recovery: bool,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// Last offset appended (inclusive).
    pub last_offset: i64,
    /// -1 with CreateTime.
    pub log_append_time_ms: i64,
    /// Whether a new segment was begun (the owner should snapshot producers at `base_offset`).
    pub rolled: bool,
}

/// The writer of one partition's log. Its owner guards it with one lock; no method but those marked "blocks" does more than a
/// copy, an index entry, and now and then an `fallocate` or a rename.
#[derive(Debug)]
pub struct Log {
    reader: LogReader,
    config: LogConfig,
    seat: Seat,
    active: Option<Active>,
    /// Whether the partition's directory is there.
    has_dir: bool,
    /// The last segment takes no more appends: its end is damaged, or a failed roll left a file behind.
    must_roll: bool,
    /// Files to unlink, with the time.
    deleted: Vec<(PathBuf, i64)>,
}

/// The segment that takes appends.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    writer: RegionWriter,
    index: Arc<Index>,
    position: u64,
    allocated: u64,
    since_index_bytes: usize,
    /// When the first append was made, ms.
    first_ms: i64,
    /// Largest timestamp and the last offset of the batch that has it.
    max: (i64, i64),
}

/// How a log is opened.
pub(crate) struct OpenLog {
    pub disk: Arc<dyn Disk>,
    /// `<root>/<topic>-<partition>`
    pub dir: PathBuf,
    pub id: PartitionId,
    pub config: LogConfig,
    /// None: never had an append; no files are expected.
    pub stat: Option<LogStat>,
    pub health: Arc<Health>,
    pub seat: Seat,
    pub now_ms: i64,
}

/// Batches of this size, a page, or more are written through the file rather than the map (`docs/decisions/0002`).
const PWRITE_BYTES_MIN: usize = 4 << 10;
/// Allocation steps: the file's own size, within these.
const ALLOCATE_BYTES_MIN: u64 = 64 << 10;
const ALLOCATE_BYTES_MAX: u64 = 64 << 20;
/// Producer snapshots kept.
const SNAPSHOTS: usize = 2;

impl Log {
    /// Opens a log: as catalogued after a clean stop, else recovered above its recovery point. What it returns is durable. Blocks.
    pub(crate) fn open(o: OpenLog) -> Result<Log> {
        let found = recovery::open(&o)?;
        let size = found.segments.iter().map(|s| s.end_position()).sum();
        let stat = o.stat.unwrap_or_default();
        let shared = Shared {
            health: o.health,
            segments: ArcSwap::from_pointee(found.segments),
            log_start: AtomicI64::new(found.log_start),
            log_end: AtomicI64::new(found.log_end),
            durable_end: AtomicI64::new(found.log_end),
            high_watermark: AtomicI64::new(stat.high_watermark.clamp(found.log_start, found.log_end)),
            size: AtomicU64::new(size),
            epochs: ArcSwap::from_pointee(found.epochs),
            epochs_changed: AtomicBool::new(found.epochs_changed),
            generation: Mutex::new(0),
            closed: AtomicBool::new(false),
            names_gone: AtomicU64::new(0),
            names_gone_durable: AtomicU64::new(0),
            durable: AtomicBool::new(o.config.durable),
            retention_ms: AtomicI64::new(o.config.retention_ms),
            index_interval: AtomicU32::new(o.config.index_interval_bytes),
            opened_ms: o.now_ms,
            catalogued_expires_ms: AtomicI64::new(if o.stat.is_some() { stat.expires_ms } else { i64::MIN }),
            disk: o.disk,
            dir: o.dir,
            id: o.id,
        };
        Ok(Log {
            reader: LogReader { shared: Arc::new(shared) },
            config: o.config,
            seat: o.seat,
            active: None,
            has_dir: found.has_dir,
            must_roll: found.must_roll,
            deleted: Vec::new(),
        })
    }

    /// A reader; clones share the log. Stays valid after close and delete (then reads give `Closed`).
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }
    /// What the catalogue keeps of this log, as of now.
    pub fn stat(&self) -> LogStat {
        self.shared().stat()
    }
    /// Settings now in force.
    pub fn set_config(&mut self, config: LogConfig) {
        let shared = self.shared();
        shared.durable.store(config.durable, Ordering::Relaxed);
        shared.retention_ms.store(config.retention_ms, Ordering::Relaxed);
        shared.index_interval.store(config.index_interval_bytes, Ordering::Relaxed);
        if config.retention_ms != self.config.retention_ms {
            shared.catalogued_expires_ms.store(i64::MIN, Ordering::Relaxed);
        }
        self.config = config;
    }
    fn shared(&self) -> &Arc<Shared> {
        &self.reader.shared
    }
    fn log_end(&self) -> i64 {
        self.shared().log_end.load(Ordering::Relaxed)
    }

    /// Appends one batch that [`crate::batch::check`] accepted (`header` is its verdict on these bytes): assigns the next offset and
    /// `leader_epoch`, stamps LogAppendTime where asked, publishes the end with a release store. Makes the partition's directory at its
    /// first append. Rolls first when the segment is full, or too old by `now_ms` (wall ms). An error leaves the log as it was.
    pub fn append_as_leader(
        &mut self,
        bytes: &[u8],
        header: &Batch,
        leader_epoch: i32,
        ts: TimestampType,
        now_ms: i64,
    ) -> Result<Appended> {
        let (have, need) = (bytes.len(), header.size_bytes);
        if have < need || need < HEADER_BYTES {
            return Err(BatchError::Truncated { have, need: need.max(HEADER_BYTES) }.into());
        }
        let (head, rest) = bytes[..need].split_at(HEADER_BYTES);
        let mut head: [u8; HEADER_BYTES] = head.try_into().expect("split there");
        let base_offset = self.log_end();
        let last_offset = base_offset.checked_add(i64::from(header.last_offset_delta)).filter(|o| *o < i64::MAX);
        let Some(last_offset) = last_offset else { return Err(BatchError::Invalid("no offsets are left").into()) };
        batch::patch(&mut head, base_offset, leader_epoch);
        let mut batch = Batch { base_offset, leader_epoch, ..*header };
        let mut log_append_time_ms = -1;
        if ts == TimestampType::LogAppendTime {
            batch.max_timestamp = now_ms;
            log_append_time_ms = now_ms;
            stamp(&mut head, rest, now_ms);
        }
        self.follows(&batch)?;
        let rolled = self.make_room(need, last_offset, now_ms)?;
        self.write(&head, rest)?;
        self.publish(&[batch], now_ms);
        Ok(Appended { base_offset, last_offset, log_append_time_ms, rolled })
    }

    /// Appends whole batches exactly as a leader has them (offsets and epochs are kept; must follow the log end, gaps allowed upward only
    /// from compaction). CRC and lengths are checked first, of all of them. When the disk fills up in the middle, those before are in
    /// (the log end says so) and the error is returned.
    pub fn append_as_follower(&mut self, bytes: &[u8], now_ms: i64) -> Result<Appended> {
        let mut batches = Vec::new();
        let (mut at, mut expected) = (0, self.log_end());
        while at < bytes.len() {
            let batch = batch::check_stored(&bytes[at..])?;
            if batch.base_offset < expected || batch.last_offset() == i64::MAX {
                return Err(Error::NotContiguous { expected, found: batch.base_offset });
            }
            expected = batch.next_offset();
            at += batch.size_bytes;
            batches.push(batch);
        }
        let (Some(first), Some(last)) = (batches.first().copied(), batches.last().copied()) else {
            return Err(BatchError::Truncated { have: 0, need: HEADER_BYTES }.into());
        };
        let mut epoch = self.shared().epochs.load().latest();
        for batch in &batches {
            if batch.leader_epoch < epoch {
                return Err(BatchError::Invalid("leader epoch is older than the log's").into());
            }
            epoch = batch.leader_epoch;
        }
        let mut rolled = false;
        let (mut at, mut next) = (0, 0);
        while next < batches.len() {
            rolled |= self.make_room(batches[next].size_bytes, batches[next].last_offset(), now_ms)?;
            // As many as fit are one write.
            let active = self.active.as_ref().expect("make_room gives an active segment");
            let limit = active.bytes_max(&self.config);
            let (base, mut to, from) = (active.segment.base, at, next);
            while let Some(b) = batches.get(next) {
                let end = active.position + (to - at + b.size_bytes) as u64;
                let fits = end <= limit && b.last_offset() - base <= i64::from(i32::MAX);
                if next > from && !fits {
                    break;
                }
                to += b.size_bytes;
                next += 1;
            }
            self.allocate(to - at)?;
            self.write(&[], &bytes[at..to])?;
            self.publish(&batches[from..next], now_ms);
            at = to;
        }
        Ok(Appended { base_offset: first.base_offset, last_offset: last.last_offset(), log_append_time_ms: -1, rolled })
    }

    /// Recovery cuts at a batch whose epoch is older than one before it, so none gets in.
    fn follows(&self, batch: &Batch) -> Result<()> {
        if batch.leader_epoch < self.shared().epochs.load().latest() {
            return Err(BatchError::Invalid("leader epoch is older than the log's").into());
        }
        Ok(())
    }

    fn writable(&self) -> Result<()> {
        if self.shared().closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        self.shared().health.check()
    }

    /// An active segment with `size` allocated bytes behind its end. Returns whether a new one was begun behind another.
    fn make_room(&mut self, size: usize, last_offset: i64, now_ms: i64) -> Result<bool> {
        self.writable()?;
        self.seat.note()?;
        let mut rolled = false;
        if let Some(active) = &self.active {
            if self.must_roll || active.is_full(&self.config, size, last_offset, now_ms) {
                self.start_segment(self.log_end(), size, now_ms)?;
                rolled = true;
            }
        } else {
            let last = self.shared().segments.load().last().cloned();
            let fits = |s: &Segment| {
                let position = s.end_position();
                let full = position > 0 && position + size as u64 > u64::from(self.config.segment_bytes);
                !full && !s.ends_damaged()
            };
            match last {
                Some(last) if !self.must_roll && fits(&last) => {
                    self.activate(&last, size, now_ms)?;
                    // Its age and index are known only now.
                    if self.active.as_ref().is_some_and(|a| a.is_full(&self.config, size, last_offset, now_ms)) {
                        self.start_segment(self.log_end(), size, now_ms)?;
                        rolled = true;
                    }
                }
                last => {
                    self.start_segment(self.log_end(), size, now_ms)?;
                    rolled = last.is_some();
                }
            }
        }
        self.allocate(size)?;
        Ok(rolled)
    }

    /// Blocks for `size` bytes behind the end, in steps of the file's own size; less when the disk is nearly full.
    fn allocate(&mut self, size: usize) -> Result<()> {
        let map_bytes = self.config.map_bytes(size);
        let active = self.active.as_mut().expect("there is an active segment");
        let need = active.position + size as u64;
        if need <= active.allocated {
            return Ok(());
        }
        let path = active.segment.path();
        if need > active.writer.map_len() as u64 {
            // A batch larger than a segment, alone in it.
            assert_eq!(active.position, 0, "only the first batch may need a larger map");
            let map = active.file.map(map_bytes, true).map_err(|e| Error::io("map", path, e))?;
            active.writer = RegionWriter::new(map, 0, self.reader.shared.health.mark());
            active.writer.set_writable(active.allocated as usize);
            let opened = Opened { file: active.file.clone(), region: active.writer.region().clone() };
            active.segment.set_opened(Some(Arc::new(opened)));
        }
        let map_len = active.writer.map_len() as u64;
        active.allocated = allocate(&*active.file, path, active.allocated, need, map_len)?;
        active.writer.set_writable(active.allocated as usize);
        active.segment.tail().allocated_to = active.allocated;
        Ok(())
    }

    /// Writes bytes behind the end, where they are allocated. Nobody sees them before [`Log::publish`].
    fn write(&mut self, head: &[u8], rest: &[u8]) -> Result<()> {
        let durable = self.config.durable;
        let active = self.active.as_mut().expect("there is an active segment");
        let (at, len) = (active.position, head.len() + rest.len());
        let mut tail = active.segment.tail();
        tail.written_to = at + len as u64;
        if durable || len >= PWRITE_BYTES_MIN {
            if let Err(e) = active.file.write_both_at(head, rest, at) {
                tail.written_to = at;
                return Err(Error::io("write", active.segment.path(), e));
            }
        } else {
            active.writer.write(at as usize, head);
            active.writer.write(at as usize + head.len(), rest);
        }
        // A store that met an unreadable page went nowhere.
        self.reader.shared.health.check()
    }

    /// Index entries, figures, then the ends, which readers acquire.
    fn publish(&mut self, batches: &[Batch], now_ms: i64) {
        let interval = self.config.index_interval_bytes as usize;
        let shared = &self.reader.shared;
        let active = self.active.as_mut().expect("there is an active segment");
        let before = active.position;
        for batch in batches {
            if active.since_index_bytes > interval {
                active.index.push(batch.last_offset(), active.position);
                active.index.push_time(active.max.0, active.max.1);
                active.since_index_bytes = 0;
            }
            active.since_index_bytes += batch.size_bytes;
            if batch.max_timestamp > active.max.0 {
                active.max = (batch.max_timestamp, batch.last_offset());
            }
            active.segment.note_append(batch.max_timestamp, now_ms);
            active.position += batch.size_bytes as u64;
            if batch.leader_epoch > shared.epochs.load().latest() {
                let mut epochs = Epochs::clone(&shared.epochs.load());
                epochs.push(batch.leader_epoch, batch.base_offset);
                shared.epochs.store(Arc::new(epochs));
                shared.epochs_changed.store(true, Ordering::Release);
            }
        }
        if before == 0 {
            active.first_ms = now_ms;
        }
        active.writer.publish(active.position as usize);
        active.segment.set_end_position(active.position);
        let size = shared.size.load(Ordering::Relaxed);
        shared.size.store(size + active.position - before, Ordering::Relaxed);
        let end = batches.last().map(Batch::next_offset).expect("at least one batch is published");
        shared.log_end.store(end, Ordering::Release);
    }

    /// Opens the last segment for appending.
    fn activate(&mut self, segment: &Arc<Segment>, size: usize, now_ms: i64) -> Result<()> {
        let shared = self.shared().clone();
        let position = segment.end_position();
        let failed = |op, e| Error::io(op, segment.path(), e);
        let index = match segment.view(&*shared.disk)? {
            Some(opened) => segment.index(&*shared.disk, &opened, self.config.index_interval_bytes),
            None => Arc::new(Index::new(segment.base)),
        };
        let max_timestamp = segment.max_timestamp(&*shared.disk, self.config.index_interval_bytes)?;
        segment.appended_ms(&*shared.disk, now_ms);
        let first_ms = match segment.view(&*shared.disk)? {
            Some(opened) => Batch::parse(segment.bytes(&opened)).map_or(now_ms, |b| b.max_timestamp),
            None => now_ms,
        };
        let file = shared.disk.open(segment.path(), Open::Write).map_err(|e| failed("open", e))?;
        let len = file.len().map_err(|e| failed("stat", e))?;
        if len > position {
            // An allocated tail, or bytes of a batch that was never published.
            file.set_len(position).map_err(|e| failed("cut", e))?;
        }
        let map = file.map(self.config.map_bytes(size).max(position as usize), true).map_err(|e| failed("map", e))?;
        let writer = RegionWriter::new(map, position as usize, shared.health.mark());
        let opened = Opened { file: file.clone(), region: writer.region().clone() };
        segment.set_checked_from(position);
        {
            let mut tail = segment.tail();
            *tail = Tail { written_to: position, allocated_to: position, last_flushed_to: position, ..Tail::default() };
        }
        segment.set_index(Some(index.clone()));
        segment.set_opened(Some(Arc::new(opened)));
        self.active = Some(Active {
            segment: segment.clone(),
            file,
            writer,
            index,
            position,
            allocated: position,
            since_index_bytes: usize::MAX / 2, // an entry with the next batch
            first_ms: if (0..=now_ms).contains(&first_ms) { first_ms } else { now_ms },
            max: (max_timestamp, segment.base),
        });
        Ok(())
    }

    /// Begins a new active segment at `base`, with room for `size` bytes, and seals the one before.
    fn start_segment(&mut self, base: i64, size: usize, now_ms: i64) -> Result<()> {
        self.make_dir()?;
        let shared = self.shared().clone();
        let disk = &*shared.disk;
        let path = segment::file_name(&shared.dir, base, "log");
        let failed = |op, e| Error::io(op, &path, e);
        let file = disk.open(&path, Open::Create).map_err(|e| failed("create", e))?;
        let made = self.prepare(&*file, &path, size);
        let (map, allocated) = match made {
            Ok(made) => made,
            Err(e) => {
                drop(file);
                // A file left behind, or back after a power cut, would end the segment before it at the next recovery.
                self.must_roll = disk.remove_file(&path).is_err() && disk.exists(&path);
                shared.names_gone.fetch_add(1, Ordering::AcqRel);
                return Err(e);
            }
        };
        let segment = Arc::new(Segment::created(&shared.dir, shared.health.mark(), base, now_ms));
        let mut writer = RegionWriter::new(map, 0, shared.health.mark());
        writer.set_writable(allocated as usize);
        let index = Arc::new(Index::new(base));
        segment.tail().allocated_to = allocated;
        segment.set_index(Some(index.clone()));
        segment.set_opened(Some(Arc::new(Opened { file: file.clone(), region: writer.region().clone() })));
        if let Some(old) = self.active.take() {
            old.seal(base);
        } else if let Some(last) = shared.segments.load().last() {
            last.set_end_offset(base);
        }
        let mut list = SegmentList::clone(&shared.segments.load());
        list.push(segment.clone());
        shared.segments.store(Arc::new(list));
        self.active = Some(Active {
            segment,
            file,
            writer,
            index,
            position: 0,
            allocated,
            since_index_bytes: 0,
            first_ms: now_ms,
            max: (-1, base),
        });
        self.must_roll = false;
        Ok(())
    }

    /// Blocks and a map for a new segment. A full disk may still have room in the tail of the old one.
    fn prepare(&mut self, file: &dyn DiskFile, path: &Path, size: usize) -> Result<(memmap2::MmapRaw, u64)> {
        let map_len = self.config.map_bytes(size);
        file.set_len(0).map_err(|e| Error::io("cut", path, e))?; // what a failed roll left
        let allocated = match allocate(file, path, 0, size as u64, map_len as u64) {
            Err(Error::NoSpace { .. }) if self.active.as_mut().is_some_and(|a| a.cut_tail()) => {
                allocate(file, path, 0, size as u64, map_len as u64)?
            }
            done => done?,
        };
        let map = file.map(map_len, true).map_err(|e| Error::io("map", path, e))?;
        Ok((map, allocated))
    }

    /// The partition's directory, with Kafka's `partition.metadata`; made at the first append.
    fn make_dir(&mut self) -> Result<()> {
        if self.has_dir {
            return Ok(());
        }
        let shared = self.shared().clone();
        shared.disk.create_dir_all(&shared.dir).map_err(|e| Error::io("create", &shared.dir, e))?;
        let path = shared.dir.join("partition.metadata");
        let text = names::partition_metadata(shared.id.topic_id);
        let write = || {
            let file = shared.disk.open(&path, Open::Create)?;
            file.set_len(0)?;
            file.write_all_at(text.as_bytes(), 0)
        };
        write().map_err(|e| Error::io("write", &path, e))?;
        self.has_dir = true;
        Ok(())
    }

    /// Starts a new segment now (unless the active one is empty).
    pub fn roll(&mut self, now_ms: i64) -> Result<()> {
        self.writable()?;
        let last = self.shared().segments.load().last().cloned();
        if last.is_none_or(|s| s.end_position() == 0) {
            return Ok(());
        }
        self.seat.note()?;
        self.start_segment(self.log_end(), 0, now_ms)
    }

    /// Makes all appended so far durable, outside a round. Blocks.
    pub fn flush(&self) -> Result<()> {
        if let Some(dirty) = self.reader.dirty() {
            self.seat.note()?;
            self.seat.before_flush()?;
            dirty.flush()?;
        }
        Ok(())
    }

    /// Remembers the high watermark for the catalogue.
    pub fn note_high_watermark(&self, offset: i64) {
        self.shared().high_watermark.store(offset, Ordering::Release);
    }

    /// Closes the log: flushes, cuts the allocated tail so that Kafka's tools can read the file, writes indexes and checkpoints, returns
    /// what the catalogue keeps. The log goes cold: a later `open_log` opens it again without recovery. Blocks.
    pub fn close(mut self, now_ms: i64) -> Result<LogStat> {
        self.remove_deleted(now_ms);
        self.writable()?;
        if let Some(mut active) = self.active.take() {
            active.segment.tail().sealed = true;
            active.cut_tail();
            active.index.push_time(active.max.0, active.max.1);
        }
        self.flush()?;
        let shared = self.shared();
        write_epochs(shared);
        for s in shared.segments.load().iter() {
            if s.index_in_memory().is_some() && s.tail().sealed {
                s.write_index(&*shared.disk, true);
            }
        }
        let stat = shared.stat();
        self.mark_closed();
        self.seat.closed(stat);
        Ok(stat)
    }

    /// The partition is deleted: appends and reads give `Closed` from now on; slices handed out stay valid.
    #[allow(dead_code)]
    pub(crate) fn mark_deleted(&mut self) {
        self.active = None;
        self.mark_closed();
    }

    fn mark_closed(&self) {
        let shared = self.shared();
        shared.closed.store(true, Ordering::Release);
        for s in shared.segments.load().iter() {
            s.tail().sealed = true;
            s.set_opened(None);
            s.set_index(None);
        }
    }
}

impl Drop for Log {
    /// A flush round may still hold the active segment; it must not write blocks ahead of an end that another `Log` moves.
    fn drop(&mut self) {
        if let Some(active) = &self.active {
            active.segment.tail().sealed = true;
        }
    }
}

impl Active {
    /// Where the segment ends: `segment.bytes`, or its map, made when that setting was smaller.
    fn bytes_max(&self, config: &LogConfig) -> u64 {
        u64::from(config.segment_bytes).min(self.writer.map_len() as u64)
    }

    /// Whether a batch must go to a new segment.
    fn is_full(&self, config: &LogConfig, size: usize, last_offset: i64, now_ms: i64) -> bool {
        self.position > 0
            && (self.position + size as u64 > self.bytes_max(config)
                || now_ms.saturating_sub(self.first_ms) > config.segment_ms
                || last_offset - self.segment.base > i64::from(i32::MAX)
                || self.index.is_full(config.segment_index_bytes))
    }

    /// Gives the allocated blocks behind the end back; whether there were any. Nothing published is touched.
    fn cut_tail(&mut self) -> bool {
        let mut tail = self.segment.tail();
        let cut = self.allocated > self.position && self.file.set_len(self.position).is_ok();
        if cut {
            self.allocated = self.position;
            self.writer.set_writable(self.position as usize);
            tail.allocated_to = self.position;
            tail.zeroed_to = tail.zeroed_to.min(self.position);
        }
        cut
    }

    /// A new segment begins at `next_base`: this one is written no more.
    fn seal(mut self, next_base: i64) {
        self.index.push_time(self.max.0, self.max.1);
        self.segment.set_end_offset(next_base);
        self.cut_tail();
    }
}

impl LogConfig {
    /// Address space of a segment whose first batch has `first_bytes`: whole pages.
    fn map_bytes(&self, first_bytes: usize) -> usize {
        let page = rustix::param::page_size();
        (self.segment_bytes as usize).max(first_bytes).max(1).next_multiple_of(page)
    }
}

/// Grows a file that has blocks for `allocated` bytes to at least `need`, at most `max`: by its own size, halved as the disk fills up.
fn allocate(file: &dyn DiskFile, path: &Path, allocated: u64, need: u64, max: u64) -> Result<u64> {
    let step = allocated.clamp(ALLOCATE_BYTES_MIN, ALLOCATE_BYTES_MAX);
    let mut target = (allocated + step).min(max).max(need);
    loop {
        match file.allocate(target).map_err(|e| Error::io("allocate", path, e)) {
            Ok(()) => return Ok(target),
            Err(Error::NoSpace { .. }) if target > need => {
                let more = (target - need) / 2;
                target = need + if more < 4096 { 0 } else { more };
            }
            Err(e) => return Err(e),
        }
    }
}

/// LogAppendTime in a header: attribute bit 3, max timestamp, and the CRC over both parts anew.
fn stamp(head: &mut [u8; HEADER_BYTES], rest: &[u8], now_ms: i64) {
    let attributes = i16::from_be_bytes([head[21], head[22]]) | 0x08;
    head[21..23].copy_from_slice(&attributes.to_be_bytes());
    head[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&head[21..]);
    digest.update(rest);
    head[17..21].copy_from_slice(&(digest.finalize() as u32).to_be_bytes());
}

#[cfg(test)]
mod tests;
