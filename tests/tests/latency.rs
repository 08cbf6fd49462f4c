//! A finding reaches its reader in time also while the whole machine thrashes, rampage in the midst
//! of it: its own memory is locked, so that it waits for no page.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::hog::{Hog, leak};
use tests::latency::{Latencies, Watched};
use tests::marks::Marks;
use tests::needs;
use tests::proc;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
/// How long it thrashes at most, and until how many findings: a verdict, and a runaway that is raised
/// and closed, for each process that is killed.
const THRASHING: Duration = Duration::from_secs(240);
const FINDINGS: usize = 450;
const LIMIT_MIB: u64 = 24;
const MIB_PER_S: u64 = 60;
/// Pages that are brought back while it thrashes at least, each second.
const SWAPPED_IN_PER_S: f64 = 100.0;
/// Half of the findings come sooner than this and 99 of 100 than that, where the CPU is emulated and
/// has to serve the hogs as well.
const HALF_MS: f64 = 100.0;
const MOST_MS: f64 = 1000.0;

/// This test is to measure rampage, not its own page faults, and to outlive what it does.
fn protect() -> Result<()> {
    proc::set_oom_score_adj(std::process::id(), -1000)?;
    // SAFETY: mlockall takes flags only.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    ensure!(locked == 0, "mlockall: {}", std::io::Error::last_os_error());
    Ok(())
}

#[test]
fn findings_come_in_time_while_everything_is_swapped() -> Result<()> {
    needs!(Btf, WholeMachine, Swap, CgroupV2, Tracefs);
    protect()?;
    let everybody = MemoryCgroup::unlimited("churn")?;
    let limited = MemoryCgroup::new("latency", LIMIT_MIB * MIB)?;
    // Only what is charged here may be killed here: nothing of it is swapped out.
    limited.set_swap_limit(0)?;
    let marks = Marks::record()?;
    let watched = Watched::start()?;
    let faults_before = proc::major_faults(watched.pid())?;
    // More than there is, less than there is with swap.
    let mib = (proc::meminfo("MemTotal")? + proc::meminfo("SwapFree")? / 3) / MIB;
    let half = mib / 2;
    let churn = format!("comm:churn adj:900 anon:{half} churn");
    let hogs = [Hog::spawn(&everybody, &churn)?, Hog::spawn(&everybody, &churn)?];
    for hog in &hogs {
        hog.done("anon", SOON)?;
    }
    let (swapped_before, began) = (proc::vmstat("pswpin")?, Instant::now());
    let started = watched.findings();
    let _parent = leak(&limited, 10_000, LIMIT_MIB, MIB_PER_S)?;
    let waited = clock::wait_for("findings", THRASHING / clock::patience(), || {
        Ok((watched.findings() >= started + FINDINGS).then_some(()))
    });
    let swapped_per_s =
        (proc::vmstat("pswpin")? - swapped_before) as f64 / began.elapsed().as_secs_f64();
    let faults = proc::major_faults(watched.pid())? - faults_before;
    let arrived = watched.finish()?;
    let verdicts = Latencies::of_verdicts(&arrived, &marks.all()?);
    let runaways = Latencies::of_runaways(&arrived);
    println!(
        "measured: {swapped_per_s:.0} pages swapped in each second; {faults} major faults of rampage"
    );
    for (what, latencies) in [("oom_verdict", &verdicts), ("runaway", &runaways)] {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| latencies.quantile_ms(share));
        let count = latencies.count();
        println!(
            "measured: {what}: {count}; p50 {half:.1} ms, p99 {most:.1} ms, longest {all:.1} ms"
        );
    }
    waited?;
    ensure!(swapped_per_s >= SWAPPED_IN_PER_S, "it does not thrash");
    ensure!(verdicts.count() >= FINDINGS / 5, "only {} verdicts", verdicts.count());
    for latencies in [&verdicts, &runaways] {
        let (half_ms, most_ms) = (latencies.quantile_ms(0.5), latencies.quantile_ms(0.99));
        assert!(half_ms <= HALF_MS && most_ms <= MOST_MS, "{half_ms} ms, {most_ms} ms");
    }
    assert_eq!(faults, 0, "rampage waited for its own pages");
    Ok(())
}
