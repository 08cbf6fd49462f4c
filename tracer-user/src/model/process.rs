//! One process: identity, memory, and the history of its anon + swap.

use std::sync::Arc;

use super::cgroup::is_below;
use super::php::{Insight, MemoryLimit};
use super::rise::Rise;
use super::trend::Trend;
use crate::event::{Growth, MemoryKind, Php, ProcessKey};

/// A process that moved by less than this since it was first seen has no history of its own.
const IDLE_BYTES: u64 = 256 << 10;
/// The same of shared memory, of which many processes have some.
const SHARED_BYTES: u64 = 4 << 20;
/// Cgroup of a process whose cgroup is not known.
pub(super) const NO_NODE: u32 = u32::MAX;

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Identity.
    pub key: ProcessKey,
    /// Parent.
    pub ppid: u32,
    /// Name.
    pub comm: Arc<str>,
    /// Command line, if read.
    pub cmdline: Option<Arc<str>>,
    /// Executable, if read.
    pub exe: Option<Arc<str>>,
    /// Real user.
    pub uid: u32,
    /// Memory cgroup, if known.
    pub cgroup: Option<Arc<str>>,
    /// PHP, if it is.
    pub php: Option<Arc<Php>>,
    /// What looks into it told, if it is PHP and was looked into.
    pub insight: Option<Box<Insight>>,
    /// Its last growth event.
    pub memory: Growth,
    /// Growth of anon + swap over the recent past, bytes per second; negative = shrinks. As of the
    /// last growth event or tick; see [`Process::rate_at`].
    pub rate_bytes_per_s: f64,
    /// When the model first saw it (or its last exec), ns.
    pub first_seen_ns: u64,
    /// Anon + swap when first seen (or after its last exec), bytes.
    pub first_seen_bytes: u64,
    pub(super) last_ns: u64,
    pub(super) trend: Option<Box<Trend>>,
    shared_trend: Option<Box<Trend>>,
    first_seen_shared_bytes: u64,
    /// Private mappings when the present growth began.
    data_at_onset_bytes: u64,
    pub(super) node: u32,
    pub(super) report_ms: u32,
    pub(super) baseline: Baseline,
    /// The OOM killer has chosen it: it is on its way out.
    pub(super) is_killed: bool,
    /// Its rate is refreshed on ticks.
    pub(super) refreshed: bool,
}

/// Where `first_seen_bytes` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    /// No memory seen yet, and nothing known of what it had.
    Unknown,
    /// No memory seen yet: what it should have after fork (its parent's) or exec (nothing).
    Assumed,
    /// The first growth event.
    Measured,
}

impl Process {
    pub(super) fn new(key: ProcessKey, t_ns: u64, comm: Arc<str>) -> Self {
        Self {
            key,
            ppid: 0,
            comm,
            cmdline: None,
            exe: None,
            uid: 0,
            cgroup: None,
            php: None,
            insight: None,
            memory: Growth { tgid: key.tgid, start_ns: key.start_ns, ..Growth::default() },
            rate_bytes_per_s: 0.0,
            first_seen_ns: t_ns,
            first_seen_bytes: 0,
            last_ns: t_ns,
            trend: None,
            shared_trend: None,
            first_seen_shared_bytes: 0,
            data_at_onset_bytes: 0,
            node: NO_NODE,
            report_ms: 1000,
            baseline: Baseline::Unknown,
            is_killed: false,
            refreshed: false,
        }
    }

    /// The PHP pool that it is a worker of.
    pub fn pool(&self) -> Option<&str> {
        self.php.as_ref()?.pool.as_deref()
    }

    /// Whether it is in the cgroup `root` or below it; None = the host, in which all are.
    pub fn is_in(&self, root: Option<&str>) -> bool {
        root.is_none_or(|root| self.cgroup.as_ref().is_some_and(|path| is_below(path, root)))
    }

    /// Anon + swap, bytes.
    pub fn private_bytes(&self) -> u64 {
        self.memory.private_bytes()
    }

    /// Anon + swap at a time within the last minute, bytes; before it was seen what it had then.
    pub fn size_at(&self, t_ns: u64) -> u64 {
        match &self.trend {
            Some(_) if t_ns <= self.first_seen_ns => self.first_seen_bytes,
            Some(trend) => trend.size_at(t_ns),
            None => self.private_bytes(),
        }
    }

    /// Growth of anon + swap at this time, bytes per second; see [`Rise::rate_at`].
    pub fn rate_at(&self, now_ns: u64) -> f64 {
        self.private().map_or(0.0, |rise| rise.rate_at(now_ns))
    }

    /// How its own memory grows; None = it never moved to speak of.
    pub fn private(&self) -> Option<Rise<'_>> {
        self.rise(MemoryKind::Private, self.private_bytes(), self.trend.as_deref())
    }

    /// How the shared memory that it maps grows (memfd, tmpfs files, opcache …); None = it never
    /// moved to speak of. It is charged to whoever touched it first, once.
    pub fn shared(&self) -> Option<Rise<'_>> {
        self.rise(MemoryKind::Shared, self.memory.shmem_bytes, self.shared_trend.as_deref())
    }

    /// Both.
    pub fn rises(&self) -> impl Iterator<Item = Rise<'_>> {
        self.private().into_iter().chain(self.shared())
    }

    fn rise<'a>(
        &self,
        memory: MemoryKind,
        bytes: u64,
        trend: Option<&'a Trend>,
    ) -> Option<Rise<'a>> {
        trend.map(|trend| Rise { memory, bytes, trend, report_ns: self.report_ns() })
    }

    /// How much it can still grow without mapping more: what it had mapped before its present
    /// growth began and has not touched yet, bytes (a database fills the buffer pool that it was
    /// configured with). None = it maps more as it grows, or it is not known.
    pub fn untouched_bytes(&self) -> Option<u64> {
        let data_bytes = self.memory.data_bytes;
        let grown_bytes = self.private()?.grown_bytes();
        let mapped_bytes = data_bytes.saturating_sub(self.data_at_onset_bytes);
        let fills = data_bytes > 0 && mapped_bytes <= grown_bytes / 4;
        fills.then(|| data_bytes.saturating_sub(self.private_bytes()))
    }

    /// How far PHP is from its memory_limit now; None = no PHP, not known, or unlimited.
    pub fn memory_limit(&self) -> Option<MemoryLimit> {
        self.insight.as_ref()?.memory_limit(self.private_bytes())
    }

    /// What it grew since it was first seen when it has `bytes` now.
    pub fn grown_since_seen(&self, bytes: u64) -> u64 {
        match self.baseline {
            Baseline::Unknown => 0,
            Baseline::Assumed | Baseline::Measured => bytes.saturating_sub(self.first_seen_bytes),
        }
    }

    /// What it grew since `t_ns`, or since it was first seen if that is later, when it has `bytes`
    /// now.
    pub fn grown_since(&self, t_ns: u64, bytes: u64) -> u64 {
        if t_ns <= self.first_seen_ns || self.baseline != Baseline::Measured {
            self.grown_since_seen(bytes)
        } else {
            bytes.saturating_sub(self.size_at(t_ns))
        }
    }

    /// What the shared memory that it maps grew since `t_ns`, or since it was first seen if that is
    /// later, bytes.
    pub fn shared_since(&self, t_ns: u64) -> u64 {
        if t_ns <= self.first_seen_ns || self.shared_trend.is_none() {
            return self.memory.shmem_bytes.saturating_sub(self.first_seen_shared_bytes);
        }
        self.shared().map_or(0, |rise| rise.grown_since(t_ns))
    }

    /// Fading growth of the recent past, bytes.
    pub(super) fn recent_at(&self, now_ns: u64) -> f32 {
        let trends = [&self.trend, &self.shared_trend];
        trends.into_iter().flatten().map(|trend| trend.recent_at(now_ns)).sum()
    }

    /// Takes in its memory and returns by how much anon + swap moved; the first sight is no
    /// movement. None = older than what is known.
    pub(super) fn take(&mut self, t_ns: u64, growth: &Growth, report_ns: u64) -> Option<i64> {
        if t_ns < self.last_ns {
            return None;
        }
        let before = self.private_bytes();
        let data_before_bytes = self.memory.data_bytes;
        let bytes = growth.private_bytes();
        self.memory = *growth;
        let last_ns = std::mem::replace(&mut self.last_ns, t_ns);
        if self.baseline != Baseline::Measured {
            self.baseline = Baseline::Measured;
            self.first_seen_bytes = bytes;
            self.first_seen_shared_bytes = growth.shmem_bytes;
            return Some(0);
        }
        self.report_ms = u32::try_from(report_ns / 1_000_000).unwrap_or(u32::MAX);
        if self.trend.is_none() && bytes.abs_diff(self.first_seen_bytes) >= IDLE_BYTES {
            let mut trend = Trend::new(self.first_seen_ns, self.first_seen_bytes);
            trend.observe(last_ns, before, report_ns);
            self.trend = Some(Box::new(trend));
        }
        if self.shared_trend.is_none()
            && growth.shmem_bytes.abs_diff(self.first_seen_shared_bytes) >= SHARED_BYTES
        {
            let trend = Trend::new(self.first_seen_ns, self.first_seen_shared_bytes);
            self.shared_trend = Some(Box::new(trend));
        }
        if let Some(trend) = &mut self.shared_trend {
            trend.observe(t_ns, growth.shmem_bytes, report_ns);
        }
        if let Some(insight) = &mut self.insight {
            insight.grown(bytes);
        }
        if let Some(trend) = &mut self.trend {
            let onset_ns = trend.onset_ns();
            trend.observe(t_ns, bytes, report_ns);
            if trend.onset_ns() != onset_ns || self.data_at_onset_bytes == 0 {
                self.data_at_onset_bytes = data_before_bytes;
            }
            self.rate_bytes_per_s = trend.rate(t_ns, report_ns);
        }
        Some(signed(bytes).saturating_sub(signed(before)))
    }

    /// What it has now came about in a gap without events: no rate is taken over it.
    pub(super) fn settle(&mut self, t_ns: u64) {
        for trend in [&mut self.trend, &mut self.shared_trend].into_iter().flatten() {
            trend.settle();
        }
        self.data_at_onset_bytes = self.memory.data_bytes;
        self.rate_bytes_per_s = self.rate_at(t_ns);
    }

    /// It runs another program: history and baseline start anew. oom_score_adj stays.
    pub(super) fn exec(&mut self, t_ns: u64) {
        let memory = &mut self.memory;
        (memory.anon_bytes, memory.file_bytes, memory.shmem_bytes, memory.swap_bytes) =
            (0, 0, 0, 0);
        (memory.page_table_bytes, memory.data_bytes) = (0, 0);
        self.data_at_onset_bytes = 0;
        self.trend = None;
        self.shared_trend = None;
        self.first_seen_shared_bytes = 0;
        self.insight = None;
        self.rate_bytes_per_s = 0.0;
        self.baseline = Baseline::Assumed;
        self.first_seen_ns = t_ns;
        self.first_seen_bytes = 0;
        self.last_ns = self.last_ns.max(t_ns);
    }

    /// What it added to its cgroup since it is known.
    pub(super) fn contribution(&self) -> i64 {
        match self.baseline {
            Baseline::Measured => {
                signed(self.private_bytes()).saturating_sub(signed(self.first_seen_bytes))
            }
            Baseline::Unknown | Baseline::Assumed => 0,
        }
    }

    fn report_ns(&self) -> u64 {
        u64::from(self.report_ms) * 1_000_000
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
