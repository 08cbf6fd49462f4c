//! `cargo xtask setup`: checks what the build needs and installs what is missing. Quiet, and only
//! a few file reads, when nothing is.

use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, path::Path};

use crate::exec::{Output, exec};
use crate::toolchain::Rustc;
use crate::workspace::{Workspace, is_root, on_path};
use crate::{debian, linker};

/// Needed to compile C and to link, on every build.
const COMPILER: [&str; 2] = ["gcc", "libc6-dev"];

/// Sets up; the only output is about what had to be installed.
pub fn execute(workspace: &Workspace) -> anyhow::Result<()> {
    let started = Instant::now();
    let rustc = Rustc::probe(workspace)?;
    // A compiler that no package brought (another system, a toolchain of one's own) will do.
    if on_path("cc").is_none() {
        debian::ensure(&COMPILER, "the build")?;
    }
    rustc.ensure_components(workspace)?;
    linker::ensure(workspace, &rustc)?;
    if is_root() {
        mount_tracefs();
    }
    if started.elapsed() > Duration::from_secs(2) {
        eprintln!("setup: done in {:.0?}", started.elapsed());
    }
    Ok(())
}

/// Classic tracepoints need tracefs. Without it rampage still works, with fewer ways to hook: no
/// reason to fail.
fn mount_tracefs() {
    let place = "/sys/kernel/tracing";
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs"))
        || !Path::new(place).exists()
    {
        return;
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "tracefs", "-o", "nosuid,nodev,noexec", "tracefs", place]);
    if let Err(error) = exec(&mut mount, Output::Captured) {
        eprintln!("setup: {error}; going on without tracefs");
    }
}
