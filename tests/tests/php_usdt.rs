//! Edges of PHP requests by PHP's own probes (`--usdt`): each request of a real pool has exactly
//! one begin and one end, at the right times and with the memory then; pools that come later, and PHP
//! that has no probes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{Event, Hook, RequestEdge, RequestPhase};
use rampage::php::usdt::RequestProbes;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::debian_php;
use tests::needs;
use tests::php::{Manager, PhpFpm, Setup};
use tests::proc;
use tests::trace::Trace;
use tests::tracer::{self, Tracer};

const LIMIT_BYTES: u64 = 256 << 20;
/// From the answer until PHP has put its request away, on a busy machine.
const AFTERWARDS_NS: u64 = 2_000_000_000;
/// The programs' clock, ktime_get_boot_fast_ns(), and this one, CLOCK_BOOTTIME, may differ for a moment:
/// the former "is not guaranteed to be monotonic across an update" (kernel/time/timekeeping.c), by the
/// change of slope times the time since the last update. 13 µs were seen, where an update came late.
const CLOCKS_APART_NS: u64 = 1_000_000;

/// A request as its client saw it, ns.
struct Seen {
    worker: u32,
    sent_ns: u64,
    answered_ns: u64,
}

fn ask(fpm: &PhpFpm, script: &str) -> Result<Seen> {
    let sent_ns = clock::boot_ns();
    let answer = fpm.get(script, "")?;
    let answered_ns = clock::boot_ns();
    let worker = answer.header("X-Worker").context("no worker")?.parse()?;
    Ok(Seen { worker, sent_ns, answered_ns })
}

/// `clients` at once, `each` requests one after the other.
fn load(fpm: &PhpFpm, clients: usize, each: usize) -> Result<Vec<Seen>> {
    let seen = Mutex::new(Vec::new());
    let client = || -> Result<()> {
        for number in 0..each {
            let one = ask(fpm, if number % 10 == 3 { "normal.php" } else { "ping.php" })?;
            seen.lock().map_err(|_| anyhow::anyhow!("a client failed"))?.push(one);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        running.into_iter().try_for_each(|client| {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        })
    })?;
    seen.into_inner().map_err(|_| anyhow::anyhow!("a client failed"))
}

/// The edges of one process in the order of the trace.
fn edges(trace: &Trace, tgid: u32) -> Vec<(u64, RequestEdge)> {
    let edges = trace.lines.iter().filter_map(|line| match &line.event {
        Event::Request(edge) if edge.tgid == tgid => Some((line.t_ns, *edge)),
        _ => None,
    });
    edges.collect()
}

/// That each request has one begin and one end, in turn, when its client saw it.
fn check(trace: &Trace, seen: &[Seen]) -> Result<()> {
    let mut by_worker = BTreeMap::<u32, Vec<&Seen>>::new();
    for one in seen {
        by_worker.entry(one.worker).or_default().push(one);
    }
    for (worker, mut seen) in by_worker {
        seen.sort_by_key(|one| one.sent_ns.max(one.answered_ns));
        let edges = edges(trace, worker);
        ensure!(
            edges.len() == 2 * seen.len(),
            "{} edges of {} requests of {worker}; lost: {:?}",
            edges.len(),
            seen.len(),
            trace.losses()
        );
        for (pair, seen) in edges.chunks_exact(2).zip(seen) {
            let [(begin_ns, begin), (end_ns, end)] = [pair[0], pair[1]];
            let phases = (begin.phase, end.phase);
            ensure!(phases == (RequestPhase::Begin, RequestPhase::End), "{worker}: {phases:?}");
            ensure!(
                seen.sent_ns <= begin_ns + CLOCKS_APART_NS
                    && begin_ns < seen.answered_ns + CLOCKS_APART_NS
                    && begin_ns < end_ns
                    && end_ns < seen.answered_ns + AFTERWARDS_NS,
                "{worker}: {begin_ns} to {end_ns}, seen {} to {}",
                seen.sent_ns,
                seen.answered_ns
            );
            ensure!(begin.anon_bytes > 0 && begin.start_ns == end.start_ns, "{begin:?} {end:?}");
        }
    }
    trace.check_order()
}

fn hook(trace: &Trace) -> Result<Hook> {
    let hooks = &trace.header()?.hooks;
    hooks.iter().find(|hook| hook.mechanism == "usdt").cloned().context("no hook of USDT")
}

/// The counters of listeners that the probes of a process's program have.
fn semaphores(tgid: u32) -> Result<Vec<u16>> {
    let probes = RequestProbes::read(&File::open(format!("/proc/{tgid}/exe"))?)?;
    let exe = fs::read_link(format!("/proc/{tgid}/exe"))?;
    let maps = fs::read_to_string(format!("/proc/{tgid}/maps"))?;
    let memory = File::open(format!("/proc/{tgid}/mem"))?;
    let counter = |at: u64| -> Result<u16> {
        let address = maps.lines().filter(|line| line.ends_with(&*exe.to_string_lossy()));
        let mut places = address.filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let hex = |text| u64::from_str_radix(text, 16).ok();
            let (start, end) = words[0].split_once('-')?;
            let (start, end, offset) = (hex(start)?, hex(end)?, hex(words[2])?);
            let within = at.checked_sub(offset).filter(|within| *within < end - start)?;
            words[1].starts_with("rw").then_some(start + within)
        });
        let mut bytes = [0; 2];
        memory.read_exact_at(&mut bytes, places.next().context("the counter is not mapped")?)?;
        Ok(u16::from_ne_bytes(bytes))
    };
    let places = probes.begin.iter().chain(&probes.end).filter_map(|place| place.semaphore);
    places.map(counter).collect()
}

#[test]
fn each_request_has_one_begin_and_one_end() -> Result<()> {
    needs!(Btf, PhpFpm, Uprobes);
    let cgroup = MemoryCgroup::new("usdt", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(3))?;
    let worker = fpm.workers()?[0];
    ensure!(semaphores(worker)?.iter().all(|count| *count == 0), "somebody else listens");
    let tracer = Tracer::watch("--usdt")?;
    let listening = semaphores(worker)?;
    ensure!(!listening.is_empty() && listening.iter().all(|count| *count == 1), "{listening:?}");
    let seen = load(&fpm, 3, 100)?;
    tracer.settle()?;
    let last: Vec<_> = fpm
        .workers()?
        .iter()
        .map(|tgid| Ok((*tgid, proc::memory(*tgid)?)))
        .collect::<Result<_>>()?;
    let trace = tracer.finish()?.trace;
    clock::wait_for("lowered counters", Duration::from_secs(5), || {
        let all = fpm.workers()?.into_iter().map(semaphores).collect::<Result<Vec<_>>>()?;
        Ok(all.concat().iter().all(|count| *count == 0).then_some(()))
    })?;
    let hook = hook(&trace)?;
    assert_eq!((&*hook.name, &*hook.state, &*hook.reason), ("php/request", "attached", ""));
    assert_eq!(seen.len(), 300);
    check(&trace, &seen)?;
    assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
    for (worker, memory) in last {
        let Some((_, edge)) = edges(&trace, worker).last().copied() else { continue };
        let error_bytes = 2 * proc::counter_error_bytes()?;
        let apart = edge.anon_bytes.abs_diff(memory.anon_bytes);
        ensure!(apart <= error_bytes, "{worker}: {apart} bytes from /proc: {edge:?}");
    }
    Ok(())
}

#[test]
fn a_pool_that_starts_later_is_followed() -> Result<()> {
    needs!(Btf, PhpFpm, Uprobes);
    let tracer = Tracer::watch("--usdt")?;
    let cgroup = MemoryCgroup::new("usdt", LIMIT_BYTES)?;
    let setup = Setup { copied: true, ..Setup::system(Manager::Static(2)) };
    let fpm = PhpFpm::start_as(&cgroup, &setup)?;
    // The first tick after its start asks who it is.
    tracer.settle()?;
    clock::wait_for("the probes", Duration::from_secs(5), || {
        Ok(semaphores(fpm.master())?.iter().all(|count| *count == 1).then_some(()))
    })?;
    let from_ns = clock::boot_ns();
    let seen = load(&fpm, 2, 20)?;
    tracer.settle()?;
    let mut trace = tracer.finish()?.trace;
    trace.lines.retain(|line| {
        line.t_ns + CLOCKS_APART_NS >= from_ns || !matches!(line.event, Event::Request(_))
    });
    check(&trace, &seen)
}

#[test]
fn php_without_probes_is_said_once_and_the_run_goes_on() -> Result<()> {
    needs!(Btf, PhpFpm, Uprobes);
    let cgroup = MemoryCgroup::new("usdt", LIMIT_BYTES)?;
    let release = Some(debian_php::PHP_8_4);
    let setup = Setup { release, ..Setup::system(Manager::Static(2)) };
    let fpm = PhpFpm::start_as(&cgroup, &setup)?;
    let tracer = Tracer::watch("--usdt")?;
    ask(&fpm, "ping.php")?;
    tracer.settle()?;
    let outcome = tracer.finish()?;
    let lines: Vec<&str> =
        outcome.stderr.lines().filter(|line| line.contains("php-fpm8.4")).collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    assert!(lines[0].contains("built without request probes"), "{}", lines[0]);
    let hook = hook(&outcome.trace)?;
    // Other PHP may run on this host.
    assert!(matches!(&*hook.state, "missing" | "degraded"), "{hook:?}");
    assert!(hook.reason.contains("php-fpm8.4: it was built without"), "{}", hook.reason);
    assert!(fpm.workers()?.iter().all(|worker| edges(&outcome.trace, *worker).is_empty()));
    Ok(())
}

#[test]
fn without_the_flag_nothing_is_attached() -> Result<()> {
    needs!(Btf, PhpFpm, Uprobes);
    let cgroup = MemoryCgroup::new("usdt", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(2))?;
    let tracer = Tracer::watch("")?;
    ensure!(semaphores(fpm.master())?.iter().all(|count| *count == 0), "the probes are on");
    let seen = load(&fpm, 2, 5)?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    assert!(hook(&trace).is_err());
    assert!(seen.iter().all(|one| edges(&trace, one.worker).is_empty()));
    Ok(())
}

#[test]
fn polling_has_no_probes() -> Result<()> {
    let output = tracer::run(&["watch", "--usdt", "--source", "procfs"])?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--usdt") && said.contains("--source"), "{said}");
    Ok(())
}
