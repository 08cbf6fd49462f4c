//! Losses with a tiny ring buffer: what rampage has seen and what it says it has lost add up to what
//! was made, counted by the makers themselves; afterwards it knows the same processes as /proc.
//!
//! The whole host shares the ring buffer, so the counts are exact only while nobody else forks, ends
//! or grows. What others can have done is bounded from /proc and added to the upper side; on a quiet
//! host that is nothing, and the tests print it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rampage::event::{Event, ProcessCause};
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::counters::Slot;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::trace::Trace;
use tests::tracer::Tracer;

const SOON: Duration = Duration::from_secs(60);
/// Within this time after a loss the state is that of the kernel again.
const RESYNC: Duration = Duration::from_secs(3);
/// How often a test that needs a quiet host waits for one.
const QUIET_TRIES: u32 = 8;
const TINY: &str = "--ring 4096";

/// What others may have added to a count between two looks.
struct Others {
    tasks_made: u64,
    /// Kernel threads too, whose ends are seen like all others.
    everyone: BTreeMap<u32, u64>,
    levels: BTreeMap<(u32, u64), u64>,
    step_bytes: u64,
}

impl Others {
    fn look(step_bytes: u64) -> Result<Self> {
        let processes = proc::processes()?;
        let levels = processes.iter().filter_map(|(tgid, start_ns)| {
            let memory = proc::memory(*tgid).ok()?;
            Some(((*tgid, *start_ns), (memory.anon_bytes + memory.swap_bytes) / step_bytes))
        });
        let levels = levels.collect();
        let everyone = proc::everyone()?;
        Ok(Self { tasks_made: proc::tasks_made()?, everyone, levels, step_bytes })
    }

    /// Tasks that others made since; `own` were made by the test.
    fn forks(&self, own: u64) -> Result<u64> {
        Ok((proc::tasks_made()? - self.tasks_made).saturating_sub(own))
    }

    /// Processes of others that ended since: those that are gone, and at most all that were made.
    fn exits(&self, own: u64) -> Result<u64> {
        let now = proc::everyone()?;
        let gone = self.everyone.iter().filter(|(tgid, start)| now.get(tgid) != Some(start));
        Ok(gone.count() as u64 + self.forks(own)?)
    }

    /// Level crossings of processes other than `own`, as far as two looks can tell.
    fn crossings(&self, own: u32) -> Result<u64> {
        let now = Self::look(self.step_bytes)?;
        let moved = self.levels.iter().filter(|((tgid, _), _)| *tgid != own);
        Ok(moved
            .map(|(key, level)| now.levels.get(key).map_or(0, |after| after.abs_diff(*level)))
            .sum())
    }
}

fn between(trace: &Trace, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Event> {
    let inside = move |t_ns: u64| (from_ns..=to_ns).contains(&t_ns);
    trace.lines.iter().filter(move |line| inside(line.t_ns)).map(|line| &line.event)
}

/// A time by which the trace has all that happened before the call. An event that is read after a
/// later one was told takes the time of that one, so it may be dated after it was over.
fn told_until(tracer: &Tracer) -> Result<u64> {
    tracer.settle()?;
    Ok(clock::boot_ns())
}

fn assert_sum(what: &str, seen: u64, lost: u64, made: u64, others: u64) {
    println!("{what}: seen {seen} + lost {lost} = {} of {made} made; others {others}", seen + lost);
    assert!(
        (made..=made + others).contains(&(seen + lost)),
        "{what}: seen {seen} + lost {lost} is not {made} (others: at most {others})"
    );
}

/// Forks and exits in the window, against a hog that made `made` of each.
fn assert_births_and_deaths(
    trace: &Trace,
    window: (u64, u64),
    made: u64,
    others: (u64, u64),
) -> u64 {
    let forks = between(trace, window.0, window.1)
        .filter(|event| matches!(event, Event::Process(p) if p.cause == ProcessCause::Fork));
    // Ghosts that a resync buries have neither code nor signal: their exit was counted as lost.
    let exits = between(trace, window.0, window.1)
        .filter(|event| matches!(event, Event::Exit(e) if e.code.is_some() || e.signal.is_some()));
    // A full ring is one way to lose a record; the other is that the kernel leaves a run of the
    // program out, which it does on 7.x when another task preempted it.
    let lost = |sources: [&str; 2]| -> u64 {
        sources.iter().map(|source| trace.lost_since(source, window.0)).sum()
    };
    let lost_forks = lost(["ring:fork", "missed:process_fork"]);
    let lost_exits = lost(["ring:exit", "missed:process_exit"]);
    assert_sum("forks", forks.count() as u64, lost_forks, made, others.0);
    assert_sum("exits", exits.count() as u64, lost_exits, made, others.1);
    lost_forks + lost_exits
}

/// After a resync: no ghosts, nobody missing, and `idle` processes have the size that /proc says.
fn assert_resynchronised(tracer: &Tracer, idle: &[u32]) -> Result<()> {
    let before = proc::processes()?;
    std::thread::sleep(clock::patient(RESYNC));
    let now_ns = clock::boot_ns();
    tracer.settle()?;
    let trace = tracer.so_far()?;
    let after = proc::processes()?;
    let (known, later) = (trace.alive(now_ns), trace.alive(u64::MAX));
    let stable = before.iter().filter(|(tgid, start_ns)| after.get(tgid) == Some(start_ns));
    for (tgid, start_ns) in stable.filter(|(tgid, _)| **tgid != tracer.pid()) {
        ensure!(
            known.get(tgid) == Some(start_ns),
            "process {tgid} started at {start_ns} is not known: {:?}",
            known.get(tgid)
        );
    }
    for (tgid, start_ns) in &known {
        // A zombie is no ghost: /proc lists it until it is reaped.
        let lives = before.get(tgid) == Some(start_ns)
            || proc::start(*tgid).is_some_and(|(start, _)| start == *start_ns)
            || !later.contains_key(tgid);
        ensure!(
            lives,
            "process {tgid} started at {start_ns} is a ghost: {:#?}",
            trace.about(*tgid).map(|line| &line.json).collect::<Vec<_>>()
        );
    }
    let bound_bytes = proc::counter_error_bytes()?;
    for tgid in idle {
        let (seen, truth) = (trace.last_growth(*tgid)?, proc::memory(*tgid)?);
        ensure!(
            seen.anon_bytes.abs_diff(truth.anon_bytes) <= bound_bytes,
            "{tgid}: anon {} in the trace, {} in /proc",
            seen.anon_bytes,
            truth.anon_bytes
        );
    }
    Ok(())
}

#[test]
fn fork_storm_while_nobody_reads() -> Result<()> {
    needs!(Btf);
    const FORKS: u64 = 3_000;
    let cgroup = MemoryCgroup::new("losses", 256 << 20)?;
    let script = format!("wait repeat:{FORKS} {{ fork {{ exit:0 }} reap }} wait");
    let mut storm = Hog::spawn(&cgroup, &script)?;
    let bystander = Hog::spawn(&cgroup, "anon:20 hold")?;
    bystander.done("anon", SOON)?;
    let tracer = Tracer::watch(TINY)?;
    tracer.settle()?;
    let others = Others::look(1 << 20)?;
    let from_ns = clock::boot_ns();
    tracer.pause();
    storm.go()?;
    storm.done("repeat", SOON)?;
    tracer.resume();
    let to_ns = told_until(&tracer)?;
    let made = storm.count(Slot::Forks);
    assert_eq!((made, storm.count(Slot::Reaped)), (FORKS, FORKS));
    let others = (others.forks(made)?, others.exits(made)?);
    assert_resynchronised(&tracer, &[storm.pid(), bystander.pid()])?;
    let trace = tracer.finish()?.trace;
    let lost = assert_births_and_deaths(&trace, (from_ns, to_ns), made, others);
    assert!(lost > FORKS, "the storm was too small: only {lost} records were lost");
    Ok(())
}

#[test]
fn fork_storm_against_a_reader() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("losses", 256 << 20)?;
    let script = "wait repeat:60 { repeat:100 { fork { exit:0 } } reap } wait";
    let mut storm = Hog::spawn(&cgroup, script)?;
    let tracer = Tracer::watch(TINY)?;
    tracer.settle()?;
    let others = Others::look(1 << 20)?;
    let from_ns = clock::boot_ns();
    storm.go()?;
    storm.done("repeat", SOON)?;
    let to_ns = told_until(&tracer)?;
    let made = storm.count(Slot::Forks);
    assert_eq!((made, storm.count(Slot::Reaped)), (6_000, 6_000));
    let others = (others.forks(made)?, others.exits(made)?);
    assert_resynchronised(&tracer, &[storm.pid()])?;
    let trace = tracer.finish()?.trace;
    assert_births_and_deaths(&trace, (from_ns, to_ns), made, others);
    Ok(())
}

/// Reports stand on a grid: one each time that anon + swap enters another multiple of the step.
#[test]
fn growth_while_nobody_reads() -> Result<()> {
    needs!(Btf);
    // What a process that others start and end meanwhile grows cannot be known from outside, and
    // it is lost in the same ring buffer.
    for _ in 0..QUIET_TRIES {
        if growth_while_nobody_else_starts()? {
            return Ok(());
        }
    }
    bail!("others started processes in each of {QUIET_TRIES} tries: this needs a quiet host")
}

/// False = somebody else started a process meanwhile.
fn growth_while_nobody_else_starts() -> Result<bool> {
    const STEP_BYTES: u64 = 512 << 10;
    let cgroup = MemoryCgroup::new("losses", 512 << 20)?;
    let mut hog = Hog::spawn(&cgroup, "wait anon:200 wait")?;
    let tracer = Tracer::watch(&format!("{TINY} --step {STEP_BYTES}"))?;
    tracer.settle()?;
    let look = Others::look(STEP_BYTES)?;
    let before_bytes = proc::memory(hog.pid())?.anon_bytes;
    let from_ns = clock::boot_ns();
    tracer.pause();
    hog.go()?;
    hog.done("anon", SOON)?;
    let to_ns = clock::boot_ns();
    let after_bytes = proc::memory(hog.pid())?.anon_bytes;
    let others = look.crossings(hog.pid())?;
    tracer.resume();
    assert_resynchronised(&tracer, &[hog.pid()])?;
    let trace = tracer.finish()?.trace;
    let foreign = look.forks(0)?;
    if foreign > 0 {
        println!("others started {foreign} tasks meanwhile: once more");
        return Ok(false);
    }

    // The kernel's counter lags behind by at most its error: a crossing that close to the size at
    // either end may or may not have been seen by it.
    let error_bytes = proc::counter_error_bytes()?;
    let crossings = |from: u64, to: u64| (to / STEP_BYTES).saturating_sub(from / STEP_BYTES);
    let least = crossings(before_bytes, after_bytes - error_bytes);
    let most = crossings(before_bytes.saturating_sub(error_bytes), after_bytes);
    let seen = between(&trace, from_ns, to_ns)
        .filter(|event| matches!(event, Event::Growth(growth) if growth.tgid == hog.pid()))
        .count() as u64;
    let lost = trace.lost_since("ring:growth", from_ns);
    println!("crossings between {least} and {most}");
    assert_sum("growth", seen, lost, least, most - least + others);
    assert!(lost > seen, "the ring buffer was not too small: {seen} seen, {lost} lost");
    let known = trace.lines.iter().rev().find_map(|line| match &line.event {
        Event::Growth(growth) if growth.tgid == hog.pid() => Some(growth.anon_bytes),
        _ => None,
    });
    let known = known.context("no growth of the hog")?;
    assert!(known.abs_diff(after_bytes) <= error_bytes, "{known}, not {after_bytes}");
    Ok(true)
}

/// A group is killed while nobody reads: what is lost is said, and no victim stays as a ghost.
#[test]
fn kill_while_nobody_reads() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("losses", 64 << 20)?;
    let mut storm = Hog::unconfined("wait repeat:400 { fork { exit:0 } reap } wait")?;
    let mut hog = Hog::spawn(&cgroup, "wait anon:100")?;
    let tracer = Tracer::watch(TINY)?;
    tracer.settle()?;
    tracer.pause();
    storm.go()?;
    storm.done("repeat", SOON)?;
    hog.go()?;
    hog.wait(SOON)?;
    assert_eq!(cgroup.oom_kills()?, 1);
    tracer.resume();
    assert_resynchronised(&tracer, &[storm.pid()])?;
    let trace = tracer.finish()?.trace;
    let seen: usize = trace.ooms_in(&cgroup.path()).iter().map(|oom| oom.victims.len()).sum();
    assert_eq!(seen as u64 + trace.lost("ring:oom"), 1, "lost: {:?}", trace.losses());
    let alive = trace.alive(u64::MAX);
    assert!(!alive.contains_key(&hog.pid()), "the victim {} is a ghost", hog.pid());
    Ok(())
}
