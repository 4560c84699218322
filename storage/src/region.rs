//! Mapped bytes of one segment file: one writer, any number of readers, an atomic end between them.
//!
//! The rules that make the map sound (who keeps each stands behind it):
//! 1. Bytes below the published end never change (this file: [`RegionWriter`] refuses to write there; `log.rs` never writes
//!    below it through the file either: a truncation seals the file and starts a new one).
//! 2. Only allocated bytes are touched (this file asserts it against what `segment.rs` reports as allocated).
//! 3. A file never shrinks below what was published while it is mapped (`segment.rs`, `log.rs`).
//! 4. One process per data directory (the directory's lock).
//!
//! A disk error under the map raises SIGBUS, which `sigbus.rs` survives.

use crate::sigbus;
use bytes::Bytes;
use memmap2::MmapRaw;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Bytes that one madvise call brings in, so that a call does not hold the address space for long.
const POPULATE_STEP_BYTES: usize = 4 << 20;

/// A mapped file with a published end.
#[derive(Debug)]
pub(crate) struct Region {
    /// Before the map: it must end before the addresses are free for another.
    _protected: Option<sigbus::Registration>,
    map: MmapRaw,
    published: AtomicUsize,
}

impl Region {
    /// A region of which the first `published` bytes are there to read. The file must hold that many.
    /// A page that cannot be read sets `mark`.
    pub(crate) fn new(map: MmapRaw, published: usize, mark: &Arc<AtomicBool>) -> Arc<Region> {
        assert!(published <= map.len(), "{published} bytes published of a map of {}", map.len());
        let start = map.as_ptr() as usize;
        let protected = sigbus::register(start..start + map.len(), mark);
        Arc::new(Region { _protected: protected, map, published: AtomicUsize::new(published) })
    }

    /// Bytes that may be read (acquire).
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// Published bytes; the range is clamped to nothing beyond them by an assert.
    pub(crate) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        let published = self.published();
        assert!(from <= to && to <= published, "bytes {from}..{to} of {published} published");
        // SAFETY: the range lies inside the map, because the published end does (asserted wherever it is set). Bytes below the
        // published end never change (rules 1 and 4 of the module) and are backed by the file (rules 2 and 3); the acquire load
        // above orders this read after the writes. The map lives as long as `self`, to which the slice is bound.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(from), to - from) }
    }

    /// Published bytes that keep the region alive. No copy.
    pub(crate) fn slice(self: &Arc<Region>, from: usize, to: usize) -> Bytes {
        self.bytes(from, to); // the assert
        Bytes::from_owner(RegionSlice { region: self.clone(), from, to })
    }

    /// Brings the pages of a range in. An unreadable page is an error here, not a SIGBUS later. Blocks.
    pub(crate) fn populate(&self, from: usize, to: usize) -> io::Result<()> {
        let to = to.min(self.map.len());
        let mut at = from;
        while at < to {
            let len = (to - at).min(POPULATE_STEP_BYTES);
            match self.map.advise_range(memmap2::Advice::PopulateRead, at, len) {
                Ok(()) => at += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

struct RegionSlice {
    region: Arc<Region>,
    from: usize,
    to: usize,
}

impl AsRef<[u8]> for RegionSlice {
    fn as_ref(&self) -> &[u8] {
        self.region.bytes(self.from, self.to)
    }
}

/// The one writer of a region.
#[derive(Debug)]
pub(crate) struct RegionWriter {
    region: Arc<Region>,
    writable_to: usize,
}

impl RegionWriter {
    /// `map` must be writable (`DiskFile::map(_, true)`); nothing is writable before [`RegionWriter::set_writable`].
    pub(crate) fn new(map: MmapRaw, published: usize, mark: &Arc<AtomicBool>) -> RegionWriter {
        RegionWriter { region: Region::new(map, published, mark), writable_to: published }
    }

    /// For readers.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Bytes of address space.
    pub(crate) fn map_len(&self) -> usize {
        self.region.map.len()
    }

    /// The file has blocks for bytes `0..end` (beyond the map nothing is written anyhow).
    pub(crate) fn set_writable(&mut self, end: usize) {
        assert!(end >= self.region.published(), "blocks taken from below the published end");
        self.writable_to = end.min(self.map_len());
    }

    /// Copies bytes to where nobody reads yet.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let published = self.region.published();
        let end = at.checked_add(bytes.len()).expect("a position beyond the address space");
        assert!(
            at >= published && end <= self.writable_to,
            "write to {at}..{end}, {published} are published and {} allocated",
            self.writable_to
        );
        // SAFETY: the target lies inside the map (`writable_to` is at most its length) and in allocated bytes of the file
        // (rule 2), so the store cannot fault for want of a block. No reference to it exists: readers get only bytes below the
        // published end, and `&mut self` of the only writer excludes another write. `bytes` is a reference and so cannot overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.region.map.as_mut_ptr().add(at), bytes.len());
        }
    }

    /// Makes bytes below `end` readable (release): they are written, through the map or through the file.
    pub(crate) fn publish(&mut self, end: usize) {
        let published = self.region.published();
        assert!(end >= published && end <= self.writable_to, "publish {end} after {published} of {}", self.writable_to);
        self.region.published.store(end, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, OsDisk, disk::Open};

    fn writer(len: usize, allocated: u64) -> (tempfile::TempDir, RegionWriter) {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("r"), Open::CreateNew).unwrap();
        file.allocate(allocated).unwrap();
        let mut w = RegionWriter::new(file.map(len, true).unwrap(), 0, &Arc::default());
        w.set_writable(allocated as usize);
        (dir, w)
    }

    #[test]
    fn a_slice_outlives_writer_and_region() {
        let (_dir, mut w) = writer(1 << 20, 4096);
        w.write(0, b"hello");
        w.publish(5);
        let s = w.region().slice(1, 4);
        drop(w);
        assert_eq!(&s[..], b"ell");
    }

    #[test]
    #[should_panic(expected = "published")]
    fn unpublished_bytes_are_not_readable() {
        let (_dir, mut w) = writer(4096, 4096);
        w.write(0, b"hello");
        w.region().bytes(0, 5);
    }

    #[test]
    #[should_panic(expected = "published")]
    fn published_bytes_are_not_writable() {
        let (_dir, mut w) = writer(4096, 4096);
        w.write(0, b"hello");
        w.publish(5);
        w.write(4, b"x");
    }

    #[test]
    #[should_panic(expected = "allocated")]
    fn bytes_without_blocks_are_not_touched() {
        let (_dir, mut w) = writer(1 << 20, 4096);
        w.write(4090, b"0123456789");
    }

    #[test]
    fn populate_reads_what_is_there() {
        let (_dir, mut w) = writer(1 << 20, 8192);
        w.publish(8192);
        w.region().populate(10, 8192).unwrap();
        w.region().populate(0, 0).unwrap();
    }
}
