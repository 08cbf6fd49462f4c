//! Real OOM kills in memory cgroups, on this kernel: who was killed, who asked, how much, and who
//! caused it. Which of several limits was hit: `oom_scope.rs`.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result};
use rampage::event::Event;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::counters::Slot;
use tests::features::Feature;
use tests::hog::{self, Hog};
use tests::marks::Marks;
use tests::needs;
use tests::scene::{Scene, assert_limit, assert_near, culprit, first, only};
use tests::trace::any_in;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn victim_trigger_limit_and_sizes() -> Result<()> {
    needs!(Btf);
    let scene = Scene::new(64 * MIB)?;
    let path = scene.cgroup.path();
    let script = "comm:leaker adj:321 shm:6 wait anon:128:100";
    let mut hog = Hog::spawn(&scene.cgroup, script)?;
    hog.go()?;
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
    let victim = &oom.victims[0];
    assert_limit(oom, &path, 64 * MIB);
    assert_eq!((victim.tgid, &*victim.comm), (hog.pid(), "leaker"));
    assert_eq!(victim.cgroup.as_deref(), Some(&*path));
    assert_eq!(victim.oom_score_adj, 321);
    assert_eq!((oom.trigger.tgid, &*oom.trigger.comm), (hog.pid(), "leaker"));
    assert_eq!((victim.start_ns, oom.trigger.start_ns), {
        let known = trace.processes(hog.pid());
        let start_ns = known.first().context("the victim is not known as a process")?.start_ns;
        (start_ns, start_ns)
    });
    assert_near("anon at the kill", victim.anon_bytes, hog.count(Slot::Anon));
    assert_near("shmem at the kill", victim.shmem_bytes, hog.count(Slot::Shmem));
    assert_eq!(victim.swap_bytes, 0);
    assert_eq!(culprit(verdict), Some(hog.pid()));
    let exits = trace.exits(hog.pid());
    assert_eq!(exits.len(), 1, "{exits:?}");
    assert_eq!((exits[0].code, exits[0].signal), (None, Some(9)));
    let killed = trace.events().any(|event| {
        matches!(event, Event::Signal(signal)
            if signal.signal == 9 && signal.target.tgid == hog.pid() && signal.from_kernel)
    });
    assert!(killed, "no SIGKILL by the kernel is in the trace");
    Ok(())
}

#[test]
fn culprit_is_not_the_victim() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("oom", 256 * MIB)?;
    let bystander = Hog::spawn(&cgroup, "comm:bystander adj:1000 anon:100 hold")?;
    bystander.done("anon", SOON)?;
    let scene = Scene::with(cgroup)?;
    let path = scene.cgroup.path();
    let mut leaker = Hog::spawn(&scene.cgroup, "comm:leaker adj:0 wait anon:170:40 wait")?;
    leaker.go()?;
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = first(&trace, &path)?;
    assert_limit(oom, &path, 256 * MIB);
    let victim = &oom.victims[0];
    assert_eq!((victim.tgid, victim.oom_score_adj), (bystander.pid(), 1000));
    assert_near("anon at the kill", victim.anon_bytes, bystander.count(Slot::Anon));
    assert_eq!(oom.trigger.tgid, leaker.pid());
    assert_eq!(culprit(verdict), Some(leaker.pid()), "{verdict:?}");
    let named = verdict.culprit.as_ref().map(|culprit| &*culprit.comm);
    assert_eq!(named, Some("leaker"));
    Ok(())
}

#[test]
fn culprit_is_neither_victim_nor_trigger() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("oom", 160 * MIB)?;
    let bystander = Hog::spawn(&cgroup, "comm:bystander adj:1000 anon:50 hold")?;
    bystander.done("anon", SOON)?;
    let scene = Scene::with(cgroup)?;
    let path = scene.cgroup.path();
    let leaker = Hog::spawn(&scene.cgroup, "comm:leaker anon:96:16 hold")?;
    leaker.done("anon", SOON)?;
    assert_eq!(scene.cgroup.oom_kills()?, 0, "the leaker alone must stay below the limit");
    let small = Hog::spawn(&scene.cgroup, "comm:small anon:20:40 hold")?;
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = first(&trace, &path)?;
    assert_limit(oom, &path, 160 * MIB);
    assert_eq!(oom.victims[0].tgid, bystander.pid());
    assert_eq!((oom.trigger.tgid, &*oom.trigger.comm), (small.pid(), "small"));
    assert_eq!(culprit(verdict), Some(leaker.pid()), "{verdict:?}");
    Ok(())
}

#[test]
fn short_lived_processes_have_no_single_culprit() -> Result<()> {
    needs!(Btf);
    let scene = Scene::new(96 * MIB)?;
    let path = scene.cgroup.path();
    // Each lives long enough for 24 of them to be there at a time, also where a fork takes long.
    let life = clock::patient(Duration::from_millis(700)).as_millis();
    let script =
        format!("repeat:80 {{ fork {{ comm:brief anon:4:80 sleep:{life} exit }} sleep:8 }} reap");
    let hog = Hog::spawn(&scene.cgroup, &script)?;
    hog.done("reap", SOON)?;
    assert!(scene.cgroup.oom_kills()? > 0, "80 processes of 4 MiB fit into 96 MiB");
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    for oom in trace.ooms_in(&path) {
        assert_limit(oom, &path, 96 * MIB);
        for victim in &oom.victims {
            assert_eq!(&*victim.comm, "brief");
            assert!(trace.forked(victim.tgid), "victim {} has no fork", victim.tgid);
        }
    }
    let verdicts = trace.verdicts().into_iter();
    for (_, finding, verdict) in verdicts.filter(|verdict| any_in(&verdict.2.victims, &path)) {
        assert_eq!(verdict.culprit, None, "{}", finding.summary);
        assert_eq!(finding.subject, None, "{}", finding.summary);
    }
    Ok(())
}

#[test]
fn process_that_ends_before_user_space_looks() -> Result<()> {
    needs!(Btf);
    let scene = Scene::new(128 * MIB)?;
    let path = scene.cgroup.path();
    let blink = hog::link(scene.folder(), "blink")?;
    let doomed = hog::link(scene.folder(), "doomed")?;
    let script = format!(
        "wait fork {{ exec:{blink} anon:24 exit:7 }} reap fork {{ exec:{doomed} anon:200 }} reap"
    );
    let mut hog = Hog::spawn(&scene.cgroup, &script)?;
    scene.tracer.settle()?;
    scene.tracer.pause();
    hog.go()?;
    hog.done("reap", SOON)?;
    hog.done("reap", SOON)?;
    assert_eq!(scene.cgroup.oom_kills()?, 1);
    scene.tracer.resume();
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;

    let born = |comm: &str| {
        let found = trace.events().find_map(|event| match event {
            Event::Process(process) if &*process.comm == comm => Some(process.tgid),
            _ => None,
        });
        found.with_context(|| format!("no process is called {comm}"))
    };
    let tgid = born("blink")?;
    let exits = trace.exits(tgid);
    assert_eq!(exits.len(), 1);
    assert_eq!((exits[0].code, exits[0].signal), (Some(7), None));
    assert_near("anon at the exit", trace.last_growth(tgid)?.anon_bytes, 24 * MIB);
    let peak = exits[0].peak_bytes.context("no peak")?;
    assert!((24 * MIB..32 * MIB).contains(&peak), "peak {peak}");
    let known = trace.processes(tgid);
    assert!(known.iter().all(|process| process.ppid == hog.pid()));
    assert_eq!(known.last().and_then(|process| process.cgroup.as_deref()), Some(&*path));

    let (oom, verdict) = only(&trace, &path)?;
    assert_eq!((oom.victims[0].tgid, &*oom.victims[0].comm), (born("doomed")?, "doomed"));
    assert_limit(oom, &path, 128 * MIB);
    assert!(oom.victims[0].anon_bytes > 100 * MIB, "{}", oom.victims[0].anon_bytes);
    assert_eq!(culprit(verdict), Some(oom.victims[0].tgid));
    Ok(())
}

#[test]
fn kill_that_marks_several_threads_has_one_victim() -> Result<()> {
    needs!(Btf, Tracefs);
    // An emulator that runs one CPU after the other may never be so lucky, and takes seconds for each.
    let attempts = if Feature::RealTime.is_here() { 40 } else { 8 };
    let scene = Scene::new(64 * MIB)?;
    let path = scene.cgroup.path();
    let marks = Marks::record()?;
    let mut killed = Vec::new();
    // Several threads must be in the middle of an allocation at the kill: a matter of luck.
    for _ in 0..attempts {
        let mut hog = Hog::spawn(&scene.cgroup, "repeat:8 { thread { anon:32 } } join")?;
        assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
        killed.push(hog.pid());
        if marks.tids()?.len() > killed.len() {
            break;
        }
    }
    let tids = marks.tids()?;
    println!("{} marks in {} kills", tids.len(), killed.len());
    let lucky = tids.len() > killed.len() || !Feature::RealTime.is_here();
    assert!(lucky, "{attempts} kills and none marked two threads");
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let ooms = trace.ooms_in(&path);
    let victims: Vec<u32> =
        ooms.iter().flat_map(|oom| oom.victims.iter().map(|victim| victim.tgid)).collect();
    assert_eq!(victims, killed, "one event with one victim for each kill, in order");
    assert_eq!(ooms.len(), killed.len());
    Ok(())
}
