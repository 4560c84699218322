//! Arguments, subcommands, output, exit code. Imported by `main` only.
//!
//! Data goes to stdout, words to stderr. Exit code 0 ok, 1 negative answer, 2 failure.

mod bench;
mod config;
mod log;
mod serve;

use clap::{Parser, Subcommand};
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
    /// Print every setting, its value, source and meaning.
    Config(config::ConfigArgs),
    /// Look at the files of a log.
    Log(log::LogArgs),
    /// Measure a broker: throughput and latency, published, consumed, end to end.
    Bench(bench::BenchArgs),
}

/// Runs the program; exit code 0 ok, 1 negative answer, 2 failure.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Config(args) => config::run(args),
        Command::Log(args) => log::run(args),
        Command::Bench(args) => bench::run(args),
    }
}
