//! Arguments, subcommands, output, exit code. Imported by `main` only.
//!
//! Data goes to stdout, words to stderr. Exit code 0 ok, 1 negative answer, 2 failure.

mod bench;
mod config;
mod consume;
mod group;
mod log;
mod moment;
mod payload;
mod produce;
mod remote;
mod serve;
mod template;
mod topic;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// A persistent message queue broker that speaks the Kafka wire protocol.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker.
    Serve(serve::ServeArgs),
    /// Look at and change topics of a cluster.
    Topic(topic::TopicArgs),
    /// Look at and change consumer groups of a cluster.
    Group(group::GroupArgs),
    /// Send records to a topic: a line each, from stdin or a file.
    Produce(produce::ProduceArgs),
    /// Print records of topics.
    Consume(consume::ConsumeArgs),
    /// Print every setting, its value, source and meaning.
    Config(config::ConfigArgs),
    /// Look at the files of a log.
    Log(log::LogArgs),
    /// Measure a broker: throughput and latency, published, consumed, end to end.
    Bench(bench::BenchArgs),
    /// Print what makes a shell complete these commands.
    Completions(Completions),
}

/// For which shell.
#[derive(Debug, clap::Args)]
struct Completions {
    /// As: `millstream completions bash > ~/.local/share/bash-completion/completions/millstream`.
    shell: clap_complete::Shell,
}

/// Runs the program; exit code 0 ok, 1 negative answer, 2 failure.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Topic(args) => topic::run(args),
        Command::Group(args) => group::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Config(args) => config::run(args),
        Command::Log(args) => log::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Arguments::command(), "millstream", &mut script);
            // Who reads our output may have seen enough.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and conflicts of arguments that contradict each other show here, not in somebody's shell.
    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    /// Every command and every long option of it, but those that all have.
    fn options(command: &clap::Command, path: &str, out: &mut Vec<(String, String)>) {
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            options(sub, format!("{path} {}", sub.get_name()).trim(), out);
        }
        if !command.has_subcommands() {
            out.push((path.to_string(), path.to_string()));
            let longs = command.get_arguments().filter_map(|a| a.get_long());
            out.extend(longs.map(|long| (path.to_string(), format!("--{long}"))));
        }
    }

    #[test]
    fn every_option_is_in_the_page() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).unwrap();
        let mut all = Vec::new();
        for name in ["topic", "group", "produce", "consume"] {
            let command = Arguments::command();
            options(command.find_subcommand(name).unwrap(), name, &mut all);
        }
        assert!(all.len() > 40, "{all:?}");
        let missing: Vec<_> = all.iter().filter(|(_, text)| !page.contains(text.as_str())).collect();
        assert!(missing.is_empty(), "not in docs/cli.md: {missing:?}");
    }
}
