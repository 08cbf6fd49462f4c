//! A PHP worker that is swapped out: a look brings nothing in unless it is told to, takes no time, and
//! says what is missing; the tracer goes on meanwhile; asked for, the look waits and is whole.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rampage::enrich::process;
use rampage::event::Event;
use rampage::php::{LookOptions, Looker, Reason};
use tests::cgroup::MemoryCgroup;
use tests::php::{Manager, PhpFpm};
use tests::tracer::Tracer;
use tests::{clock, needs};

const MIB: u64 = 1 << 20;
/// What the worker holds.
const HELD: u64 = 90 * MIB;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_swapped_out_worker_holds_nothing_up() -> Result<()> {
    needs!(Btf, PhpFpm, CgroupV2, Swap);
    let cgroup = MemoryCgroup::new("swap", 256 * MIB)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let worker = fpm.workers()?[0];
    let mut looker = Looker::new();
    looker.prepare(worker)?;
    let tracer = Tracer::watch("")?;
    let request = fpm.ask_for_worker("GET", b"/hold.php?mib=90&s=600", "hold.php")?;
    let swapped = || -> Result<u64> { Ok(process::memory(worker)?.swap_bytes) };
    clock::wait_for("the worker's memory", SOON, || {
        Ok((process::memory(worker)?.private_bytes() >= HELD).then_some(()))
    })?;
    cgroup.set_high(2 * MIB)?;
    clock::wait_for("the worker to be swapped out", SOON, || {
        Ok((swapped()? >= HELD - 4 * MIB).then_some(()))
    })?;
    let before = swapped()?;
    let mut missing = 0;
    for _ in 0..20 {
        let started = Instant::now();
        let look = looker.look(worker, &LookOptions::default());
        let took = started.elapsed();
        ensure!(took < clock::patient(Duration::from_millis(300)), "{took:?}: {look:#?}");
        missing += usize::from(look.lacks(&Reason::SwappedOut));
    }
    let brought = before.saturating_sub(swapped()?);
    println!("{missing} of 20 looks missed something; {} KiB came back", brought >> 10);
    ensure!(missing > 0 && brought < 2 * MIB, "{missing} looks, {brought} bytes");
    // The tracer's own looks hold it up as little.
    tracer.settle()?;
    cgroup.set_high(256 * MIB)?;
    let options = LookOptions { wait: true, timeout: SOON, ..LookOptions::default() };
    let look = looker.look(worker, &options);
    let uri = look.request.as_ref().and_then(|request| request.uri.clone());
    ensure!(uri.as_deref() == Some("/hold.php?mib=…&s=…"), "{look:#?}");
    ensure!(look.missing.is_empty() && !look.stack.is_empty(), "{look:#?}");
    drop(request);
    let trace = tracer.finish()?.trace;
    let swap = trace.growths(worker).iter().map(|growth| growth.swap_bytes).max();
    ensure!(swap.context("no growth")? >= HELD - 4 * MIB, "{swap:?}");
    let looks = trace.events().filter(|event| matches!(event, Event::Php(_))).count();
    ensure!(looks > 0, "no look in the trace");
    Ok(())
}
