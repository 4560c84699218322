//! Power cuts, kills, failing syncs, full disks and decay, by seed, over the simulated disk: what a flush reported is there
//! afterwards, byte for byte; what is served was written; offsets are dense; one flipped bit costs one batch.
//!
//! `MILLSTREAM_SEEDS=10000` runs more seeds, `MILLSTREAM_SEED=17` one of them.

use millstream_storage::{
    Batch, Directory, DirectoryOptions, Disk, DiskFile, Error, Log, LogConfig, OpenError, PartitionId, TimestampType,
    batch,
    disk::{Entry, Open},
    record::BatchBuilder,
    sim::{Rng, SimDisk},
};
use std::{
    collections::BTreeMap,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}

const ROOT: &str = "/mnt/data";
const PARTITIONS: usize = 3;

/// What is known of one partition from outside.
#[derive(Debug, Clone, Default)]
struct Model {
    /// Batches that may be found at a base offset. One, but for appends whose fate a crash left open.
    batches: BTreeMap<i64, Vec<Vec<u8>>>,
    /// Reported by a flush, or by a log that was opened: all below is there.
    durable_end: i64,
    /// Log end as the writer knows it.
    end: i64,
    /// Acknowledged log start: never lower again.
    start: i64,
    /// The log start was never meant to be higher.
    start_max: i64,
    epoch: i32,
}

impl Model {
    /// Forgets what a truncation to `end` took away.
    fn truncate(&mut self, end: i64) {
        self.batches.retain(|base, _| *base < end);
        self.end = end;
        // The batch that held the log start may be the first that went.
        self.start = self.start.min(end);
        self.durable_end = self.durable_end.min(end);
    }
}

/// One run: a disk, the models, and the logs when the directory is open.
struct Run {
    rng: Rng,
    config: LogConfig,
    now_ms: i64,
    disk: SimDisk,
    lying: bool,
    models: Vec<Model>,
    /// Models that hold instead when an operation was cut short.
    instead: Vec<Option<Model>>,
}

struct Opened {
    directory: Directory,
    logs: Vec<Option<Log>>,
    /// A sync was made to fail: no flush may succeed once one has failed.
    sync_armed: bool,
    flush_failed: bool,
}

fn id(partition: usize) -> PartitionId {
    PartitionId { topic_id: [7; 16], partition: partition as i32 }
}

/// Both ways of writing, small segments and larger ones.
fn config(rng: &mut Rng) -> LogConfig {
    LogConfig {
        segment_bytes: if rng.percent(80) { 16 << 10 } else { 128 << 10 },
        index_interval_bytes: 512,
        segment_index_bytes: 1 << 10,
        durable: rng.percent(50),
        ..LogConfig::default()
    }
}

fn options(now_ms: i64) -> DirectoryOptions {
    DirectoryOptions {
        node_id: 1,
        cluster_id: "cluster".into(),
        directory_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
        now_ms,
        open_segments_max: 64,
    }
}

/// Empty disk with a mount point.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/mnt")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

impl Run {
    fn new(seed: u64, lying: bool) -> Run {
        let models = vec![Model { epoch: 1, ..Model::default() }; PARTITIONS];
        let now_ms = 1_700_000_000_000;
        let mut rng = Rng::new(seed);
        let config = config(&mut rng);
        Run { rng, config, now_ms, disk: new_disk(), lying, models, instead: vec![None; PARTITIONS] }
    }

    fn dyn_disk(&self) -> Arc<dyn Disk> {
        if self.lying { Arc::new(LyingDisk(self.disk.clone())) } else { Arc::new(self.disk.clone()) }
    }

    /// Some boots, each with some operations and its own end.
    fn go(&mut self) -> Result<(), String> {
        let boots = 2 + self.rng.below(4);
        for _ in 0..boots {
            if self.rng.percent(40) {
                let n = self.rng.below(if self.rng.clone().percent(50) { 40 } else { 300 });
                self.disk.crash_after_ops(n);
            }
            let opened = self.open()?;
            if let Some(mut opened) = opened {
                for _ in 0..self.rng.below(60) {
                    if self.disk.crashed() {
                        break;
                    }
                    self.step(&mut opened)?;
                }
                self.end(opened)?;
            } else {
                self.disk = self.disk.crash(self.rng.next_u64());
            }
        }
        // Whatever the last one was, its outcome is looked at.
        self.disk.crash_after_ops(u64::MAX);
        let opened = self.open()?;
        ensure!(opened.is_some(), "the last start crashed");
        Ok(())
    }

    /// Opens the directory and all logs, and checks them. `None` when the disk crashed meanwhile.
    fn open(&mut self) -> Result<Option<Opened>, String> {
        let directory = match Directory::open(self.dyn_disk(), Path::new(ROOT), options(self.now_ms)) {
            Ok(directory) => directory,
            Err(e) if self.disk.crashed() => {
                ensure!(matches!(e, OpenError::Io(_)), "a failing disk gave {e}");
                return Ok(None);
            }
            Err(e) => return Err(format!("open: {e}")),
        };
        let mut logs = Vec::new();
        for p in 0..PARTITIONS {
            let stat = directory.stat(id(p));
            let log = match directory.open_log(id(p), "topic", self.config.clone(), self.now_ms) {
                Ok(log) => log,
                Err(_) if self.disk.crashed() => return Ok(None),
                Err(e) => return Err(format!("open log {p}: {e}")),
            };
            let reader = log.reader();
            self.trace(&format!("stat {stat:?} found {}..{}", reader.log_start(), reader.log_end()), p);
            match stat {
                // More than catalogued may be there: appends of which nothing was synced, their name in `opened` neither.
                Some(stat) if !stat.needs_recovery && self.instead[p].is_none() => ensure!(
                    stat.log_start == reader.log_start() && stat.log_end <= reader.log_end(),
                    "partition {p} is {}..{}, catalogued as {stat:?}",
                    reader.log_start(),
                    reader.log_end()
                ),
                Some(_) => {}
                // What was never flushed may be there, in part, unknown to the directory.
                None => {
                    let may_be_empty = |m: &Model| m.durable_end == 0;
                    let unknown = may_be_empty(&self.models[p]) || self.instead[p].as_ref().is_some_and(may_be_empty);
                    ensure!(unknown, "partition {p} is unknown");
                    self.models[p].start_max = self.models[p].end;
                }
            }
            let found = match (check(&log, &self.models[p]), self.instead[p].take()) {
                (Ok(found), _) => found,
                (Err(_), Some(instead)) => {
                    check(&log, &instead).map_err(|e| format!("partition {p}, cut short: {e}"))?
                }
                (Err(e), None) => return Err(format!("partition {p}: {e}")),
            };
            self.models[p] = found;
            self.trace("opened", p);
            logs.push(Some(log));
        }
        Ok(Some(Opened { directory, logs, sync_armed: false, flush_failed: false }))
    }

    /// Stops in one of the ways there are.
    fn end(&mut self, mut opened: Opened) -> Result<(), String> {
        let how = self.rng.below(10);
        if how < 2 && !self.disk.crashed() && !opened.sync_armed {
            self.close(&mut opened)?;
        }
        self.trace(&format!("end {how}, crashed {}", self.disk.crashed()), 0);
        // A kill keeps the page cache, but not what a failed sync made of it.
        self.disk =
            if how < 4 && !self.disk.crashed() { self.disk.kill() } else { self.disk.crash(self.rng.next_u64()) };
        Ok(())
    }

    /// A clean stop.
    fn close(&mut self, opened: &mut Opened) -> Result<(), String> {
        for p in 0..PARTITIONS {
            if opened.logs[p].is_some() {
                self.close_log(opened, p)?;
            }
        }
        let result = opened.directory.close(self.now_ms);
        self.tolerated("close", opened, result).map(|_| ())
    }

    fn close_log(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let result = opened.logs[p].take().expect("an open log").close(self.now_ms);
        if let Some(stat) = self.tolerated("close log", opened, result)? {
            let model = &mut self.models[p];
            ensure!(stat.log_end == model.end, "closed at {} of {}", stat.log_end, model.end);
            model.durable_end = model.end;
        }
        Ok(())
    }

    fn step(&mut self, opened: &mut Opened) -> Result<(), String> {
        self.now_ms += self.rng.below(1000) as i64;
        let p = self.rng.below(PARTITIONS as u64) as usize;
        if opened.logs[p].is_none() {
            return self.reopen(opened, p);
        }
        let step = self.rng.below(100);
        self.trace(&format!("step {step}"), p);
        match step {
            0..50 => self.append(opened, p),
            50..70 => self.flush(opened),
            70..74 => {
                let result = log(opened, p).roll(self.now_ms);
                self.tolerated("roll", opened, result).map(|_| ())
            }
            74..80 => self.truncate(opened, p),
            80..82 => self.start_anew(opened, p),
            82..86 => self.delete_records(opened, p),
            86..89 => self.retain(opened, p),
            89..92 => {
                let result = opened.directory.write_catalogue(self.now_ms);
                self.tolerated("write catalogue", opened, result).map(|_| ())
            }
            92..95 => {
                let (offset, last) =
                    (self.models[p].end, self.models[p].batches.range(..self.models[p].end).next_back());
                let bytes = snapshot(last.map_or(&[], |(_, fates)| &fates[0]));
                let result = log(opened, p).write_producer_snapshot(offset, &bytes);
                self.tolerated("snapshot", opened, result).map(|_| ())
            }
            95..96 => self.close_log(opened, p),
            96..97 => self.delete_partition(opened, p),
            97..98 => {
                opened.sync_armed = true;
                self.disk.fail_nth_sync(1 + self.rng.below(6));
                Ok(())
            }
            98..99 => self.exhaust(opened, p),
            _ => self.fill_disk(opened, p),
        }
    }

    /// `MILLSTREAM_TRACE=1` shows what a seed does.
    fn trace(&self, what: &str, p: usize) {
        if std::env::var_os("MILLSTREAM_TRACE").is_some() {
            let m = &self.models[p];
            eprintln!("op {}: {what} {p}: {}..{} durable {}", self.disk.ops(), m.start, m.end, m.durable_end);
        }
    }

    /// Passes an error on unless the disk crashed or a sync was made to fail.
    fn tolerated<T>(&self, what: &str, opened: &Opened, result: Result<T, Error>) -> Result<Option<T>, String> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.disk.crashed() || opened.sync_armed => Ok(None),
            Err(e) => Err(format!("{what}: {e}")),
        }
    }

    fn reopen(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let result = opened.directory.open_log(id(p), "topic", self.config.clone(), self.now_ms);
        if let Some(log) = self.tolerated("open log again", opened, result)? {
            // A deletion that failed may still be carried out by the next start.
            let start_max = self.models[p].start_max;
            self.models[p] = check(&log, &self.models[p]).map_err(|e| format!("partition {p} opened again: {e}"))?;
            self.models[p].start_max = self.models[p].start_max.max(start_max);
            opened.logs[p] = Some(log);
        }
        Ok(())
    }

    fn batch(&mut self) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for _ in 0..1 + self.rng.below(3) {
            let len = match self.rng.below(100) {
                0..80 => 150,
                80..98 => 3000,
                _ => 50_000,
            };
            let value = vec![self.rng.next_u64() as u8; self.rng.below(len) as usize];
            builder.push(self.now_ms, Some(&self.rng.next_u64().to_be_bytes()), Some(&value), &[]);
        }
        builder.build()
    }

    /// Appends one batch; returns whether it was made.
    fn try_append(&mut self, opened: &mut Opened, p: usize) -> Result<bool, Error> {
        let mut bytes = self.batch();
        let header = batch::check(&bytes).expect("a batch that was built");
        let follower = self.rng.percent(20);
        let raise = self.rng.percent(5);
        let model = &mut self.models[p];
        model.epoch += i32::from(raise);
        let mut kept = bytes.clone();
        batch::patch(&mut kept, model.end, model.epoch);
        // It may be found after a crash even when the call fails.
        let fates = model.batches.entry(model.end).or_default();
        fates.push(kept);
        let result = if follower {
            batch::patch(&mut bytes, model.end, model.epoch);
            log(opened, p).append_as_follower(&bytes, self.now_ms)
        } else {
            log(opened, p).append_as_leader(&bytes, &header, model.epoch, TimestampType::CreateTime, self.now_ms)
        };
        let appended = result?;
        assert_eq!(appended.base_offset, model.end, "the append's offset");
        assert_eq!(appended.last_offset, model.end + i64::from(header.last_offset_delta));
        let fate = fates.pop().expect("pushed above");
        *fates = vec![fate];
        model.end = appended.last_offset + 1;
        Ok(true)
    }

    fn append(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let result = self.try_append(opened, p);
        self.tolerated("append", opened, result)?;
        let end = log(opened, p).reader().log_end();
        ensure!(end == self.models[p].end, "log end {end} after appends up to {}", self.models[p].end);
        Ok(())
    }

    fn flush(&mut self, opened: &mut Opened) -> Result<(), String> {
        self.flush_some(opened, false)
    }

    fn flush_some(&mut self, opened: &mut Opened, without_descriptors: bool) -> Result<(), String> {
        let mut which = Vec::new();
        let mut dirty = Vec::new();
        for p in 0..PARTITIONS {
            if self.rng.percent(25) {
                continue;
            }
            if let Some(d) = opened.logs[p].as_ref().and_then(|log| log.reader().dirty()) {
                which.push(p);
                dirty.push(d);
            }
        }
        let flushed = opened.directory.flush(&dirty);
        ensure!(flushed.ends.len() == which.len(), "{} results for {} logs", flushed.ends.len(), which.len());
        let mut failed = false;
        for (p, end) in which.into_iter().zip(flushed.ends) {
            match end {
                Ok(end) => {
                    ensure!(!opened.flush_failed, "a flush succeeded after one had failed");
                    let model = &mut self.models[p];
                    ensure!(end == model.end, "flushed to {end} of {}", model.end);
                    ensure!(log(opened, p).reader().durable_end() == end, "the reader does not know of the flush");
                    model.durable_end = end;
                }
                Err(Error::Exhausted { .. }) if without_descriptors => {
                    ensure!(log(opened, p).reader().dirty().is_some(), "clean without a flush");
                }
                Err(e) => {
                    ensure!(self.disk.crashed() || opened.sync_armed, "flush: {e}");
                    ensure!(opened.directory.failure().is_some(), "a failed flush left the directory in health");
                    failed = true;
                }
            }
        }
        opened.flush_failed |= failed;
        Ok(())
    }

    fn truncate(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let (start, end) = (log(opened, p).reader().log_start(), self.models[p].end);
        let at = start + self.rng.below((end - start) as u64 + 1) as i64;
        // The end becomes the base of the first batch that holds or follows the offset.
        let expected = match self.models[p].batches.range(..=at).next_back() {
            Some((base, fates)) if parse(&fates[0]).last_offset() >= at => *base,
            _ => at,
        };
        let mut after = self.models[p].clone();
        after.durable_end = after.durable_end.min(expected);
        after.start = after.start.min(expected);
        let result = log(opened, p).truncate_to(at);
        match self.tolerated("truncate", opened, result)? {
            Some(new_end) => {
                ensure!(new_end == expected, "truncated {start}..{end} at {at} to {new_end}, not {expected}");
                self.models[p].truncate(new_end);
                // A new leader's batches follow.
                self.models[p].epoch += 1;
            }
            None => self.cut_short(opened, p, after),
        }
        Ok(())
    }

    fn start_anew(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let at = self.models[p].end + self.rng.below(50) as i64;
        let model = &self.models[p];
        let epoch = model.epoch + 1;
        let after = Model { durable_end: at, end: at, start: at, start_max: at, epoch, batches: BTreeMap::new() };
        // Cut short, anything between may be found: some of the old, or the empty log.
        let mut between = model.clone();
        between.durable_end = model.start.min(model.durable_end);
        between.start_max = at;
        let result = log(opened, p).truncate_fully_and_start_at(at);
        match self.tolerated("start anew", opened, result)? {
            Some(()) => self.models[p] = after,
            None => self.cut_short(opened, p, between),
        }
        Ok(())
    }

    fn delete_records(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let (start, watermark) = (log(opened, p).reader().log_start(), self.models[p].durable_end);
        if watermark < start {
            return Ok(());
        }
        let at = start + self.rng.below((watermark - start) as u64 + 1) as i64;
        self.models[p].start_max = self.models[p].start_max.max(at);
        let result = log(opened, p).delete_records(at, watermark, self.now_ms);
        if let Some(new_start) = self.tolerated("delete records", opened, result)? {
            ensure!(new_start == at, "log start {new_start} after deleting up to {at}");
            self.models[p].start = at;
        }
        Ok(())
    }

    fn retain(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let watermark = self.models[p].durable_end;
        // Cut short, it may have come as far as the watermark.
        self.models[p].start_max = self.models[p].start_max.max(watermark);
        let retention_bytes = self.rng.below(40 << 10) as i64;
        log(opened, p).set_config(LogConfig { retention_bytes, ..self.config.clone() });
        let result = log(opened, p).retain(self.now_ms, watermark);
        log(opened, p).set_config(self.config.clone());
        self.tolerated("retain", opened, result)?;
        let start = log(opened, p).reader().log_start();
        ensure!(start <= self.models[p].start_max, "retention went to {start}, past the watermark {watermark}");
        opened.directory.remove_deleted(self.now_ms);
        Ok(())
    }

    /// Deletes a partition; the next one of that name is empty.
    fn delete_partition(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        let mut log = opened.logs[p].take().expect("an open log");
        let empty = Model { epoch: self.models[p].epoch + 1, ..Model::default() };
        let result = opened.directory.delete_partition(id(p), "topic", Some(&mut log));
        drop(log);
        match self.tolerated("delete", opened, result)? {
            Some(()) => {
                ensure!(opened.directory.stat(id(p)).is_none(), "a deleted partition has figures");
                self.models[p] = empty;
                self.now_ms += self.rng.below(2) as i64 * 100_000;
                opened.directory.remove_deleted(self.now_ms);
            }
            // It may begin where it had been told to.
            None => {
                let start_max = self.models[p].end.max(self.models[p].start_max);
                self.cut_short(opened, p, Model { start_max, ..empty })
            }
        }
        Ok(())
    }

    /// A full disk refuses appends and nothing else; with room they go on.
    fn fill_disk(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        self.disk.set_capacity(Some(self.disk.used_bytes() + self.rng.below(3) * 4096));
        for _ in 0..self.rng.below(40) {
            match self.try_append(opened, p) {
                Ok(_) => {}
                Err(Error::NoSpace { .. }) => break,
                Err(_) if self.disk.crashed() || opened.sync_armed => break,
                Err(e) => return Err(format!("append to a full disk: {e}")),
            }
        }
        if !self.disk.crashed() && self.rng.percent(50) {
            self.flush(opened)?;
        }
        self.disk.set_capacity(None);
        if self.disk.crashed() {
            return Ok(());
        }
        self.append(opened, p)
    }

    /// Without descriptors some appends and flushes are refused; with them all goes on, and nothing has failed.
    fn exhaust(&mut self, opened: &mut Opened, p: usize) -> Result<(), String> {
        self.disk.set_no_descriptors(true);
        for _ in 0..1 + self.rng.below(5) {
            match self.try_append(opened, p) {
                Ok(_) | Err(Error::Exhausted { .. }) => {}
                Err(_) if self.disk.crashed() || opened.sync_armed => break,
                Err(e) => return Err(format!("append without descriptors: {e}")),
            }
            self.flush_some(opened, true)?;
        }
        self.disk.set_no_descriptors(false);
        if self.disk.crashed() {
            return Ok(());
        }
        ensure!(opened.sync_armed || opened.directory.failure().is_none(), "failed without descriptors");
        self.append(opened, p)?;
        self.flush(opened)
    }

    /// An operation on `p` was cut short: after the crash either the model holds as it was, or `after`. The log is given up.
    fn cut_short(&mut self, opened: &mut Opened, p: usize, after: Model) {
        self.trace("cut short", p);
        self.instead[p] = Some(after);
        opened.logs[p] = None;
        // The one way on is a restart.
        self.disk.crash_after_ops(0);
        let _ = self.disk.sync_dir(Path::new("/"));
    }
}

fn log(opened: &mut Opened, p: usize) -> &mut Log {
    opened.logs[p].as_mut().expect("an open log")
}

/// A producer snapshot that tells which batch it follows.
fn snapshot(last: &[u8]) -> Vec<u8> {
    crc32fast::hash(last).to_be_bytes().repeat(25)
}

fn parse(bytes: &[u8]) -> Batch {
    Batch::parse(bytes).expect("a batch that was written")
}

/// Checks an opened log against what is known of it and returns what is known now.
fn check(log: &Log, model: &Model) -> Result<Model, String> {
    let reader = log.reader();
    let (start, end) = (reader.log_start(), reader.log_end());
    ensure!(start <= end, "log {start}..{end}");
    ensure!(end >= model.durable_end, "log ends at {end}, a flush reported {}", model.durable_end);
    ensure!(start >= model.start, "log starts at {start}, {} was acknowledged", model.start);
    ensure!(start <= model.start_max, "log starts at {start}, never moved past {}", model.start_max);
    ensure!(reader.durable_end() <= end, "durable end {} of {end}", reader.durable_end());
    let mut found = Model {
        batches: BTreeMap::new(),
        durable_end: model.durable_end.max(reader.durable_end()),
        end,
        start: model.start,
        start_max: start.max(model.start),
        epoch: model.epoch,
    };
    // From the base of the batch that holds the start on, batch after batch.
    let mut next = start;
    let mut first = true;
    while next < end {
        let slice = reader
            .read(next, 1 << 20, end, true)
            .map_err(|e| format!("read at {next}: {e}"))?
            .ok_or_else(|| format!("nothing at {next} of {start}..{end}"))?;
        slice.populate().map_err(|e| e.to_string())?;
        let mut bytes = &slice.bytes[..];
        ensure!(!bytes.is_empty(), "an empty slice at {next}");
        ensure!(parse(bytes).base_offset == slice.first_offset, "the slice's first offset");
        while !bytes.is_empty() {
            let header = batch::check(bytes).map_err(|e| format!("at {next}: {e}"))?;
            let (this, rest) = bytes.split_at(header.size_bytes);
            bytes = rest;
            let follows = header.base_offset == next || (first && header.base_offset < next);
            ensure!(follows, "batch at {} where {next} is due", header.base_offset);
            ensure!(header.last_offset() >= next, "batch at {} ends before {next}", header.base_offset);
            let fates = model.batches.get(&header.base_offset);
            let known = fates.is_some_and(|f| f.iter().any(|f| f == this));
            ensure!(known, "batch at {} was never written like this", header.base_offset);
            ensure!(
                reader.epoch_of(header.base_offset.max(start)) == Some(header.leader_epoch),
                "epoch of {} is {:?}, its batch says {}",
                header.base_offset,
                reader.epoch_of(header.base_offset),
                header.leader_epoch
            );
            found.batches.insert(header.base_offset, vec![this.to_vec()]);
            next = header.next_offset();
            first = false;
        }
    }
    ensure!(next == end || start == end, "the last batch ends at {next}, the log at {end}");
    ensure!(reader.read(end, 1 << 20, end, true).map_err(|e| e.to_string())?.is_none(), "something at the end");
    // Snapshots are of what is there. (Their bytes are not synced: some may be zeros, or missing.)
    for (offset, bytes) in log.producer_snapshots() {
        ensure!(offset <= end, "snapshot at {offset}, the log ends at {end}");
        let Some((_, fates)) = found.batches.range(..offset).next_back() else { continue };
        if parse(&fates[0]).next_offset() == offset && bytes.len() == 100 && bytes.iter().any(|b| *b != 0) {
            ensure!(bytes == snapshot(&fates[0]), "the snapshot at {offset} is of another log");
        }
    }
    // Any offset is found by itself too, through the index.
    for (base, fates) in &found.batches {
        let header = parse(&fates[0]);
        let offset = header.last_offset();
        let slice = reader.read(offset, 1, end, true).map_err(|e| e.to_string())?.ok_or("nothing at a last offset")?;
        ensure!(slice.first_offset == *base, "offset {offset} is in {base}, found {}", slice.first_offset);
    }
    Ok(found)
}

/// Builds some partitions, stops cleanly, flips one bit of one file and starts again: all is there, but at most the one batch that
/// holds the bit, and that is reported, never served. (Above the recovery point of an unclean stop decay looks like a torn end.)
fn decay(seed: u64) -> Result<(), String> {
    let mut run = Run::new(seed, false);
    let mut opened = run.open()?.ok_or("crashed")?;
    for _ in 0..100 {
        let p = run.rng.below(PARTITIONS as u64) as usize;
        match run.rng.below(20) {
            0 => log(&mut opened, p).roll(run.now_ms).map_err(|e| e.to_string())?,
            1 => run.flush(&mut opened)?,
            2 => opened.directory.write_catalogue(run.now_ms).map_err(|e| e.to_string())?,
            _ => run.append(&mut opened, p)?,
        }
        run.now_ms += 1000;
    }
    run.close(&mut opened)?;
    run.disk = run.disk.crash(seed);
    drop(opened);
    let mut files = run.disk.files();
    files.retain(|path| !path.ends_with(".lock") && !path.ends_with("meta.properties"));
    if run.rng.percent(70) {
        files.retain(|path| path.extension().is_some_and(|e| e == "log"));
    }
    let path = files[run.rng.below(files.len() as u64) as usize].clone();
    let len = run.disk.open(&path, Open::Read).and_then(|f| f.len()).map_err(|e| e.to_string())?;
    if len == 0 {
        return Ok(());
    }
    // Most of an open segment is space allocated ahead.
    let span = if run.rng.percent(50) { len.min(3000) } else { len };
    let at = run.rng.below(span);
    run.disk.flip_bit(&path, at, run.rng.below(8) as u8).map_err(|e| e.to_string())?;
    let what = format!("a bit of byte {at} of {}", path.display());
    let directory =
        Directory::open(run.dyn_disk(), Path::new(ROOT), options(run.now_ms)).map_err(|e| format!("{what}: {e}"))?;
    let mut lost = 0;
    for (p, model) in run.models.iter().enumerate() {
        let log =
            directory.open_log(id(p), "topic", run.config.clone(), run.now_ms).map_err(|e| format!("{what}: {e}"))?;
        lost += damaged_batches(&log, model).map_err(|e| format!("{what}, partition {p}: {e}"))?;
    }
    let is_log = path.extension().is_some_and(|e| e == "log");
    ensure!(lost <= usize::from(is_log), "{what} cost {lost} batches");
    Ok(())
}

/// Reads every offset of the model by itself; how many batches cannot be read. What is read is right.
fn damaged_batches(log: &Log, model: &Model) -> Result<usize, String> {
    let reader = log.reader();
    ensure!(reader.log_start() <= model.start_max, "starts at {}", reader.log_start());
    ensure!(reader.log_end() >= model.end, "ends at {} of {}", reader.log_end(), model.end);
    let mut lost = 0;
    for (base, fates) in &model.batches {
        let read = || -> Result<bool, Error> {
            for _ in 0..3 {
                let slice = match reader.read(*base, 1, reader.log_end(), true) {
                    Ok(Some(slice)) => slice,
                    Ok(None) | Err(Error::Corrupt { .. }) => return Ok(false),
                    Err(e) => return Err(e),
                };
                match slice.populate() {
                    Ok(()) => return Ok(slice.first_offset == *base && slice.bytes[..] == fates[0][..]),
                    Err(Error::Corrupt { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(false)
        };
        lost += usize::from(!read().map_err(|e| format!("read at {base}: {e}"))?);
    }
    Ok(lost)
}

/// Says `Ok` to every sync and does none.
#[derive(Debug, Clone)]
struct LyingDisk(SimDisk);

#[derive(Debug)]
struct LyingFile(Arc<dyn DiskFile>);

impl Disk for LyingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(LyingFile(self.0.open(path, how)?)))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.0.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Names are kept: the lie is about bytes, so that it is the bytes' check which must notice.
        self.0.sync_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::any::Any + Send + Sync>> {
        self.0.lock(path)
    }
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.0.space(path)
    }
}

impl DiskFile for LyingFile {
    fn path(&self) -> PathBuf {
        self.0.path()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.lie()
    }
    fn sync_range(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.lie()
    }
    fn map(&self, len: usize, writable: bool) -> io::Result<memmap2::MmapRaw> {
        self.0.map(len, writable)
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.fd()
    }
}

impl LyingFile {
    /// Only segments are lied about; the small files beside them are not what is on trial.
    fn lie(&self) -> io::Result<()> {
        if self.0.path().extension().is_some_and(|e| e == "log") { Ok(()) } else { self.0.sync() }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn run(seed: u64, lying: bool) -> Result<(), String> {
    let mut run = Run::new(seed, lying);
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.go())) {
        Ok(result) => result,
        Err(_) => Err("panicked".into()),
    }
}

#[test]
fn what_a_flush_reported_survives_crashes() {
    let seeds = match number("MILLSTREAM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MILLSTREAM_SEEDS").unwrap_or(200),
    };
    for seed in seeds {
        if let Err(e) = run(seed, false) {
            panic!("seed {seed} (MILLSTREAM_SEED={seed} repeats it): {e}");
        }
    }
}

#[test]
fn one_flipped_bit_costs_one_batch_at_most() {
    for seed in 0..number("MILLSTREAM_SEEDS").unwrap_or(200) {
        if let Err(e) = decay(seed) {
            panic!("seed {seed}: {e}");
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    let noticed = (0..50).filter(|seed| run(*seed, true).is_err()).count();
    assert!(noticed >= 10, "only {noticed} of 50 seeds noticed that no segment was ever synced");
}

/// A first start, some appends, flushes, a roll, a catalogue and a clean stop, which end at operation `ops`. Whether they did.
fn cut_at(ops: u64, seed: u64) -> Result<bool, String> {
    let mut run = Run::new(seed, false);
    run.disk.crash_after_ops(ops);
    if let Some(mut opened) = run.open()? {
        for round in 0..4 {
            for p in 0..2 {
                run.append(&mut opened, p)?;
            }
            if round == 1 {
                let result = opened.logs[0].as_mut().expect("an open log").roll(run.now_ms);
                run.tolerated("roll", &opened, result)?;
            }
            run.flush(&mut opened)?;
            if round == 2 {
                let result = opened.directory.write_catalogue(run.now_ms);
                run.tolerated("write catalogue", &opened, result)?;
                run.delete_records(&mut opened, 0)?;
            }
        }
        run.close(&mut opened)?;
    }
    let crashed = run.disk.crashed();
    run.disk = run.disk.crash(seed);
    run.open()?;
    Ok(crashed)
}

#[test]
fn a_first_start_may_be_cut_at_each_of_its_operations() {
    for ops in 0.. {
        let mut crashed = false;
        for seed in 0..8 {
            crashed |= cut_at(ops, seed).unwrap_or_else(|e| panic!("operation {ops}, seed {seed}: {e}"));
        }
        if !crashed {
            assert!(ops > 20, "only {ops} operations");
            break;
        }
    }
}
