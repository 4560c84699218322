//! What a shard appends: the batches its machine wants, and its whole state from time to time.

use super::{Life, ShardError, settled};
use crate::{
    coordinator::machine::{Machine, Now, Record, Refusal},
    limits::COORDINATOR_SNAPSHOT_BATCH_BYTES,
    partition::{Effects, Partition, PartitionError, waiters::Goal},
};
use millstream_storage::{Batch, record::BatchBuilder};
use std::sync::Arc;

/// What a record takes in a batch besides its key and value, bytes at most.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// Openings of the log that one append waits for: a log that is closed under it again and again is not served.
const OPENINGS_MAX: usize = 8;

/// When the state is to be written anew.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Bytes of the log behind the last snapshot.
    since_bytes: u64,
    /// What the last snapshot took.
    size_bytes: u64,
    /// The next one is made when `since_bytes` is this.
    due_bytes: u64,
    /// Least between two.
    period_bytes: u64,
}

impl Snapshots {
    /// After a load of `log_bytes`.
    pub fn of<M: Machine>(machine: &M, log_bytes: u64, period_bytes: u64) -> Snapshots {
        let mut size_bytes = 0;
        // Of a short log it does not matter how much is state.
        if log_bytes >= period_bytes {
            machine.live(&mut |record| size_bytes += record_bytes(&record) as u64);
        }
        let since_bytes = log_bytes.saturating_sub(size_bytes);
        let mut snapshots = Snapshots { since_bytes, size_bytes, due_bytes: 0, period_bytes };
        snapshots.set_due();
        snapshots
    }

    /// For a log that holds what the machine does not: nothing may take its place.
    pub fn none() -> Snapshots {
        Snapshots { since_bytes: 0, size_bytes: 0, due_bytes: u64::MAX, period_bytes: u64::MAX }
    }

    fn set_due(&mut self) {
        self.due_bytes = self.period_bytes.max(2 * self.size_bytes);
    }

    pub(super) fn is_due(&self) -> bool {
        self.since_bytes >= self.due_bytes
    }
}

fn record_bytes(record: &Record) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Vec::len) + RECORD_OVERHEAD_BYTES
}

/// Largest batch that the partition's settings allow, bytes.
fn batch_bytes_max(partition: &Partition) -> usize {
    let settings = partition.topic().settings.load();
    settings.max_message_bytes.min(settings.log.segment_bytes as usize)
}

/// A refusal, and whether the partition is lost to this broker for good.
fn refusal(e: &PartitionError) -> (Refusal, bool) {
    match e {
        PartitionError::NotEnoughReplicas { .. } => (Refusal::NotEnoughReplicas, false),
        PartitionError::DiskFull(_) => (Refusal::DiskFull, false),
        PartitionError::NotLeader { .. }
        | PartitionError::FencedLeaderEpoch { .. }
        | PartitionError::UnknownLeaderEpoch { .. }
        | PartitionError::Deleted
        | PartitionError::Stopping => (Refusal::NotHere(e.to_string()), true),
        e => (Refusal::NotHere(e.to_string()), false),
    }
}

impl<M: Machine> Life<M> {
    /// Appends `records` as one batch, all or nothing. No records are no append.
    pub(super) async fn append(&mut self, records: &[Record], effects: &mut Effects) -> Result<(), Refusal> {
        if records.is_empty() {
            return Ok(());
        }
        let max_bytes = batch_bytes_max(&self.partition);
        let wall_ms = self.clock.now().wall_ms;
        let mut batch = BatchBuilder::new();
        for record in records {
            batch.push(wall_ms, Some(&record.key), record.value.as_deref(), &[]);
            if batch.size_bytes() > max_bytes {
                let size_bytes = records.iter().map(record_bytes).sum();
                return Err(Refusal::TooLarge { size_bytes, max_bytes });
            }
        }
        let bytes = batch.build();
        for _ in 0..OPENINGS_MAX {
            let opened = match self.put(&bytes, wall_ms, effects) {
                Ok(()) => {
                    self.state_end = self.end;
                    return Ok(());
                }
                Err(PartitionError::NotOpen) => {
                    // Nobody waits for us longer than needed.
                    drop(std::mem::take(effects));
                    self.partition.open().await
                }
                Err(e) => Err(e),
            };
            if let Err(e) = opened {
                return Err(self.refused(&e));
            }
        }
        Err(self.refused(&PartitionError::NotOpen))
    }

    fn refused(&mut self, e: &PartitionError) -> Refusal {
        let (refusal, lost) = refusal(e);
        if lost && self.over.is_none() {
            self.over = Some(ShardError::NotHere(e.to_string().into()));
        }
        tracing::debug!(topic = %self.partition.topic().name, partition = self.partition.index(), error = %e, "not appended");
        refusal
    }

    /// Appends one batch.
    fn put(&mut self, bytes: &[u8], wall_ms: i64, effects: &mut Effects) -> Result<(), PartitionError> {
        // Another epoch of ours is not this one: others may have written between.
        self.partition.check_leader(self.epoch)?;
        let header = Batch::parse(bytes)?;
        let appended = self.partition.append_as_leader(bytes, &header, -1, wall_ms, effects)?;
        self.end = appended.base_offset + i64::from(header.record_count);
        self.snapshots.since_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Applies what was appended.
    pub(super) fn replay(&mut self, records: &[Record], now: Now) {
        for record in records {
            if let Err(why) = self.machine.replay(&record.key, record.value.as_deref(), now) {
                // It wrote what it cannot read.
                debug_assert!(false, "{why}");
                tracing::error!(topic = %self.partition.topic().name, partition = self.partition.index(), why, "own record cannot be read");
            }
        }
    }

    /// Writes the whole state to the log if enough came together since the last time. The log below goes when this is settled.
    pub(super) async fn snapshot(&mut self, effects: &mut Effects) {
        if !self.snapshots.is_due() {
            return;
        }
        let first = self.end;
        let before_bytes = self.snapshots.since_bytes;
        if !self.partition.is_open() {
            // Idle since the load. Nobody waits for us longer than needed.
            drop(std::mem::take(effects));
            let _ = self.partition.open().await;
        }
        match self.put_state(effects) {
            Ok(()) => {
                self.snapshots.size_bytes = self.snapshots.since_bytes - before_bytes;
                self.snapshots.since_bytes = 0;
                self.snapshots.set_due();
                tracing::info!(
                    topic = %self.partition.topic().name,
                    partition = self.partition.index(),
                    offset = first,
                    bytes = self.snapshots.size_bytes,
                    "coordinator's state written anew"
                );
                self.delete_below(first);
            }
            Err(e) => {
                // What was written of it says nothing new. Not at once again: the disk may be full.
                self.snapshots.due_bytes = self.snapshots.since_bytes + self.snapshots.period_bytes / 8;
                tracing::warn!(
                    topic = %self.partition.topic().name,
                    partition = self.partition.index(),
                    error = %e,
                    "coordinator's state was not written anew"
                );
            }
        }
    }

    /// Appends every live record.
    fn put_state(&mut self, effects: &mut Effects) -> Result<(), PartitionError> {
        let wall_ms = self.clock.now().wall_ms;
        let bytes_max = COORDINATOR_SNAPSHOT_BATCH_BYTES.min(batch_bytes_max(&self.partition));
        let mut batches = Vec::new();
        let mut batch = BatchBuilder::new();
        self.machine.live(&mut |record| {
            if batch.record_count() > 0 && batch.size_bytes() + record_bytes(&record) > bytes_max {
                batches.push(std::mem::take(&mut batch).build());
            }
            batch.push(wall_ms, Some(&record.key), record.value.as_deref(), &[]);
        });
        if batch.record_count() > 0 {
            batches.push(batch.build());
        }
        batches.iter().try_for_each(|bytes| self.put(bytes, wall_ms, effects))
    }

    /// Deletes the log below the snapshot that begins at `first` and ends at the log's end, by a task of its own: once the snapshot is settled, and on disk too where the
    /// topic's settings would take it for settled before. What goes wrong is made good by the next snapshot.
    fn delete_below(&self, first: i64) {
        let (env, partition, end) = (self.env.clone(), self.partition.clone(), self.end);
        self.env.spawn("delete below a snapshot", async move {
            for goal in [Goal::Watermark, Goal::Durable] {
                if !settled(&partition, goal, end).await {
                    return;
                }
            }
            // An idle log may have been closed meanwhile.
            let _ = partition.open().await;
            let deleting: Arc<Partition> = partition.clone();
            if let Err(e) = env.blocking(move || deleting.delete_records(first)).await {
                tracing::warn!(topic = %partition.topic().name, partition = partition.index(), error = %e, "log below a snapshot stays");
            }
        });
    }
}
