//! `cargo xtask lint`: rustfmt, clippy for the host and for the BPF target, a check for the other
//! architecture, rustdoc. Warnings are errors.

use std::process::Command;

use crate::exec::{Output, exec};
use crate::platform::Arch;
use crate::setup;
use crate::workspace::Workspace;

/// Sets up and runs every check; stops at the first that fails.
pub fn execute(workspace: &Workspace) -> anyhow::Result<()> {
    setup::execute(workspace)?;
    exec(&mut format(workspace), Output::Shown)?;
    exec(&mut clippy_host(workspace), Output::Shown)?;
    exec(&mut clippy_bpf(workspace), Output::Shown)?;
    other_architecture(workspace)?;
    exec(&mut rustdoc(workspace), Output::Shown).map(drop)
}

/// rustfmt, changing nothing.
pub fn format(workspace: &Workspace) -> Command {
    workspace.cargo(["fmt", "--all", "--check"])
}

/// clippy on everything that runs in user space, tests included.
pub fn clippy_host(workspace: &Workspace) -> Command {
    workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// clippy on the kernel programs as the BPF target sees them, in a target folder of its own: other
/// flags, and a `core` of its own. Linking is no part of it.
pub fn clippy_bpf(workspace: &Workspace) -> Command {
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    let endian = if cfg!(target_endian = "big") { "bpfeb" } else { "bpfel" };
    let mut clippy = workspace.cargo(["clippy", "--release", "--package", "tracer-ebpf", "--bins"]);
    clippy
        .args(["-Z", "build-std=core", "--target", &format!("{endian}-unknown-none")])
        .arg("--target-dir")
        .arg(workspace.target.join("ebpf-clippy"))
        .args(["--", "-D", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", arch);
    clippy
}

/// That user space compiles for the architecture that this host is not.
pub fn other_architecture(workspace: &Workspace) -> anyhow::Result<()> {
    let arch = Arch::foreign();
    arch.ensure(workspace)?;
    let mut check = workspace.cargo(["check", "--package", "tracer-user"]);
    arch.target(&mut check);
    exec(&mut check, Output::Shown).map(drop)
}

fn rustdoc(workspace: &Workspace) -> Command {
    let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    doc
}
