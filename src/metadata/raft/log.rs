//! The raft log: a storage log of topic `__cluster_metadata`, and the vote beside it.
//!
//! Entries appended and not yet applied are also kept decoded, so that applying reads nothing back.
//!
//! **Alone**, in a quorum of one, nobody else ever saw a vote or an entry, so a start need not wait for the disk: the vote is stored at a clean
//! stop only (after any other end the log says which term was last), and entries that answer nobody (a leader's blank one, membership, this
//! broker's registration) are made durable together with the next, or by [`MetadataLog::settle`] soon after the start.

use super::{Entry, Failure, LogId, Proposal, StorageError, StorageIoError, Types, Vote, entry, machine::Snapshots};
use crate::{Env, limits, metadata::Command};
use millstream_storage::{
    Directory, Error, Log, LogConfig, LogReader, PartitionId, TimestampType, batch, checkpoint,
    disk::{DiskFile, Open},
};
use openraft::{
    AnyError, CommittedLeaderId, EntryPayload, LogState, OptionalSend, RaftLogReader,
    storage::{LogFlushed, RaftLogStorage},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const VOTE_FILE: &str = "metadata.vote";
const PURGED_FILE: &str = "metadata.purged";
const BALLAST_FILE: &str = "metadata.ballast";

/// Bytes read from the log at once.
const READ_BYTES: usize = 1 << 20;
/// Wait before a flush that found no file descriptors or memory is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The log of one node. Clones share it.
#[derive(Clone)]
pub(super) struct MetadataLog(Arc<Inner>);

struct Inner {
    env: Env,
    directory: Directory,
    snapshots: Snapshots,
    failure: Failure,
    reader: LogReader,
    /// The writer; `None` once closed.
    log: Mutex<Option<Log>>,
    vote: Mutex<Option<Vote>>,
    /// The last log id that is gone from the log (or counts as gone).
    purged: Mutex<Option<LogId>>,
    /// The newest entries, decoded: appended and not applied.
    tail: Mutex<VecDeque<Entry>>,
    /// Whether this node is the whole quorum.
    alone: AtomicBool,
    /// Whether the ballast file is there.
    ballast: AtomicBool,
    /// Whether the disk was full and the ballast has not come back since.
    full: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct StoredVote {
    term: u64,
    node: i32,
    committed: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredLogId {
    term: u64,
    leader: i32,
    index: u64,
}

/// No code panics while it holds one of these locks; if it did, what they guard is still whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: limits::METADATA_SEGMENT_BYTES,
        segment_ms: i64::MAX,
        retention_ms: -1,
        retention_bytes: -1,
        ..LogConfig::default()
    }
}

impl MetadataLog {
    /// Opens the log, recovering it after an unclean stop, and the small files beside it. Blocks.
    pub(super) fn open(
        env: Env,
        directory: Directory,
        snapshots: Snapshots,
        failure: Failure,
    ) -> Result<MetadataLog, String> {
        let id = PartitionId { topic_id: crate::metadata::METADATA_TOPIC_ID.into_bytes(), partition: 0 };
        let now_ms = env.now_ms();
        let mut log = directory
            .open_log(id, crate::metadata::METADATA_TOPIC, log_config(), now_ms)
            .map_err(|e| format!("the metadata log cannot be opened: {e}"))?;
        let reader = log.reader().clone();

        let purged: Option<StoredLogId> = small(&directory, PURGED_FILE)?;
        let purged = purged.map(|p| LogId::new(CommittedLeaderId::new(p.term, p.leader), p.index));
        let purged_next = purged.map_or(0, |p| p.index + 1);
        if purged.is_some() && snapshots.last_log_id().map(|l| l.index) < purged.map(|p| p.index) {
            return Err(format!(
                "the metadata log begins at entry {purged_next}, but no snapshot ({}) holds what was before; restore it from a backup",
                Snapshots::path(&directory).display()
            ));
        }
        let (start, end) = (reader.log_start(), reader.log_end());
        if start > offset(purged_next) {
            return Err(format!(
                "the metadata log begins at entry {start}, but {PURGED_FILE} says {purged_next}; restore {} from a backup",
                directory.path().join(PURGED_FILE).display()
            ));
        }
        if end < offset(purged_next) {
            // A crash between noting the purge and making it.
            log.truncate_fully_and_start_at(offset(purged_next))
                .map_err(|e| format!("the metadata log cannot be cut: {e}"))?;
        }

        let vote: Option<StoredVote> = small(&directory, VOTE_FILE)?;
        let vote = vote.map(|v| {
            let vote = Vote::new(v.term, v.node);
            if v.committed { Vote { committed: true, ..vote } } else { vote }
        });
        let ballast = directory.disk().exists(&directory.path().join(BALLAST_FILE));
        let log = MetadataLog(Arc::new(Inner {
            env,
            directory,
            snapshots,
            failure,
            reader,
            log: Mutex::new(Some(log)),
            vote: Mutex::new(vote),
            purged: Mutex::new(purged),
            tail: Mutex::default(),
            alone: AtomicBool::new(false),
            ballast: AtomicBool::new(ballast),
            full: AtomicBool::new(false),
        }));
        // openraft looks through what no snapshot covers more than once before it is applied.
        let unapplied = log.0.snapshots.last_log_id().map_or(0, |l| l.index + 1).max(purged_next)..log.next();
        if unapplied.end.saturating_sub(unapplied.start) <= limits::METADATA_TAIL_ENTRIES_MAX as u64 {
            let entries = log
                .read(unapplied.start, unapplied.end)
                .map_err(|e| format!("the metadata log cannot be read: {e}"))?;
            *locked(&log.0.tail) = entries.into();
        }
        // A node alone stores its vote at a clean stop only; with others, it is durable before the first entry of its term.
        let last = log.last().map_err(|e| format!("the metadata log cannot be read: {e}"))?;
        if let Some(last) = last.filter(|l| l.leader_id > vote.unwrap_or_default().leader_id) {
            *locked(&log.0.vote) = Some(Vote::new(last.leader_id.term, last.leader_id.node_id));
        }
        Ok(log)
    }

    /// Log id of the last entry, or of the last one purged.
    fn last(&self) -> Result<Option<LogId>, String> {
        let purged = *locked(&self.0.purged);
        if let Some(entry) = locked(&self.0.tail).back() {
            return Ok(Some(entry.log_id));
        }
        let end = self.0.reader.log_end();
        if end <= offset(purged.map_or(0, |p| p.index + 1)) {
            return Ok(purged);
        }
        Ok(self.read(self.next() - 1, self.next())?.last().map(|e| e.log_id))
    }

    /// Entries with an index in `from..to`, as far as there are any.
    async fn entries(&self, from: u64, to: u64) -> Result<Vec<Entry>, String> {
        let from = from.max(locked(&self.0.purged).map_or(0, |p| p.index + 1));
        let to = to.min(self.next());
        if from >= to {
            return Ok(Vec::new());
        }
        if let Some(found) = self.tail_entries(from, to) {
            return Ok(found);
        }
        let this = self.clone();
        self.0.env.blocking(move || this.read(from, to)).await
    }

    /// Index of the next entry.
    fn next(&self) -> u64 {
        u64::try_from(self.0.reader.log_end()).unwrap_or(0)
    }

    /// Entries `from..to`, which are there, from the disk. Blocks.
    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, String> {
        let mut found = Vec::new();
        let mut at = from;
        while at < to {
            let slice = self.0.reader.read(offset(at), READ_BYTES, offset(to), true).map_err(|e| e.to_string())?;
            let slice = slice.ok_or_else(|| format!("no entry at {at} of the metadata log"))?;
            if slice.cold {
                slice.populate().map_err(|e| e.to_string())?;
            }
            let mut rest = &slice.bytes[..];
            while !rest.is_empty() {
                let (entry, size) = entry::decode(rest)?;
                rest = &rest[size..];
                if entry.log_id.index != at {
                    return Err(format!("entry {} stands at {at} of the metadata log", entry.log_id.index));
                }
                at += 1;
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// The entries `from..to`, if the tail holds all of them.
    fn tail_entries(&self, from: u64, to: u64) -> Option<Vec<Entry>> {
        let tail = locked(&self.0.tail);
        let first = tail.front()?.log_id.index;
        if from < first || to > first + tail.len() as u64 {
            return None;
        }
        Some(tail.range((from - first) as usize..(to - first) as usize).cloned().collect())
    }

    /// Forgets the decoded form of entries up to `index`, which are applied.
    pub(super) fn applied(&self, index: u64) {
        let mut tail = locked(&self.0.tail);
        while tail.front().is_some_and(|e| e.log_id.index <= index) {
            tail.pop_front();
        }
        if tail.is_empty() && tail.capacity() > 64 {
            *tail = VecDeque::new();
        }
    }

    /// Appends to the log; readable, not yet durable, when it returns.
    fn append_all(&self, entries: Vec<Entry>) -> Result<(), String> {
        let now_ms = self.0.env.now_ms();
        let mut log = locked(&self.0.log);
        let log = log.as_mut().ok_or("the metadata log is closed")?;
        for entry in entries {
            let index = entry.log_id.index;
            let end = log.reader().log_end();
            if end != offset(index) {
                return Err(format!("entry {index} does not follow the end of the metadata log, {end}"));
            }
            let bytes = entry::encode(&entry, now_ms)?;
            let header = batch::check(&bytes).map_err(|e| e.to_string())?;
            let epoch = entry::epoch(entry.log_id.leader_id.term)?;
            let mut appended = log.append_as_leader(&bytes, &header, epoch, TimestampType::CreateTime, now_ms);
            if matches!(appended, Err(Error::NoSpace { .. })) && self.0.ballast.swap(false, Ordering::AcqRel) {
                self.0.full.store(true, Ordering::Release);
                let path = self.ballast_path();
                tracing::warn!(path = %path.display(), "the disk is full: the ballast goes, only deletions and settings are taken");
                let removed = self.0.directory.disk().remove_file(&path);
                if removed.is_ok() {
                    appended = log.append_as_leader(&bytes, &header, epoch, TimestampType::CreateTime, now_ms);
                }
            }
            appended.map_err(|e| e.to_string())?;
            let mut tail = locked(&self.0.tail);
            if tail.len() == limits::METADATA_TAIL_ENTRIES_MAX {
                tail.pop_front();
            }
            tail.push_back(entry);
        }
        Ok(())
    }

    /// Makes all of the log durable.
    async fn flush(&self) -> Result<(), String> {
        loop {
            let Some(dirty) = self.0.reader.dirty() else { return Ok(()) };
            let directory = self.0.directory.clone();
            let flushed = self.0.env.blocking(move || directory.flush(&[dirty])).await;
            match flushed.ends.into_iter().next() {
                Some(Ok(_)) => return Ok(()),
                // Nothing was lost; until then nothing is acknowledged.
                Some(Err(e @ Error::Exhausted { .. })) => {
                    tracing::warn!(error = %e, "the metadata log is not flushed yet: tried again");
                    tokio::time::sleep(RETRY).await;
                }
                Some(Err(e)) => return Err(e.to_string()),
                None => return Err("the flush answered nothing".to_string()),
            }
        }
    }

    /// Says that this node is the whole quorum: see the top of this file.
    pub(super) fn set_alone(&self) {
        self.0.alone.store(true, Ordering::Release);
    }

    /// Makes durable what a start left to be. A failure makes the log read-only.
    pub(super) async fn settle(&self) {
        if let Err(why) = self.flush().await {
            self.0.failure.set(&why);
        }
    }

    /// Stores the vote; durable when it returns. Blocks.
    fn store_vote(&self, vote: &Vote) -> Result<(), String> {
        let stored = StoredVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed };
        let json = serde_json::to_vec(&stored).map_err(|e| e.to_string())?;
        let directory = &self.0.directory;
        checkpoint::write_atomic(&**directory.disk(), &directory.path().join(VOTE_FILE), &json)
            .map_err(|e| e.to_string())
    }

    /// Whether the disk was full and the ballast is spent.
    pub(super) fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Acquire)
    }

    fn ballast_path(&self) -> PathBuf {
        self.0.directory.path().join(BALLAST_FILE)
    }

    /// Makes sure of a file that can give its blocks to the log when the disk is full, so that topics can be deleted then. `Err` while the disk
    /// is full and the ballast spent.
    pub(super) async fn keep_ballast(&self) -> Result<(), String> {
        if self.0.ballast.load(Ordering::Acquire) {
            return Ok(());
        }
        let (disk, path) = (self.0.directory.disk().clone(), self.ballast_path());
        let made = self.0.env.blocking(move || {
            let make = || {
                disk.open(&path, Open::Create)
                    .and_then(|f: Arc<dyn DiskFile>| f.allocate(limits::METADATA_BALLAST_BYTES))
            };
            make().map_err(|e| {
                let _ = disk.remove_file(&path);
                Error::io("allocate", &path, e).to_string()
            })
        });
        match made.await {
            Ok(()) => {
                self.0.ballast.store(true, Ordering::Release);
                if self.0.full.swap(false, Ordering::AcqRel) {
                    tracing::info!("the disk has room again");
                }
                Ok(())
            }
            Err(why) if self.0.full.load(Ordering::Acquire) => Err(why),
            // A disk that was full from the start: the log may have room of its own.
            Err(_) => Ok(()),
        }
    }

    /// Closes the log cleanly, and stores the vote. Further appends are refused.
    pub(super) async fn close(&self, env: &Env) {
        let Some(log) = locked(&self.0.log).take() else { return };
        let (this, now_ms) = (self.clone(), env.now_ms());
        let closed = env.blocking(move || {
            log.close(now_ms).map_err(|e| e.to_string())?;
            let vote = *locked(&this.0.vote);
            vote.map_or(Ok(()), |vote| this.store_vote(&vote))
        });
        if let Err(why) = closed.await {
            tracing::warn!(error = why, "the metadata log was not closed cleanly; it is recovered at the next start");
        }
    }

    fn failed(&self, make: fn(AnyError) -> StorageIoError, why: String) -> StorageError {
        self.0.failure.set(&why);
        make(AnyError::error(why)).into()
    }
}

/// Whether nobody waits to hear that `entry` is durable.
fn answers_nobody(entry: &Entry) -> bool {
    match &entry.payload {
        EntryPayload::Blank | EntryPayload::Membership(_) => true,
        EntryPayload::Normal(Proposal(commands)) => {
            commands.iter().all(|c| matches!(c, Command::InitCluster { .. } | Command::RegisterBroker { .. }))
        }
    }
}

/// A raft index as an offset.
fn offset(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// Reads a small file of JSON beside the log.
fn small<T: for<'a> Deserialize<'a>>(directory: &Directory, name: &str) -> Result<Option<T>, String> {
    let path = directory.path().join(name);
    let bytes = checkpoint::read(&**directory.disk(), &path).map_err(|e| format!("{e}; restore it from a backup"))?;
    bytes
        .map(|b| serde_json::from_slice(&b).map_err(|e| format!("{} is not understood: {e}", path.display())))
        .transpose()
}

impl RaftLogReader<Types> for MetadataLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(from, to).await.map_err(|why| self.failed(StorageIoError::read_logs, why))
    }
}

impl RaftLogStorage<Types> for MetadataLog {
    type LogReader = MetadataLog;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let last_purged_log_id = *locked(&self.0.purged);
        let last_log_id = self.last().map_err(|why| self.failed(StorageIoError::read_logs, why))?;
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> MetadataLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        if !self.0.alone.load(Ordering::Acquire) {
            let (this, vote) = (self.clone(), *vote);
            let stored = self.0.env.blocking(move || this.store_vote(&vote)).await;
            stored.map_err(|why| self.failed(StorageIoError::write_vote, why))?;
        }
        *locked(&self.0.vote) = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(*locked(&self.0.vote))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let answers_nobody = self.0.alone.load(Ordering::Acquire) && entries.iter().all(answers_nobody);
        self.append_all(entries).map_err(|why| self.failed(StorageIoError::write_logs, why))?;
        let flushed = if answers_nobody { Ok(()) } else { self.flush().await };
        callback.log_io_completed(flushed.map_err(|why| {
            self.0.failure.set(&why);
            io::Error::other(why)
        }));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        locked(&self.0.tail).retain(|e| e.log_id.index < log_id.index);
        let (this, at) = (self.clone(), offset(log_id.index));
        let cut = self.0.env.blocking(move || {
            let mut log = locked(&this.0.log);
            let log = log.as_mut().ok_or("the metadata log is closed")?;
            match log.truncate_to(at) {
                Ok(end) if end == at => Ok(()),
                Ok(end) => Err(format!("the metadata log was cut at {end} instead of {at}")),
                Err(e) => Err(e.to_string()),
            }
        });
        cut.await.map_err(|why| self.failed(StorageIoError::write_logs, why))
    }

    /// The entries count as gone at once. They go from the disk only where a durable snapshot covers them; what cannot be removed now goes
    /// with the next purge.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        *locked(&self.0.purged) = Some(log_id);
        self.applied(log_id.index);
        if self.0.snapshots.last_log_id() < Some(log_id) {
            return Ok(());
        }
        let this = self.clone();
        let now_ms = self.0.env.now_ms();
        let removed = self.0.env.blocking(move || {
            let stored =
                StoredLogId { term: log_id.leader_id.term, leader: log_id.leader_id.node_id, index: log_id.index };
            let json = serde_json::to_vec(&stored).map_err(|e| e.to_string())?;
            let directory = &this.0.directory;
            checkpoint::write_atomic(&**directory.disk(), &directory.path().join(PURGED_FILE), &json)
                .map_err(|e| e.to_string())?;
            let next = offset(log_id.index + 1);
            let mut log = locked(&this.0.log);
            let Some(log) = log.as_mut() else { return Ok(()) };
            let end = log.reader().log_end();
            let removed = match next > end {
                true => log.truncate_fully_and_start_at(next),
                false => log.delete_records(next, end, now_ms).map(|_| ()),
            };
            removed.map_err(|e| e.to_string())
        });
        let removed: Result<(), String> = removed.await;
        if let Err(why) = removed {
            tracing::warn!(error = why, index = log_id.index, "old entries of the metadata log stay on the disk");
        }
        Ok(())
    }
}
