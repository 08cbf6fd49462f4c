//! The container image: built by its recipe from what goes out, run, and taken away again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::debian;
use crate::exec::{Output, exec};
use crate::workspace::Workspace;

const RECIPE: &str = "packaging/container/Containerfile";
const IMAGE: &str = "rampage-trial";
const RAMPAGE: &str = "/usr/bin/rampage";
const COURIER: &str = "/usr/lib/rampage/rampage-courier";
/// What the recipe tells to give it; CAP_SYS_RESOURCE can only be given by who has it.
const CAPABILITIES: [&str; 5] =
    ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_IPC_LOCK"];

/// Builds the image from `dist`, and has it trace this host.
pub fn run(workspace: &Workspace, dist: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    debian::ensure(&["buildah"], "trying the container image")?;
    let store = Store::new(workspace)?;
    exec(
        store
            .buildah(&["build", "--isolation", "chroot", "--tag", IMAGE, "--file"])
            .arg(workspace.root.join(RECIPE))
            .arg(dist),
        Output::Captured,
    )
    .context("building the image")?;
    // The profile of Debian's buildah is one that forbids bpf: see the recipe.
    let container = exec(
        &mut store.buildah(&["from", "--security-opt", "seccomp=unconfined", IMAGE]),
        Output::Captured,
    )?;
    let container = container.trim();
    let inside = |args: &[&str]| {
        let mut run = store.buildah(&["run", "--isolation", "chroot"]);
        run.args(CAPABILITIES.map(|name| format!("--cap-add={name}")))
            .arg(container)
            .arg("--")
            .args(args);
        exec(&mut run, Output::Captured)
    };
    let said = inside(&[RAMPAGE, "--version"])?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "`rampage --version` says {said}");
    let said = inside(&[RAMPAGE, "doctor"])?;
    let hook = said.lines().find(|line| line.starts_with("oom/mark_victim")).unwrap_or_default();
    ensure!(hook.contains("attached"), "in the image nothing is attached:\n{said}");
    let refused = inside(&[COURIER]).err().map(|error| format!("{error:#}")).unwrap_or_default();
    // Nobody but the tracer has the other end of its socket: it runs, and says so.
    ensure!(refused.contains("rampage-courier: "), "the courier says {refused}");
    println!("image: built, and traces from inside; {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Images and containers of one's own, gone at the end.
struct Store(PathBuf);

impl Store {
    fn new(workspace: &Workspace) -> anyhow::Result<Self> {
        let home = workspace.target.join("package/image");
        super::remove(&home)?;
        fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        Ok(Self(home))
    }

    /// Plain folders: nothing is mounted that would outlive a trial that is killed.
    fn buildah(&self, args: &[&str]) -> Command {
        let mut buildah = Command::new("buildah");
        buildah
            .arg("--root")
            .arg(self.0.join("images"))
            .arg("--runroot")
            .arg(self.0.join("running"));
        buildah.args(["--storage-driver", "vfs"]).args(args);
        buildah
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = super::remove(&self.0) {
            eprintln!("dist: {error:#}");
        }
    }
}
