//! Growth and kills where the kernel hands out huge pages to all, and where it has none; and the
//! error of counters that each CPU keeps a part of. The oracle is smaps_rollup, which counts pages.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::Result;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::counters::Slot;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::scene::{Scene, assert_limit, assert_near, culprit, only};
use tests::tracer::Tracer;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

/// A hog grows as the host's policy has it. Gives its bytes in huge pages.
fn growth_is_right(script: &str, threads: u64) -> Result<u64> {
    let cgroup = MemoryCgroup::new("huge", 400 * MIB)?;
    let tracer = Tracer::watch("")?;
    let hog = Hog::spawn(&cgroup, script)?;
    hog.done("sleep", SOON)?;
    // Threads may still be at work where the CPU is emulated.
    clock::wait_for("the end of growth", SOON, || {
        let before = hog.count(Slot::Anon);
        std::thread::sleep(Duration::from_millis(500));
        Ok((hog.count(Slot::Anon) == before).then_some(()))
    })?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let seen = trace.last_growth(hog.pid())?.anon_bytes;
    let truth = proc::rollup(hog.pid(), "Anonymous")?;
    let bound = proc::counter_error_bytes_of(threads)?;
    println!("anon: rampage {seen}, smaps_rollup {truth}, off {}, bound {bound}", {
        seen.abs_diff(truth)
    });
    assert!(truth >= hog.count(Slot::Anon), "the hog has touched more than it has");
    assert!(seen.abs_diff(truth) <= bound, "rampage {seen}, smaps_rollup {truth}");
    assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
    proc::rollup(hog.pid(), "AnonHugePages")
}

/// A leaker that grows by the host's policy is killed at its limit.
fn kill_is_right() -> Result<()> {
    let scene = Scene::new(96 * MIB)?;
    let path = scene.cgroup.path();
    let mut hog = Hog::spawn(&scene.cgroup, "comm:leaker any:160:100")?;
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
    assert_limit(oom, &path, 96 * MIB);
    assert_near("anon at the kill", oom.victims[0].anon_bytes, hog.count(Slot::Anon));
    assert_eq!(culprit(verdict), Some(hog.pid()));
    Ok(())
}

#[test]
fn growth_by_huge_pages_for_all() -> Result<()> {
    needs!(Btf, ThpAlways);
    let huge_bytes = growth_is_right("any:300:150 sleep:100 hold", 1)?;
    assert!(huge_bytes > 150 * MIB, "only {huge_bytes} are in huge pages");
    Ok(())
}

#[test]
fn kill_with_huge_pages_for_all() -> Result<()> {
    needs!(Btf, ThpAlways);
    kill_is_right()
}

#[test]
fn growth_by_huge_pages_for_those_that_ask() -> Result<()> {
    needs!(Btf, Thp);
    let huge_bytes = growth_is_right("thp:300:150 sleep:100 hold", 1)?;
    assert!(huge_bytes > 150 * MIB, "only {huge_bytes} are in huge pages");
    Ok(())
}

#[test]
fn growth_without_huge_pages() -> Result<()> {
    needs!(Btf, ThpNever);
    assert_eq!(growth_is_right("thp:150:150 any:150:150 sleep:100 hold", 1)?, 0);
    Ok(())
}

#[test]
fn kill_without_huge_pages() -> Result<()> {
    needs!(Btf, ThpNever);
    kill_is_right()
}

/// Small pages by twice as many threads as there are CPUs.
fn threads_on_each_cpu() -> Result<()> {
    let threads = 2 * proc::cpus()? as u64;
    let each = 200 / threads;
    let script =
        format!("repeat:{threads} {{ thread {{ anon:{each}:100 hold }} }} sleep:3000 hold");
    growth_is_right(&script, threads + 1)?;
    Ok(())
}

#[test]
fn growth_by_threads_on_one_cpu() -> Result<()> {
    needs!(Btf, OneCpu);
    threads_on_each_cpu()
}

#[test]
fn growth_by_threads_on_many_cpus() -> Result<()> {
    needs!(Btf, ManyCpus);
    threads_on_each_cpu()
}

#[test]
fn growth_by_threads() -> Result<()> {
    needs!(Btf);
    threads_on_each_cpu()
}
