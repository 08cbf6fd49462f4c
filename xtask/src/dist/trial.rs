//! The life of the package in a Debian: installed, upgraded, removed, purged, and nothing left.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::deb::{Recipe, VERSION};
use super::folder::Folder;
use crate::workspace::Workspace;

/// Higher than any that goes out.
const NEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "-2~trial");

const BINARY: &str = "/usr/bin/rampage";
const SETTINGS: &str = "/etc/rampage/rampage.toml";
const STATE: &str = "/var/lib/rampage";
/// Made when the service is enabled.
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/rampage.service";

/// What the package must bring.
const FILES: [&str; 14] = [
    BINARY,
    SETTINGS,
    "/usr/lib/rampage/rampage-courier",
    "/usr/lib/systemd/system/rampage.service",
    "/usr/share/man/man1/rampage.1.gz",
    "/usr/share/man/man1/rampage-serve.1.gz",
    "/usr/share/man/man1/rampage-watch.1.gz",
    "/usr/share/man/man5/rampage.toml.5.gz",
    "/usr/share/bash-completion/completions/rampage",
    "/usr/share/zsh/vendor-completions/_rampage",
    "/usr/share/fish/vendor_completions.d/rampage.fish",
    "/usr/share/doc/rampage/copyright",
    "/usr/share/doc/rampage/changelog.Debian.gz",
    "/usr/share/doc/rampage/examples/prometheus/rampage.rules.yml",
];

/// Installs `deb`, a higher version over it, removes and purges it.
pub fn run(workspace: &Workspace, recipe: &Recipe, deb: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let next = recipe.make(NEXT)?;
    let debian = Folder::new(workspace)?;
    let tried = life(&debian, deb, &next);
    fs::remove_file(&next).with_context(|| format!("removing {}", next.display()))?;
    tried?;
    println!(
        "package: installed, upgraded, removed and purged in a Debian folder, nothing left; {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn life(debian: &Folder, deb: &Path, next: &Path) -> anyhow::Result<()> {
    let before = debian.list()?;

    install(debian, deb, VERSION).context("installing")?;
    for file in FILES {
        ensure!(debian.path(file).is_file(), "the package brings no {file}");
    }
    ensure!(is_link(debian, WANTED), "the service is not enabled");
    let said = debian.run(&[BINARY, "--version"])?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "`rampage --version` says {said}");
    debian.run(&[BINARY, "config", "check"]).context("the sample of the settings")?;

    // As the administrator and the service would.
    let mine = fs::read_to_string(debian.path(SETTINGS))? + "\n# Changed here.\n";
    fs::write(debian.path(SETTINGS), &mine)?;
    fs::create_dir_all(debian.path(STATE).join("segments"))?;
    fs::write(debian.path(STATE).join("segments/1.jsonl.zst"), "a trace")?;
    let kept = |when: &str| -> anyhow::Result<()> {
        let settings = fs::read_to_string(debian.path(SETTINGS)).context("the settings")?;
        ensure!(settings == mine, "{when} changed the settings");
        ensure!(debian.path(STATE).join("segments/1.jsonl.zst").is_file(), "{when} took traces");
        Ok(())
    };

    install(debian, next, NEXT).context("upgrading")?;
    kept("the upgrade")?;
    ensure!(is_link(debian, WANTED), "the upgrade disabled the service");
    debian.run(&[BINARY, "config", "check"])?;

    debian.run(&["dpkg", "--remove", "rampage"]).context("removing")?;
    kept("the removal")?;
    ensure!(!debian.path(BINARY).exists(), "the removal left {BINARY}");

    debian.run(&["dpkg", "--purge", "rampage"]).context("purging")?;
    let after = debian.list()?;
    let changed: Vec<&str> = before.symmetric_difference(&after).map(String::as_str).collect();
    ensure!(changed.is_empty(), "the purged package left a change:\n{}", changed.join("\n"));
    Ok(())
}

fn install(debian: &Folder, deb: &Path, version: &str) -> anyhow::Result<()> {
    let inside = "/tmp/rampage.deb";
    fs::copy(deb, debian.path(inside)).with_context(|| format!("copying {}", deb.display()))?;
    debian.run(&["dpkg", "--install", inside])?;
    let installed = debian.run(&["dpkg-query", "--show", "--showformat=${Version}", "rampage"])?;
    ensure!(installed == version, "installed is {installed}, not {version}");
    Ok(())
}

/// Its target is known in the Debian only.
fn is_link(debian: &Folder, path: &str) -> bool {
    fs::symlink_metadata(debian.path(path)).is_ok_and(|data| data.is_symlink())
}
