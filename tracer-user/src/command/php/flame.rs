//! `rampage php TGID --flame FILE`: which PHP code the memory growth of one worker happens in. The
//! process is watched by a thread (see [`watch`]); what it saw is added up here until the time, a
//! signal or the end of the process ends it, also where the thread is held up in the kernel.

mod file;
mod folded;
mod watch;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::file::{Heading, Output};
use self::folded::Growth;
use self::watch::{Step, Watch};
use crate::cli::{FlameFile, UsageError};
use crate::event::look::{Part, Reason};
use crate::php::{LookOptions, Looker, Target, who};
use crate::run;
use crate::text::{bytes, printable, seconds};

/// Steps that wait to be added up.
const WAITING: usize = 64;
/// How long it may take to find PHP in the process.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long the last look may take.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// Progress is shown where it takes longer than this …
const QUIET: Duration = Duration::from_secs(2);
/// … and then this often.
const PROGRESS: Duration = Duration::from_millis(500);

/// What a recording saw.
#[derive(Debug, Default)]
struct Recording {
    growth: Growth,
    shrunk_bytes: u64,
    looks: u64,
    took: Duration,
    ended: bool,
}

/// Records, writes the file, and says on standard output what is in it.
pub fn execute(
    tgid: u32,
    target: &FlameFile,
    duration: Duration,
    options: LookOptions,
) -> anyhow::Result<()> {
    let process = super::open(tgid)?;
    let (output, recording) = run::block_on(async {
        let mut signals = Signals::catch()?;
        let watched = tokio::select! {
            watched = watch(process, options) => watched?,
            () = signals.next() => anyhow::bail!("ended before the recording began"),
        };
        let output = Output::create(target)
            .map_err(|source| UsageError::Flame { path: target.path.clone(), source })?;
        Ok((output, record(tgid, watched, &mut signals, duration).await))
    })?;
    let path = printable(&output.path().to_string_lossy()).into_owned();
    let mut out = io::stdout().lock();
    if recording.growth.bytes > 0 {
        let stacks = recording.growth.lines();
        output.finish(&recording.heading(tgid), &stacks).with_context(|| path.clone())?;
        writeln!(out, "{}, in {path}", recording.summary(tgid))?;
    } else {
        writeln!(out, "{}; {path} was not written", recording.summary(tgid))?;
    }
    Ok(())
}

/// A process that is watched by a thread until `stop` is dropped.
struct Watched {
    steps: Receiver<Step>,
    stop: mpsc::Sender<()>,
}

/// Starts to watch.
async fn watch(process: Target, options: LookOptions) -> anyhow::Result<Watched> {
    let tgid = process.key().tgid;
    let (stop, stopped) = mpsc::channel();
    let (found, ready) = oneshot::channel();
    let (sender, steps) = channel(WAITING);
    thread::spawn(move || match prepare(process, options) {
        Ok(watch) => {
            if found.send(Ok(())).is_ok() {
                watch.run(&stopped, &sender);
            }
        }
        Err(error) => {
            let _ = found.send(Err(error));
        }
    });
    match timeout(READY_WITHIN, ready).await {
        Ok(Ok(ready)) => ready.map(|()| Watched { steps, stop }),
        Ok(Err(_)) => anyhow::bail!("process {tgid} cannot be watched"),
        Err(_) => Err(super::no_answer(tgid)),
    }
}

/// Makes sure that the process is PHP whose stacks can be read.
fn prepare(target: Target, options: LookOptions) -> anyhow::Result<Watch> {
    let mut looker = Looker::new();
    let tgid = target.key().tgid;
    if who::recognise(&target, &mut looker)?.is_none() {
        return Err(UsageError::NoPhp { tgid, comm: target.comm().to_owned() }.into());
    }
    let look = looker.look_at(&target, &options);
    if look.lacks(&Reason::NotPermitted) {
        return Err(super::not_permitted());
    }
    for missing in look.missing.iter().filter(|missing| missing.part != Part::Memory) {
        let never = matches!(
            missing.reason,
            Reason::NoPhp
                | Reason::ThreadSafe
                | Reason::Machine { .. }
                | Reason::Stripped { .. }
                | Reason::NoVersion
                | Reason::UnknownVersion { .. }
        );
        anyhow::ensure!(!never, "process {tgid}: {missing}");
    }
    Ok(Watch::new(target, looker, options)?)
}

/// Adds up steps until the end.
async fn record(
    tgid: u32,
    Watched { mut steps, stop }: Watched,
    signals: &mut Signals,
    duration: Duration,
) -> Recording {
    let started = Instant::now();
    let mut recording = Recording::default();
    let mut progress = Progress { shown: false, wanted: io::stderr().is_terminal() };
    let mut pulse = interval(PROGRESS);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = sleep(duration);
    tokio::pin!(deadline);
    recording.ended = loop {
        tokio::select! {
            biased;
            () = signals.next() => break false,
            () = &mut deadline => break false,
            _ = pulse.tick() => {
                recording.took = started.elapsed();
                progress.show(tgid, &recording);
            }
            step = steps.recv() => match step {
                Some(step) => recording.add(step),
                None => break true,
            },
        }
    };
    recording.took = started.elapsed();
    drop(stop);
    // Has time for a last look; a thread that is held up is not waited for.
    let rest = async {
        while let Some(step) = steps.recv().await {
            recording.add(step);
        }
    };
    let _ = timeout(LAST_LOOK, rest).await;
    progress.clear();
    recording
}

/// What ends a recording from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot catch SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot catch SIGTERM")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The line on standard error that tells how far it is.
struct Progress {
    wanted: bool,
    shown: bool,
}

impl Progress {
    fn show(&mut self, tgid: u32, recording: &Recording) {
        if !self.wanted || recording.took < QUIET {
            return;
        }
        self.shown = true;
        // Standard error may be gone; the recording goes on.
        let _ = write!(
            io::stderr(),
            "\r\x1b[Kworker {tgid}: {} grown, {} looks in {}; Ctrl-C ends it and writes the file\r",
            bytes(recording.growth.bytes),
            recording.looks,
            seconds(recording.took.as_secs_f64())
        );
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Recording {
    fn add(&mut self, step: Step) {
        self.looks += u64::from(step.looked);
        self.shrunk_bytes = self.shrunk_bytes.saturating_add(step.shrunk_bytes);
        self.growth.add(step.place, step.grown_bytes);
    }

    /// `in 10 s`, `in 3.1 s, until it ended`.
    fn period(&self) -> String {
        let until = if self.ended { ", until it ended" } else { "" };
        format!("in {}{until}", seconds(self.took.as_secs_f64()))
    }

    /// `worker 4242 grew 312 MiB in 10 s; 298 MiB of it (96 %) seen in 41 stacks`.
    fn summary(&self, tgid: u32) -> String {
        let growth = &self.growth;
        if growth.bytes == 0 {
            return format!("worker {tgid} did not grow {}", self.period());
        }
        let others = match growth.other_bytes {
            0 => String::new(),
            others => format!(", {} in (other stacks)", bytes(others)),
        };
        format!(
            "worker {tgid} grew {} {}; {} of it ({} %) seen in {} stack{}{others}",
            bytes(growth.bytes),
            self.period(),
            bytes(growth.code_bytes),
            percent(growth.code_bytes, growth.bytes),
            growth.code_stacks(),
            if growth.code_stacks() == 1 { "" } else { "s" },
        )
    }

    fn heading(&self, tgid: u32) -> Heading {
        let growth = &self.growth;
        let nowhere = growth.bytes - growth.code_bytes;
        let shrunk = match self.shrunk_bytes {
            0 => String::new(),
            shrunk => format!("; it gave back {} meanwhile, which is not shown", bytes(shrunk)),
        };
        Heading {
            title: format!("PHP worker {tgid}: bytes grown {}", self.period()),
            subtitle: format!(
                "{} grown, {} looks; {} ({} %) not seen in PHP code{shrunk}",
                bytes(growth.bytes),
                self.looks,
                bytes(nowhere),
                percent(nowhere, growth.bytes),
            ),
        }
    }
}

/// Rounded, but 0 and 100 only where it is none and all.
fn percent(part: u64, whole: u64) -> u64 {
    if part == 0 || part >= whole {
        return if part == 0 { 0 } else { 100 };
    }
    let exact = part as f64 * 100.0 / whole as f64;
    (exact.round() as u64).clamp(1, 99)
}

#[cfg(test)]
mod tests {
    use super::folded::Place;
    use super::*;

    fn step(grown_bytes: u64, reason: Option<Reason>) -> Step {
        let place = reason.map_or_else(
            || Place { stack: "GET /;f  /f.php:2".to_owned(), is_code: true },
            |reason| Place::unread(&reason),
        );
        Step { grown_bytes, shrunk_bytes: 1 << 20, place, looked: true }
    }

    #[test]
    fn what_was_seen_is_said_with_what_was_not() {
        let mut recording = Recording { took: Duration::from_secs(10), ..Recording::default() };
        assert_eq!(recording.summary(7), "worker 7 did not grow in 10 s");
        recording.add(step(298 << 20, None));
        recording.add(step(14 << 20, Some(Reason::SwappedOut)));
        assert_eq!(
            recording.summary(7),
            "worker 7 grew 312 MiB in 10 s; 298 MiB of it (96 %) seen in 1 stack"
        );
        recording.ended = true;
        let heading = recording.heading(7);
        assert_eq!(heading.title, "PHP worker 7: bytes grown in 10 s, until it ended");
        assert_eq!(
            heading.subtitle,
            "312 MiB grown, 2 looks; 14.0 MiB (4 %) not seen in PHP code; it gave back 2.0 MiB \
             meanwhile, which is not shown"
        );
    }

    #[test]
    fn only_all_is_a_hundred_per_cent() {
        let cases = [(0, 9), (1, 1000), (999, 1000), (9, 9), (298, 312)];
        assert_eq!(cases.map(|(part, whole)| percent(part, whole)), [0, 1, 99, 100, 96]);
    }
}
