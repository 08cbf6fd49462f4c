//! `rampage php TGID --flame FILE`: which PHP code the memory growth of one worker happens in. The
//! process is watched by a thread (see [`watch`]); what it saw is added up here until the time, a
//! signal or the end of the process ends it, also where the thread is held up in the kernel.

mod file;
mod folded;
mod looks;
mod recording;
mod samples;
mod size;
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

use self::file::Output;
use self::recording::Recording;
use self::watch::{Step, Watch};
use crate::cli::{FlameFile, UsageError};
use crate::event::look::{Part, Reason};
use crate::php::{LookOptions, Looker, Target, who};
use crate::run;
use crate::text::{bytes, printable, seconds};

/// Steps that wait to be added up.
const WAITING: usize = 64;
/// How long it may take to find PHP in the process, and to load the kernel programs.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long the last look may take.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// Progress is shown where it takes longer than this …
const QUIET: Duration = Duration::from_secs(2);
/// … and then this often.
const PROGRESS: Duration = Duration::from_millis(500);

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
            watched = start(process, options) => watched?,
            () = signals.next() => anyhow::bail!("ended before the recording began"),
        };
        let output = Output::create(target)
            .map_err(|source| UsageError::Flame { path: target.path.clone(), source })?;
        Ok((output, record(tgid, watched, &mut signals, duration).await))
    })?;
    let path = printable(&output.path().to_string_lossy()).into_owned();
    let mut out = io::stdout().lock();
    let caveat = recording.caveat();
    if recording.growth.bytes > 0 {
        let stacks = recording.growth.lines();
        output.finish(&recording.heading(tgid), &stacks).with_context(|| path.clone())?;
        writeln!(out, "{}, in {path}", recording.summary(tgid))?;
        caveat.map_or(Ok(()), |caveat| writeln!(out, "{caveat}"))?;
    } else {
        writeln!(out, "{}; {path} was not written", recording.summary(tgid))?;
    }
    Ok(())
}

/// A process that is watched by a thread until `stop` is dropped.
struct Watched {
    steps: Receiver<Step>,
    stop: mpsc::Sender<()>,
    /// Why the kernel does not sample it.
    late: Option<String>,
}

/// Starts to watch.
async fn start(process: Target, options: LookOptions) -> anyhow::Result<Watched> {
    let tgid = process.key().tgid;
    let (stop, stopped) = mpsc::channel();
    let (found, ready) = oneshot::channel();
    let (sender, steps) = channel(WAITING);
    thread::spawn(move || match prepare(process, options) {
        Ok(watch) => {
            if found.send(Ok(watch.late().map(str::to_owned))).is_ok() {
                watch.run(&stopped, sender);
            }
        }
        Err(error) => {
            let _ = found.send(Err(error));
        }
    });
    match timeout(READY_WITHIN, ready).await {
        Ok(Ok(ready)) => ready.map(|late| Watched { steps, stop, late }),
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
    Ok(Watch::new(target, looker, options, look)?)
}

/// Adds up steps until the end.
async fn record(
    tgid: u32,
    Watched { mut steps, stop, late }: Watched,
    signals: &mut Signals,
    duration: Duration,
) -> Recording {
    let started = Instant::now();
    let mut recording = Recording { late, ..Recording::default() };
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
            "\r\x1b[Kworker {tgid}: {} grown, {} in {}; Ctrl-C ends it and writes the file\r",
            bytes(recording.growth.bytes),
            recording.witnesses(),
            seconds(recording.took.as_secs_f64())
        );
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
