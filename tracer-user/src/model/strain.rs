//! A limit at which processes wait for memory, as detectors see it.

use std::sync::Arc;

use super::gauge::Gauge;
use super::tree::Node;
use super::{Model, Process, is_below};
use crate::event::ScopeKind;

/// Who moved or waited within this time runs, and what was counted within it is news, ns.
const LATELY_NS: u64 = 10_000_000_000;
/// Growth below this is noise, bytes per second.
const LEAST_RATE: f64 = 262_144.0;

/// A limit, what is left of it, and the waiting for it. Swap is no room here: memory that has to be
/// brought back is what processes wait for.
#[derive(Clone, Copy, Debug)]
pub struct Strain<'a> {
    /// Memcg or host.
    pub kind: ScopeKind,
    /// Path of the cgroup; None for the host.
    pub path: Option<&'a Arc<str>>,
    /// The cgroup's limit, or its memory.high if that is lower; MemTotal.
    pub limit_bytes: u64,
    /// What is left of it, reclaimable file pages counted as free.
    pub headroom_bytes: u64,
    /// Time that all its processes waited per second of the last ten seconds: 1 = one of them did
    /// nothing else.
    pub stall_share: f64,
    /// PSI some over 10 s, percent.
    pub some_avg10: Option<f64>,
    /// PSI full over 10 s, percent.
    pub full_avg10: Option<f64>,
    /// `limit_bytes` is memory.high, and it slowed somebody down lately.
    pub is_throttled: bool,
    /// Its tasks hang: the limit is reached, and its OOM killer disabled (v1).
    pub is_hung: bool,
    gauge: &'a Gauge,
    model: &'a Model,
}

impl<'a> Strain<'a> {
    /// None = nobody waits there, or it has no limit.
    pub(super) fn memcg(model: &'a Model, node: &'a Node) -> Option<Self> {
        let (cgroup, gauge) = (&node.cgroup, &node.gauge);
        let is_hung = cgroup.events.is_some_and(|events| events.under_oom);
        if gauge.stalls.is_none() && !is_hung && cgroup.some_avg10.unwrap_or(0.0) <= 0.0 {
            return None;
        }
        let limit_bytes = cgroup.max_bytes.into_iter().chain(cgroup.high_bytes).min()?;
        let slowed_ns = cgroup.throttled_ns.filter(|_| cgroup.high_bytes == Some(limit_bytes));
        Some(Self {
            kind: ScopeKind::Memcg,
            path: Some(&cgroup.path),
            limit_bytes,
            headroom_bytes: limit_bytes.saturating_sub(
                // What is swapped out is not in the way.
                gauge.consumed_bytes()?.saturating_sub(cgroup.swap_usage_bytes),
            ),
            stall_share: stall_share(gauge, model.now_ns),
            some_avg10: cgroup.some_avg10,
            full_avg10: cgroup.full_avg10,
            is_throttled: slowed_ns.is_some_and(|since_ns| is_recent(model, since_ns)),
            is_hung,
            gauge,
            model,
        })
    }

    /// The host, once it is known.
    pub(super) fn host(model: &'a Model, gauge: &'a Gauge) -> Option<Self> {
        gauge.consumed_bytes()?;
        let host = &model.host;
        Some(Self {
            kind: ScopeKind::Host,
            path: None,
            limit_bytes: host.mem_total_bytes,
            headroom_bytes: host.available_bytes,
            stall_share: stall_share(gauge, model.now_ns),
            some_avg10: host.some_avg10,
            full_avg10: host.full_avg10,
            is_throttled: false,
            is_hung: false,
            gauge,
            model,
        })
    }

    /// Those who waited most in the last ten seconds and live, the longest first, each with the time
    /// that it waited per second.
    pub fn waiters(&self) -> Vec<(&'a Process, f64)> {
        let Some(stalls) = &self.gauge.stalls else { return Vec::new() };
        let model = self.model;
        let mut waiters: Vec<_> = stalls
            .waiters_at(model.now_ns)
            .filter_map(|(key, share)| Some((model.process(key)?, share)))
            .collect();
        waiters.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.key.cmp(&b.key)));
        waiters
    }

    /// Those who grow below it, the fastest first.
    pub fn growers(&self) -> Vec<&'a Process> {
        let model = self.model;
        let rate = |process: &Process| process.rate_at(model.now_ns);
        let slots = self.gauge.growers.slots().filter_map(|slot| model.roster.get(slot));
        let mut growers: Vec<_> = slots.filter(|process| rate(process) >= LEAST_RATE).collect();
        growers.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then(a.key.cmp(&b.key)));
        growers
    }

    /// Who holds most below it. Looks at all processes.
    pub fn largest(&self) -> Option<&'a Process> {
        self.members()
            .max_by_key(|process| (process.private_bytes(), std::cmp::Reverse(process.key)))
    }

    /// How many below it run, as far as memory tells: those whose memory moved, or who waited for
    /// it, in the last ten seconds. Looks at all processes.
    pub fn running(&self) -> usize {
        let waiters = self.waiters();
        let waits = |process: &Process| waiters.iter().any(|(known, _)| known.key == process.key);
        self.members().filter(|p| is_recent(self.model, p.last_ns) || waits(p)).count()
    }

    fn members(&self) -> impl Iterator<Item = &'a Process> + use<'a> {
        let root = self.path;
        self.model.processes().filter(move |process| {
            root.is_none_or(|root| process.cgroup.as_ref().is_some_and(|path| is_below(path, root)))
        })
    }
}

fn stall_share(gauge: &Gauge, now_ns: u64) -> f64 {
    gauge.stalls.as_ref().map_or(0.0, |stalls| stalls.share_at(now_ns))
}

fn is_recent(model: &Model, t_ns: u64) -> bool {
    model.now_ns.saturating_sub(t_ns) <= LATELY_NS
}
