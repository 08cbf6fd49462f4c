//! What is counted as events pass by. Every map here is bounded.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::latency::Latency;
use super::open::Findings;
use super::pools::Requests;
use crate::event::{
    Event, Evidence, Finding, FindingState, KilledBy, Oom, ScopeKind, Stall, StallKind, Stamped,
};
use crate::model::{Model, is_below};
use crate::source::live::loss_sources;

/// Sources of loss that are told apart; what comes later counts as `other`.
const MOST_SOURCES: usize = 96;
const OTHER: &str = "other";
/// Cgroups whose stalls are told apart; those of others count for the root alone.
const MOST_CGROUPS: usize = 1024;

/// Names of the types of event, as in a trace.
pub(super) const EVENT_TYPES: [&str; 21] = [
    "header",
    "config",
    "process",
    "growth",
    "php",
    "php_growth",
    "request",
    "cgroup",
    "cgroup_move",
    "cgroup_gone",
    "tick",
    "pressure",
    "stall",
    "signal",
    "oom",
    "exit",
    "finding",
    "lost",
    "end",
    "restated",
    "unknown",
];

/// Scopes of OOM kills.
pub(super) const SCOPES: [&str; 4] = ["memcg", "host", "cpuset", "unknown"];

/// Who ends processes.
pub(super) const KILLERS: [&str; 8] =
    ["fpm_timeout", "systemd", "systemd_oomd", "earlyoom", "shell", "process", "kernel", "unknown"];

/// Since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub events: [u64; EVENT_TYPES.len()],
    pub lost: Vec<(Arc<str>, u64)>,
    pub latency: Latency,
    pub findings: Findings,
    pub requests: Requests,
    pub oom_kills: [u64; SCOPES.len()],
    pub oom_victims: [u64; SCOPES.len()],
    pub kills: [u64; KILLERS.len()],
    /// By direct reclaim and at limits of cgroups, ns.
    pub stalled_ns: [u64; 2],
    stalled_by_cgroup_ns: FxHashMap<Arc<str>, u64>,
    /// Wall clock less CLOCK_BOOTTIME at the last event, ns.
    pub wall_offset_ns: i64,
    pub kernel: String,
    pub source: String,
}

impl Counts {
    pub fn take(&mut self, model: &Model, at: &Stamped, clock: fn() -> u64) {
        self.events[event_type(&at.event)] += 1;
        match &at.event {
            // Made by the pipeline itself.
            Event::Finding(finding) => return self.finding(finding),
            Event::Header(header) => {
                self.findings.restart();
                self.kernel.clone_from(&header.kernel);
                self.source.clone_from(&header.source);
                if header.source == "live" {
                    // From 0 on, so that the first loss is seen to be one.
                    let sources = loss_sources().chain(["alerts"]);
                    sources.for_each(|source| self.lost(source, 0));
                }
            }
            Event::Lost(lost) => self.lost(&lost.source, lost.records),
            Event::Stall(stall) => self.stall(stall),
            Event::CgroupGone(gone) => self.cgroup_gone(&gone.path),
            Event::Oom(oom) => self.oom(oom),
            Event::Php(look) => self.requests.look(model, look),
            Event::Exit(exit) => self.requests.exit(exit.tgid),
            _ => {}
        }
        let now_ns = clock();
        self.wall_offset_ns = at.wall_ns.saturating_sub_unsigned(at.t_ns);
        self.latency.add(now_ns, now_ns.saturating_sub(at.t_ns));
    }

    /// Time that processes of a cgroup and those below it waited, ns.
    pub fn stalled_below_ns(&self, root: &str) -> u64 {
        let below = self.stalled_by_cgroup_ns.iter().filter(|(path, _)| is_below(path, root));
        below.map(|(_, ns)| *ns).fold(0, u64::saturating_add)
    }

    fn finding(&mut self, finding: &Finding) {
        self.findings.take(finding);
        if let Evidence::Killed(killed) = &finding.evidence
            && finding.state == FindingState::Raised
        {
            self.kills[killer(killed.by)] += 1;
        }
    }

    fn lost(&mut self, source: &str, records: u64) {
        let name = match self.lost.len() < MOST_SOURCES {
            false if !self.lost.iter().any(|(known, _)| **known == *source) => OTHER,
            _ => source,
        };
        match self.lost.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, count)) => *count = count.saturating_add(records),
            None => self.lost.push((Arc::from(name), records)),
        }
    }

    fn stall(&mut self, stall: &Stall) {
        let kind = match stall.kind {
            StallKind::Direct => 0,
            StallKind::Memcg => 1,
        };
        let sum = &mut self.stalled_ns[kind];
        *sum = sum.saturating_add(stall.duration_ns);
        self.add_stall(stall.cgroup.as_deref().unwrap_or("/"), stall.duration_ns);
    }

    fn add_stall(&mut self, path: &str, ns: u64) {
        let path = match self.stalled_by_cgroup_ns.len() < MOST_CGROUPS {
            false if !self.stalled_by_cgroup_ns.contains_key(path) => "/",
            _ => path,
        };
        match self.stalled_by_cgroup_ns.get_mut(path) {
            Some(sum) => *sum = sum.saturating_add(ns),
            None => {
                self.stalled_by_cgroup_ns.insert(Arc::from(path), ns);
            }
        }
    }

    /// What was waited there goes on to count for those above.
    fn cgroup_gone(&mut self, path: &str) {
        if let Some(ns) = self.stalled_by_cgroup_ns.remove(path) {
            let parent = path.rfind('/').map_or("", |at| &path[..at]);
            self.add_stall(if parent.is_empty() { "/" } else { parent }, ns);
        }
    }

    fn oom(&mut self, oom: &Oom) {
        let scope = match oom.scope.kind {
            ScopeKind::Memcg => 0,
            ScopeKind::Host => 1,
            ScopeKind::Cpuset => 2,
            ScopeKind::Php | ScopeKind::Unknown => 3,
        };
        self.oom_kills[scope] += 1;
        self.oom_victims[scope] += oom.victims.len() as u64;
    }
}

fn event_type(event: &Event) -> usize {
    match event {
        Event::Header(_) => 0,
        Event::Config(_) => 1,
        Event::Process(_) => 2,
        Event::Growth(_) => 3,
        Event::Php(_) => 4,
        Event::PhpGrowth(_) => 5,
        Event::Request(_) => 6,
        Event::Cgroup(_) => 7,
        Event::CgroupMove(_) => 8,
        Event::CgroupGone(_) => 9,
        Event::Tick(_) => 10,
        Event::Pressure(_) => 11,
        Event::Stall(_) => 12,
        Event::Signal(_) => 13,
        Event::Oom(_) => 14,
        Event::Exit(_) => 15,
        Event::Finding(_) => 16,
        Event::Lost(_) => 17,
        Event::End(_) => 18,
        Event::Restated(_) => 19,
        Event::Unknown => 20,
    }
}

fn killer(by: KilledBy) -> usize {
    match by {
        KilledBy::FpmTimeout => 0,
        KilledBy::Systemd => 1,
        KilledBy::SystemdOomd => 2,
        KilledBy::Earlyoom => 3,
        KilledBy::Shell => 4,
        KilledBy::Process => 5,
        KilledBy::Kernel => 6,
        KilledBy::Unknown => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CgroupGone, Lost, Tick};

    fn counts(events: impl IntoIterator<Item = Event>) -> Counts {
        let model = Model::new(&crate::event::Config::default());
        let mut counts = Counts::default();
        for event in events {
            counts.take(&model, &Stamped { t_ns: 5, wall_ns: 105, event }, || 7);
        }
        counts
    }

    fn stall(cgroup: Option<&str>, duration_ns: u64) -> Event {
        let cgroup = cgroup.map(Arc::from);
        Event::Stall(Stall { tgid: 1, start_ns: 1, cgroup, kind: StallKind::Memcg, duration_ns })
    }

    fn gone(path: &str) -> Event {
        Event::CgroupGone(CgroupGone { id: 1, path: path.into() })
    }

    #[test]
    fn types_are_named_as_in_a_trace() {
        for event in [Event::Tick(Tick {}), gone("/"), stall(None, 1)] {
            let written = serde_json::to_value(&event).unwrap();
            assert_eq!(written["type"], EVENT_TYPES[event_type(&event)]);
        }
        for (by, name) in [
            (KilledBy::FpmTimeout, "fpm_timeout"),
            (KilledBy::Systemd, "systemd"),
            (KilledBy::SystemdOomd, "systemd_oomd"),
            (KilledBy::Earlyoom, "earlyoom"),
            (KilledBy::Shell, "shell"),
            (KilledBy::Process, "process"),
            (KilledBy::Kernel, "kernel"),
            (KilledBy::Unknown, "unknown"),
        ] {
            assert_eq!(serde_json::to_value(by).unwrap(), name);
            assert_eq!(KILLERS[killer(by)], name);
        }
    }

    #[test]
    fn stalls_count_for_all_above_and_outlive_their_cgroup() {
        let before = [stall(Some("/web/a"), 3), stall(Some("/web/b"), 4), stall(None, 1)];
        let counts = counts(before.into_iter().chain([gone("/web/a"), gone("/web/b"), gone("/x")]));
        assert_eq!(counts.stalled_below_ns("/web"), 7);
        assert_eq!(counts.stalled_below_ns("/web/a"), 0);
        assert_eq!(counts.stalled_below_ns("/"), 8);
        assert_eq!(counts.stalled_ns, [0, 8]);
    }

    #[test]
    fn what_is_counted_by_name_is_bounded_and_complete() {
        let lost = |n: u32| Event::Lost(Lost { source: format!("s{n}").into(), records: 2 });
        let path = |n: u32| stall(Some(&format!("/{n}")), 1);
        let counts = counts((0..5000).flat_map(|n| [lost(n), path(n)]));
        assert_eq!(counts.lost.len(), MOST_SOURCES + 1);
        assert_eq!(counts.lost.iter().map(|(_, records)| records).sum::<u64>(), 10_000);
        assert!(counts.stalled_by_cgroup_ns.len() <= MOST_CGROUPS + 1);
        assert_eq!(counts.stalled_below_ns("/"), 5000);
    }

    #[test]
    fn latency_is_from_the_event_to_now() {
        let mut counts = counts([Event::Tick(Tick {})]);
        assert_eq!(counts.latency.statistics(7).map(|told| told.max_ns), Some(2));
        assert_eq!(counts.wall_offset_ns, 100);
    }
}
