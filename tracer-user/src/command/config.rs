//! `rampage config`.

use crate::cli::ConfigArgs;

/// Under way.
pub fn execute(args: &ConfigArgs) -> anyhow::Result<()> {
    anyhow::bail!("{args:?}")
}
