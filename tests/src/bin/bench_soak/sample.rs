//! What a process takes, over time.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{
    DESCRIPTORS_GOAL, IDLE_GOAL_PERCENT, LOAD_GOAL_PERCENT, PEAK_GOAL_MIB, SLOPE_GOAL_KIB_PER_HOUR,
    START_GOAL_MIB,
};

/// At one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Instant,
    /// VmRSS.
    pub resident_kib: u64,
    /// VmHWM.
    pub peak_kib: u64,
    descriptors: usize,
    cpu_ms: u64,
}

impl Sample {
    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| -> Result<u64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(key)).context("no field")?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Self {
            at: Instant::now(),
            resident_kib: kib("VmRSS")?,
            peak_kib: kib("VmHWM")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            cpu_ms: tests::proc::cpu_ms(pid)?,
        })
    }

    fn cpu_percent_since(&self, before: &Self) -> f64 {
        let wall_ms = self.at.duration_since(before.at).as_secs_f64() * 1e3;
        (self.cpu_ms - before.cpu_ms) as f64 / wall_ms * 100.0
    }
}

/// Of one process.
#[derive(Debug)]
pub struct Samples {
    pid: u32,
    name: String,
    start: Sample,
    after_idle: Option<Sample>,
    taken: Vec<Sample>,
}

impl Samples {
    /// After its start.
    pub fn new(pid: u32, name: &str) -> Result<Self> {
        let start = Sample::of(pid)?;
        Ok(Self { pid, name: name.to_owned(), start, after_idle: None, taken: Vec::new() })
    }

    /// Nothing was done since the start.
    pub fn end_of_idle(&mut self) -> Result<()> {
        self.after_idle = Some(Sample::of(self.pid)?);
        Ok(())
    }

    /// One under load.
    pub fn take(&mut self) -> Result<()> {
        self.taken.push(Sample::of(self.pid).with_context(|| format!("{} is gone", self.name))?);
        Ok(())
    }

    /// After the start.
    pub fn first(&self) -> Option<&Sample> {
        Some(&self.start)
    }

    /// The last one.
    pub fn last(&self) -> Option<&Sample> {
        self.taken.last()
    }

    /// How it stands.
    pub fn line(&self) -> String {
        let Some(last) = self.last() else { return String::new() };
        let resident = last.resident_kib as f64 / 1024.0;
        let cpu = self.after_idle.map_or(0.0, |idle| last.cpu_percent_since(&idle));
        format!("{} {resident:.2} MiB, {} fds, {cpu:.2} %", self.name, last.descriptors)
    }

    /// Prints all; whether each goal was met. Those of the memory are the tracer's alone.
    pub fn report(&self, is_tracer: bool) -> Result<bool> {
        let idle = self.after_idle.context("no idle time")?;
        let last = self.last().context("no load")?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let later = &self.taken[self.taken.len() / 2..];
        let slope = slope_kib_per_hour(later);
        let fds = || later.iter().map(|sample| sample.descriptors);
        let (fewest, most) = (fds().min().unwrap_or(0), fds().max().unwrap_or(0));
        let of_tracer = |goal: f64| if is_tracer { goal } else { f64::INFINITY };
        let rows = [
            (
                "resident after the start, MiB",
                mib(self.start.resident_kib),
                of_tracer(START_GOAL_MIB),
            ),
            ("resident at the peak, MiB", mib(last.peak_kib), of_tracer(PEAK_GOAL_MIB)),
            ("slope of the second half, KiB/h", slope, SLOPE_GOAL_KIB_PER_HOUR),
            ("descriptors, most − fewest", (most - fewest) as f64, DESCRIPTORS_GOAL),
            ("idle, % of a core", idle.cpu_percent_since(&self.start), IDLE_GOAL_PERCENT),
            ("under load, % of a core", last.cpu_percent_since(&idle), LOAD_GOAL_PERCENT),
        ];
        println!("{}", self.name);
        let mut held = true;
        for (what, value, goal) in rows {
            let verdict = if value <= goal { "ok" } else { "MISSED" };
            held &= value <= goal;
            println!("  {what:34} {value:9.2}  at most {goal:7.2}  {verdict}");
        }
        println!(
            "  resident over the load: {:.2} to {:.2} MiB; descriptors {fewest} to {most}",
            mib(self.taken.iter().map(|sample| sample.resident_kib).min().unwrap_or(0)),
            mib(self.taken.iter().map(|sample| sample.resident_kib).max().unwrap_or(0)),
        );
        Ok(held)
    }
}

/// Least squares.
fn slope_kib_per_hour(samples: &[Sample]) -> f64 {
    let Some(first) = samples.first() else { return 0.0 };
    let points: Vec<(f64, f64)> = samples
        .iter()
        .map(|sample| {
            let hours = sample.at.duration_since(first.at).as_secs_f64() / 3600.0;
            (hours, sample.resident_kib as f64)
        })
        .collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}
