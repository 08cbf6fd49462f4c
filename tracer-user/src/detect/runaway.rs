//! `runaway`: a limit that is about to be reached, and the process that drives it there.
//!
//! Each limit is forecast from its own net rate; then its growth is attributed. The rule has no
//! scale: growth that has lasted for some time is expected to last some multiple of it more.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Detector, sentence};
use crate::event::{
    Config, Event, Evidence, Finding, FindingKind, Limit, ProcessKey, Runaway, ScopeKind, Severity,
    Stamped,
};
use crate::model::{Model, Process, Scope, eta_s};
use crate::sink::filter::Filter;
use crate::text;

/// Growth up to this is warm-up: a PHP worker that meets the application's code for the first time
/// takes 5 to 10 MiB.
const WARM_UP_BYTES: u64 = 16 << 20;
/// Growth that has lasted d is expected to last this times d more: it has then used a fifth of the
/// room that it found.
const OUTLASTS: f64 = 4.0;
/// Growth that is over sooner was one large allocation; nobody could act on it in time either, s.
const SUSTAINED_S: f64 = 0.1;
/// The driver holds at least this share of the growth towards its limit.
const SHARE: f64 = 0.5;
/// Net rates are taken over the driver's episode, at most this long, ns.
const RATE_NS: u64 = 10_000_000_000;
/// Shares are taken over the driver's episode, at most this long, ns.
const SHARE_NS: u64 = 60_000_000_000;
/// A limit that is reached sooner is critical, s.
const CRITICAL_S: f64 = 10.0;
/// An episode without growth for this long is over, ns.
const STILL_NS: u64 = 10_000_000_000;

/// Finds runaways.
pub struct RunawayDetector {
    horizon_s: f64,
    filter: Filter,
    raised: FxHashMap<ProcessKey, Vec<Raised>>,
}

/// A process was named at a limit, for one episode of its growth.
struct Raised {
    /// Path of the cgroup; None = the host.
    path: Option<Arc<str>>,
    /// Onset of the episode.
    onset_ns: u64,
}

/// A limit that is reached within the horizon.
struct Danger<'a> {
    scope: Scope<'a>,
    rate_bytes_per_s: f64,
    eta_s: f64,
}

impl RunawayDetector {
    /// For these settings. An expression that cannot be compiled (in the header of a foreign
    /// trace) filters nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            horizon_s: config.horizon_s,
            filter: Filter::new(&config.filters).unwrap_or_default(),
            raised: FxHashMap::default(),
        }
    }

    fn consider(&mut self, model: &Model, process: &Process) -> Option<Finding> {
        if process.novel_bytes() < WARM_UP_BYTES
            || process.growing_s() < SUSTAINED_S
            || model.now_ns().saturating_sub(process.last_growth_ns()) > STILL_NS
        {
            return None;
        }
        let mut dangers: Vec<_> = model
            .limits_of(process)
            .filter_map(|scope| self.danger(model, process, scope))
            .collect();
        dangers.sort_by(|a, b| a.eta_s.total_cmp(&b.eta_s));
        let onset_ns = process.onset_ns();
        for danger in dangers {
            if self.was_raised(process, danger.scope.path, onset_ns) {
                return None;
            }
            let share = share(model, process, &danger.scope);
            if share >= SHARE {
                self.remember(process, danger.scope.path, onset_ns);
                return self
                    .filter
                    .matches_process(process)
                    .then(|| finding(model, process, &danger, share));
            }
        }
        None
    }

    fn danger<'a>(&self, model: &Model, process: &Process, scope: Scope<'a>) -> Option<Danger<'a>> {
        let since_ns = process.onset_ns().max(model.now_ns().saturating_sub(RATE_NS));
        let rate_bytes_per_s = scope.rate_since(since_ns);
        let eta_s = eta_s(scope.headroom_bytes, rate_bytes_per_s)?;
        (eta_s < self.horizon_s && eta_s <= OUTLASTS * process.growing_s()).then_some(Danger {
            scope,
            rate_bytes_per_s,
            eta_s,
        })
    }

    fn was_raised(&self, process: &Process, path: Option<&Arc<str>>, onset_ns: u64) -> bool {
        self.raised.get(&process.key).is_some_and(|raised| {
            raised.iter().any(|one| one.path.as_ref() == path && one.onset_ns == onset_ns)
        })
    }

    fn remember(&mut self, process: &Process, path: Option<&Arc<str>>, onset_ns: u64) {
        let raised = self.raised.entry(process.key).or_default();
        raised.retain(|one| one.onset_ns == onset_ns);
        raised.push(Raised { path: path.cloned(), onset_ns });
    }

    /// Drops what was raised for those who ended or stopped to grow.
    fn close(&mut self, model: &Model) {
        self.raised.retain(|key, _| {
            model.process(key).is_some_and(|process| {
                model.now_ns().saturating_sub(process.last_growth_ns()) <= STILL_NS
            })
        });
    }
}

impl Detector for RunawayDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, findings: &mut Vec<Finding>) {
        match &at.event {
            Event::Growth(growth) => {
                if let Some(process) = model.process(&growth.key()) {
                    findings.extend(self.consider(model, process));
                }
            }
            Event::Tick(_) => {
                self.close(model);
                for scope in model.limits() {
                    for process in scope.growers() {
                        findings.extend(self.consider(model, process));
                    }
                }
            }
            Event::Exit(exit) => {
                self.raised.remove(&ProcessKey { tgid: exit.tgid, start_ns: exit.start_ns });
            }
            _ => {}
        }
    }
}

/// Share of a process in the growth towards a limit during its episode, 0 to 1: of the limit's net
/// rise or of what all known growers grew, whichever is more.
fn share(model: &Model, process: &Process, scope: &Scope<'_>) -> f64 {
    let since_ns = process.onset_ns().max(model.now_ns().saturating_sub(SHARE_NS));
    let grown = |process: &Process| process.grown_since(since_ns, process.private_bytes());
    let own = grown(process);
    let others: u64 = scope
        .growers()
        .filter(|other| other.key != process.key)
        .map(grown)
        .fold(0, u64::saturating_add);
    let all = scope.rise_since(since_ns).max(own.saturating_add(others));
    if all == 0 { 0.0 } else { own as f64 / all as f64 }
}

fn finding(model: &Model, process: &Process, danger: &Danger<'_>, share: f64) -> Finding {
    let scope = &danger.scope;
    let rate_bytes_per_s = process.rate_at(model.now_ns()).max(0.0);
    let used_bytes = process.private_bytes();
    let limit = match (scope.kind, scope.path) {
        (ScopeKind::Memcg, Some(path)) => {
            format!(
                "reaches the {} limit of {}",
                text::bytes(scope.limit_bytes),
                sentence::name(path)
            )
        }
        _ => "uses up the memory of the host".to_owned(),
    };
    let others = if share < 0.9 {
        format!(" ({:.0} % of all growth there)", share * 100.0)
    } else {
        String::new()
    };
    let summary = format!(
        "{} grows {}/s, has {}, and {limit} in about {}{others}",
        sentence::process(process),
        text::bytes(rate_bytes_per_s as u64),
        text::bytes(used_bytes),
        text::seconds(danger.eta_s),
    );
    Finding {
        kind: FindingKind::Runaway,
        severity: if danger.eta_s < CRITICAL_S { Severity::Critical } else { Severity::Warning },
        subject: Some(sentence::subject(process)),
        summary,
        evidence: Evidence::Runaway(Runaway {
            rate_bytes_per_s,
            limit_rate_bytes_per_s: danger.rate_bytes_per_s,
            used_bytes,
            grown_bytes: process.grown_bytes(),
            growing_s: process.growing_s(),
            share,
            limit: Limit {
                kind: scope.kind,
                path: scope.path.cloned(),
                bytes: scope.limit_bytes,
                headroom_bytes: scope.headroom_bytes,
            },
            eta_s: danger.eta_s,
        }),
    }
}
