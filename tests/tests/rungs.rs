//! Lower rungs of the ladder, forced: the same kill is seen through raw tracepoints, and the same
//! processes without the task iterator.

use std::time::Duration;

use anyhow::{Context, Result};
use tests::cgroup::MemoryCgroup;
use tests::hog::Hog;
use tests::scene::{culprit, only};
use tests::tracer::Tracer;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn raw_tracepoints_see_growth_and_the_kill() -> Result<()> {
    let cgroup = MemoryCgroup::new("rungs", 64 << 20)?;
    let tracer = Tracer::watch("--forbid tp_btf,fentry,kprobe")?;
    let mut hog = Hog::spawn(&cgroup, "comm:doomed anon:100:200 hold")?;
    hog.wait(SOON)?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    for hook in &trace.header()?.hooks {
        let known = ["raw_tracepoint", "iterator", "none"].contains(&&*hook.mechanism);
        assert!(known, "{hook:?}");
    }
    let (oom, verdict) = only(&trace, &cgroup.path())?;
    assert_eq!(oom.victims[0].tgid, hog.pid());
    assert_eq!(culprit(verdict), Some(hog.pid()));
    assert!(trace.growths(hog.pid()).len() > 10, "64 MiB are at least 16 steps");
    Ok(())
}

#[test]
fn without_the_iterator_processes_come_from_proc() -> Result<()> {
    let cgroup = MemoryCgroup::new("rungs", 64 << 20)?;
    let hog = Hog::spawn(&cgroup, "anon:20 hold")?;
    hog.done("anon", SOON)?;
    let tracer = Tracer::watch("--forbid iterator")?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let hooks = &trace.header()?.hooks;
    let sweep = hooks.iter().find(|hook| hook.name == "sweep/task").context("no sweep")?;
    assert_eq!((&*sweep.mechanism, &*sweep.state), ("none", "missing"));
    let last = trace.last_growth(hog.pid())?;
    assert!(last.anon_bytes >= 20 << 20, "{last:?}");
    Ok(())
}
