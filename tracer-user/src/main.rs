//! The `rampage` binary: reads the command line, runs the command, and turns its failure into one
//! line and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use rampage::cli::Cli;
use rampage::{command, text};
use tracing::Level;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    let Err(error) = command::execute(&cli) else {
        return ExitCode::SUCCESS;
    };
    let code = command::exit_code(&error);
    if code != 0 {
        // Nothing can be said when standard error is gone; the code still tells.
        let _ = writeln!(io::stderr(), "rampage: {}", text::printable(&format!("{error:#}")));
    }
    ExitCode::from(code)
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => Level::WARN,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(verbose > 0)
        .with_ansi(false)
        .without_time()
        .with_writer(io::stderr)
        .init();
}
