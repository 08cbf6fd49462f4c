//! What model and detectors cost with many processes: events per second of one core, bytes per
//! process and resident memory, each number of processes in a fresh process of its own; and events per second
//! recorded to a zstd trace.
//!
//! The events are made while they are fed (about 20 ns each, included): 90 % growth, 5 % cgroup,
//! 4 % process, 1 % exit followed by a fork, and a tick each simulated second of 100,000 events.

use std::process::Command;
use std::sync::Arc;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use rampage::event::{
    Cgroup, Config, Event, Exit, Growth, Header, Php, Pressure, Process, ProcessCause, Stamped,
    Tick,
};
use rampage::pipeline::Pipeline;
use rampage::sink::trace_file::{Rotation, TraceFile};

const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const EVENTS: u64 = 2_000_000;
const ROUNDS: u32 = 3;
const MIB: u64 = 1 << 20;
/// Time between two events, ns.
const PACE_NS: u64 = 10_000;
const PROCESSES_PER_CGROUP: u32 = 50;

fn main() -> Result<()> {
    if let Some(processes) = env::args().nth(1) {
        return measure(processes.parse().context("number of processes")?);
    }
    println!(
        "{:>9}  {:>10}  {:>8}  {:>11}  {:>11}  {:>12}  {:>13}",
        "processes",
        "events/s",
        "ns/event",
        "idle B/proc",
        "busy B/proc",
        "resident MiB",
        "zstd events/s"
    );
    for processes in SIZES {
        let status = Command::new(env::current_exe()?).arg(processes.to_string()).status()?;
        ensure!(status.success(), "{processes} processes: {status}");
    }
    Ok(())
}

fn measure(processes: u32) -> Result<()> {
    let before = resident_bytes()?;
    let mut load = Load::new(processes);
    let mut pipeline = Pipeline::new(Vec::new());
    load.introduce(&mut pipeline)?;
    let idle = resident_bytes()?;
    let fastest = fastest_event_s(&mut load, &mut pipeline)?;
    let busy = resident_bytes()?;
    let per_process =
        |bytes: u64| bytes.saturating_sub(before + load.bytes()) / u64::from(processes);
    ensure!(pipeline.model().processes().count() == processes as usize, "processes went missing");
    drop(pipeline);
    let folder = tempfile::tempdir().context("a folder for the trace")?;
    let mut file = TraceFile::create(&folder.path().join("t.jsonl.zst"), Rotation::default())?;
    let written = file.written();
    let mut pipeline = Pipeline::new(vec![&mut file]);
    let mut load = Load::new(processes);
    load.introduce(&mut pipeline)?;
    let recorded = fastest_event_s(&mut load, &mut pipeline)?;
    pipeline.finish("end of load")?;
    ensure!(written.lost.get() == 0, "events were not written: is {:?} full?", folder.path());
    println!(
        "{processes:>9}  {:>10.0}  {:>8.0}  {:>11}  {:>11}  {:>12.1}  {:>13.0}",
        1.0 / fastest,
        fastest * 1e9,
        per_process(idle),
        per_process(busy),
        busy as f64 / MIB as f64,
        1.0 / recorded,
    );
    Ok(())
}

/// Time of a core for an event, s: the best of some rounds, for other work on the host spoils caches.
fn fastest_event_s(load: &mut Load, pipeline: &mut Pipeline<'_>) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = core_s()?;
        load.run(pipeline, EVENTS)?;
        fastest = fastest.min((core_s()? - start) / EVENTS as f64);
    }
    Ok(fastest)
}

/// Time that this thread had a core so far, s.
fn core_s() -> Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).context(path)?;
    let ns: u64 = text.split(' ').next().unwrap_or_default().parse().context(path)?;
    Ok(ns as f64 / 1e9)
}

fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kib << 10)
}

/// Synthetic PHP workers in cgroups of fifty.
struct Load {
    workers: Vec<Worker>,
    paths: Vec<Arc<str>>,
    comm: Arc<str>,
    php: Php,
    random: u64,
    t_ns: u64,
    fed: u64,
}

#[derive(Clone, Copy)]
struct Worker {
    start_ns: u64,
    anon_kib: u32,
}

impl Load {
    fn new(processes: u32) -> Self {
        let cgroups = processes.div_ceil(PROCESSES_PER_CGROUP);
        Self {
            workers: vec![Worker { start_ns: 10_000_000, anon_kib: 8192 }; processes as usize],
            paths: (0..cgroups).map(|i| Arc::from(format!("/web.slice/pool-{i}"))).collect(),
            comm: Arc::from("php-fpm8.2"),
            php: Php {
                sapi: Arc::from("fpm"),
                pool: Some(Arc::from("www")),
                master_tgid: Some(1),
                version: Some(Arc::from("8.2")),
            },
            random: 0x9e37_79b9_7f4a_7c15,
            t_ns: 1_000_000_000_000,
            fed: 0,
        }
    }

    /// What the load itself keeps resident.
    fn bytes(&self) -> u64 {
        (self.workers.len() * size_of::<Worker>()) as u64
    }

    /// Header, host, cgroups, and the first sight of every process.
    fn introduce(&mut self, pipeline: &mut Pipeline<'_>) -> Result<()> {
        self.feed(pipeline, Event::Header(Box::new(header())))?;
        self.feed(pipeline, host())?;
        for at in 0..self.paths.len() {
            let event = self.cgroup(at, MIB << 10);
            self.feed(pipeline, event)?;
        }
        for at in 0..self.workers.len() {
            let state = self.process(at, ProcessCause::Found);
            self.feed(pipeline, state)?;
            let growth = self.growth(at);
            self.feed(pipeline, growth)?;
        }
        Ok(())
    }

    fn run(&mut self, pipeline: &mut Pipeline<'_>, events: u64) -> Result<()> {
        let end = self.fed + events;
        while self.fed < end {
            let at = self.below(self.workers.len() as u32) as usize;
            let event = match self.below(100) {
                0 => {
                    let exit = self.exit(at);
                    self.feed(pipeline, exit)?;
                    self.process(at, ProcessCause::Fork)
                }
                1..5 => self.process(at, ProcessCause::Update),
                5..10 => {
                    let usage = (1024 + u64::from(self.below(64))) * MIB;
                    self.cgroup(at % self.paths.len(), usage)
                }
                _ => {
                    // A request grows by 1 to 4 MiB at a time and ends at 40.
                    let step = 1024 + self.below(3072);
                    let worker = &mut self.workers[at];
                    worker.anon_kib =
                        if worker.anon_kib > 40 << 10 { 8192 } else { worker.anon_kib + step };
                    self.growth(at)
                }
            };
            self.feed(pipeline, event)?;
            if self.fed.is_multiple_of(100_000) {
                self.feed(pipeline, host())?;
                self.feed(pipeline, Event::Tick(Tick {}))?;
            }
        }
        Ok(())
    }

    fn feed(&mut self, pipeline: &mut Pipeline<'_>, event: Event) -> Result<()> {
        self.t_ns += PACE_NS;
        self.fed += 1;
        pipeline.feed(&Stamped { t_ns: self.t_ns, wall_ns: 0, event })?;
        Ok(())
    }

    fn growth(&self, at: usize) -> Event {
        let worker = self.workers[at];
        Event::Growth(Growth {
            tgid: tgid(at),
            start_ns: worker.start_ns,
            anon_bytes: u64::from(worker.anon_kib) << 10,
            ..Growth::default()
        })
    }

    fn process(&self, at: usize, cause: ProcessCause) -> Event {
        Event::Process(Process {
            tgid: tgid(at),
            start_ns: self.workers[at].start_ns,
            ppid: 1,
            comm: Arc::clone(&self.comm),
            cmdline: None,
            exe: None,
            uid: 33,
            cgroup: Some(Arc::clone(&self.paths[at % self.paths.len()])),
            php: Some(self.php.clone()),
            cause,
        })
    }

    /// The worker ends; the next of its tgid starts later.
    fn exit(&mut self, at: usize) -> Event {
        let next_ns = self.t_ns - self.t_ns % 10_000_000;
        let worker = &mut self.workers[at];
        let start_ns = worker.start_ns;
        worker.start_ns = next_ns.max(start_ns + 1);
        worker.anon_kib = 8192;
        Event::Exit(Exit {
            tgid: tgid(at),
            start_ns,
            code: Some(0),
            signal: None,
            peak_bytes: None,
        })
    }

    fn cgroup(&self, at: usize, usage_bytes: u64) -> Event {
        Event::Cgroup(Box::new(Cgroup {
            id: at as u64,
            path: Arc::clone(&self.paths[at]),
            usage_bytes,
            max_bytes: Some(4096 * MIB),
            reclaimable_bytes: Some(100 * MIB),
            ..Cgroup::default()
        }))
    }

    /// xorshift64*, scaled to 0..end.
    fn below(&mut self, end: u32) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let high = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * u64::from(end)) >> 32) as u32
    }
}

fn tgid(at: usize) -> u32 {
    2 + at as u32
}

fn header() -> Header {
    Header {
        config: Config::default(),
        mem_total_bytes: 8 << 40,
        source: "live".to_owned(),
        ..Header::default()
    }
}

fn host() -> Event {
    Event::Pressure(Pressure {
        scope: Arc::from("host"),
        used_bytes: 4 << 40,
        limit_bytes: Some(8 << 40),
        available_bytes: Some(4 << 40),
        ..Pressure::default()
    })
}
