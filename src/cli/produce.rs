//! `millstream produce`: sends records from stdin or a file to a topic of any Kafka cluster.
//!
//! No record is lost silently: the exit code is 0 only when every record that was read is delivered; else 2, and the words say how many were.

use super::{
    payload::{self, Draft, Format},
    remote::{self, Failure, Outcome, Output, Remote, say},
    template::delimiter,
};
use crate::{
    client::{Acks, ClientError, Compression, NewRecord, Producer, ProducerOptions},
    limits::CLI_RECORD_BYTES_MAX,
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Send records to a topic: a line each, from stdin or a file.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    topic: String,
    /// Read from this file, not from stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How each record is written. As JSON it is an object with key, value, headers, partition, timestamp.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What stands between key and value of a line.
    #[arg(long, value_name = "TEXT", value_parser = delimiter_value, conflicts_with = "key")]
    key_delimiter: Option<Delimiter>,
    /// The key of every record that has none of its own.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// A header of every record; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The partition of every record that names none [default: by the key; any without one].
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Records end at NUL bytes, not at line ends.
    #[arg(long)]
    null_delimiter: bool,
    /// An empty value (or key) is sent as null: a tombstone.
    #[arg(long)]
    empty_as_null: bool,
    /// When a record counts as delivered: never asked (0), the leader has it (1), all replicas in sync have it (all).
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// How batches are packed.
    #[arg(long, value_enum, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    /// Let no record be written twice, nor out of order.
    #[arg(long)]
    idempotent: bool,
    /// Let the broker create the topic, with its defaults, when it is missing.
    #[arg(long)]
    create: bool,
    /// Longest time to deliver a record, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    delivery_timeout: u64,
    #[command(flatten)]
    remote: Remote,
    /// The summary as words on stderr, or as a JSON object on stdout.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(alias = "-1")]
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionArg {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Bytes that clap must not take for a list of values.
#[derive(Debug, Clone)]
struct Delimiter(Vec<u8>);

fn delimiter_value(text: &str) -> Result<Delimiter, String> {
    delimiter(text).map(Delimiter)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.to_string(), value.to_string()))
}

/// Runs it; exit code 0 all delivered, 2 not.
pub fn run(args: ProduceArgs) -> ExitCode {
    remote::run(async || produce(&args).await)
}

/// What became of the records.
#[derive(Debug, Default)]
struct Count {
    delivered: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    /// Why the first that failed did.
    first: Mutex<Option<ClientError>>,
}

async fn produce(args: &ProduceArgs) -> Outcome {
    let input: Box<dyn BufRead> = match &args.file {
        None => Box::new(BufReader::with_capacity(256 << 10, io::stdin())),
        Some(path) => {
            let file = File::open(path)
                .map_err(|e| Failure::Sentence(format!("cannot read {}: {e}; is the path right?", path.display())))?;
            Box::new(BufReader::with_capacity(256 << 10, file))
        }
    };
    let cluster = args.remote.cluster("millstream-produce").await?;
    let count = Arc::new(Count::default());
    let sink = count.clone();
    let producer = Producer::start(&cluster, &args.topic, options(args), move |delivery| {
        let records = delivery.tokens.len() as u64;
        match delivery.result {
            Ok(_) => {
                sink.delivered.fetch_add(records, Ordering::Relaxed);
                sink.bytes.fetch_add(delivery.tokens.iter().sum(), Ordering::Relaxed);
            }
            Err(error) => {
                sink.failed.fetch_add(records, Ordering::Relaxed);
                let mut first = sink.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                first.get_or_insert_with(|| error.clone());
            }
        }
    })
    .await
    .map_err(|error| match error {
        ClientError::UnknownTopic(_) if !args.create => {
            Failure::Sentence(format!("{error}; --create lets the broker create it"))
        }
        error => error.into(),
    })?;
    let began = Instant::now();
    let stopped = feed(args, input, &producer, &count).await.err();
    producer.close().await;
    let delivered = count.delivered.load(Ordering::Relaxed);
    let failed = count.failed.load(Ordering::Relaxed);
    let bytes = count.bytes.load(Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f64();
    let first = count.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    if args.output == Output::Json {
        let line = json!({
            "topic": args.topic, "delivered": delivered, "failed": failed, "bytes": bytes, "seconds": seconds,
            "error": first.as_ref().map(ToString::to_string).or_else(|| stopped.clone()),
        });
        writeln!(io::stdout(), "{line}")?;
    }
    let records = |n: u64| if n == 1 { "1 record".to_string() } else { format!("{n} records") };
    match (first, stopped) {
        (None, None) => {
            if args.output == Output::Table {
                let sent = if args.acks == AcksArg::None { "sent (unconfirmed: --acks 0)" } else { "delivered" };
                say(&format!("{} ({bytes} bytes) {sent} to `{}` in {seconds:.2} s", records(delivered), args.topic));
            }
            Ok(true)
        }
        (Some(error), _) => Err(Failure::Sentence(format!(
            "{} not delivered to `{}`, {} before that or beside it; what came after was not read. The first failed so: {error}",
            records(failed),
            args.topic,
            records(delivered),
        ))),
        (None, Some(why)) => {
            let all = format!("the {} before it delivered to `{}`", records(delivered), args.topic);
            Err(Failure::Sentence(format!("{why}; {all}, what came after was not read")))
        }
    }
}

fn options(args: &ProduceArgs) -> ProducerOptions {
    ProducerOptions {
        acks: match args.acks {
            AcksArg::None => Acks::None,
            AcksArg::Leader => Acks::Leader,
            AcksArg::All => Acks::All,
        },
        compression: match args.compression {
            CompressionArg::None => Compression::None,
            CompressionArg::Gzip => Compression::Gzip,
            CompressionArg::Snappy => Compression::Snappy,
            CompressionArg::Lz4 => Compression::Lz4,
            CompressionArg::Zstd => Compression::Zstd,
        },
        idempotent: args.idempotent,
        create_topic: args.create,
        delivery_timeout: Duration::from_secs(args.delivery_timeout),
        ..Default::default()
    }
}

/// Sends what it reads until the end, a record that cannot be sent (the sentence says which), or a failed delivery.
async fn feed(
    args: &ProduceArgs,
    mut input: Box<dyn BufRead>,
    producer: &Producer,
    count: &Count,
) -> Result<(), String> {
    let end = if args.null_delimiter { 0 } else { b'\n' };
    let fixed = Fixed {
        key: args
            .key
            .as_deref()
            .map(|key| payload::decode(args.format, key.as_bytes()))
            .transpose()
            .map_err(|e| format!("--key: {e}"))?,
        headers: args.headers.iter().map(|(k, v)| (k.clone(), Some(v.clone().into_bytes()))).collect(),
    };
    let mut progress = Progress::new();
    let mut line = Vec::new();
    for number in 1u64.. {
        if count.failed.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        line.clear();
        if !next(&mut input, end, &mut line).map_err(|e| format!("record {number}: {e}"))? {
            return Ok(());
        }
        if args.format == Format::Json && line.trim_ascii().is_empty() {
            continue;
        }
        let draft = read(args, &fixed, &line).map_err(|e| format!("record {number}: {e}"))?;
        let headers: Vec<(&str, Option<&[u8]>)> =
            draft.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len) as u64;
        let record = NewRecord {
            key: draft.key.as_deref(),
            value: draft.value.as_deref(),
            headers: &headers,
            timestamp_ms: draft.timestamp_ms,
            partition: draft.partition,
            // The summary counts bytes by them.
            token: length(&draft.key) + length(&draft.value),
        };
        producer.send(record).await.map_err(|e| format!("record {number}: {e}"))?;
        progress.tick(number, count);
    }
    Ok(())
}

/// What every record gets.
struct Fixed {
    key: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads to the next `end`, which is dropped; `false` at the end of the input.
fn next(input: &mut dyn BufRead, end: u8, line: &mut Vec<u8>) -> Result<bool, String> {
    loop {
        let part = match input.fill_buf() {
            Ok(part) => part,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(format!("cannot read the input: {e}")),
        };
        if part.is_empty() {
            // A last line without its end counts.
            return Ok(!line.is_empty());
        }
        let at = part.iter().position(|b| *b == end);
        line.extend_from_slice(&part[..at.unwrap_or(part.len())]);
        let used = at.map_or(part.len(), |at| at + 1);
        input.consume(used);
        if line.len() > CLI_RECORD_BYTES_MAX {
            return Err(format!("it is longer than {CLI_RECORD_BYTES_MAX} bytes; is the delimiter right?"));
        }
        if at.is_some() {
            return Ok(true);
        }
    }
}

fn read(args: &ProduceArgs, fixed: &Fixed, line: &[u8]) -> Result<Draft, String> {
    let mut draft = if args.format == Format::Json {
        payload::draft(line)?
    } else {
        let (key, value) = match &args.key_delimiter {
            None => (None, line),
            Some(Delimiter(delimiter)) => {
                let at = line.windows(delimiter.len()).position(|w| w == delimiter).ok_or_else(|| {
                    format!("it has no `{}` between key and value", String::from_utf8_lossy(delimiter))
                })?;
                (Some(&line[..at]), &line[at + delimiter.len()..])
            }
        };
        let decoded = |part: &[u8]| payload::decode(args.format, part);
        let value = decoded(value)?;
        Draft { key: key.map(decoded).transpose()?, value: Some(value), ..Default::default() }
    };
    if draft.key.is_none() {
        draft.key.clone_from(&fixed.key);
    }
    draft.headers.extend(fixed.headers.iter().cloned());
    draft.partition = draft.partition.or(args.partition);
    if args.empty_as_null {
        draft.key = draft.key.filter(|key| !key.is_empty());
        draft.value = draft.value.filter(|value| !value.is_empty());
    }
    Ok(draft)
}

/// Shown when somebody watches and it takes long, and not where somebody types.
struct Progress {
    bar: Option<indicatif::ProgressBar>,
    began: Instant,
    wanted: bool,
    next: u64,
}

impl Progress {
    fn new() -> Progress {
        let wanted = io::stderr().is_terminal() && !io::stdin().is_terminal();
        Progress { bar: None, began: Instant::now(), wanted, next: 1000 }
    }

    fn tick(&mut self, read: u64, count: &Count) {
        if !self.wanted || read < self.next {
            return;
        }
        self.next = read + 1000;
        if self.began.elapsed() < Duration::from_secs(1) {
            return;
        }
        let bar = self.bar.get_or_insert_with(indicatif::ProgressBar::new_spinner);
        bar.set_message(format!("{read} records read, {} delivered", count.delivered.load(Ordering::Relaxed)));
        bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn args(line: &[&str]) -> ProduceArgs {
        Line::try_parse_from([&["produce", "t"], line].concat()).unwrap().args
    }

    fn fixed() -> Fixed {
        Fixed { key: None, headers: vec![] }
    }

    #[test]
    fn lines_are_cut_at_their_ends_and_bounded() {
        let mut input: Box<dyn BufRead> = Box::new(BufReader::with_capacity(3, &b"ab\n\nlast one"[..]));
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            if !next(&mut input, b'\n', &mut line).unwrap() {
                break;
            }
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["ab", "", "last one"]);
        let mut endless: Box<dyn BufRead> = Box::new(BufReader::new(io::repeat(b'x')));
        assert!(next(&mut endless, b'\n', &mut Vec::new()).is_err());
    }

    #[test]
    fn keys_values_and_nulls_come_out_of_a_line() {
        let draft = read(&args(&["--key-delimiter", ":"]), &fixed(), b"k:v:w").unwrap();
        assert_eq!((draft.key.as_deref(), draft.value.as_deref()), (Some(&b"k"[..]), Some(&b"v:w"[..])));
        assert!(read(&args(&["--key-delimiter", ":"]), &fixed(), b"no key").is_err());
        let draft = read(&args(&["--empty-as-null", "--key-delimiter", r"\t"]), &fixed(), b"k\t").unwrap();
        assert_eq!((draft.key.as_deref(), draft.value), (Some(&b"k"[..]), None));
        let draft = read(&args(&["--format", "hex", "--key-delimiter", ","]), &fixed(), b"00ff,01").unwrap();
        assert_eq!((draft.key, draft.value), (Some(vec![0, 255]), Some(vec![1])));
        assert!(read(&args(&["--format", "hex"]), &fixed(), b"xyz").is_err());
    }

    #[test]
    fn what_every_record_gets_gives_way_to_its_own() {
        let fixed = Fixed { key: Some(b"f".to_vec()), headers: vec![("h".into(), Some(b"1".to_vec()))] };
        let args = args(&["--format", "json", "--partition", "4"]);
        let draft = read(&args, &fixed, br#"{"key":"own","value":"v","partition":2,"headers":{"a":"b"}}"#).unwrap();
        assert_eq!((draft.key.as_deref(), draft.partition, draft.headers.len()), (Some(&b"own"[..]), Some(2), 2));
        let draft = read(&args, &fixed, br#"{"value":"v"}"#).unwrap();
        assert_eq!((draft.key.as_deref(), draft.partition), (Some(&b"f"[..]), Some(4)));
    }
}
