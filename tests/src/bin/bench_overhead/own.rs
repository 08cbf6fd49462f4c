//! Table D: what the tracer itself takes: CPU time when the bench rests and when it works, memory,
//! BPF maps.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::faults::{Faulting, Way, process_cpu_ns};
use crate::pages::Pool;
use crate::sample::Goals;
use crate::tracing::Rampage;

const KIB_PER_MIB: f64 = 1024.0;

/// Measures, prints and judges.
pub fn run(time: Duration, worker: &mut Faulting, pool: &Pool, goals: &mut Goals) -> Result<()> {
    let rampage = Rampage::start()?;
    let pid = rampage.pid();
    let started = memory_mib(pid, "VmRSS:")?;
    let maps = map_bytes(pid)? as f64 / (1 << 20) as f64;
    let idle = share(pid, || {
        sleep(time);
        Ok(())
    })?;
    let loaded = share(pid, || {
        worker.order(Way::Small, time)?;
        pool.run(time)?;
        worker.finish().map(drop)
    })?;
    let (after, peak) = (memory_mib(pid, "VmRSS:")?, memory_mib(pid, "VmHWM:")?);
    rampage.stop(worker.pid())?;
    println!("\n## The tracer's own cost");
    println!("| what | measured |");
    println!("|---|---|");
    println!("| CPU, {} s at rest | {idle:.2} % of a core |", time.as_secs());
    println!("| CPU, {} s of faults and php-fpm | {loaded:.2} % of a core |", time.as_secs());
    println!("| resident after the start | {started:.1} MiB |");
    println!("| resident after the load, peak | {after:.1} MiB, {peak:.1} MiB |");
    println!("| BPF maps | {maps:.1} MiB |\n");
    goals.judge(idle <= 0.5, "at rest at most 0.5 % of a core", &format!("{idle:.2} %"));
    goals.judge(loaded <= 2.0, "under load at most 2 % of a core", &format!("{loaded:.2} %"));
    goals.judge(
        started <= 16.0,
        "resident after the start at most 16 MiB",
        &format!("{started:.1} MiB"),
    );
    Ok(())
}

/// CPU time of a process while something happens, per cent of a core.
fn share(pid: u32, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let (start, cpu) = (Instant::now(), process_cpu_ns(pid)?);
    work()?;
    Ok((process_cpu_ns(pid)? - cpu) as f64 / start.elapsed().as_nanos() as f64 * 100.0)
}

fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no {field}"))? / KIB_PER_MIB)
}

/// Memory of the maps that a process holds, as the kernel accounts it.
fn map_bytes(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        if info.contains("map_type:") {
            let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
            sum += line.and_then(|rest| rest.trim().parse::<u64>().ok()).context("memlock")?;
        }
    }
    Ok(sum)
}
