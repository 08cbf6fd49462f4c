//! How one kind of memory of a process grows, as detectors see it.

use super::lows::FloorRise;
use super::trend::Trend;
use crate::event::MemoryKind;

/// Growth of a process's own memory (anon + swap), or of the shared memory that it maps.
#[derive(Clone, Copy, Debug)]
pub struct Rise<'a> {
    /// Which memory.
    pub memory: MemoryKind,
    /// How much of it there is now, bytes.
    pub bytes: u64,
    pub(super) trend: &'a Trend,
    pub(super) report_ns: u64,
}

impl Rise<'_> {
    /// Growth at this time, bytes per second: over the episode, at most the last ten seconds.
    /// Every changed process is reported within a second, so none is seen after silence.
    pub fn rate_at(&self, now_ns: u64) -> f64 {
        self.trend.rate(now_ns, self.report_ns)
    }

    /// Start of the present growth episode, ns: the last local minimum after which the size did
    /// not fall back by more than a quarter of its rise, nor stood still for ten seconds.
    pub fn onset_ns(&self) -> u64 {
        self.trend.onset_ns()
    }

    /// When growth beyond noise was last seen, ns.
    pub fn last_growth_ns(&self) -> u64 {
        self.trend.last_growth_ns()
    }

    /// Growth since the onset, bytes.
    pub fn grown_bytes(&self) -> u64 {
        self.trend.grown_bytes()
    }

    /// How long the present episode grew, s.
    pub fn growing_s(&self) -> f64 {
        self.trend.growing_s()
    }

    /// Growth of this episode beyond the heights that the same program reached before, bytes.
    pub fn novel_bytes(&self) -> u64 {
        self.trend.novel_bytes()
    }

    /// The rise of what it never falls below; None = it does not rise evenly.
    pub fn floor_rise(&self) -> Option<FloorRise> {
        self.trend.floor_rise()
    }

    /// Growth since a time within the last minute, bytes.
    pub fn grown_since(&self, t_ns: u64) -> u64 {
        self.bytes.saturating_sub(self.trend.size_at(t_ns))
    }
}
