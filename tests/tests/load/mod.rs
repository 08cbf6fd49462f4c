//! Looks at a pool under full load, each held against what the driver knows: which URIs were asked
//! for and not yet answered, and by which worker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rampage::php::{Activity, Disclosure, Frame, LookOptions, Looker, Missing, Part, Reason};
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::php::{Manager, PhpFpm};

const WORKERS: u32 = 4;

/// What the driver knows of a request.
#[derive(Clone, Copy)]
struct Truth {
    sent: Instant,
    answered: Option<(Instant, u32)>,
}

/// What a look saw.
struct Seen {
    worker: u32,
    begun: Instant,
    uri: String,
    activity: Activity,
}

pub fn looks_under_load(looks: usize) -> Result<()> {
    let cgroup = MemoryCgroup::new("look", 256 << 20)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(WORKERS))?;
    let workers = fpm.workers()?;
    let truth = Mutex::new(HashMap::<String, Truth>::new());
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut looker = Looker::new();
    for worker in &workers {
        // The pool has just answered whether it serves.
        clock::wait_for("an idle worker", Duration::from_secs(5), || {
            let look = looker.look(*worker, &LookOptions::default());
            Ok((look.activity == Activity::Idle).then_some(()))
        })?;
    }
    let mut seen = Vec::new();
    let (mut torn, mut tries_torn, mut requests, mut odd) = ((0, 0), 0, 0_usize, Vec::new());
    let (mut late, mut kept) = (0, 0);
    let mut times_ns = Vec::with_capacity(looks);
    let driven = std::thread::scope(|scope| {
        let drivers: Vec<_> =
            (0..WORKERS).map(|_| scope.spawn(|| drive(&fpm, &truth, &stop, &next))).collect();
        let show = Disclosure { query: true, client: false };
        let options = LookOptions { timeout: Duration::from_secs(2), wait: false, show };
        for number in 0..looks {
            // The workers are to run, too.
            std::thread::sleep(Duration::from_micros(200));
            let worker = workers[number % workers.len()];
            let begun = Instant::now();
            let look = looker.look(worker, &options);
            times_ns.push(look.took_ns);
            tries_torn += look.torn;
            let is_torn = look.lacks(&Reason::Torn);
            let part = |part| look.missing.contains(&Missing { part, reason: Reason::Torn });
            torn.0 += usize::from(part(Part::Request));
            torn.1 += usize::from(part(Part::Stack));
            late += usize::from(look.lacks(&Reason::Deadline));
            let others = look
                .missing
                .iter()
                .any(|missing| !matches!(missing.reason, Reason::Torn | Reason::Deadline));
            // What is left of a torn stack is its outer part.
            kept += usize::from(is_torn && look.stack.len() >= 2);
            if others || !is_plausible(&look.stack) {
                odd.push(look.clone());
            }
            if let Some(request) = look.request {
                requests += 1;
                let uri = request.uri.map(|uri| uri.to_string()).unwrap_or_default();
                seen.push(Seen { worker, begun, uri, activity: look.activity });
            }
        }
        stop.store(true, Ordering::Relaxed);
        drivers.into_iter().map(|driver| driver.join()).collect::<Vec<_>>()
    });
    for driven in driven {
        driven.map_err(|_| anyhow::anyhow!("a driver panicked"))?.context("a driver failed")?;
    }
    let truth = truth.into_inner().unwrap_or_else(PoisonError::into_inner);
    times_ns.sort_unstable();
    let at = |share: f64| times_ns[((times_ns.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    let percent = |count: usize| count as f64 * 100.0 / looks as f64;
    println!(
        "{looks} looks under load, {} requests served: {requests} met a request; {tries_torn} tries \
         were torn; in the end {:.2} % of the requests and {:.2} % of the stacks, most of which \
         ({kept}) kept their outer part; a look took {:.0} µs (median), {:.0} µs (p99)",
        truth.len(),
        percent(torn.0),
        percent(torn.1),
        at(0.5),
        at(0.99),
    );
    for seen in &seen {
        let known = truth.get(&seen.uri).with_context(|| format!("no such URI: {}", seen.uri))?;
        ensure!(known.sent <= seen.begun + Duration::from_secs(2), "{}: from the future", seen.uri);
        if let Some((answered, worker)) = known.answered {
            ensure!(worker == seen.worker, "{}: of another worker", seen.uri);
            // The client has its answer a moment before the worker has put its request away.
            let late = seen.begun.saturating_duration_since(answered);
            let allowed = match seen.activity {
                Activity::Request => Duration::ZERO,
                _ => Duration::from_secs(2),
            };
            ensure!(
                late <= allowed,
                "{}: {late:?} after its answer, {:?}",
                seen.uri,
                seen.activity
            );
        }
    }
    ensure!(odd.is_empty(), "{} odd looks, the first: {:#?}", odd.len(), odd[0]);
    // The host itself can stand still for that long; seen once in 60,000 looks.
    ensure!(late * 1000 <= looks, "{late} looks without an answer in time");
    ensure!(requests > looks / 4, "only {requests} looks met a request");
    ensure!(torn.0 * 100 <= looks && torn.1 * 4 <= looks, "{torn:?} torn looks");
    Ok(())
}

fn drive(
    fpm: &PhpFpm,
    truth: &Mutex<HashMap<String, Truth>>,
    stop: &AtomicBool,
    next: &AtomicU64,
) -> Result<()> {
    // Nobody panics with the table in hand.
    let know = |uri: String, known: Truth| {
        truth.lock().unwrap_or_else(PoisonError::into_inner).insert(uri, known);
    };
    while !stop.load(Ordering::Relaxed) {
        // Lengths differ, so that what one request leaves behind does not fit the next.
        let number = next.fetch_add(1, Ordering::Relaxed);
        let tail = "x".repeat((number * 7 % 61) as usize);
        let uri = format!("/r/{number}?{tail}={number}");
        let sent = Instant::now();
        know(uri.clone(), Truth { sent, answered: None });
        let request = fpm.ask("GET", uri.as_bytes(), "load.php")?;
        request.set_timeout(Duration::from_secs(20))?;
        let response = request.finish()?;
        let worker = response.header("X-Worker").context("no worker")?.parse()?;
        let answered = Some((Instant::now(), worker));
        know(uri, Truth { sent, answered });
    }
    Ok(())
}

/// Whether a stack can be one of load.php: who calls whom.
fn is_plausible(stack: &[Frame]) -> bool {
    let names: Vec<Option<&str>> =
        stack.iter().rev().map(|frame| frame.function.as_deref()).collect();
    let Some((first, rest)) = names.split_first() else { return true };
    let mut caller = *first;
    if caller.is_some() {
        return false;
    }
    for callee in rest {
        let may = match caller {
            None => matches!(callee, Some("outer" | "header" | "getmypid")),
            Some("outer") => *callee == Some("middle"),
            Some("middle") => matches!(callee, Some("array_sum" | "array_map" | "tree")),
            Some("array_map") => *callee == Some("inner"),
            Some("inner") => matches!(callee, Some("strlen" | "str_repeat")),
            Some("tree") => *callee == Some("tree"),
            Some(_) => false,
        };
        if !may {
            return false;
        }
        caller = *callee;
    }
    true
}
