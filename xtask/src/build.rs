//! `cargo xtask build`: the release binary, with the kernel programs inside.

use std::process::Command;

use crate::exec::{Output, exec};
use crate::setup;
use crate::workspace::Workspace;

/// Sets up and builds `target/release/rampage`.
pub fn execute(workspace: &Workspace) -> anyhow::Result<()> {
    setup::execute(workspace)?;
    exec(&mut release(workspace), Output::Shown).map(drop)
}

/// The release build. The target folder is explicit, so that the binary is where this program looks
/// for it.
pub fn release(workspace: &Workspace) -> Command {
    with_profile(workspace, "release", "tracer-user")
}

/// The build of a package of ours in one of the profiles of Cargo.toml.
pub fn with_profile(workspace: &Workspace, profile: &str, package: &str) -> Command {
    let mut build = workspace.cargo(["build", "--profile", profile, "--package", package]);
    build.arg("--target-dir").arg(&workspace.target);
    build
}
