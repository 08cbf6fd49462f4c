//! What a loaded pool of PHP pays: for being watched, for looks ten times a second into each worker,
//! and for following PHP's own request probes, against nothing, in interleaved rounds.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rampage::php::{LookOptions, Looker};
use tests::clock::wait_for;
use tests::tracer::{self, Process};

use crate::faults::{process_cpu_ns, thread_cpu_ns};
use crate::pages::{Pool, Served};
use crate::sample::Spread;

const TIME: Duration = Duration::from_secs(3);
const END: Duration = Duration::from_secs(20);
/// Each request meets two probes.
const PROBES: f64 = 2.0;
/// Between two looks at a worker.
const EVERY: Duration = Duration::from_millis(100);

/// What is compared.
#[derive(Clone, Copy)]
enum Condition {
    Nothing,
    /// `rampage` with these arguments.
    Rampage(&'static str),
    /// Looks alone.
    Looks,
}

/// Nothing first, and how tables say it.
const CONDITIONS: [(Condition, &str); 4] = [
    (Condition::Nothing, "no tracing"),
    (Condition::Looks, "looks at each worker at 10 Hz"),
    (Condition::Rampage("watch --plain"), "rampage watch"),
    (Condition::Rampage("watch --plain --usdt"), "rampage watch --usdt"),
];

/// Values of one condition, one for each round.
#[derive(Default)]
struct Series {
    per_s: Vec<f64>,
    /// CPU time of the pool.
    request_us: Vec<f64>,
    /// CPU time of the tracer.
    tracer_us: Vec<f64>,
}

/// A running `rampage watch --plain`; killed when dropped.
struct Watch(Process);

impl Watch {
    /// Ready when this returns.
    fn start(arguments: &str) -> Result<Self> {
        let mut process = tracer::start(arguments, None, Stdio::piped())?;
        let stdout = process.child.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout);
        // The first summary line, after the first tick.
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(!line.is_empty(), "rampage {arguments} said nothing");
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(Self(process))
    }

    fn stop(mut self) -> Result<()> {
        self.0.signal(libc::SIGTERM);
        let status = wait_for("rampage's end", END, || Ok(self.0.child.try_wait()?))?;
        let mut said = String::new();
        self.0.child.stderr.as_mut().context("stderr")?.read_to_string(&mut said)?;
        // Other PHP on this host may be without probes.
        ensure!(status.success() && !said.contains("php-fpm8.2"), "rampage: {status}: {said}");
        Ok(())
    }
}

/// What runs beside the requests of one turn.
enum Beside {
    Nothing,
    Watch(Watch),
    Looks { stop: Arc<AtomicBool>, thread: JoinHandle<u64>, cpu_ns: Arc<AtomicU64> },
}

impl Beside {
    fn start(condition: Condition, workers: &[u32]) -> Result<Self> {
        match condition {
            Condition::Nothing => Ok(Self::Nothing),
            Condition::Rampage(arguments) => Watch::start(arguments).map(Self::Watch),
            Condition::Looks => {
                let (stop, cpu_ns) = (Arc::new(AtomicBool::new(false)), Arc::default());
                let (stopped, spent) = (Arc::clone(&stop), Arc::clone(&cpu_ns));
                let workers = workers.to_vec();
                let thread = std::thread::spawn(move || look(&workers, &stopped, &spent));
                Ok(Self::Looks { stop, thread, cpu_ns })
            }
        }
    }

    fn cpu_ns(&self) -> Result<u64> {
        match self {
            Self::Nothing => Ok(0),
            Self::Watch(watch) => process_cpu_ns(watch.0.child.id()),
            Self::Looks { cpu_ns, .. } => Ok(cpu_ns.load(Ordering::Relaxed)),
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Watch(watch) => watch.stop(),
            Self::Looks { stop, thread, .. } => {
                stop.store(true, Ordering::Relaxed);
                let looks = thread.join().map_err(|_| anyhow::anyhow!("the looker panicked"))?;
                ensure!(looks > 0, "no look met a request");
                Ok(())
            }
        }
    }
}

/// Looks at each worker each [`EVERY`]; tells how many looks met a request. `spent`: CPU time of this
/// thread, ns.
fn look(workers: &[u32], stop: &AtomicBool, spent: &AtomicU64) -> u64 {
    let (mut looker, mut met) = (Looker::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        for &worker in workers {
            let look = looker.look(worker, &LookOptions::default());
            met += u64::from(look.request.is_some());
        }
        spent.store(thread_cpu_ns(), Ordering::Relaxed);
        std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
    }
    met
}

/// Measures so many rounds of pages, and of the smallest requests, and prints them.
pub fn run(rounds: usize) -> Result<()> {
    let pool = Pool::start()?;
    let pages = measure(rounds, &pool, Pool::run)?;
    print(
        &format!("Pages, php-fpm with 4 workers, 4 at once: {rounds} rounds of {TIME:?}"),
        &pages,
    );
    let small = measure(rounds, &pool, Pool::run_small)?;
    print(&format!("Smallest requests: {rounds} rounds of {TIME:?}"), &small);
    let [.., without, with] = &small;
    let hit = Spread::of_pairs(&with.request_us, &without.request_us, |a, b| (a - b) / PROBES);
    println!("\n--usdt takes {} µs of the pool's CPU for each probe that is met", hit.show(2));
    Ok(())
}

type All = [Series; CONDITIONS.len()];

fn measure(
    rounds: usize,
    pool: &Pool,
    serve: fn(&Pool, Duration) -> Result<Served>,
) -> Result<All> {
    serve(pool, TIME)?;
    let mut series = All::default();
    for round in 0..rounds {
        for turn in 0..CONDITIONS.len() {
            let at = (turn + round) % CONDITIONS.len();
            let beside = Beside::start(CONDITIONS[at].0, pool.workers())?;
            let before_ns = beside.cpu_ns()?;
            let served = serve(pool, TIME)?;
            let tracer_ns = beside.cpu_ns()? - before_ns;
            beside.stop()?;
            let per_request_us = |ns: u64| ns as f64 / served.requests as f64 / 1e3;
            series[at].per_s.push(served.per_s);
            series[at].request_us.push(per_request_us(served.cpu_ns));
            series[at].tracer_us.push(per_request_us(tracer_ns));
        }
    }
    Ok(series)
}

fn print(title: &str, series: &All) {
    println!("\n## {title}");
    println!(
        "| | requests/s | kept | pool's CPU, µs a request | times | tracer's CPU, µs a request |"
    );
    println!("|---|---|---|---|---|---|");
    let of = |values: &[f64]| Spread::of(values.iter().copied());
    let ratio = |ours: &[f64], base: &[f64]| Spread::of_pairs(ours, base, |a, b| a / b);
    for ((_, name), one) in CONDITIONS.iter().zip(series) {
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            of(&one.per_s).show(0),
            ratio(&one.per_s, &series[0].per_s).show(3),
            of(&one.request_us).show(1),
            ratio(&one.request_us, &series[0].request_us).show(3),
            of(&one.tracer_us).show(1),
        );
    }
}
