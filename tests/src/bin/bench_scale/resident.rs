//! What rampage itself holds while it traces 1,000 real processes: resident memory after the start,
//! its peak, the memory of its BPF maps, and its share of a core while nothing happens.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cgroup::MemoryCgroup;
use tests::tracer::Tracer;

use super::MIB;

const PROCESSES: usize = 1_000;
/// What the sleepers may take together.
const CGROUP_BYTES: u64 = 2 << 30;
const IDLE: Duration = Duration::from_secs(20);

const RESIDENT_GOAL_MIB: f64 = 16.0;
const PEAK_GOAL_MIB: f64 = 24.0;
const MAPS_GOAL_MIB: f64 = 16.0;
const IDLE_GOAL_PERCENT: f64 = 0.5;

/// Ends its processes when it goes.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(cgroup: &MemoryCgroup) -> Result<Self> {
        let mut sleepers = Self(Vec::with_capacity(PROCESSES));
        for _ in 0..PROCESSES {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null());
            cgroup.confine(&mut command)?;
            sleepers.0.push(command.spawn().context("sleep")?);
        }
        Ok(sleepers)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Measures and prints; an error when a goal is missed.
pub fn measure() -> Result<()> {
    let cgroup = MemoryCgroup::new("bench-scale", CGROUP_BYTES)?;
    let _sleepers = Sleepers::start(&cgroup)?;
    let folder = tempfile::tempdir().context("a folder for the trace")?;
    let tracer = Tracer::record(&folder.path().join("t.jsonl"), "")?;
    tracer.settle()?;
    let pid = tracer.pid();
    sleep(Duration::from_secs(3));
    let resident = status_mib(pid, "VmRSS:")?;
    let before = core_s(pid)?;
    sleep(IDLE);
    let idle_percent = (core_s(pid)? - before) / IDLE.as_secs_f64() * 100.0;
    let peak = status_mib(pid, "VmHWM:")?;
    let maps = map_bytes(pid)? as f64 / MIB as f64;
    tracer.finish()?;
    println!("\nrampage record, {PROCESSES} processes that sleep");
    let mut missed = Vec::new();
    for (what, value, goal, unit) in [
        ("resident after the start", resident, RESIDENT_GOAL_MIB, "MiB"),
        ("resident at the peak", peak, PEAK_GOAL_MIB, "MiB"),
        ("BPF maps (kernel memory)", maps, MAPS_GOAL_MIB, "MiB"),
        ("share of a core, idle", idle_percent, IDLE_GOAL_PERCENT, "%"),
    ] {
        println!("{what:<26}  {value:>6.2} {unit:<3}  goal at most {goal:>4} {unit}");
        if value > goal {
            missed.push(what);
        }
    }
    ensure!(missed.is_empty(), "goals missed: {}", missed.join(", "));
    Ok(())
}

fn status_mib(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("not a size")?;
    Ok(kib / 1024.0)
}

/// Core time of a process so far, all threads, s.
fn core_s(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let ns: u64 = text.split(' ').next().unwrap_or_default().parse().context("schedstat")?;
        sum += ns as f64 / 1e9;
    }
    Ok(sum)
}

/// Memory of the BPF maps that a process holds, as the kernel accounts it.
fn map_bytes(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        if info.contains("map_type:")
            && let Some(bytes) = info.lines().find_map(|line| line.strip_prefix("memlock:"))
        {
            sum += bytes.trim().parse::<u64>().context("memlock")?;
        }
    }
    Ok(sum)
}
