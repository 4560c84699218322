//! Idempotent producers of one partition: a pure state machine (KIP-98; Kafka's `ProducerStateManager` and `ProducerAppendInfo`).
//!
//! Each producer's last [`PRODUCER_BATCHES`] batches are remembered. A batch is a duplicate when epoch, first and last sequence are those of a remembered one,
//! in order when it follows the last one, refused otherwise. The state is a function of the batches of the log alone (but for expiry), so replaying a log,
//! or a snapshot and the rest of it, gives what the live partition had.
//!
//! Snapshot, Kafka's `.snapshot` files (big endian):
//! ```text
//! version i16 (1) | crc u32 (CRC-32C of all after it) | count i32 | entries
//! entry: producer id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32 | timestamp i64 | coordinator epoch i32 | first offset of open transaction i64
//! ```
//! A producer has one entry for each batch remembered, oldest first. Kafka writes only the newest and, reading, lets a later entry of a producer replace an
//! earlier one: so it understands ours, and we keep all five across a restart.

use crate::limits::{PRODUCER_BATCHES, PRODUCERS_PER_PARTITION_MAX};
use millstream_storage::{Batch, batch::crc32c};
use std::collections::HashMap;

const SNAPSHOT_VERSION: i16 = 1;
const HEADER_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;

/// All producers known to one partition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Producers {
    entries: HashMap<i64, Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Wall clock of the last append or load, ms: what expiry goes by (a batch's own time may lie in any year).
    touched_ms: i64,
    coordinator_epoch: i32,
    /// -1 = none.
    transaction_first_offset: i64,
    /// Oldest first; the first `len` are in use.
    batches: [Sent; PRODUCER_BATCHES],
    len: u8,
}

/// One batch remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sent {
    last_sequence: i32,
    offset_delta: i32,
    last_offset: i64,
    timestamp: i64,
}

/// A producer as DescribeProducers tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    pub id: i64,
    pub epoch: i16,
    /// -1 = it has written nothing in this epoch.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch, ms; -1 = none.
    pub last_timestamp: i64,
    /// -1 = none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction; -1 = none.
    pub transaction_first_offset: i64,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is next (or of no idempotent producer).
    Append,
    /// It is in the log already.
    Duplicate {
        /// Offset of its first record.
        base_offset: i64,
        /// Offset of its last record.
        last_offset: i64,
        /// Largest timestamp of the batch as it was appended, ms.
        timestamp: i64,
    },
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// INVALID_PRODUCER_EPOCH: a newer session of the producer has written.
    #[error("producer {producer_id} has epoch {epoch}, but the partition has seen epoch {current}")]
    Fenced { producer_id: i64, epoch: i16, current: i16 },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER.
    #[error("producer {producer_id} (epoch {epoch}) sent sequence {sequence} after {last}")]
    OutOfOrder { producer_id: i64, epoch: i16, sequence: i32, last: i32 },
}

/// Why bytes are not a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("producer snapshot is damaged: {0}")]
pub struct SnapshotError(&'static str);

impl Producers {
    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Some that cannot be written down: for tests of what a panic does.
    #[cfg(test)]
    pub(super) fn that_panic() -> Producers {
        let broken = Producer { len: u8::MAX, ..Producer::new(0) };
        Producers { entries: HashMap::from([(0, broken)]) }
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every producer remembered, by id.
    pub fn active(&self) -> Vec<Active> {
        let of = |(id, p): (&i64, &Producer)| Active {
            id: *id,
            epoch: p.epoch,
            last_sequence: p.last_sequence(),
            last_timestamp: p.sent().last().map_or(-1, |s| s.timestamp),
            coordinator_epoch: p.coordinator_epoch,
            transaction_first_offset: p.transaction_first_offset,
        };
        let mut all: Vec<_> = self.entries.iter().map(of).collect();
        all.sort_unstable_by_key(|p| p.id);
        all
    }

    /// Judges a batch that a producer sent; changes nothing.
    pub fn check(&self, batch: &Batch) -> Result<Verdict, ProducerError> {
        if batch.producer_id < 0 {
            return Ok(Verdict::Append);
        }
        let Some(known) = self.entries.get(&batch.producer_id) else {
            // State lost to expiry, retention or eviction: any sequence is taken, as Kafka does.
            return Ok(Verdict::Append);
        };
        let (producer_id, epoch, sequence) = (batch.producer_id, batch.producer_epoch, batch.base_sequence);
        if epoch == known.epoch {
            let last_sequence = add(sequence, batch.last_offset_delta);
            let same = |s: &&Sent| s.first_sequence() == sequence && s.last_sequence == last_sequence;
            if let Some(s) = known.sent().iter().find(same) {
                let base_offset = s.last_offset - i64::from(s.offset_delta);
                return Ok(Verdict::Duplicate { base_offset, last_offset: s.last_offset, timestamp: s.timestamp });
            }
        }
        if epoch < known.epoch {
            return Err(ProducerError::Fenced { producer_id, epoch, current: known.epoch });
        }
        // A new epoch starts at 0. An entry without batches (a transaction marker made it) has no last sequence either.
        let last = if epoch == known.epoch { known.last_sequence() } else { -1 };
        let follows = if last < 0 { sequence == 0 } else { sequence == add(last, 1) };
        if follows {
            Ok(Verdict::Append)
        } else {
            Err(ProducerError::OutOfOrder { producer_id, epoch, sequence, last })
        }
    }

    /// Takes a batch over that was appended at `base_offset` (accepted by [`Producers::check`], or read back from the log). `timestamp` is its largest one as
    /// stored, `now_ms` the wall clock.
    pub fn record(&mut self, batch: &Batch, base_offset: i64, timestamp: i64, now_ms: i64) {
        if batch.producer_id < 0 {
            return;
        }
        if self.entries.len() >= PRODUCERS_PER_PARTITION_MAX && !self.entries.contains_key(&batch.producer_id) {
            self.evict();
        }
        let known = self.entries.entry(batch.producer_id).or_insert_with(|| Producer::new(batch.producer_epoch));
        if known.epoch != batch.producer_epoch {
            *known = Producer::new(batch.producer_epoch);
        }
        known.touched_ms = now_ms;
        if batch.is_control() {
            return;
        }
        known.push(Sent {
            last_sequence: add(batch.base_sequence, batch.last_offset_delta),
            offset_delta: batch.last_offset_delta,
            last_offset: base_offset + i64::from(batch.last_offset_delta),
            timestamp,
        });
    }

    /// Forgets producers that have been silent for `expiration_ms` (producer.id.expiration.ms).
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.entries.retain(|_, p| now_ms.saturating_sub(p.touched_ms) < expiration_ms);
    }

    /// The producer whose last batch lies furthest back goes: the same one on every replica and at every replay.
    fn evict(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(id, p)| (p.last_offset(), **id)).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.entries.remove(&id);
        }
    }

    /// The snapshot's bytes, the same for the same state.
    pub fn encode(&self) -> Vec<u8> {
        let mut ids: Vec<_> = self.entries.iter().collect();
        ids.sort_unstable_by_key(|(id, _)| **id);
        let mut out = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        out.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        let mut count = 0i32;
        for (id, p) in ids {
            const NONE: Sent = Sent { last_sequence: -1, offset_delta: 0, last_offset: -1, timestamp: -1 };
            let sent = if p.len == 0 { &[NONE][..] } else { p.sent() };
            for s in sent {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&p.epoch.to_be_bytes());
                out.extend_from_slice(&s.last_sequence.to_be_bytes());
                out.extend_from_slice(&s.last_offset.to_be_bytes());
                out.extend_from_slice(&s.offset_delta.to_be_bytes());
                out.extend_from_slice(&s.timestamp.to_be_bytes());
                out.extend_from_slice(&p.coordinator_epoch.to_be_bytes());
                out.extend_from_slice(&p.transaction_first_offset.to_be_bytes());
                count += 1;
            }
        }
        out[6..10].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c(&out[6..]);
        out[2..6].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a snapshot, Kafka's or ours. The producers count as touched at `now_ms`.
    pub fn decode(bytes: &[u8], now_ms: i64) -> Result<Producers, SnapshotError> {
        if bytes.len() < HEADER_BYTES {
            return Err(SnapshotError("too short"));
        }
        let mut at = Cursor { bytes, at: 0 };
        if i16::from_be_bytes(at.take()) != SNAPSHOT_VERSION {
            return Err(SnapshotError("unknown version"));
        }
        if u32::from_be_bytes(at.take()) != crc32c(&bytes[6..]) {
            return Err(SnapshotError("its CRC-32C is not that of its bytes"));
        }
        let count = i32::from_be_bytes(at.take());
        if usize::try_from(count).ok().and_then(|n| n.checked_mul(ENTRY_BYTES)) != Some(bytes.len() - HEADER_BYTES) {
            return Err(SnapshotError("its length is not that of its entries"));
        }
        let mut all = Producers::default();
        for _ in 0..count {
            let id = i64::from_be_bytes(at.take());
            let epoch = i16::from_be_bytes(at.take());
            let last_sequence = i32::from_be_bytes(at.take());
            let last_offset = i64::from_be_bytes(at.take());
            let offset_delta = i32::from_be_bytes(at.take());
            let timestamp = i64::from_be_bytes(at.take());
            let coordinator_epoch = i32::from_be_bytes(at.take());
            let transaction_first_offset = i64::from_be_bytes(at.take());
            if id < 0 {
                return Err(SnapshotError("negative producer id"));
            }
            if all.entries.len() >= PRODUCERS_PER_PARTITION_MAX && !all.entries.contains_key(&id) {
                all.evict();
            }
            let p = all.entries.entry(id).or_insert_with(|| Producer::new(epoch));
            if p.epoch != epoch {
                *p = Producer::new(epoch);
            }
            p.touched_ms = now_ms;
            p.coordinator_epoch = coordinator_epoch;
            p.transaction_first_offset = transaction_first_offset;
            if last_sequence >= 0 && offset_delta >= 0 {
                p.push(Sent { last_sequence, offset_delta, last_offset, timestamp });
            }
        }
        Ok(all)
    }
}

impl Producer {
    fn new(epoch: i16) -> Producer {
        let batches = [Sent::default(); PRODUCER_BATCHES];
        Producer { epoch, touched_ms: 0, coordinator_epoch: -1, transaction_first_offset: -1, batches, len: 0 }
    }
    fn sent(&self) -> &[Sent] {
        &self.batches[..usize::from(self.len)]
    }
    fn last_sequence(&self) -> i32 {
        self.sent().last().map_or(-1, |s| s.last_sequence)
    }
    fn last_offset(&self) -> i64 {
        self.sent().last().map_or(-1, |s| s.last_offset)
    }
    fn push(&mut self, sent: Sent) {
        if usize::from(self.len) == PRODUCER_BATCHES {
            self.batches.rotate_left(1);
            self.batches[PRODUCER_BATCHES - 1] = sent;
        } else {
            self.batches[usize::from(self.len)] = sent;
            self.len += 1;
        }
    }
}

impl Sent {
    fn first_sequence(&self) -> i32 {
        subtract(self.last_sequence, self.offset_delta)
    }
}

/// Sequences run 0..=i32::MAX and start again at 0.
fn add(sequence: i32, n: i32) -> i32 {
    ((i64::from(sequence) + i64::from(n)) & i64::from(i32::MAX)) as i32
}

fn subtract(sequence: i32, n: i32) -> i32 {
    ((i64::from(sequence) - i64::from(n)) & i64::from(i32::MAX)) as i32
}

/// Reads fixed fields of a buffer whose length was checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(producer_id: i64, producer_epoch: i16, base_sequence: i32, count: i32) -> Batch {
        Batch {
            base_offset: 0,
            size_bytes: 100,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: 5,
            max_timestamp: 5,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: count,
        }
    }

    /// Appends as a partition does; gives the base offset of what is in the log.
    fn send(p: &mut Producers, end: &mut i64, b: Batch) -> Result<i64, ProducerError> {
        match p.check(&b)? {
            Verdict::Duplicate { base_offset, .. } => Ok(base_offset),
            Verdict::Append => {
                let base = *end;
                p.record(&b, base, b.max_timestamp, 1);
                *end += i64::from(b.record_count);
                Ok(base)
            }
        }
    }

    #[test]
    fn the_five_last_batches_are_recognised_and_the_sixth_is_out_of_order() {
        let (mut p, mut end) = (Producers::default(), 0);
        for i in 0..6 {
            assert_eq!(send(&mut p, &mut end, batch(1, 0, i * 10, 10)), Ok(i64::from(i) * 10));
        }
        for i in 1..6 {
            assert_eq!(send(&mut p, &mut end, batch(1, 0, i * 10, 10)), Ok(i64::from(i) * 10));
        }
        assert!(matches!(send(&mut p, &mut end, batch(1, 0, 0, 10)), Err(ProducerError::OutOfOrder { last: 59, .. })));
        assert!(matches!(send(&mut p, &mut end, batch(1, 0, 10, 5)), Err(ProducerError::OutOfOrder { .. })));
        assert!(matches!(send(&mut p, &mut end, batch(1, 0, 61, 1)), Err(ProducerError::OutOfOrder { .. })));
        assert_eq!(end, 60);
    }

    #[test]
    fn producers_are_told_of_by_their_last_batch() {
        let (mut p, mut end) = (Producers::default(), 0);
        for (id, sequence) in [(9, 0), (3, 0), (9, 4)] {
            send(&mut p, &mut end, batch(id, 2, sequence, 4)).unwrap();
        }
        let told: Vec<_> = p.active().iter().map(|a| (a.id, a.epoch, a.last_sequence)).collect();
        assert_eq!(told, [(3, 2, 3), (9, 2, 7)]);
        let again = Producers::decode(&p.encode(), 0).unwrap();
        assert_eq!(again.active(), p.active());
        assert!(p.active().iter().all(|a| a.coordinator_epoch == -1 && a.transaction_first_offset == -1));
    }

    #[test]
    fn sequences_wrap_to_zero_within_a_batch_and_between_batches() {
        let (mut p, mut end) = (Producers::default(), 0);
        assert_eq!(send(&mut p, &mut end, batch(1, 0, i32::MAX - 4, 5)), Ok(0));
        assert_eq!(send(&mut p, &mut end, batch(1, 0, 0, 3)), Ok(5));
        let (mut p, mut end) = (Producers::default(), 0);
        assert_eq!(send(&mut p, &mut end, batch(1, 0, i32::MAX - 1, 5)), Ok(0));
        assert_eq!(send(&mut p, &mut end, batch(1, 0, 3, 1)), Ok(5));
        assert_eq!(send(&mut p, &mut end, batch(1, 0, i32::MAX - 1, 5)), Ok(0), "a duplicate that wraps");
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero() {
        let (mut p, mut end) = (Producers::default(), 0);
        send(&mut p, &mut end, batch(1, 3, 0, 1)).unwrap();
        assert!(matches!(send(&mut p, &mut end, batch(1, 2, 1, 1)), Err(ProducerError::Fenced { current: 3, .. })));
        assert!(matches!(send(&mut p, &mut end, batch(1, 4, 1, 1)), Err(ProducerError::OutOfOrder { .. })));
        assert_eq!(send(&mut p, &mut end, batch(1, 4, 0, 1)), Ok(1));
        assert_eq!(send(&mut p, &mut end, batch(1, 4, 0, 1)), Ok(1));
        assert!(matches!(send(&mut p, &mut end, batch(1, 3, 1, 1)), Err(ProducerError::Fenced { .. })));
    }

    #[test]
    fn a_producer_without_state_may_start_anywhere_and_others_have_none() {
        let (mut p, mut end) = (Producers::default(), 0);
        assert_eq!(send(&mut p, &mut end, batch(1, 0, 77, 1)), Ok(0));
        assert_eq!(send(&mut p, &mut end, batch(-1, -1, -1, 1)), Ok(1));
        assert_eq!(p.len(), 1);
        p.expire(10, 9);
        assert!(p.is_empty());
        assert_eq!(send(&mut p, &mut end, batch(1, 0, 79, 1)), Ok(2));
    }

    #[test]
    fn the_bound_evicts_the_producer_silent_for_longest() {
        let (mut p, mut end) = (Producers::default(), 0);
        for id in 0..PRODUCERS_PER_PARTITION_MAX as i64 {
            send(&mut p, &mut end, batch(id, 0, 0, 1)).unwrap();
        }
        send(&mut p, &mut end, batch(0, 0, 1, 1)).unwrap();
        send(&mut p, &mut end, batch(i64::MAX, 0, 0, 1)).unwrap();
        assert_eq!(p.len(), PRODUCERS_PER_PARTITION_MAX);
        assert!(p.entries.contains_key(&0) && !p.entries.contains_key(&1));
    }

    #[test]
    fn a_snapshot_has_the_layout_of_kafka() {
        let (mut p, mut end) = (Producers::default(), 7);
        send(&mut p, &mut end, batch(0x0102, 3, 0, 2)).unwrap();
        let bytes = p.encode();
        let mut want = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 3, 0, 0, 0, 1];
        want.extend([0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5]);
        want.extend([255; 12]);
        let crc = crc32c(&want[6..]);
        want[2..6].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(bytes, want);
    }

    #[test]
    fn every_flipped_bit_and_cut_of_a_snapshot_is_noticed() {
        let (mut p, mut end) = (Producers::default(), 0);
        send(&mut p, &mut end, batch(9, 0, 0, 2)).unwrap();
        let good = p.encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Producers::decode(&bad, 0).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(Producers::decode(&good[..cut], 0).is_err(), "cut {cut}");
        }
    }

    proptest! {
        #[test]
        fn replay_from_any_snapshot_gives_the_live_state_at_every_prefix(
            sends in prop::collection::vec((0i64..4, 0i16..3, 0i32..12, 1i32..4, prop::bool::ANY), 1..60),
        ) {
            let (mut live, mut end) = (Producers::default(), 0);
            let mut log: Vec<(Batch, i64)> = vec![];
            let mut snapshots = vec![(0usize, live.encode())];
            for (id, epoch, sequence, count, right) in sends {
                let mut b = batch(id, epoch, sequence, count);
                if right && let Some(known) = live.entries.get(&id) {
                    b = batch(id, known.epoch, add(known.last_sequence(), 1), count);
                }
                let before = end;
                let _ = send(&mut live, &mut end, b);
                if end != before {
                    log.push((b, before));
                }
                snapshots.push((log.len(), live.encode()));
                for (from, snapshot) in snapshots.iter().rev().step_by(7) {
                    let mut replayed = Producers::decode(snapshot, 1).unwrap();
                    for (b, base) in &log[*from..] {
                        replayed.record(b, *base, b.max_timestamp, 1);
                    }
                    prop_assert_eq!(&replayed, &live);
                }
            }
        }
    }
}
