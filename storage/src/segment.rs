//! One segment: a file of batches from `base` up to the next segment's base, its map while it is open, its index.
//!
//! A segment object is shared by the writer and all readers. What changes in it is atomic: the published end (active segment), the
//! map (closed segments open on demand and close again), the index. A truncation never changes a segment: it puts another object
//! with a lower end in its place, so bytes already handed out stay as they were.

use crate::{
    Batch, Disk, DiskFile, Error, Result, batch,
    disk::Open,
    index::Index,
    region::Region,
    retention::Aged,
    views::{self, View},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

/// `max_timestamp` not known yet.
const UNKNOWN: i64 = i64::MIN;

/// Largest index file read (16 bytes × `index::ENTRIES_MAX` would be more than any that is written).
const INDEX_FILE_BYTES_MAX: u64 = 256 << 20;

/// A file with its map.
#[derive(Debug)]
pub(crate) struct Opened {
    pub file: Arc<dyn DiskFile>,
    pub region: Arc<Region>,
}

/// Bytes of a segment that hold no readable batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Bytes.
    pub from: u64,
    pub to: u64,
    /// Offsets that the bytes should have held.
    pub offset: i64,
    pub next_offset: i64,
}

/// Where the writer is in the file; its lock parts the appender's writes from the zeroing ahead of the flush round.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Bytes before it are written or being written.
    pub written_to: u64,
    /// Bytes before it (and from `written_to`) are written blocks, zero.
    pub zeroed_to: u64,
    /// Bytes before it have blocks.
    pub allocated_to: u64,
    /// End of the last flush.
    pub last_flushed_to: u64,
    /// Flushes since the segment became active.
    pub flushes: u32,
    /// Nothing is written any more.
    pub sealed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Offset of the first batch, or lower.
    pub base: i64,
    path: PathBuf,
    /// Set when a page under the map cannot be read (the directory's).
    mark: Arc<AtomicBool>,
    /// Published bytes.
    end_position: AtomicU64,
    /// The next segment's base; `i64::MAX` while this is the last.
    end_offset: AtomicI64,
    /// Bytes before it are durable.
    durable_position: AtomicU64,
    name_is_durable: AtomicBool,
    max_timestamp: AtomicI64,
    appended_ms: AtomicI64,
    /// Bytes from here on were checked when they were written or recovered in this run.
    checked_from: AtomicU64,
    /// One range (from u32 | to u32) that `populate` has checked.
    checked: AtomicU64,
    view: Arc<View>,
    /// Entries of both indexes that are in the files; `None` = the files are to be begun anew.
    index_written: Mutex<Option<(usize, usize)>>,
    /// Taken to open the file or load the index.
    opening: Mutex<()>,
    bad: Mutex<Vec<Bad>>,
    has_bad: AtomicBool,
    tail: Mutex<Tail>,
}

/// Where a walk ended.
#[derive(Debug)]
pub(crate) enum Found {
    /// The first batch that holds or follows the offset.
    /// `expected`: the offset that follows the batch before; lower than the batch's where compaction left a gap.
    At { position: u64, batch: Batch, expected: i64 },
    /// The offset lies in damaged bytes.
    Damaged(Bad),
    /// The segment holds nothing at or after the offset.
    End { position: u64, next_offset: i64 },
}

/// `<dir>/<base, 20 digits>.<extension>`, Kafka's names.
pub(crate) fn file_name(dir: &Path, base: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}.{extension}"))
}

/// The base offset that a file name carries, if it is `<20 digits>.<extension>`.
pub(crate) fn base_of(name: &str, extension: &str) -> Option<i64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The lock's content; a panic under it leaves nothing half done that matters here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The header at `position` when it can be a batch of this place: it fits, follows `expected` and ends at or before `limit`.
pub(crate) fn header_at(bytes: &[u8], position: u64, expected: i64, limit: i64) -> Option<Batch> {
    let rest = bytes.get(position as usize..)?;
    let batch = Batch::parse(rest).ok()?;
    let fits = batch.size_bytes <= rest.len()
        && batch.base_offset >= expected
        && batch.last_offset_delta >= 0
        && batch.last_offset() < limit
        // A segment spans offsets of an i32 (its index is relative); a batch that leaves it has a damaged offset.
        && batch.base_offset - expected <= i64::from(i32::MAX);
    if !fits {
        return None;
    }
    // The count vouches for the offset delta, or one of them is damaged; in a compacted batch they differ, and the CRC does.
    let vouched = batch.record_count.checked_sub(1) == Some(batch.last_offset_delta);
    (vouched || batch::check_stored(rest).is_ok()).then_some(batch)
}

/// Whether a batch whose offset leaves a gap is followed by one that shows the offset to be damaged (it lies outside the CRC).
pub(crate) fn gap_is_damage(bytes: &[u8], position: u64, batch: &Batch, expected: i64, limit: i64) -> bool {
    header_at(bytes, position + batch.size_bytes as u64, expected, limit)
        .is_some_and(|next| next.base_offset < batch.next_offset())
}

/// The first whole, correct batch at or after `position` that could follow `expected`. Reads as far as it must.
pub(crate) fn next_batch(bytes: &[u8], position: u64, expected: i64, limit: i64) -> Option<(u64, Batch)> {
    const MAGIC_AT: usize = 16;
    let mut at = position as usize;
    loop {
        let rest = bytes.get(at + MAGIC_AT..)?;
        // What is cut is mostly zeros: whole chunks are passed over at the speed of memory.
        let skipped =
            rest.chunks_exact(256).take_while(|c| !c.iter().fold(false, |any, b| any | (*b == 2))).count() * 256;
        at += skipped + rest[skipped..].iter().position(|b| *b == 2)?;
        if let Some(batch) = header_at(bytes, at as u64, expected, limit)
            && batch::check_stored(&bytes[at..]).is_ok()
        {
            return Some((at as u64, batch));
        }
        at += 1;
    }
}

impl Segment {
    /// A segment whose file holds `len` bytes, all durable. `end_offset` is the next one's base.
    pub(crate) fn existing(dir: &Path, mark: &Arc<AtomicBool>, base: i64, end_offset: i64, len: u64) -> Segment {
        Segment {
            base,
            path: file_name(dir, base, "log"),
            mark: mark.clone(),
            end_position: AtomicU64::new(len),
            end_offset: AtomicI64::new(end_offset),
            durable_position: AtomicU64::new(len),
            name_is_durable: AtomicBool::new(true),
            max_timestamp: AtomicI64::new(if len == 0 { -1 } else { UNKNOWN }),
            appended_ms: AtomicI64::new(UNKNOWN),
            checked_from: AtomicU64::new(u64::MAX),
            checked: AtomicU64::new(0),
            view: Arc::default(),
            index_written: Mutex::new(None),
            opening: Mutex::new(()),
            bad: Mutex::default(),
            has_bad: AtomicBool::new(false),
            tail: Mutex::default(),
        }
    }

    /// A segment whose file was just made; its name is not durable yet.
    pub(crate) fn created(dir: &Path, mark: &Arc<AtomicBool>, base: i64, now_ms: i64) -> Segment {
        let s = Segment::existing(dir, mark, base, i64::MAX, 0);
        s.name_is_durable.store(false, Ordering::Relaxed);
        s.checked_from.store(0, Ordering::Relaxed);
        s.appended_ms.store(now_ms, Ordering::Relaxed);
        s
    }

    /// The same file, ending at `end_position` and `end_offset` (a truncation). The bytes before are durable.
    pub(crate) fn sealed_at(&self, end_position: u64, end_offset: i64) -> Segment {
        let view = Arc::new(View::default());
        view.opened.store(self.view.opened.load_full());
        view.index.store(self.view.index.load_full());
        let s = Segment {
            base: self.base,
            path: self.path.clone(),
            mark: self.mark.clone(),
            end_position: AtomicU64::new(end_position),
            end_offset: AtomicI64::new(end_offset),
            durable_position: AtomicU64::new(end_position),
            name_is_durable: AtomicBool::new(true),
            max_timestamp: AtomicI64::new(UNKNOWN),
            appended_ms: AtomicI64::new(self.appended_ms.load(Ordering::Relaxed)),
            checked_from: AtomicU64::new(self.checked_from.load(Ordering::Relaxed)),
            checked: AtomicU64::new(self.checked.load(Ordering::Relaxed)),
            view,
            index_written: Mutex::new(None),
            opening: Mutex::new(()),
            bad: Mutex::new(lock(&self.bad).clone()),
            has_bad: AtomicBool::new(self.has_bad.load(Ordering::Relaxed)),
            tail: Mutex::new(Tail { sealed: true, ..Tail::default() }),
        };
        s.forget_index_beyond_end();
        s
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Published bytes (acquire).
    pub(crate) fn end_position(&self) -> u64 {
        self.end_position.load(Ordering::Acquire)
    }

    /// Release store: the bytes are written, and published in the region.
    pub(crate) fn set_end_position(&self, end: u64) {
        self.end_position.store(end, Ordering::Release);
    }

    /// The next segment's base; `i64::MAX` while this is the last.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// A next segment begins at `offset`.
    pub(crate) fn set_end_offset(&self, offset: i64) {
        self.end_offset.store(offset, Ordering::Release);
        self.tail().sealed = true;
    }

    pub(crate) fn durable_position(&self) -> u64 {
        self.durable_position.load(Ordering::Acquire)
    }

    pub(crate) fn set_durable_position(&self, position: u64) {
        self.durable_position.fetch_max(position, Ordering::AcqRel);
    }

    pub(crate) fn name_is_durable(&self) -> bool {
        self.name_is_durable.load(Ordering::Acquire)
    }

    pub(crate) fn set_name_durable(&self, durable: bool) {
        self.name_is_durable.store(durable, Ordering::Release);
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        lock(&self.tail)
    }

    pub(crate) fn opened(&self) -> Option<Arc<Opened>> {
        self.view.opened.load_full()
    }

    pub(crate) fn set_opened(&self, opened: Option<Arc<Opened>>) {
        self.view.opened.store(opened);
    }

    /// The index, if it is in memory.
    pub(crate) fn index_in_memory(&self) -> Option<Arc<Index>> {
        self.view.index.load_full()
    }

    pub(crate) fn set_index(&self, index: Option<Arc<Index>>) {
        self.view.index.store(index);
    }

    /// Notes an append (writer only).
    pub(crate) fn note_append(&self, max_timestamp: i64, now_ms: i64) {
        if max_timestamp > self.max_timestamp.load(Ordering::Relaxed) {
            self.max_timestamp.store(max_timestamp, Ordering::Relaxed);
        }
        if now_ms > self.appended_ms.load(Ordering::Relaxed) {
            self.appended_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// The largest timestamp if it is known without I/O; -1 = no record has one.
    pub(crate) fn max_timestamp_in_memory(&self) -> Option<i64> {
        match self.max_timestamp.load(Ordering::Relaxed) {
            UNKNOWN => None,
            t => Some(t),
        }
    }

    /// Bytes from `position` on were checked (they are about to be written, or recovery read them).
    pub(crate) fn set_checked_from(&self, position: u64) {
        self.checked_from.fetch_min(position, Ordering::Relaxed);
    }

    /// Whether every batch in the range was found whole in this run.
    pub(crate) fn is_checked(&self, from: u64, to: u64) -> bool {
        if from >= self.checked_from.load(Ordering::Relaxed) {
            return true;
        }
        let range = self.checked.load(Ordering::Relaxed);
        from >= range >> 32 && to <= range & 0xffff_ffff
    }

    fn note_checked(&self, from: u64, to: u64) {
        let range = self.checked.load(Ordering::Relaxed);
        let (old_from, old_to) = (range >> 32, range & 0xffff_ffff);
        let touches = old_to > old_from && from <= old_to && to >= old_from;
        let (from, to) = if touches { (from.min(old_from), to.max(old_to)) } else { (from, to) };
        if to <= u64::from(u32::MAX) {
            self.checked.store(from << 32 | to, Ordering::Relaxed);
        }
    }

    /// The file and its map; a closed segment is opened. `None` when the segment is empty. Blocks when it must open.
    pub(crate) fn view(&self, disk: &dyn Disk) -> Result<Option<Arc<Opened>>> {
        if let Some(opened) = self.view.opened.load_full() {
            self.view.touch();
            return Ok(Some(opened));
        }
        if self.end_position() == 0 {
            return Ok(None);
        }
        let _guard = lock(&self.opening);
        if let Some(opened) = self.view.opened.load_full() {
            return Ok(Some(opened));
        }
        let failed = |op, e| Error::io(op, &self.path, e);
        let file = disk.open(&self.path, Open::Read).map_err(|e| failed("open", e))?;
        // The file may be shorter than it should be (somebody cut it): what is not there is not touched.
        let len = file.len().map_err(|e| failed("stat", e))?.min(self.end_position());
        if len == 0 {
            return Ok(None);
        }
        let map = file.map(len as usize, false).map_err(|e| failed("map", e))?;
        let opened = Arc::new(Opened { file, region: Region::new(map, len as usize, &self.mark) });
        self.view.opened.store(Some(opened.clone()));
        if self.end_offset() != i64::MAX {
            views::opened(&self.view);
        }
        Ok(Some(opened))
    }

    /// The bytes of `opened` that belong to this segment.
    pub(crate) fn bytes<'a>(&self, opened: &'a Opened) -> &'a [u8] {
        let end = (self.end_position() as usize).min(opened.region.published());
        opened.region.bytes(0, end)
    }

    /// The index, loaded or made anew where needed. Blocks when it must.
    pub(crate) fn index(&self, disk: &dyn Disk, opened: &Opened, interval: u32) -> Arc<Index> {
        if let Some(index) = self.view.index.load_full() {
            return index;
        }
        let _guard = lock(&self.opening);
        if let Some(index) = self.view.index.load_full() {
            return index;
        }
        let index = Arc::new(self.load_index(disk, opened).unwrap_or_else(|| self.rebuild_index(opened, interval)));
        self.view.index.store(Some(index.clone()));
        index
    }

    /// The index from its files; `None` when they are missing or say what the log does not.
    fn load_index(&self, disk: &dyn Disk, opened: &Opened) -> Option<Index> {
        let read = |extension| {
            let file = disk.open(&self.path.with_extension(extension), Open::Read).ok()?;
            let len = file.len().ok()?.min(INDEX_FILE_BYTES_MAX);
            let mut bytes = vec![0; len as usize];
            let n = file.read_at(&mut bytes, 0).ok()?;
            bytes.truncate(n);
            Some(bytes)
        };
        let (offsets, times) = (read("index")?, read("timeindex")?);
        let bytes = self.bytes(opened);
        let index = Index::decode(self.base, self.end_offset(), bytes.len() as u64, &offsets, &times);
        if index.len() == 0 {
            // No entry in a long segment: the file was lost or damaged.
            return (bytes.len() < 64 << 10).then_some(index);
        }
        let last = index.entry(index.len() - 1);
        self.entry_holds(bytes, last.position, last.offset).map(|_| index)
    }

    /// The batch at an index entry's position, if it is the one the entry claims.
    fn entry_holds(&self, bytes: &[u8], position: u64, offset: i64) -> Option<Batch> {
        let batch = header_at(bytes, position, self.base, self.end_offset())?;
        (batch.base_offset <= offset && offset <= batch.last_offset()).then_some(batch)
    }

    /// Walks the headers. Touches the whole segment; only for a lost index.
    fn rebuild_index(&self, opened: &Opened, interval: u32) -> Index {
        let index = Index::new(self.base);
        let bytes = self.bytes(opened);
        let (mut position, mut expected) = (0, self.base);
        let mut since = 0;
        let mut max = (-1, self.base);
        while expected < self.end_offset() {
            let Some((at, batch)) = self.header_or_next(bytes, position, expected) else { break };
            if since > interval as usize {
                index.push(batch.last_offset(), at);
                index.push_time(max.0, max.1);
                since = 0;
            }
            since += batch.size_bytes;
            if batch.max_timestamp > max.0 {
                max = (batch.max_timestamp, batch.last_offset());
            }
            position = at + batch.size_bytes as u64;
            expected = batch.next_offset();
        }
        index.push_time(max.0, max.1);
        index
    }

    /// The batch at `position`, else the next one behind the damage.
    fn header_or_next(&self, bytes: &[u8], position: u64, expected: i64) -> Option<(u64, Batch)> {
        let limit = self.end_offset();
        header_at(bytes, position, expected, limit)
            .map(|b| (position, b))
            .or_else(|| next_batch(bytes, position, expected, limit))
    }

    /// Drops the index from memory when it says something about bytes that are no longer this segment's.
    fn forget_index_beyond_end(&self) {
        if let Some(index) = self.view.index.load_full() {
            let (offsets, times) = (index.offset_bytes(self.end_position()), index.time_bytes(self.end_offset()));
            let cut = Index::decode(self.base, self.end_offset(), self.end_position(), &offsets, &times);
            self.view.index.store(Some(Arc::new(cut)));
        }
    }

    /// Writes both index files (derived, not synced) and forgets the index in memory when `forget`. Errors are of no consequence:
    /// the index is made anew from the log. Blocks.
    pub(crate) fn write_index(&self, disk: &dyn Disk, forget: bool) {
        let Some(index) = self.view.index.load_full() else { return };
        let write = |extension, bytes: Vec<u8>| -> io::Result<()> {
            let file = disk.open(&self.path.with_extension(extension), Open::Create)?;
            file.set_len(0)?;
            file.write_all_at(&bytes, 0)
        };
        *lock(&self.index_written) = None;
        let done = write("index", index.offset_bytes(self.end_position()))
            .and_then(|()| write("timeindex", index.time_bytes(self.end_offset())));
        if done.is_ok() && forget {
            self.view.index.store(None);
        }
    }

    /// Adds the new entries of the active segment's index to its files once there are enough of them, so that a recovery finds its
    /// place without a walk. As [`Segment::write_index`] otherwise.
    pub(crate) fn write_index_progress(&self, disk: &dyn Disk) {
        const ENTRIES: usize = 64;
        let Some(index) = self.view.index.load_full() else { return };
        let mut written = lock(&self.index_written);
        let (offsets, times) = written.unwrap_or_default();
        let (offsets_now, times_now) = (index.len(), index.times_len());
        if offsets_now < offsets + ENTRIES {
            return;
        }
        let begin = written.is_none();
        let write = |extension, bytes: Vec<u8>, at: usize| -> io::Result<()> {
            let file = disk.open(&self.path.with_extension(extension), Open::Create)?;
            if begin {
                file.set_len(0)?;
            }
            file.write_all_at(&bytes, at as u64)
        };
        let done = write("index", index.offset_bytes_of(offsets..offsets_now), offsets * 8)
            .and_then(|()| write("timeindex", index.time_bytes_of(times..times_now), times * 12));
        *written = done.is_ok().then_some((offsets_now, times_now));
    }

    /// The first batch that holds or follows `offset`, from the index on.
    pub(crate) fn find(&self, opened: &Opened, index: &Index, offset: i64) -> Found {
        let bytes = self.bytes(opened);
        let (position, expected) = self.start_for(bytes, index, offset);
        self.walk(bytes, position, expected, offset)
    }

    /// Where to begin a walk for `offset`: the nearest index entry that holds, else the start.
    fn start_for(&self, bytes: &[u8], index: &Index, offset: i64) -> (u64, i64) {
        let mut n = index.up_to(offset, bytes.len() as u64);
        while n > 0 {
            let e = index.entry(n - 1);
            if let Some(batch) = self.entry_holds(bytes, e.position, e.offset) {
                return (e.position, batch.base_offset);
            }
            n -= 1; // damaged there
        }
        (0, self.base)
    }

    /// Walks headers from `position`, where `expected` is the offset that follows, to the first batch that holds or follows `offset`.
    pub(crate) fn walk(&self, bytes: &[u8], mut position: u64, mut expected: i64, offset: i64) -> Found {
        let limit = self.end_offset();
        // The batch passed last: its length or offsets may be what is damaged when nothing follows it.
        let mut passed: Option<(u64, i64)> = None;
        let broken = |passed: Option<(u64, i64)>, to| {
            passed.filter(|(from, _)| {
                !self.is_checked(*from, to) && batch::check_stored(&bytes[*from as usize..]).is_err()
            })
        };
        loop {
            if expected >= limit || position >= bytes.len() as u64 {
                return Found::End { position, next_offset: expected };
            }
            let batch = match self.bad_at(position) {
                Some(_) => None,
                None => header_at(bytes, position, expected, limit).filter(|b| {
                    b.base_offset == expected
                        || !gap_is_damage(bytes, position, b, expected, limit) && broken(passed, position).is_none()
                }),
            };
            match batch {
                Some(batch) if batch.next_offset() > offset => return Found::At { position, batch, expected },
                Some(batch) => {
                    passed = Some((position, expected));
                    position += batch.size_bytes as u64;
                    expected = batch.next_offset();
                }
                None => {
                    let bad = self.bad_at(position).unwrap_or_else(|| {
                        let (from, base) = broken(passed, position).unwrap_or((position, expected));
                        self.note_damage(bytes, from, base)
                    });
                    passed = None;
                    if offset < bad.next_offset {
                        return Found::Damaged(bad);
                    }
                    position = bad.to;
                    expected = bad.next_offset;
                }
            }
        }
    }

    /// End of the slice that begins with `first` at `position`: whole batches, at most `bytes_max` unless the first is larger, all
    /// below `end`.
    pub(crate) fn slice_end(
        &self,
        bytes: &[u8],
        index: &Index,
        position: u64,
        first: &Batch,
        bytes_max: u64,
        end: i64,
    ) -> (u64, i64) {
        let limit = self.end_offset();
        let stop = position.saturating_add(bytes_max);
        let mut at = position + first.size_bytes as u64;
        let mut expected = first.next_offset();
        // Jump to the last index entry that is surely inside.
        if !self.has_bad.load(Ordering::Acquire) {
            let n = index.up_to(end - 1, (bytes.len() as u64).min(stop.saturating_add(1)));
            if n > 0 {
                let e = index.entry(n - 1);
                if e.position > at
                    && let Some(batch) = self.entry_holds(bytes, e.position, e.offset)
                {
                    at = e.position;
                    expected = batch.base_offset;
                }
            }
        }
        while at < bytes.len() as u64 && expected < limit {
            if self.bad_at(at).is_some() {
                break;
            }
            let Some(batch) = header_at(bytes, at, expected, limit) else { break };
            let next = at + batch.size_bytes as u64;
            if batch.next_offset() > end || next > stop {
                break;
            }
            at = next;
            expected = batch.next_offset();
        }
        (at, expected)
    }

    fn bad_at(&self, position: u64) -> Option<Bad> {
        if !self.has_bad.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.bad).iter().find(|b| b.from <= position && position < b.to).copied()
    }

    /// Notes that nothing readable begins at `position`, where `expected` should be; says how far the damage goes.
    fn note_damage(&self, bytes: &[u8], position: u64, expected: i64) -> Bad {
        let limit = self.end_offset();
        let bad = match next_batch(bytes, position + 1, expected, limit) {
            Some((to, batch)) => Bad { from: position, to, offset: expected, next_offset: batch.base_offset },
            None => Bad {
                from: position,
                to: bytes.len() as u64,
                offset: expected,
                // The last segment's damage reaches to the end of the log; nothing is ever read beyond.
                next_offset: limit,
            },
        };
        self.add_bad(bad);
        bad
    }

    pub(crate) fn add_bad(&self, bad: Bad) {
        let mut list = lock(&self.bad);
        list.retain(|b| b.from < bad.from || b.from >= bad.to);
        list.push(bad);
        self.has_bad.store(true, Ordering::Release);
    }

    /// Whether damage reaches to its end: what is appended behind could not be told from it.
    pub(crate) fn ends_damaged(&self) -> bool {
        self.has_bad.load(Ordering::Acquire) && lock(&self.bad).iter().any(|b| b.to >= self.end_position())
    }

    /// Damaged ranges met so far.
    #[allow(dead_code)]
    pub(crate) fn bad(&self) -> Vec<Bad> {
        lock(&self.bad).clone()
    }

    /// Checks the CRC of each batch in a range of whole batches. `Corrupt` names the first bad one, which is quarantined from then on.
    pub(crate) fn check_range(&self, opened: &Opened, from: u64, to: u64) -> Result<()> {
        let bytes = self.bytes(opened);
        let mut at = from;
        while at < to.min(bytes.len() as u64) {
            match batch::check_stored(&bytes[at as usize..]) {
                Ok(batch) => at += batch.size_bytes as u64,
                Err(_) => {
                    let offset = Batch::parse(&bytes[at as usize..]).map_or(self.base, |b| b.base_offset);
                    self.quarantine(bytes, at, offset);
                    if at > from {
                        self.note_checked(from, at);
                    }
                    return Err(Error::Corrupt { path: self.path.clone(), offset });
                }
            }
        }
        self.note_checked(from, to);
        Ok(())
    }

    /// A batch whose header reads well but whose CRC does not hold.
    fn quarantine(&self, bytes: &[u8], position: u64, offset: i64) {
        let limit = self.end_offset();
        let next = Batch::parse(&bytes[position as usize..]).ok().and_then(|b| {
            let behind = position + b.size_bytes as u64;
            if behind == bytes.len() as u64 && b.next_offset() <= limit && b.last_offset_delta >= 0 {
                let offsets = i64::from(b.last_offset_delta).min(i64::from(b.record_count) - 1).max(0) + 1;
                return Some((behind, b.base_offset.saturating_add(offsets)));
            }
            // Surely where it ends when the next one follows; else its length may be damaged, and the next one is searched for.
            let next = header_at(bytes, behind, b.next_offset(), limit);
            next.filter(|n| n.base_offset == b.next_offset()).map(|n| (behind, n.base_offset))
        });
        match next {
            Some((to, next_offset)) => self.add_bad(Bad { from: position, to, offset, next_offset }),
            None => {
                self.note_damage(bytes, position, offset);
            }
        }
    }

    /// The largest record timestamp of what can be read; -1 when no record has one. An error when the file cannot be opened; pages that
    /// could not be read are the caller's to ask for ([`crate::health::Health::check_read`]). Blocks when it is not in memory.
    pub(crate) fn max_timestamp(&self, disk: &dyn Disk, interval: u32) -> Result<i64> {
        if let Some(t) = self.max_timestamp_in_memory() {
            return Ok(t);
        }
        let Some(opened) = self.view(disk)? else { return Ok(-1) };
        let index = self.index(disk, &opened, interval);
        let bytes = self.bytes(&opened);
        // The time index says what lies before its last entry's batch; the rest is walked.
        let noted = index.time_before_offset(i64::MAX);
        let (mut position, mut expected) = self.start_for(bytes, &index, noted.map_or(self.base, |n| n.1));
        let mut max = noted.map_or(-1, |n| n.0);
        while expected < self.end_offset() {
            let Some((at, batch)) = self.header_or_next(bytes, position, expected) else { break };
            max = max.max(batch.max_timestamp);
            position = at + batch.size_bytes as u64;
            expected = batch.next_offset();
        }
        self.max_timestamp.store(max, Ordering::Relaxed);
        Ok(max)
    }

    /// When the last append was made, ms since 1970: known, else the file's time, else `fallback_ms`. Blocks when it must ask.
    pub(crate) fn appended_ms(&self, disk: &dyn Disk, fallback_ms: i64) -> i64 {
        let known = self.appended_ms.load(Ordering::Relaxed);
        if known != UNKNOWN {
            return known;
        }
        let Ok(file) = disk.open(&self.path, Open::Read) else { return fallback_ms };
        let ms = file.modified_ms().unwrap_or(fallback_ms);
        self.appended_ms.store(ms, Ordering::Relaxed);
        ms
    }

    /// What retention wants to know, as far as memory says.
    pub(crate) fn aged_in_memory(&self, fallback_ms: i64) -> Aged {
        let appended = self.appended_ms.load(Ordering::Relaxed);
        Aged {
            size_bytes: self.end_position(),
            end_offset: self.end_offset(),
            max_timestamp_ms: self.max_timestamp_in_memory().filter(|t| *t >= 0),
            appended_ms: if appended == UNKNOWN { fallback_ms } else { appended },
        }
    }

    /// What retention wants to know; where timestamps cannot be read, the last append counts, which is no earlier. Blocks when it is not
    /// in memory.
    pub(crate) fn aged(&self, disk: &dyn Disk, interval: u32, now_ms: i64) -> Aged {
        let max = self.max_timestamp(disk, interval).unwrap_or(-1);
        Aged {
            size_bytes: self.end_position(),
            end_offset: self.end_offset(),
            max_timestamp_ms: (max >= 0).then_some(max),
            appended_ms: self.appended_ms(disk, now_ms),
        }
    }
}
