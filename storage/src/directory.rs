//! A data directory: identity, lock, the catalogue of partitions, flush rounds.

use crate::{Dirty, Disk, Error, Log, LogConfig, LogStat, PartitionId, Result};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// Expected node id; another one in `meta.properties` is refused.
    pub node_id: i32,
    /// Cluster id for a new directory; an existing directory keeps its own.
    pub cluster_id: String,
    /// Directory id (UUID text) for a new directory.
    pub directory_id: String,
    /// Wall clock, ms since 1970.
    pub now_ms: i64,
    /// Most segments open at once (see `OsDisk::open_segments_max`).
    pub open_segments_max: usize,
}

/// Why a data directory could not be opened. `Display` is one sentence that says what to do.
#[derive(Debug)]
pub enum OpenError {
    /// Another process holds the lock.
    Locked { path: PathBuf },
    /// Written by a newer release.
    NewerFormat { path: PathBuf, found: u32, supported: u32 },
    /// Belongs to another node or cluster.
    Foreign { path: PathBuf, field: &'static str, found: String, expected: String },
    /// The file system refused: read-only, full, no permission.
    Io(Error),
}

/// One open data directory. Cheap to clone (an `Arc` inside). All methods may be called from any thread.
#[derive(Debug, Clone)]
pub struct Directory {
    #[allow(dead_code)]
    inner: Arc<()>,
}

/// Result of one flush round: what became durable of each log that was handed in, in the same order.
#[derive(Debug)]
pub struct Flushed {
    /// Durable end (exclusive offset) now, or why the flush of that log failed (the directory is failed then).
    pub ends: Vec<Result<i64>>,
}

impl Directory {
    /// Opens or creates the directory: lock, identity, catalogue, `opened`. Reads nothing of the partitions. Blocks.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, options: DirectoryOptions) -> Result<Directory, OpenError> {
        todo!("{disk:?} {path:?} {options:?}")
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        todo!()
    }
    /// The file system below (for small files beside the partitions, through [`crate::checkpoint`]).
    pub fn disk(&self) -> &Arc<dyn Disk> {
        todo!()
    }
    /// cluster.id of `meta.properties`.
    pub fn cluster_id(&self) -> &str {
        todo!()
    }
    /// directory.id of `meta.properties` (UUID text).
    pub fn directory_id(&self) -> &str {
        todo!()
    }
    /// Whether the last stop was clean.
    pub fn was_clean(&self) -> bool {
        todo!()
    }
    /// What the catalogue and `opened` know of a partition, without I/O; `None` when it never had an append.
    pub fn stat(&self, id: PartitionId) -> Option<LogStat> {
        let _ = id;
        todo!()
    }
    /// Partitions that were open at an unclean stop: they want [`Directory::open_log`] soon after start, in parallel.
    pub fn to_recover(&self) -> Vec<PartitionId> {
        todo!()
    }
    /// Opens a partition's log, recovering it where `opened` names it. A partition that never had an append gives an empty
    /// log without files or directory (made by its first append). Blocks; takes time in proportion to what lies above the
    /// recovery point, not to the size of the log.
    pub fn open_log(&self, id: PartitionId, topic: &str, config: LogConfig, now_ms: i64) -> Result<Log> {
        todo!("{id:?} {topic} {config:?} {now_ms}")
    }
    /// Deletes a partition: its directory is renamed to `<topic>-<partition>.<uuid>-delete` at once and removed by
    /// [`Directory::remove_deleted`]. Open readers and slices stay valid. `Ok` when there is none. Blocks.
    pub fn delete_partition(&self, id: PartitionId, topic: &str, log: Option<&mut Log>) -> Result<()> {
        todo!("{id:?} {topic} {}", log.is_some())
    }
    /// Unlinks directories and segments whose delay (`file.delete.delay.ms`) has passed. Blocks.
    pub fn remove_deleted(&self, now_ms: i64) {
        let _ = now_ms;
        todo!()
    }
    /// Moves partition directories that `known` does not accept to `quarantine/`; returns their names. Blocks.
    pub fn quarantine_unknown(&self, known: &dyn Fn(PartitionId) -> bool) -> Result<Vec<String>> {
        let _ = known;
        todo!()
    }
    /// One flush round: for each dirty log makes [durable end, log end) durable, oldest segment first, several logs at once,
    /// and the `opened` records they need in the same round. Stores each log's durable end before it returns. A failure is
    /// final for the directory (see [`Directory::failure`]). Blocks.
    pub fn flush(&self, dirty: &[Dirty]) -> Flushed {
        let _ = dirty;
        todo!()
    }
    /// Why the directory takes no more writes, if so.
    pub fn failure(&self) -> Option<String> {
        todo!()
    }
    /// Writes the catalogue (every 60 s and at stop) and starts `opened` afresh. Blocks.
    pub fn write_catalogue(&self, now_ms: i64) -> Result<()> {
        let _ = now_ms;
        todo!()
    }
    /// Clean stop, after every open log was closed with [`Log::close`]: catalogue with the clean mark, lock released. Blocks.
    pub fn close(&self, now_ms: i64) -> Result<()> {
        let _ = now_ms;
        todo!()
    }
}
