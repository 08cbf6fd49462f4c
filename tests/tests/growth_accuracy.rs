//! Growth as rampage reports it against /proc/PID/status, over a life that allocates, frees, forks,
//! execs, maps files, shares memory, uses huge pages and starts threads.
//!
//! The bound: the kernel programs read the RSS counters as the kernel keeps them, and since Linux
//! 6.2 each CPU keeps less than a batch of max(32, 2 × CPUs) pages of each counter to itself, before
//! that each thread what it took in 66 faults.

use std::time::Duration;

use anyhow::{Context, Result};
use rampage::event::Growth;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::features::Feature;
use tests::hog::Hog;
use tests::needs;
use tests::proc::{self, Memory};
use tests::trace::Trace;
use tests::tracer::Tracer;

const SOON: Duration = Duration::from_secs(30);

struct Errors {
    bound_bytes: u64,
    largest: (u64, String),
    compared: u32,
}

impl Errors {
    /// Compares the last growth of `tgid` with what /proc says now.
    fn compare(&mut self, trace: &Trace, tgid: u32, step: &str) -> Result<()> {
        let seen = trace.last_growth(tgid).with_context(|| format!("after {step}"))?;
        let truth = proc::memory(tgid)?;
        for (counter, seen, truth) in pairs(seen, &truth) {
            let error = seen.abs_diff(truth);
            println!("{step:>8} {counter:>5}: rampage {seen:>10}, /proc {truth:>10}, off {error}");
            if error > self.largest.0 {
                self.largest = (error, format!("{counter} after {step}"));
            }
            assert!(
                error <= self.bound_bytes,
                "{counter} of {tgid} after {step}: rampage {seen}, /proc {truth}, bound {}",
                self.bound_bytes
            );
        }
        self.compared += 1;
        Ok(())
    }
}

/// What the OOM killer judges by beside the pages, as the last growth of `tgid` tells it.
fn judged(trace: &Trace, tgid: u32) -> Result<(i32, u64, u64)> {
    let seen = trace.last_growth(tgid)?;
    Ok((seen.oom_score_adj, seen.page_table_bytes, seen.data_bytes))
}

fn pairs(seen: &Growth, truth: &Memory) -> [(&'static str, u64, u64); 4] {
    [
        ("anon", seen.anon_bytes, truth.anon_bytes),
        ("file", seen.file_bytes, truth.file_bytes),
        ("shmem", seen.shmem_bytes, truth.shmem_bytes),
        ("swap", seen.swap_bytes, truth.swap_bytes),
    ]
}

#[test]
fn growth_agrees_with_proc() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("accuracy", 512 << 20)?;
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(20 << 20)?;
    let script = format!(
        "wait anon:40 wait thp:34 wait shm:24 wait file:{} wait free wait \
         repeat:4 {{ thread {{ anon:12:60 hold }} }} sleep:600 wait \
         anon:30 fork {{ anon:9 sleep:{} exit }} wait reap wait anon:3:2 wait free wait \
         exec anon:50 wait free",
        file.path().display(),
        // Until it was looked at, and no longer.
        clock::patient(Duration::from_secs(5)).as_millis()
    );
    let tracer = Tracer::watch("--step 256K")?;
    let mut hog = Hog::spawn(&cgroup, &script)?;
    let mut errors = Errors {
        bound_bytes: proc::counter_error_bytes()?,
        largest: (0, "nothing".to_owned()),
        compared: 0,
    };
    // The last step before each pause, in order of the script.
    for step in
        ["anon", "thp", "shm", "file", "free", "sleep", "fork", "reap", "anon", "free", "anon"]
    {
        hog.go()?;
        hog.done(step, SOON)?;
        // A changed process is reported at each tick.
        tracer.settle()?;
        let trace = tracer.so_far()?;
        errors.compare(&trace, hog.pid(), step)?;
        if step == "fork" {
            let child = cgroup.processes()?.into_iter().find(|pid| *pid != hog.pid());
            errors.compare(&trace, child.context("the hog has no child")?, "fork's child")?;
        }
    }
    let (largest, place) = &errors.largest;
    println!(
        "largest error of {} comparisons: {largest} bytes ({place}); bound {} bytes a counter",
        errors.compared, errors.bound_bytes
    );
    assert_eq!(errors.compared, 12);
    let trace = tracer.finish()?.trace;
    assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
    Ok(())
}

#[test]
fn what_the_oom_killer_judges_by_agrees_with_proc() -> Result<()> {
    needs!(Btf);
    const MAPPED_BYTES: u64 = 64 << 20;
    let cgroup = MemoryCgroup::new("judged", 256 << 20)?;
    let tracer = Tracer::watch("")?;
    let mut hog = Hog::spawn(&cgroup, "adj:7 anon:8 wait map:64 wait touch wait exec wait")?;
    let tgid = hog.pid();
    let agreed = |what: &str| -> Result<(i32, u64, u64)> {
        tracer.settle()?;
        let (seen, truth) = (judged(&tracer.so_far()?, tgid)?, proc::judged(tgid)?);
        println!("{what}: adj, page tables, data: rampage {seen:?}, /proc {truth:?}");
        assert_eq!(seen, truth, "{what}");
        Ok(seen)
    };
    hog.done("anon", SOON)?;
    let (adj, page_tables, data) = agreed("at the start")?;
    assert_eq!(adj, 7);
    // Nothing of it moves but this.
    let below_zero: &[i32] = if Feature::LowerAdj.is_here() { &[-1000, -17] } else { &[] };
    for adj in [1000, 0].iter().chain(below_zero).chain(&[18]) {
        proc::set_oom_score_adj(tgid, *adj)?;
        assert_eq!(agreed("another adj")?, (*adj, page_tables, data));
    }
    hog.go()?;
    hog.done("map", SOON)?;
    let (_, page_tables, mapped) = agreed("mapped")?;
    assert_eq!(mapped, data + MAPPED_BYTES);
    hog.go()?;
    hog.done("touch", SOON)?;
    let (_, more_page_tables, _) = agreed("touched")?;
    // A page of entries for each 2 MiB.
    assert!(more_page_tables >= page_tables + 31 * 4096, "{page_tables}, {more_page_tables}");
    hog.go()?;
    clock::wait_for("the exec", SOON, || Ok((proc::judged(tgid)?.2 < MAPPED_BYTES).then_some(())))?;
    let (adj, _, _) = agreed("after exec")?;
    assert_eq!(adj, 18, "exec keeps it");
    Ok(())
}
