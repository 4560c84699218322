//! `millstream consume`: prints records of topics of any Kafka cluster.

use super::{
    moment,
    payload::{self, Format},
    remote::{self, Failure, Outcome, Output, Remote, say, topic_partitions},
    template::Template,
};
use crate::client::{
    ClientError, Cluster, Consumer, ConsumerOptions, Fetched, GroupConsumer, GroupOptions, Record, Start,
    offsets::{self, TopicPartition},
};
use clap::{Args, ValueEnum};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::time::Instant;

/// Print records of topics.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// Topics, and which partitions if not all.
    #[arg(required = true, value_name = "TOPIC[:P,P]", value_parser = topic_partitions)]
    topics: Vec<(String, Option<Vec<i32>>)>,
    /// Where to begin: earliest, latest, an offset, -N (N records before the end), @TIME (RFC 3339 or ms since 1970).
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start, allow_hyphen_values = true)]
    from: Start,
    /// Read as a member of this group: the partitions are shared with its other members, --from counts only where the group has committed nothing, and what was printed is committed.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop at the end that each partition has when this begins.
    #[arg(long)]
    end: bool,
    /// How each record is printed: text (the value), json, base64 or hex (of the value), or a template: %k key, %v value, %t topic, %p partition, %o offset, %T timestamp (%I as RFC 3339), %h headers,
    /// with \n, \t, \0 and \xHH, as `%o %k=%v\n`.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = shape)]
    format: Shape,
    /// Records of text, base64, hex and json end with a NUL byte, not a line end.
    #[arg(long)]
    null_delimiter: bool,
    /// Leave out what transactions have not committed.
    #[arg(long)]
    read_committed: bool,
    #[command(flatten)]
    remote: Remote,
    /// `json` is short for --format json.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How a record is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Format(Format),
    Template(Template),
}

fn shape(text: &str) -> Result<Shape, String> {
    match Format::from_str(text, false) {
        Ok(format) => Ok(Shape::Format(format)),
        Err(_) if text.contains(['%', '\\']) => Template::parse(text).map(Shape::Template),
        Err(_) => Err(format!("`{text}` is neither text, json, base64 or hex nor a template, as `%k %v\\n`")),
    }
}

fn start(text: &str) -> Result<Start, String> {
    let wrong = || format!("`{text}` is neither earliest, latest, an offset, -N nor @TIME");
    match text {
        "earliest" | "beginning" => Ok(Start::Earliest),
        "latest" | "end" => Ok(Start::Latest),
        _ => match text.split_at_checked(1) {
            Some(("@", time)) => moment::parse(time).map(Start::Time),
            Some(("-", count)) => count.parse().ok().filter(|n: &i64| *n >= 0).map(Start::BeforeEnd).ok_or_else(wrong),
            _ => text.parse().ok().filter(|n: &i64| *n >= 0).map(Start::Offset).ok_or_else(wrong),
        },
    }
}

/// Runs it; exit code 0 ok (also at the end of the reader of our output, or at Ctrl-C), 2 failure.
pub fn run(args: ConsumeArgs) -> ExitCode {
    remote::run(async || {
        let cluster = args.remote.cluster("millstream-consume").await?;
        match &args.group {
            Some(group) => in_group(&args, &cluster, group).await,
            None => by_hand(&args, &cluster).await,
        }
    })
}

/// Prints records until there were enough.
struct Printer<W> {
    out: W,
    shape: Shape,
    end: u8,
    left: Option<u64>,
    printed: u64,
    line: Vec<u8>,
}

impl<W: Write> Printer<W> {
    fn new(args: &ConsumeArgs, out: W) -> Printer<W> {
        let shape = match args.output {
            Output::Json => Shape::Format(Format::Json),
            Output::Table => args.format.clone(),
        };
        let end = if args.null_delimiter { 0 } else { b'\n' };
        Printer { out, shape, end, left: args.count, printed: 0, line: Vec::new() }
    }

    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    fn print(&mut self, topic: &str, partition: i32, record: &Record) -> io::Result<()> {
        self.line.clear();
        match &self.shape {
            Shape::Template(template) => template.write(topic, partition, record, &mut self.line),
            Shape::Format(Format::Json) => {
                self.line.extend_from_slice(payload::object(topic, partition, record).to_string().as_bytes());
                self.line.push(self.end);
            }
            Shape::Format(format) => {
                payload::encode(*format, record.value.as_deref().unwrap_or_default(), &mut self.line);
                self.line.push(self.end);
            }
        }
        self.out.write_all(&self.line)?;
        self.printed += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Ok(())
    }
}

/// How long a poll waits before it is asked again.
const POLL: Duration = Duration::from_secs(10);
/// Between commits of a group's offsets.
const COMMIT: Duration = Duration::from_secs(1);

async fn by_hand(args: &ConsumeArgs, cluster: &Cluster) -> Outcome {
    let options = ConsumerOptions { read_committed: args.read_committed, ..Default::default() };
    let mut consumer = Consumer::new(cluster, options);
    let mut wanted = Vec::new();
    for (topic, partitions) in &args.topics {
        let facts = cluster.topic(topic).await?;
        let partitions = partitions.clone().unwrap_or_else(|| (0..facts.partitions.len() as i32).collect());
        for partition in partitions {
            facts.partition(partition)?;
            wanted.push((topic.clone(), partition));
        }
    }
    let starts = offsets::offsets(cluster, &wanted, args.from).await?;
    // Where each is to stop.
    let mut ends = match args.end {
        true => offsets::offsets(cluster, &wanted, Start::Latest).await?,
        false => BTreeMap::new(),
    };
    for ((topic, partition), offset) in starts {
        let key = (topic, partition);
        if ends.get(&key).is_some_and(|end| offset >= *end) {
            ends.remove(&key);
        } else {
            consumer.place(&key.0, key.1, offset);
        }
    }
    let mut printer = Printer::new(args, io::BufWriter::with_capacity(64 << 10, io::stdout().lock()));
    let mut gone = std::pin::pin!(remote::reader_gone());
    let mut stop = std::pin::pin!(remote::told_to_stop());
    while !(printer.is_done() || args.end && ends.is_empty()) {
        let fetched = tokio::select! {
            biased;
            () = &mut stop => break,
            () = &mut gone => return Err(Failure::Closed),
            fetched = consumer.poll(POLL) => fetched,
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                printer.out.flush()?;
                return Err(Failure::Sentence(format!("{error} ({} records were printed)", printer.printed)));
            }
        };
        for part in fetched {
            let key = (part.topic.to_string(), part.partition);
            let end = if args.end { ends.get(&key).copied().unwrap_or(0) } else { i64::MAX };
            print_part(&mut printer, &part, end)?;
            if part.next_offset >= end {
                consumer.unassign(&key.0, key.1);
                ends.remove(&key);
            }
        }
        printer.out.flush()?;
    }
    printer.out.flush()?;
    if args.output == Output::Table && io::IsTerminal::is_terminal(&io::stderr()) {
        say(&format!("{} records", printer.printed));
    }
    Ok(true)
}

/// Reads as a member of a group. What was printed and flushed is committed, nothing else; Ctrl-C commits and leaves.
async fn in_group(args: &ConsumeArgs, cluster: &Cluster, group: &str) -> Outcome {
    if let Some((topic, _)) = args.topics.iter().find(|(_, partitions)| partitions.is_some()) {
        let hint = "a group shares partitions out by itself; name the topic without partitions, or leave --group out";
        return Err(Failure::Sentence(format!("partitions of `{topic}` cannot be chosen with --group: {hint}")));
    }
    let topics: Vec<String> = args.topics.iter().map(|(topic, _)| topic.clone()).collect();
    for topic in &topics {
        cluster.topic(topic).await?;
    }
    let mut options = GroupOptions::new(group, topics);
    options.reset = args.from;
    options.consumer.read_committed = args.read_committed;
    options.auto_commit = None;
    let mut consumer = GroupConsumer::new(cluster, options);
    let mut printer = Printer::new(args, io::BufWriter::with_capacity(64 << 10, io::stdout().lock()));
    let printed = print_as_member(args, cluster, &mut consumer, &mut printer).await;
    // Leaves in any case; a reader of our output that is gone makes that quiet.
    let closed = tokio::select! {
        closed = consumer.close() => closed,
        // Told so again while a broker does not answer.
        () = remote::told_to_stop() => Err(ClientError::Ended),
    };
    printed?;
    closed.map_err(|error| {
        Failure::Sentence(format!(
            "{error}; the last of the {} records that were printed may be read again",
            printer.printed
        ))
    })?;
    Ok(true)
}

async fn print_as_member<W: Write>(
    args: &ConsumeArgs,
    cluster: &Cluster,
    consumer: &mut GroupConsumer,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let mut gone = std::pin::pin!(remote::reader_gone());
    let mut stop = std::pin::pin!(remote::told_to_stop());
    let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut assignments = 0;
    let mut committed_at = Instant::now();
    while !printer.is_done() {
        let fetched = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = &mut gone => return Err(Failure::Closed),
            fetched = consumer.poll(COMMIT) => fetched?,
        };
        if args.end && consumer.is_joined() && assignments != consumer.assignments() {
            // Each assignment has ends of its own.
            assignments = consumer.assignments();
            let mine: Vec<TopicPartition> = consumer.positions().map(|(t, p, _)| (t.to_string(), p)).collect();
            ends = offsets::offsets(cluster, &mine, Start::Latest).await?;
        }
        // Until it is printed nothing of it is done with.
        let first = |part: &Fetched| part.records.first().map_or(part.next_offset, |r| r.offset);
        let mut last: BTreeMap<TopicPartition, i64> =
            fetched.iter().map(|part| ((part.topic.to_string(), part.partition), first(part))).collect();
        consumer.give_back(&last);
        for part in &fetched {
            let key = (part.topic.to_string(), part.partition);
            let end = if args.end { ends.get(&key).copied().unwrap_or(i64::MAX) } else { i64::MAX };
            if let Some(behind) = print_part(printer, part, end)? {
                last.insert(key, behind);
            }
        }
        printer.out.flush()?;
        // Only what was printed is done with.
        consumer.give_back(&last);
        if committed_at.elapsed() >= COMMIT {
            committed_at = Instant::now();
            // Where that fails for a rebalance, the next poll joins it, and who has the partitions then reads again what was not committed.
            if let Err(error) = consumer.commit().await
                && !matches!(error, ClientError::Kafka { .. })
            {
                return Err(error.into());
            }
        }
        let at_end = |(topic, partition, at): (&str, i32, i64)| {
            ends.get(&(topic.to_string(), partition)).is_some_and(|end| at >= *end)
        };
        if args.end && consumer.is_joined() && consumer.positions().all(at_end) {
            return Ok(());
        }
    }
    Ok(())
}

/// Prints the records before `end`, as long as more are wanted; gives the offset behind what is done with, `None` where nothing is.
fn print_part<W: Write>(printer: &mut Printer<W>, part: &Fetched, end: i64) -> io::Result<Option<i64>> {
    let mut behind = None;
    for record in &part.records {
        if record.offset >= end || printer.is_done() {
            return Ok(behind);
        }
        printer.print(&part.topic, part.partition, record)?;
        behind = Some(record.offset + 1);
    }
    Ok(Some(part.next_offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read() {
        for (text, wanted) in [
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("17", Start::Offset(17)),
            ("-5", Start::BeforeEnd(5)),
            ("@1000", Start::Time(1000)),
            ("@1970-01-01T00:00:02Z", Start::Time(2000)),
        ] {
            assert_eq!(start(text), Ok(wanted), "{text}");
        }
        for wrong in ["", "-", "@", "x", "--5", "1.5", "@x", "é"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shape_is_a_format_or_a_template() {
        assert_eq!(shape("json"), Ok(Shape::Format(Format::Json)));
        assert!(matches!(shape("%k\\n"), Ok(Shape::Template(_))));
        for wrong in ["", "jason", "%q"] {
            assert!(shape(wrong).is_err(), "{wrong}");
        }
    }
}
