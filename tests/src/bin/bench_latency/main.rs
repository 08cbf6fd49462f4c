//! `cargo xtask bench latency`: how long a finding takes from the kernel's event to the reader of
//! `rampage watch --json`, on an idle host. Ends with 1 when the goal is missed. Under memory
//! pressure it is measured by the test `latency` in a guest.
//!
//! Processes grow at 200 MiB/s beyond a memory cgroup of 48 MiB, one after the other: each is a
//! runaway, and then a verdict. A verdict's time is that of the kernel's own trace of
//! oom:mark_victim, a runaway's that of the report of growth that raised it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cgroup::MemoryCgroup;
use tests::latency::{Latencies, Watched, leak};
use tests::marks::Marks;
use tests::proc;

const TIMES: u32 = 300;
const LIMIT_MIB: u64 = 48;
const MIB_PER_S: u64 = 200;
const SOON: Duration = Duration::from_secs(240);
/// Fewer findings are too few to judge by.
const LEAST: usize = 200;
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
    // The last verdict is on its way.
    std::thread::sleep(Duration::from_secs(2));
    let faults = proc::major_faults(watched.pid())? - faults;
    let arrived = watched.finish()?;
    let verdicts = Latencies::of_verdicts(&arrived, &marks.all()?);
    let runaways = Latencies::of_runaways(&arrived);
    println!("major faults of rampage: {faults}");
    println!("| finding | n | p50, ms | p99, ms | longest, ms |");
    println!("|---|---|---|---|---|");
    for (what, latencies) in [("oom_verdict", &verdicts), ("runaway", &runaways)] {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| latencies.quantile_ms(share));
        println!("| {what} | {} | {half:.2} | {most:.2} | {all:.2} |", latencies.count());
    }
    for latencies in [&verdicts, &runaways] {
        ensure!(latencies.count() >= LEAST, "only {} findings", latencies.count());
        let p99_ms = latencies.quantile_ms(0.99);
        ensure!(p99_ms <= GOAL_MS, "goal missed: {p99_ms:.1} ms, not {GOAL_MS} ms");
    }
    Ok(())
}
