//! The whole machine out of memory, which only a machine of our own may be: the scope is the host,
//! and victim, trigger and culprit are those of the kernel's log and of the hogs.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result};
use rampage::event::{Oom, OomScope, ScopeKind, Verdict};
use tests::cgroup::MemoryCgroup;
use tests::counters::Slot;
use tests::hog::Hog;
use tests::kernel_log::KernelLog;
use tests::needs;
use tests::proc;
use tests::scene::{Scene, assert_near, culprit, only};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(90);
const BYSTANDER_MIB: u64 = 240;
/// The kernel's own account of the OOM kills since its start.
struct Account {
    log: KernelLog,
    kills_before: u64,
}

impl Account {
    /// From now on; this test itself is no candidate. Hogs inherit that: their scripts begin with
    /// `adj`.
    fn open() -> Result<Self> {
        fs::write("/proc/self/oom_score_adj", "-1000").context("protecting the test")?;
        Ok(Self { log: KernelLog::from_now()?, kills_before: proc::vmstat("oom_kill")? })
    }

    /// The only kill was that of `victim`, and `oom` says so, with the trigger that the log names.
    fn check(&mut self, oom: &Oom, victim: &Hog, leaker: &Hog) -> Result<()> {
        assert_eq!(proc::vmstat("oom_kill")? - self.kills_before, 1, "oom_kill of /proc/vmstat");
        assert_eq!(self.log.killed_on_host()?, [victim.pid()]);
        assert_eq!(oom.scope, OomScope { kind: ScopeKind::Host, cgroup: None, limit_bytes: None });
        assert_eq!(oom.victims[0].tgid, victim.pid());
        let asked = self.log.oom_callers()?;
        assert_eq!(asked.len(), 1, "{asked:?}");
        println!("asked for by {asked:?}, by the trace {:?}", oom.trigger);
        // Whoever needs a page just then calls the killer: mostly, not always, the leaker.
        assert_eq!(asked[0] == leaker.pid(), oom.trigger.tgid == leaker.pid());
        if asked[0] == leaker.pid() {
            assert_eq!(&*oom.trigger.comm, "leaker");
        }
        Ok(())
    }
}

/// Names the leaker, with its growth.
fn check_culprit(verdict: &Verdict, leaker: &Hog) -> Result<()> {
    assert_eq!(culprit(verdict), Some(leaker.pid()), "{verdict:?}");
    let named = verdict.culprit.as_ref().context("no culprit")?;
    assert_eq!(&*named.comm, "leaker");
    assert_eq!(verdict.limit.kind, ScopeKind::Host);
    let bytes = leaker.count(Slot::Anon);
    assert!(named.grown_bytes >= bytes / 10 * 9, "grew {} of {bytes}", named.grown_bytes);
    Ok(())
}

/// Grows until it is killed. Gives its swap at the kill.
fn leaker_is_killed() -> Result<u64> {
    let mut account = Account::open()?;
    let scene = Scene::with(MemoryCgroup::unlimited("host")?)?;
    let path = scene.cgroup.path();
    let mib = (proc::meminfo("MemTotal")? + proc::meminfo("SwapTotal")?) / MIB;
    let mut leaker = Hog::spawn(&scene.cgroup, &format!("comm:leaker adj:500 anon:{mib}:150"))?;
    assert_eq!(leaker.wait(SOON)?.signal(), Some(libc::SIGKILL));
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
    account.check(oom, &leaker, &leaker)?;
    let victim = &oom.victims[0];
    assert_eq!(victim.oom_score_adj, 500);
    let private_bytes = victim.anon_bytes + victim.swap_bytes;
    assert_near("anon and swap at the kill", private_bytes, leaker.count(Slot::Anon));
    check_culprit(verdict, &leaker)?;
    Ok(victim.swap_bytes)
}

/// A leaker grows until an idle bystander is killed in its place. Gives the victim's swap.
fn bystander_is_killed() -> Result<u64> {
    let mut account = Account::open()?;
    let cgroup = MemoryCgroup::unlimited("host")?;
    let script = format!("comm:bystander adj:1000 anon:{BYSTANDER_MIB} hold");
    let mut bystander = Hog::spawn(&cgroup, &script)?;
    bystander.done("anon", SOON)?;
    let scene = Scene::with(cgroup)?;
    let path = scene.cgroup.path();
    scene.tracer.settle()?;
    // More than there is, and less than there will be without the bystander.
    let free = (proc::meminfo("MemAvailable")? + proc::meminfo("SwapFree")?) / MIB;
    let mib = free + BYSTANDER_MIB / 2;
    let leaker = Hog::spawn(&scene.cgroup, &format!("comm:leaker adj:0 anon:{mib}:150 hold"))?;
    assert_eq!(bystander.wait(SOON)?.signal(), Some(libc::SIGKILL));
    leaker.done("anon", SOON)?;
    scene.wait_for_verdict()?;
    let trace = scene.finish()?;
    let (oom, verdict) = only(&trace, &path)?;
    account.check(oom, &bystander, &leaker)?;
    let victim = &oom.victims[0];
    assert_eq!((&*victim.comm, victim.oom_score_adj), ("bystander", 1000));
    let private_bytes = victim.anon_bytes + victim.swap_bytes;
    assert_near("anon and swap at the kill", private_bytes, bystander.count(Slot::Anon));
    assert_eq!(culprit(verdict), Some(leaker.pid()), "{verdict:?}");
    assert_eq!(verdict.limit.kind, ScopeKind::Host);
    Ok(victim.swap_bytes)
}

#[test]
fn leaker_takes_all_memory() -> Result<()> {
    needs!(Btf, WholeMachine, NoSwap);
    assert_eq!(leaker_is_killed()?, 0);
    Ok(())
}

#[test]
fn leaker_takes_all_memory_and_swap() -> Result<()> {
    needs!(Btf, WholeMachine, Swap);
    let swap_bytes = leaker_is_killed()?;
    assert!(swap_bytes > 16 * MIB, "only {swap_bytes} swapped out at the kill");
    Ok(())
}

#[test]
fn bystander_dies_for_the_leaker() -> Result<()> {
    needs!(Btf, WholeMachine, NoSwap);
    assert_eq!(bystander_is_killed()?, 0);
    Ok(())
}

/// The bystander is idle: most of it is on swap when it is killed.
#[test]
fn swapped_out_bystander_dies_for_the_leaker() -> Result<()> {
    needs!(Btf, WholeMachine, Swap);
    let swap_bytes = bystander_is_killed()?;
    assert!(swap_bytes > 16 * MIB, "only {swap_bytes} swapped out at the kill");
    Ok(())
}
