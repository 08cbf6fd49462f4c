//! A folder with a Debian in it, to try packages in: copied from one that is made once, and taken away
//! again however the trial ends. Nothing is mounted in it, and no process stays.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::debian;
use crate::exec::{Output, exec};
use crate::workspace::{Workspace, is_root};

const SUITE: &str = "bookworm";
/// What packaging itself writes, and may keep.
const BOOKKEEPING: [&str; 4] = ["var/lib/dpkg", "var/log", "var/cache", "tmp"];

/// A Debian of one's own.
pub struct Folder(PathBuf);

impl Folder {
    /// A fresh copy. Takes some seconds; the first time, half a minute.
    pub fn new(workspace: &Workspace) -> anyhow::Result<Self> {
        ensure!(is_root(), "to try a package takes root: run `cargo xtask dist --test` as root");
        debian::ensure(&["mmdebstrap"], "trying the package")?;
        let home = workspace.target.join("package");
        let base = base(&home)?;
        let folder = Self(home.join("trial"));
        // Of a run that was killed.
        remove(&folder.0)?;
        let mut copy = Command::new("cp");
        exec(copy.args(["-a", "--reflink=auto"]).args([&base, &folder.0]), Output::Captured)?;
        Ok(folder)
    }

    /// What is at this absolute path of the Debian.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.0.join(inside.trim_start_matches('/'))
    }

    /// Runs a program in it to its end; gives what it prints.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut run = Command::new("chroot");
        run.arg(&self.0).args(args).env_clear();
        run.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        run.env("DEBIAN_FRONTEND", "noninteractive");
        exec(&mut run, Output::Captured)
    }

    /// Everything in it, with rights, owners and sizes, but [`BOOKKEEPING`].
    pub fn list(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        walk(&self.0, &self.0, &mut found)?;
        Ok(found)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            eprintln!("dist: {error:#}");
        }
    }
}

fn base(home: &Path) -> anyhow::Result<PathBuf> {
    let (base, stamp) = (home.join("base"), home.join("base.made"));
    if fs::read_to_string(&stamp).is_ok_and(|suite| suite == SUITE) {
        return Ok(base);
    }
    eprintln!("dist: making a Debian {SUITE} to try packages in (half a minute)");
    remove(&base)?;
    fs::create_dir_all(home).with_context(|| format!("creating {}", home.display()))?;
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--mode=root", "--variant=apt"]);
    make.args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "--aptopt=Acquire::Retries \"3\""]);
    make.arg(SUITE).arg(&base);
    exec(&mut make, Output::Captured).context("making a Debian to try packages in")?;
    fs::write(&stamp, SUITE).with_context(|| stamp.display().to_string())?;
    Ok(base)
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let inside = path.strip_prefix(root)?;
        if BOOKKEEPING.iter().any(|kept| inside.starts_with(kept)) {
            continue;
        }
        let data = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        // A folder's size tells nothing.
        let bytes = if data.is_dir() { 0 } else { data.len() };
        let (mode, uid, gid) = (data.mode(), data.uid(), data.gid());
        found.insert(format!("/{} {mode:o} {uid}:{gid} {bytes}", inside.display()));
        if data.is_dir() {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    let mut remove = Command::new("rm");
    exec(remove.args(["-rf", "--one-file-system"]).arg(folder), Output::Captured).map(drop)
}
