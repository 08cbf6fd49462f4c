//! What following PHP's own request probes costs (`rampage watch --usdt`), against watching without
//! them and against nothing, in interleaved rounds of the smallest requests.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::clock::wait_for;
use tests::tracer::{self, Process};

use crate::faults::process_cpu_ns;
use crate::pages::Pool;
use crate::sample::Spread;

const TIME: Duration = Duration::from_secs(3);
const END: Duration = Duration::from_secs(20);
/// Each request meets two probes.
const PROBES: f64 = 2.0;
/// What is compared, nothing first, and how tables say it.
const CONDITIONS: [(Option<&str>, &str); 3] = [
    (None, "no tracing"),
    (Some("watch --plain"), "rampage watch"),
    (Some("watch --plain --usdt"), "rampage watch --usdt"),
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

/// Measures so many rounds and prints them.
pub fn run(rounds: usize) -> Result<()> {
    let pool = Pool::start()?;
    pool.run_small(TIME)?;
    let mut series: [Series; CONDITIONS.len()] = Default::default();
    for round in 0..rounds {
        for turn in 0..CONDITIONS.len() {
            let at = (turn + round) % CONDITIONS.len();
            let watch = CONDITIONS[at].0.map(Watch::start).transpose()?;
            let own_ns = || watch.as_ref().map_or(Ok(0), |own| process_cpu_ns(own.0.child.id()));
            let before_ns = own_ns()?;
            let served = pool.run_small(TIME)?;
            let tracer_ns = own_ns()? - before_ns;
            watch.map_or(Ok(()), Watch::stop)?;
            let per_request_us = |ns: u64| ns as f64 / served.requests as f64 / 1e3;
            series[at].per_s.push(served.per_s);
            series[at].request_us.push(per_request_us(served.cpu_ns));
            series[at].tracer_us.push(per_request_us(tracer_ns));
        }
    }
    println!(
        "\n## Smallest requests, php-fpm with 4 workers, 4 at once: {rounds} rounds of {TIME:?}"
    );
    println!(
        "| | requests/s | kept | pool's CPU, µs a request | times | tracer's CPU, µs a request |"
    );
    println!("|---|---|---|---|---|---|");
    let of = |values: &[f64]| Spread::of(values.iter().copied());
    let ratio = |ours: &[f64], base: &[f64]| Spread::of_pairs(ours, base, |a, b| a / b);
    for ((_, name), one) in CONDITIONS.iter().zip(&series) {
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            of(&one.per_s).show(0),
            ratio(&one.per_s, &series[0].per_s).show(3),
            of(&one.request_us).show(1),
            ratio(&one.request_us, &series[0].request_us).show(3),
            of(&one.tracer_us).show(1),
        );
    }
    let [_, without, with] = &series;
    let hit = Spread::of_pairs(&with.request_us, &without.request_us, |a, b| (a - b) / PROBES);
    println!(
        "\n--usdt against watching without it: {} of requests/s kept, {} µs of the pool's CPU for each probe that is met",
        ratio(&with.per_s, &without.per_s).show(3),
        hit.show(2)
    );
    Ok(())
}
