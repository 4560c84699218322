//! `millstream serve`: runs a broker until it is told to stop.

use crate::{Config, Env, Node};
use clap::Args;
use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How to run a broker.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where the data lives; made when absent [default: log.dirs, else ./data].
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    data_dir: Option<PathBuf>,
    /// Address of the Kafka listener; port 0 takes any free one; may be repeated as NAME://HOST:PORT for several [default: listeners, else 127.0.0.1:9092].
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Vec<String>,
    /// Address of the HTTP listener; port 0 takes any free one [default: millstream.http, else 127.0.0.1:9080].
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Settings file, `key=value` lines as in Kafka's server.properties.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; may be repeated; wins over file and environment.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_value)]
    sets: Vec<(String, String)>,
    /// Use a throw-away data directory, removed at the end.
    #[arg(long)]
    ephemeral: bool,
    /// Longest graceful stop, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    stop_timeout: u64,
    /// Log lines to stderr as text or JSON.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
}

/// `NAME=VALUE` apart.
pub(super) fn name_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Runs the broker; returns when it was stopped (0), could not start or could not go on (2).
pub fn run(args: ServeArgs) -> ExitCode {
    logging(&args.log_format);
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("millstream: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn logging(format: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MILLSTREAM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=warn"));
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process (a test) is refused; the first stays.
    let _ = if format == "json" { base.json().try_init() } else { base.with_ansi(false).try_init() };
}

impl ServeArgs {
    /// The configuration that file, environment and arguments give now.
    fn load(&self, data_dir: Option<PathBuf>) -> Result<Config, String> {
        let read =
            |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
        let file = self.config.as_ref().map(read).transpose()?;
        let environment: Vec<(String, String)> =
            std::env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_") && name != "MILLSTREAM_LOG").collect();
        let http = self.http.as_deref();
        let mut config = Config::load(data_dir, &self.kafka, http, file.as_deref(), &environment, &self.sets)?;
        config.stop_timeout_ms = self.stop_timeout.saturating_mul(1000);
        Ok(config)
    }
}

fn serve(args: ServeArgs) -> Result<(), String> {
    let throw_away = match args.ephemeral {
        true => Some(
            tempfile::Builder::new()
                .prefix("millstream-")
                .tempdir()
                .map_err(|e| format!("no throw-away directory: {e}"))?,
        ),
        false => None,
    };
    if let Some(directory) = &throw_away {
        tracing::info!(directory = %directory.path().display(), "throw-away data directory");
    }
    let data_dir = throw_away.as_ref().map_or(args.data_dir.clone(), |d| Some(d.path().to_owned()));
    let config = args.load(data_dir.clone())?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, |n| n.get()))
        .max_blocking_threads(8)
        .thread_name("millstream")
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start the runtime: {e}"))?;
    let result = runtime.block_on(Box::pin(until_stopped(config, || args.load(data_dir.clone()))));
    // Blocking work that is still running after a stop that timed out must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn until_stopped(config: Config, again: impl Fn() -> Result<Config, String>) -> Result<(), String> {
    // Handlers come first: a signal while starting must not kill the process half way through its first writes unseen.
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| format!("cannot take SIGTERM: {e}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| format!("cannot take SIGINT: {e}"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(|e| format!("cannot take SIGHUP: {e}"))?;
    let stop_timeout = Duration::from_millis(config.stop_timeout_ms);
    let node = tokio::select! {
        biased;
        node = Node::start(config, Env::real()) => node?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    // Whoever started it may not listen (any more).
    let mut out = std::io::stdout();
    let further: String =
        node.listeners()[1..].iter().map(|(name, address)| format!(" kafka.{name}={address}")).collect();
    let _ = writeln!(out, "ready kafka={} http={}{further}", node.kafka(), node.http()).and_then(|()| out.flush());
    let died = loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            reason = node.died() => break Some(reason),
            _ = hang_up.recv() => match again() {
                Ok(new) => node.reload(&new),
                Err(e) => tracing::error!(error = e, "settings were not read anew: all stay as they were"),
            },
        }
    };
    tracing::info!("stopping");
    let result = match died {
        Some(reason) => Err(format!("stopped, since {reason}; the next start recovers")),
        None => Ok(()),
    };
    tokio::select! {
        biased;
        () = node.stop() => result,
        _ = terminate.recv() => Err("stopped at once by a second signal; the next start recovers".into()),
        _ = interrupt.recv() => Err("stopped at once by a second signal; the next start recovers".into()),
        () = tokio::time::sleep(stop_timeout + Duration::from_secs(5)) => Err(format!("not stopped within {} s; the next start recovers", stop_timeout.as_secs())),
    }
}
