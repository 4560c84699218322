//! What the commands that talk to a broker share: where it is, how the answer is printed, what a failure says, the exit code.

use crate::{
    Env,
    client::{ClientError, Cluster, ClusterOptions},
};
use clap::{Args, ValueEnum};
use std::{
    io::{self, Write},
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

/// Where the cluster is.
#[derive(Debug, Clone, Args)]
pub(super) struct Remote {
    /// Brokers to begin with; several with commas between.
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092", global = true)]
    bootstrap: String,
    /// Longest wait for an answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, global = true, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

impl Remote {
    /// Connects.
    pub(super) async fn cluster(&self, client_id: &str) -> Result<Cluster, Failure> {
        let mut options = ClusterOptions::parse(&self.bootstrap)?;
        options.client_id = client_id.to_string();
        options.timeout = Duration::from_secs(self.timeout);
        Cluster::connect(&Env::real(), options).await.map_err(|error| match error {
            ClientError::Connect { .. } => Failure::Sentence(format!("{error} (--bootstrap says where to look)")),
            error => error.into(),
        })
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// Who reads our output has seen enough (`| head`): the end, and a quiet one.
    Closed,
    /// The answer is no: what was named is not there.
    No(String),
    /// What failed, on what, and what to try.
    Sentence(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let unknown = Some(kafka_protocol::ResponseError::UnknownTopicOrPartition);
        match matches!(error, ClientError::UnknownTopic(_)) || error.code() == unknown {
            true => Failure::No(error.to_string()),
            false => Failure::Sentence(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    /// Of writing the output.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Sentence(format!("cannot write the output: {error}")),
        }
    }
}

/// Whether the answer is positive, or why there is none.
pub(super) type Outcome = Result<bool, Failure>;

/// Runs a command: exit code 0 ok, 1 negative answer, 2 failure.
pub(super) fn run(command: impl AsyncFnOnce() -> Outcome) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&format!("cannot start the runtime: {e}")),
    };
    // Boxed: else each of the runtime's ways to wait has a copy of the whole command in the program.
    let command: Pin<Box<dyn Future<Output = Outcome>>> = Box::pin(command());
    let outcome = runtime.block_on(command);
    // A thread that still reads stdin must not hold the end up.
    runtime.shutdown_background();
    match outcome {
        Ok(true) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::No(sentence)) => {
            say(&sentence);
            ExitCode::from(1)
        }
        Err(Failure::Sentence(sentence)) => failed(&sentence),
    }
}

fn failed(sentence: &str) -> ExitCode {
    say(sentence);
    ExitCode::from(2)
}

/// Words for a person, on stderr; nobody may be listening.
pub(super) fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "millstream: {sentence}");
}

/// Done when nobody can read our output any more (`| head` had enough); never where that cannot be seen.
pub(super) async fn reader_gone() {
    use std::os::fd::AsFd;
    use tokio::io::{Interest, unix::AsyncFd};
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    // A file cannot be watched, and has no reader.
    // Deprecated for types whose descriptor may change under it; an `OwnedFd` keeps its own, and the successor is unsafe.
    #[allow(deprecated)]
    let watched = stdout.and_then(|fd| AsyncFd::with_interest(fd, Interest::ERROR));
    match watched {
        Ok(fd) => {
            if fd.ready(Interest::ERROR).await.is_err() {
                std::future::pending().await
            }
        }
        Err(_) => std::future::pending().await,
    }
}

/// Done at Ctrl-C, or when the system asks the process to end.
pub(super) async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A table without lines, its columns as wide as they need to be.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    use comfy_table::{ContentArrangement, Table, presets};
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// A value, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

/// `NAME[:P,P,…]` → the name, and the partitions if it names some. Names of topics have no colon.
pub(super) fn topic_partitions(text: &str) -> Result<(String, Option<Vec<i32>>), String> {
    let Some((topic, partitions)) = text.split_once(':') else {
        return match text.is_empty() {
            true => Err("a topic's name is missing".into()),
            false => Ok((text.to_string(), None)),
        };
    };
    let number = |p: &str| {
        p.trim().parse::<i32>().ok().filter(|p| *p >= 0).ok_or_else(|| format!("`{p}` in `{text}` is no partition"))
    };
    let partitions = partitions.split(',').map(number).collect::<Result<Vec<i32>, String>>()?;
    match topic.is_empty() {
        true => Err(format!("`{text}` names no topic; give TOPIC or TOPIC:PARTITION")),
        false => Ok((topic.to_string(), Some(partitions))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_with_or_without_partitions() {
        assert_eq!(topic_partitions("a"), Ok(("a".into(), None)));
        assert_eq!(topic_partitions("a:0,2"), Ok(("a".into(), Some(vec![0, 2]))));
        for wrong in ["", ":1", "a:", "a:x", "a:-1", "a:1,"] {
            assert!(topic_partitions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_is_as_wide_as_it_needs_to_be() {
        let text = table(&["A", "LONGER"], vec![vec!["x".repeat(300), "1".into()], vec!["y".into(), "2".into()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], format!("{}  1", "x".repeat(300)));
        assert_eq!(lines[2], format!("y{}  2", " ".repeat(299)));
    }
}
