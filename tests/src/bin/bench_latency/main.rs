//! `cargo xtask bench latency`: how long a finding takes from the kernel's event to the reader of
//! `rampage watch --json`, on an idle host. Ends with 1 when the goal is missed. Under memory
//! pressure it is measured by the test `latency` in a guest.
//!
//! Processes grow at 200 MiB/s beyond a memory cgroup of 48 MiB, one after the other: each is a
//! runaway, and then a verdict. Then others of 70 MiB are ended by SIGTERM. A verdict's time is that of
//! the kernel's own trace of oom:mark_victim, that of the others the report (of growth, of an exit)
//! that raised them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cgroup::MemoryCgroup;
use tests::hog::{Hog, leak};
use tests::latency::{Latencies, Watched};
use tests::marks::Marks;
use tests::proc;

const TIMES: u32 = 300;
const LIMIT_MIB: u64 = 48;
const MIB_PER_S: u64 = 200;
const SOON: Duration = Duration::from_secs(240);
/// Processes that are ended, and what each has: more than makes an end worth a word.
const ENDED: usize = 100;
const ENDED_MIB: u64 = 70;
/// Fewer findings are too few to judge by.
const LEAST: usize = 100;
const GOAL_MS: f64 = 50.0;

fn main() -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    println!("load average at the start: {}", load.trim());
    let cgroup = MemoryCgroup::new("bench-latency", LIMIT_MIB << 20)?;
    let marks = Marks::record()?;
    let watched = Watched::start()?;
    let faults = proc::major_faults(watched.pid())?;
    let parent = leak(&cgroup, TIMES, LIMIT_MIB, MIB_PER_S)?;
    parent.done("repeat", SOON)?;
    drop(parent);
    let roomy = MemoryCgroup::new("bench-latency", (4 * ENDED_MIB) << 20)?;
    for _ in 0..ENDED {
        end_one(&roomy)?;
    }
    // The last finding is on its way.
    std::thread::sleep(Duration::from_secs(2));
    let faults = proc::major_faults(watched.pid())? - faults;
    let arrived = watched.finish()?;
    let verdicts = Latencies::of_verdicts(&arrived, &marks.all()?);
    let runaways = Latencies::of_runaways(&arrived);
    let ends = Latencies::of_ends(&arrived);
    let measured = [("oom_verdict", verdicts), ("runaway", runaways), ("killed", ends)];
    println!("major faults of rampage: {faults}");
    println!("| finding | n | p50, ms | p99, ms | longest, ms |");
    println!("|---|---|---|---|---|");
    for (what, latencies) in &measured {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| latencies.quantile_ms(share));
        println!("| {what} | {} | {half:.2} | {most:.2} | {all:.2} |", latencies.count());
    }
    for (what, latencies) in &measured {
        let (count, p99_ms) = (latencies.count(), latencies.quantile_ms(0.99));
        ensure!(count >= LEAST, "{what}: only {count} findings");
        ensure!(p99_ms <= GOAL_MS, "{what}: goal missed: {p99_ms:.1} ms, not {GOAL_MS} ms");
    }
    Ok(())
}

/// A process takes its memory and is ended by SIGTERM.
fn end_one(cgroup: &MemoryCgroup) -> Result<()> {
    let mut hog = Hog::spawn(cgroup, &format!("comm:ended anon:{ENDED_MIB} hold"))?;
    hog.done("anon", SOON)?;
    // SAFETY: kill has no memory effects; the hog is a child that is not waited for yet.
    unsafe { libc::kill(hog.pid().cast_signed(), libc::SIGTERM) };
    hog.wait(SOON).map(drop)
}
