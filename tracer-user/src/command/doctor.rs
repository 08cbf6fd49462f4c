//! doctor.

use crate::cli;

/// Runs the command.
pub fn execute(_args: &cli::Doctor, _verbose: u8) -> anyhow::Result<()> {
    Ok(())
}
