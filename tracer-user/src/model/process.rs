//! One process: identity, memory, and the history of its anon + swap.

use std::sync::Arc;

use super::php::{Insight, MemoryLimit};
use super::trend::Trend;
use crate::event::{Growth, Php, ProcessKey};

/// A process that moved by less than this since it was first seen has no history of its own.
const IDLE_BYTES: u64 = 256 << 10;
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
    pub php: Option<Php>,
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
    pub(super) node: u32,
    pub(super) report_ms: u32,
    pub(super) baseline: Baseline,
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
            node: NO_NODE,
            report_ms: 1000,
            baseline: Baseline::Unknown,
            refreshed: false,
        }
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

    /// Growth at this time, bytes per second: over the episode, at most the last ten seconds.
    /// Every changed process is reported within a second, so none is seen after silence.
    pub fn rate_at(&self, now_ns: u64) -> f64 {
        self.trend.as_ref().map_or(0.0, |trend| trend.rate(now_ns, self.report_ns()))
    }

    /// Start of the present growth episode, ns: the last local minimum after which the size did
    /// not fall back by more than a quarter of its rise, nor stood still for ten seconds.
    pub fn onset_ns(&self) -> u64 {
        self.trend.as_ref().map_or(self.last_ns, |trend| trend.onset_ns())
    }

    /// When growth beyond noise was last seen, ns.
    pub fn last_growth_ns(&self) -> u64 {
        self.trend.as_ref().map_or(self.first_seen_ns, |trend| trend.last_growth_ns())
    }

    /// Growth since the onset, bytes.
    pub fn grown_bytes(&self) -> u64 {
        self.trend.as_ref().map_or(0, |trend| trend.grown_bytes())
    }

    /// How long the present episode grew, s.
    pub fn growing_s(&self) -> f64 {
        self.trend.as_ref().map_or(0.0, |trend| trend.growing_s())
    }

    /// Growth of this episode beyond the heights that the same program reached before, bytes.
    pub fn novel_bytes(&self) -> u64 {
        self.trend.as_ref().map_or(0, |trend| trend.novel_bytes())
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

    /// Fading growth of the recent past, bytes.
    pub(super) fn recent_at(&self, now_ns: u64) -> f32 {
        self.trend.as_ref().map_or(0.0, |trend| trend.recent_at(now_ns))
    }

    /// Takes in its memory and returns by how much anon + swap moved; the first sight is no
    /// movement. None = older than what is known.
    pub(super) fn take(&mut self, t_ns: u64, growth: &Growth, report_ns: u64) -> Option<i64> {
        if t_ns < self.last_ns {
            return None;
        }
        let before = self.private_bytes();
        let bytes = growth.private_bytes();
        self.memory = *growth;
        let last_ns = std::mem::replace(&mut self.last_ns, t_ns);
        if self.baseline != Baseline::Measured {
            self.baseline = Baseline::Measured;
            self.first_seen_bytes = bytes;
            return Some(0);
        }
        self.report_ms = u32::try_from(report_ns / 1_000_000).unwrap_or(u32::MAX);
        if self.trend.is_none() && bytes.abs_diff(self.first_seen_bytes) >= IDLE_BYTES {
            let mut trend = Trend::new(self.first_seen_ns, self.first_seen_bytes);
            trend.observe(last_ns, before, report_ns);
            self.trend = Some(Box::new(trend));
        }
        if let Some(insight) = &mut self.insight {
            insight.grown(bytes);
        }
        if let Some(trend) = &mut self.trend {
            trend.observe(t_ns, bytes, report_ns);
            self.rate_bytes_per_s = trend.rate(t_ns, report_ns);
        }
        Some(signed(bytes).saturating_sub(signed(before)))
    }

    /// It runs another program: history and baseline start anew.
    pub(super) fn exec(&mut self, t_ns: u64) {
        let memory = &mut self.memory;
        (memory.anon_bytes, memory.file_bytes, memory.shmem_bytes, memory.swap_bytes) =
            (0, 0, 0, 0);
        self.trend = None;
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
