//! `cargo xtask build`: the release binaries, with the kernel programs inside.

use std::process::Command;

use crate::exec::{Output, exec};
use crate::setup;
use crate::workspace::Workspace;

/// Sets up and builds `target/release/rampage`, and with it `rampage-courier`, which only `rampage serve`
/// needs, where it is wanted.
pub fn execute(workspace: &Workspace, courier: Courier) -> anyhow::Result<()> {
    setup::execute(workspace)?;
    exec(&mut release(workspace, courier), Output::Shown).map(drop)
}

/// Whether `rampage-courier` is built, too: it brings TLS, HTTP and gRPC, which take longer than the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Courier {
    Wanted,
    LeftOut,
}

/// The release build. The target folder is explicit, so that the binaries are where this program looks
/// for them.
pub fn release(workspace: &Workspace, courier: Courier) -> Command {
    let packages: &[&str] = match courier {
        Courier::Wanted => &["tracer-user", "tracer-courier"],
        Courier::LeftOut => &["tracer-user"],
    };
    with_profile(workspace, "release", packages)
}

/// The build of packages of ours in one of the profiles of Cargo.toml.
pub fn with_profile(workspace: &Workspace, profile: &str, packages: &[&str]) -> Command {
    let mut build = workspace.cargo(["build", "--profile", profile]);
    for package in packages {
        build.args(["--package", package]);
    }
    build.arg("--target-dir").arg(&workspace.target);
    build
}
