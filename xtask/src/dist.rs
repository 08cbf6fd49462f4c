//! `cargo xtask dist`: `target/dist`, all that a host needs: one stripped static binary and its
//! manual pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::elf::wants_loader;
use crate::exec::{Output, exec};
use crate::toolchain::Rustc;
use crate::workspace::Workspace;
use crate::{build, setup};

/// Largest binary that is let out.
const LIMIT_BYTES: u64 = 10 << 20;

/// Builds, checks and lays out `target/dist`, replacing what was there.
pub fn execute(workspace: &Workspace) -> anyhow::Result<()> {
    setup::execute(workspace)?;
    let built = static_binary(workspace)?;
    let elf = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let dynamic = wants_loader(&elf).with_context(|| format!("reading {}", built.display()))?;
    ensure!(!dynamic, "{} is linked dynamically", built.display());
    let bytes = elf.len() as u64;
    if bytes > LIMIT_BYTES {
        bail!("{} has {bytes} bytes, more than the {LIMIT_BYTES} allowed", built.display());
    }

    let dist = workspace.target.join("dist");
    let scratch = workspace.target.join("dist.new");
    remove(&scratch)?;
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let binary = scratch.join("rampage");
    fs::copy(&built, &binary).with_context(|| format!("writing {}", binary.display()))?;
    let pages = manual(&binary, &scratch)?;
    remove(&dist)?;
    fs::rename(&scratch, &dist).with_context(|| format!("creating {}", dist.display()))?;

    let mebibytes = bytes as f64 / f64::from(1 << 20);
    println!("{}: {mebibytes:.2} MiB, static, stripped", dist.join("rampage").display());
    println!("{}: {} manual pages", dist.display(), pages.len());
    Ok(())
}

/// Links the C library in. Naming the target keeps build scripts and macros, which must stay
/// dynamic, out of the flag's reach.
fn static_binary(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let rustc = Rustc::probe(workspace)?;
    let mut build = build::with_profile(workspace, "dist");
    build
        .args(["--target", &rustc.host])
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    exec(&mut build, Output::Shown)?;
    Ok(workspace.target.join(&rustc.host).join("dist/rampage"))
}

/// Writes rampage.1 and a page for each command that it names; gives their file names.
fn manual(binary: &Path, folder: &Path) -> anyhow::Result<Vec<String>> {
    let page = |command: Option<&str>| -> anyhow::Result<String> {
        let text = exec(Command::new(binary).arg("man").args(command), Output::Captured)?;
        ensure!(text.contains(".TH"), "`rampage man` gives no manual page");
        Ok(text)
    };
    let main = page(None)?;
    let mut names = vec!["rampage.1".to_owned()];
    fs::write(folder.join(&names[0]), &main).context("writing rampage.1")?;
    for command in commands(&main) {
        let name = format!("rampage-{command}.1");
        fs::write(folder.join(&name), page(Some(&command))?)
            .with_context(|| format!("writing {name}"))?;
        names.push(name);
    }
    ensure!(names.len() > 1, "rampage.1 names no command");
    Ok(names)
}

/// The commands in the main page's list: lines like `rampage\-watch(1)`.
fn commands(page: &str) -> Vec<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix(r"rampage\-")?.strip_suffix("(1)"))
        .filter(|name| *name != "help")
        .map(|name| name.replace(r"\-", "-"))
        .collect()
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_the_page() {
        let page = ".SH SUBCOMMANDS\n.TP\nrampage\\-watch(1)\nWatch live\n.TP\n\
                    rampage\\-help(1)\nPrint this\n.TP\nrampage\\-two\\-words(1)\n";
        assert_eq!(commands(page), ["watch", "two-words"]);
    }
}
