//! `rampage man`: manual pages from the definition of the command line.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::{self, Cli, UsageError};
use crate::sink::SinkError;

/// Prints a manual page (roff).
pub fn execute(args: &cli::Man) -> anyhow::Result<()> {
    let mut root = Cli::command();
    root.build();
    let command = match &args.command {
        None => root,
        Some(name) => root
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| UsageError::NoSuchCommand { name: name.clone() })?,
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    io::stdout().write_all(&page).map_err(|error| SinkError::writing("standard output", error))?;
    Ok(())
}
