//! What is wrong with a pool, each time with a real one made for it: the one diagnosis that is true,
//! and none of the others. A worker that its own memory_limit stops is no runaway.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rampage::event::{
    Diagnosis, Event, Evidence, Finding, FindingKind, FindingState, PoolDiagnosis, ScopeKind,
};
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::fastcgi::Request;
use tests::needs;
use tests::php::{Manager, PhpFpm, Setup};
use tests::trace::{Line, Trace};
use tests::tracer::Tracer;

const LIMIT_BYTES: u64 = 256 << 20;
/// A diagnosis comes within this time.
const SOON: Duration = Duration::from_secs(20);

fn diagnosis(line: &Line) -> Option<(&Finding, &PoolDiagnosis)> {
    match &line.event {
        Event::Finding(finding) => match &finding.evidence {
            Evidence::Pool(pool) if finding.state == FindingState::Raised => Some((finding, pool)),
            _ => None,
        },
        _ => None,
    }
}

/// Waits for the first diagnosis, and fails on any other until the end.
fn only(tracer: Tracer, expected: Diagnosis, pool: &str) -> Result<PoolDiagnosis> {
    let line = tracer.wait_for("a diagnosis", SOON, |line| diagnosis(line).is_some())?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let all: Vec<_> = trace.lines.iter().filter_map(diagnosis).collect();
    let kinds: Vec<Diagnosis> = all.iter().map(|(_, pool)| pool.diagnosis).collect();
    ensure!(kinds == [expected], "{all:#?}");
    let (finding, evidence) = diagnosis(&line).context("it was there")?;
    println!("{}", finding.summary);
    let subject = finding.subject.as_ref().context("subject")?;
    ensure!(subject.pool.as_deref() == Some(pool), "{subject:?}");
    Ok(evidence.clone())
}

/// Requests that each hold some MiB until they are dropped.
fn hold(fpm: &PhpFpm, count: usize, mib: u32) -> Result<Vec<Request>> {
    let uri = format!("/hold.php?mib={mib}&s=60");
    (0..count).map(|_| Ok(fpm.ask_for_worker("GET", uri.as_bytes(), "hold.php")?.0)).collect()
}

#[test]
fn a_runaway_worker_among_idle_ones() -> Result<()> {
    needs!(Btf, PhpFpm);
    let cgroup = MemoryCgroup::new("pool", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(10))?;
    let tracer = Tracer::watch("")?;
    let held = hold(&fpm, 1, 190)?;
    let pool = only(tracer, Diagnosis::RunawayWorker, "www")?;
    drop(held);
    assert_eq!((pool.workers, pool.limit.bytes), (10, LIMIT_BYTES));
    assert!(pool.largest[0].used_bytes > 100 << 20, "{pool:#?}");
    let request = pool.largest[0].request.as_ref().context("no request")?;
    assert_eq!(request.uri.as_deref(), Some("/hold.php?mib=…&s=…"));
    Ok(())
}

#[test]
fn too_many_moderate_workers() -> Result<()> {
    needs!(Btf, PhpFpm);
    let limit_bytes = 250 << 20;
    let cgroup = MemoryCgroup::new("pool", limit_bytes)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(16))?;
    let tracer = Tracer::watch("")?;
    let held = hold(&fpm, 16, 13)?;
    let pool = only(tracer, Diagnosis::PoolTooLarge, "www")?;
    drop(held);
    assert_eq!(pool.workers, 16);
    assert!((13 << 20..16 << 20).contains(&pool.median_bytes), "{pool:#?}");
    let fit = pool.workers_that_fit.context("how many fit")?;
    assert!((10..16).contains(&fit), "{pool:#?}");
    // So many, and what else is charged, stay below the limit.
    let others = cgroup.usage_bytes()?.saturating_sub(pool.used_bytes);
    assert!(fit * pool.median_bytes + others <= limit_bytes, "{pool:#?}, others {others}");
    Ok(())
}

#[test]
fn a_slow_leak_is_measured_and_bounded() -> Result<()> {
    needs!(Btf, PhpFpm);
    let cgroup = MemoryCgroup::new("pool", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(2))?;
    let tracer = Tracer::watch("")?;
    let started = Instant::now();
    let mut requests = 0_u64;
    let line = loop {
        let mut pair = Vec::new();
        for _ in 0..2 {
            pair.push(fpm.ask("GET", b"/slow_leak.php", "slow_leak.php")?);
            requests += 1;
        }
        for request in pair {
            request.finish()?;
        }
        std::thread::sleep(Duration::from_millis(150));
        let trace = tracer.so_far()?;
        if trace.lines.iter().any(|line| diagnosis(line).is_some()) {
            break trace;
        }
        ensure!(started.elapsed() < clock::patient(Duration::from_secs(60)), "no diagnosis");
    };
    // What the kernel says that each request left behind.
    let true_bytes = grown(&line, &fpm)? as f64 / requests as f64;
    let pool = only(tracer, Diagnosis::SlowLeak, "www")?;
    let told = pool.leak_bytes_per_request.context("how much")?;
    println!("{requests} requests, {true_bytes:.0} bytes each by growth, {told:.0} told");
    assert!((told / true_bytes - 1.0).abs() < 0.25, "{told} for {true_bytes}");
    let most = pool.max_requests.context("pm.max_requests")?;
    let at_most = LIMIT_BYTES as f64 / 2.0 / true_bytes;
    assert!((most as f64) < at_most && most as f64 > at_most / 3.0, "{most} of {at_most}");
    Ok(())
}

/// What the workers grew since they were first seen, bytes.
fn grown(trace: &Trace, fpm: &PhpFpm) -> Result<u64> {
    let mut all = 0;
    for worker in fpm.workers()? {
        let growths = trace.growths(worker);
        let (first, last) = (growths.first().context("none")?, growths.last().context("none")?);
        all += last.private_bytes().saturating_sub(first.private_bytes());
    }
    Ok(all)
}

#[test]
fn shared_memory_is_no_problem() -> Result<()> {
    needs!(Btf, PhpFpm);
    let cgroup = MemoryCgroup::new("pool", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(8))?;
    let tables = fpm.script("tables");
    std::fs::create_dir(&tables)?;
    for number in 0..24 {
        let rows: String =
            (0..1000).map(|row| format!("'{number:04}{row:04}{}',\n", "x".repeat(1000))).collect();
        std::fs::write(tables.join(format!("{number}.php")), format!("<?php return [\n{rows}];"))?;
    }
    let tracer = Tracer::watch("")?;
    let started = Instant::now();
    while started.elapsed() < clock::patient(SOON) {
        let together: Vec<_> = (0..8)
            .map(|_| fpm.ask("GET", b"/shared.php", "shared.php"))
            .collect::<Result<_, _>>()?;
        for request in together {
            request.finish()?;
        }
        if tracer.so_far()?.lines.iter().any(|line| diagnosis(line).is_some()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let pool = only(tracer, Diagnosis::SharedMemory, "www")?;
    assert!(pool.shared_bytes > 20 << 20 && pool.used_bytes < 60 << 20, "{pool:#?}");
    Ok(())
}

#[test]
fn a_worker_that_php_stops_first_is_no_runaway() -> Result<()> {
    needs!(Btf, PhpFpm);
    let cgroup = MemoryCgroup::new("pool", LIMIT_BYTES)?;
    let setup = Setup { memory_limit_mib: 96, ..Setup::system(Manager::Static(2)) };
    let fpm = PhpFpm::start_as(&cgroup, &setup)?;
    let tracer = Tracer::watch("")?;
    let (request, worker) = fpm.ask_for_worker("GET", b"/export/7", "function.php")?;
    request.set_timeout(Duration::from_secs(60))?;
    let told = |line: &Line| matches!(&line.event, Event::Finding(finding) if finding.kind == FindingKind::MemoryLimit);
    let line = tracer.wait_for("memory_limit", SOON, told)?;
    request.finish()?;
    let ended_ns = clock::boot_ns();
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let Event::Finding(finding) = &line.event else { bail!("{line:?}") };
    println!("{}", finding.summary);
    let Evidence::Runaway(evidence) = &finding.evidence else { bail!("{finding:?}") };
    assert_eq!((evidence.limit.kind, evidence.limit.bytes), (ScopeKind::Php, 96 << 20));
    assert_eq!(finding.subject.as_ref().map(|subject| subject.tgid), Some(worker));
    let request = evidence.request.as_ref().context("request")?;
    assert_eq!(request.uri.as_deref(), Some("/export/7"));
    let left_s = (ended_ns - line.t_ns) as f64 / 1e9;
    println!("forecast {:.2} s, it took {left_s:.2} s", evidence.eta_s);
    // The pace of the script is the host's.
    assert!(evidence.eta_s < 2.0 * left_s + 0.5, "{}", evidence.eta_s);
    assert!(left_s < 4.0 * evidence.eta_s + 0.5, "{}", evidence.eta_s);
    assert!(trace.runaways().is_empty(), "{:?}", trace.runaways());
    assert_eq!(cgroup.oom_kills()?, 0);
    Ok(())
}
