//! The tracer as a black box: `rampage` is started, its events are read as they come, it is ended
//! by a signal, and killed when dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rampage::event::Event;
use serde_json::Value;

use crate::binary;
use crate::clock;
use crate::keep;
use crate::trace::{Line, Trace};

/// From the start until the first tick: loading and attaching on a busy machine.
const START: Duration = Duration::from_secs(20);
/// From SIGTERM until the end.
const END: Duration = Duration::from_secs(15);

/// A running `rampage watch --json` or `rampage record`; killed when dropped.
#[derive(Debug)]
pub struct Tracer {
    process: Process,
    lines: Arc<Mutex<Lines>>,
    ended: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
    recorded: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Lines {
    trace: Trace,
    /// Whole lines and when they were read, which nobody has asked for yet: where a CPU is emulated, decoding
    /// them as they come takes the time of those who are watched.
    unread: Vec<(Vec<u8>, u64)>,
    damaged: Option<anyhow::Error>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// All that it wrote.
    pub trace: Trace,
    /// Exit status.
    pub status: ExitStatus,
    /// Standard error.
    pub stderr: String,
}

impl Tracer {
    /// `rampage watch --json ARGUMENTS`, ready when this returns.
    pub fn watch(arguments: &str) -> Result<Self> {
        let mut process = start(&format!("watch --json {arguments}"), None, Stdio::piped())?;
        let stdout = process.child.stdout.take().context("rampage has no stdout")?;
        Self::follow(process, BufReader::new(stdout), None)?.ready()
    }

    /// `rampage record -o FILE ARGUMENTS`, ready when this returns. FILE is plain JSON Lines and is
    /// followed while it grows.
    pub fn record(path: &Path, arguments: &str) -> Result<Self> {
        let mut process = start(&format!("record {arguments}"), Some(path), Stdio::null())?;
        // A rampage that ended at once has its say in `ready`.
        let file = clock::wait_for("the trace file", START, || {
            let ended = process.child.try_wait()?.is_some();
            Ok(File::open(path).ok().map(Some).or(ended.then_some(None)))
        })?;
        let source: Box<dyn Read + Send> = match file {
            Some(file) => Box::new(file),
            None => Box::new(std::io::empty()),
        };
        let file = BufReader::new(source);
        Self::follow(process, file, Some(path.to_owned()))?.ready()
    }

    fn follow(
        mut process: Process,
        source: impl BufRead + Send + 'static,
        recorded: Option<PathBuf>,
    ) -> Result<Self> {
        let mut errors = process.child.stderr.take().context("rampage has no stderr")?;
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            errors.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let lines = Arc::new(Mutex::new(Lines::default()));
        let ended = Arc::new(AtomicBool::new(false));
        // A pipe ends by itself; a file has ended when its writer has.
        let tail = recorded.is_some();
        let (sink, stop) = (Arc::clone(&lines), Arc::clone(&ended));
        let reader = std::thread::spawn(move || read_lines(source, &sink, tail, &stop));
        Ok(Self { process, lines, ended, reader: Some(reader), stderr: Some(stderr), recorded })
    }

    fn ready(mut self) -> Result<Self> {
        let lines = Arc::clone(&self.lines);
        let tick = || with(&lines, |lines| lines.trace.lines.iter().any(is_tick));
        let waited = clock::wait_for("the first tick", START, || {
            if let Some(status) = self.process.child.try_wait()? {
                bail!("rampage ended at its start: {status}");
            }
            Ok(tick()?.then_some(()))
        });
        match waited {
            Ok(()) => Ok(self),
            Err(error) => {
                self.process.child.kill().ok();
                self.process.child.wait().ok();
                let stderr = self.stderr.take().and_then(|thread| thread.join().ok());
                Err(error.context(format!("rampage says: {}", stderr.unwrap_or_default())))
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// A copy of all that came so far.
    pub fn so_far(&self) -> Result<Trace> {
        with(&self.lines, |lines| lines.trace.clone())
    }

    /// Waits for a line and returns a copy of the first that fits.
    pub fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let mut seen = 0;
        clock::wait_for(what, timeout, || {
            with(&self.lines, |lines| {
                let found = lines.trace.lines[seen..].iter().find(|line| fits(line)).cloned();
                seen = lines.trace.lines.len();
                found
            })
        })
    }

    /// Waits until all that happened before this call has been seen: for two ticks.
    pub fn settle(&self) -> Result<()> {
        let now = clock::boot_ns();
        let timeout = Duration::from_secs(15);
        let first = self.wait_for("a tick", timeout, |line| is_tick(line) && line.t_ns > now)?;
        self.wait_for("a second tick", timeout, |line| is_tick(line) && line.t_ns > first.t_ns)?;
        Ok(())
    }

    /// Stops it (SIGSTOP): the kernel side goes on, nobody reads the ring buffer.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Ends it by SIGTERM; fails unless it exits with 0, wrote only whole and valid lines, a
    /// header first and `end` last.
    pub fn finish(self) -> Result<Outcome> {
        self.finish_by(libc::SIGTERM)
    }

    /// The same with another signal.
    pub fn finish_by(self, signal: i32) -> Result<Outcome> {
        self.signal(signal);
        let outcome = self.outcome()?;
        ensure!(outcome.status.success(), "{}: {}", outcome.status, outcome.stderr);
        outcome.trace.header()?;
        let last = outcome.trace.lines.last().map(|line| &line.event);
        ensure!(matches!(last, Some(Event::End(_))), "the last line is {last:?}");
        Ok(outcome)
    }

    /// Waits for its end, however it comes.
    pub fn outcome(mut self) -> Result<Outcome> {
        let status =
            clock::wait_for("rampage's end", END, || Ok(self.process.child.try_wait()?))?;
        self.ended.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let trace = match &self.recorded {
            Some(path) => Trace::read(path)?,
            None => self.so_far()?,
        };
        keep::keep(&trace)?;
        Ok(Outcome { trace, status, stderr })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if matches!(self.process.child.try_wait(), Ok(None)) {
            self.process.child.kill().ok();
            self.process.child.wait().ok();
            if let Some(stderr) = self.stderr.take().and_then(|thread| thread.join().ok()) {
                eprintln!("rampage was still running; it said: {stderr}");
            }
        }
    }
}

/// Runs rampage to its end.
pub fn run(arguments: &[&str]) -> Result<Output> {
    let binary = binary::rampage()?;
    Command::new(&binary).args(arguments).stdin(Stdio::null()).output().context("running rampage")
}

/// A running rampage whose output the caller reads; killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// The process.
    pub child: Child,
}

impl Process {
    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory effects; the child is not reaped as long as it is not waited
        // for, so that its pid is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Starts rampage with words of `arguments`.
pub fn start(arguments: &str, output: Option<&Path>, stdout: Stdio) -> Result<Process> {
    let mut command = Command::new(binary::rampage()?);
    command.args(arguments.split_whitespace());
    if let Some(path) = output {
        command.arg("-o").arg(path);
    }
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    Ok(Process { child: command.spawn().context("starting rampage")? })
}

/// Findings of `rampage replay FILE --json`.
pub fn replay_findings(path: &Path) -> Result<Vec<Value>> {
    let output = run(&["replay", &path.display().to_string(), "--json"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "replay: {}: {stderr}", output.status);
    let trace = Trace::parse(std::str::from_utf8(&output.stdout)?)?;
    Ok(trace.findings_json().into_iter().cloned().collect())
}

fn is_tick(line: &Line) -> bool {
    matches!(line.event, Event::Tick(_))
}

fn with<T>(lines: &Mutex<Lines>, ask: impl FnOnce(&mut Lines) -> T) -> Result<T> {
    let mut lines =
        lines.lock().map_err(|_| anyhow::anyhow!("the reader of the trace panicked"))?;
    lines.decode();
    match lines.damaged.take() {
        Some(error) => Err(error),
        None => Ok(ask(&mut lines)),
    }
}

impl Lines {
    fn decode(&mut self) {
        for (text, arrival_ns) in std::mem::take(&mut self.unread) {
            let parsed = std::str::from_utf8(&text)
                .map_err(anyhow::Error::from)
                .and_then(|text| Line::parse(text.trim_end_matches('\n'), arrival_ns));
            match parsed {
                Ok(line) => self.trace.lines.push(line),
                Err(error) => {
                    self.damaged.get_or_insert(error);
                }
            }
        }
    }
}

/// Appends whole lines as they come; a line without its end is left for the next look.
fn read_lines(mut source: impl BufRead, sink: &Mutex<Lines>, tail: bool, ended: &AtomicBool) {
    let mut text = Vec::new();
    loop {
        let last_look = ended.load(Ordering::Acquire);
        match source.read_until(b'\n', &mut text) {
            Ok(0) if !tail || last_look => return,
            Ok(0) => std::thread::sleep(Duration::from_millis(5)),
            Ok(_) if text.ends_with(b"\n") => {
                let arrival_ns = clock::boot_ns();
                let Ok(mut lines) = sink.lock() else { return };
                lines.unread.push((std::mem::take(&mut text), arrival_ns));
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
