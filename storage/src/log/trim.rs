//! Taking the beginning of a log away: delete-records and retention; and unlinking what was deleted once its delay has passed.

use super::Log;
use crate::{
    Error, Result, checkpoint,
    epochs::Epochs,
    recovery,
    retention::{self, Aged},
    segment::Segment,
};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

impl Log {
    /// DeleteRecords: moves the log start to `offset` (`OffsetOutOfRange` beyond `high_watermark`; lower than the start is no change);
    /// whole segments below go. Returns the log start. Durable when it returns. Blocks.
    pub fn delete_records(&mut self, offset: i64, high_watermark: i64, now_ms: i64) -> Result<i64> {
        self.writable()?;
        let shared = self.shared().clone();
        let start = shared.log_start.load(Ordering::Acquire);
        let end = high_watermark.min(self.log_end());
        if offset > end {
            return Err(Error::OffsetOutOfRange { offset, start, end });
        }
        if offset <= start {
            return Ok(start);
        }
        self.tell_log_start(offset)?;
        shared.log_start.fetch_max(offset, Ordering::AcqRel);
        if offset == self.log_end() {
            let _ = self.roll(now_ms); // so that the last segment's bytes go too; a disk too full for it keeps them
        }
        let whole = shared.segments.load().iter().take_while(|s| s.end_offset() <= offset).count();
        self.remove_oldest(whole, now_ms)?;
        Ok(offset)
    }

    /// Removes the `count` oldest segments and what is known only of them.
    pub(super) fn remove_oldest(&mut self, count: usize, now_ms: i64) -> Result<()> {
        let shared = self.shared().clone();
        let list = shared.segments.load_full();
        let start = shared.log_start.load(Ordering::Acquire);
        let mut epochs = Epochs::clone(&shared.epochs.load());
        if epochs.cut_below(start) {
            shared.epochs.store(Arc::new(epochs));
            shared.epochs_changed.store(true, Ordering::Release);
        }
        if count == 0 {
            return Ok(());
        }
        // The names of those that stay are durable first: else what was cut from the ones before them could be back.
        shared.disk.sync_dir(&shared.dir).map_err(|e| Error::io("sync", &shared.dir, e))?;
        shared.segments.store(Arc::new(list[count..].to_vec()));
        let gone: u64 = list[..count].iter().map(|s| s.end_position()).sum();
        let size = shared.size.load(Ordering::Relaxed);
        shared.size.store(size.saturating_sub(gone), Ordering::Relaxed);
        shared.catalogued_expires_ms.store(i64::MIN, Ordering::Relaxed);
        for s in &list[..count] {
            self.remove_files(s, now_ms.saturating_add(self.config.file_delete_delay_ms))?;
            s.set_opened(None);
        }
        for (offset, path) in self.snapshot_files() {
            if offset < start {
                let _ = shared.disk.remove_file(&path);
            }
        }
        Ok(())
    }

    /// Makes a log start durable before it is in force, and before a segment goes: recovery must tell one that was removed from one that
    /// was lost.
    pub(super) fn tell_log_start(&mut self, offset: i64) -> Result<()> {
        self.seat.note()?;
        self.seat.log_start(offset)?;
        self.make_dir()?;
        let shared = self.shared();
        let path = shared.dir.join(recovery::LOG_START_FILE);
        match checkpoint::write_atomic(&*shared.disk, &path, &offset.to_be_bytes()) {
            // What makes room on a full disk must not need any: the word in `opened` is made durable, and the file's older one goes.
            Err(Error::NoSpace { .. }) if self.seat.is_told() => {
                self.seat.before_flush()?;
                match shared.disk.remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
                    _ => shared.disk.sync_dir(&shared.dir).map_err(|e| Error::io("sync", &shared.dir, e)),
                }
            }
            done => done,
        }
    }

    /// Applies retention by time and size to closed segments below `high_watermark` (and rolls an expired active one); returns how many
    /// segments went. Unlinks the files whose delay has passed, too. Blocks.
    pub fn retain(&mut self, now_ms: i64, high_watermark: i64) -> Result<usize> {
        self.remove_deleted(now_ms);
        self.writable()?;
        let shared = self.shared().clone();
        let (retention_ms, interval) = (self.config.retention_ms, self.config.index_interval_bytes);
        let list = shared.segments.load_full();
        let Some(last) = list.last() else { return Ok(0) };
        // Timestamps are asked for only as far as segments are old: the first that is not ends it.
        let mut young = retention_ms < 0;
        let mut age = |s: &Segment| {
            if young {
                return Aged { appended_ms: i64::MAX, max_timestamp_ms: None, ..s.aged_in_memory(now_ms) };
            }
            let aged = s.aged(&*shared.disk, interval, now_ms);
            young = aged.expires_ms(retention_ms) >= now_ms;
            aged
        };
        let closed: Vec<Aged> = list[..list.len() - 1].iter().map(|s| age(s)).collect();
        let active = age(last);
        let mut count = retention::expired(
            &closed,
            last.end_position(),
            retention_ms,
            self.config.retention_bytes,
            high_watermark,
            now_ms,
        );
        let end = self.log_end();
        if count == closed.len()
            && active.expires_ms(retention_ms) < now_ms
            && last.end_position() > 0
            && end <= high_watermark
        {
            self.roll(now_ms)?;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let start = list[count - 1].end_offset().min(end);
        self.tell_log_start(start)?;
        shared.log_start.fetch_max(start, Ordering::AcqRel);
        self.remove_oldest(count, now_ms)?;
        Ok(count)
    }

    /// Renames a segment's file so that no recovery finds it, and drops its indexes. `due_ms`: when it is to be unlinked.
    pub(super) fn remove_files(&mut self, segment: &Segment, due_ms: i64) -> Result<()> {
        let disk = &*self.reader.shared.disk;
        let (from, to) = (segment.path(), segment.path().with_extension("log.deleted"));
        match disk.rename(from, &to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("rename", from, e)),
        }
        let _ = disk.remove_file(&from.with_extension("index"));
        let _ = disk.remove_file(&from.with_extension("timeindex"));
        self.deleted.retain(|d| d.0 != to);
        self.deleted.push((to, due_ms));
        Ok(())
    }

    /// Unlinks removed segments' files whose delay (`file.delete.delay.ms`) has passed. Blocks.
    pub fn remove_deleted(&mut self, now_ms: i64) {
        let disk = &*self.reader.shared.disk;
        self.deleted.retain(|(path, due_ms)| {
            *due_ms > now_ms || disk.remove_file(path).is_err_and(|e| e.kind() != io::ErrorKind::NotFound)
        });
    }
}
