//! A writer whose page cache is more than its memory cgroup may hold: nothing but reclaim lets it on.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rampage::event::StallKind;

use crate::cgroup::MemoryCgroup;
use crate::trace::Trace;
use crate::tracer::Tracer;

/// What came of it.
#[derive(Debug)]
pub struct Written {
    /// `rampage watch` over its life.
    pub trace: Trace,
    /// The writer.
    pub tgid: u32,
    /// How long it lived.
    pub lived_ns: u64,
}

impl Written {
    /// Traces `dd`, which writes 400 MiB to a file on the disk of the current folder. Each MiB is on
    /// the disk before the next: reclaim has work, and always finds pages that it may drop. What is
    /// dirty it cannot; where the disk is slow, the writer would be killed for that (seen on 6.12).
    pub fn in_cgroup(cgroup: &MemoryCgroup) -> Result<Self> {
        let folder =
            tempfile::tempdir_in(std::env::current_dir()?).context("a folder on a disk")?;
        let tracer = Tracer::watch("")?;
        tracer.settle()?;
        let mut writer = Command::new("dd");
        writer.args(["if=/dev/zero", "bs=1M", "count=400", "oflag=dsync"]).stderr(Stdio::null());
        writer.arg(format!("of={}", folder.path().join("data").display()));
        cgroup.confine(&mut writer)?;
        let started = Instant::now();
        let mut writer = writer.spawn().context("dd")?;
        let status = writer.wait()?;
        let lived_ns = started.elapsed().as_nanos() as u64;
        ensure!(status.success(), "dd: {status}");
        tracer.settle()?;
        Ok(Self { trace: tracer.finish()?.trace, tgid: writer.id(), lived_ns })
    }

    /// It was stalled at the limit of `cgroup`, and for no longer than it lived.
    pub fn assert_stalled(&self, cgroup: &MemoryCgroup) {
        let Self { trace, tgid, lived_ns } = self;
        let stalls = trace.stalls(*tgid);
        let sum_ns: u64 = stalls.iter().map(|stall| stall.duration_ns).sum();
        println!(
            "{} stalls, {} ms of {} ms",
            stalls.len(),
            sum_ns / 1_000_000,
            lived_ns / 1_000_000
        );
        assert!(
            !stalls.is_empty(),
            "400 MiB went through {} without 10 ms of stalls",
            cgroup.path()
        );
        for stall in &stalls {
            assert_eq!(stall.kind, StallKind::Memcg);
            assert_eq!(stall.cgroup.as_deref(), Some(&*cgroup.path()));
            assert!(stall.duration_ns >= 10_000_000, "stalls are summed up to 10 ms: {stall:?}");
        }
        assert!(sum_ns <= *lived_ns, "one thread was stalled {sum_ns} ns in {lived_ns} ns");
    }
}
