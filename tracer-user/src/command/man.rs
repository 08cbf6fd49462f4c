//! `rampage man`: manual pages from the definition of the command line, and that of the settings file.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::{self, Cli, UsageError};
use crate::settings;
use crate::sink::SinkError;

/// The page of the settings file.
const SETTINGS: &str = "rampage.toml";

/// Prints a manual page (roff).
pub fn execute(args: &cli::Man) -> anyhow::Result<()> {
    if args.command.as_deref() == Some(SETTINGS) {
        return print(settings::manual().as_bytes());
    }
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
    print(&page)
}

fn print(page: &[u8]) -> anyhow::Result<()> {
    io::stdout().write_all(page).map_err(|error| SinkError::writing("standard output", error))?;
    Ok(())
}
