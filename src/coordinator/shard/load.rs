//! Reading a shard's log back: every record of it, in order, into the machine.
//!
//! What is damaged is left out with an error in the log: one batch lost is better than every group of the partition.

use super::{Clock, ShardError, settled};
use crate::{
    Env,
    coordinator::machine::{Machine, Now},
    limits::{COORDINATOR_LOAD_STEP_BYTES, UNPACKED_BATCH_BYTES_MAX},
    partition::{Partition, PartitionError, waiters::Goal},
    wire::codec,
};
use millstream_storage::{
    self as storage, Batch, LogReader, Slice,
    batch::HEADER_BYTES,
    record::{self, Record},
};
use std::sync::Arc;
use tokio::time::Instant;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// Records that cannot be read are named in the log up to so many a load.
const COMPLAINTS_MAX: u64 = 10;
/// Reads made again because of damage further on, which is found once.
const READ_ATTEMPTS: usize = 1000;

/// What a load gives.
#[derive(Debug)]
pub(super) struct Loaded<M> {
    pub machine: M,
    /// The log's end.
    pub end: i64,
    /// Of the log.
    pub log_bytes: u64,
    /// Something could not be read: only the log has it.
    pub damaged: bool,
}

/// Reads the log into `machine`, which is empty, as the leader of `epoch`. Returns when all that was read is settled.
pub(super) async fn load<M: Machine>(
    env: &Env,
    partition: &Arc<Partition>,
    epoch: i32,
    mut machine: M,
    clock: &Clock,
) -> Result<Loaded<M>, ShardError> {
    let begun = Instant::now();
    if !partition.has_reached(Goal::Watermark, 0) {
        // What was appended before its failure would never be settled.
        return Err(match partition.is_deleted() {
            true => not_served(&PartitionError::Deleted),
            false => ShardError::NotAvailable("the partition takes no more writes".into()),
        });
    }
    partition.check_leader(epoch).map_err(|e| not_served(&e))?;
    let mut reader = partition.opened_reader().await.map_err(|e| not_served(&e))?;
    let mut replay = Replay::new(&reader, &partition.topic().name, partition.index());
    while !replay.is_done() {
        let (from, now, step_reader) = (replay.at, clock.now(), reader.clone());
        let step = move || {
            let read = replay.step(&step_reader, &mut machine, now);
            (machine, replay, read)
        };
        let read;
        (machine, replay, read) = env.blocking(step).await;
        match read {
            Ok(()) => {}
            Err(storage::Error::Closed) => reader = partition.opened_reader().await.map_err(|e| not_served(&e))?,
            Err(e) if replay.at == from => return Err(ShardError::NotAvailable(e.to_string().into())),
            // Once more; it comes again if it has to.
            Err(_) => {}
        }
    }
    let end = replay.end;
    if !settled(partition, Goal::Watermark, end).await {
        return Err(ShardError::NotAvailable("the log's end was not settled".into()));
    }
    if end > 0 {
        tracing::info!(
            topic = %partition.topic().name,
            partition = partition.index(),
            records = replay.records,
            bytes = replay.bytes,
            skipped = replay.skipped,
            took_ms = begun.elapsed().as_millis() as u64,
            "coordinator loaded"
        );
    }
    if replay.is_damaged {
        tracing::error!(
            topic = %partition.topic().name,
            partition = partition.index(),
            "the coordinator's log is damaged: its state is not written anew, and nothing of the log is deleted"
        );
    }
    Ok(Loaded { machine, end, log_bytes: replay.bytes, damaged: replay.is_damaged })
}

/// What a partition's refusal to be read means to askers.
fn not_served(e: &PartitionError) -> ShardError {
    let why: Arc<str> = e.to_string().into();
    match e {
        PartitionError::NotLeader { .. }
        | PartitionError::FencedLeaderEpoch { .. }
        | PartitionError::UnknownLeaderEpoch { .. }
        | PartitionError::Deleted
        | PartitionError::Stopping => ShardError::NotHere(why),
        _ => ShardError::NotAvailable(why),
    }
}

/// How far a load has come.
#[derive(Debug)]
pub(super) struct Replay {
    /// For the log.
    topic: Arc<str>,
    partition: i32,
    start: i64,
    /// Next offset to read.
    pub at: i64,
    /// Where to stop.
    end: i64,
    /// Bytes of batches read.
    pub bytes: u64,
    pub records: u64,
    /// Records and batches that were left out.
    pub skipped: u64,
    /// A batch or part of one could not be read.
    pub is_damaged: bool,
    /// First offset of the damage that is being passed over.
    damaged_from: Option<i64>,
}

impl Replay {
    /// Of the log that `reader` shows, up to its end now.
    pub fn new(reader: &LogReader, topic: &Arc<str>, partition: i32) -> Replay {
        Replay { end: reader.log_end(), ..Replay::over(topic.clone(), partition, reader.log_start()) }
    }

    fn over(topic: Arc<str>, partition: i32, start: i64) -> Replay {
        Replay {
            topic,
            partition,
            start,
            at: start,
            end: start,
            bytes: 0,
            records: 0,
            skipped: 0,
            is_damaged: false,
            damaged_from: None,
        }
    }

    /// Whether there is nothing left to read.
    pub fn is_done(&self) -> bool {
        self.at >= self.end
    }

    /// Reads on for [`COORDINATOR_LOAD_STEP_BYTES`]. `Closed` when the log was closed meanwhile: go on with a new reader. Blocks.
    pub fn step<M: Machine>(&mut self, reader: &LogReader, machine: &mut M, now: Now) -> storage::Result<()> {
        let stop = self.bytes + COORDINATOR_LOAD_STEP_BYTES;
        while !self.is_done() && self.bytes < stop {
            match read(reader, self.at, self.end) {
                Ok(Some(slice)) => self.slice(&slice.bytes, machine, now),
                // Nothing below the end: what was there has been compacted away.
                Ok(None) => self.at = self.end,
                Err(storage::Error::Corrupt { .. }) => self.damaged(),
                Err(storage::Error::OffsetOutOfRange { start, .. }) if start > self.at => {
                    // What was between may have taken back what was read before.
                    tracing::info!(topic = %self.topic, partition = self.partition, start, "the log was cut while it was read: once more");
                    *machine = M::default();
                    *self =
                        Replay { end: self.end.max(start), ..Replay::over(self.topic.clone(), self.partition, start) };
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The batch at `at` cannot be read: tries the next offset.
    fn damaged(&mut self) {
        if self.damaged_from.is_none() {
            self.damaged_from = Some(self.at);
            self.is_damaged = true;
            self.skipped += 1;
            tracing::error!(
                topic = %self.topic, partition = self.partition, offset = self.at,
                "damaged batch: what it said of the coordinator's state is left out"
            );
        }
        self.at += 1;
    }

    fn slice<M: Machine>(&mut self, mut bytes: &[u8], machine: &mut M, now: Now) {
        let from = self.at;
        while let Ok(batch) = Batch::parse(bytes) {
            let Some((whole, rest)) = bytes.split_at_checked(batch.size_bytes) else { break };
            if batch.next_offset() > self.at {
                self.batch(&batch, whole, machine, now);
                self.at = batch.next_offset();
                self.bytes += whole.len() as u64;
            }
            bytes = rest;
        }
        match self.at == from {
            true => self.damaged(),
            false => self.damaged_from = None,
        }
    }

    fn batch<M: Machine>(&mut self, batch: &Batch, whole: &[u8], machine: &mut M, now: Now) {
        // They end transactions, which say nothing of the state yet.
        if batch.is_control() {
            return;
        }
        let payload = whole.get(HEADER_BYTES..).unwrap_or_default();
        let unpacked = match batch.compression() {
            0 => None,
            codec => match codec::unpack(codec, payload, UNPACKED_BATCH_BYTES_MAX) {
                Some(unpacked) => Some(unpacked),
                None => {
                    self.is_damaged = true;
                    return self.complain(batch.base_offset, "the batch cannot be unpacked");
                }
            },
        };
        for record in record::records(unpacked.as_deref().unwrap_or(payload), batch.record_count) {
            match record {
                Ok(record) if record.offset(batch) < self.start => {}
                Ok(record) => self.record(batch, &record, machine, now),
                Err(e) => {
                    self.is_damaged = true;
                    return self.complain(batch.base_offset, &e.to_string());
                }
            }
        }
    }

    fn record<M: Machine>(&mut self, batch: &Batch, record: &Record<'_>, machine: &mut M, now: Now) {
        let offset = record.offset(batch);
        let Some(key) = record.key else { return self.complain(offset, "the record has no key") };
        self.records += 1;
        if let Err(why) = machine.replay(key, record.value, now) {
            self.complain(offset, &why);
        }
    }

    fn complain(&mut self, offset: i64, why: &str) {
        self.skipped += 1;
        if self.skipped <= COMPLAINTS_MAX {
            tracing::error!(topic = %self.topic, partition = self.partition, offset, why, "record of a coordinator's log is left out");
        }
    }
}

/// Whole batches from the one that holds `at`, their checksums checked. `Corrupt` when that one is damaged.
fn read(reader: &LogReader, at: i64, end: i64) -> storage::Result<Option<Slice>> {
    let mut attempts = READ_ATTEMPTS;
    loop {
        let slice = reader.read(at, READ_BYTES, end, true)?;
        let Some(cold) = slice.as_ref().filter(|slice| slice.cold) else { return Ok(slice) };
        match cold.populate() {
            Ok(()) => return Ok(slice),
            // From now on reads end before it.
            Err(storage::Error::Corrupt { offset, .. }) if offset > at && attempts > 0 => attempts -= 1,
            Err(e) => return Err(e),
        }
    }
}
