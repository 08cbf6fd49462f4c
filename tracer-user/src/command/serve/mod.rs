//! `rampage serve`: the pipeline for months.

use crate::cli::Serve;

/// Under way.
pub fn execute(args: &Serve, verbose: u8) -> anyhow::Result<()> {
    anyhow::bail!("{args:?} {verbose}")
}
