//! The limits that only cgroup v2 has: memory.high slows down and kills nobody, memory.swap.max
//! bounds what may be swapped out, and memory.max that is lowered below the usage kills from outside.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::cgroup::MemoryCgroup;
use tests::counters::Slot;
use tests::hog::Hog;
use tests::needs;
use tests::scene::{Scene, assert_limit, assert_near, culprit, only};
use tests::tracer::Tracer;
use tests::writer::Written;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

/// A writer's page cache is all that there is to reclaim.
#[test]
fn memory_high_stalls_and_kills_nobody() -> Result<()> {
    needs!(Btf, CgroupV2);
    let cgroup = MemoryCgroup::unlimited("high")?;
    cgroup.set_high(32 * MIB)?;
    let written = Written::in_cgroup(&cgroup)?;

    let [high, max, kills] = ["high", "max", "oom_kill"].map(|name| cgroup.event(name));
    let high = high?;
    assert!(high > 0, "400 MiB went through 32 MiB and memory.high did nothing");
    assert_eq!((max?, kills?), (0, 0));
    written.assert_stalled(&cgroup);
    let trace = &written.trace;
    assert!(trace.ooms_in(&cgroup.path()).is_empty(), "an OOM kill that was none");
    let looks = trace.cgroups(&cgroup.path());
    let seen = looks.last().context("the cgroup is not in the trace")?;
    assert_eq!((seen.high_bytes, seen.max_bytes), (Some(32 * MIB), None));
    let events = seen.events.context("no counters in the last event of the cgroup")?;
    // Nobody looks at it any more once nothing moves in it.
    assert!((1..=high).contains(&events.high), "high {} of {high}", events.high);
    assert_eq!(events.oom_kill, 0);
    Ok(())
}

/// Memory and swap of the cgroup are both full at the kill; what was swapped out is growth as well.
#[test]
fn memory_swap_max_bounds_growth_that_is_swapped_out() -> Result<()> {
    needs!(Btf, CgroupV2, Swap);
    let scene = Scene::new(64 * MIB)?;
    scene.cgroup.set_swap_limit(32 * MIB)?;
    let path = scene.cgroup.path();
    let mut hog = Hog::spawn(&scene.cgroup, "comm:leaker anon:200:25")?;
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
    assert_limit(oom, &path, 64 * MIB);
    let (victim, touched) = (&oom.victims[0], hog.count(Slot::Anon));
    assert!(touched > 80 * MIB, "{touched} do not need swap");
    assert_near("anon and swap at the kill", victim.anon_bytes + victim.swap_bytes, touched);
    assert_near("swap at the kill", victim.swap_bytes, 32 * MIB);
    let growths = trace.growths(hog.pid());
    let swap_bytes = growths.iter().map(|growth| growth.swap_bytes).max().unwrap_or(0);
    assert!(swap_bytes > 16 * MIB, "growth shows at most {swap_bytes} of swap");
    let private: Vec<u64> = growths.iter().map(|growth| growth.private_bytes()).collect();
    let falls = private.windows(2).map(|pair| pair[0].saturating_sub(pair[1])).max();
    assert!(falls.unwrap_or(0) < 4 * MIB, "what is swapped out has shrunk: {private:?}");
    assert_eq!(culprit(verdict), Some(hog.pid()));
    let seen = trace.cgroups(&path).iter().rev().find_map(|seen| seen.swap_max_bytes);
    assert_eq!(seen, Some(32 * MIB));
    Ok(())
}

/// Who writes memory.max is the trigger, though it has no memory in the cgroup.
fn lowered_limit_kills(arguments: &str) -> Result<()> {
    let cgroup = MemoryCgroup::new("lowered", 256 * MIB)?;
    let path = cgroup.path();
    let tracer = Tracer::watch(arguments)?;
    let mut hog = Hog::spawn(&cgroup, "comm:leaker anon:120:60 hold")?;
    hog.done("anon", SOON)?;
    tracer.settle()?;
    cgroup.set_limit(40 * MIB)?;
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    assert_eq!(cgroup.oom_kills()?, 1);
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let (oom, verdict) = only(&trace, &path)?;
    assert_limit(oom, &path, 40 * MIB);
    assert_eq!(oom.trigger.tgid, std::process::id());
    assert_ne!(oom.trigger.cgroup.as_deref(), Some(&*path));
    assert_eq!(culprit(verdict), Some(hog.pid()));
    Ok(())
}

#[test]
fn memory_max_lowered_below_the_usage_kills() -> Result<()> {
    needs!(Btf, CgroupV2, NoSwap);
    lowered_limit_kills("")
}

/// The trigger is outside: no cgroup is above both it and the victim but the root.
#[test]
fn memory_max_lowered_is_told_by_the_counters() -> Result<()> {
    needs!(Btf, CgroupV2, NoSwap);
    lowered_limit_kills("--forbid fentry,kprobe")
}
