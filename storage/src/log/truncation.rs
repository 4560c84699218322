//! Taking the end of a log away (what a follower has and its leader has not): whole batches, down to a batch boundary, durable before it returns.

use super::Log;
use crate::{
    Error, Result,
    dirty::write_epochs,
    disk::Open,
    epochs::Epochs,
    reader::SegmentList,
    recovery,
    segment::{self, Found, Segment},
};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

impl Log {
    /// Cuts the log back so that its end is the base offset of the first batch that holds or follows `offset`; returns the new end.
    /// Durable when it returns. Bytes already handed out stay as they were. Blocks.
    pub fn truncate_to(&mut self, offset: i64) -> Result<i64> {
        self.writable()?;
        if offset >= self.log_end() {
            return Ok(self.log_end());
        }
        let shared = self.shared().clone();
        let disk = &*shared.disk;
        let list = shared.segments.load_full();
        let Some(first) = list.first() else { return Ok(self.log_end()) };
        if offset < first.base {
            self.restart_at(first.base, false)?;
            return Ok(first.base);
        }
        // The segment that holds the new end, and where.
        let mut keep = list.partition_point(|s| s.base <= offset) - 1;
        let segment = &list[keep];
        let mut cut = None;
        if let Some(opened) = segment.view(disk)? {
            let index = segment.index(disk, &opened, self.config.index_interval_bytes);
            cut = match segment.find(&opened, &index, offset) {
                Found::At { position, batch, .. } => Some((position, batch.base_offset)),
                Found::Damaged(bad) => Some((bad.from, bad.offset)),
                Found::End { .. } => None,
            };
        }
        let (position, end) = match cut {
            Some((0, end)) if keep == 0 || end == segment.base => {
                keep = keep.max(1) - 1; // nothing of it stays
                if list[keep].base == segment.base {
                    self.restart_at(end, false)?;
                    return Ok(end);
                }
                (list[keep].end_position(), end)
            }
            Some(cut) => cut,
            // A gap at its end: cut at the next one's base.
            None => (segment.end_position(), list.get(keep + 1).map_or(offset, |s| s.base)),
        };
        self.cut_at(&list, keep, position, end)?;
        Ok(end)
    }

    /// The log ends at offset `end`; segment `keep` is the last one that stays, up to `position`.
    pub(super) fn cut_at(&mut self, list: &SegmentList, keep: usize, position: u64, end: i64) -> Result<()> {
        let disk = self.shared().disk.clone();
        // What stays is durable first: the end that is reported afterwards is a durable one.
        self.flush()?;
        self.active = None; // nothing is appended to the old files any more
        for s in list[keep..].iter() {
            s.tail().sealed = true;
        }
        let sealed = Arc::new(list[keep].sealed_at(position, end));
        sealed.write_index(&*disk, true);
        self.remove_snapshots_above(end)?;
        let mut kept: SegmentList = list[..keep].to_vec();
        kept.push(sealed);
        let old_start = self.shared().log_start.load(Ordering::Acquire);
        self.cut(kept, &list[keep + 1..], end, |log| {
            log.seat.truncating(end)?;
            if end < old_start { log.tell_log_start(end) } else { Ok(()) }
        })
    }

    /// Puts `kept` in the place of the segment list, with `end` for its end. Readers see it at once, `tell` writes down that it happens,
    /// then the files follow: a reader that still has the old list finds them gone, looks again, and finds the new one. When it cannot
    /// be written down, the log is as before.
    pub(super) fn cut(
        &mut self,
        kept: SegmentList,
        gone: &[Arc<Segment>],
        end: i64,
        tell: impl FnOnce(&mut Log) -> Result<()>,
    ) -> Result<()> {
        let shared = self.shared().clone();
        let before = (shared.segments.load_full(), shared.stat());
        let publish = |list: Arc<SegmentList>, start, end, durable, watermark| {
            let size = list.iter().map(|s| s.end_position()).sum();
            let mut generation = shared.generation();
            *generation += 1;
            shared.log_end.store(end, Ordering::Release);
            shared.durable_end.store(durable, Ordering::Release);
            shared.segments.store(list);
            shared.log_start.store(start, Ordering::Release);
            shared.high_watermark.store(watermark, Ordering::Release);
            shared.size.store(size, Ordering::Relaxed);
        };
        let (list, stat) = before;
        publish(Arc::new(kept), stat.log_start.min(end), end, end, stat.high_watermark.min(end));
        if let Err(e) = tell(self) {
            publish(list, stat.log_start, stat.log_end, stat.recovery_point, stat.high_watermark);
            return Err(e);
        }
        self.finish_cut(gone, end)
    }

    /// The files of a truncation: `gone` are renamed, newest first, and an empty segment at `end` is made, durably. A failure leaves half
    /// of it on disk, which only a restart sorts out: the directory is failed.
    pub(super) fn finish_cut(&mut self, gone: &[Arc<Segment>], end: i64) -> Result<()> {
        let shared = self.shared().clone();
        self.change_files(gone, end).inspect_err(|e| shared.health.fail(format!("truncate: {e}")))?;
        let mut list = SegmentList::clone(&shared.segments.load());
        list.push(Arc::new(Segment::existing(&shared.dir, shared.health.mark(), end, i64::MAX, 0)));
        shared.segments.store(Arc::new(list));
        let mut epochs = Epochs::clone(&shared.epochs.load());
        if epochs.cut_from(end) {
            shared.epochs.store(Arc::new(epochs));
            shared.epochs_changed.store(true, Ordering::Release);
        }
        self.must_roll = false;
        write_epochs(&shared);
        Ok(())
    }

    /// Removes the producer snapshots above `end`, durably, before the log is cut there: they would be believed once it has grown past
    /// them again. Blocks.
    pub(super) fn remove_snapshots_above(&self, end: i64) -> Result<()> {
        recovery::remove_snapshots_above(&*self.shared().disk, &self.shared().dir, end)
    }

    ///
    /// The new end comes first, in one step that replaces a segment of that name: a segment that an earlier truncation sealed still has
    /// bytes behind its end, and would show them again if a crash left it without a segment that follows.
    pub(super) fn change_files(&mut self, gone: &[Arc<Segment>], end: i64) -> Result<()> {
        let shared = self.shared().clone();
        self.make_dir()?;
        self.seat.before_flush()?;
        let path = segment::file_name(&shared.dir, end, "log");
        let new = path.with_extension("log.new");
        let make = || {
            // No flush after this finds a new name to sync it for.
            match shared.disk.open(&shared.dir.join("partition.metadata"), Open::Write).and_then(|file| file.sync()) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
            let file = shared.disk.open(&new, Open::Create)?;
            file.set_len(0)?;
            file.sync()?;
            shared.disk.rename(&new, &path)?;
            shared.disk.sync_dir(&shared.dir)
        };
        make().map_err(|e| Error::io("create", &path, e))?;
        for s in gone.iter().rev().filter(|s| s.base != end) {
            self.remove_files(s, i64::MIN)?;
        }
        for extension in ["index", "timeindex"] {
            let _ = shared.disk.remove_file(&path.with_extension(extension));
        }
        shared.disk.sync_dir(&shared.dir).map_err(|e| Error::io("sync", &shared.dir, e))
    }

    /// Throws everything away and continues at `offset` (a follower whose leader starts later). Blocks.
    pub fn truncate_fully_and_start_at(&mut self, offset: i64) -> Result<()> {
        self.writable()?;
        self.restart_at(offset, true)
    }

    /// As above; `moves_start`: the log start becomes `offset` whether it is higher or lower.
    pub(super) fn restart_at(&mut self, offset: i64, moves_start: bool) -> Result<()> {
        let shared = self.shared().clone();
        let list = shared.segments.load_full();
        let old_start = shared.log_start.load(Ordering::Acquire);
        // Where the files do not follow (a crash), the old ones are recovered from here.
        let point = offset.min(shared.durable_end.load(Ordering::Acquire));
        self.active = None;
        for s in list.iter() {
            s.tail().sealed = true;
        }
        // What goes on elsewhere has another past.
        self.remove_snapshots_above(if moves_start { -1 } else { offset })?;
        self.cut(SegmentList::new(), &list, offset, |log| {
            log.seat.truncating(point)?;
            if moves_start || offset < old_start { log.tell_log_start(offset) } else { Ok(()) }
        })?;
        if moves_start {
            shared.epochs.store(Arc::default());
            shared.epochs_changed.store(true, Ordering::Release);
            write_epochs(&shared);
            shared.log_start.store(offset, Ordering::Release);
        }
        shared.catalogued_expires_ms.store(i64::MIN, Ordering::Relaxed);
        Ok(())
    }
}
