//! A data directory: identity, lock, the catalogue of partitions, flush rounds.
//!
//! ```text
//! .lock            held while the directory is open
//! meta.properties  whose directory it is            (identity.rs)
//! catalogue        every partition's figures        (catalogue.rs)
//! opened.<g>       what changed since the catalogue (catalogue.rs)
//! <topic>-<n>/     a partition's files              (log.rs)
//! <topic>-<n>.<unique>-delete/   a deleted partition until its delay has passed
//! quarantine/      directories nobody knows; never removed by us
//! ```

use crate::{
    Dirty, Disk, Error, Log, LogConfig, LogStat, PartitionId, Result,
    catalogue::{self, Catalogue, Event, LoadError, OpenedWriter, Slots},
    checkpoint,
    health::Health,
    identity::Identity,
    log::OpenLog,
    names,
    seat::Register,
    views,
};
use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How long a deleted partition's files stay (Kafka's default of `file.delete.delay.ms`): readers may still send from them.
const DELETE_DELAY_MS: i64 = 60_000;

/// Threads of one flush round. The device commits together what waits together: 64 logs took 264 ms with one thread, 10 with
/// four (busy machine, ext4), and 8 or 16 threads were no faster (`benches/storage.rs`, "round of logs").
const FLUSH_THREADS: usize = 4;

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// Expected node id; another one in `meta.properties` is refused.
    pub node_id: i32,
    /// Cluster id for a new directory; an existing directory keeps its own.
    pub cluster_id: String,
    /// Directory id (UUID text) for a new directory.
    pub directory_id: String,
    /// Wall clock, ms since 1970.
    pub now_ms: i64,
    /// Most segments open at once (see [`crate::OsDisk::raise_open_files`]).
    pub open_segments_max: usize,
}

/// Why a data directory could not be opened. `Display` is one sentence that says what to do.
#[derive(Debug)]
pub enum OpenError {
    /// Another process holds the lock.
    Locked { path: PathBuf },
    /// Written by a newer release.
    NewerFormat { path: PathBuf, found: u32, supported: u32 },
    /// Belongs to another node or cluster.
    Foreign { path: PathBuf, field: &'static str, found: String, expected: String },
    /// A file without which nothing can be said about the directory is unreadable. Nothing was changed.
    Damaged { path: PathBuf, why: &'static str },
    /// The file system refused: read-only, full, no permission.
    Io(Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { path } => write!(
                f,
                "data directory {} is in use by another process: stop that one or choose another directory",
                path.display()
            ),
            OpenError::NewerFormat { path, found, supported } => write!(
                f,
                "{} has format {found}, and this release reads up to {supported}: start the release that wrote it, or a newer one",
                path.display()
            ),
            OpenError::Foreign { path, field, found, expected } => write!(
                f,
                "{} says {field}={found}, and this node has {expected}: start it with its own data directory, or with {field} {found}",
                path.display()
            ),
            OpenError::Damaged { path, why } => write!(
                f,
                "{} is damaged ({why}): restore it from a copy; the partitions beside it were not touched",
                path.display()
            ),
            OpenError::Io(e) => {
                write!(f, "data directory cannot be opened: {e}; check its permissions, free space and mount options")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// One open data directory. Cheap to clone (an `Arc` inside). All methods may be called from any thread.
#[derive(Debug, Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    register: Arc<Register>,
    identity: Identity,
    was_clean: bool,
    damage: Option<String>,
    open_segments_max: usize,
    removals: Mutex<Removals>,
    /// Held until close; a log that outlives the directory cannot be appended to any more than that.
    lock: Mutex<Option<Box<dyn std::any::Any + Send + Sync>>>,
}

/// Deleted partitions whose directories are still there.
#[derive(Debug, Default)]
struct Removals {
    /// Directory and when it goes (`None` until the clock is known).
    dirs: Vec<(PathBuf, Option<i64>)>,
    /// Leftovers of an earlier run were looked for.
    searched: bool,
}

/// Result of one flush round: what became durable of each log that was handed in, in the same order.
#[derive(Debug)]
pub struct Flushed {
    /// Durable end (exclusive offset) now, or why the flush of that log failed (the directory is failed then, unless `Exhausted`).
    pub ends: Vec<Result<i64>>,
}

impl Directory {
    /// Opens or creates the directory: lock, identity, catalogue, `opened`. Reads nothing of the partitions, unless the catalogue
    /// is damaged or missing ([`Directory::damage`]): then it lists them, and each is recovered from its beginning. Blocks.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, options: DirectoryOptions) -> Result<Directory, OpenError> {
        let lock = make_and_lock(&*disk, path)?;
        views::allow(options.open_segments_max);
        let identity = Identity::load_or_create(&*disk, path, &options)?;
        let start = Start::read(&*disk, path, options.now_ms)?;
        let mut opened = OpenedWriter::new(path, start.opened_generation, start.opened_bytes);
        let _ = opened.make_room(&*disk); // a full disk may be given room later
        let register = Register::new(disk, path.to_path_buf(), Health::new(), start.known, opened, start.catalogued);
        Ok(Directory {
            inner: Arc::new(Inner {
                register,
                identity,
                was_clean: start.clean,
                damage: start.damage,
                open_segments_max: options.open_segments_max,
                removals: Mutex::default(),
                lock: Mutex::new(Some(lock)),
            }),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.register.root
    }

    /// The file system below (for small files beside the partitions, through [`crate::checkpoint`]).
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.inner.register.disk
    }

    /// cluster.id of `meta.properties`.
    pub fn cluster_id(&self) -> &str {
        &self.inner.identity.cluster_id
    }

    /// directory.id of `meta.properties` (UUID text).
    pub fn directory_id(&self) -> &str {
        &self.inner.identity.directory_id
    }

    /// Whether the last stop was clean and nothing was appended since.
    pub fn was_clean(&self) -> bool {
        self.inner.was_clean
    }

    /// What was wrong with the directory's own files at open, if anything, for the log. No data was removed.
    pub fn damage(&self) -> Option<&str> {
        self.inner.damage.as_deref()
    }

    /// Most segments that may be open at once, as given at open.
    pub fn open_segments_max(&self) -> usize {
        self.inner.open_segments_max
    }

    /// What the catalogue and `opened` know of a partition, or its log while it is open, without I/O; `None` when it never had
    /// an append.
    pub fn stat(&self, id: PartitionId) -> Option<LogStat> {
        self.inner.register.stat(id).map(|s| LogStat { log_start: s.log_start.max(0), ..s })
    }

    /// All partitions that have files, by id.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.inner.register.partitions()
    }

    /// Partitions that were open at an unclean stop: they want [`Directory::open_log`] soon after start, in parallel.
    pub fn to_recover(&self) -> Vec<PartitionId> {
        self.inner.register.to_recover()
    }

    /// Opens a partition's log, recovering it where `opened` names it. A partition that never had an append gives an empty
    /// log without files or directory (made by its first append). A partition has one open log at a time: the caller sees to
    /// that. Blocks; takes time in proportion to what lies above the recovery point, not to the size of the log.
    pub fn open_log(&self, id: PartitionId, topic: &str, config: LogConfig, now_ms: i64) -> Result<Log> {
        let register = &self.inner.register;
        let dir = register.root.join(names::partition_dir(topic, id.partition));
        let (stat, named) = self.stat_by_files(id, &dir)?;
        let seat = register.seat(id, named);
        let start_unknown = stat.is_some_and(|s| s.log_start == START_UNKNOWN);
        if stat.is_some_and(|s| s.needs_recovery) {
            seat.note()?; // before recovery changes anything
        }
        if start_unknown {
            seat.log_start(START_UNKNOWN)?;
        }
        let start = seat.clone();
        let mark = seat.mark();
        let (disk, health) = (register.disk.clone(), register.health.clone());
        let log = Log::open(OpenLog { disk, dir, id, config, stat, health, now_ms, seat })?;
        register.register(&mark, log.reader().clone(), stat.as_ref())?;
        if start_unknown {
            // Found by the files there are. What is appended from now on must not be taken for what follows a gap.
            start.log_start(log.reader().log_start())?;
        }
        Ok(log)
    }

    /// Deletes a partition: its directory is renamed to `<topic>-<partition>.<unique>-delete` at once and removed by
    /// [`Directory::remove_deleted`]. Open readers and slices stay valid. `Ok` when there is none. Blocks.
    pub fn delete_partition(&self, id: PartitionId, topic: &str, log: Option<&mut Log>) -> Result<()> {
        let register = &self.inner.register;
        if let Some(log) = log {
            log.mark_deleted();
        }
        let dir = register.root.join(names::partition_dir(topic, id.partition));
        if self.has_dir(&dir)? && self.owner(&dir)?.is_none_or(|owner| owner == id) {
            let to = self.free_name(&register.root, |n| names::deleted_dir(id, topic, n));
            register.disk.rename(&dir, &to).map_err(|e| Error::io("rename", &dir, e))?;
            register.sync_root()?;
            self.removals().dirs.push((to, None));
        }
        register.forget(id)
    }

    /// Unlinks the directories of deleted partitions whose delay (60 s) has passed; the first call also removes what an
    /// earlier run left. What cannot be removed is tried again at the next call. Blocks.
    pub fn remove_deleted(&self, now_ms: i64) {
        let disk = self.disk();
        let mut removals = std::mem::take(&mut *self.removals());
        if !removals.searched
            && let Ok(entries) = disk.read_dir(self.path())
        {
            removals.searched = true;
            for entry in entries.iter().filter(|e| e.is_dir && names::is_deleted_dir(&e.name)) {
                let dir = self.path().join(&entry.name);
                if !removals.dirs.iter().any(|(d, _)| *d == dir) {
                    removals.dirs.push((dir, Some(now_ms)));
                }
            }
        }
        removals.dirs.retain_mut(|(dir, due_ms)| {
            let due = *due_ms.get_or_insert(now_ms.saturating_add(DELETE_DELAY_MS));
            now_ms < due || disk.remove_dir_all(dir).is_err_and(|e| e.kind() != io::ErrorKind::NotFound)
        });
        let mut left = self.removals();
        left.searched |= removals.searched;
        left.dirs.append(&mut removals.dirs);
    }

    /// Moves partition directories that `known` does not accept to `quarantine/`; returns their names. A directory whose
    /// `partition.metadata` is unreadable stays where it is. Reads a small file of every partition: for the time after the
    /// ready line. Blocks.
    pub fn quarantine_unknown(&self, known: &dyn Fn(PartitionId) -> bool) -> Result<Vec<String>> {
        let entries = self.disk().read_dir(self.path()).map_err(|e| Error::io("list", self.path(), e))?;
        let mut moved = Vec::new();
        for entry in entries.into_iter().filter(|e| e.is_dir) {
            let Some((_, partition)) = names::parse_partition_dir(&entry.name) else { continue };
            let Some(id) = self.owner(&self.path().join(&entry.name))? else { continue };
            if id.partition == partition && (known(id) || self.inner.register.is_open(id)) {
                continue;
            }
            self.quarantine(&entry.name)?;
            self.inner.register.forget(id)?;
            moved.push(entry.name);
        }
        moved.sort();
        Ok(moved)
    }

    /// One flush round: for each dirty log makes [durable end, log end) durable, oldest segment first, several logs at once,
    /// and before that the `opened` records and directories that a start needs to find them. Stores each log's durable end
    /// before it returns. A failure is final for the directory (see [`Directory::failure`]): every end is an error then. One that is
    /// `Exhausted` is none: that log is as it was, and as dirty, and wants another round later. Blocks.
    pub fn flush(&self, dirty: &[Dirty]) -> Flushed {
        let register = &self.inner.register;
        let ready = register.health.check().and_then(|()| register.before_flush(&mut dirty.iter().map(Dirty::id)));
        let alone = |d: &Dirty| register.before_flush(&mut [d.id()].into_iter()).and_then(|()| d.flush());
        let ends = match ready {
            Ok(()) => self.flush_logs(dirty),
            // A log whose names are durable needs no descriptor, and does not wait for those whose names are not.
            Err(Error::Exhausted { .. }) => dirty.iter().map(alone).collect(),
            Err(e) => {
                register.health.fail(e.to_string());
                return self.all_failed(dirty.len());
            }
        };
        let failed = |end: &Result<i64>| !matches!(end, Ok(_) | Err(Error::Exhausted { .. }));
        if let Some((d, Err(e))) = dirty.iter().zip(&ends).find(|(_, end)| failed(end)) {
            register.health.fail(format!("flush of partition {} failed: {e}", d.id().partition));
        }
        // Also what a signal handler marked meanwhile: zeros may have been mapped over a page of the round.
        if register.health.check().is_err() {
            return self.all_failed(dirty.len());
        }
        let moved = dirty.iter().zip(&ends).filter_map(|(d, end)| Some((d.id(), *end.as_ref().ok()?)));
        register.after_flush(&mut moved.into_iter());
        Flushed { ends }
    }

    /// Takes no more writes from now on, until the directory is opened anew: what saw to them is gone. The first reason stays.
    pub fn fail(&self, reason: &str) {
        self.inner.register.health.fail(reason.to_string());
    }

    /// Why the directory takes no more writes, if so.
    pub fn failure(&self) -> Option<String> {
        self.inner.register.health.failure()
    }

    /// Writes the catalogue (every 60 s and at stop) and starts `opened` afresh; nothing when nothing changed. Blocks.
    pub fn write_catalogue(&self, now_ms: i64) -> Result<()> {
        self.inner.register.write_catalogue(now_ms, false)
    }

    /// Clean stop, after every open log was closed with [`Log::close`]: catalogue with the clean mark, lock released. A log
    /// still open makes the stop an unclean one; its figures are kept all the same. Blocks.
    pub fn close(&self, now_ms: i64) -> Result<()> {
        let written = self.inner.register.write_catalogue(now_ms, true);
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        written
    }

    fn all_failed(&self, count: usize) -> Flushed {
        let reason = self.failure().unwrap_or_default();
        Flushed { ends: (0..count).map(|_| Err(Error::DirectoryFailed { reason: reason.clone() })).collect() }
    }

    fn flush_logs(&self, dirty: &[Dirty]) -> Vec<Result<i64>> {
        let threads = dirty.len().min(FLUSH_THREADS);
        if threads < 2 || self.disk().deterministic() {
            return dirty.iter().map(Dirty::flush).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((i, log)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, dirty.get(i)?)))
            {
                done.push((i, log.flush()));
            }
            done
        };
        let mut ends: Vec<Option<Result<i64>>> = dirty.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..threads).filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
            let mine = work();
            // A thread that panicked leaves its log without an end, which fails the round.
            for (i, end) in others.into_iter().filter_map(|t| t.join().ok()).flatten().chain(mine) {
                ends[i] = Some(end);
            }
        });
        let lost = || Err(Error::DirectoryFailed { reason: "a flush thread panicked".to_string() });
        ends.into_iter().map(|end| end.unwrap_or_else(lost)).collect()
    }

    /// What to open a log with, by what is known and what is there; and whether `opened` names it.
    fn stat_by_files(&self, id: PartitionId, dir: &Path) -> Result<(Option<LogStat>, bool)> {
        let stat = self.inner.register.stat_to_open(id);
        let named = stat.is_some_and(|s| s.needs_recovery);
        match (stat, self.has_dir(dir)?) {
            (None, false) => Ok((None, false)),
            (Some(stat), true) => Ok((Some(stat), named)),
            // Named, and stopped before its directory was made.
            (Some(stat), false) if stat.size_bytes == 0 && stat.log_end == 0 && stat.log_start <= 0 => {
                Ok((None, named))
            }
            // What was known of it must not be taken for the new one's.
            (Some(_), false) if self.deletion_was_interrupted(id)? => {
                self.inner.register.forget(id)?;
                Ok((None, false))
            }
            // It had been told to begin at an offset.
            (Some(stat), false) if stat.size_bytes == 0 && (stat.log_end == 0 || stat.log_end == stat.log_start) => {
                Ok((Some(stat), named))
            }
            (Some(_), false) => {
                let gone = io::Error::new(io::ErrorKind::NotFound, "the partition's directory is missing");
                Err(Error::Io { op: "open", path: dir.to_path_buf(), source: gone })
            }
            (None, true) if self.owner(dir)? == Some(id) => {
                Ok((Some(LogStat { log_start: START_UNKNOWN, ..from_the_beginning() }), false))
            }
            // An earlier topic of that name, or bytes nobody vouches for: out of the way, not removed.
            (None, true) => {
                let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.quarantine(&name)?;
                Ok((None, false))
            }
        }
    }

    fn has_dir(&self, dir: &Path) -> Result<bool> {
        self.disk().has_dir(dir).map_err(|e| Error::io("look for", dir, e))
    }

    fn deletion_was_interrupted(&self, id: PartitionId) -> Result<bool> {
        let entries = self.disk().read_dir(self.path()).map_err(|e| Error::io("list", self.path(), e))?;
        for name in entries.iter().filter(|e| e.is_dir).map(|e| &e.name).filter(|n| names::is_deleted_dir(n)) {
            if self.owner(&self.path().join(name))? == Some(id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn owner(&self, dir: &Path) -> Result<Option<PartitionId>> {
        partition_of(&**self.disk(), dir)
    }

    fn quarantine(&self, name: &str) -> Result<()> {
        let disk = self.disk();
        let (from, quarantine) = (self.path().join(name), self.path().join("quarantine"));
        disk.create_dir_all(&quarantine).map_err(|e| Error::io("create", &quarantine, e))?;
        let to = self.free_name(&quarantine, |n| if n == 0 { name.to_string() } else { format!("{name}.{n}") });
        disk.rename(&from, &to).map_err(|e| Error::io("rename", &from, e))?;
        disk.sync_dir(&quarantine).map_err(|e| Error::io("sync", &quarantine, e))?;
        self.inner.register.sync_root()
    }

    fn free_name(&self, dir: &Path, name: impl Fn(u32) -> String) -> PathBuf {
        let mut candidates = (0..u32::MAX).map(|n| dir.join(name(n)));
        candidates.find(|path| !self.disk().exists(path)).expect("a directory holds fewer names than that")
    }

    fn removals(&self) -> std::sync::MutexGuard<'_, Removals> {
        self.inner.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log start of a partition that no catalogue tells of: where its first segment begins.
pub(crate) const START_UNKNOWN: i64 = -1;

/// Figures of a partition of which nothing is known but that it has files.
fn from_the_beginning() -> LogStat {
    LogStat { expires_ms: i64::MAX, latest_epoch: -1, needs_recovery: true, ..LogStat::default() }
}

/// Whose a partition's directory is, by its name's number and its `partition.metadata`; `None` when they do not say. Blocks.
pub fn partition_of(disk: &dyn Disk, dir: &Path) -> Result<Option<PartitionId>> {
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let stem = if names::is_deleted_dir(name) { deleted_stem(name) } else { name };
    let Some((_, partition)) = names::parse_partition_dir(stem) else { return Ok(None) };
    let bytes = match checkpoint::read_plain(disk, &dir.join("partition.metadata")) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(checkpoint::ReadError::Damaged { .. }) => return Ok(None),
        Err(checkpoint::ReadError::Io(e)) => return Err(e),
    };
    Ok(names::parse_partition_metadata(&bytes).map(|topic_id| PartitionId { topic_id, partition }))
}

/// `<topic>-<partition>` of `<topic>-<partition>.<unique>-delete` (a topic may have dots itself).
fn deleted_stem(name: &str) -> &str {
    let mut at = name.len();
    // The unique part has one dot before it, or two when it carries a number.
    for _ in 0..2 {
        at = name[..at].rfind('.').unwrap_or(0);
        if names::parse_partition_dir(&name[..at]).is_some() {
            break;
        }
    }
    &name[..at]
}

/// Makes the directory durably. As long as it holds no `meta.properties`, an earlier start may have made it and ended before the sync.
fn make(disk: &dyn Disk, path: &Path) -> Result<()> {
    if disk.exists(&path.join("meta.properties")) {
        return Ok(());
    }
    disk.create_dir_all(path).map_err(|e| Error::io("create", path, e))?;
    let mut above = path.ancestors().skip(1).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    if let Some(parent) = above.next() {
        disk.sync_dir(parent).map_err(|e| Error::io("sync", parent, e))?;
    }
    for dir in above {
        // Made by us it can be synced; what another user owns may not be ours to open, and was there before.
        let _ = disk.sync_dir(dir);
    }
    Ok(())
}

fn make_and_lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn std::any::Any + Send + Sync>, OpenError> {
    make(disk, path)?;
    let lock = path.join(".lock");
    disk.lock(&lock).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path: path.to_path_buf() },
        _ => OpenError::Io(Error::io("lock", &lock, e)),
    })
}

/// What the directory's own files say at open.
struct Start {
    known: BTreeMap<PartitionId, LogStat>,
    catalogued: u64,
    opened_generation: u64,
    opened_bytes: u64,
    clean: bool,
    damage: Option<String>,
}

impl Start {
    fn read(disk: &dyn Disk, root: &Path, now_ms: i64) -> Result<Start, OpenError> {
        let path = Catalogue::path(root);
        let damage = match Catalogue::load(disk, root) {
            Ok(Some(catalogue)) => return Self::from_catalogue(disk, root, catalogue, now_ms),
            Ok(None) => None,
            Err(LoadError::Damaged(why)) => Some(format!("{} is damaged: {why}", path.display())),
            Err(LoadError::NewerFormat(found)) => {
                let (found, supported) = (found.into(), catalogue::FORMAT.into());
                return Err(OpenError::NewerFormat { path, found, supported });
            }
            Err(LoadError::Io(e)) => return Err(OpenError::Io(e)),
        };
        Self::from_listing(disk, root, BTreeMap::new(), damage, now_ms)
    }

    fn from_catalogue(disk: &dyn Disk, root: &Path, catalogue: Catalogue, now_ms: i64) -> Result<Start, OpenError> {
        let g = catalogue.generation;
        let mut known: BTreeMap<_, _> = catalogue.partitions.into_iter().collect();
        let current = catalogue::read_opened(disk, root, g)?;
        let next = catalogue::read_opened(disk, root, g + 1)?;
        let clean = catalogue.clean && [&current, &next].iter().all(|o| o.as_ref().is_none_or(|o| o.slots.is_empty()));
        for opened in [&current, &next].into_iter().flatten() {
            apply(&mut known, opened);
        }
        if [&current, &next].into_iter().flatten().any(|o| o.damaged) {
            let damage = format!("{} is damaged", catalogue::opened_path(root, g).display());
            return Self::from_listing(disk, root, known, Some(damage), now_ms);
        }
        for (generation, opened) in [(g, &current), (g + 1, &next)] {
            if let Some(opened) = opened.as_ref().filter(|o| o.end_bytes > 0) {
                catalogue::write_opened_again(disk, root, generation, opened.end_bytes)?;
            }
        }
        if let Some(before) = g.checked_sub(1) {
            let _ = disk.remove_file(&catalogue::opened_path(root, before));
        }
        let mut start = Start { known, catalogued: g, opened_generation: g, opened_bytes: 0, clean, damage: None };
        match next {
            None => start.opened_bytes = current.map_or(0, |o| o.end_bytes),
            Some(next) => {
                // The rotation stopped somewhere on its way; the new file may lack names that only the old one has.
                let mut writer = OpenedWriter::new(root, g + 1, next.end_bytes);
                writer.append(disk, &slots_of(&start.known))?;
                (start.opened_generation, start.opened_bytes) = (g + 1, writer.end_bytes());
            }
        }
        Ok(start)
    }

    /// Without a catalogue to trust: every directory of a partition, and all that `known` has, is recovered. What `known` says
    /// of recovery points stays true. Ends with a sound catalogue on disk.
    fn from_listing(
        disk: &dyn Disk,
        root: &Path,
        mut known: BTreeMap<PartitionId, LogStat>,
        damage: Option<String>,
        now_ms: i64,
    ) -> Result<Start, OpenError> {
        let entries = disk.read_dir(root).map_err(|e| Error::io("list", root, e))?;
        let opened = entries.iter().filter_map(|e| e.name.strip_prefix("opened.")?.parse::<u64>().ok());
        let newest = opened.clone().max().unwrap_or(0);
        for entry in entries.iter().filter(|e| e.is_dir && names::parse_partition_dir(&e.name).is_some()) {
            if let Ok(Some(id)) = partition_of(disk, &root.join(&entry.name)) {
                known.entry(id).or_insert_with(from_the_beginning);
            }
        }
        for stat in known.values_mut() {
            stat.needs_recovery = true;
            if stat.log_start == 0 {
                stat.log_start = START_UNKNOWN;
            }
        }
        if matches!(Catalogue::load(disk, root), Err(LoadError::Damaged(_))) {
            let (from, to) = (Catalogue::path(root), root.join("catalogue.damaged"));
            disk.rename(&from, &to).or_else(ignore_missing).map_err(|e| Error::io("rename", &from, e))?;
        }
        // A generation that no older `opened` can be taken for.
        let generation = newest + 2;
        let mut writer = OpenedWriter::create(disk, root, generation)?;
        writer.append(disk, &slots_of(&known))?;
        if let Some(sync) = writer.unsynced(disk)? {
            sync.run()?;
            disk.sync_dir(root).map_err(|e| Error::io("sync", root, e))?;
        }
        let partitions = known.iter().map(|(id, stat)| (*id, *stat)).collect();
        let catalogue = Catalogue { generation, clean: known.is_empty(), written_ms: now_ms, partitions };
        catalogue.store(disk, root)?;
        for old in opened {
            let _ = disk.remove_file(&catalogue::opened_path(root, old));
        }
        let clean = known.is_empty() && damage.is_none();
        let opened_bytes = writer.end_bytes();
        Ok(Start { known, catalogued: generation, opened_generation: generation, opened_bytes, clean, damage })
    }
}

fn ignore_missing(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

fn slots_of(known: &BTreeMap<PartitionId, LogStat>) -> Vec<catalogue::Slot> {
    let dirty = known.iter().filter(|(_, s)| s.needs_recovery);
    dirty
        .map(|(id, s)| catalogue::Slot { id: *id, event: Event::Opened { recovery_point: s.recovery_point } })
        .collect()
}

/// Brings the catalogue's figures up to what `opened` says.
fn apply(known: &mut BTreeMap<PartitionId, LogStat>, opened: &Slots) {
    for slot in &opened.slots {
        if slot.event == Event::Deleted {
            known.remove(&slot.id);
            continue;
        }
        let stat = known.entry(slot.id).or_insert_with(from_the_beginning);
        stat.needs_recovery = true;
        match slot.event {
            Event::Opened { recovery_point } => stat.recovery_point = recovery_point,
            Event::RecoveryPoint(offset) => stat.recovery_point = offset,
            Event::LogStart(offset) => stat.log_start = offset,
            Event::Deleted => {}
        }
    }
}

#[cfg(test)]
mod tests;
