//! Real php-fpm in a memory cgroup: the worker that runs away is named, with its pool, before the
//! kernel kills it; workers that do their normal work are never named.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rampage::event::{Event, Finding, ScopeKind};
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::fastcgi::FastCgiError;
use tests::needs;
use tests::php::{Manager, PhpFpm};
use tests::tracer::Tracer;

const LIMIT_BYTES: u64 = 256 << 20;

/// One worker leaks at `rate` MiB/s while three answer normal requests.
fn runaway_at(rate: u32) -> Result<()> {
    let cgroup = MemoryCgroup::new("php", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(4))?;
    for _ in 0..20 {
        fpm.get("normal.php", "")?;
    }
    let tracer = Tracer::watch("")?;
    let stop = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    let (worker, started_ns, broken_ns) = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| serve(&fpm, &stop, &served, Duration::from_millis(100)));
        }
        let leaked = leak(&fpm, rate);
        stop.store(true, Ordering::Relaxed);
        leaked
    })?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    assert!(served.load(Ordering::Relaxed) >= 3, "the other workers served nothing");

    let kill = |line: &&tests::trace::Line| {
        matches!(&line.event, Event::Oom(oom)
            if oom.victims.iter().any(|victim| victim.tgid == worker))
    };
    let kill_ns = trace.lines.iter().find(kill).context("no oom event names the worker")?.t_ns;
    let runaways = trace.runaways();
    let first = runaways.iter().find(|(_, finding, _)| {
        finding.subject.as_ref().is_some_and(|subject| subject.tgid == worker)
    });
    let (line, finding, evidence) = first.context("no runaway finding names the worker")?;
    let lead_s = (kill_ns as f64 - line.t_ns as f64) / 1e9;
    println!(
        "leak at {rate} MiB/s: finding {:.3} s after its start, {lead_s:.3} s before the kill, read \
         {:.3} s before the request broke; forecast {:.1} s; {}",
        (line.t_ns as f64 - started_ns as f64) / 1e9,
        (broken_ns as f64 - line.arrival_ns as f64) / 1e9,
        evidence.eta_s,
        finding.summary
    );
    assert!(line.t_ns < kill_ns, "the finding came after the kill");
    assert!(line.arrival_ns < broken_ns, "the finding was read after the request broke");
    let subject = finding.subject.as_ref().context("subject")?;
    assert_eq!(subject.pool.as_deref(), Some("www"));
    assert_eq!(subject.cgroup.as_deref(), Some(&*cgroup.path()));
    assert!(finding.summary.contains(&worker.to_string()) && finding.summary.contains("www"));
    assert_eq!(evidence.limit.kind, ScopeKind::Memcg);
    assert_eq!(evidence.limit.path.as_deref(), Some(&*cgroup.path()));
    assert_eq!(evidence.limit.bytes, LIMIT_BYTES);
    let others = runaways.iter().filter(|(_, finding, _)| {
        finding.subject.as_ref().is_none_or(|subject| subject.tgid != worker)
    });
    let others: Vec<_> = others.map(|(_, finding, _)| &finding.summary).collect();
    assert!(others.is_empty(), "others were named as well: {others:?}");
    let verdicts = trace.verdicts();
    let culprits: Vec<_> = verdicts.iter().map(|(_, _, verdict)| &verdict.culprit).collect();
    // 7.x kills once more before the first victim's memory is back.
    assert_eq!(culprits.len() as u64, cgroup.oom_kills()?, "{culprits:?}");
    let culprit = culprits[0].as_ref().context("the verdict names nobody")?;
    assert_eq!((culprit.tgid, culprit.pool.as_deref()), (worker, Some("www")));
    let request = culprit.request.as_ref().context("the verdict does not say what it served")?;
    assert!(request.script.as_deref().is_some_and(|path| path.ends_with("/leak.php")));
    let said = &verdicts[0].1.summary;
    assert!(said.contains(" while it served ") && said.contains("leak.php"), "{said}");
    assert!(said.contains("what helps: a memory_limit of at most"), "{said}");
    Ok(())
}

/// Runs the leak until its connection breaks: worker, start and break on the boot clock, ns.
fn leak(fpm: &PhpFpm, rate: u32) -> Result<(u32, u64, u64)> {
    let started_ns = clock::boot_ns();
    let (request, worker) = fpm.leak(rate)?;
    match request.finish() {
        Err(FastCgiError::Broken) => Ok((worker, started_ns, clock::boot_ns())),
        Err(error) => Err(error.into()),
        Ok(response) => bail!("leak.php ended: {response:?}"),
    }
}

/// Sends normal requests until told to stop. A request may meet the moment of the kill, in which
/// its worker may be the one that is chosen or the answer may be late: that is not judged here.
fn serve(fpm: &PhpFpm, stop: &AtomicBool, served: &AtomicU64, pause: Duration) {
    while !stop.load(Ordering::Relaxed) {
        if fpm.get("normal.php", "").is_ok() {
            served.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(pause);
    }
}

#[test]
fn runaway_at_5_mib_per_s() -> Result<()> {
    needs!(Btf, PhpFpm);
    runaway_at(5)
}

#[test]
fn runaway_at_50_mib_per_s() -> Result<()> {
    needs!(Btf, PhpFpm);
    runaway_at(50)
}

#[test]
fn runaway_at_400_mib_per_s() -> Result<()> {
    needs!(Btf, PhpFpm);
    runaway_at(400)
}

/// Twenty workers start, fill opcache and serve: no finding. For `$RAMPAGE_QUIET_SECONDS`, or 60.
#[test]
fn normal_requests_raise_no_finding() -> Result<()> {
    needs!(Btf, PhpFpm);
    let seconds = match std::env::var("RAMPAGE_QUIET_SECONDS") {
        Ok(text) => text.parse().with_context(|| format!("RAMPAGE_QUIET_SECONDS={text}"))?,
        Err(_) => 60,
    };
    let cgroup = MemoryCgroup::new("php", LIMIT_BYTES)?;
    let tracer = Tracer::watch("")?;
    let started = Instant::now();
    let fpm = PhpFpm::start(&cgroup, Manager::Static(20))?;
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let peak = std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| serve(&fpm, &stop, &served, Duration::from_millis(400)));
        }
        let mut peak = 0;
        while started.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(500));
            peak = cgroup.usage_bytes().map_or(peak, |usage| usage.max(peak));
        }
        stop.store(true, Ordering::Relaxed);
        peak
    });
    let workers = fpm.workers()?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let served = served.load(Ordering::Relaxed);
    println!(
        "{served} requests by {} workers in {seconds} s; at most {} MiB in use",
        workers.len(),
        peak >> 20
    );
    let least = seconds * 5 / u64::from(clock::patience());
    ensure!(served > least, "only {served} requests were served; {}", fpm.log());
    ensure!(workers.len() == 20, "{} workers", workers.len());
    assert_eq!(cgroup.oom_kills()?, 0);
    for worker in &workers {
        let known = trace.processes(*worker);
        let php = known.last().and_then(|process| process.php.as_ref());
        assert_eq!(php.and_then(|php| php.pool.as_deref()), Some("www"), "worker {worker}");
    }
    // Others have their own troubles on this host.
    let path = cgroup.path();
    let concerns = |finding: &Finding| match &finding.subject {
        Some(subject) => subject.cgroup.as_deref() == Some(&*path),
        None => finding.summary.contains(&path),
    };
    let found = trace.findings().into_iter().filter(|(_, finding)| concerns(finding));
    let summaries: Vec<_> = found.map(|(_, finding)| &finding.summary).collect();
    assert!(summaries.is_empty(), "{summaries:?}");
    assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
    Ok(())
}
