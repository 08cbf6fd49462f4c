//! `rampage completions`: what shells complete the command line with, from its definition.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{self, Cli};
use crate::sink::SinkError;

/// Prints a script for the shell.
pub fn execute(args: &cli::Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rampage", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|error| SinkError::writing("standard output", error))?;
    Ok(())
}
