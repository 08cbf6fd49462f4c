//! `runaway`: a limit that is about to be reached, and the process that drives it there.
//!
//! Each limit is forecast from its own net rate; then its growth is attributed. The rule has no
//! scale: growth that has lasted for some time is expected to last some multiple of it more.

mod said;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Detector, work};
use crate::event::{Config, Event, Finding, Php, ProcessKey, ScopeKind, Stamped};
use crate::model::{Forecast, Model, Process, Scope, eta_s};
use crate::sink::filter::Filter;

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
/// A PHP worker is named when a look told what it does, or after this, ns.
const LOOK_WAIT_NS: u64 = 300_000_000;
/// A PHP worker that uses less of its memory_limit than this is far from it.
const MEMORY_LIMIT_SHARE: f64 = 0.5;

/// Finds runaways.
pub struct RunawayDetector {
    horizon_s: f64,
    filter: Filter,
    raised: FxHashMap<ProcessKey, Vec<Raised>>,
    /// Since when a PHP worker would be named, if it was known what it does.
    waiting: FxHashMap<ProcessKey, u64>,
}

/// A process was named at a limit, for one episode of its growth.
struct Raised {
    /// Host, cgroup, or PHP's memory_limit.
    kind: ScopeKind,
    /// Path of the cgroup; None for the others.
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

/// A worker that PHP's own memory_limit stops before it meets another limit.
struct PhpDanger {
    limit: Forecast,
    eta_s: f64,
}

impl PhpDanger {
    fn is_near(&self) -> bool {
        let used = self.limit.limit_bytes.saturating_sub(self.limit.headroom_bytes);
        used as f64 >= MEMORY_LIMIT_SHARE * self.limit.limit_bytes as f64
    }
}

/// The memory_limit, if it is met before `soonest_s`.
fn stopped_by_php(model: &Model, process: &Process, soonest_s: f64) -> Option<PhpDanger> {
    let limit = model.memory_limit(process)?;
    let eta_s = limit.eta_s.filter(|eta_s| *eta_s < soonest_s)?;
    Some(PhpDanger { limit, eta_s })
}

impl RunawayDetector {
    /// For these settings. An expression that cannot be compiled (in the header of a foreign
    /// trace) filters nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            horizon_s: config.horizon_s,
            filter: Filter::new(&config.filters).unwrap_or_default(),
            raised: FxHashMap::default(),
            waiting: FxHashMap::default(),
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
        let soonest_s = dangers.first().map_or(f64::INFINITY, |danger| danger.eta_s);
        if let Some(limit) = stopped_by_php(model, process, soonest_s) {
            let eta_s = self.will_last(process, limit.eta_s).filter(|_| limit.is_near())?;
            return self.raise(model, process, ScopeKind::Php, None, eta_s, || {
                said::memory_limit(model, process, &limit)
            });
        }
        let onset_ns = process.onset_ns();
        for danger in dangers {
            let (kind, path) = (danger.scope.kind, danger.scope.path);
            if self.was_raised(process, kind, path, onset_ns) {
                return None;
            }
            let share = share(model, process, &danger.scope);
            if share >= SHARE {
                return self.raise(model, process, kind, path, danger.eta_s, || {
                    said::runaway(model, process, &danger, share)
                });
            }
        }
        None
    }

    /// The finding, once for each episode and limit, and when it is known what a PHP worker does.
    fn raise(
        &mut self,
        model: &Model,
        process: &Process,
        kind: ScopeKind,
        path: Option<&Arc<str>>,
        eta_s: f64,
        finding: impl FnOnce() -> Finding,
    ) -> Option<Finding> {
        let onset_ns = process.onset_ns();
        if self.was_raised(process, kind, path, onset_ns) || self.waits(model, process, eta_s) {
            return None;
        }
        let raised = self.raised.entry(process.key).or_default();
        raised.retain(|one| one.onset_ns == onset_ns);
        raised.push(Raised { kind, path: path.cloned(), onset_ns });
        self.filter.matches_process(process).then(finding)
    }

    /// A look into a growing PHP worker is under way: what it does is worth a short wait, where
    /// there is time for it.
    fn waits(&mut self, model: &Model, process: &Process, eta_s: f64) -> bool {
        let is_looked_into = model.takes_looks() && process.php.as_ref().is_some_and(Php::serves);
        let is_known = process.insight.as_ref().is_some_and(|insight| {
            insight.looked_ns >= process.onset_ns()
                && !insight.stack.is_empty()
                && (!model.takes_samples() || insight.samples() >= work::LEAST_SAMPLES)
        });
        let now_ns = model.now_ns();
        if !is_looked_into || is_known {
            self.waiting.remove(&process.key);
            return false;
        }
        let since_ns = *self.waiting.entry(process.key).or_insert(now_ns);
        let waited_ns = now_ns.saturating_sub(since_ns);
        waited_ns < LOOK_WAIT_NS && eta_s > 2.0 * LOOK_WAIT_NS as f64 / 1e9
    }

    fn danger<'a>(&self, model: &Model, process: &Process, scope: Scope<'a>) -> Option<Danger<'a>> {
        let since_ns = process.onset_ns().max(model.now_ns().saturating_sub(RATE_NS));
        let rate_bytes_per_s = scope.rate_since(since_ns);
        let eta_s = self.will_last(process, eta_s(scope.headroom_bytes, rate_bytes_per_s)?)?;
        Some(Danger { scope, rate_bytes_per_s, eta_s })
    }

    /// The time left, if it is within the horizon and the growth can be expected to last that long.
    fn will_last(&self, process: &Process, eta_s: f64) -> Option<f64> {
        (eta_s < self.horizon_s && eta_s <= OUTLASTS * process.growing_s()).then_some(eta_s)
    }

    fn was_raised(
        &self,
        process: &Process,
        kind: ScopeKind,
        path: Option<&Arc<str>>,
        onset_ns: u64,
    ) -> bool {
        self.raised.get(&process.key).is_some_and(|raised| {
            raised.iter().any(|one| {
                one.kind == kind && one.path.as_ref() == path && one.onset_ns == onset_ns
            })
        })
    }

    /// Drops what was raised for those who ended or stopped to grow.
    fn close(&mut self, model: &Model) {
        let grows = |key: &ProcessKey| {
            model.process(key).is_some_and(|process| {
                model.now_ns().saturating_sub(process.last_growth_ns()) <= STILL_NS
            })
        };
        self.raised.retain(|key, _| grows(key));
        self.waiting.retain(|key, _| grows(key));
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
            Event::Php(look) => {
                if let Some(process) = model.process(&look.key()) {
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
                let key = exit.key();
                self.raised.remove(&key);
                self.waiting.remove(&key);
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
