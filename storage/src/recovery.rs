//! Opening a log: as catalogued after a clean stop, else recovered above its recovery point.
//!
//! Below the recovery point nothing is cut, whatever the bytes say: damage there is quarantined when a read meets it. Above it the log
//! ends at the first batch that does not follow (length, CRC, offset, epoch). What is cut and still holds a whole batch is kept as
//! `<first offset cut>.cut`. Nothing here needs free space to succeed, and only bytes from the recovery point on are read, apart from
//! an index and the headers since its last entry.

use crate::{
    Batch, Disk, DiskFile, Error, LogStat, Result, batch, checkpoint,
    directory::START_UNKNOWN,
    disk::Open,
    epochs::Epochs,
    log::OpenLog,
    names,
    segment::{self, Bad, Found, Segment},
};
use std::{io, path::Path, sync::Arc};

/// Log start as of the last time it moved (checkpoint of 8 bytes, big endian).
pub(crate) const LOG_START_FILE: &str = "log-start";

/// Copies of what is cut go in steps of this.
const COPY_BYTES: usize = 1 << 20;

/// More than a log can have appended since its last flush, which comes each 64 MiB: nothing is appended after a flush failed.
const UNSYNCED_BYTES_MAX: u64 = 1 << 30;

/// What opening found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    pub log_start: i64,
    /// All below is durable.
    pub log_end: i64,
    pub epochs: Epochs,
    pub epochs_changed: bool,
    pub has_dir: bool,
    pub must_roll: bool,
}

/// Opens the files of a log. Blocks.
pub(crate) fn open(o: &OpenLog) -> Result<Recovered> {
    let disk = &*o.disk;
    let stat = o.stat.unwrap_or(LogStat { needs_recovery: true, ..LogStat::default() });
    // `has_dir` stays false: the first append makes the directory's files, and its name durable, which a crash may have prevented.
    let empty_at = |offset| Recovered { log_start: offset, log_end: offset, ..Recovered::default() };
    // Appends that were never durable may all be gone: then the log ends where they began.
    let end = if stat.needs_recovery { stat.recovery_point.max(stat.log_start) } else { stat.log_end };
    if !disk.has_dir(&o.dir).map_err(|e| Error::io("look for", &o.dir, e))? {
        return Ok(empty_at(end.max(0)));
    }
    let known_start = log_start(disk, &o.dir)?.or((stat.log_start != START_UNKNOWN).then_some(stat.log_start));
    let log_start = known_start.unwrap_or(0);
    let (mut bases, newest_snapshot) = list(disk, &o.dir)?;
    let stale_snapshots = |end| if newest_snapshot > end { remove_snapshots_above(disk, &o.dir, end) } else { Ok(()) };
    // What was removed before a crash may be back, in part.
    let gone = bases.windows(2).take_while(|w| w[1] <= log_start).count();
    for base in bases.drain(..gone) {
        for extension in ["log", "index", "timeindex"] {
            let _ = disk.remove_file(&segment::file_name(&o.dir, base, extension));
        }
    }
    if bases.is_empty() {
        stale_snapshots(end.max(log_start))?;
        return Ok(empty_at(end.max(log_start)));
    }
    let mut segments = Vec::with_capacity(bases.len());
    for (i, base) in bases.iter().enumerate() {
        let path = segment::file_name(&o.dir, *base, "log");
        let file = disk.open(&path, Open::Read).map_err(|e| Error::io("open", &path, e))?;
        let len = file.len().map_err(|e| Error::io("stat", &path, e))?;
        let end = bases.get(i + 1).copied().unwrap_or(i64::MAX);
        segments.push(Arc::new(Segment::existing(&o.dir, o.health.mark(), *base, end, len)));
    }
    let (epochs, read) = read_epochs(disk, &o.dir);
    let mut r = Recovery { o, segments, epochs, epochs_changed: !read, must_roll: false, log_end: 0 };
    if stat.needs_recovery || !r.as_catalogued(log_start, stat)? {
        r.recover(stat.recovery_point, known_start)?;
    }
    if r.log_end < log_start {
        // The log was about to go on at its start, with nothing before (a follower far behind), when the process ended.
        r.start_anew(log_start)?;
    }
    stale_snapshots(r.log_end)?;
    // A map made on the way covers the file as it was then.
    for s in &r.segments {
        s.set_opened(None);
        s.set_index(None);
    }
    let first = r.segments.first().map_or(r.log_end, |s| s.base);
    let log_start = log_start.max(first).min(r.log_end);
    r.epochs_changed |= r.epochs.cut_from(r.log_end) | r.epochs.cut_below(log_start);
    Ok(Recovered {
        segments: r.segments,
        log_start,
        log_end: r.log_end,
        epochs: r.epochs,
        epochs_changed: r.epochs_changed,
        has_dir: true,
        must_roll: r.must_roll,
    })
}

/// The log-start file; a damaged one is as good as none (the catalogue knows the start as of its writing).
fn log_start(disk: &dyn Disk, dir: &Path) -> Result<Option<i64>> {
    match checkpoint::read(disk, &dir.join(LOG_START_FILE)) {
        Ok(bytes) => Ok(bytes.and_then(|b| Some(i64::from_be_bytes(b.try_into().ok()?))).filter(|o| *o >= 0)),
        Err(checkpoint::ReadError::Damaged { .. }) => Ok(None),
        Err(checkpoint::ReadError::Io(e)) => Err(e),
    }
}

fn read_epochs(disk: &dyn Disk, dir: &Path) -> (Epochs, bool) {
    let text = checkpoint::read_plain(disk, &dir.join("leader-epoch-checkpoint")).ok().flatten();
    match text.and_then(|t| Epochs::decode(&t)) {
        Some(epochs) => (epochs, true),
        None => (Epochs::default(), false),
    }
}

/// Base offsets of the segment files, rising, and the offset of the newest producer snapshot (-1: none). Removes what an earlier run left
/// to be removed.
fn list(disk: &dyn Disk, dir: &Path) -> Result<(Vec<i64>, i64)> {
    let (mut bases, mut newest_snapshot) = (Vec::new(), -1);
    for entry in disk.read_dir(dir).map_err(|e| Error::io("read", dir, e))? {
        let name = entry.name.as_str();
        if let Some(base) = segment::base_of(name, "log") {
            bases.push(base);
        } else if let Some(offset) = segment::base_of(name, "snapshot") {
            newest_snapshot = newest_snapshot.max(offset);
        } else if [".deleted", ".new", ".tmp"].iter().any(|e| name.ends_with(e)) {
            let _ = disk.remove_file(&dir.join(name));
        }
    }
    bases.sort_unstable();
    Ok((bases, newest_snapshot))
}

/// Removes the producer snapshots above `end`, durably: they know of records that are gone, and would be believed once the log has
/// grown past them again. Blocks.
pub(crate) fn remove_snapshots_above(disk: &dyn Disk, dir: &Path, end: i64) -> Result<()> {
    let entries = match disk.read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    let mut removed = false;
    for entry in entries {
        if segment::base_of(&entry.name, "snapshot").is_some_and(|offset| offset > end) {
            let path = dir.join(&entry.name);
            disk.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
            removed = true;
        }
    }
    if removed {
        disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    }
    Ok(())
}

struct Recovery<'a> {
    o: &'a OpenLog,
    segments: Vec<Arc<Segment>>,
    epochs: Epochs,
    epochs_changed: bool,
    must_roll: bool,
    log_end: i64,
}

/// Where checking begins.
struct From {
    segment: usize,
    position: u64,
    /// Offset that follows there.
    expected: i64,
}

impl Recovery<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.o.disk
    }

    fn interval(&self) -> u32 {
        self.o.config.index_interval_bytes
    }

    /// After a clean stop: finds where the last segment ends. `false` when the files are not what was catalogued.
    fn as_catalogued(&mut self, log_start: i64, LogStat { log_end, latest_epoch, .. }: LogStat) -> Result<bool> {
        // What begins later comes from a run that was lost with its name in `opened`.
        while self.segments.len() > 1 && self.segments.last().is_some_and(|s| s.base > log_end) {
            let later = self.segments.pop().expect("there is one");
            self.set_aside(&later)?;
            self.disk().sync_dir(&self.o.dir).map_err(|e| Error::io("sync", &self.o.dir, e))?;
        }
        let last = self.segments.last().expect("there are segments").clone();
        let (position, epoch) = if last.base == log_end {
            // Empty: the batch before it is in another segment, and its epoch in the catalogue.
            (0, Some(latest_epoch).filter(|e| *e >= 0))
        } else {
            let Some(opened) = last.view(self.disk())? else { return Ok(false) };
            let index = last.index(self.disk(), &opened, self.interval());
            match last.find(&opened, &index, log_end - 1) {
                Found::At { position, batch, .. } if batch.next_offset() == log_end => {
                    (position + batch.size_bytes as u64, Some(batch.leader_epoch))
                }
                _ => return Ok(false),
            }
        };
        if last.base > log_end {
            return Ok(false);
        }
        self.end_last_at(position)?;
        self.log_end = log_end;
        let stale = epoch.is_some_and(|e| e != self.epochs.latest()) || self.epochs_changed;
        if stale || !self.latest_epoch_begins_where_it_says(log_start)? {
            self.rebuild_epochs(log_end);
        }
        Ok(true)
    }

    /// The last segment ends at `position`. A clean stop cut its file there; what is behind comes from a later run that was lost with
    /// its name in `opened`. It is cut durably: else a power cut among the next appends could bring it back between them.
    fn end_last_at(&mut self, position: u64) -> Result<()> {
        let last = self.segments.pop().expect("there are segments");
        let path = last.path();
        if position < last.end_position() {
            last.set_opened(None);
            let cut = || {
                let file = self.disk().open(path, Open::Write)?;
                file.set_len(position)?;
                file.sync()
            };
            cut().map_err(|e| Error::io("cut", path, e))?;
        }
        let ended = Segment::existing(&self.o.dir, self.o.health.mark(), last.base, i64::MAX, position);
        self.segments.push(Arc::new(ended));
        Ok(())
    }

    /// Checks everything from `recovery_point` on, cuts behind it, and makes the rest durable.
    fn recover(&mut self, recovery_point: i64, known_start: Option<i64>) -> Result<()> {
        // Old segments are removed only after `log-start` says so: a first segment beyond it means that those before were never
        // durable, so that what is left does not follow.
        let known = known_start.map_or(i64::MAX, |start| recovery_point.max(start));
        if self.segments[0].base > known {
            return self.start_anew(known);
        }
        let point = recovery_point.max(self.segments[0].base);
        let first = self.segments.partition_point(|s| s.base <= point).saturating_sub(1);
        let from = match self.locate(first, point)? {
            Ok(from) => from,
            Err(lost) => return self.keep_below(first, point, lost),
        };
        self.check_epochs_below(&from, known_start.unwrap_or(0))?;
        for i in from.segment.saturating_sub(1)..self.segments.len() - 1 {
            self.cut_behind_next(i)?;
        }
        let end = self.check_from(&from)?;
        self.cut(from.segment, &end)?;
        self.log_end = end.expected;
        self.sync_from(from.segment, from.position)
    }

    /// Cuts what a truncation left in segment `i` behind the base of the next one, before that one may go: it would be back.
    fn cut_behind_next(&mut self, i: usize) -> Result<()> {
        let segment = &self.segments[i];
        let limit = segment.end_offset();
        let Some(opened) = segment.view(self.disk())? else { return Ok(()) };
        let index = segment.index(self.disk(), &opened, self.interval());
        let end = match segment.find(&opened, &index, limit - 1) {
            Found::At { position, batch, .. } if batch.next_offset() == limit => position + batch.size_bytes as u64,
            _ => return Ok(()),
        };
        if end >= segment.end_position() {
            return Ok(());
        }
        let (base, path) = (segment.base, segment.path().to_path_buf());
        drop(opened);
        segment.set_opened(None);
        let cut = || {
            let file = self.disk().open(&path, Open::Write)?;
            file.set_len(end)?;
            file.sync()
        };
        cut().map_err(|e| Error::io("cut", &path, e))?;
        self.segments[i] = Arc::new(Segment::existing(&self.o.dir, self.o.health.mark(), base, limit, end));
        Ok(())
    }

    /// Nothing stays; the log goes on at `offset`.
    fn start_anew(&mut self, offset: i64) -> Result<()> {
        for s in std::mem::take(&mut self.segments) {
            self.set_aside(&s)?;
        }
        self.create_last(offset)?;
        self.epochs_changed |= self.epochs.cut_from(offset) | self.epochs.cut_below(offset);
        self.log_end = offset;
        self.sync_from(0, 0)
    }

    /// Where `point` is in segment `first`. `Err`: what is below it cannot be walked to the end.
    fn locate(&self, first: usize, point: i64) -> Result<Result<From, Bad>> {
        let segment = &self.segments[first];
        if segment.base >= point {
            return Ok(Ok(From { segment: first, position: 0, expected: segment.base }));
        }
        let lost = |from, offset| Bad { from, to: u64::MAX, offset, next_offset: point };
        let Some(opened) = segment.view(self.disk())? else { return Ok(Err(lost(0, segment.base))) };
        let index = segment.index(self.disk(), &opened, self.interval());
        Ok(match segment.find(&opened, &index, point) {
            // One that begins below the point and claims to reach past it may be damaged; then it is not for the check to cut.
            Found::At { position, batch, .. }
                if batch.base_offset < point
                    && batch::check_stored(&segment.bytes(&opened)[position as usize..]).is_err() =>
            {
                Err(lost(position, batch.base_offset))
            }
            Found::At { position, batch, .. } if batch.base_offset <= point => {
                Ok(From { segment: first, position, expected: batch.base_offset })
            }
            // A batch begins behind the point: whether it follows is for the check to say, where all before is there.
            Found::At { position, expected, .. } if expected >= point => {
                Ok(From { segment: first, position, expected: point })
            }
            Found::At { position, expected, .. } => Err(lost(position, expected)),
            // Complete to the point and torn behind it, the common case; the walk calls that damage.
            Found::Damaged(bad) if bad.offset == point => {
                Ok(From { segment: first, position: bad.from, expected: point })
            }
            Found::End { position, next_offset } if next_offset == point => {
                Ok(From { segment: first, position, expected: point })
            }
            Found::Damaged(bad) => Err(lost(bad.from, bad.offset)),
            Found::End { position, next_offset } => Err(lost(position, next_offset)),
        })
    }

    /// Batches below the recovery point are missing or damaged right up to it: nothing is cut, the log ends at the point, and the next
    /// append begins a segment there.
    fn keep_below(&mut self, first: usize, point: i64, lost: Bad) -> Result<()> {
        for s in self.segments.split_off(first + 1) {
            self.set_aside(&s)?;
        }
        let old = self.segments.pop().expect("the segment of the point");
        let kept = Segment::existing(&self.o.dir, self.o.health.mark(), old.base, point, old.end_position());
        kept.add_bad(Bad { to: old.end_position().max(lost.from + 1), ..lost });
        self.segments.push(Arc::new(kept));
        self.create_last(point)?;
        self.rebuild_epochs(point);
        self.log_end = point;
        self.sync_from(first, u64::MAX)
    }

    /// The epochs' file is trusted when it names the epoch of the batch before the recovery point; else it is made anew.
    fn check_epochs_below(&mut self, from: &From, log_start: i64) -> Result<()> {
        self.epochs_changed |= self.epochs.cut_from(from.expected);
        let below = match (from.position, from.segment) {
            (0, 0) => return Ok(()),
            (0, s) => s - 1,
            (_, s) => s,
        };
        let segment = &self.segments[below];
        let mut epoch = None;
        if let Some(opened) = segment.view(self.disk())? {
            let index = segment.index(self.disk(), &opened, self.interval());
            if let Found::At { batch, .. } = segment.find(&opened, &index, from.expected - 1) {
                epoch = Some(batch.leader_epoch);
            }
        }
        let stale = epoch.is_some_and(|e| e >= 0 && e != self.epochs.latest());
        if self.epochs_changed && self.epochs.is_empty()
            || stale
            || !self.latest_epoch_begins_where_it_says(log_start)?
        {
            self.rebuild_epochs(from.expected);
        }
        Ok(())
    }

    /// Whether the latest epoch of the file begins at the offset it names, and not before. The file is not synced: after a truncation
    /// a power cut may bring back an older one. When its last entry is right so are those before: an epoch has one leader, whose log
    /// up to there is the same wherever it is. An entry at the log's start is taken as it is.
    fn latest_epoch_begins_where_it_says(&self, log_start: i64) -> Result<bool> {
        let Some((epoch, start)) = self.epochs.entries().last().copied() else { return Ok(true) };
        if start <= log_start.max(self.segments[0].base) {
            return Ok(true);
        }
        let epoch_at = |offset: i64| -> Result<Option<i32>> {
            let segment = &self.segments[self.segments.partition_point(|s| s.base <= offset).saturating_sub(1)];
            let Some(opened) = segment.view(self.disk())? else { return Ok(None) };
            let index = segment.index(self.disk(), &opened, self.interval());
            Ok(match segment.find(&opened, &index, offset) {
                Found::At { batch, .. } => Some(batch.leader_epoch),
                _ => None,
            })
        };
        // What is damaged or missing does not speak against it.
        Ok(epoch_at(start)?.is_none_or(|e| e == epoch) && epoch_at(start - 1)?.is_none_or(|e| e < epoch))
    }

    /// Walks the headers below `end`. Touches the whole log; only where the file is missing or stale.
    fn rebuild_epochs(&mut self, end: i64) {
        let mut epochs = Epochs::default();
        for s in self.segments.iter().filter(|s| s.base < end) {
            let Ok(Some(opened)) = s.view(self.disk()) else { continue };
            let bytes = s.bytes(&opened);
            let (mut position, mut expected) = (0, s.base);
            while expected < end {
                match s.walk(bytes, position, expected, expected) {
                    Found::At { position: at, batch, .. } => {
                        if batch.base_offset >= end {
                            break;
                        }
                        epochs.push(batch.leader_epoch, batch.base_offset);
                        position = at + batch.size_bytes as u64;
                        expected = batch.next_offset();
                    }
                    Found::Damaged(bad) => (position, expected) = (bad.to, bad.next_offset),
                    Found::End { .. } => break,
                }
            }
        }
        self.epochs = epochs;
        self.epochs_changed = true;
    }

    /// Checks batches from a place on; says where the first that does not follow is.
    fn check_from(&mut self, from: &From) -> Result<From> {
        let mut at = From { segment: from.segment, position: from.position, expected: from.expected };
        loop {
            let segment = self.segments[at.segment].clone();
            let limit = segment.end_offset();
            if let Some(opened) = segment.view(self.disk())? {
                let bytes = segment.bytes(&opened);
                while at.expected < limit
                    && let Some(batch) = segment::header_at(bytes, at.position, at.expected, limit)
                    && batch::check_stored(&bytes[at.position as usize..]).is_ok()
                    && batch.leader_epoch >= self.epochs.latest()
                    && (batch.base_offset == at.expected || gap_is_vouched_for(bytes, at.position, &batch, limit))
                {
                    self.epochs_changed |= self.epochs.push(batch.leader_epoch, batch.base_offset);
                    at.position += batch.size_bytes as u64;
                    at.expected = batch.next_offset();
                }
                self.o.health.check()?; // a page that could not be read must not pass for the end of the log
            }
            if at.expected < limit || at.segment + 1 == self.segments.len() {
                return Ok(at);
            }
            at = From { segment: at.segment + 1, position: 0, expected: limit };
        }
    }

    /// Ends the log at `end`; keeps what still holds a batch.
    fn cut(&mut self, first: usize, end: &From) -> Result<()> {
        for s in self.segments.split_off(end.segment + 1) {
            self.set_aside(&s)?;
        }
        let segment = self.segments.pop().expect("the segment of the end");
        let path = segment.path().to_path_buf();
        let len = segment.end_position();
        let mut holds_batch = false;
        if end.position < len
            && let Some(opened) = segment.view(self.disk())?
        {
            let bytes = segment.bytes(&opened);
            holds_batch = segment::next_batch(bytes, end.position, end.expected, i64::MAX).is_some();
            if holds_batch && (end.position > 0 || end.expected > segment.base) {
                let tail = &bytes[(end.position as usize).min(bytes.len())..];
                let to = segment::file_name(&self.o.dir, end.expected, "cut");
                if write_cut(self.disk(), &to, tail, end.expected).is_err() {
                    // No room for a copy: the bytes stay where they are, behind a segment that ends before them.
                    let _ = self.disk().remove_file(&to);
                    let sealed =
                        Segment::existing(&self.o.dir, self.o.health.mark(), segment.base, end.expected, end.position);
                    self.segments.push(Arc::new(sealed));
                    return self.create_last(end.expected);
                }
            }
        }
        segment.set_opened(None);
        if holds_batch && end.position == 0 && end.expected == segment.base {
            // All of the file is cut: its name alone changes. The segment before it, if any, is the last again.
            self.rename(&path, &segment::file_name(&self.o.dir, segment.base, "cut"))?;
            return self.create_last(end.expected);
        }
        let failed = |op, e| Error::io(op, &path, e);
        if end.position < len {
            let file = self.disk().open(&path, Open::Write).map_err(|e| failed("open", e))?;
            file.set_len(end.position).map_err(|e| failed("cut", e))?;
        }
        debug_assert!(first <= end.segment, "{first} {}", end.segment);
        self.segments.push(Arc::new(Segment::existing(
            &self.o.dir,
            self.o.health.mark(),
            segment.base,
            i64::MAX,
            end.position,
        )));
        Ok(())
    }

    /// A segment behind the end of the log: kept when it holds a batch, else removed.
    fn set_aside(&self, segment: &Segment) -> Result<()> {
        let mut holds_batch = false;
        if let Some(opened) = segment.view(self.disk())? {
            holds_batch = segment::next_batch(segment.bytes(&opened), 0, segment.base, i64::MAX).is_some();
        }
        segment.set_opened(None);
        let path = segment.path();
        match holds_batch {
            true => self.rename(path, &segment::file_name(&self.o.dir, segment.base, "cut")),
            false => self.disk().remove_file(path).map_err(|e| Error::io("remove", path, e)),
        }?;
        let _ = self.disk().remove_file(&path.with_extension("index"));
        let _ = self.disk().remove_file(&path.with_extension("timeindex"));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.disk().rename(from, to).map_err(|e| Error::io("rename", from, e))
    }

    /// An empty last segment at `base`: it is what ends the one before it.
    fn create_last(&mut self, base: i64) -> Result<()> {
        let path = segment::file_name(&self.o.dir, base, "log");
        self.disk().open(&path, Open::Create).map_err(|e| Error::io("create", &path, e))?;
        self.segments.push(Arc::new(Segment::existing(&self.o.dir, self.o.health.mark(), base, i64::MAX, 0)));
        Ok(())
    }

    /// Makes `partition.metadata` say whose directory this is: a crash before the first flush may have left it empty, or a part of it. (A full disk keeps
    /// it so.) The topic id of another partition does not come here: its directory is not opened.
    fn restore_metadata(&self) -> io::Result<()> {
        let path = self.o.dir.join("partition.metadata");
        let there = checkpoint::read_plain(self.disk(), &path).ok().flatten();
        if there.is_some_and(|bytes| crate::names::parse_partition_metadata(&bytes).is_some()) {
            return Ok(());
        }
        let write = || {
            let file = self.disk().open(&path, Open::Create)?;
            file.set_len(0)?;
            file.write_all_at(names::partition_metadata(self.o.id.topic_id).as_bytes(), 0)?;
            file.sync()
        };
        match write() {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => Ok(()),
            done => done,
        }
    }

    /// What was recovered, from `position` of segment `first` on, becomes durable before anybody sees it.
    fn sync_from(&self, first: usize, position: u64) -> Result<()> {
        let failed = |op, path: &Path, e: io::Error| self.o.health.fail_of(Error::io(op, path, e));
        let recovered = self.segments.iter().skip(first).map(|s| s.end_position()).sum::<u64>();
        // Counted from segment `first` on.
        let unsure = recovered.saturating_sub(UNSYNCED_BYTES_MAX).max(position);
        let mut before = 0;
        for s in self.segments.iter().skip(first) {
            let from = unsure.saturating_sub(before);
            before += s.end_position();
            let file = self.disk().open(s.path(), Open::Write).map_err(|e| Error::io("open", s.path(), e))?;
            write_again(&*file, from, s.end_position()).map_err(|e| failed("write", s.path(), e))?;
            file.sync().map_err(|e| failed("sync", s.path(), e))?;
        }
        let dir = &self.o.dir;
        self.restore_metadata().map_err(|e| failed("write partition.metadata of", dir, e))?;
        self.disk().sync_dir(dir).map_err(|e| failed("sync", dir, e))?;
        if let Some(root) = dir.parent() {
            self.disk().sync_dir(root).map_err(|e| failed("sync", root, e))?;
        }
        Ok(())
    }
}

/// Offsets lie outside the CRC. A gap (compaction leaves them) is believed only when another batch follows it.
fn gap_is_vouched_for(bytes: &[u8], position: u64, batch: &Batch, limit: i64) -> bool {
    segment::header_at(bytes, position + batch.size_bytes as u64, batch.next_offset(), limit).is_some()
}

/// Writes bytes where they are: a sync that failed before the process ended may have left their pages clean though they are not on
/// disk, and no sync would ever write them. A full disk of a kind that needs room for this is no reason to give up.
fn write_again(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut buf = vec![0; (to.saturating_sub(from)).min(COPY_BYTES as u64) as usize];
    let mut at = from;
    while at < to {
        let len = (to - at).min(buf.len() as u64) as usize;
        let n = file.read_at(&mut buf[..len], at)?;
        match file.write_all_at(&buf[..n], at) {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => return Ok(()),
            done => done?,
        }
        if n == 0 {
            break;
        }
        at += n as u64;
    }
    Ok(())
}

/// A copy of what is cut, without the zeros behind the last batch.
fn write_cut(disk: &dyn Disk, path: &Path, bytes: &[u8], expected: i64) -> io::Result<()> {
    let mut len = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
    let mut at = 0;
    while let Some((position, batch)) = segment::next_batch(bytes, at, expected, i64::MAX) {
        at = position + batch.size_bytes as u64;
        len = len.max(at as usize);
    }
    let file = disk.open(path, Open::Create)?;
    file.set_len(0)?;
    for (i, chunk) in bytes[..len].chunks(COPY_BYTES).enumerate() {
        file.write_all_at(chunk, (i * COPY_BYTES) as u64)?;
    }
    file.sync()
}
