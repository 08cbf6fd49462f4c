//! Time lost in reclaim, against a writer whose page cache is more than its memory cgroup may hold.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rampage::event::{Event, StallKind};
use tests::cgroup::MemoryCgroup;
use tests::needs;
use tests::tracer::Tracer;

const MIB: u64 = 1 << 20;

#[test]
fn a_writer_beyond_its_limit_is_stalled_and_says_how_long() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("stalls", 64 * MIB)?;
    let folder = tempfile::tempdir_in(std::env::current_dir()?).context("a folder on a disk")?;
    let tracer = Tracer::watch("")?;
    tracer.settle()?;
    let mut writer = Command::new("dd");
    writer.args(["if=/dev/zero", "bs=1M", "count=400"]).stderr(Stdio::null());
    writer.arg(format!("of={}", folder.path().join("data").display()));
    cgroup.confine(&mut writer)?;
    let started = Instant::now();
    let mut writer = writer.spawn().context("dd")?;
    let status = writer.wait()?;
    let lived_ns = started.elapsed().as_nanos() as u64;
    ensure!(status.success(), "dd: {status}");
    tracer.settle()?;
    let trace = tracer.finish()?.trace;

    let stalls: Vec<_> = trace
        .events()
        .filter_map(|event| match event {
            Event::Stall(stall) if stall.tgid == writer.id() => Some(stall),
            _ => None,
        })
        .collect();
    let sum_ns: u64 = stalls.iter().map(|stall| stall.duration_ns).sum();
    println!("{} stalls, {} ms of {} ms", stalls.len(), sum_ns / 1_000_000, lived_ns / 1_000_000);
    assert!(!stalls.is_empty(), "400 MiB went through 64 MiB without a stall of 10 ms in sum");
    for stall in &stalls {
        assert_eq!(stall.kind, StallKind::Memcg);
        assert_eq!(stall.cgroup.as_deref(), Some(&*cgroup.path()));
        assert!(stall.duration_ns >= 10_000_000, "stalls are summed up to 10 ms: {stall:?}");
    }
    assert!(sum_ns <= lived_ns, "one thread was stalled {sum_ns} ns in {lived_ns} ns");
    // What a growth event says holds the stalls that were too short for an event as well.
    let mut until_ns = 0;
    let mut compared = 0;
    for line in &trace.lines {
        match &line.event {
            Event::Stall(stall) if stall.tgid == writer.id() => until_ns += stall.duration_ns,
            Event::Growth(growth) if growth.tgid == writer.id() => {
                let said_ns = growth.stall_ns;
                assert!((until_ns..=lived_ns).contains(&said_ns), "{said_ns} of {until_ns} ns");
                compared += u32::from(until_ns > 0);
            }
            _ => {}
        }
    }
    println!("{compared} reports of growth after the first stall");
    Ok(())
}
