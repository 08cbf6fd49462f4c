//! Work that is lost at a limit: tasks that hang, a cache too small to work with; and no word when
//! files go through a full cgroup.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{
    Event, Evidence, Finding, FindingKind, FindingState, LostForm, LostWork, Severity,
};
use tests::cgroup::MemoryCgroup;
use tests::hog::Hog;
use tests::needs;
use tests::trace::Trace;
use tests::tracer::Tracer;
use tests::writer::Written;

const MIB: u64 = 1 << 20;
/// More than one process comes to within a test.
const READS: usize = 20_000;
const SOON: Duration = Duration::from_secs(40);

fn lost<'a>(event: &'a Event, path: &str) -> Option<(&'a Finding, &'a LostWork)> {
    let Event::Finding(finding) = event else { return None };
    match &finding.evidence {
        Evidence::Pressure(lost) if lost.limit.path.as_deref() == Some(path) => {
            Some((finding, lost))
        }
        _ => None,
    }
}

fn all<'a>(trace: &'a Trace, path: &str) -> Vec<(&'a Finding, &'a LostWork)> {
    let all: Vec<_> = trace.events().filter_map(|event| lost(event, path)).collect();
    for (finding, _) in &all {
        println!("{:?}: {}", finding.state, finding.summary);
    }
    all
}

fn closes(tracer: &Tracer, path: &str) -> Result<()> {
    tracer.wait_for("its end", SOON, |line| {
        lost(&line.event, path).is_some_and(|(finding, _)| finding.state == FindingState::Closed)
    })?;
    Ok(())
}

#[test]
fn tasks_that_hang_are_told_of_and_when_they_go_on() -> Result<()> {
    needs!(Btf, CgroupV1);
    let cgroup = MemoryCgroup::new("hang", 64 * MIB)?;
    let path = cgroup.path();
    cgroup.set_oom_disabled()?;
    let tracer = Tracer::watch("")?;
    let hog = Hog::spawn(&cgroup, "comm:hanging anon:80:100 hold")?;
    tracer.wait_for("a finding", SOON, |line| lost(&line.event, &path).is_some())?;
    cgroup.set_limit(160 * MIB)?;
    hog.done("anon", SOON)?;
    closes(&tracer, &path)?;
    let trace = tracer.finish()?.trace;
    let all = all(&trace, &path);
    let states: Vec<_> = all.iter().map(|(finding, _)| finding.state).collect();
    assert_eq!(states, [FindingState::Raised, FindingState::Closed]);
    let (finding, lost) = all[0];
    assert_eq!((finding.kind, finding.severity), (FindingKind::Pressure, Severity::Critical));
    assert_eq!((lost.form, lost.limit.bytes), (LostForm::Hung, 64 * MIB));
    let largest = lost.largest.as_ref().context("who holds most")?;
    assert_eq!((largest.tgid, &*largest.comm), (hog.pid(), "hanging"));
    Ok(())
}

/// The pages that a write left belong to this test: whoever reads them would be charged nothing.
fn drop_cache(path: &Path) -> Result<()> {
    let file = fs::File::open(path)?;
    file.sync_all()?;
    // SAFETY: posix_fadvise has no memory effects; the descriptor is open.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    ensure!(error == 0, "posix_fadvise: error {error}");
    Ok(())
}

/// Reads one file again and again; ended when dropped.
struct Reader(Child);

impl Reader {
    fn start(cgroup: &MemoryCgroup, file: &str) -> Result<Self> {
        let mut command = Command::new("cat");
        command.args(std::iter::repeat_n(file, READS));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        cgroup.confine(&mut command)?;
        Ok(Self(command.spawn().context("a reader")?))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn files_that_go_through_a_full_cgroup_are_no_pressure() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("storm", 64 * MIB)?;
    let written = Written::in_cgroup(&cgroup)?;
    written.assert_stalled(&cgroup);
    assert!(all(&written.trace, &cgroup.path()).is_empty());
    Ok(())
}

#[test]
fn a_cache_that_is_too_small_to_work_with() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("thrash", 64 * MIB)?;
    let path = cgroup.path();
    let folder = tempfile::tempdir_in(std::env::current_dir()?).context("a folder on a disk")?;
    let file = folder.path().join("data");
    fs::write(&file, vec![b'x'; 48 << 20])?;
    drop_cache(&file)?;
    let tracer = Tracer::watch("")?;
    let holder = Hog::spawn(&cgroup, "comm:holder anon:59 hold")?;
    holder.done("anon", SOON)?;
    let reader = Reader::start(&cgroup, &file.to_string_lossy())?;
    let found = tracer.wait_for("a finding", SOON, |line| lost(&line.event, &path).is_some());
    let reader_tgid = reader.0.id();
    drop(reader);
    if found.is_ok() {
        closes(&tracer, &path)?;
    }
    let trace = tracer.finish()?.trace;
    let stalled: u64 = trace
        .events()
        .filter_map(|event| match event {
            Event::Stall(stall) if stall.cgroup.as_deref() == Some(&*path) => {
                Some(stall.duration_ns)
            }
            _ => None,
        })
        .sum();
    println!("{} ms of stalls", stalled / 1_000_000);
    for seen in trace.cgroups(&path).iter().rev().take(3) {
        println!("{seen:?}");
    }
    found?;
    let all = all(&trace, &path);
    let raised = all.iter().filter(|(finding, _)| finding.state == FindingState::Raised);
    assert_eq!(raised.count(), 1, "{all:#?}");
    assert_eq!(all[0].1.form, LostForm::Stalled);
    let waiter = all[0].1.waiters.first().context("who waits")?;
    assert_eq!((waiter.tgid, &*waiter.comm), (reader_tgid, "cat"));
    assert_eq!(all[0].1.largest.as_ref().map(|largest| largest.tgid), Some(holder.pid()));
    Ok(())
}
