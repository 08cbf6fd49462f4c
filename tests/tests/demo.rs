//! `rampage demo` on the real kernel: the warning, the kill, the verdict, and nothing left behind.

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::binary::rampage;
use tests::clock;
use tests::needs;

/// One demo at a time: the roles have the same names.
fn alone() -> MutexGuard<'static, ()> {
    static DEMO: Mutex<()> = Mutex::new(());
    DEMO.lock().unwrap_or_else(PoisonError::into_inner)
}

fn demo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(rampage()?);
    command.arg("demo").args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Folders of memory cgroups that demos of this test have made; others may run beside it.
fn cgroups(tgid: u32) -> Vec<PathBuf> {
    let name = format!("rampage-demo-{tgid}");
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .into_iter()
        .filter_map(|mount| fs::read_dir(mount).ok())
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.ends_with(&name))
        .collect()
}

/// Processes that play a role.
fn players() -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let plays = |path: &Path| {
        let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
        // A zombie waits for its reaper only.
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        ["demo-leaker", "demo-bystander"].contains(&comm.trim_end())
            && !status.contains("State:\tZ")
    };
    processes.map(|entry| entry.path()).filter(|path| plays(path)).collect()
}

fn no_player_is_left() -> Result<()> {
    let gone = || Ok(players().is_empty().then_some(()));
    clock::wait_for("the players to end", Duration::from_secs(5), gone)
        .with_context(|| format!("left behind: {:?}", players()))
}

fn nothing_is_left(tgid: u32) -> Result<()> {
    no_player_is_left()?;
    ensure!(cgroups(tgid).is_empty(), "left behind: {:?}", cgroups(tgid));
    Ok(())
}

#[test]
fn it_warns_before_the_kill_and_names_the_leaker() -> Result<()> {
    needs!(Btf);
    let _alone = alone();
    let started = Instant::now();
    let child = demo(&[])?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let tgid = child.id();
    let output = child.wait_with_output()?;
    let took = started.elapsed();
    let text = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}\n{text}", output.status);
    ensure!(took < clock::patient(Duration::from_secs(30)), "it took {took:?}");
    let place = |part: &str| text.find(part).with_context(|| format!("no {part:?} in:\n{text}"));
    let warning = place("RUNAWAY")?;
    let kill = place("the OOM killer kills demo-bystander")?;
    let verdict = place("VERDICT")?;
    ensure!(warning < kill && kill < verdict, "in the wrong order:\n{text}");
    let verdict = text[verdict..].lines().next().unwrap_or_default();
    ensure!(verdict.contains("demo-leaker"), "{verdict}");
    let ending = place("rampage warned ")?;
    let lead = text[ending + "rampage warned ".len()..].split(' ').next().unwrap_or_default();
    let lead: f64 = lead.parse().with_context(|| format!("lead time {lead:?}"))?;
    ensure!((0.5..25.0).contains(&lead), "warned {lead} s before the kill");
    ensure!(!text.contains('\x1b'), "colour without a terminal");
    nothing_is_left(tgid)
}

#[test]
fn as_json_it_is_a_trace_with_both_findings() -> Result<()> {
    needs!(Btf);
    let _alone = alone();
    let child = demo(&["--json"])?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let tgid = child.id();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut kinds = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if event["type"] == "finding" {
            let named = format!("{}{}", event["subject"]["comm"], event["evidence"]["culprit"]);
            if named.contains("demo-leaker") {
                kinds.push(event["kind"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    ensure!(kinds.first().is_some_and(|kind| kind == "runaway"), "{kinds:?}");
    ensure!(kinds.last().is_some_and(|kind| kind == "oom_verdict"), "{kinds:?}");
    nothing_is_left(tgid)
}

/// Starts a demo and waits until its leaker grows.
fn under_way() -> Result<(Child, impl BufRead)> {
    let mut child = demo(&[])?.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let started = Instant::now();
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        if line.contains("cgroup uses") {
            return Ok((child, output));
        }
        line.clear();
        if started.elapsed() > clock::patient(Duration::from_secs(20)) {
            break;
        }
    }
    let ended = child.kill().and_then(|()| child.wait());
    bail!("the demo did not begin ({ended:?})")
}

#[test]
fn interrupted_it_cleans_up() -> Result<()> {
    needs!(Btf);
    let _alone = alone();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (mut child, mut output) = under_way()?;
        // Judged when the demo has ended, so that a failure leaves nothing behind.
        let (made, playing) = (cgroups(child.id()), players());
        // SAFETY: the child is not waited for yet, so its id is its own.
        unsafe { libc::kill(child.id().cast_signed(), signal) };
        let status = child.wait()?;
        ensure!(made.len() == 1 && playing.len() == 2, "{made:?} {playing:?}");
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        ensure!(status.success(), "signal {signal}: {status}: {text}");
        ensure!(text.contains("Interrupted"), "{text}");
        nothing_is_left(child.id())?;
    }
    Ok(())
}

#[test]
fn a_reader_that_goes_away_ends_it_cleanly() -> Result<()> {
    needs!(Btf);
    let _alone = alone();
    let (mut child, output) = under_way()?;
    drop(output);
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    nothing_is_left(child.id())
}

#[test]
fn killed_it_leaves_no_process() -> Result<()> {
    needs!(Btf);
    let _alone = alone();
    let (mut child, _output) = under_way()?;
    child.kill()?;
    child.wait()?;
    no_player_is_left()?;
    for cgroup in cgroups(child.id()) {
        fs::remove_dir(&cgroup).with_context(|| cgroup.display().to_string())?;
    }
    Ok(())
}
