//! OOM storms, one after the other, while `rampage serve` serves: it lives through them, tells of each
//! victim once and of nobody else, agrees with the kernel's own counters, and what it recorded can be read
//! after each. `$RAMPAGE_STORMS` says how many.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{FindingState, Oom, ScopeKind};
use rampage::model::is_below;
use tests::cgroup::{MemoryCgroup, Version};
use tests::clock;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::service::{Follower, Home, Service};
use tests::trace::Trace;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(120);
/// Processes of a storm.
const HOGS: u64 = 6;
const LIMIT_MIB: u64 = 96;

/// What really happened in a storm.
struct Truth {
    path: String,
    victims: BTreeSet<u32>,
}

/// How a storm differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Processes of one thread.
    Plain,
    /// Processes whose threads grow: the kernel marks several of one process.
    Threads,
    /// The limit is that of a parent.
    Parent,
    /// All die together (cgroup v2).
    Group,
}

impl Kind {
    fn of(number: usize, version: Version) -> Self {
        match number % 4 {
            1 => Self::Threads,
            2 => Self::Parent,
            3 if version == Version::V2 => Self::Group,
            _ => Self::Plain,
        }
    }

    fn script(self, name: &str, mib: u64, mib_per_s: u64) -> String {
        let half = mib / 2;
        let grow = match self {
            Self::Threads => {
                format!(
                    "thread {{ anon:{half}:{mib_per_s} }} thread {{ anon:{half}:{mib_per_s} }} join"
                )
            }
            _ => format!("anon:{mib}:{mib_per_s}"),
        };
        format!("comm:{name} adj:500 wait {grow} sleep:1 hold")
    }
}

fn storms(usual: usize) -> Result<usize> {
    match std::env::var("RAMPAGE_STORMS") {
        Ok(text) => text.parse().context("RAMPAGE_STORMS"),
        Err(_) => Ok(usual),
    }
}

/// Lets hogs grow until each has ended or has all that it wants; gives those that were killed.
fn let_them_grow(hogs: &mut [Hog]) -> Result<BTreeSet<u32>> {
    for hog in &mut *hogs {
        hog.go()?;
    }
    for hog in &*hogs {
        // A hog that is killed says nothing.
        hog.done("sleep", SOON).ok();
    }
    // Nobody grows any more: whoever was chosen ends now.
    std::thread::sleep(Duration::from_millis(300));
    let mut victims = BTreeSet::new();
    for hog in hogs {
        if let Ok(status) = hog.wait(Duration::from_millis(50)) {
            ensure!(status.signal() == Some(libc::SIGKILL), "hog {}: {status}", hog.pid());
            victims.insert(hog.pid());
        }
    }
    Ok(victims)
}

/// A storm at a limit. The kernel counts a kill for each victim.
fn limited(number: usize) -> Result<Truth> {
    let top = MemoryCgroup::new("storm", LIMIT_MIB * MIB)?;
    let kind = Kind::of(number, top.version());
    if kind == Kind::Group {
        top.set_oom_group()?;
    }
    let inner = (kind == Kind::Parent).then(|| top.child("inner")).transpose()?;
    let cgroup = inner.as_ref().unwrap_or(&top);
    let mut hogs = (0..HOGS)
        .map(|hog| Hog::spawn(cgroup, &kind.script(&format!("storm-{hog}"), 24 + 8 * hog, 60)))
        .collect::<Result<Vec<_>>>()?;
    let victims = let_them_grow(&mut hogs)?;
    // What happens below counts above.
    let counted = top.oom_kills()?;
    let died = victims.len() as u64;
    // Of a group the kernel kills the one that it chose, and then all: that one counts twice, unless it is gone by
    // then ("is already exiting. Skip killing the task"). There can be several group kills in a storm.
    let most = match kind {
        Kind::Group => (died + 1) * top.group_kills()?.unwrap_or(HOGS),
        _ => died,
    };
    ensure!(!victims.is_empty(), "storm {number}: nobody was killed");
    ensure!(
        (died..=most).contains(&counted),
        "storm {number}, {kind:?}: oom_kill {counted}, at most {most}, {victims:?}"
    );
    Ok(Truth { path: top.path(), victims })
}

/// A storm that takes all memory of the machine, and its swap.
fn of_the_host(number: usize) -> Result<Truth> {
    let cgroup = MemoryCgroup::unlimited("storm")?;
    let before = proc::vmstat("oom_kill")?;
    let room = (proc::meminfo("MemAvailable")? + proc::meminfo("SwapFree")?) / MIB;
    // Together half as much again as there is.
    let mib = room * 3 / 2 / HOGS;
    let kind = Kind::of(number % 2, cgroup.version());
    let mut hogs = (0..HOGS)
        .map(|hog| Hog::spawn(&cgroup, &kind.script(&format!("storm-{hog}"), mib + hog, 60)))
        .collect::<Result<Vec<_>>>()?;
    let victims = let_them_grow(&mut hogs)?;
    let counted = proc::vmstat("oom_kill")? - before;
    ensure!(!victims.is_empty(), "storm {number}: nobody was killed");
    ensure!(counted == victims.len() as u64, "storm {number}: oom_kill {counted}, {victims:?}");
    Ok(Truth { path: cgroup.path(), victims })
}

/// One service through all storms; each is read from its record as soon as it is over.
fn live_through(count: usize, scope: ScopeKind, storm: fn(usize) -> Result<Truth>) -> Result<()> {
    let home = Home::new()?;
    // Nobody is told: there is no courier in other machines.
    home.set("metrics.listen = \"\"\n[recorder]\nsegment_size = \"1MiB\"\nmax_size = \"256MiB\"")?;
    let service = Service::start(&home)?;
    let (mut follower, mut truths) = (Follower::default(), Vec::new());
    for number in 0..count {
        let truth = storm(number).with_context(|| format!("storm {number}"))?;
        compare(|| follower.news(&home), &truth, scope)
            .with_context(|| format!("storm {number}"))?;
        truths.push(truth);
    }
    service.finish()?;
    let trace = home.recorded()?;
    let victims = compare_all(&trace, &truths, scope)?;
    println!("{count} storms, {victims} victims; lost: {:?}", trace.losses());
    Ok(())
}

/// Each victim is told of in one OOM event and one verdict, and nobody else of its cgroup is. `news`: what was
/// recorded since it was asked last.
fn compare(mut news: impl FnMut() -> Result<Trace>, truth: &Truth, scope: ScopeKind) -> Result<()> {
    let count = truth.victims.len();
    let mut trace = Trace::default();
    clock::wait_for("the record of the storm", Duration::from_secs(15), || {
        trace.lines.extend(news()?.lines);
        let is_told = tgids(&trace.ooms_in(&truth.path)).len() >= count;
        Ok((is_told && judged(&trace, truth).len() >= count).then_some(()))
    })?;
    let ooms = trace.ooms_in(&truth.path);
    same(&tgids(&ooms), &truth.victims).context("OOM events")?;
    same(&judged(&trace, truth), &truth.victims).context("verdicts")?;
    for (at, oom) in ooms.iter().enumerate() {
        // Kills that follow each other at once cannot always be told apart; then nothing is claimed.
        let is_said = oom.scope.kind == scope || (at > 0 && oom.scope.kind == ScopeKind::Unknown);
        ensure!(is_said, "kill {at} of {}: {:?}", ooms.len(), oom.scope);
    }
    Ok(())
}

/// The whole record tells of the victims of all storms and of nobody else; gives their number. Kills at limits
/// of others, by others and of others alone are not of these storms.
fn compare_all(trace: &Trace, truths: &[Truth], scope: ScopeKind) -> Result<usize> {
    let is_ours = |oom: &&Oom| {
        let is_in = |cgroup: &Option<Arc<str>>| {
            let cgroup = cgroup.as_deref();
            cgroup.is_some_and(|cgroup| truths.iter().any(|truth| is_below(cgroup, &truth.path)))
        };
        scope == ScopeKind::Host
            || is_in(&oom.scope.cgroup)
            || is_in(&oom.trigger.cgroup)
            || oom.victims.iter().any(|victim| is_in(&victim.cgroup))
    };
    let ooms: Vec<&Oom> = trace.ooms().into_iter().filter(is_ours).collect();
    // A tgid is not used again so soon.
    let union = truths.iter().flat_map(|truth| truth.victims.iter().copied()).collect();
    same(&tgids(&ooms), &union).context("the whole record")?;
    Ok(union.len())
}

fn tgids(ooms: &[&Oom]) -> Vec<u32> {
    ooms.iter().flat_map(|oom| oom.victims.iter().map(|victim| victim.tgid)).collect()
}

/// Victims of a storm that verdicts name.
fn judged(trace: &Trace, truth: &Truth) -> Vec<u32> {
    let verdicts = trace.verdicts();
    let raised = verdicts.iter().filter(|(_, finding, _)| finding.state == FindingState::Raised);
    raised
        .flat_map(|(_, _, verdict)| verdict.victims.iter().map(|victim| victim.tgid))
        .filter(|tgid| truth.victims.contains(tgid))
        .collect()
}

/// Each of them once, and nobody else.
fn same(told: &[u32], killed: &BTreeSet<u32>) -> Result<()> {
    let once: BTreeSet<u32> = told.iter().copied().collect();
    ensure!(once.len() == told.len(), "told of twice: {told:?}");
    ensure!(once == *killed, "told of {once:?}, killed were {killed:?}");
    Ok(())
}

#[test]
fn at_a_limit() -> Result<()> {
    needs!(Btf);
    live_through(storms(6)?, ScopeKind::Memcg, limited)
}

#[test]
fn of_the_whole_machine() -> Result<()> {
    needs!(Btf, WholeMachine, NoSwap);
    std::fs::write("/proc/self/oom_score_adj", "-1000").context("protecting the test")?;
    live_through(storms(3)?, ScopeKind::Host, of_the_host)
}

#[test]
fn of_the_whole_machine_and_its_swap() -> Result<()> {
    needs!(Btf, WholeMachine, Swap);
    std::fs::write("/proc/self/oom_score_adj", "-1000").context("protecting the test")?;
    live_through(storms(3)?, ScopeKind::Host, of_the_host)
}
