//! The `rampage` binary: reads the command line, runs the command, and turns its failure into lines
//! and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use rampage::cli::{Cli, Command};
use rampage::command;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose, matches!(cli.command, Command::Serve(_)));
    let Err(error) = command::execute(&cli) else {
        return ExitCode::SUCCESS;
    };
    let code = command::exit_code(&error);
    if code != 0 {
        for line in command::lines(&error) {
            // Nothing can be said when standard error is gone; the code still tells.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
    ExitCode::from(code)
}

/// `-v` shows what rampage and its kernel programs do, `-vv` what the libraries do as well. A service
/// tells of its own doings, too.
fn log_to_stderr(verbose: u8, is_service: bool) {
    let (own, others) = match verbose {
        0 if is_service => (Level::INFO, Level::WARN),
        0 => (Level::WARN, Level::WARN),
        1 => (Level::DEBUG, Level::WARN),
        _ => (Level::TRACE, Level::DEBUG),
    };
    let levels = Targets::new()
        .with_default(others)
        .with_target("rampage", own)
        .with_target("tracer_ebpf", own);
    let lines = fmt::layer()
        .with_target(verbose > 0)
        .with_ansi(false)
        .without_time()
        .with_writer(io::stderr);
    tracing_subscriber::registry().with(levels).with(lines).init();
}
