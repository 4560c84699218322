//! One partition's log: its settings and its one writer ([`Log`]). Readers are in `reader.rs`, flushing in `dirty.rs`, opening in
//! `recovery.rs`.

use crate::{
    Batch, Disk, DiskFile, Error, PartitionId, Result,
    batch::{self, BatchError, HEADER_BYTES},
    checkpoint,
    dirty::write_epochs,
    disk::Open,
    epochs::Epochs,
    health::Health,
    index::Index,
    names,
    reader::{SegmentList, Shared},
    recovery,
    region::RegionWriter,
    retention::{self, Aged},
    seat::Seat,
    segment::{self, Found, Opened, Segment, Tail},
};
use arc_swap::ArcSwap;
use std::{
    io,
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

    /// Cuts the log back so that its end is the base offset of the first batch that holds or follows `offset`; returns the new end.
    /// Durable when it returns. Bytes already handed out stay as they were. Blocks.
    pub fn truncate_to(&mut self, offset: i64) -> Result<i64> {
        self.writable()?;
        if offset >= self.log_end() {
            return Ok(self.log_end());
        }
        let shared = self.shared().clone();
        let disk = &*shared.disk;
        let list = shared.segments.load_full();
        let Some(first) = list.first() else { return Ok(self.log_end()) };
        if offset < first.base {
            self.restart_at(first.base, false)?;
            return Ok(first.base);
        }
        // The segment that holds the new end, and where.
        let mut keep = list.partition_point(|s| s.base <= offset) - 1;
        let segment = &list[keep];
        let mut cut = None;
        if let Some(opened) = segment.view(disk)? {
            let index = segment.index(disk, &opened, self.config.index_interval_bytes);
            cut = match segment.find(&opened, &index, offset) {
                Found::At { position, batch, .. } => Some((position, batch.base_offset)),
                Found::Damaged(bad) => Some((bad.from, bad.offset)),
                Found::End { .. } => None,
            };
        }
        let (position, end) = match cut {
            Some((0, end)) if keep == 0 || end == segment.base => {
                keep = keep.max(1) - 1; // nothing of it stays
                if list[keep].base == segment.base {
                    self.restart_at(end, false)?;
                    return Ok(end);
                }
                (list[keep].end_position(), end)
            }
            Some(cut) => cut,
            // A gap at its end: cut at the next one's base.
            None => (segment.end_position(), list.get(keep + 1).map_or(offset, |s| s.base)),
        };
        self.cut_at(&list, keep, position, end)?;
        Ok(end)
    }

    /// The log ends at offset `end`; segment `keep` is the last one that stays, up to `position`.
    fn cut_at(&mut self, list: &SegmentList, keep: usize, position: u64, end: i64) -> Result<()> {
        let disk = self.shared().disk.clone();
        // What stays is durable first: the end that is reported afterwards is a durable one.
        self.flush()?;
        self.active = None; // nothing is appended to the old files any more
        for s in list[keep..].iter() {
            s.tail().sealed = true;
        }
        let sealed = Arc::new(list[keep].sealed_at(position, end));
        sealed.write_index(&*disk, true);
        self.remove_snapshots_above(end)?;
        let mut kept: SegmentList = list[..keep].to_vec();
        kept.push(sealed);
        let old_start = self.shared().log_start.load(Ordering::Acquire);
        self.cut(kept, &list[keep + 1..], end, |log| {
            log.seat.truncating(end)?;
            if end < old_start { log.tell_log_start(end) } else { Ok(()) }
        })
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

    /// Puts `kept` in the place of the segment list, with `end` for its end. Readers see it at once, `tell` writes down that it happens,
    /// then the files follow: a reader that still has the old list finds them gone, looks again, and finds the new one. When it cannot
    /// be written down, the log is as before.
    fn cut(
        &mut self,
        kept: SegmentList,
        gone: &[Arc<Segment>],
        end: i64,
        tell: impl FnOnce(&mut Log) -> Result<()>,
    ) -> Result<()> {
        let shared = self.shared().clone();
        let before = (shared.segments.load_full(), shared.stat());
        let publish = |list: Arc<SegmentList>, start, end, durable, watermark| {
            let size = list.iter().map(|s| s.end_position()).sum();
            let mut generation = shared.generation();
            *generation += 1;
            shared.log_end.store(end, Ordering::Release);
            shared.durable_end.store(durable, Ordering::Release);
            shared.segments.store(list);
            shared.log_start.store(start, Ordering::Release);
            shared.high_watermark.store(watermark, Ordering::Release);
            shared.size.store(size, Ordering::Relaxed);
        };
        let (list, stat) = before;
        publish(Arc::new(kept), stat.log_start.min(end), end, end, stat.high_watermark.min(end));
        if let Err(e) = tell(self) {
            publish(list, stat.log_start, stat.log_end, stat.recovery_point, stat.high_watermark);
            return Err(e);
        }
        self.finish_cut(gone, end)
    }

    /// The files of a truncation: `gone` are renamed, newest first, and an empty segment at `end` is made, durably. A failure leaves half
    /// of it on disk, which only a restart sorts out: the directory is failed.
    fn finish_cut(&mut self, gone: &[Arc<Segment>], end: i64) -> Result<()> {
        let shared = self.shared().clone();
        self.change_files(gone, end).inspect_err(|e| shared.health.fail(format!("truncate: {e}")))?;
        let mut list = SegmentList::clone(&shared.segments.load());
        list.push(Arc::new(Segment::existing(&shared.dir, shared.health.mark(), end, i64::MAX, 0)));
        shared.segments.store(Arc::new(list));
        let mut epochs = Epochs::clone(&shared.epochs.load());
        if epochs.cut_from(end) {
            shared.epochs.store(Arc::new(epochs));
            shared.epochs_changed.store(true, Ordering::Release);
        }
        self.must_roll = false;
        write_epochs(&shared);
        Ok(())
    }

    /// Removes the producer snapshots above `end`, durably, before the log is cut there: they would be believed once it has grown past
    /// them again. Blocks.
    fn remove_snapshots_above(&self, end: i64) -> Result<()> {
        recovery::remove_snapshots_above(&*self.shared().disk, &self.shared().dir, end)
    }

    ///
    /// The new end comes first, in one step that replaces a segment of that name: a segment that an earlier truncation sealed still has
    /// bytes behind its end, and would show them again if a crash left it without a segment that follows.
    fn change_files(&mut self, gone: &[Arc<Segment>], end: i64) -> Result<()> {
        let shared = self.shared().clone();
        self.make_dir()?;
        self.seat.before_flush()?;
        let path = segment::file_name(&shared.dir, end, "log");
        let new = path.with_extension("log.new");
        let make = || {
            // No flush after this finds a new name to sync it for.
            match shared.disk.open(&shared.dir.join("partition.metadata"), Open::Write).and_then(|file| file.sync()) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
            let file = shared.disk.open(&new, Open::Create)?;
            file.set_len(0)?;
            file.sync()?;
            shared.disk.rename(&new, &path)?;
            shared.disk.sync_dir(&shared.dir)
        };
        make().map_err(|e| Error::io("create", &path, e))?;
        for s in gone.iter().rev().filter(|s| s.base != end) {
            self.remove_files(s, i64::MIN)?;
        }
        for extension in ["index", "timeindex"] {
            let _ = shared.disk.remove_file(&path.with_extension(extension));
        }
        shared.disk.sync_dir(&shared.dir).map_err(|e| Error::io("sync", &shared.dir, e))
    }

    /// Throws everything away and continues at `offset` (a follower whose leader starts later). Blocks.
    pub fn truncate_fully_and_start_at(&mut self, offset: i64) -> Result<()> {
        self.writable()?;
        self.restart_at(offset, true)
    }

    /// As above; `moves_start`: the log start becomes `offset` whether it is higher or lower.
    fn restart_at(&mut self, offset: i64, moves_start: bool) -> Result<()> {
        let shared = self.shared().clone();
        let list = shared.segments.load_full();
        let old_start = shared.log_start.load(Ordering::Acquire);
        // Where the files do not follow (a crash), the old ones are recovered from here.
        let point = offset.min(shared.durable_end.load(Ordering::Acquire));
        self.active = None;
        for s in list.iter() {
            s.tail().sealed = true;
        }
        // What goes on elsewhere has another past.
        self.remove_snapshots_above(if moves_start { -1 } else { offset })?;
        self.cut(SegmentList::new(), &list, offset, |log| {
            log.seat.truncating(point)?;
            if moves_start || offset < old_start { log.tell_log_start(offset) } else { Ok(()) }
        })?;
        if moves_start {
            shared.epochs.store(Arc::default());
            shared.epochs_changed.store(true, Ordering::Release);
            write_epochs(&shared);
            shared.log_start.store(offset, Ordering::Release);
        }
        shared.catalogued_expires_ms.store(i64::MIN, Ordering::Relaxed);
        Ok(())
    }

    /// Renames a segment's file so that no recovery finds it, and drops its indexes. `due_ms`: when it is to be unlinked.
    fn remove_files(&mut self, segment: &Segment, due_ms: i64) -> Result<()> {
        let disk = &*self.reader.shared.disk;
        let (from, to) = (segment.path(), segment.path().with_extension("log.deleted"));
        match disk.rename(from, &to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("rename", from, e)),
        }
        let _ = disk.remove_file(&from.with_extension("index"));
        let _ = disk.remove_file(&from.with_extension("timeindex"));
        self.deleted.retain(|d| d.0 != to);
        self.deleted.push((to, due_ms));
        Ok(())
    }

    /// DeleteRecords: moves the log start to `offset` (`OffsetOutOfRange` beyond `high_watermark`; lower than the start is no change);
    /// whole segments below go. Returns the log start. Durable when it returns. Blocks.
    pub fn delete_records(&mut self, offset: i64, high_watermark: i64, now_ms: i64) -> Result<i64> {
        self.writable()?;
        let shared = self.shared().clone();
        let start = shared.log_start.load(Ordering::Acquire);
        let end = high_watermark.min(self.log_end());
        if offset > end {
            return Err(Error::OffsetOutOfRange { offset, start, end });
        }
        if offset <= start {
            return Ok(start);
        }
        self.tell_log_start(offset)?;
        shared.log_start.fetch_max(offset, Ordering::AcqRel);
        if offset == self.log_end() {
            let _ = self.roll(now_ms); // so that the last segment's bytes go too; a disk too full for it keeps them
        }
        let whole = shared.segments.load().iter().take_while(|s| s.end_offset() <= offset).count();
        self.remove_oldest(whole, now_ms)?;
        Ok(offset)
    }

    /// Removes the `count` oldest segments and what is known only of them.
    fn remove_oldest(&mut self, count: usize, now_ms: i64) -> Result<()> {
        let shared = self.shared().clone();
        let list = shared.segments.load_full();
        let start = shared.log_start.load(Ordering::Acquire);
        let mut epochs = Epochs::clone(&shared.epochs.load());
        if epochs.cut_below(start) {
            shared.epochs.store(Arc::new(epochs));
            shared.epochs_changed.store(true, Ordering::Release);
        }
        if count == 0 {
            return Ok(());
        }
        // The names of those that stay are durable first: else what was cut from the ones before them could be back.
        shared.disk.sync_dir(&shared.dir).map_err(|e| Error::io("sync", &shared.dir, e))?;
        shared.segments.store(Arc::new(list[count..].to_vec()));
        let gone: u64 = list[..count].iter().map(|s| s.end_position()).sum();
        let size = shared.size.load(Ordering::Relaxed);
        shared.size.store(size.saturating_sub(gone), Ordering::Relaxed);
        shared.catalogued_expires_ms.store(i64::MIN, Ordering::Relaxed);
        for s in &list[..count] {
            self.remove_files(s, now_ms.saturating_add(self.config.file_delete_delay_ms))?;
            s.set_opened(None);
        }
        for (offset, path) in self.snapshot_files() {
            if offset < start {
                let _ = shared.disk.remove_file(&path);
            }
        }
        Ok(())
    }

    /// Makes a log start durable before it is in force, and before a segment goes: recovery must tell one that was removed from one that
    /// was lost.
    fn tell_log_start(&mut self, offset: i64) -> Result<()> {
        self.seat.note()?;
        self.seat.log_start(offset)?;
        self.make_dir()?;
        let shared = self.shared();
        let path = shared.dir.join(recovery::LOG_START_FILE);
        match checkpoint::write_atomic(&*shared.disk, &path, &offset.to_be_bytes()) {
            // What makes room on a full disk must not need any: the word in `opened` is made durable, and the file's older one goes.
            Err(Error::NoSpace { .. }) if self.seat.is_told() => {
                self.seat.before_flush()?;
                match shared.disk.remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
                    _ => shared.disk.sync_dir(&shared.dir).map_err(|e| Error::io("sync", &shared.dir, e)),
                }
            }
            done => done,
        }
    }

    /// Applies retention by time and size to closed segments below `high_watermark` (and rolls an expired active one); returns how many
    /// segments went. Unlinks the files whose delay has passed, too. Blocks.
    pub fn retain(&mut self, now_ms: i64, high_watermark: i64) -> Result<usize> {
        self.remove_deleted(now_ms);
        self.writable()?;
        let shared = self.shared().clone();
        let (retention_ms, interval) = (self.config.retention_ms, self.config.index_interval_bytes);
        let list = shared.segments.load_full();
        let Some(last) = list.last() else { return Ok(0) };
        // Timestamps are asked for only as far as segments are old: the first that is not ends it.
        let mut young = retention_ms < 0;
        let mut age = |s: &Segment| {
            if young {
                return Aged { appended_ms: i64::MAX, max_timestamp_ms: None, ..s.aged_in_memory(now_ms) };
            }
            let aged = s.aged(&*shared.disk, interval, now_ms);
            young = aged.expires_ms(retention_ms) >= now_ms;
            aged
        };
        let closed: Vec<Aged> = list[..list.len() - 1].iter().map(|s| age(s)).collect();
        let active = age(last);
        let mut count = retention::expired(
            &closed,
            last.end_position(),
            retention_ms,
            self.config.retention_bytes,
            high_watermark,
            now_ms,
        );
        let end = self.log_end();
        if count == closed.len()
            && active.expires_ms(retention_ms) < now_ms
            && last.end_position() > 0
            && end <= high_watermark
        {
            self.roll(now_ms)?;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let start = list[count - 1].end_offset().min(end);
        self.tell_log_start(start)?;
        shared.log_start.fetch_max(start, Ordering::AcqRel);
        self.remove_oldest(count, now_ms)?;
        Ok(count)
    }

    /// Unlinks removed segments' files whose delay (`file.delete.delay.ms`) has passed. Blocks.
    pub fn remove_deleted(&mut self, now_ms: i64) {
        let disk = &*self.reader.shared.disk;
        self.deleted.retain(|(path, due_ms)| {
            *due_ms > now_ms || disk.remove_file(path).is_err_and(|e| e.kind() != io::ErrorKind::NotFound)
        });
    }

    /// Stores a producer snapshot, opaque bytes in Kafka's format, as `<offset>.snapshot` (atomically, unsynced; bad ones are ignored at
    /// load) and drops all but the two newest. Nothing before the first append. Blocks.
    pub fn write_producer_snapshot(&self, offset: i64, bytes: &[u8]) -> Result<()> {
        if !self.has_dir {
            return Ok(());
        }
        self.writable()?;
        let disk = &*self.shared().disk;
        let path = segment::file_name(&self.shared().dir, offset, "snapshot");
        let tmp = path.with_extension("snapshot.new");
        let write = || {
            let file = disk.open(&tmp, Open::Create)?;
            file.set_len(0)?;
            file.write_all_at(bytes, 0)?;
            drop(file);
            disk.rename(&tmp, &path)
        };
        if let Err(e) = write() {
            let _ = disk.remove_file(&tmp);
            return Err(Error::io("write", &path, e));
        }
        for (_, path) in self.snapshot_files().into_iter().skip(SNAPSHOTS) {
            let _ = disk.remove_file(&path);
        }
        Ok(())
    }

    /// Newest producer snapshots first: (offset, bytes). Those above the log end know of records that are gone: they are removed, since they would
    /// be believed once the log is that long again. Blocks.
    pub fn producer_snapshots(&self) -> Vec<(i64, Vec<u8>)> {
        let shared = self.shared();
        let (disk, end) = (&*shared.disk, self.log_end());
        let (known, above): (Vec<_>, Vec<_>) = self.snapshot_files().into_iter().partition(|s| s.0 <= end);
        for (_, path) in &above {
            let _ = disk.remove_file(path);
        }
        if !above.is_empty() {
            let _ = disk.sync_dir(&shared.dir);
        }
        let read = |(offset, path): (i64, PathBuf)| Some((offset, checkpoint::read_plain(disk, &path).ok()??));
        known.into_iter().filter_map(read).collect()
    }

    /// Removes one (it was damaged). Blocks.
    pub fn remove_producer_snapshot(&self, offset: i64) {
        let path = segment::file_name(&self.shared().dir, offset, "snapshot");
        let _ = self.shared().disk.remove_file(&path);
    }

    /// Newest first.
    fn snapshot_files(&self) -> Vec<(i64, PathBuf)> {
        if !self.has_dir {
            return Vec::new();
        }
        let dir = &self.shared().dir;
        let mut found: Vec<_> = self
            .shared()
            .disk
            .read_dir(dir)
            .unwrap_or_default()
            .iter()
            .filter_map(|e| segment::base_of(&e.name, "snapshot"))
            .map(|offset| (offset, segment::file_name(dir, offset, "snapshot")))
            .collect();
        found.sort_by_key(|f| std::cmp::Reverse(f.0));
        found
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
#[path = "log_tests.rs"]
mod tests;
