//! OOM storms, one after the other, while `rampage serve` serves: it lives through them, tells of each
//! victim once and of nobody else, agrees with the kernel's own counters, and what it recorded can be read
//! after each. `$RAMPAGE_STORMS` says how many.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{FindingState, ScopeKind};
use tests::cgroup::{MemoryCgroup, Version};
use tests::clock;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::service::{Home, Service};

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

/// A storm at a limit. The kernel counts a kill for each victim, and one more for each group.
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
    let groups = u64::from(kind == Kind::Group);
    let expected = victims.len() as u64 + groups;
    ensure!(!victims.is_empty(), "storm {number}: nobody was killed");
    ensure!(counted == expected, "storm {number}, {kind:?}: oom_kill {counted}, {victims:?}");
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
    let mut killed = 0;
    for number in 0..count {
        let truth = storm(number).with_context(|| format!("storm {number}"))?;
        killed += truth.victims.len();
        compare(&home, &truth, scope).with_context(|| format!("storm {number}"))?;
    }
    println!("{count} storms, {killed} victims");
    let losses = home.recorded()?.losses();
    println!("lost: {losses:?}");
    service.finish()?;
    Ok(())
}

/// Each victim is told of in one OOM event and one verdict, and nobody else is.
fn compare(home: &Home, truth: &Truth, scope: ScopeKind) -> Result<()> {
    let told = |count: usize| {
        clock::wait_for("the record of the storm", Duration::from_secs(15), || {
            let trace = home.recorded()?;
            let victims: usize =
                trace.ooms_in(&truth.path).iter().map(|oom| oom.victims.len()).sum();
            Ok((victims >= count).then_some(trace))
        })
    };
    let trace = told(truth.victims.len())?;
    let ooms = trace.ooms_in(&truth.path);
    let victims: Vec<u32> =
        ooms.iter().flat_map(|oom| oom.victims.iter().map(|victim| victim.tgid)).collect();
    let once: BTreeSet<u32> = victims.iter().copied().collect();
    ensure!(once.len() == victims.len(), "told of twice: {victims:?}");
    ensure!(once == truth.victims, "told of {once:?}, killed were {:?}", truth.victims);
    for oom in &ooms {
        // Kills that follow each other at once cannot always be told apart; then nothing is claimed.
        let is_said = oom.scope.kind == scope || oom.scope.kind == ScopeKind::Unknown;
        ensure!(is_said, "{:?}", oom.scope);
    }
    let judged: Vec<u32> = trace
        .verdicts()
        .iter()
        .filter(|(_, finding, _)| finding.state == FindingState::Raised)
        .flat_map(|(_, _, verdict)| verdict.victims.iter().map(|victim| victim.tgid))
        .filter(|tgid| truth.victims.contains(tgid))
        .collect();
    ensure!(judged.len() == truth.victims.len(), "verdicts name {judged:?}, {:?}", truth.victims);
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
