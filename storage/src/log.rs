//! One partition's log: a writer ([`Log`]) and lock-free readers ([`LogReader`]).

use crate::{Batch, Result};
use bytes::Bytes;

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
    _p: (),
}

impl Log {
    /// A reader; clones share the log. Stays valid after close and delete (then reads give `Closed`).
    pub fn reader(&self) -> &LogReader {
        todo!()
    }
    /// Settings now in force.
    pub fn set_config(&mut self, config: LogConfig) {
        let _ = config;
        todo!()
    }
    /// Appends one batch that [`crate::batch::check`] accepted (`header` is its verdict on these bytes): assigns the next offset and
    /// `leader_epoch`, stamps LogAppendTime where asked, publishes the end with a release store. Makes the partition's directory at its
    /// first append. Rolls first when the segment is full, or too old by `now_ms` (wall ms).
    pub fn append_as_leader(
        &mut self,
        bytes: &[u8],
        header: &Batch,
        leader_epoch: i32,
        ts: TimestampType,
        now_ms: i64,
    ) -> Result<Appended> {
        todo!("{} {header:?} {leader_epoch} {ts:?} {now_ms}", bytes.len())
    }
    /// Appends whole batches exactly as a leader has them (offsets and epochs are kept; must follow the log end, gaps allowed upward only
    /// from compaction). CRC and lengths are checked.
    pub fn append_as_follower(&mut self, bytes: &[u8], now_ms: i64) -> Result<Appended> {
        todo!("{} {now_ms}", bytes.len())
    }
    /// Starts a new segment now (unless the active one is empty).
    pub fn roll(&mut self, now_ms: i64) -> Result<()> {
        let _ = now_ms;
        todo!()
    }
    /// Cuts the log back so that its end is the base offset of the first batch that holds or follows `offset`; returns the new end.
    /// Durable when it returns. Bytes already handed out stay as they were. Blocks.
    pub fn truncate_to(&mut self, offset: i64) -> Result<i64> {
        let _ = offset;
        todo!()
    }
    /// Throws everything away and continues at `offset` (a follower whose leader starts later). Blocks.
    pub fn truncate_fully_and_start_at(&mut self, offset: i64) -> Result<()> {
        let _ = offset;
        todo!()
    }
    /// DeleteRecords: moves the log start to `offset` (`OffsetOutOfRange` beyond `high_watermark`; lower than the start is no change); whole segments
    /// below go. Returns the log start. Blocks.
    pub fn delete_records(&mut self, offset: i64, high_watermark: i64, now_ms: i64) -> Result<i64> {
        todo!("{offset} {high_watermark} {now_ms}")
    }
    /// Applies retention by time and size to closed segments below `high_watermark` (and rolls an expired active one); returns how many segments went. Blocks.
    pub fn retain(&mut self, now_ms: i64, high_watermark: i64) -> Result<usize> {
        todo!("{now_ms} {high_watermark}")
    }
    /// Stores a producer snapshot, opaque bytes in Kafka's format, as `<offset>.snapshot` (atomically, unsynced; bad ones are ignored at load) and drops
    /// all but the two newest. Blocks.
    pub fn write_producer_snapshot(&self, offset: i64, bytes: &[u8]) -> Result<()> {
        todo!("{offset} {}", bytes.len())
    }
    /// Newest producer snapshots first: (offset, bytes), none above the log end. Blocks.
    pub fn producer_snapshots(&self) -> Vec<(i64, Vec<u8>)> {
        todo!()
    }
    /// Removes one (it was damaged). Blocks.
    pub fn remove_producer_snapshot(&self, offset: i64) {
        let _ = offset;
        todo!()
    }
    /// Remembers the high watermark for the catalogue.
    pub fn note_high_watermark(&self, offset: i64) {
        let _ = offset;
        todo!()
    }
    /// Closes the log: flushes, cuts the allocated tail so that Kafka's tools can read the file, writes indexes and checkpoints, returns what the catalogue
    /// keeps. The log goes cold: a later `open_log` opens it again without recovery. Blocks.
    pub fn close(self, now_ms: i64) -> Result<LogStat> {
        let _ = now_ms;
        todo!()
    }
}

/// Reads a log without locks. Cheap to clone (an `Arc` inside).
#[derive(Debug, Clone)]
pub struct LogReader {
    _p: (),
}

/// One log's bytes that want a flush: a snapshot for [`crate::Directory::flush`]. Keeps the segments concerned alive.
#[derive(Debug)]
pub struct Dirty {
    pub(crate) _p: (),
}

/// Bytes of whole batches, contiguous in one segment. Keeps its segment alive.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Straight from the map; no copy.
    pub bytes: Bytes,
    /// Byte position in the segment file, for sendfile.
    pub position: u64,
    /// The segment file.
    pub file: std::sync::Arc<dyn crate::DiskFile>,
    /// Base offset of the first batch (it may lie below the offset asked for).
    pub first_offset: i64,
    /// Whether the pages may be off memory: call [`Slice::populate`] where blocking is allowed before touching them.
    pub cold: bool,
}

impl Slice {
    /// Brings the pages in (MADV_POPULATE_READ in 4 MiB steps). An I/O error is `Error::Io` of this read. Blocks.
    pub fn populate(&self) -> Result<()> {
        todo!()
    }
}

impl LogReader {
    /// First offset there is.
    pub fn log_start(&self) -> i64 {
        todo!()
    }
    /// Offset the next record gets (acquire load).
    pub fn log_end(&self) -> i64 {
        todo!()
    }
    /// All below is durable.
    pub fn durable_end(&self) -> i64 {
        todo!()
    }
    /// Published bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    /// What wants a flush; `None` when all is durable. Moves nothing.
    pub fn dirty(&self) -> Option<Dirty> {
        todo!()
    }
    /// Bytes appended and not yet durable.
    pub fn dirty_bytes(&self) -> u64 {
        todo!()
    }
    /// Whole batches from the one that holds `offset` on, up to `bytes_max` bytes, all below offset `end` (exclusive; at most the log end; a batch that reaches past
    /// `end` is left out), from one segment. At least one batch when `at_least_one`, however large. `None` when nothing fits or `offset == end`.
    /// `OffsetOutOfRange` outside log start..=log end; `Corrupt` when the first batch wanted is quarantined (damage further on ends the slice before it).
    pub fn read(&self, offset: i64, bytes_max: usize, end: i64, at_least_one: bool) -> Result<Option<Slice>> {
        todo!("{offset} {bytes_max} {end} {at_least_one}")
    }
    /// First record with timestamp ≥ `timestamp_ms` below `end`: (timestamp, offset, leader epoch). Exact to the record for uncompressed batches; for compressed
    /// ones the batch's base offset and max timestamp stand in unless `unpack` gives the records' bytes (codec, compressed → plain). May block on cold pages.
    #[allow(clippy::type_complexity)]
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        end: i64,
        unpack: Option<&dyn Fn(u8, &[u8]) -> Option<Vec<u8>>>,
    ) -> Result<Option<(i64, i64, i32)>> {
        todo!("{timestamp_ms} {end} {}", unpack.is_some())
    }
    /// The record with the largest timestamp below `end`: (timestamp, offset, leader epoch). As above.
    #[allow(clippy::type_complexity)]
    pub fn max_timestamp(
        &self,
        end: i64,
        unpack: Option<&dyn Fn(u8, &[u8]) -> Option<Vec<u8>>>,
    ) -> Result<Option<(i64, i64, i32)>> {
        todo!("{end} {}", unpack.is_some())
    }
    /// KIP-101: (largest epoch ≤ `epoch`, its end offset); `None` when there is none known.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let _ = epoch;
        todo!()
    }
    /// Epoch of the newest batch, -1 = none.
    pub fn latest_epoch(&self) -> i32 {
        todo!()
    }
    /// Epoch that `offset` was written under.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        let _ = offset;
        todo!()
    }
}
