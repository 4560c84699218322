//! `millstream log`: looks at a log's files without a broker. Reads only; the files may be those of a stopped broker, of Apache
//! Kafka, or of a running broker (then the end may be cut in the middle of an append).

use clap::{Args, Subcommand, ValueEnum};
use millstream_storage::{
    Batch, DiskFile, OsDisk, PartitionId,
    batch::{self, BatchError, HEADER_BYTES},
    catalogue::{self, Catalogue, LoadError},
    directory::partition_of,
    disk::{Disk, Open},
    record,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// Look at the files of a log.
#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print the batches of a partition, with the names that Kafka's dump tool has for their fields.
    Dump(DumpArgs),
    /// Check every batch of a partition or of all partitions; exit code 1 when something is damaged.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct DumpArgs {
    /// A partition's directory or one .log file.
    path: PathBuf,
    /// Only batches that hold an offset of this range, end excluded: A..B, A.. or ..B.
    #[arg(long, value_name = "A..B", value_parser = offsets)]
    offsets: Option<Range<i64>>,
    /// Also print the records of batches that are not compressed.
    #[arg(long)]
    records: bool,
    /// Lines for people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// A data directory, a partition's directory, or one .log file.
    path: PathBuf,
    /// Lines for people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn offsets(text: &str) -> Result<Range<i64>, String> {
    let (from, to) = text.split_once("..").ok_or_else(|| format!("`{text}` is not A..B"))?;
    let bound = |text: &str, open: i64| match text {
        "" => Ok(open),
        _ => text.parse().map_err(|_| format!("`{text}` is not an offset")),
    };
    Ok(bound(from, 0)?..bound(to, i64::MAX)?)
}

/// Runs it; exit code 0 all well, 1 damage found, 2 could not look.
pub fn run(args: LogArgs) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match args.command {
        LogCommand::Dump(args) => dump(&args, &mut out),
        LogCommand::Verify(args) => verify(&args, &mut out),
    };
    match done.and_then(|sound| out.flush().map(|()| sound).map_err(|e| Failure::writing(&e))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Sentence(sentence)) => {
            eprintln!("millstream: {sentence}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug)]
enum Failure {
    /// Who read our output has seen enough (`| head`).
    Closed,
    Sentence(String),
}

impl Failure {
    fn writing(e: &io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Sentence(format!("cannot write the output: {e}")),
        }
    }
    fn reading(path: &Path, e: &io::Error) -> Failure {
        Failure::Sentence(format!("cannot read {}: {e}", path.display()))
    }
}

// ---- dump ----

fn dump(args: &DumpArgs, out: &mut dyn Write) -> Result<bool, Failure> {
    let files = log_files(&args.path)?;
    if files.is_empty() {
        return Err(Failure::Sentence(format!("{} holds no .log file", args.path.display())));
    }
    let last = files.len() - 1;
    let mut sound = true;
    for (i, path) in files.iter().enumerate() {
        dump_file(args, path, out).map_err(|e| Failure::writing(&e))?;
        let mut walk = Walk::open(path)?;
        while let Some(step) = walk.next(i == last)? {
            match step {
                Step::Batch { header, position, error } => {
                    sound &= error.is_none();
                    if args
                        .offsets
                        .as_ref()
                        .is_some_and(|o| header.last_offset() < o.start || header.base_offset >= o.end)
                    {
                        continue;
                    }
                    let valid = error.is_none();
                    let payload = walk.payload(position, &header)?;
                    print_batch(args, out, &header, position, valid, payload).map_err(|e| Failure::writing(&e))?;
                }
                Step::Skipped { position, bytes, why } => {
                    sound = false;
                    eprintln!(
                        "millstream: {}: {bytes} bytes at position {position} are no batch: {why}",
                        path.display()
                    );
                }
                Step::Tail { position, bytes } => {
                    eprintln!(
                        "millstream: {}: unfinished append of {bytes} bytes at position {position}",
                        path.display()
                    );
                }
            }
        }
    }
    Ok(sound)
}

fn dump_file(args: &DumpArgs, path: &Path, out: &mut dyn Write) -> io::Result<()> {
    if args.output == Output::Json {
        return Ok(());
    }
    writeln!(out, "{}", path.display())?;
    writeln!(
        out,
        "{:>12} {:>12} {:>7} {:>10} {:>9} {:>5} {:>5} {:>14} {:<13} {:>9} {:<6} {:<4} {:<5} {:>10} {:>11} {:>11} valid",
        "baseOffset",
        "lastOffset",
        "count",
        "position",
        "size",
        "magic",
        "epoch",
        "timestamp",
        "type",
        "crc",
        "codec",
        "txn",
        "ctrl",
        "producerId",
        "prodEpoch",
        "sequence",
    )
}

fn print_batch(
    args: &DumpArgs,
    out: &mut dyn Write,
    h: &Batch,
    position: u64,
    valid: bool,
    payload: &[u8],
) -> io::Result<()> {
    let timestamp_type = if h.is_log_append_time() { "LogAppendTime" } else { "CreateTime" };
    let codec = codec_name(h.compression());
    let last_sequence = if h.producer_id < 0 { -1 } else { h.last_sequence() };
    let readable = args.records && valid && h.compression() == 0;
    if args.output == Output::Json {
        let mut line = json!({
            "baseOffset": h.base_offset, "lastOffset": h.last_offset(), "count": h.record_count,
            "baseSequence": h.base_sequence, "lastSequence": last_sequence,
            "producerId": h.producer_id, "producerEpoch": h.producer_epoch, "partitionLeaderEpoch": h.leader_epoch,
            "isTransactional": h.is_transactional(), "isControl": h.is_control(),
            "position": position, timestamp_type: h.max_timestamp, "size": h.size_bytes, "magic": 2,
            "compresscodec": codec, "crc": h.crc, "isvalid": valid,
        });
        if readable {
            let records = record::records(payload, h.record_count).map_while(Result::ok);
            line["records"] = records.map(|r| record_json(&r, h)).collect();
        }
        return writeln!(out, "{line}");
    }
    writeln!(
        out,
        "{:>12} {:>12} {:>7} {:>10} {:>9} {:>5} {:>5} {:>14} {:<13} {:>9x} {:<6} {:<4} {:<5} {:>10} {:>11} {:>11} {}",
        h.base_offset,
        h.last_offset(),
        h.record_count,
        position,
        h.size_bytes,
        2,
        h.leader_epoch,
        h.max_timestamp,
        timestamp_type,
        h.crc,
        codec,
        if h.is_transactional() { "yes" } else { "no" },
        if h.is_control() { "yes" } else { "no" },
        h.producer_id,
        h.producer_epoch,
        format!("{}..{}", h.base_sequence, last_sequence),
        if valid { "yes" } else { "NO" },
    )?;
    if readable {
        for r in record::records(payload, h.record_count).map_while(Result::ok) {
            let (offset, timestamp) = (r.offset(h), r.timestamp(h));
            let (key, value) = (text_of(r.key), text_of(r.value));
            let headers: Vec<_> =
                r.headers().map(|(k, v)| format!("{}={}", String::from_utf8_lossy(k), text_of(v))).collect();
            writeln!(out, "  | offset {offset} timestamp {timestamp} key {key} value {value} headers {headers:?}")?;
        }
    }
    Ok(())
}

fn record_json(r: &record::Record<'_>, h: &Batch) -> serde_json::Value {
    let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned());
    let headers: Vec<_> =
        r.headers().map(|(k, v)| json!({ "key": String::from_utf8_lossy(k), "value": text(v) })).collect();
    json!({
        "offset": r.offset(h), "timestamp": r.timestamp(h), "keySize": size(r.key), "valueSize": size(r.value),
        "key": text(r.key), "value": text(r.value), "headers": headers,
    })
}

fn size(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |b| b.len() as i64)
}

fn text_of(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_string(), |b| b.escape_ascii().to_string())
}

fn codec_name(codec: u8) -> &'static str {
    ["none", "gzip", "snappy", "lz4", "zstd"].get(usize::from(codec)).copied().unwrap_or("?")
}

// ---- verify ----

/// What was looked at, and what was wrong.
#[derive(Debug, Default)]
struct Verdict {
    partitions: u64,
    files: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    damage: u64,
}

fn verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<bool, Failure> {
    let mut verdict = Verdict::default();
    let partitions = partition_dirs(&args.path)?;
    let ends = match args.path.join("meta.properties").exists() {
        true => verify_catalogue(args, &mut verdict, out)?,
        false => BTreeMap::new(),
    };
    for partition in &partitions {
        verdict.partitions += 1;
        let end = verify_partition(args, partition, &mut verdict, out)?;
        let id = partition_of(&OsDisk, partition).map_err(|e| Failure::Sentence(e.to_string()))?;
        if let Some(catalogued) = id.and_then(|id| ends.get(&id)).filter(|catalogued| **catalogued > end) {
            let why = format!("the log ends at offset {end}, and ended at {catalogued} at its last clean stop");
            damage(args, &mut verdict, out, partition, None, None, &why)?;
        }
    }
    let Verdict { partitions, files, batches, records, bytes, damage } = verdict;
    let written = match args.output {
        Output::Json => writeln!(
            out,
            "{}",
            json!({ "partitions": partitions, "files": files, "batches": batches, "records": records, "bytes": bytes, "damage": damage })
        ),
        Output::Table => writeln!(
            out,
            "{partitions} partitions, {files} files, {batches} batches, {records} records, {bytes} bytes: {}",
            match damage {
                0 => "no damage".to_string(),
                n => format!("{n} damaged places"),
            }
        ),
    };
    written.map_err(|e| Failure::writing(&e))?;
    Ok(damage == 0)
}

/// Checks the directory's own files; returns the log ends of partitions that were closed cleanly.
fn verify_catalogue(
    args: &VerifyArgs,
    verdict: &mut Verdict,
    out: &mut dyn Write,
) -> Result<BTreeMap<PartitionId, i64>, Failure> {
    let path = Catalogue::path(&args.path);
    let catalogue = match Catalogue::load(&OsDisk, &args.path) {
        Ok(Some(catalogue)) => Ok(catalogue),
        Ok(None) => Err("it is missing"),
        Err(LoadError::Damaged(why)) => Err(why),
        Err(LoadError::NewerFormat(n)) => {
            let why = format!("it has format {n}, which this release does not read");
            return Err(Failure::Sentence(format!("{}: {why}", path.display())));
        }
        Err(LoadError::Io(e)) => return Err(Failure::Sentence(e.to_string())),
    };
    let catalogue = match catalogue {
        Ok(catalogue) => catalogue,
        Err(why) => return damage(args, verdict, out, &path, None, None, why).map(|()| BTreeMap::new()),
    };
    let mut ends: BTreeMap<_, _> = catalogue.partitions.iter().map(|(id, stat)| (*id, stat.log_end)).collect();
    for generation in [catalogue.generation, catalogue.generation + 1] {
        let opened = catalogue::read_opened(&OsDisk, &args.path, generation);
        let opened = opened.map_err(|e| Failure::Sentence(e.to_string()))?.unwrap_or_default();
        opened.slots.iter().for_each(|slot| _ = ends.remove(&slot.id));
        if opened.damaged {
            let path = catalogue::opened_path(&args.path, generation);
            damage(args, verdict, out, &path, None, None, "a record before the last one is unreadable")?;
        }
    }
    Ok(ends)
}

/// Checks every batch; returns the offset after the last one.
fn verify_partition(
    args: &VerifyArgs,
    partition: &Path,
    verdict: &mut Verdict,
    out: &mut dyn Write,
) -> Result<i64, Failure> {
    let files = log_files(partition)?;
    let mut expected = 0;
    for (i, path) in files.iter().enumerate() {
        verdict.files += 1;
        let mut walk = Walk::open(path)?;
        expected = expected.max(walk.base_offset);
        while let Some(step) = walk.next(i + 1 == files.len())? {
            match step {
                Step::Batch { header, position, error: Some(why) } => {
                    damage(args, verdict, out, path, Some(position), Some(header.base_offset), &why.to_string())?;
                    expected = header.next_offset().max(expected);
                }
                Step::Batch { header, position, error: None } => {
                    if header.base_offset < expected {
                        let why = format!("offset {} comes after {expected} was reached", header.base_offset);
                        damage(args, verdict, out, path, Some(position), Some(header.base_offset), &why)?;
                    }
                    verdict.batches += 1;
                    verdict.records += header.record_count as u64;
                    verdict.bytes += header.size_bytes as u64;
                    expected = header.next_offset().max(expected);
                }
                Step::Skipped { position, bytes, why } => {
                    let why = format!("{bytes} bytes are no batch: {why}");
                    damage(args, verdict, out, path, Some(position), Some(expected), &why)?;
                }
                Step::Tail { position, bytes } => eprintln!(
                    "millstream: {}: unfinished append of {bytes} bytes at position {position}, which a start cuts off",
                    path.display()
                ),
            }
        }
    }
    Ok(expected)
}

fn damage(
    args: &VerifyArgs,
    verdict: &mut Verdict,
    out: &mut dyn Write,
    path: &Path,
    position: Option<u64>,
    offset: Option<i64>,
    why: &str,
) -> Result<(), Failure> {
    verdict.damage += 1;
    let written = if args.output == Output::Json {
        writeln!(
            out,
            "{}",
            json!({ "file": path.to_string_lossy(), "position": position, "offset": offset, "why": why })
        )
    } else {
        let place = match (offset, position) {
            (Some(offset), Some(position)) => format!(" at offset {offset}, position {position}"),
            _ => String::new(),
        };
        writeln!(out, "{}: damaged{place}: {why}", path.display())
    };
    written.map_err(|e| Failure::writing(&e))
}

// ---- files and batches ----

/// The partitions that a path stands for: itself, or those in a data directory.
fn partition_dirs(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.join("meta.properties").exists() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = fs::read_dir(path).map_err(|e| Failure::reading(path, &e))?;
    let mut dirs: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_partition(p)).collect();
    dirs.sort();
    Ok(dirs)
}

fn is_partition(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    path.is_dir() && name.rsplit_once('-').is_some_and(|(topic, n)| !topic.is_empty() && n.parse::<u32>().is_ok())
}

/// The segments of a partition, oldest first; or the one that was named.
fn log_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let found = fs::metadata(path).map_err(|e| Failure::reading(path, &e))?;
    if found.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = fs::read_dir(path).map_err(|e| Failure::reading(path, &e))?;
    let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| base_offset(p).is_some()).collect();
    files.sort();
    Ok(files)
}

fn base_offset(path: &Path) -> Option<i64> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".log")?;
    stem.parse().ok().filter(|_| stem.len() == 20)
}

/// What comes next in a file.
enum Step {
    /// A batch; damaged when there is an error, but with a header that leads on.
    Batch { header: Batch, position: u64, error: Option<BatchError> },
    /// Bytes that are no batch, before one.
    Skipped { position: u64, bytes: u64, why: BatchError },
    /// Bytes that are no batch up to the end, where an append may have been cut off.
    Tail { position: u64, bytes: u64 },
}

/// Goes through the batches of one file.
struct Walk {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    base_offset: i64,
    file_bytes: u64,
    position: u64,
    /// Offset that the next batch has at least.
    expected: i64,
    window: Vec<u8>,
    window_at: u64,
}

/// Read ahead at a time.
const WINDOW_BYTES: usize = 1 << 20;

impl Walk {
    fn open(path: &Path) -> Result<Walk, Failure> {
        let file = OsDisk.open(path, Open::Read).map_err(|e| Failure::reading(path, &e))?;
        let file_bytes = file.len().map_err(|e| Failure::reading(path, &e))?;
        let base_offset = base_offset(path).unwrap_or(0);
        let (position, window_at) = (0, 0);
        Ok(Walk {
            path: path.to_path_buf(),
            file,
            base_offset,
            file_bytes,
            position,
            expected: base_offset,
            window: Vec::new(),
            window_at,
        })
    }

    /// The next thing in the file; `None` at its end. `is_last`: no segment follows, so it may end in an unfinished append.
    fn next(&mut self, is_last: bool) -> Result<Option<Step>, Failure> {
        let position = self.position;
        if position >= self.file_bytes || self.only_zeros_from(position)? {
            return Ok(None);
        }
        let why = match self.batch_at(position)? {
            Ok((header, error)) => {
                self.position += header.size_bytes as u64;
                self.expected = header.next_offset();
                return Ok(Some(Step::Batch { header, position, error }));
            }
            Err(why) => why,
        };
        // The length leads nowhere: look for the next sound batch at each byte.
        let mut at = position + 1;
        while at + HEADER_BYTES as u64 <= self.file_bytes {
            if self.bytes(at, 17)?.get(16) == Some(&2)
                && matches!(self.batch_at(at)?, Ok((h, None)) if h.base_offset >= self.expected)
            {
                self.position = at;
                return Ok(Some(Step::Skipped { position, bytes: at - position, why }));
            }
            at += 1;
        }
        self.position = self.file_bytes;
        let bytes = self.file_bytes - position;
        Ok(Some(if is_last { Step::Tail { position, bytes } } else { Step::Skipped { position, bytes, why } }))
    }

    /// The batch at a position, with what is wrong with it; an error where its header does not lead to a next one.
    fn batch_at(&mut self, at: u64) -> Result<Result<(Batch, Option<BatchError>), BatchError>, Failure> {
        let left = self.file_bytes - at;
        let header = match Batch::parse(self.bytes(at, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(e) => return Ok(Err(e)),
        };
        if header.size_bytes as u64 > left {
            return Ok(Err(BatchError::Truncated { have: left as usize, need: header.size_bytes }));
        }
        let error = batch::check_stored(self.bytes(at, header.size_bytes)?).err();
        if let Some(error) = error {
            // Believe the length of a damaged batch only where something follows that makes sense.
            let next = at + header.size_bytes as u64;
            let follows = next == self.file_bytes
                || Batch::parse(self.bytes(next, HEADER_BYTES)?).is_ok_and(|n| n.base_offset > header.base_offset)
                || self.bytes(next, HEADER_BYTES)?.iter().all(|b| *b == 0);
            return Ok(if follows { Ok((header, Some(error))) } else { Err(error) });
        }
        Ok(Ok((header, None)))
    }

    fn payload(&mut self, position: u64, header: &Batch) -> Result<&[u8], Failure> {
        Ok(self.bytes(position, header.size_bytes)?.get(HEADER_BYTES..).unwrap_or_default())
    }

    fn only_zeros_from(&mut self, position: u64) -> Result<bool, Failure> {
        if self.bytes(position, HEADER_BYTES)?.iter().any(|b| *b != 0) {
            return Ok(false);
        }
        let mut at = position;
        while at < self.file_bytes {
            let bytes = self.bytes(at, WINDOW_BYTES)?;
            if bytes.iter().any(|b| *b != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    /// Up to `len` bytes at `at`, fewer at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Failure> {
        let len = len.min((self.file_bytes - at.min(self.file_bytes)) as usize);
        if at < self.window_at || at + len as u64 > self.window_at + self.window.len() as u64 {
            let wanted = len.max(WINDOW_BYTES).min((self.file_bytes - at) as usize);
            self.window.resize(wanted, 0);
            let read = self.file.read_at(&mut self.window, at).map_err(|e| Failure::reading(&self.path, &e))?;
            self.window.truncate(read);
            self.window_at = at;
            if read < wanted {
                self.file_bytes = at + read as u64; // cut while we looked
            }
        }
        let from = (at - self.window_at) as usize;
        Ok(&self.window[from..(from + len).min(self.window.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_storage::record::BatchBuilder;

    fn batch(offset: i64) -> Vec<u8> {
        let value = vec![b'x'; 200];
        BatchBuilder::new().base_offset(offset).leader_epoch(0).record(1_000, Some(b"k"), Some(&value), &[]).build()
    }

    fn partition(segments: &[(i64, Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (base, bytes) in segments {
            fs::write(dir.path().join(format!("{base:020}.log")), bytes).unwrap();
        }
        dir
    }

    fn verified(dir: &Path) -> (bool, String) {
        let mut out = Vec::new();
        let args = VerifyArgs { path: dir.to_path_buf(), output: Output::Table };
        let sound = verify(&args, &mut out).unwrap();
        (sound, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_sound_log_with_an_allocated_tail_verifies() {
        let mut last = [batch(2), batch(3)].concat();
        last.extend_from_slice(&[0; 5000]);
        let dir = partition(&[(0, [batch(0), batch(1)].concat()), (2, last)]);
        let (sound, text) = verified(dir.path());
        assert!(sound, "{text}");
        assert!(text.contains("2 files, 4 batches, 4 records"), "{text}");
    }

    #[test]
    fn a_flipped_bit_costs_its_batch_and_names_the_place() {
        let mut bytes = [batch(0), batch(1), batch(2)].concat();
        let size = batch(0).len();
        bytes[size + 100] ^= 4;
        let dir = partition(&[(0, bytes.clone())]);
        let (sound, text) = verified(dir.path());
        assert!(!sound);
        assert!(text.contains(&format!("at offset 1, position {size}")) && text.contains("2 batches"), "{text}");
        // In the length: the next batch is found all the same.
        bytes[size + 100] ^= 4;
        bytes[size + 9] ^= 0x40;
        let dir = partition(&[(0, bytes)]);
        let (sound, text) = verified(dir.path());
        assert!(!sound && text.contains("2 batches") && text.contains(&format!("{size} bytes are no batch")), "{text}");
    }

    #[test]
    fn an_unfinished_append_is_damage_only_where_a_segment_follows() {
        let torn = [batch(0), batch(1)[..100].to_vec()].concat();
        assert!(verified(partition(&[(0, torn.clone())]).path()).0);
        assert!(!verified(partition(&[(0, torn), (2, batch(2))]).path()).0);
    }

    #[test]
    fn a_log_shorter_than_at_its_clean_stop_is_damage() {
        use millstream_storage::{Directory, DirectoryOptions, LogConfig, TimestampType};
        let dir = tempfile::tempdir().unwrap();
        let options = DirectoryOptions {
            node_id: 1,
            cluster_id: "c".into(),
            directory_id: "d".into(),
            now_ms: 0,
            open_segments_max: 64,
        };
        let directory = Directory::open(Arc::new(OsDisk), dir.path(), options).unwrap();
        let id = PartitionId { topic_id: [3; 16], partition: 0 };
        let mut log = directory.open_log(id, "t", LogConfig::default(), 0).unwrap();
        for _ in 0..3 {
            let header = batch::check(&batch(0)).unwrap();
            log.append_as_leader(&batch(0), &header, 0, TimestampType::CreateTime, 0).unwrap();
        }
        log.close(0).unwrap();
        directory.close(0).unwrap();
        let (sound, text) = verified(dir.path());
        assert!(sound && text.contains("1 partitions, 1 files, 3 batches"), "{text}");
        let file = fs::OpenOptions::new().write(true).open(dir.path().join("t-0/00000000000000000000.log")).unwrap();
        file.set_len(2 * batch(0).len() as u64).unwrap();
        let (sound, text) = verified(dir.path());
        assert!(!sound && text.contains("ends at offset 2, and ended at 3"), "{text}");
    }

    #[test]
    fn offsets_that_go_back_are_damage() {
        let (sound, text) = verified(partition(&[(0, [batch(0), batch(5), batch(3)].concat())]).path());
        assert!(!sound && text.contains("offset 3 comes after 6 was reached"), "{text}");
    }

    #[test]
    fn a_dump_is_one_json_object_a_batch_with_kafkas_names() {
        let dir = partition(&[(0, [batch(0), batch(1), batch(2)].concat())]);
        let args = DumpArgs {
            path: dir.path().to_path_buf(),
            offsets: Some(offsets("1..2").unwrap()),
            records: true,
            output: Output::Json,
        };
        let mut out = Vec::new();
        assert!(dump(&args, &mut out).unwrap());
        let lines: Vec<serde_json::Value> =
            out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["baseOffset"], &lines[0]["isvalid"]), (&json!(1), &json!(true)));
        assert_eq!(lines[0]["records"][0]["valueSize"], json!(200));
        assert_eq!(offsets("5..").unwrap(), 5..i64::MAX);
        assert!(offsets("x").is_err() && offsets("1..y").is_err());
    }
}
