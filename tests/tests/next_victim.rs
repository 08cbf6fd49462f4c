//! Whom the model names as the next victim, against whom the kernel kills: real processes fill a
//! memory cgroup, and the model that knows the trace up to the kill is asked.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{NextVictim, Oom};
use tests::cgroup::MemoryCgroup;
use tests::foretold;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::scene::Scene;
use tests::trace::Trace;

const MIB: u64 = 1 << 20;
const LIMIT_BYTES: u64 = 256 * MIB;
const SOON: Duration = Duration::from_secs(30);

/// Starts a hog that holds what the steps of `script` take; the last of them is `last`.
fn holding(cgroup: &MemoryCgroup, script: &str, last: &str) -> Result<Hog> {
    let hog = Hog::spawn(cgroup, &format!("{script} hold"))?;
    hog.done(last, SOON)?;
    Ok(hog)
}

/// One that takes a little more than the limit leaves when others hold `held_mib`: enough for one
/// kill, not for two.
fn filler(cgroup: &MemoryCgroup, held_mib: u64) -> Result<Hog> {
    let mib = LIMIT_BYTES / MIB - held_mib + 15;
    Hog::spawn(cgroup, &format!("comm:filler wait anon:{mib}:60 hold"))
}

/// Lets `hog` fill the limit, until the verdict on the kill.
fn fill(scene: &Scene, hog: &mut Hog) -> Result<()> {
    scene.tracer.settle()?;
    hog.go()?;
    scene.wait_for_verdict()
}

/// Fills the limit with a filler, and returns the trace of it.
fn filled(scene: Scene, held_mib: u64) -> Result<(Trace, Hog)> {
    let mut filler = filler(&scene.cgroup, held_mib)?;
    fill(&scene, &mut filler)?;
    Ok((scene.finish()?, filler))
}

/// What the model says at the moment before the first kill in `path`, and that kill.
fn before_the_kill<'a>(trace: &'a Trace, path: &str) -> Result<(NextVictim, &'a Oom)> {
    let kills = foretold::before_kills(trace, path)?;
    let first = kills.into_iter().next().with_context(|| format!("no oom event in {path}"))?;
    let named = first.named.context("the model names nobody")?;
    println!("named {named:?}; killed {:?}", first.oom.victims);
    Ok((named, first.oom))
}

/// The process that was named for sure, which the kernel killed alone.
fn named(trace: &Trace, path: &str) -> Result<u32> {
    let (named, oom) = before_the_kill(trace, path)?;
    ensure!(oom.victims.len() == 1, "victims: {:?}", oom.victims);
    let victim = &oom.victims[0];
    assert_eq!((named.tgid, named.start_ns), (victim.tgid, victim.start_ns), "{named:?}");
    assert_eq!(named.oom_score_adj, victim.oom_score_adj);
    assert!(named.is_certain, "{named:?}");
    assert_eq!(named.group, None);
    Ok(named.tgid)
}

fn assert_killed(hog: &mut Hog) -> Result<()> {
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    Ok(())
}

#[test]
fn the_largest() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("next", LIMIT_BYTES)?;
    let path = cgroup.path();
    let _small = holding(&cgroup, "anon:40", "anon")?;
    let mut large = holding(&cgroup, "anon:90", "anon")?;
    let _middle = holding(&cgroup, "anon:60", "anon")?;
    let (trace, _filler) = filled(Scene::with(cgroup)?, 190)?;
    assert_eq!(named(&trace, &path)?, large.pid());
    assert_killed(&mut large)
}

#[test]
fn the_one_that_was_offered_while_it_stood_still() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("next", LIMIT_BYTES)?;
    let path = cgroup.path();
    let mut small = holding(&cgroup, "anon:30", "anon")?;
    let _large = holding(&cgroup, "anon:100", "anon")?;
    let scene = Scene::with(cgroup)?;
    scene.tracer.settle()?;
    proc::set_oom_score_adj(small.pid(), 500)?;
    let (trace, _filler) = filled(scene, 130)?;
    assert_eq!(named(&trace, &path)?, small.pid());
    assert_killed(&mut small)
}

#[test]
fn not_the_protected() -> Result<()> {
    needs!(Btf, LowerAdj);
    let cgroup = MemoryCgroup::new("next", LIMIT_BYTES)?;
    let path = cgroup.path();
    let _protected = holding(&cgroup, "adj:-1000 anon:110", "anon")?;
    let mut other = holding(&cgroup, "anon:85", "anon")?;
    let (trace, _filler) = filled(Scene::with(cgroup)?, 195)?;
    assert_eq!(named(&trace, &path)?, other.pid());
    assert_killed(&mut other)
}

#[test]
fn the_smaller_one_with_a_higher_adj() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("next", LIMIT_BYTES)?;
    let path = cgroup.path();
    let _large = holding(&cgroup, "anon:150", "anon")?;
    let scene = Scene::with(cgroup)?;
    let mut filler = Hog::spawn(&scene.cgroup, "adj:300 wait anon:256:60 hold")?;
    fill(&scene, &mut filler)?;
    // It has come to some 100 MiB; the adj adds 76.
    let trace = scene.finish()?;
    assert_eq!(named(&trace, &path)?, filler.pid());
    assert_killed(&mut filler)
}

#[test]
fn shared_memory_counts() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("next", LIMIT_BYTES)?;
    let path = cgroup.path();
    let mut shares = holding(&cgroup, "anon:50 shm:60", "shm")?;
    let _more_anon = holding(&cgroup, "anon:80", "anon")?;
    let (trace, _filler) = filled(Scene::with(cgroup)?, 190)?;
    assert_eq!(named(&trace, &path)?, shares.pid());
    assert_killed(&mut shares)
}

#[test]
fn a_group_dies_as_a_whole() -> Result<()> {
    needs!(Btf, CgroupV2);
    let cgroup = MemoryCgroup::new("next", LIMIT_BYTES)?;
    let path = cgroup.path();
    let group = cgroup.child("group")?;
    let others = cgroup.child("others")?;
    group.set_oom_group()?;
    let mut large = holding(&group, "anon:110", "anon")?;
    let mut small = holding(&group, "anon:10", "anon")?;
    let _bystander = holding(&others, "anon:60", "anon")?;
    let scene = Scene::with(cgroup)?;
    let mut filler = filler(&others, 180)?;
    fill(&scene, &mut filler)?;
    let members = [large.pid(), small.pid()];
    assert_killed(&mut large)?;
    assert_killed(&mut small)?;
    scene.tracer.settle()?;
    // The kernel counts the one that it chose twice, so that `Scene::finish` would miss a victim.
    let trace = scene.tracer.finish()?.trace;
    let (named, oom) = before_the_kill(&trace, &path)?;
    assert_eq!(named.tgid, members[0]);
    assert_eq!(named.group.as_deref(), Some(&*format!("{path}/group")));
    assert!(oom.victims.iter().all(|victim| members.contains(&victim.tgid)), "{:?}", oom.victims);
    assert_eq!(oom.victims.len(), 2);
    Ok(())
}
