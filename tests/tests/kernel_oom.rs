//! Real OOM kills in memory cgroups, on this kernel: who was killed, who asked, which limit, how
//! much, and who caused it.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{Event, Oom, ScopeKind, Verdict};
use tests::cgroup::{MemoryCgroup, Version};
use tests::counters::Slot;
use tests::hog::{self, Hog};
use tests::marks::Marks;
use tests::trace::Trace;
use tests::tracer::{self, Tracer};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

/// A cgroup with a limit, and a tracer that records.
struct Scene {
    tracer: Tracer,
    cgroup: MemoryCgroup,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(limit_bytes: u64) -> Result<Self> {
        Self::with(MemoryCgroup::new("oom", limit_bytes)?)
    }

    /// Processes that are in `cgroup` by now existed before the tracer.
    fn with(cgroup: MemoryCgroup) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let tracer = Tracer::record(&folder.path().join("trace.jsonl"), "--step 256K")?;
        Ok(Self { tracer, cgroup, folder })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("trace.jsonl")
    }

    /// Waits for an `oom` event and its verdict.
    fn wait_for_verdict(&self) -> Result<()> {
        let verdict = |event: &Event| {
            matches!(event, Event::Finding(finding)
                if finding.kind == rampage::event::FindingKind::OomVerdict)
        };
        self.tracer.wait_for("a verdict", SOON, |line| verdict(&line.event))?;
        Ok(())
    }

    /// Ends the tracer and checks what holds for every OOM: as many victims as the kernel counted,
    /// a verdict for each event, nothing lost, and the same findings again by replay.
    fn finish(self) -> Result<Trace> {
        self.tracer.settle()?;
        let file = self.file();
        let trace = self.tracer.finish()?.trace;
        let ooms = trace.ooms_in(&self.cgroup.path());
        let victims: usize = ooms.iter().map(|oom| oom.victims.len()).sum();
        assert_eq!(victims as u64, self.cgroup.oom_kills()?, "victims and the kernel's oom_kill");
        assert_eq!(trace.ooms().len(), trace.verdicts().len(), "a verdict for each oom event");
        assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
        let replayed = tracer::replay_findings(&file)?;
        assert_eq!(trace.findings_json(), replayed.iter().collect::<Vec<_>>(), "live and replay");
        Ok(trace)
    }
}

/// The only `oom` event in `path`, with its verdict.
fn only<'a>(trace: &'a Trace, path: &str) -> Result<(&'a Oom, &'a Verdict)> {
    let ooms = trace.ooms_in(path);
    ensure!(ooms.len() == 1, "{} oom events: {ooms:?}", ooms.len());
    ensure!(ooms[0].victims.len() == 1, "victims: {:?}", ooms[0].victims);
    let verdicts = trace.verdicts();
    let of = verdicts.iter().find(|(_, _, verdict)| verdict.victims == ooms[0].victims);
    Ok((ooms[0], of.context("no verdict names these victims")?.2))
}

fn culprit(verdict: &Verdict) -> Option<u32> {
    verdict.culprit.as_ref().map(|culprit| culprit.tgid)
}

/// Within 2 % or 4 MiB, whichever is more.
fn assert_near(what: &str, seen: u64, true_bytes: u64) {
    let allowed = u64::max(true_bytes / 50, 4 * MIB);
    println!("{what}: seen {seen}, true {true_bytes}, off by {}", seen.abs_diff(true_bytes));
    assert!(seen.abs_diff(true_bytes) <= allowed, "{what}: {seen}, not {true_bytes}");
}

fn assert_limit(oom: &Oom, cgroup: &str, limit_bytes: u64) {
    assert_eq!(oom.scope.kind, ScopeKind::Memcg);
    assert_eq!(oom.scope.cgroup.as_deref(), Some(cgroup));
    assert_eq!(oom.scope.limit_bytes, Some(limit_bytes));
}

#[test]
fn victim_trigger_limit_and_sizes() -> Result<()> {
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
    let cgroup = MemoryCgroup::new("oom", 256 * MIB)?;
    let bystander = Hog::spawn(&cgroup, "comm:bystander adj:1000 anon:100 hold")?;
    bystander.done("anon", SOON)?;
    let scene = Scene::with(cgroup)?;
    let path = scene.cgroup.path();
    let mut leaker = Hog::spawn(&scene.cgroup, "comm:leaker adj:0 wait anon:170:40 wait")?;
    leaker.go()?;
    leaker.done("anon", SOON)?;
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
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
    let cgroup = MemoryCgroup::new("oom", 160 * MIB)?;
    let bystander = Hog::spawn(&cgroup, "comm:bystander adj:1000 anon:50 hold")?;
    bystander.done("anon", SOON)?;
    let scene = Scene::with(cgroup)?;
    let path = scene.cgroup.path();
    let leaker = Hog::spawn(&scene.cgroup, "comm:leaker anon:96:16 hold")?;
    leaker.done("anon", SOON)?;
    assert_eq!(scene.cgroup.oom_kills()?, 0, "the leaker alone must stay below the limit");
    let small = Hog::spawn(&scene.cgroup, "comm:small anon:20:40 hold")?;
    small.done("anon", SOON)?;
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
    assert_limit(oom, &path, 160 * MIB);
    assert_eq!(oom.victims[0].tgid, bystander.pid());
    assert_eq!((oom.trigger.tgid, &*oom.trigger.comm), (small.pid(), "small"));
    assert_eq!(culprit(verdict), Some(leaker.pid()), "{verdict:?}");
    Ok(())
}

#[test]
fn short_lived_processes_have_no_single_culprit() -> Result<()> {
    let scene = Scene::new(96 * MIB)?;
    let path = scene.cgroup.path();
    let script = "repeat:80 { fork { comm:brief anon:4:80 sleep:700 exit } sleep:8 } reap";
    let hog = Hog::spawn(&scene.cgroup, script)?;
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
    for (_, finding, verdict) in trace.verdicts() {
        assert_eq!(verdict.culprit, None, "{}", finding.summary);
        assert_eq!(finding.subject, None, "{}", finding.summary);
    }
    Ok(())
}

#[test]
fn process_that_ends_before_user_space_looks() -> Result<()> {
    let scene = Scene::new(128 * MIB)?;
    let path = scene.cgroup.path();
    let blink = hog::link(scene.folder.path(), "blink")?;
    let doomed = hog::link(scene.folder.path(), "doomed")?;
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
    const ATTEMPTS: u32 = 40;
    let scene = Scene::new(64 * MIB)?;
    let path = scene.cgroup.path();
    let marks = Marks::record()?;
    let mut killed = Vec::new();
    // Several threads must be in the middle of an allocation at the kill: a matter of luck.
    for _ in 0..ATTEMPTS {
        let mut hog = Hog::spawn(&scene.cgroup, "repeat:8 { thread { anon:32 } } join")?;
        assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
        killed.push(hog.pid());
        if marks.tids()?.len() > killed.len() {
            break;
        }
    }
    let tids = marks.tids()?;
    println!("{} marks in {} kills", tids.len(), killed.len());
    assert!(tids.len() > killed.len(), "{ATTEMPTS} kills and none marked two threads");
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let ooms = trace.ooms_in(&path);
    let victims: Vec<u32> =
        ooms.iter().flat_map(|oom| oom.victims.iter().map(|victim| victim.tgid)).collect();
    assert_eq!(victims, killed, "one event with one victim for each kill, in order");
    assert_eq!(ooms.len(), killed.len());
    Ok(())
}

#[test]
fn limit_of_a_parent() -> Result<()> {
    let parent = MemoryCgroup::new("oom", 96 * MIB)?;
    let left = parent.child("left")?;
    let right = parent.child("right")?;
    right.set_limit(80 * MIB)?;
    let holder = Hog::spawn(&left, "comm:holder adj:-500 anon:40 hold")?;
    holder.done("anon", SOON)?;
    let scene = Scene::with(parent)?;
    let path = scene.cgroup.path();
    let mut leaker = Hog::spawn(&right, "comm:leaker anon:78:50 hold")?;
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

/// Needs cgroup v2: v1 has no group kill.
#[test]
fn group_kill_is_one_event() -> Result<()> {
    let cgroup = MemoryCgroup::new("oom", 96 * MIB)?;
    if cgroup.version() == Version::V1 {
        println!("not run: memory.oom.group needs cgroup v2, this host has the controller in v1");
        return Ok(());
    }
    cgroup.set_oom_group()?;
    let scene = Scene::with(cgroup)?;
    let path = scene.cgroup.path();
    let script = "repeat:4 { fork { anon:8 hold } } comm:leaker wait anon:96:50";
    let mut leaker = Hog::spawn(&scene.cgroup, script)?;
    leaker.done("repeat", SOON)?;
    scene.tracer.settle()?;
    leaker.go()?;
    assert_eq!(leaker.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    scene.tracer.settle()?;
    let trace = scene.tracer.finish()?.trace;
    let ooms = trace.ooms_in(&path);
    assert_eq!(ooms.len(), 1, "{ooms:?}");
    assert_eq!(ooms[0].victims.len(), 5, "{:?}", ooms[0].victims);
    assert_eq!(culprit(trace.verdicts()[0].2), Some(leaker.pid()));
    Ok(())
}
