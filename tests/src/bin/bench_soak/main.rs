//! `rampage serve` over a long time: 1,000 processes, bursts of 5,000 forks a second, and faults all the
//! while. Resident memory must stay flat and, of the tracer, within its bounds; descriptors must stay as many,
//! CPU within its bounds, and whatever is lost must be counted. `bench_soak [MINUTES]`, 30 by itself.

mod load;
mod sample;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rampage::event::Event;
use tests::service::{Home, Service};

use crate::load::Load;
use crate::sample::{Sample, Samples};

/// How long nothing is done first.
const IDLE: Duration = Duration::from_secs(60);
/// From the start until memory is looked at for the first time.
const SETTLE: Duration = Duration::from_secs(10);
const PACE: Duration = Duration::from_secs(5);

const START_GOAL_MIB: f64 = 16.0;
const PEAK_GOAL_MIB: f64 = 24.0;
const IDLE_GOAL_PERCENT: f64 = 0.5;
const LOAD_GOAL_PERCENT: f64 = 2.0;
/// Open files that come and go in the second half of the load: a segment, an incident, a look at /proc.
const DESCRIPTORS_GOAL: f64 = 4.0;
/// Of resident memory, in the second half of the load.
const SLOPE_GOAL_KIB_PER_HOUR: f64 = 256.0;

fn main() -> Result<()> {
    let minutes: f64 = std::env::args().nth(1).map_or(Ok(30.0), |text| text.parse())?;
    let home = Home::new()?;
    home.set("[recorder]\nmax_size = \"256MiB\"\n[alerts]\njournal = true")?;
    let service = Service::start(&home)?;
    std::thread::sleep(SETTLE);
    let pids: Vec<(u32, String)> =
        [(service.pid(), "rampage".to_owned())].into_iter().chain(service.children()?).collect();
    let mut series: Vec<Samples> =
        pids.iter().map(|(pid, name)| Samples::new(*pid, name)).collect::<Result<_>>()?;
    println!("idle for {} s", IDLE.as_secs());
    std::thread::sleep(IDLE);
    for samples in &mut series {
        samples.end_of_idle()?;
    }
    println!("under load for {minutes} min");
    let load = Load::start()?;
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut told = Instant::now();
    while Instant::now() < end {
        std::thread::sleep(PACE);
        for samples in &mut series {
            samples.take()?;
        }
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!("  {}", series.iter().map(Samples::line).collect::<Vec<_>>().join("; "));
        }
    }
    let forks = load.forks();
    let faults = load.faults()?;
    drop(load);
    println!("load: {forks} forks, {faults} faults");
    let ended = service.finish()?;
    let trace = home.recorded()?;
    let lost: u64 = trace.losses().values().sum();
    println!("lost: {:?}", trace.losses());
    if !ended.stderr.is_empty() {
        println!("it said:\n{}", ended.stderr);
    }
    let mut held = true;
    for (at, samples) in series.iter().enumerate() {
        held &= samples.report(at == 0)?;
    }
    // What the events of the record tell, and what its last line counts.
    let counted = trace.lines.iter().rev().find_map(|line| match &line.event {
        Event::End(end) => Some(end.lost),
        _ => None,
    });
    let is_counted = counted == Some(lost);
    held &= is_counted;
    let verdict = if is_counted { "ok" } else { "MISSED" };
    println!("losses: {lost} told, {counted:?} counted at the end  {verdict}");
    let total = |of: fn(&Sample) -> u64, at: fn(&Samples) -> Option<&Sample>| -> f64 {
        series.iter().filter_map(at).map(of).sum::<u64>() as f64 / 1024.0
    };
    println!(
        "together: {:.1} MiB resident after the start, {:.1} MiB at the sum of both peaks",
        total(|sample| sample.resident_kib, |samples| samples.first()),
        total(|sample| sample.peak_kib, |samples| samples.last())
    );
    ensure!(held, "not every goal was met");
    Ok(())
}
