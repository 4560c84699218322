//! Which partitions a directory has, which are open, and what `opened` says of them.
//!
//! [`Register`] owns these facts, behind one short lock. A log reaches it through its [`Seat`] (in [`crate::log::OpenLog`]): it
//! says when it is about to change for the first time, so that a crash finds its name in `opened`, and when it closed.

use crate::{
    Disk, Error, LogReader, LogStat, PartitionId, Result,
    catalogue::{Catalogue, Event, OpenedSync, OpenedWriter, Slot, opened_path},
    health::Health,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A recovery point that moved by this much is written to `opened`, so that recovery after `kill -9` starts near the end.
const POINT_BYTES: u64 = 64 << 20;

/// The partitions of one directory.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) health: Arc<Health>,
    state: Mutex<State>,
    /// One catalogue at a time; taken before `state`.
    catalogue: Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Figures of all partitions that have files; of an open one, those when it was opened.
    known: BTreeMap<PartitionId, LogStat>,
    open: BTreeMap<PartitionId, OpenLogEntry>,
    opened: OpenedWriter,
    /// Slots up to here must be durable before anything more is acknowledged.
    must_sync_bytes: u64,
    /// Generation of the catalogue on disk: that of `opened`, or one less while a new one is being written.
    catalogued: u64,
    /// `known` differs from the catalogue without a slot that says so.
    changed: bool,
    /// Figures of the open logs, and the end of `opened`, in the last catalogue: an idle directory writes none.
    last: Option<(Vec<(PartitionId, LogStat)>, u64)>,
    stopped: bool,
}

#[derive(Debug)]
struct OpenLogEntry {
    reader: LogReader,
    noted: Arc<AtomicBool>,
    /// The name of the partition's directory is durable.
    dir_durable: bool,
    /// Published bytes when the recovery point was last written down.
    point_bytes: u64,
}

/// A log's line to the register of its directory.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    register: Option<Arc<Register>>,
    id: PartitionId,
    /// The log's name is in `opened` (or was copied there by each rotation since).
    noted: Arc<AtomicBool>,
}

#[allow(dead_code)]
impl Seat {
    /// A log without a directory (unit tests of the log).
    pub(crate) fn alone() -> Seat {
        Seat { register: None, id: PartitionId { topic_id: [0; 16], partition: 0 }, noted: Arc::default() }
    }

    /// Before each change of the log's files (append, roll, retention, delete-records, truncation): the first call since the
    /// log was opened writes its name to `opened`, so that even `kill -9` before the next flush finds it. One load after that.
    pub(crate) fn note(&self) -> Result<()> {
        if self.noted.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(register) = &self.register else { return Ok(()) };
        register.note(&mut register.lock(), self.id, &self.noted)
    }

    /// The log start moves to `offset` (delete-records, retention, a start from anew): told before segments go. Synced. Blocks.
    pub(crate) fn log_start(&self, offset: i64) -> Result<()> {
        let Some(register) = &self.register else { return Ok(()) };
        {
            let state = &mut *register.lock();
            register.note(state, self.id, &self.noted)?;
            state.opened.append(&*register.disk, &[Slot { id: self.id, event: Event::LogStart(offset) }])?;
            state.must_sync_bytes = state.opened.end_bytes();
        }
        register.sync_opened()
    }

    /// A truncation is about to cut below the recovery point: nothing from `offset` on may be trusted after a crash. Told after
    /// the log lowered its durable end and before it cuts. Synced. Blocks.
    pub(crate) fn truncating(&self, offset: i64) -> Result<()> {
        let Some(register) = &self.register else { return Ok(()) };
        {
            let state = &mut *register.lock();
            register.note(state, self.id, &self.noted)?;
            state.opened.append(&*register.disk, &[Slot { id: self.id, event: Event::RecoveryPoint(offset) }])?;
            state.must_sync_bytes = state.opened.end_bytes();
        }
        register.sync_opened()
    }

    /// Whether a directory listens.
    pub(crate) fn is_told(&self) -> bool {
        self.register.is_some()
    }

    /// Before a flush that is not part of a round (close, truncation): makes durable that `opened` names the log, and the name of
    /// its directory. Blocks.
    pub(crate) fn before_flush(&self) -> Result<()> {
        let Some(register) = &self.register else { return Ok(()) };
        register.before_flush(&mut [self.id].into_iter())
    }

    /// The log was closed cleanly with these figures: it goes cold.
    pub(crate) fn closed(&self, stat: LogStat) {
        let Some(register) = &self.register else { return };
        let state = &mut *register.lock();
        if !state.open.get(&self.id).is_some_and(|e| Arc::ptr_eq(&e.noted, &self.noted)) {
            return; // deleted, or opened again after this log was given up
        }
        state.open.remove(&self.id);
        // A log that never had an append has no files.
        if state.known.contains_key(&self.id) || self.noted.load(Ordering::Acquire) {
            let stat = LogStat { needs_recovery: false, ..stat };
            state.changed |= state.known.insert(self.id, stat) != Some(stat);
        }
    }
}

impl Register {
    /// What a start found. `opened` continues the newest `opened` file; it names every one of `known` that needs recovery.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        root: PathBuf,
        health: Arc<Health>,
        known: BTreeMap<PartitionId, LogStat>,
        opened: OpenedWriter,
        catalogued: u64,
    ) -> Arc<Register> {
        let state = State {
            known,
            open: BTreeMap::new(),
            must_sync_bytes: opened.end_bytes(),
            opened,
            catalogued,
            changed: false,
            last: None,
            stopped: false,
        };
        Arc::new(Register { disk, root, health, state: Mutex::new(state), catalogue: Mutex::new(()) })
    }

    /// Figures of a partition, open or not; `None` when it has no files.
    pub(crate) fn stat(&self, id: PartitionId) -> Option<LogStat> {
        let state = self.lock();
        match state.open.get(&id) {
            Some(entry) if entry.noted.load(Ordering::Acquire) => Some(entry.reader.stat()),
            _ => state.known.get(&id).copied(),
        }
    }

    /// What a log is opened with: as [`Register::stat`], but a log that is still registered was given up without a close and
    /// needs recovery.
    pub(crate) fn stat_to_open(&self, id: PartitionId) -> Option<LogStat> {
        let state = self.lock();
        match state.open.get(&id) {
            Some(entry) if entry.noted.load(Ordering::Acquire) => {
                Some(LogStat { needs_recovery: true, ..entry.reader.stat() })
            }
            _ => state.known.get(&id).copied(),
        }
    }

    /// Partitions that need recovery and are not open yet.
    pub(crate) fn to_recover(&self) -> Vec<PartitionId> {
        let state = self.lock();
        let wanted = state.known.iter().filter(|(id, s)| s.needs_recovery && !state.open.contains_key(id));
        wanted.map(|(id, _)| *id).collect()
    }

    /// All partitions with files.
    pub(crate) fn partitions(&self) -> Vec<PartitionId> {
        self.lock().known.keys().copied().collect()
    }

    /// Whether a log of it is open.
    pub(crate) fn is_open(&self, id: PartitionId) -> bool {
        self.lock().open.contains_key(&id)
    }

    /// The seat of a log that is about to be opened; `noted` when `opened` names it already.
    pub(crate) fn seat(self: &Arc<Self>, id: PartitionId, noted: bool) -> Seat {
        Seat { register: Some(self.clone()), id, noted: Arc::new(AtomicBool::new(noted)) }
    }

    /// The log of `seat` is open now. `stat` is what it was opened with.
    pub(crate) fn register(&self, seat: &SeatMark, reader: LogReader, stat: Option<&LogStat>) -> Result<()> {
        let state = &mut *self.lock();
        if state.stopped {
            return Err(Error::Closed);
        }
        let point_bytes = reader.stat().size_bytes;
        // A log without bytes may have been closed before anything made the name of its directory durable.
        let dir_durable = stat.is_some_and(|s| !s.needs_recovery && s.size_bytes > 0);
        state.open.insert(seat.id, OpenLogEntry { reader, noted: seat.noted.clone(), dir_durable, point_bytes });
        Ok(())
    }

    /// A partition's directory was renamed away, or never existed: its figures go. Durable when it returns, or with the next
    /// catalogue when the disk is full. Blocks.
    pub(crate) fn forget(&self, id: PartitionId) -> Result<()> {
        {
            let state = &mut *self.lock();
            let open = state.open.remove(&id).is_some();
            if state.known.remove(&id).is_none() && !open {
                return Ok(());
            }
            // A full disk must not stop a deletion. A start that finds figures without a directory looks for the renamed one.
            if state.opened.append(&*self.disk, &[Slot { id, event: Event::Deleted }]).is_err() {
                state.changed = true;
                return Ok(());
            }
            state.must_sync_bytes = state.opened.end_bytes();
        }
        self.sync_opened()
    }

    /// Before a round: makes durable what a crash needs to find the records of these logs: their names in `opened` and, for
    /// those new since the start, their directories. Blocks.
    pub(crate) fn before_flush(&self, ids: &mut dyn Iterator<Item = PartitionId>) -> Result<()> {
        let mut new_dirs = Vec::new();
        {
            let state = &mut *self.lock();
            for id in ids {
                let Some(entry) = state.open.get_mut(&id) else { continue };
                if !entry.dir_durable {
                    new_dirs.push((id, entry.noted.clone()));
                }
                if !entry.noted.load(Ordering::Acquire) {
                    let noted = entry.noted.clone();
                    self.note(state, id, &noted)?;
                }
            }
        }
        self.sync_opened()?;
        if new_dirs.is_empty() {
            return Ok(());
        }
        self.sync_root()?;
        let state = &mut *self.lock();
        for (id, noted) in new_dirs {
            if let Some(entry) = state.open.get_mut(&id).filter(|e| Arc::ptr_eq(&e.noted, &noted)) {
                entry.dir_durable = true;
            }
        }
        Ok(())
    }

    /// After a round: writes down recovery points that moved far, unsynced (a lost one only costs time).
    pub(crate) fn after_flush(&self, ends: &mut dyn Iterator<Item = (PartitionId, i64)>) {
        let state = &mut *self.lock();
        let mut slots = Vec::new();
        for (id, end) in ends {
            let Some(entry) = state.open.get_mut(&id) else { continue };
            let size_bytes = entry.reader.size_bytes();
            if size_bytes < entry.point_bytes {
                entry.point_bytes = size_bytes; // retention
            }
            if size_bytes - entry.point_bytes >= POINT_BYTES {
                entry.point_bytes = size_bytes;
                // A truncation since the round lowered the durable end before it spoke; its word must not be overruled.
                let point = end.min(entry.reader.durable_end());
                slots.push(Slot { id, event: Event::RecoveryPoint(point) });
            }
        }
        let _ = state.opened.append(&*self.disk, &slots);
    }

    /// Writes the catalogue, unless nothing changed since the last one; the order is that of [`crate::catalogue`]. A clean one
    /// also ends the register: no log opens or changes after it. Blocks.
    pub(crate) fn write_catalogue(&self, now_ms: i64, clean: bool) -> Result<()> {
        let _one_at_a_time = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        self.health.check()?;
        // A rotation that an error or a crash cut short is completed first; its `opened` names more than it need.
        let state = self.lock();
        let cut_short = state.opened.generation != state.catalogued;
        drop(state);
        if cut_short {
            self.rotate(now_ms, false)?;
        }
        {
            let state = &mut *self.lock();
            state.stopped |= clean;
            let unchanged = !state.changed
                && (state.opened.is_empty() && state.open.is_empty()
                    || state.last.as_ref() == Some(&(state.open_figures(), state.opened.end_bytes())));
            if unchanged && !clean {
                return Ok(());
            }
        }
        self.rotate(now_ms, clean)
    }

    /// The steps of [`crate::catalogue`]; a first step that was made already is not made again.
    fn rotate(&self, now_ms: i64, clean: bool) -> Result<()> {
        let (catalogue, before) = {
            let state = &mut *self.lock();
            let names = state.names_to_keep();
            if state.opened.generation == state.catalogued {
                let mut next = OpenedWriter::create(&*self.disk, &self.root, state.catalogued + 1)?;
                next.append(&*self.disk, &names)?;
                state.opened = next;
                state.must_sync_bytes = state.opened.end_bytes();
            }
            let figures = state.open_figures();
            let mut partitions = state.known.clone();
            for (id, stat) in &figures {
                if partitions.contains_key(id) || state.open[id].noted.load(Ordering::Acquire) {
                    partitions.insert(*id, *stat);
                }
            }
            state.last = Some((figures, state.opened.end_bytes()));
            state.changed = false;
            let catalogue = Catalogue {
                generation: state.opened.generation,
                clean: clean && names.is_empty(),
                written_ms: now_ms,
                partitions: partitions.into_iter().collect(),
            };
            (catalogue, state.catalogued)
        };
        let written = self.sync_opened().and_then(|()| catalogue.store(&*self.disk, &self.root));
        let state = &mut *self.lock();
        if let Err(e) = written {
            state.changed = true;
            return Err(e);
        }
        state.catalogued = catalogue.generation;
        let _ = self.disk.remove_file(&opened_path(&self.root, before)); // a start reads past it
        Ok(())
    }

    fn note(&self, state: &mut State, id: PartitionId, noted: &AtomicBool) -> Result<()> {
        if noted.load(Ordering::Acquire) {
            return Ok(());
        }
        if state.stopped {
            return Err(Error::Closed);
        }
        let recovery_point = state.known.get(&id).map_or(0, |s| s.recovery_point);
        state.opened.append(&*self.disk, &[Slot { id, event: Event::Opened { recovery_point } }])?;
        state.must_sync_bytes = state.opened.end_bytes();
        // Under the lock, so that a rotation sees either the slot in the old file or the mark, which it copies.
        noted.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the slots durable that must be. A failure is final for the directory, unless it is `Exhausted`. Blocks.
    fn sync_opened(&self) -> Result<()> {
        let sync: Option<OpenedSync> = {
            let state = &mut *self.lock();
            if state.opened.is_synced(state.must_sync_bytes) { None } else { state.opened.unsynced(&*self.disk)? }
        };
        let Some(sync) = sync else { return Ok(()) };
        let done = sync.run().and_then(|()| if sync.name_too { self.sync_root() } else { Ok(()) });
        done.map_err(|e| self.health.fail_of(e))?;
        self.lock().opened.synced(&sync);
        Ok(())
    }

    /// Makes the names in the data directory durable. A failure is final for the directory, unless it is `Exhausted`. Blocks.
    pub(crate) fn sync_root(&self) -> Result<()> {
        self.disk.sync_dir(&self.root).map_err(|e| self.health.fail_of(Error::io("sync", &self.root, e)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What identifies an open log's registration.
#[derive(Debug)]
pub(crate) struct SeatMark {
    id: PartitionId,
    noted: Arc<AtomicBool>,
}

impl Seat {
    /// The mark by which [`Register::register`] knows this log.
    pub(crate) fn mark(&self) -> SeatMark {
        SeatMark { id: self.id, noted: self.noted.clone() }
    }
}

impl State {
    fn open_figures(&self) -> Vec<(PartitionId, LogStat)> {
        self.open.iter().map(|(id, e)| (*id, e.reader.stat())).collect()
    }

    /// Slots for a new `opened`: every log that may change without saying so again, and every one not yet recovered.
    fn names_to_keep(&self) -> Vec<Slot> {
        let slot = |id: &PartitionId, recovery_point| Slot { id: *id, event: Event::Opened { recovery_point } };
        let open = self.open.iter().filter(|(_, e)| e.noted.load(Ordering::Acquire));
        let open = open.map(|(id, e)| slot(id, e.reader.stat().recovery_point));
        let waiting = self.known.iter().filter(|(id, s)| s.needs_recovery && !self.open.contains_key(id));
        open.chain(waiting.map(|(id, s)| slot(id, s.recovery_point))).collect()
    }
}
