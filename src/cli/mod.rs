//! Arguments, subcommands, output, exit code. Imported by `main` only.

/// Runs the program; exit code 0 ok, 1 negative answer, 2 failure.
pub fn main() -> std::process::ExitCode {
    todo!()
}
