//! Starts a hog (`src/bin/hog`) inside a memory cgroup, steps it, and knows what it has touched
//! even after it was killed.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::binary;
use crate::cgroup::MemoryCgroup;
use crate::clock;
use crate::counters::{Counters, Slot};

/// What a hog says when a step is done.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Report {
    /// Name of the step, without its arguments.
    pub step: String,
    /// Anonymous memory that it holds.
    pub anon_bytes: u64,
    /// Shared memory that it holds.
    pub shmem_bytes: u64,
    /// File pages that it has touched.
    pub file_bytes: u64,
    /// Children started so far.
    pub forks: u64,
    /// Children whose end was waited for.
    pub reaped: u64,
}

/// A running hog; killed when dropped.
#[derive(Debug)]
pub struct Hog {
    child: Child,
    stdin: Option<ChildStdin>,
    reports: Receiver<Report>,
    counters: &'static Counters,
    _folder: tempfile::TempDir,
}

impl Hog {
    /// Starts a hog in `cgroup` with the words of `script`.
    pub fn spawn(cgroup: &MemoryCgroup, script: &str) -> Result<Self> {
        let words: Vec<OsString> = script.split_whitespace().map(OsString::from).collect();
        Self::spawn_words(Some(cgroup), None, &words)
    }

    /// Starts a hog where this test is: for what takes no memory worth a limit.
    pub fn unconfined(script: &str) -> Result<Self> {
        let words: Vec<OsString> = script.split_whitespace().map(OsString::from).collect();
        Self::spawn_words(None, None, &words)
    }

    /// Starts a hog with any words, under another `argv[0]` if one is given.
    pub fn spawn_words(
        cgroup: Option<&MemoryCgroup>,
        name: Option<&OsStr>,
        words: &[OsString],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let counter_path = folder.path().join("counters");
        let counters = Counters::map(&counter_path)?;
        let program = binary::hog()?;
        // Its file is charged to whoever reads it first: not to the cgroup, where reclaim would go on
        // finding pages of it that are needed again at once, and never come to a kill.
        std::fs::read(&program).context("reading the hog")?;
        let mut command = Command::new(program);
        if let Some(name) = name {
            command.arg0(name);
        }
        command.arg("--counter").arg(&counter_path).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(cgroup) = cgroup {
            cgroup.confine(&mut command)?;
        }
        let mut child = command.spawn().context("starting a hog")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the hog has no stdout")?;
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(report) = serde_json::from_str(&line) else { return };
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, reports, counters, _folder: folder })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the `wait` that it is in, or the next one.
    pub fn go(&mut self) -> Result<()> {
        self.stdin.as_mut().context("the hog's stdin is closed")?.write_all(b"\n")?;
        Ok(())
    }

    /// The next finished step that is not a `wait`.
    pub fn report(&self, timeout: Duration) -> Result<Report> {
        let timeout = clock::patient(timeout);
        loop {
            match self.reports.recv_timeout(timeout) {
                Ok(report) if report.step == "wait" => {}
                Ok(report) => return Ok(report),
                Err(RecvTimeoutError::Timeout) => {
                    let state = crate::proc::waiting(self.pid());
                    bail!("the hog finished no step in {timeout:?}; it is in {state}")
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the hog ended without a report"),
            }
        }
    }

    /// Waits until the step called `step` is done.
    pub fn done(&self, step: &str, timeout: Duration) -> Result<Report> {
        loop {
            let report = self.report(timeout)?;
            if report.step == step {
                return Ok(report);
            }
        }
    }

    /// What it and its children have counted so far; stays readable after its end.
    pub fn count(&self, slot: Slot) -> u64 {
        self.counters.get(slot)
    }

    /// Waits for its end.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        clock::wait_for("the hog's end", timeout, || Ok(self.child.try_wait()?))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The child is unreaped, so that its pid is still its own; both calls cannot harm others.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Processes that grow beyond the limit of `cgroup`, one after the other, `times` times. Its report
/// `repeat` says that all were killed.
pub fn leak(cgroup: &MemoryCgroup, times: u32, limit_mib: u64, mib_per_s: u64) -> Result<Hog> {
    let mib = limit_mib * 2;
    let leaker = format!("comm:leaker adj:500 anon:{mib}:{mib_per_s} hold");
    Hog::spawn(cgroup, &format!("comm:parent repeat:{times} {{ fork {{ {leaker} }} reap }} hold"))
}

/// A link to the hog called `name` in `folder`, for processes of another comm.
pub fn link(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    std::os::unix::fs::symlink(binary::hog()?, &path)?;
    Ok(path.display().to_string())
}
