//! `cargo xtask build`: the release binary, with the kernel programs inside.

use crate::exec::{Output, exec};
use crate::setup;
use crate::workspace::Workspace;

/// Sets up and builds `target/release/rampage`.
pub fn execute(workspace: &Workspace) -> anyhow::Result<()> {
    setup::execute(workspace)?;
    let mut build = workspace.cargo(["build", "--release", "--package", "tracer-user"]);
    // Explicit, so that the binary is where this program looks for it.
    build.arg("--target-dir").arg(&workspace.target);
    exec(&mut build, Output::Shown).map(drop)
}
