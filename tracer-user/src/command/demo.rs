//! demo.

use crate::cli;

/// Runs the command.
pub fn execute(_args: &cli::Demo, _verbose: u8) -> anyhow::Result<()> {
    Ok(())
}
