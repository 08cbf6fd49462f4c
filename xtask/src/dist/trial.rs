//! The life of the package in a Debian: installed, upgraded, removed, purged, and nothing left.

use std::fs;
use std::os::unix::fs::MetadataExt;
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

/// What the package must bring, with its rights; all of it is root:root.
const FILES: [(&str, u32); 14] = [
    (BINARY, 0o755),
    // It may hold tokens.
    (SETTINGS, 0o640),
    ("/usr/lib/rampage/rampage-courier", 0o755),
    ("/usr/lib/systemd/system/rampage.service", 0o644),
    ("/usr/share/man/man1/rampage.1.gz", 0o644),
    ("/usr/share/man/man1/rampage-serve.1.gz", 0o644),
    ("/usr/share/man/man1/rampage-watch.1.gz", 0o644),
    ("/usr/share/man/man5/rampage.toml.5.gz", 0o644),
    ("/usr/share/bash-completion/completions/rampage", 0o644),
    ("/usr/share/zsh/vendor-completions/_rampage", 0o644),
    ("/usr/share/fish/vendor_completions.d/rampage.fish", 0o644),
    ("/usr/share/doc/rampage/copyright", 0o644),
    ("/usr/share/doc/rampage/changelog.Debian.gz", 0o644),
    ("/usr/share/doc/rampage/examples/prometheus/rampage.rules.yml", 0o644),
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
    for (file, mode) in FILES {
        check(&debian.path(file), mode).with_context(|| file.to_owned())?;
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

/// Whether this is a file of root with these rights.
fn check(path: &Path, mode: u32) -> anyhow::Result<()> {
    let data = fs::symlink_metadata(path).context("the package does not bring it")?;
    let (is, owner) = (data.mode() & 0o7777, (data.uid(), data.gid()));
    ensure!(data.is_file() && is == mode, "its mode is {is:04o}, not {mode:04o}");
    ensure!(owner == (0, 0), "it is of {owner:?}, not of root");
    Ok(())
}

/// Its target is known in the Debian only.
fn is_link(debian: &Folder, path: &str) -> bool {
    fs::symlink_metadata(debian.path(path)).is_ok_and(|data| data.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn rights_are_held_against_the_list() {
        let path = std::env::temp_dir().join(format!("rampage-trial-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let open = check(&path, 0o640).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert_eq!(open, "its mode is 0644, not 0640");
        assert!(check(&path, 0o640).is_err());
    }
}
