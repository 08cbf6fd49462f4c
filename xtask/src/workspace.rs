//! Where things are: the workspace, its target folder, the cargo that runs us, and who we are.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, bail};

/// Paths of this checkout, found without asking cargo (which would take longer than all of set-up).
pub struct Workspace {
    /// The folder of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// The target folder that cargo uses.
    pub target: PathBuf,
    cargo: PathBuf,
}

impl Workspace {
    /// From what `cargo run` tells; an error when not started by cargo.
    pub fn find() -> anyhow::Result<Self> {
        let (Some(manifest), Some(cargo)) =
            (env::var_os("CARGO_MANIFEST_DIR"), env::var_os("CARGO"))
        else {
            bail!("start this as `cargo xtask`, from any folder of the workspace");
        };
        let root = Path::new(&manifest).parent().context("xtask lies outside of a workspace")?;
        let myself = env::current_exe().context("finding this program")?;
        let target = target_of(&myself)
            .with_context(|| format!("{} is in no target folder of cargo", myself.display()))?;
        Ok(Self { root: root.to_owned(), target: target.to_owned(), cargo: cargo.into() })
    }

    /// A cargo command to be run in the workspace's root.
    pub fn cargo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root).args(args);
        command
    }

    /// The rustc that belongs to that cargo: asking it directly saves the way through rustup.
    pub fn rustc(&self) -> PathBuf {
        let sibling = self.cargo.with_file_name("rustc");
        if sibling.is_file() { sibling } else { "rustc".into() }
    }

    /// `target/tools`, where set-up installs programs.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The release binary.
    pub fn rampage(&self) -> PathBuf {
        self.target.join("release/rampage")
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// `program` as root: directly, or through sudo with the environment kept.
pub fn as_root(program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if on_path("sudo").is_none() {
        bail!(
            "`{}` needs root and there is no sudo: run the same command as root",
            program.as_ref().display()
        );
    }
    let mut command = Command::new("sudo");
    command.arg("-E").arg("--").arg(program);
    Ok(command)
}

/// Where PATH has a program of this name.
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// cargo marks its target folder with CACHEDIR.TAG when it makes it. In one that was there before,
/// it is the folder above that of the profile, which holds the fingerprints.
fn target_of(program: &Path) -> Option<&Path> {
    let above = || program.ancestors().skip(1);
    above().find(|folder| folder.join("CACHEDIR.TAG").is_file()).or_else(|| {
        above().find(|folder| folder.join(".fingerprint").is_dir()).and_then(Path::parent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_runs_from_the_target_folder() {
        let myself = env::current_exe().unwrap();
        let target = target_of(&myself).unwrap();
        assert!(myself.starts_with(target));
        assert!(target.join("debug").is_dir() || target.join("release").is_dir());
        assert_eq!(target_of(Path::new("/proc/self/exe")), None);
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(on_path("sh").is_some_and(|sh| sh.ends_with("sh")));
        assert_eq!(on_path("no-program-has-this-name"), None);
    }
}
