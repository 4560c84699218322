//! Looks into the records of a partition, batch by batch, for the eyes of a person: what cannot be read is named and passed over.

use crate::{
    limits::{BROWSE_CACHED_BATCHES_MAX, BROWSE_CACHED_BYTES_MAX, BROWSE_STEP_BYTES, UNPACKED_BATCH_BYTES_MAX},
    partition::{Partition, PartitionError, Query},
    wire::codec,
};
use bytes::Bytes;
use millstream_storage::{
    self as storage, Batch, PartitionId,
    batch::HEADER_BYTES,
    record::{self, Record},
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

/// Offsets of a partition that hold nothing to be shown, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The partition.
    pub partition: i32,
    /// Where it begins.
    pub offset: i64,
    /// The offset behind it.
    pub next_offset: i64,
    /// Why, in a sentence.
    pub reason: String,
}

/// What a visitor says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    /// Go on.
    On,
    /// It was taken and is the last.
    Last,
    /// It was not taken: the walk ends before it.
    Before,
}

/// A record on its way to the visitor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visited<'a> {
    pub batch: &'a Batch,
    pub record: Record<'a>,
}

impl Visited<'_> {
    pub(super) fn offset(&self) -> i64 {
        self.record.offset(self.batch)
    }
    pub(super) fn timestamp_ms(&self) -> i64 {
        self.record.timestamp(self.batch)
    }
}

/// Batches unpacked last: who pages through one, or several that follow the same partition, do not unpack it each time. Bounded in batches and bytes.
#[derive(Debug, Default)]
pub(super) struct Unpacked(Mutex<VecDeque<(BatchId, Bytes)>>);

/// A batch for ever: partition, base offset, checksum.
type BatchId = (PartitionId, i64, u32);

impl Unpacked {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(BatchId, Bytes)>> {
        self.0.lock().unwrap_or_else(|p| p.into_inner())
    }

    fn get(&self, id: &BatchId) -> Option<Bytes> {
        let mut kept = self.lock();
        let at = kept.iter().position(|(of, _)| of == id)?;
        let found = kept.remove(at)?;
        let bytes = found.1.clone();
        kept.push_back(found);
        Some(bytes)
    }

    fn put(&self, id: BatchId, bytes: &Bytes) {
        if bytes.len() > BROWSE_CACHED_BYTES_MAX {
            return;
        }
        let mut kept = self.lock();
        kept.retain(|(of, _)| *of != id);
        kept.push_back((id, bytes.clone()));
        let bytes = |kept: &VecDeque<(BatchId, Bytes)>| kept.iter().map(|(_, b)| b.len()).sum::<usize>();
        while kept.len() > BROWSE_CACHED_BATCHES_MAX || bytes(&kept) > BROWSE_CACHED_BYTES_MAX {
            kept.pop_front();
        }
    }

    /// The records of a batch of `partition`, unpacked where they are packed; `None` when that cannot be done.
    fn records(&self, partition: &Partition, batch: &Batch, bytes: &Bytes) -> Option<Bytes> {
        let payload = bytes.slice(HEADER_BYTES..batch.size_bytes);
        if batch.compression() == 0 {
            return Some(payload);
        }
        let id = (partition.id(), batch.base_offset, batch.crc);
        if let Some(known) = self.get(&id) {
            return Some(known);
        }
        let plain = Bytes::from(codec::unpack(batch.compression(), &payload, UNPACKED_BATCH_BYTES_MAX)?);
        self.put(id, &plain);
        Some(plain)
    }
}

/// One walk: what it may look at, and what it met.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub unpacked: &'a Unpacked,
    /// Bytes (unpacked) that it may still look at; at 0 it ends, though never within a batch.
    pub budget_bytes: &'a mut usize,
    pub holes: &'a mut Vec<Hole>,
}

impl Walk<'_> {
    /// Shows `visit` each record of `partition` with an offset in `from..to`, `to` being at most the watermark; control records are passed over. Gives the offset to go on at, `to`
    /// when all was seen. Blocks. `NotOpen` where the log is cold.
    pub(super) fn run(
        &mut self,
        partition: &Partition,
        from: i64,
        to: i64,
        mut visit: impl FnMut(Visited<'_>) -> Visit,
    ) -> Result<i64, PartitionError> {
        let mut at = from;
        while at < to && *self.budget_bytes > 0 {
            let slice = match partition.read(&query(at, BROWSE_STEP_BYTES)) {
                Ok(read) => read.slice,
                Err(PartitionError::Corrupt { .. }) => {
                    let next = behind_damage(partition, at, to)?;
                    self.hole(partition, at, next, "damaged on disk");
                    at = next;
                    continue;
                }
                Err(PartitionError::OffsetOutOfRange { start, .. }) if at < start => {
                    self.hole(partition, at, start.min(to), "deleted meanwhile");
                    at = start;
                    continue;
                }
                Err(e) => return Err(e),
            };
            // Compaction left nothing up to the end.
            let Some(slice) = slice else { return Ok(to) };
            if slice.cold {
                match slice.populate() {
                    Ok(()) => {}
                    // The same read gives what lies before it, or says so.
                    Err(storage::Error::Corrupt { .. }) => continue,
                    Err(e) => return Err(e.into()),
                }
            }
            let mut bytes = slice.bytes.clone();
            while let Ok(batch) = Batch::parse(&bytes) {
                if batch.size_bytes > bytes.len() || batch.base_offset >= to {
                    break;
                }
                if batch.next_offset() > at && !batch.is_control() {
                    if let Some(end) = self.batch(partition, &batch, &bytes, at, to, &mut visit) {
                        return Ok(end);
                    }
                } else {
                    *self.budget_bytes = self.budget_bytes.saturating_sub(batch.size_bytes);
                }
                at = at.max(batch.next_offset());
                if *self.budget_bytes == 0 || at >= to {
                    return Ok(at.min(to));
                }
                bytes = bytes.slice(batch.size_bytes..);
            }
            // A slice ends with a whole batch; its first one reaches past `at`, or lies behind `to`.
            if slice.first_offset >= to {
                return Ok(to);
            }
        }
        Ok(at.min(to))
    }

    /// Gives where the walk ends, if it does here.
    fn batch(
        &mut self,
        partition: &Partition,
        batch: &Batch,
        bytes: &Bytes,
        from: i64,
        to: i64,
        visit: &mut impl FnMut(Visited<'_>) -> Visit,
    ) -> Option<i64> {
        let Some(plain) = self.unpacked.records(partition, batch, bytes) else {
            *self.budget_bytes = self.budget_bytes.saturating_sub(batch.size_bytes);
            self.hole(partition, from.max(batch.base_offset), batch.next_offset(), "a batch that cannot be unpacked");
            return None;
        };
        *self.budget_bytes = self.budget_bytes.saturating_sub(batch.size_bytes.max(plain.len()));
        let mut next = batch.base_offset;
        for record in record::records(&plain, batch.record_count) {
            let Ok(record) = record else {
                self.hole(partition, next.max(from), batch.next_offset(), "records that cannot be read");
                return None;
            };
            let visited = Visited { batch, record };
            let offset = visited.offset();
            // A producer may have sent any delta: what lies outside its batch would be shown twice, or never end.
            if offset < next || offset >= batch.next_offset() {
                self.hole(partition, next.max(from), batch.next_offset(), "records whose offsets are not in order");
                return None;
            }
            next = offset + 1;
            if offset < from {
                continue;
            }
            if offset >= to {
                return Some(to);
            }
            match visit(visited) {
                Visit::On => {}
                Visit::Last => return Some(next),
                Visit::Before => return Some(offset),
            }
        }
        None
    }

    fn hole(&mut self, partition: &Partition, offset: i64, next_offset: i64, reason: &str) {
        if next_offset > offset && self.holes.len() < crate::limits::BROWSE_HOLES_MAX {
            let partition = partition.index();
            self.holes.push(Hole { partition, offset, next_offset, reason: reason.into() });
        }
    }
}

fn query(offset: i64, bytes_max: usize) -> Query {
    Query { offset, bytes_max, at_least_one: true, current_leader_epoch: -1, last_fetched_epoch: -1 }
}

/// The first offset behind the damage at `at` that can be read, `to` where there is none below.
fn behind_damage(partition: &Partition, at: i64, to: i64) -> Result<i64, PartitionError> {
    let readable = |offset: i64| match partition.read(&query(offset, 1)) {
        Ok(_) => Ok(true),
        Err(PartitionError::Corrupt { .. }) => Ok(false),
        Err(e) => Err(e),
    };
    let (mut damaged, mut step) = (at, 1i64);
    let mut good = loop {
        let probe = damaged.saturating_add(step);
        if probe >= to {
            break to;
        }
        if readable(probe)? {
            break probe;
        }
        (damaged, step) = (probe, step.saturating_mul(2));
    };
    while good - damaged > 1 {
        let middle = damaged + (good - damaged) / 2;
        if readable(middle)? { good = middle } else { damaged = middle }
    }
    Ok(good)
}
