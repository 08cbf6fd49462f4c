//! A real OOM in a recorded trace: the scene that is set, and what must hold for each of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{Event, Evidence, Oom, ScopeKind, Verdict};

use crate::cgroup::MemoryCgroup;
use crate::proc;
use crate::trace::{Trace, any_in};
use crate::tracer::{self, Tracer};

const MIB: u64 = 1 << 20;
/// Programs of which no call may be left out: those that tell of a kill.
const TELL_OF_KILLS: [&str; 2] = ["missed:mark_victim", "missed:oom_kill"];
const SOON: Duration = Duration::from_secs(30);

/// A cgroup with a limit, and a tracer that records.
#[derive(Debug)]
pub struct Scene {
    /// `rampage record`.
    pub tracer: Tracer,
    /// Where it happens.
    pub cgroup: MemoryCgroup,
    folder: tempfile::TempDir,
}

impl Scene {
    /// An empty cgroup that may hold `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Result<Self> {
        Self::with(MemoryCgroup::new("oom", limit_bytes)?)
    }

    /// Processes that are in `cgroup` by now existed before the tracer.
    pub fn with(cgroup: MemoryCgroup) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let tracer = Tracer::record(&folder.path().join("trace.jsonl"), "--step 256K")?;
        Ok(Self { tracer, cgroup, folder })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("trace.jsonl")
    }

    /// A folder for what the scene needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for the verdict on a kill in this cgroup; other tests may run beside this one.
    pub fn wait_for_verdict(&self) -> Result<()> {
        let path = self.cgroup.path();
        let verdict = |event: &Event| match event {
            Event::Finding(finding) => match &finding.evidence {
                Evidence::OomVerdict(verdict) => any_in(&verdict.victims, &path),
                _ => false,
            },
            _ => false,
        };
        self.tracer.wait_for("a verdict", SOON, |line| verdict(&line.event))?;
        Ok(())
    }

    /// Ends the tracer and checks what holds for every OOM: as many victims as the kernel counted,
    /// a verdict for each event, nothing lost of it, and the same findings again by replay.
    pub fn finish(self) -> Result<Trace> {
        self.tracer.settle()?;
        let file = self.file();
        let trace = self.tracer.finish()?.trace;
        let ooms = trace.ooms_in(&self.cgroup.path());
        let victims: usize = ooms.iter().map(|oom| oom.victims.len()).sum();
        assert_eq!(victims as u64, self.cgroup.oom_kills()?, "victims and the kernel's oom_kill");
        assert_eq!(trace.ooms().len(), trace.verdicts().len(), "a verdict for each oom event");
        let losses = trace.losses();
        let excused = proc::tracepoints_are_preemptible()?;
        for source in losses.keys() {
            let tells = TELL_OF_KILLS.iter().any(|program| source.starts_with(program));
            let left_out = source.starts_with("missed:") && !tells;
            assert!(excused && left_out, "lost: {losses:?}");
        }
        let replayed = tracer::replay_findings(&file)?;
        assert_eq!(trace.findings_json(), replayed.iter().collect::<Vec<_>>(), "live and replay");
        Ok(trace)
    }
}

/// The only `oom` event in `path`, with its verdict.
pub fn only<'a>(trace: &'a Trace, path: &str) -> Result<(&'a Oom, &'a Verdict)> {
    let ooms = trace.ooms_in(path);
    ensure!(ooms.len() == 1, "{} oom events: {ooms:?}", ooms.len());
    first(trace, path)
}

/// The first `oom` event in `path`, with its verdict. Where others go on asking for memory, a kernel
/// may kill once more before that of the first victim is free (seen on 7.3, also without a tracer).
pub fn first<'a>(trace: &'a Trace, path: &str) -> Result<(&'a Oom, &'a Verdict)> {
    let ooms = trace.ooms_in(path);
    let oom = ooms.first().with_context(|| format!("no oom event in {path}"))?;
    ensure!(oom.victims.len() == 1, "victims: {:?}", oom.victims);
    let verdicts = trace.verdicts();
    let of = verdicts.iter().find(|(_, _, verdict)| verdict.victims == oom.victims);
    Ok((oom, of.context("no verdict names these victims")?.2))
}

/// Whom a verdict names.
pub fn culprit(verdict: &Verdict) -> Option<u32> {
    verdict.culprit.as_ref().map(|culprit| culprit.tgid)
}

/// Within 2 % or 4 MiB, whichever is more.
pub fn assert_near(what: &str, seen: u64, true_bytes: u64) {
    let allowed = u64::max(true_bytes / 50, 4 * MIB);
    println!("{what}: seen {seen}, true {true_bytes}, off by {}", seen.abs_diff(true_bytes));
    assert!(seen.abs_diff(true_bytes) <= allowed, "{what}: {seen}, not {true_bytes}");
}

/// The limit that was hit is that of `cgroup`.
pub fn assert_limit(oom: &Oom, cgroup: &str, limit_bytes: u64) {
    assert_eq!(oom.scope.kind, ScopeKind::Memcg);
    assert_eq!(oom.scope.cgroup.as_deref(), Some(cgroup));
    assert_eq!(oom.scope.limit_bytes, Some(limit_bytes));
}
