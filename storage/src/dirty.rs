//! What one log adds to a flush round. Nothing else syncs on a request's path.

use crate::{Error, LogStat, PartitionId, Result, reader::Shared, segment::Segment};
use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

/// A durable log writes its blocks ahead in steps of this, so that a sync finds them written and changes no extent.
const ZERO_AHEAD_BYTES: u64 = 1 << 20;
const ZERO_STEP_BYTES: usize = 64 << 10;
/// Larger rounds gain nothing from blocks written ahead: the zeros would double what goes to disk.
const ZERO_ROUND_BYTES_MAX: u64 = 128 << 10;
/// Rounds that a segment sees before blocks are written ahead, so that a partition of few records stays small.
const ZERO_AFTER_FLUSHES: u32 = 8;

/// One log's bytes that want a flush: a snapshot for [`crate::Directory::flush`]. Keeps the segments concerned alive.
#[derive(Debug)]
pub struct Dirty {
    shared: Arc<Shared>,
    generation: u64,
    end: i64,
    /// Oldest first, with the published end of each.
    segments: Vec<(Arc<Segment>, u64)>,
}

impl Dirty {
    pub(crate) fn of(shared: &Arc<Shared>) -> Option<Dirty> {
        let generation = *shared.generation();
        let end = shared.log_end.load(Ordering::Acquire);
        let list = shared.segments.load();
        let mut segments = Vec::new();
        for s in list.iter().rev() {
            let to = s.end_position();
            if s.durable_position() >= to && s.name_is_durable() {
                break; // older ones were flushed before it
            }
            segments.push((s.clone(), to));
        }
        let names_gone = shared.names_gone.load(Ordering::Acquire);
        if segments.is_empty()
            && shared.durable_end.load(Ordering::Acquire) >= end
            && shared.names_gone_durable.load(Ordering::Acquire) >= names_gone
        {
            return None;
        }
        segments.reverse();
        Some(Dirty { shared: shared.clone(), generation, end, segments })
    }

    /// Whose.
    #[allow(dead_code)]
    pub(crate) fn id(&self) -> PartitionId {
        self.shared.id
    }

    /// The log's figures now.
    #[allow(dead_code)]
    pub(crate) fn stat(&self) -> LogStat {
        self.shared.stat()
    }

    /// Makes the bytes durable, oldest segment first, then the names of new files, and moves the durable end (not past a truncation that
    /// came between); returns it. A failure marks the directory failed, unless it is `Exhausted`: then all is as before, and dirty. Blocks.
    pub(crate) fn flush(&self) -> Result<i64> {
        let shared = &*self.shared;
        shared.health.check()?;
        let names_gone = shared.names_gone.load(Ordering::Acquire);
        let mut new_names = shared.names_gone_durable.load(Ordering::Acquire) < names_gone;
        for (segment, to) in &self.segments {
            let from = segment.durable_position();
            if from < *to {
                self.sync(segment, from, *to)?;
            }
            new_names |= !segment.name_is_durable();
        }
        if new_names {
            self.sync_names()?;
            shared.names_gone_durable.fetch_max(names_gone, Ordering::AcqRel);
        }
        shared.health.check()?;
        for (segment, to) in &self.segments {
            segment.set_durable_position(*to);
            segment.set_name_durable(true);
        }
        let durable = {
            let generation = shared.generation();
            if *generation == self.generation {
                shared.durable_end.fetch_max(self.end, Ordering::AcqRel);
            }
            shared.durable_end.load(Ordering::Acquire)
        };
        self.tidy();
        Ok(durable)
    }

    fn sync(&self, segment: &Segment, from: u64, to: u64) -> Result<()> {
        let disk = &*self.shared.disk;
        let synced = match segment.opened() {
            Some(opened) => opened.file.sync_range(from, to - from),
            // Closed since: its bytes were synced then, or it was removed.
            None => match disk.open(segment.path(), crate::disk::Open::Write) {
                Ok(file) => file.sync_range(from, to - from),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(e),
            },
        };
        synced.map_err(|e| self.fail("sync", segment.path(), e))
    }

    fn sync_names(&self) -> Result<()> {
        let shared = &*self.shared;
        let sync = |dir: &Path| match shared.disk.sync_dir(dir) {
            // The partition was deleted under the round.
            Err(e) if e.kind() == io::ErrorKind::NotFound && shared.closed.load(Ordering::Acquire) => Ok(()),
            done => done.map_err(|e| self.fail("sync", dir, e)),
        };
        // Whose directory it is must be known when the catalogue is lost.
        let metadata = shared.dir.join("partition.metadata");
        match shared.disk.open(&metadata, crate::disk::Open::Write).and_then(|file| file.sync()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(|e| self.fail("sync", &metadata, e))?,
        }
        // The name of that directory itself was made durable before this, by the round or `Seat::before_flush`.
        sync(&shared.dir)
    }

    fn fail(&self, op: &'static str, path: &Path, e: io::Error) -> Error {
        self.shared.health.fail_of(Error::io(op, path, e))
    }

    /// What can wait until the bytes are durable: derived files, maps of sealed segments, blocks ahead. Failures are of no consequence.
    fn tidy(&self) {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        write_epochs(shared);
        for (segment, to) in &self.segments {
            let sealed = segment.tail().sealed;
            if sealed && *to == segment.end_position() {
                segment.write_index(&*shared.disk, true);
                segment.set_opened(None); // opened again for reading, without the address space of an active one
            } else if !sealed {
                segment.write_index_progress(&*shared.disk);
            }
        }
        if let Some((segment, to)) = self.segments.last()
            && shared.durable.load(Ordering::Relaxed)
        {
            zero_ahead(segment, *to);
        }
    }
}

/// Writes `leader-epoch-checkpoint` if it is out of date. Not synced: the batches say the same, and recovery compares.
pub(crate) fn write_epochs(shared: &Shared) {
    if !shared.epochs_changed.swap(false, Ordering::AcqRel) {
        return;
    }
    let path = shared.dir.join("leader-epoch-checkpoint");
    let tmp = shared.dir.join("leader-epoch-checkpoint.new");
    let text = shared.epochs.load().encode();
    let write = || -> io::Result<()> {
        let file = shared.disk.open(&tmp, crate::disk::Open::Create)?;
        file.set_len(0)?;
        file.write_all_at(text.as_bytes(), 0)?;
        drop(file);
        shared.disk.rename(&tmp, &path)
    };
    if write().is_err() {
        shared.epochs_changed.store(true, Ordering::Release);
    }
}

fn zero_ahead(segment: &Segment, flushed_to: u64) {
    let Some(opened) = segment.opened() else { return };
    {
        let mut tail = segment.tail();
        tail.flushes = tail.flushes.saturating_add(1);
        let round = flushed_to.saturating_sub(tail.last_flushed_to);
        tail.last_flushed_to = flushed_to;
        let ahead = tail.zeroed_to.saturating_sub(tail.written_to);
        if tail.flushes < ZERO_AFTER_FLUSHES || round > ZERO_ROUND_BYTES_MAX || ahead >= ZERO_AHEAD_BYTES / 4 {
            return;
        }
    }
    let zeros = [0u8; ZERO_STEP_BYTES];
    loop {
        // A step at a time under the lock that every append takes, so that no append waits for more than one step.
        let mut tail = segment.tail();
        let from = tail.zeroed_to.max(tail.written_to);
        let stop = (tail.written_to + ZERO_AHEAD_BYTES).min(tail.allocated_to);
        if tail.sealed || from >= stop {
            return;
        }
        let len = (stop - from).min(ZERO_STEP_BYTES as u64);
        if opened.file.write_all_at(&zeros[..len as usize], from).is_err() {
            return;
        }
        tail.zeroed_to = from + len;
    }
}
