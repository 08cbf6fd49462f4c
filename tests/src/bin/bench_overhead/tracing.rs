//! The conditions that are compared: who traces while the work runs.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::Event;
use rampage::kernel::btf::Btf;
use rampage::kernel::plan::{HOOKS, Mechanism};
use tests::clock::wait_for;
use tests::trace::Trace;
use tests::tracer::{self, Process};

use crate::bpf::{self, Attached};
use crate::{faults, program};

const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(20);

/// A condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// No tracing.
    Off,
    /// An empty program on rss_stat.
    EmptyOne,
    /// Empty programs on all tracepoints of rampage.
    EmptyAll,
    /// `rampage record`.
    Rampage,
    /// bpftrace that stores the sizes of rss_stat by pid.
    Bpftrace,
}

impl Tracing {
    /// All of them, no tracing first.
    pub const ALL: [Self; 5] =
        [Self::Off, Self::EmptyOne, Self::EmptyAll, Self::Rampage, Self::Bpftrace];

    /// As tables say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "no tracing",
            Self::EmptyOne => "empty tp_btf on rss_stat",
            Self::EmptyAll => "empty tp_btf on all hooks",
            Self::Rampage => "rampage, all hooks",
            Self::Bpftrace => "bpftrace, rss_stat by pid",
        }
    }

    /// Whether php-fpm is measured under it, too: one empty program costs less than the noise there.
    pub fn serves_pages(self) -> bool {
        self != Self::EmptyOne
    }

    /// Starts it; it traces when this returns.
    pub fn start(self, btf: &Btf) -> Result<Active> {
        let empty = |name: &str| bpf::attach_tracepoint(btf, name, &program::empty());
        Ok(match self {
            Self::Off => Active::Off,
            Self::EmptyOne => Active::Programs(vec![empty("rss_stat")?]),
            Self::EmptyAll => {
                let with_btf = HOOKS.iter().filter(|(_, target, rungs, ..)| {
                    rungs.iter().any(|rung| rung.0 == Mechanism::TpBtf)
                        && btf.tracepoint(target).is_some()
                });
                Active::Programs(with_btf.map(|hook| empty(hook.1)).collect::<Result<_>>()?)
            }
            Self::Rampage => Active::Rampage(Rampage::start()?),
            Self::Bpftrace => Active::Bpftrace(Bpftrace::start()?),
        })
    }
}

/// A condition that holds until it is stopped.
pub enum Active {
    /// Nothing.
    Off,
    /// Programs of this bench.
    Programs(Vec<Attached>),
    /// rampage.
    Rampage(Rampage),
    /// bpftrace.
    Bpftrace(Bpftrace),
}

impl Active {
    /// CPU time that the tracer's own process has used, ns.
    pub fn cpu_ns(&self) -> Result<u64> {
        match self {
            Self::Off | Self::Programs(_) => Ok(0),
            Self::Rampage(rampage) => faults::process_cpu_ns(rampage.pid()),
            Self::Bpftrace(bpftrace) => faults::process_cpu_ns(bpftrace.child.id()),
        }
    }

    /// Ends it, and fails when it has not seen `pid`, which has taken memory meanwhile.
    pub fn stop(self, pid: u32) -> Result<()> {
        match self {
            Self::Off => return Ok(()),
            Self::Programs(programs) => drop(programs),
            Self::Rampage(rampage) => rampage.stop(pid)?,
            Self::Bpftrace(bpftrace) => bpftrace.stop(pid)?,
        }
        // Tracepoints are released after a grace period of RCU.
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }
}

/// A running `rampage record`; killed when dropped.
pub struct Rampage {
    process: Process,
    trace: PathBuf,
    _folder: tempfile::TempDir,
}

impl Rampage {
    /// Ready when this returns.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the trace")?;
        let trace = folder.path().join("trace.jsonl");
        let mut process = tracer::start("record", Some(&trace), Stdio::null())?;
        wait_for("rampage's first tick", START, || {
            if let Some(status) = process.child.try_wait()? {
                let mut said = String::new();
                let stderr = process.child.stderr.as_mut().context("stderr")?;
                stderr.read_to_string(&mut said)?;
                anyhow::bail!("rampage ended: {status}: {said}");
            }
            let text = fs::read_to_string(&trace).unwrap_or_default();
            Ok(text.contains("\"type\":\"tick\"").then_some(()))
        })?;
        Ok(Self { process, trace, _folder: folder })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Ends it and checks its trace: growth of `pid` is in it, and its end.
    pub fn stop(mut self, pid: u32) -> Result<()> {
        self.process.signal(libc::SIGTERM);
        let status = wait_for("rampage's end", END, || Ok(self.process.child.try_wait()?))?;
        ensure!(status.success(), "rampage: {status}");
        let lines = Trace::read(&self.trace)?.lines;
        let seen = lines
            .iter()
            .any(|line| matches!(&line.event, Event::Growth(growth) if growth.tgid == pid));
        ensure!(seen, "rampage did not see the growth of {pid}");
        match lines.last().map(|line| &line.event) {
            Some(Event::End(end)) => ensure!(end.lost == 0, "rampage lost {} records", end.lost),
            last => anyhow::bail!("the trace ends with {last:?}"),
        }
        Ok(())
    }
}

/// A running bpftrace; killed when dropped.
pub struct Bpftrace {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Bpftrace {
    fn start() -> Result<Self> {
        let before = bpf::loaded_tracing_programs()?;
        let mut child = Command::new("bpftrace")
            .args(["-e", "tracepoint:kmem:rss_stat { @[pid] = args->size; }"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting bpftrace")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut bpftrace = Self { child, stdout };
        wait_for("bpftrace to attach", START, || {
            if let Some(status) = bpftrace.child.try_wait()? {
                anyhow::bail!("bpftrace ended: {status}");
            }
            Ok((bpf::loaded_tracing_programs()? > before).then_some(()))
        })?;
        // From loading to attaching.
        std::thread::sleep(Duration::from_millis(300));
        Ok(bpftrace)
    }

    fn stop(mut self, pid: u32) -> Result<()> {
        // SAFETY: kill has no memory effects; the child is unreaped, its pid is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        let mut seen = false;
        for line in self.stdout.by_ref().lines() {
            seen |= line?.starts_with(&format!("@[{pid}]: "));
        }
        self.child.wait()?;
        ensure!(seen, "bpftrace did not see {pid}");
        Ok(())
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
