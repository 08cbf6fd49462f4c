//! Processes that are ended by somebody's signal: who sent it, how it ended, and no OOM kill.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result};
use rampage::event::Event;
use tests::cgroup::MemoryCgroup;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::tracer::Tracer;

const SOON: Duration = Duration::from_secs(30);

/// A fat process gets `signal` from this test.
fn killed_by(signal: i32) -> Result<()> {
    let cgroup = MemoryCgroup::new("signals", 128 << 20)?;
    let tracer = Tracer::watch("")?;
    let mut hog = Hog::spawn(&cgroup, "comm:target anon:40 hold")?;
    hog.done("anon", SOON)?;
    tracer.settle()?;
    let (start_ns, _) = proc::start(hog.pid()).context("the hog is gone")?;
    // SAFETY: kill has no memory effects; the hog is not waited for yet, so its pid is its own.
    unsafe { libc::kill(hog.pid().cast_signed(), signal) };
    assert_eq!(hog.wait(SOON)?.signal(), Some(signal));
    tracer.settle()?;
    let trace = tracer.finish()?.trace;

    let sent: Vec<_> = trace
        .events()
        .filter_map(|event| match event {
            Event::Signal(sent) if sent.target.tgid == hog.pid() => Some(sent),
            _ => None,
        })
        .collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let sent = sent[0];
    assert_eq!((sent.signal, sent.from_kernel), (signal.cast_unsigned(), false));
    assert_eq!((&*sent.target.comm, sent.target.start_ns), ("target", start_ns));
    let own = std::process::id();
    let (own_start_ns, _) = proc::start(own).context("own start")?;
    let own_comm = std::fs::read_to_string(format!("/proc/{own}/comm"))?;
    assert_eq!((sent.sender.tgid, sent.sender.start_ns), (own, own_start_ns));
    assert_eq!(&*sent.sender.comm, own_comm.trim_end());
    let exits = trace.exits(hog.pid());
    assert_eq!(exits.len(), 1, "{exits:?}");
    assert_eq!((exits[0].code, exits[0].signal), (None, Some(signal.cast_unsigned())));
    assert_eq!(cgroup.oom_kills()?, 0);
    assert!(trace.ooms_in(&cgroup.path()).is_empty(), "a user's kill is no OOM kill");
    assert!(trace.losses().is_empty(), "lost: {:?}", trace.losses());
    Ok(())
}

#[test]
fn sigkill_names_its_sender() -> Result<()> {
    needs!(Btf);
    killed_by(libc::SIGKILL)
}

#[test]
fn sigterm_names_its_sender() -> Result<()> {
    needs!(Btf);
    killed_by(libc::SIGTERM)
}
