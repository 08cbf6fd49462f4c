//! What the package promises: how much the unit exposes, and that a container which does not see the
//! host's processes says so.

use std::path::Path;
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
