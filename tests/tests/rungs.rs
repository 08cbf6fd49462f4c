//! Rungs of the ladder, each forced: by whatever mechanism a kernel is hooked, the same kill has the
//! same victim, limit and culprit.

use std::time::Duration;

use anyhow::{Context, Result};
use rampage::event::{Cgroup, Hook};
use tests::cgroup::MemoryCgroup;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::scene::{assert_limit, culprit, only};
use tests::trace::Trace;
use tests::tracer::Tracer;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

fn hook<'a>(trace: &'a Trace, name: &str) -> Result<&'a Hook> {
    let hooks = &trace.header()?.hooks;
    hooks.iter().find(|hook| hook.name == name).with_context(|| format!("no hook {name}"))
}

/// A kill at the limit of a parent, whose child has a limit that is nearly as full, is seen under
/// `arguments`.
fn sees_growth_and_the_kill(arguments: &str) -> Result<Trace> {
    let parent = MemoryCgroup::new("rungs", 64 * MIB)?;
    let child = parent.child("inner")?;
    child.set_limit(66 * MIB)?;
    let tracer = Tracer::watch(arguments)?;
    let mut hog = Hog::spawn(&child, "comm:doomed anon:100:100 hold")?;
    hog.wait(SOON)?;
    assert_eq!(parent.oom_kills()?, 1);
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let (oom, verdict) = only(&trace, &parent.path())?;
    assert_limit(oom, &parent.path(), 64 * MIB);
    assert_eq!(oom.victims[0].tgid, hog.pid());
    assert_eq!(culprit(verdict), Some(hog.pid()));
    assert!(trace.growths(hog.pid()).len() > 10, "64 MiB are at least 16 steps");
    assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
    Ok(trace)
}

/// Nothing but what the tracer is left with is used, `oom_kill_process` apart.
fn assert_tracepoints(trace: &Trace, mechanism: &str) -> Result<()> {
    for hook in &trace.header()?.hooks {
        let expected = match &*hook.name {
            "oom/oom_kill_process" => continue,
            "sweep/task" => "iterator",
            // Until 6.1 the counters are an array in mm_struct, into which the verifier does not
            // let a typed pointer reach.
            "growth/rss_stat" if hook.state == "degraded" => {
                assert!(hook.reason.starts_with("tp_btf: "), "{hook:?}");
                "raw_tracepoint"
            }
            _ => mechanism,
        };
        assert_eq!(hook.mechanism, expected, "{hook:?}");
    }
    Ok(())
}

#[test]
fn tracepoints_without_entries() -> Result<()> {
    needs!(Btf);
    let trace = sees_growth_and_the_kill("--forbid fentry,kprobe")?;
    assert_tracepoints(&trace, "tp_btf")?;
    let entry = hook(&trace, "oom/oom_kill_process")?;
    assert_eq!((&*entry.mechanism, &*entry.state), ("none", "missing"));
    assert!(!entry.reason.is_empty(), "it is not said what is lost");
    Ok(())
}

#[test]
fn raw_tracepoints_alone() -> Result<()> {
    needs!(Btf);
    let trace = sees_growth_and_the_kill("--forbid tp_btf,fentry,kprobe")?;
    assert_tracepoints(&trace, "raw_tracepoint")?;
    assert_eq!(hook(&trace, "oom/oom_kill_process")?.mechanism, "none");
    Ok(())
}

#[test]
fn fentry_tells_the_limit() -> Result<()> {
    needs!(Btf, Fentry);
    let trace = sees_growth_and_the_kill("--forbid kprobe")?;
    let entry = hook(&trace, "oom/oom_kill_process")?;
    assert_eq!((&*entry.mechanism, &*entry.state), ("fentry", "attached"));
    assert_tracepoints(&trace, "tp_btf")
}

#[test]
fn a_kprobe_tells_the_limit() -> Result<()> {
    needs!(Btf, Kprobes);
    let trace = sees_growth_and_the_kill("--forbid fentry")?;
    let entry = hook(&trace, "oom/oom_kill_process")?;
    assert_eq!(entry.mechanism, "kprobe", "{entry:?}");
    assert_tracepoints(&trace, "tp_btf")
}

#[test]
fn raw_tracepoints_and_a_kprobe() -> Result<()> {
    needs!(Btf, Kprobes);
    let trace = sees_growth_and_the_kill("--forbid tp_btf,fentry")?;
    assert_eq!(hook(&trace, "oom/oom_kill_process")?.mechanism, "kprobe");
    assert_tracepoints(&trace, "raw_tracepoint")
}

/// Where the entry of a function cannot be hooked, that is said, and the counters tell the limit.
#[test]
fn without_entries_the_counters_tell_the_limit() -> Result<()> {
    needs!(Btf, NoEntries);
    let trace = sees_growth_and_the_kill("")?;
    let entry = hook(&trace, "oom/oom_kill_process")?;
    assert_eq!((&*entry.mechanism, &*entry.state), ("none", "missing"));
    assert!(entry.reason.contains("counters"), "{}", entry.reason);
    Ok(())
}

#[test]
fn without_the_iterator_processes_come_from_proc() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("rungs", 64 * MIB)?;
    let hog = Hog::spawn(&cgroup, "anon:20 hold")?;
    hog.done("anon", SOON)?;
    let tracer = Tracer::watch("--forbid iterator")?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let sweep = hook(&trace, "sweep/task")?;
    assert_eq!((&*sweep.mechanism, &*sweep.state), ("none", "missing"));
    let last = trace.last_growth(hog.pid())?;
    assert!(last.anon_bytes >= 20 * MIB - proc::counter_error_bytes()?, "{last:?}");
    Ok(())
}

/// Polling sees growth and the end; of the kill it sees the counter, and says so beforehand.
#[test]
fn polling_sees_growth_and_the_counter_of_kills() -> Result<()> {
    let cgroup = MemoryCgroup::new("rungs", 64 * MIB)?;
    let tracer = Tracer::watch("--source procfs --interval 200ms")?;
    let mut hog = Hog::spawn(&cgroup, "comm:doomed anon:40:40 wait anon:60 hold")?;
    hog.done("anon", SOON)?;
    tracer.settle()?;
    hog.go()?;
    hog.wait(SOON)?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    assert_eq!(trace.header()?.source, "procfs");
    let oom = hook(&trace, "oom")?;
    assert_eq!((&*oom.mechanism, &*oom.state), ("none", "missing"));
    let largest = trace.growths(hog.pid()).iter().map(|growth| growth.anon_bytes).max();
    let least = 40 * MIB - proc::counter_error_bytes()?;
    assert!((least..=64 * MIB).contains(&largest.context("no growth")?), "{largest:?}");
    assert_eq!(trace.exits(hog.pid()).len(), 1);
    let path = cgroup.path();
    let counted = |seen: &&Cgroup| seen.events.map(|events| events.oom_kill);
    let kills = trace.cgroups(&path).iter().rev().find_map(counted);
    assert_eq!(kills, Some(cgroup.oom_kills()?));
    assert_eq!(kills, Some(1));
    Ok(())
}
