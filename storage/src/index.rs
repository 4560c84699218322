//! The sparse indexes of one segment: offset → position, timestamp → offset. In memory a list that one writer appends to while
//! readers search it without a lock; on disk Kafka's `.index` and `.timeindex`. Derived from the log, never synced, never trusted
//! further than the batch an entry points at.
//!
//! ```text
//! .index       relative offset u32 (of the batch's last record) | position u32 (of that batch)      8 bytes, big endian
//! .timeindex   timestamp i64 (largest so far) | relative offset u32 (of the record or batch that has it)     12 bytes
//! ```

use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

const FIRST_BUCKET: usize = 16;
const BUCKETS: usize = 20;

/// Most entries an index takes; a segment that would need more is rolled.
pub(crate) const ENTRIES_MAX: usize = FIRST_BUCKET * ((1 << BUCKETS) - 1);

/// A list of `W` words an entry: grows without moving, so readers need no lock.
#[derive(Debug, Default)]
struct Grow<const W: usize> {
    buckets: [OnceLock<Box<[AtomicU64]>>; BUCKETS],
    len: AtomicUsize,
}

impl<const W: usize> Grow<W> {
    /// Bucket and place of entry `i`: bucket `k` holds `16 << k` entries.
    fn place(i: usize) -> (usize, usize) {
        let k = (i / FIRST_BUCKET + 1).ilog2() as usize;
        (k, i - FIRST_BUCKET * ((1 << k) - 1))
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn get(&self, i: usize) -> [u64; W] {
        let (k, at) = Self::place(i);
        let bucket = self.buckets[k].get().expect("an entry below the length has its bucket");
        std::array::from_fn(|w| bucket[at * W + w].load(Ordering::Relaxed))
    }

    /// One writer at a time.
    fn push(&self, entry: [u64; W]) {
        let i = self.len.load(Ordering::Relaxed);
        let (k, at) = Self::place(i);
        let bucket = self.buckets[k].get_or_init(|| (0..(FIRST_BUCKET << k) * W).map(|_| AtomicU64::new(0)).collect());
        for (w, word) in entry.into_iter().enumerate() {
            bucket[at * W + w].store(word, Ordering::Relaxed);
        }
        self.len.store(i + 1, Ordering::Release);
    }

    /// How many entries at the start satisfy `pred` (which must be true, then false).
    fn partition_point(&self, pred: impl Fn([u64; W]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let mid = low + (high - low) / 2;
            if pred(self.get(mid)) { low = mid + 1 } else { high = mid }
        }
        low
    }
}

/// Both indexes of a segment.
#[derive(Debug)]
pub(crate) struct Index {
    base: i64,
    /// (relative offset, position)
    offsets: Grow<2>,
    /// (timestamp, relative offset)
    times: Grow<2>,
}

/// An entry of the offset index: the batch at `position` ends with `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub offset: i64,
    pub position: u64,
}

impl Index {
    pub(crate) fn new(base: i64) -> Index {
        Index { base, offsets: Grow::default(), times: Grow::default() }
    }

    /// Entries of the offset index.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether `segment.index.bytes` are used up.
    pub(crate) fn is_full(&self, bytes_max: u32) -> bool {
        let n = self.len() + 1;
        n * 8 > bytes_max as usize || n >= ENTRIES_MAX
    }

    /// Notes that the batch at `position` ends with `last_offset`. One writer at a time.
    pub(crate) fn push(&self, last_offset: i64, position: u64) {
        if self.len() < ENTRIES_MAX {
            self.offsets.push([(last_offset - self.base) as u64, position]);
        }
    }

    /// Notes the largest timestamp so far and the offset that has it; nothing when it is no larger than the last one noted.
    pub(crate) fn push_time(&self, timestamp: i64, offset: i64) {
        let n = self.times.len();
        let larger = n == 0 || timestamp > self.times.get(n - 1)[0] as i64;
        if larger && timestamp >= 0 && offset >= self.base && n < ENTRIES_MAX {
            self.times.push([timestamp as u64, (offset - self.base) as u64]);
        }
    }

    /// The `i`th entry.
    pub(crate) fn entry(&self, i: usize) -> Entry {
        let [relative, position] = self.offsets.get(i);
        Entry { offset: self.base + relative as i64, position }
    }

    /// How many entries have an offset ≤ `offset` and a position < `end`.
    pub(crate) fn up_to(&self, offset: i64, end: u64) -> usize {
        let relative = offset.saturating_sub(self.base);
        self.offsets.partition_point(|[r, p]| r as i64 <= relative && p < end)
    }

    /// The largest (timestamp, offset) noted whose timestamp is < `timestamp`.
    pub(crate) fn time_below(&self, timestamp: i64) -> Option<(i64, i64)> {
        self.time(self.times.partition_point(|[t, _]| (t as i64) < timestamp))
    }

    /// The last (timestamp, offset) noted whose offset is < `offset`.
    pub(crate) fn time_before_offset(&self, offset: i64) -> Option<(i64, i64)> {
        let relative = offset.saturating_sub(self.base);
        self.time(self.times.partition_point(|[_, r]| (r as i64) < relative))
    }

    fn time(&self, count: usize) -> Option<(i64, i64)> {
        let [t, r] = self.times.get(count.checked_sub(1)?);
        Some((t as i64, self.base + r as i64))
    }

    /// Bytes of the `.index` file, entries for bytes below `end` only.
    pub(crate) fn offset_bytes(&self, end: u64) -> Vec<u8> {
        self.offset_bytes_of(0..self.offsets.partition_point(|[_, p]| p < end))
    }

    /// Bytes of the `.timeindex` file, entries below offset `end` only.
    pub(crate) fn time_bytes(&self, end: i64) -> Vec<u8> {
        self.time_bytes_of(0..self.times.partition_point(|[_, r]| self.base + (r as i64) < end))
    }

    /// Bytes of some entries of the `.index` file.
    pub(crate) fn offset_bytes_of(&self, entries: Range<usize>) -> Vec<u8> {
        let mut out = Vec::with_capacity(entries.len() * 8);
        for [r, p] in entries.map(|i| self.offsets.get(i)) {
            out.extend_from_slice(&(r as u32).to_be_bytes());
            out.extend_from_slice(&(p as u32).to_be_bytes());
        }
        out
    }

    /// Bytes of some entries of the `.timeindex` file.
    pub(crate) fn time_bytes_of(&self, entries: Range<usize>) -> Vec<u8> {
        let mut out = Vec::with_capacity(entries.len() * 12);
        for [t, r] in entries.map(|i| self.times.get(i)) {
            out.extend_from_slice(&t.to_be_bytes());
            out.extend_from_slice(&(r as u32).to_be_bytes());
        }
        out
    }

    /// Entries of the time index.
    pub(crate) fn times_len(&self) -> usize {
        self.times.len()
    }

    /// Reads both files' bytes, as far as their entries rise and stay below `end_offset` and `end_position`. What lies behind
    /// (Kafka allocates its indexes ahead with zeros) is dropped. Never panics.
    pub(crate) fn decode(base: i64, end_offset: i64, end_position: u64, offsets: &[u8], times: &[u8]) -> Index {
        let index = Index::new(base);
        let span = end_offset.saturating_sub(base);
        let mut last = None;
        for e in offsets.as_chunks::<8>().0 {
            let r = u64::from(u32::from_be_bytes([e[0], e[1], e[2], e[3]]));
            let p = u64::from(u32::from_be_bytes([e[4], e[5], e[6], e[7]]));
            if last.is_some_and(|(lr, lp)| r <= lr || p <= lp) || r as i64 >= span || p >= end_position {
                break;
            }
            if index.len() == ENTRIES_MAX {
                break;
            }
            last = Some((r, p));
            index.offsets.push([r, p]);
        }
        let mut last = None;
        for e in times.as_chunks::<12>().0 {
            let t = i64::from_be_bytes([e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]]);
            let r = u64::from(u32::from_be_bytes([e[8], e[9], e[10], e[11]]));
            if t < 0 || last.is_some_and(|(lt, lr)| t <= lt || r <= lr) || r as i64 >= span {
                break;
            }
            if index.times.len() == ENTRIES_MAX {
                break;
            }
            last = Some((t, r));
            index.times.push([t as u64, r]);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_after_many_growths() {
        let index = Index::new(1000);
        for i in 0..5000i64 {
            index.push(1000 + i * 3, i as u64 * 100);
            index.push_time(i * 10, 1000 + i * 3);
        }
        assert_eq!(index.up_to(999, u64::MAX), 0);
        for (offset, position) in [(1000, 0), (1002, 0), (1003, 100), (1003 + 3 * 4000, 400_100), (i64::MAX, 499_900)] {
            let n = index.up_to(offset, u64::MAX);
            assert_eq!(index.entry(n - 1).position, position, "offset {offset}");
        }
        assert_eq!(index.up_to(i64::MAX, 101), 2, "entries at or beyond the end are not used");
        assert_eq!(index.time_below(0), None);
        assert_eq!(index.time_below(15), Some((10, 1003)));
        assert_eq!(index.time_before_offset(1003), Some((0, 1000)));
    }

    #[test]
    fn files_have_kafkas_bytes_and_read_back() {
        let index = Index::new(5);
        index.push(7, 0);
        index.push(9, 0x1234);
        index.push_time(100, 7);
        index.push_time(99, 8);
        index.push_time(101, 9);
        let (o, t) = (index.offset_bytes(u64::MAX), index.time_bytes(i64::MAX));
        assert_eq!(o, [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0x12, 0x34]);
        assert_eq!(t, [0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 101, 0, 0, 0, 4]);
        let mut padded = o.clone();
        padded.extend([0; 24]);
        let back = Index::decode(5, 100, 1 << 20, &padded, &t);
        assert_eq!(back.len(), 2);
        assert_eq!(back.entry(1), Entry { offset: 9, position: 0x1234 });
        assert_eq!(back.time_below(i64::MAX), Some((101, 9)));
        assert_eq!(index.offset_bytes(0x1234).len(), 8);
    }

    #[test]
    fn foreign_bytes_never_make_an_entry_out_of_range() {
        for seed in 0u32..200 {
            let bytes: Vec<u8> =
                (0..100u32).map(|i| (seed.wrapping_mul(2654435761).wrapping_add(i * i * seed) >> 11) as u8).collect();
            let index = Index::decode(10, 500, 4096, &bytes, &bytes);
            for i in 0..index.len() {
                let e = index.entry(i);
                assert!(e.offset >= 10 && e.offset < 500 && e.position < 4096);
            }
        }
    }
}
