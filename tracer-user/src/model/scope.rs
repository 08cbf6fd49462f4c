//! A limit over some processes, as detectors see it.

use std::sync::Arc;

use super::gauge::{Gauge, Rates};
use super::lows::FloorRise;
use super::{Forecast, Model, Process};
use crate::event::{Limit, LimitSetting, ScopeKind};

/// A limit, what is left of it, and who grows below it. Copied freely, owned by the model.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Memcg or host.
    pub kind: ScopeKind,
    /// Path of the cgroup; None for the host.
    pub path: Option<&'a Arc<str>>,
    /// Which of its settings is met next.
    pub setting: LimitSetting,
    /// Its value; for the host MemTotal + SwapTotal.
    pub limit_bytes: u64,
    /// What is left of it, reclaimable file pages and swap counted as free.
    pub headroom_bytes: u64,
    pub(super) gauge: &'a Gauge,
    pub(super) model: &'a Model,
}

impl<'a> Scope<'a> {
    pub(super) fn memcg(model: &'a Model, path: &'a Arc<str>, gauge: &'a Gauge) -> Option<Self> {
        Self::new(model, ScopeKind::Memcg, Some(path), gauge)
    }

    pub(super) fn host(model: &'a Model, gauge: &'a Gauge) -> Option<Self> {
        Self::new(model, ScopeKind::Host, None, gauge)
    }

    fn new(
        model: &'a Model,
        kind: ScopeKind,
        path: Option<&'a Arc<str>>,
        gauge: &'a Gauge,
    ) -> Option<Self> {
        let (headroom_bytes, bound) = (gauge.headroom_bytes()?, gauge.bound?);
        let (setting, limit_bytes) = (bound.setting, bound.limit_bytes);
        Some(Self { kind, path, setting, limit_bytes, headroom_bytes, gauge, model })
    }

    /// Net rate at which the limit is used up, over its own growth episode or at most ten seconds,
    /// bytes per second.
    pub fn rate_bytes_per_s(&self) -> f64 {
        self.gauge.rate(self.model.now_ns, self.model.tick_ns)
    }

    /// The same since a time within the last minute.
    pub fn rate_since(&self, since_ns: u64) -> f64 {
        self.gauge.rate_since(self.settled(since_ns), self.model.now_ns)
    }

    /// The same, and over each half of that time: how far the rate is to be believed.
    pub fn rates_since(&self, since_ns: u64) -> Rates {
        self.gauge.rates_since(self.settled(since_ns), self.model.now_ns)
    }

    fn settled(&self, since_ns: u64) -> u64 {
        since_ns.max(self.model.certainty.settled_ns())
    }

    /// What is used of it, everything that would leave room counted as free, bytes.
    pub fn consumed_bytes(&self) -> u64 {
        self.gauge.consumed_bytes().unwrap_or(0)
    }

    /// The rise of the least that was consumed; None = it does not rise evenly.
    pub fn floor_rise(&self) -> Option<FloorRise> {
        self.gauge.floor_rise()
    }

    /// Net rise since a time within the last minute, bytes.
    pub fn rise_since(&self, since_ns: u64) -> u64 {
        self.gauge.rise_since(since_ns)
    }

    /// Those who grew most below it lately, at most eight, in no order.
    pub fn growers(&self) -> impl Iterator<Item = &'a Process> + use<'a> {
        let roster = &self.model.roster;
        self.gauge.growers.slots().filter_map(|slot| roster.get(slot))
    }

    /// As findings tell it.
    pub fn limit(&self) -> Limit {
        Limit {
            kind: self.kind,
            path: self.path.cloned(),
            setting: self.setting,
            bytes: self.limit_bytes,
            headroom_bytes: self.headroom_bytes,
        }
    }

    /// What is left of it, and for how long.
    pub fn forecast(&self) -> Forecast {
        let rate_bytes_per_s = self.rate_bytes_per_s();
        Forecast {
            kind: self.kind,
            path: self.path.cloned(),
            limit_bytes: self.limit_bytes,
            headroom_bytes: self.headroom_bytes,
            rate_bytes_per_s,
            eta_s: eta_s(self.headroom_bytes, rate_bytes_per_s),
        }
    }
}

/// Seconds until `headroom` is used up; None when it is not being used up.
pub(crate) fn eta_s(headroom_bytes: u64, rate_bytes_per_s: f64) -> Option<f64> {
    (rate_bytes_per_s >= 1.0).then(|| headroom_bytes as f64 / rate_bytes_per_s)
}
