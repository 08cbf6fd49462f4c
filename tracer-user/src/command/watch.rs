//! watch.

use crate::cli;

/// Runs the command.
pub fn execute(_args: &cli::Watch, _verbose: u8) -> anyhow::Result<()> {
    Ok(())
}
