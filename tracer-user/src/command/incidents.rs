//! `rampage incidents`.

use crate::cli::Incidents;

/// Under way.
pub fn execute(args: &Incidents) -> anyhow::Result<()> {
    anyhow::bail!("{args:?}")
}
