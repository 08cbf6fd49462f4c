//! The static binaries, held against what they may be.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use crate::build;
use crate::elf::wants_loader;
use crate::exec::{Output, exec};
use crate::toolchain::Rustc;
use crate::workspace::Workspace;

/// A program that goes out.
pub struct Program {
    name: &'static str,
    package: &'static str,
    /// Largest one that is let out.
    limit_bytes: u64,
}

/// The tracer.
pub const RAMPAGE: Program =
    Program { name: "rampage", package: "tracer-user", limit_bytes: 10 << 20 };
/// The courier, which has HTTP, TLS and gRPC inside.
pub const COURIER: Program =
    Program { name: "rampage-courier", package: "tracer-courier", limit_bytes: 16 << 20 };

/// A program that was built and may go out.
pub struct Built {
    /// Its name.
    pub name: &'static str,
    /// Where cargo put it.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Builds a program with the C library linked in. Naming the target keeps build scripts and macros,
/// which must stay dynamic, out of the flag's reach.
pub fn build(workspace: &Workspace, rustc: &Rustc, program: &Program) -> anyhow::Result<Built> {
    let mut build = build::with_profile(workspace, "dist", &[program.package]);
    build
        .args(["--target", &rustc.host])
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    exec(&mut build, Output::Shown)?;
    let path = folder(workspace, rustc).join(program.name);
    let elf = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let dynamic = wants_loader(&elf).with_context(|| format!("reading {}", path.display()))?;
    ensure!(!dynamic, "{} is linked dynamically", path.display());
    let (bytes, limit) = (elf.len() as u64, program.limit_bytes);
    if bytes > limit {
        bail!("{} has {bytes} bytes, more than the {limit} allowed", path.display());
    }
    Ok(Built { name: program.name, path, bytes })
}

/// Where cargo puts what [`build()`] makes.
pub fn folder(workspace: &Workspace, rustc: &Rustc) -> PathBuf {
    workspace.target.join(&rustc.host).join("dist")
}
