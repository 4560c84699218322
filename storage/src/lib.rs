//! `millstream-storage`: a memory-mapped, append-only segment log.
//!
//! A [`Directory`] is one data directory of one process. It holds partitions; each is a [`Log`] of
//! record batches in Kafka's format v2, in files with Kafka's names and bytes. A log has one writer,
//! guarded by its owner, and any number of [`LogReader`]s that never take a lock.
//!
//! The crate knows no sockets, requests, replication, clocks or async runtimes: time comes in as
//! `now_ms`, and every call that may block says so.
//!
//! Flow of an append: [`batch::check`] (no lock) → [`Log::append_as_leader`] (one copy into the active
//! segment, publish the end) → [`Directory::flush`] (a synchronous round over many partitions) →
//! [`LogReader::durable_end`] has moved.

pub mod batch;
pub mod catalogue;
pub mod checkpoint;
pub mod directory;
mod dirty;
pub mod disk;
pub mod epochs;
pub mod error;
mod health;
mod identity;
mod index;
pub mod log;
mod names;
mod reader;
pub mod record;
mod recovery;
mod region;
pub mod retention;
mod seat;
mod segment;
mod sigbus;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod views;

pub use batch::Batch;
pub use directory::{Directory, DirectoryOptions, Flushed, OpenError};
pub use disk::{Disk, DiskFile, OsDisk};
pub use error::{Error, Result};
pub use log::{Appended, Dirty, Log, LogConfig, LogReader, LogStat, Slice, TimestampType};

/// Names a partition for ever: a topic that is deleted and created again has another topic id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    /// Kafka's topic id (a UUID, big endian bytes).
    pub topic_id: [u8; 16],
    /// Index of the partition within the topic, 0 or more.
    pub partition: i32,
}
