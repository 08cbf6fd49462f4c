//! `runaway`: a limit that is about to be reached, and the process that drives it there.
//!
//! Each limit is forecast from its own net rate; then its growth is attributed. The rule has no
//! scale: growth that has lasted for some time is expected to last some multiple of it more.

mod account;
mod rules;
mod said;
#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

use super::rule::all_hold;
use super::{Detector, Ledger, Topic, work};
use crate::event::{
    Config, Event, Evidence, Finding, FindingKind, MemoryKind, Php, ProcessCause, ProcessKey,
    ScopeKind, Severity, Stamped,
};
use crate::model::{Forecast, Model, Process, Rates, Rise, Scope, eta_s};
use crate::sink::filter::Filter;

pub(super) use account::account;

/// Net rates are taken over the driver's episode, at most this long, ns.
const RATE_NS: u64 = 10_000_000_000;
/// Shares are taken over the driver's episode, at most this long, ns.
const SHARE_NS: u64 = 60_000_000_000;
/// A PHP worker is named when a look told what it does, or after this, ns.
const LOOK_WAIT_NS: u64 = 300_000_000;
/// Both kinds of finding that this detector raises.
const KINDS: [FindingKind; 2] = [FindingKind::Runaway, FindingKind::MemoryLimit];

/// Finds runaways.
pub struct RunawayDetector {
    filter: Filter,
    /// Since when a PHP worker would be named, if it was known what it does.
    waiting: FxHashMap<ProcessKey, u64>,
}

/// What a growing process is about to meet first.
enum Threat<'a> {
    /// A limit that it shares with others, and its share in the growth towards it.
    Shared(Danger<'a>, f64),
    /// Its own memory_limit.
    MemoryLimit(PhpDanger),
}

impl Threat<'_> {
    fn kind(&self) -> FindingKind {
        match self {
            Self::Shared(..) => FindingKind::Runaway,
            Self::MemoryLimit(_) => FindingKind::MemoryLimit,
        }
    }

    fn eta_s(&self) -> f64 {
        match self {
            Self::Shared(danger, _) => danger.eta_s,
            Self::MemoryLimit(danger) => danger.eta_s,
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::MemoryLimit(_) => Severity::Info,
            Self::Shared(danger, _) if rules::critical(danger.eta_s).holds() => Severity::Critical,
            Self::Shared(..) => Severity::Warning,
        }
    }

    /// Whether an open finding tells of the same limit.
    fn is_at_limit_of(&self, finding: &Finding) -> bool {
        match (self, &finding.evidence) {
            (Self::Shared(danger, _), Evidence::Runaway(told)) => {
                told.limit.kind == danger.scope.kind
                    && told.limit.path.as_ref() == danger.scope.path
            }
            _ => true,
        }
    }

    fn finding(&self, model: &Model, process: &Process) -> Finding {
        match self {
            Self::Shared(danger, share) => {
                said::runaway(model, process, danger, *share, self.severity())
            }
            Self::MemoryLimit(danger) => said::memory_limit(model, process, danger),
        }
    }
}

/// A limit that is reached within the horizon.
struct Danger<'a> {
    rise: Rise<'a>,
    scope: Scope<'a>,
    rate_bytes_per_s: f64,
    eta_s: f64,
    /// From when on the rate counts, ns.
    since_ns: u64,
}

impl<'a> Danger<'a> {
    /// None = the limit is not being used up.
    fn new(model: &Model, rise: Rise<'a>, scope: Scope<'a>) -> Option<Self> {
        let since_ns = rise.onset_ns().max(model.now_ns().saturating_sub(RATE_NS));
        let rate_bytes_per_s = scope.rate_since(since_ns);
        let eta_s = eta_s(scope.headroom_bytes, rate_bytes_per_s)?;
        Some(Self { rise, scope, rate_bytes_per_s, eta_s, since_ns })
    }

    /// The rate, and those of each half of the time that it is taken over.
    fn rates(&self) -> Rates {
        self.scope.rates_since(self.since_ns)
    }

    /// The time left at the highest and at the lowest rate of late, s.
    fn eta_range_s(&self) -> (f64, Option<f64>) {
        let rates = self.rates();
        let left_s = |rate| eta_s(self.scope.headroom_bytes, rate);
        (left_s(rates.high()).unwrap_or(self.eta_s), left_s(rates.low()))
    }
}

/// A worker that PHP's own memory_limit stops before it meets another limit.
struct PhpDanger {
    limit: Forecast,
    eta_s: f64,
}

/// The memory_limit, if it is met before `soonest_s`.
fn stopped_by_php(model: &Model, process: &Process, soonest_s: f64) -> Option<PhpDanger> {
    let limit = model.memory_limit(process)?;
    let eta_s = limit.eta_s.filter(|eta_s| *eta_s < soonest_s)?;
    Some(PhpDanger { limit, eta_s })
}

impl RunawayDetector {
    /// For these settings.
    pub fn new(config: &Config) -> Self {
        Self { filter: Filter::of(config), waiting: FxHashMap::default() }
    }

    /// Raises what a process is about to meet, and tells of it again when there is less time left
    /// than was said, or another limit is met first.
    fn consider<'a>(
        &mut self,
        model: &'a Model,
        process: &'a Process,
        rises: impl Iterator<Item = Rise<'a>>,
        ledger: &mut Ledger,
    ) {
        // Most events end here.
        let mut rises = rises.filter(|rise| rules::is_more_than_warm_up(rise.novel_bytes()));
        let threat = rises.find_map(|rise| threat(model, process, rise));
        let Some(threat) = threat else { return };
        let topic = Topic::process(threat.kind(), process.key);
        match ledger.get(&topic) {
            Some(open) if !threat.is_at_limit_of(open) => {
                ledger.update(&topic, threat.finding(model, process));
            }
            Some(_) if !ledger.is_news(&topic, threat.severity()) => {}
            Some(_) => ledger.hold(topic, threat.finding(model, process)),
            None => {
                if self.filter.matches_process(process)
                    && !model.config().ignores(process.pool(), threat.kind())
                    && !self.waits(model, process, threat.eta_s())
                {
                    ledger.hold(topic, threat.finding(model, process));
                }
            }
        }
    }

    /// A look into a growing PHP worker is under way: what it does is worth a short wait, where
    /// there is time for it.
    fn waits(&mut self, model: &Model, process: &Process, eta_s: f64) -> bool {
        let is_looked_into = model.takes_looks() && process.php.as_deref().is_some_and(Php::serves);
        let is_known = process.insight.as_ref().is_some_and(|insight| {
            process.private().is_none_or(|rise| insight.looked_ns >= rise.onset_ns())
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

    /// Closes what is over: the process ended, stands still, or gave its memory back. A memory_limit that
    /// will come too late is told.
    fn close(&mut self, model: &Model, ledger: &mut Ledger) {
        for topic in ledger.topics(&KINDS) {
            let process = topic.process.and_then(|key| model.process(&key));
            let told = ledger.get(&topic).map(|finding| &finding.evidence);
            let (Some(process), Some(Evidence::Runaway(told))) = (process, told) else { continue };
            let told_ns = told.onset_ns.saturating_add((told.growing_s * 1e9) as u64);
            let rise = process.rises().find(|rise| rise.memory == told.memory);
            let gave_back = rise.is_some_and(|rise| rise.onset_ns() > told_ns);
            let own_bytes = (told.limit.kind == ScopeKind::Php).then_some(told.limit.bytes);
            if gave_back || !rise.is_some_and(|rise| is_fresh(model, &rise)) {
                ledger.close(&topic, said::over(process, rise.as_ref(), gave_back));
            } else if let Some(own_bytes) = own_bytes
                && let Some(danger) = overtaken(model, process)
            {
                ledger.update(&topic, said::overtaken(model, process, &danger, own_bytes));
            }
        }
        let still_grows = |key: &ProcessKey| {
            let rises = model.process(key).into_iter().flat_map(Process::rises);
            rises.into_iter().any(|rise| is_fresh(model, &rise))
        };
        self.waiting.retain(|key, _| still_grows(key));
    }

    /// A process is not what it was any more.
    fn end(&mut self, model: &Model, key: ProcessKey, how: &str, ledger: &mut Ledger) {
        self.waiting.remove(&key);
        for topic in KINDS.map(|kind| Topic::process(kind, key)) {
            if let (Some(_), Some(process)) = (ledger.get(&topic), model.living_or_exited(&key)) {
                ledger.close(&topic, said::ended(process, how));
            }
        }
    }
}

impl Detector for RunawayDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger) {
        match &at.event {
            Event::Growth(growth) => {
                if let Some(process) = model.process(&growth.key()) {
                    self.consider(model, process, process.private().into_iter(), ledger);
                }
            }
            Event::Php(look) => {
                if let Some(process) = model.process(&look.key()) {
                    self.consider(model, process, process.private().into_iter(), ledger);
                }
            }
            Event::Tick(_) => {
                self.close(model, ledger);
                for process in model.growers() {
                    // Who maps the same shared memory is known when all were reported.
                    self.consider(model, process, process.rises(), ledger);
                }
            }
            Event::Exit(exit) => self.end(model, exit.key(), "ended", ledger),
            Event::Process(state) if state.cause == ProcessCause::Exec => {
                self.end(model, state.key(), "runs another program", ledger);
            }
            _ => {}
        }
    }

    fn configure(&mut self, config: &Config) {
        self.filter = Filter::of(config);
    }
}

/// What a process is about to meet first by one kind of its memory.
fn threat<'a>(model: &'a Model, process: &'a Process, rise: Rise<'a>) -> Option<Threat<'a>> {
    if !all_hold(&rules::growth(model, &rise)) {
        return None;
    }
    let dangers = dangers(model, process, rise);
    let soonest_s = dangers.first().map_or(f64::INFINITY, |danger| danger.eta_s);
    if rise.memory == MemoryKind::Private
        && let Some(limit) = stopped_by_php(model, process, soonest_s)
    {
        let is_near = rules::memory_limit(&limit.limit).holds();
        let lasts = lasts(model, process, &rise, limit.eta_s);
        return (lasts && is_near).then_some(Threat::MemoryLimit(limit));
    }
    dangers.into_iter().find_map(|danger| {
        let share = Share::of(model, process, &danger).part();
        rules::share(share).holds().then_some(Threat::Shared(danger, share))
    })
}

/// The limits that are shared with others and reached within the horizon, the soonest first.
fn dangers<'a>(model: &'a Model, process: &'a Process, rise: Rise<'a>) -> Vec<Danger<'a>> {
    let is_private = rise.memory == MemoryKind::Private;
    let mut dangers: Vec<_> = model
        .limits_of(process)
        .filter(|scope| !is_private || can_reach(process, scope))
        .filter_map(|scope| Danger::new(model, rise, scope))
        .filter(|danger| lasts(model, process, &rise, danger.eta_s))
        .collect();
    dangers.sort_by(|a, b| a.eta_s.total_cmp(&b.eta_s));
    dangers
}

/// Whether growth is expected to last until a limit that is `eta_s` away.
fn lasts(model: &Model, process: &Process, rise: &Rise<'_>, eta_s: f64) -> bool {
    let horizon_s = model.config().horizon_s_of(process.pool());
    all_hold(&rules::time(eta_s, horizon_s, rise))
}

/// The limit that others fill before PHP's own stops this worker: by then it is no help.
fn overtaken<'a>(model: &'a Model, process: &'a Process) -> Option<Danger<'a>> {
    let danger = dangers(model, process, process.private()?).into_iter().next()?;
    let is_known = process.memory_limit().is_some();
    (is_known && stopped_by_php(model, process, danger.eta_s).is_none()).then_some(danger)
}

/// Whether it grew in the last ten seconds.
fn is_fresh(model: &Model, rise: &Rise<'_>) -> bool {
    rules::fresh(model, rise).holds()
}

/// Whether a process can use up a limit, by what it has mapped.
pub(super) fn can_reach(process: &Process, scope: &Scope<'_>) -> bool {
    process.untouched_bytes().is_none_or(|bytes| bytes >= scope.headroom_bytes)
}

/// Growth towards a limit during an episode. What several processes map of the same shared memory is
/// charged once: it counts for one only when no other's grew by half as much, and when the limit's
/// rise leaves room for it.
struct Share {
    own_bytes: u64,
    /// All other known growers.
    others_bytes: u64,
    /// Net, of the limit.
    rise_bytes: u64,
}

impl Share {
    fn of(model: &Model, process: &Process, danger: &Danger<'_>) -> Self {
        let scope = &danger.scope;
        let since_ns = danger.rise.onset_ns().max(model.now_ns().saturating_sub(SHARE_NS));
        let private = |process: &Process| process.grown_since(since_ns, process.private_bytes());
        let is_other = |other: &&Process| other.key != process.key;
        let others = scope.growers().filter(is_other).map(private).fold(0, u64::saturating_add);
        let rise_bytes = scope.rise_since(since_ns);
        let own_bytes = match danger.rise.memory {
            MemoryKind::Private => private(process),
            MemoryKind::Shared => {
                let shared = danger.rise.grown_since(since_ns);
                let others_shared =
                    scope.growers().filter(is_other).map(|other| other.shared_since(since_ns));
                let is_alone = others_shared.max().unwrap_or(0) <= shared / 2;
                let known = others.saturating_add(private(process));
                if is_alone { shared.min(rise_bytes.saturating_sub(known)) } else { 0 }
            }
        };
        Self { own_bytes, others_bytes: others, rise_bytes }
    }

    /// Of the limit's net rise or of what all known growers grew, whichever is more; 0 to 1.
    fn part(&self) -> f64 {
        let all = self.all_bytes();
        if all == 0 { 0.0 } else { self.own_bytes as f64 / all as f64 }
    }

    fn all_bytes(&self) -> u64 {
        self.rise_bytes.max(self.own_bytes.saturating_add(self.others_bytes))
    }
}
