//! What the package promises: how much the unit exposes, that files which are named are there, and that a
//! container which does not see the host's processes says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{binary, needs};

/// What `systemd-analyze security` may say of the unit, of 10.
const EXPOSURE: f64 = 2.5;

#[test]
fn the_unit_exposes_little() -> Result<()> {
    needs!(SystemdAnalyze);
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/rampage.service");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager"]).arg(unit).env("LC_ALL", "C");
    let said = analyze.output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let overall = said.lines().find_map(|line| line.split_once("rampage.service: "));
    let (_, rest) = overall.with_context(|| format!("no overall exposure in: {said}"))?;
    let exposure: f64 = rest.split(' ').next().unwrap_or_default().parse()?;
    ensure!(exposure <= EXPOSURE, "the unit's exposure is {exposure}:\n{said}");
    Ok(())
}

/// Where the package puts its documentation.
const DOCS: &str = "/usr/share/doc/rampage/";

/// What the package puts there: names of files, and of folders with what is in them.
fn documentation(root: &Path) -> Result<Vec<String>> {
    let manifest: toml::Value =
        toml::from_str(&fs::read_to_string(root.join("tracer-user/Cargo.toml"))?)?;
    let assets =
        manifest["package"]["metadata"]["deb"]["assets"].as_array().context("no assets")?;
    let mut all = vec!["copyright".to_owned(), "changelog.Debian.gz".to_owned()];
    for asset in assets {
        let text = |at: usize| asset.get(at).and_then(toml::Value::as_str).context("no text");
        let (from, to) = (root.join("tracer-user").join(text(0)?), text(1)?);
        let Some(to) = format!("/{to}").strip_prefix(DOCS).map(str::to_owned) else { continue };
        let folder = from.parent().context("no folder")?;
        let name = from.file_name().and_then(|name| name.to_str()).context("no name")?;
        let files: Vec<String> = match name.strip_prefix('*') {
            Some(suffix) => fs::read_dir(folder)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .filter(|name| !matches!(name, Ok(name) if !name.ends_with(suffix)))
                .collect::<Result<_>>()?,
            None => vec![name.to_owned()],
        };
        ensure!(!files.is_empty(), "{}: no such file", from.display());
        all.extend(files.iter().map(|name| format!("{to}{name}")));
        all.push(to);
    }
    Ok(all)
}

/// All files below a folder.
fn files(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files(&path, into)?,
            false => into.push(path),
        }
    }
    Ok(())
}

#[test]
fn documentation_that_is_named_is_in_the_package() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known = documentation(&root)?;
    let mut all = vec![root.join("README.md")];
    for folder in ["docs", "packaging"] {
        files(&root.join(folder), &mut all)?;
    }
    let mut named = 0;
    for path in &all {
        let text = fs::read_to_string(path)?;
        for (at, _) in text.match_indices(DOCS) {
            let rest = &text[at + DOCS.len()..];
            let end = |c: char| !(c.is_ascii_alphanumeric() || "/._-*".contains(c));
            let name = rest.split(end).next().unwrap_or_default().trim_end_matches('.');
            let is_there = name.is_empty() || known.iter().any(|one| one == name);
            ensure!(is_there, "{}: {DOCS}{name} is not in the package", path.display());
            named += 1;
        }
    }
    ensure!(named >= 3, "{named} files are named");
    Ok(())
}

#[test]
fn a_pid_namespace_is_said() -> Result<()> {
    let rampage = binary::rampage()?;
    let said = |mut doctor: Command| -> Result<String> {
        let output = doctor.arg("doctor").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let outside = said(Command::new(&rampage))?;
    let mut inside = Command::new("unshare");
    inside.args(["--pid", "--fork", "--mount-proc"]).arg(&rampage);
    let inside = said(inside)?;
    let notice = "runs in a pid namespace of its own";
    ensure!(inside.contains(notice) && inside.contains("--pid=host"), "said: {inside}");
    ensure!(!outside.contains(notice), "said outside: {outside}");
    Ok(())
}
