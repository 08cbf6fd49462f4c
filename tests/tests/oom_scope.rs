//! Real OOM kills under nested limits and in groups: which limit was hit, and one event for each
//! invocation of the OOM killer.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::Result;
use tests::cgroup::MemoryCgroup;
use tests::counters::Slot;
use tests::hog::Hog;
use tests::needs;
use tests::scene::{Scene, assert_limit, assert_near, culprit, only};
use tests::tracer::Tracer;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn limit_of_a_parent() -> Result<()> {
    needs!(Btf);
    let parent = MemoryCgroup::new("oom", 96 * MIB)?;
    let left = parent.child("left")?;
    let right = parent.child("right")?;
    right.set_limit(80 * MIB)?;
    let holder = Hog::spawn(&left, "comm:holder anon:40 hold")?;
    holder.done("anon", SOON)?;
    let scene = Scene::with(parent)?;
    let path = scene.cgroup.path();
    let mut leaker = Hog::spawn(&right, "comm:leaker adj:500 anon:78:50 hold")?;
    assert_eq!(leaker.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
    assert_limit(oom, &path, 96 * MIB);
    assert_eq!(oom.victims[0].cgroup.as_deref(), Some(&*right.path()));
    assert_eq!(oom.trigger.cgroup.as_deref(), Some(&*right.path()));
    assert_near("anon at the kill", oom.victims[0].anon_bytes, leaker.count(Slot::Anon));
    assert_eq!(culprit(verdict), Some(leaker.pid()));
    Ok(())
}

#[test]
fn limit_of_a_child() -> Result<()> {
    needs!(Btf);
    let parent = MemoryCgroup::new("oom", 256 * MIB)?;
    let child = parent.child("inner")?;
    child.set_limit(48 * MIB)?;
    let scene = Scene::with(parent)?;
    let mut leaker = Hog::spawn(&child, "comm:leaker anon:78:50 hold")?;
    assert_eq!(leaker.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &child.path())?;
    assert_limit(oom, &child.path(), 48 * MIB);
    assert_eq!(culprit(verdict), Some(leaker.pid()));
    Ok(())
}

/// Until 5.10 a v1 parent may not be charged for its children: its limit, however small, neither
/// kills them nor sets the step of their reports.
#[test]
fn limit_of_a_parent_that_does_not_bind() -> Result<()> {
    needs!(Btf, FlatCgroups);
    let parent = MemoryCgroup::flat("oom", 16 * MIB)?;
    let child = parent.child("inner")?;
    child.set_limit(96 * MIB)?;
    let tracer = Tracer::watch("--forbid fentry,kprobe")?;
    let mut leaker = Hog::spawn(&child, "comm:leaker anon:140:50 hold")?;
    assert_eq!(leaker.wait(SOON)?.signal(), Some(libc::SIGKILL));
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let (oom, verdict) = only(&trace, &child.path())?;
    assert_limit(oom, &child.path(), 96 * MIB);
    assert_eq!(culprit(verdict), Some(leaker.pid()));
    // 64 steps of 1.5 MiB; a limit of 16 MiB would make it 384 of 256 KiB.
    let reports = trace.growths(leaker.pid()).len();
    assert!((32..192).contains(&reports), "{reports} reports of growth");
    Ok(())
}

/// v1 has no group kill.
#[test]
fn group_kill_is_one_event() -> Result<()> {
    needs!(Btf, CgroupV2);
    let cgroup = MemoryCgroup::new("oom", 96 * MIB)?;
    cgroup.set_oom_group()?;
    let scene = Scene::with(cgroup)?;
    let path = scene.cgroup.path();
    let script = "repeat:4 { fork { anon:8 hold } } comm:leaker wait anon:96:50";
    let mut leaker = Hog::spawn(&scene.cgroup, script)?;
    leaker.done("repeat", SOON)?;
    scene.tracer.settle()?;
    let inside: BTreeSet<u32> = scene.cgroup.processes()?.into_iter().collect();
    assert_eq!(inside.len(), 5);
    leaker.go()?;
    assert_eq!(leaker.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    scene.tracer.settle()?;
    let trace = scene.tracer.finish()?.trace;
    let ooms = trace.ooms_in(&path);
    assert_eq!(ooms.len(), 1, "{ooms:?}");
    assert_limit(ooms[0], &path, 96 * MIB);
    let victims: BTreeSet<u32> = ooms[0].victims.iter().map(|victim| victim.tgid).collect();
    assert_eq!((ooms[0].victims.len(), &victims), (5, &inside));
    // The kernel counts the process that it chose once more when it goes through the group.
    let counted = scene.cgroup.event("oom_kill")?;
    assert!((5..=6).contains(&counted), "oom_kill {counted}");
    // Whoever allocates while the group dies is counted too, and kills nobody.
    assert!(scene.cgroup.event("oom")? >= 1);
    assert_eq!(culprit(trace.verdicts()[0].2), Some(leaker.pid()));
    Ok(())
}
