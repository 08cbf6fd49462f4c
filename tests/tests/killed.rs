//! Who ended a process, each time with a real one: a test, a shell, FPM's master for a request that
//! takes too long, the OOM killer; and no word when a master stops or reloads.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{Event, Evidence, Finding, FindingKind, Killed, KilledBy, Severity};
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::hog::Hog;
use tests::needs;
use tests::php::{Manager, PhpFpm, Setup};
use tests::proc;
use tests::trace::Trace;
use tests::tracer::{self, Tracer};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

fn killed(event: &Event) -> Option<(&Finding, &Killed)> {
    let Event::Finding(finding) = event else { return None };
    match &finding.evidence {
        Evidence::Killed(killed) => Some((finding, killed)),
        _ => None,
    }
}

fn is_about(event: &Event, tgid: u32) -> bool {
    let subject = killed(event).and_then(|(finding, _)| finding.subject.as_ref());
    subject.is_some_and(|subject| subject.tgid == tgid)
}

/// What is said of one process: once, or not at all. Others of this host may end, too.
fn of(trace: &Trace, tgid: u32) -> Result<Option<(&Finding, &Killed)>> {
    let mut all = trace.events().filter(|event| is_about(event, tgid)).filter_map(killed);
    let first = all.next();
    ensure!(all.next().is_none(), "{tgid} was ended more than once");
    if let Some((finding, _)) = first {
        println!("{}", finding.summary);
        ensure!(finding.kind == FindingKind::Killed, "{finding:?}");
    }
    Ok(first)
}

fn signal(tgid: u32, signal: i32) {
    // SAFETY: kill has no memory effects; the process is a child of this test that is not waited for.
    unsafe { libc::kill(tgid.cast_signed(), signal) };
}

/// A process of 80 MiB is ended by `end`; recorded, and replayed with the same findings.
fn ended(end: impl FnOnce(u32) -> Result<()>) -> Result<(Killed, Severity)> {
    let cgroup = MemoryCgroup::new("killed", 160 * MIB)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("trace.jsonl");
    let tracer = Tracer::record(&file, "")?;
    let mut hog = Hog::spawn(&cgroup, "comm:target anon:80 hold")?;
    hog.done("anon", SOON)?;
    tracer.settle()?;
    end(hog.pid())?;
    ensure!(hog.wait(SOON)?.signal().is_some(), "it lives");
    tracer.wait_for("a finding", SOON, |line| is_about(&line.event, hog.pid()))?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let (finding, killed) = of(&trace, hog.pid())?.context("nothing is said")?;
    assert!((80 * MIB..84 * MIB).contains(&killed.used_bytes), "{killed:?}");
    let replayed = tracer::replay_findings(&file)?;
    assert_eq!(trace.findings_json(), replayed.iter().collect::<Vec<_>>(), "live and replay");
    Ok((killed.clone(), finding.severity))
}

#[test]
fn another_process_is_named() -> Result<()> {
    needs!(Btf);
    let (killed, severity) = ended(|pid| {
        signal(pid, libc::SIGTERM);
        Ok(())
    })?;
    assert_eq!((killed.by, killed.signal, severity), (KilledBy::Process, 15, Severity::Info));
    assert_eq!(killed.sender.map(|sender| sender.tgid), Some(std::process::id()));
    Ok(())
}

#[test]
fn a_shell_is_a_human() -> Result<()> {
    needs!(Btf);
    let (killed, severity) = ended(|pid| {
        let command = format!("kill -KILL {pid}");
        ensure!(Command::new("sh").args(["-c", &command]).status()?.success(), "{command}");
        Ok(())
    })?;
    assert_eq!((killed.by, killed.signal, severity), (KilledBy::Shell, 9, Severity::Info));
    Ok(())
}

#[test]
fn the_oom_killer_has_its_verdict() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("killed", 96 * MIB)?;
    let tracer = Tracer::watch("")?;
    let mut hog = Hog::spawn(&cgroup, "comm:target anon:160:100 hold")?;
    assert_eq!(hog.wait(SOON)?.signal(), Some(libc::SIGKILL));
    tracer.settle()?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    assert_eq!(trace.ooms_in(&cgroup.path()).len(), 1);
    assert!(of(&trace, hog.pid())?.is_none());
    Ok(())
}

fn pool(cgroup: &MemoryCgroup) -> Result<PhpFpm> {
    let setup = Setup { terminate_after_s: 3, ..Setup::system(Manager::Static(3)) };
    PhpFpm::start_as(cgroup, &setup)
}

#[test]
fn a_request_that_takes_too_long_is_told() -> Result<()> {
    needs!(Btf, PhpFpm);
    let cgroup = MemoryCgroup::new("killed", 256 * MIB)?;
    let fpm = pool(&cgroup)?;
    let tracer = Tracer::watch("")?;
    tracer.settle()?;
    let (request, worker) = fpm.ask_for_worker("GET", b"/hold.php?mib=40&s=60", "hold.php")?;
    tracer.wait_for("a finding", SOON, |line| is_about(&line.event, worker))?;
    drop(request);
    let trace = tracer.finish()?.trace;
    let (finding, killed) = of(&trace, worker)?.context("nothing is said")?;
    assert_eq!((killed.by, finding.severity), (KilledBy::FpmTimeout, Severity::Warning));
    assert_eq!(killed.sender.as_ref().map(|sender| sender.tgid), Some(fpm.master()));
    let asked = killed.request.as_ref().context("which request")?;
    assert_eq!(asked.uri.as_deref(), Some("/hold.php?mib=…&s=…"));
    let elapsed_ns = asked.elapsed_ns.context("for how long")?;
    assert!((2_900_000_000..6_000_000_000).contains(&elapsed_ns), "{elapsed_ns}");
    assert!(killed.used_bytes >= 40 * MIB, "{killed:?}");
    Ok(())
}

/// The workers of a pool, one of them in a request, are ended because their master gets `signal`.
fn is_silent(signal_to_master: i32) -> Result<()> {
    let cgroup = MemoryCgroup::new("killed", 256 * MIB)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(3))?;
    let tracer = Tracer::watch("")?;
    let (request, busy) = fpm.ask_for_worker("GET", b"/hold.php?mib=40&s=60", "hold.php")?;
    let workers = fpm.workers()?;
    assert!(workers.contains(&busy) && workers.len() == 3, "{workers:?}");
    tracer.settle()?;
    signal(fpm.master(), signal_to_master);
    clock::wait_for("the workers' end", SOON, || {
        Ok(workers.iter().all(|tgid| proc::start(*tgid).is_none()).then_some(()))
    })?;
    drop(request);
    // Longer than it takes to tell a timeout.
    for _ in 0..3 {
        tracer.settle()?;
    }
    let trace = tracer.finish()?.trace;
    for worker in workers {
        assert_eq!(trace.exits(worker).len(), 1);
        assert!(of(&trace, worker)?.is_none());
    }
    Ok(())
}

#[test]
fn a_master_that_stops_is_no_news() -> Result<()> {
    needs!(Btf, PhpFpm);
    is_silent(libc::SIGTERM)
}

#[test]
fn a_master_that_reloads_is_no_news() -> Result<()> {
    needs!(Btf, PhpFpm);
    is_silent(libc::SIGUSR2)
}
