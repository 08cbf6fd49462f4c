//! The tests of a plan, one process each, with a limit of time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::order::{Outcome, Plan, Said, Step};
use crate::say;

/// How much of a failed test's output is passed on, from its end.
const SHOWN_BYTES: u64 = 12 << 10;
/// What a test writes when it cannot run here.
const SKIPPED: &str = "skipped: needs ";
/// What a test writes before a figure that is of interest also when it holds.
const MEASURED: &str = "measured: ";

/// Runs them all.
pub fn all(plan: &Plan, out: &mut impl Write) -> Result<()> {
    for step in &plan.tests {
        say(out, &Said::Begin(&step.name))?;
        let started = Instant::now();
        let limit = Duration::from_secs(plan.test_seconds);
        let (outcome, mut text) = one(plan, step, limit)?;
        if outcome == Outcome::Failed && std::process::id() == 1 {
            text.push_str(&kernel_log());
        }
        let seconds = started.elapsed().as_secs_f64();
        say(out, &Said::End { name: &step.name, outcome, seconds, text: &text })?;
    }
    Ok(())
}

/// The last lines of the kernel's log, which only a machine of our own is asked for.
fn kernel_log() -> String {
    const LINES: usize = 60;
    let Ok(output) = Command::new("dmesg").output() else { return String::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    format!("\nthe kernel's log:\n{}", last.join("\n"))
}

/// The figures that a test wrote, one a line.
fn measured(text: &str) -> String {
    let figures = text.lines().filter_map(|line| line.split_once(MEASURED));
    figures.map(|(_, figure)| figure).collect::<Vec<_>>().join("\n")
}

fn one(plan: &Plan, step: &Step, limit: Duration) -> Result<(Outcome, String)> {
    let mut command = Command::new(&step.program);
    command.args([&*step.test, "--exact", "--nocapture", "--test-threads=1"]);
    let (status, text) = to_its_end(plan, &mut command, limit)?;
    // A test that is not there would be a success of nothing.
    let ran = text.contains("running 1 test");
    let skipped = text.lines().find_map(|line| line.split_once(SKIPPED));
    Ok(match (status, skipped) {
        (None, _) => (Outcome::Failed, format!("{text}\nit was ended after {} s", limit.as_secs())),
        (Some(0), Some((_, lacks))) => (Outcome::Skipped, lacks.to_owned()),
        (Some(0), None) if ran => (Outcome::Ok, measured(&text)),
        (Some(0), None) => (Outcome::Failed, format!("{text}\nthere is no such test")),
        (Some(status), _) => (Outcome::Failed, format!("{text}\nwait status {status}")),
    })
}

/// Runs another program of the plan; an error has its output.
pub fn program(plan: &Plan, command: &mut Command) -> Result<()> {
    match to_its_end(plan, command, Duration::from_secs(plan.test_seconds))? {
        (Some(0), _) => Ok(()),
        (status, text) => bail!("{:?}: {status:?}: {text}", command.get_program()),
    }
}

/// Wait status (None = it took too long and was ended), and the end of the output.
fn to_its_end(
    plan: &Plan,
    command: &mut Command,
    limit: Duration,
) -> Result<(Option<i32>, String)> {
    let mut output = tempfile::tempfile().context("a file for the output")?;
    let copy = |file: &File| file.try_clone().map(Stdio::from);
    command.envs(&plan.environment).stdin(Stdio::null());
    command.stdout(copy(&output)?).stderr(copy(&output)?).process_group(0);
    let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
    let pid = child.id().cast_signed();
    let deadline = Instant::now() + limit;
    let mut late = false;
    let status = loop {
        let mut status = 0;
        // Any child: the first process of a machine is the parent of all orphans.
        // SAFETY: waitpid writes to `status`; nobody else waits for children of this process.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if ended == pid {
            break status;
        }
        if ended < 0 {
            bail!("waiting for {pid}: {}", std::io::Error::last_os_error());
        }
        if ended == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        if !late && Instant::now() > deadline {
            late = true;
            // SAFETY: the group is that of a child that was not waited for.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
        }
    };
    let length = output.seek(SeekFrom::End(0))?;
    output.seek(SeekFrom::Start(length.saturating_sub(SHOWN_BYTES)))?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    Ok(((!late).then_some(status), String::from_utf8_lossy(&bytes).into_owned()))
}
