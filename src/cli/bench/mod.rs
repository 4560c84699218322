//! `millstream bench`: what a broker does under a load, against any broker that speaks the protocol.
//!
//! Belongs here: when records are due ([`pace`]), their latencies ([`samples`]), what is told of them ([`report`], [`plot`]), and the runs. Latency counts from when a record was due, not
//! from when it was sent.

mod pace;
mod plot;
mod report;
mod runs;
mod samples;

use crate::{
    Env,
    client::{Acks, Cluster, ClusterOptions, Compression, ProducerOptions, admin},
};
use clap::{Args, Subcommand, ValueEnum};
use pace::Plan;
use report::Report;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

/// Measure a broker.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Publish, and measure from when each record was due to its acknowledgement.
    Produce(Run),
    /// Read a topic as fast as it goes, and measure how long the reader waits each time until records are there. Without TOPIC one is filled first, for as long as the run is to take.
    Consume(Run),
    /// Publish and read, and measure from when each record was due to when a consumer had it.
    E2e(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// The topic; without one a topic is made for the run and deleted after it.
    topic: Option<String>,
    /// Brokers to begin with, HOST:PORT,...
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    bootstrap: String,
    /// Records in all; else --duration ends the run.
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// Seconds in all (10 where neither --records nor this is given).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Records a second; as fast as it goes where it is not given (e2e: 1,000).
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Seconds at the beginning that do not count.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    warm_up: Duration,
    /// Bytes of each record's value, 16 or more.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=64 << 20))]
    record_bytes: u32,
    /// Producers at once (consume: consumers), each with connections of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// Partitions of a topic made for the run.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Replicas of a topic made for the run; the broker's default where it is not given.
    #[arg(long, value_name = "N")]
    replication_factor: Option<i16>,
    /// Settings of a topic made for the run, NAME=VALUE; may be repeated.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = super::serve::name_value)]
    configs: Vec<(String, String)>,
    /// When a record counts as published.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    /// A batch is full at so many bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    batch_bytes: usize,
    /// Longest that a batch waits for more records, ms (5 as fast as it goes, 0 at a rate).
    #[arg(long, value_name = "MS")]
    linger_ms: Option<u64>,
    /// Write each second's histogram to this file, in the HDR log format.
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Draw the latencies into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// A table for people, or one JSON object.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    All,
    #[value(name = "1")]
    Leader,
    #[value(name = "0")]
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionArg {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= Duration::from_secs(7 * 24 * 3600) => Ok(duration),
        _ => Err("0 to 604800 seconds".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number of records a second".to_string())?;
    if (1e-3..=1e8).contains(&rate) { Ok(rate) } else { Err("0.001 to 100000000 records a second".into()) }
}

impl Run {
    fn plan(&self, work: &Work) -> Plan {
        let per_second = match work {
            Work::E2e(_) => Some(self.rate.unwrap_or(1000.0)),
            _ => self.rate,
        };
        let duration = match (self.duration, self.records) {
            (None, None) => Some(Duration::from_secs(10)),
            (given, _) => given,
        };
        Plan { per_second, records: self.records, duration: duration.map(|d| d + self.warm_up) }
    }

    fn producer(&self, plan: &Plan) -> ProducerOptions {
        let linger_ms = self.linger_ms.unwrap_or(if plan.per_second.is_some() { 0 } else { 5 });
        ProducerOptions {
            acks: match self.acks {
                AcksArg::All => Acks::All,
                AcksArg::Leader => Acks::Leader,
                AcksArg::None => Acks::None,
            },
            compression: match self.compression {
                CompressionArg::None => Compression::None,
                CompressionArg::Gzip => Compression::Gzip,
                CompressionArg::Snappy => Compression::Snappy,
                CompressionArg::Lz4 => Compression::Lz4,
                CompressionArg::Zstd => Compression::Zstd,
            },
            batch_bytes: self.batch_bytes,
            linger: Duration::from_millis(linger_ms),
            ..ProducerOptions::default()
        }
    }

    /// What is printed beside the figures.
    fn setup(
        &self,
        topic: &str,
        plan: &Plan,
        options: &ProducerOptions,
        is_producing: bool,
    ) -> Vec<(&'static str, Value)> {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let mut setup = vec![
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("cpus", json!(cpus)),
            ("bootstrap", json!(self.bootstrap)),
            ("topic", json!(topic)),
            ("clients", json!(self.clients)),
        ];
        if is_producing {
            let name = |value: &dyn ValueEnumName| json!(value.name());
            setup.extend([
                ("acks", name(&self.acks)),
                ("compression", name(&self.compression)),
                ("record_bytes", json!(self.record_bytes)),
                ("batch_bytes", json!(options.batch_bytes)),
                ("linger_ms", json!(options.linger.as_millis() as u64)),
                ("rate", plan.per_second.map_or(json!("as fast as it goes"), |rate| json!(rate))),
            ]);
        }
        if !self.warm_up.is_zero() {
            setup.push(("warm_up_s", json!(self.warm_up.as_secs_f64())));
        }
        setup
    }
}

/// The name of a value as it is given on the command line.
trait ValueEnumName {
    fn name(&self) -> String;
}

impl<T: ValueEnum> ValueEnumName for T {
    fn name(&self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }
}

/// Runs it; exit code 0 ok, 1 records were lost or refused, 2 failure.
pub fn run(args: BenchArgs) -> ExitCode {
    let env = Env::real();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&format!("cannot start: {e}")),
    };
    let (Work::Produce(run) | Work::Consume(run) | Work::E2e(run)) = &args.work;
    let started_ms = env.now_ms();
    let measuring: Pin<Box<dyn Future<Output = Result<Report, String>> + '_>> =
        Box::pin(measure(&env, &args.work, run));
    let measured = runtime.block_on(measuring);
    let report = match measured {
        Ok(report) => report,
        Err(sentence) => return failed(&sentence),
    };
    let shown = match run.output {
        Output::Json => writeln!(io::stdout(), "{}", report.json()),
        Output::Table => report.table(&mut io::stdout().lock()),
    };
    // Who reads our output may have seen enough.
    if shown.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::BrokenPipe) {
        return failed("the figures could not be printed");
    }
    if let Err(sentence) = files(run, &report, started_ms) {
        return failed(&sentence);
    }
    if report.failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

fn failed(sentence: &str) -> ExitCode {
    eprintln!("millstream: {sentence}");
    ExitCode::from(2)
}

/// `--hdr` and `--plot`, of the run's first latency.
fn files(run: &Run, report: &Report, started_ms: i64) -> Result<(), String> {
    let Some((name, samples)) = report.latencies.first() else {
        return match run.hdr.is_some() || run.plot.is_some() {
            true => Err(format!("{} measures no latency: nothing was written for --hdr and --plot", report.work)),
            false => Ok(()),
        };
    };
    let write = |path: &PathBuf, write: &dyn Fn(&mut BufWriter<File>) -> io::Result<()>| {
        let file = File::create(path).map(BufWriter::new);
        let written = file.and_then(|mut file| write(&mut file).and_then(|()| file.flush()));
        written.map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    if let Some(path) = &run.hdr {
        write(path, &|file| samples.write_hdr(file, started_ms))?;
    }
    if let Some(path) = &run.plot {
        let title = format!("{}: {name}, {} records", report.work, samples.all().len());
        write(path, &|file| file.write_all(plot::svg(&title, samples).as_bytes()))?;
    }
    Ok(())
}

/// The run itself, over a topic that is made and deleted where none was named. An error is a sentence.
async fn measure(env: &Env, work: &Work, run: &Run) -> Result<Report, String> {
    let plan = run.plan(work);
    let options = run.producer(&plan);
    let cluster = connect(env, run).await?;
    let own = run.topic.is_none();
    let topic = match &run.topic {
        Some(topic) => topic.clone(),
        None => {
            let topic = format!("millstream-bench-{:08x}", env.random_u64() as u32);
            let made =
                admin::create_topic(&cluster, &topic, Some(run.partitions), run.replication_factor, &run.configs);
            made.await.map_err(|e| e.to_string())?;
            topic
        }
    };
    let setup = run.setup(&topic, &plan, &options, !matches!(work, Work::Consume(_)));
    let load = runs::Load {
        env: env.clone(),
        bootstrap: run.bootstrap.clone(),
        topic: topic.clone(),
        plan,
        options,
        warm_up: run.warm_up,
        clients: run.clients,
        record_bytes: run.record_bytes as usize,
        hdr: run.hdr.is_some(),
    };
    let measuring = async {
        match work {
            Work::Produce(_) => runs::produce(&load).await,
            Work::Consume(_) => runs::consume(&load, &cluster, own).await,
            Work::E2e(_) => runs::e2e(&load, &cluster).await,
        }
    };
    let measured = tokio::select! {
        measured = measuring => measured,
        _ = tokio::signal::ctrl_c() => Err("stopped by a signal; no figures".to_string()),
    };
    if own {
        admin::delete_topic(&cluster, &topic).await.map_err(|e| e.to_string())?;
    }
    measured.map(|report| Report { setup, ..report })
}

async fn connect(env: &Env, run: &Run) -> Result<Cluster, String> {
    let options = ClusterOptions::parse(&run.bootstrap).map_err(|e| e.to_string())?;
    Cluster::connect(env, options).await.map_err(|e| e.to_string())
}
