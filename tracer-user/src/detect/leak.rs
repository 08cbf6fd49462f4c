//! `leak`: a process that keeps a little more each time, hours before a limit is reached. Judged by
//! its floors: the least that it had in each of the last spans of time, whatever came and went
//! above. (The workers of a PHP pool are judged together by [`super::pool`], request by request.)

#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

use super::account::{Account, Number};
use super::rule::{Needs, Rule, all_hold};
use super::runaway::can_reach;
use super::{Detector, Ledger, Topic, sentence, work};
use crate::event::{
    Config, Event, Evidence, Finding, FindingKind, Leak, ProcessCause, ProcessKey, Severity,
    Stamped,
};
use crate::model::{FloorRise, Model, Process, Scope, eta_s};
use crate::sink::filter::Filter;
use crate::text;

/// A rise up to this is warm-up, as for a runaway.
const WARM_UP_BYTES: u64 = 16 << 20;
/// A rise that was even over six spans and more is expected to last this times as long again: a
/// leak is a property of the program, and has no reason to end; but a rise that was watched for a
/// minute says nothing of next week.
const OUTLASTS: f64 = 20.0;
const _: () = assert!(OUTLASTS == 20.0, "the rule's words say 20 times");
/// It holds at least this share of the rise of what the limit is never below.
const SHARE: f64 = 0.5;
/// A limit that is reached sooner deserves more than a note, s …
const WARNING_S: f64 = 3600.0;
/// … and sooner than this, haste.
const CRITICAL_S: f64 = 60.0;

/// Finds leaks.
pub struct LeakDetector {
    filter: Filter,
    /// When each was last seen to leak, ns.
    seen: FxHashMap<ProcessKey, u64>,
}

/// A leak and the limit that it will reach.
struct Danger<'a> {
    scope: Scope<'a>,
    rise: FloorRise,
    limit_rate_bytes_per_s: f64,
    eta_s: f64,
}

impl LeakDetector {
    /// For these settings.
    pub fn new(config: &Config) -> Self {
        Self { filter: Filter::of(config), seen: FxHashMap::default() }
    }

    fn consider(&mut self, model: &Model, process: &Process, ledger: &mut Ledger) {
        let is_pooled = process.pool().is_some();
        let runaway = Topic::process(FindingKind::Runaway, process.key);
        if is_pooled || ledger.get(&runaway).is_some() || !self.filter.matches_process(process) {
            return;
        }
        let Some(private) = process.private() else { return };
        let Some(rise) = private.floor_rise() else { return };
        if !is_no_warm_up(rise).holds() {
            return;
        }
        let rises_and_falls = falls(private.growing_s(), rise).holds();
        let dangers = model
            .limits_of(process)
            .filter(|scope| can_reach(process, scope))
            .filter_map(|scope| danger(rise, scope))
            .filter(|danger| rises_and_falls || danger.eta_s > model.config().horizon_s);
        if let Some(danger) = dangers.min_by(|a, b| a.eta_s.total_cmp(&b.eta_s)) {
            let topic = Topic::process(FindingKind::Leak, process.key);
            let severity = danger.severity();
            self.seen.insert(process.key, model.now_ns());
            if ledger.is_news(&topic, severity) {
                ledger.hold(topic, danger.finding(process, severity));
            }
        }
    }

    /// Closes what is over: it was not seen to leak for as long as it had been watched when it was
    /// told of, or it gave its memory back, or runs away.
    fn close(&mut self, model: &Model, ledger: &mut Ledger) {
        for topic in ledger.topics(&[FindingKind::Leak]) {
            // A pool's leak is not ours.
            let Some(process) = topic.process.and_then(|key| model.process(&key)) else { continue };
            let Some(told) = ledger.get(&topic).map(|finding| &finding.evidence) else { continue };
            let Evidence::Leak(told) = told else { continue };
            let runaway = Topic::process(FindingKind::Runaway, process.key);
            if ledger.get(&runaway).is_some() {
                let name = sentence::process(process);
                ledger.close(&topic, format!("{name} leaks no more, it runs away"));
                continue;
            }
            if process.private_bytes() < told.floor_bytes.saturating_sub(told.rise_bytes / 2) {
                let size = text::bytes(process.private_bytes());
                let name = sentence::process(process);
                ledger.close(&topic, format!("{name} gave its memory back and has {size}"));
                continue;
            }
            let seen_ns = self.seen.get(&process.key).copied().unwrap_or(model.now_ns());
            let quiet_s = model.now_ns().saturating_sub(seen_ns) as f64 / 1e9;
            if quiet_s > told.watched_s {
                let (name, quiet) = (sentence::process(process), text::seconds(quiet_s));
                ledger.close(&topic, format!("{name} has not leaked for {quiet}"));
            }
        }
        let is_open =
            |key: &ProcessKey| ledger.get(&Topic::process(FindingKind::Leak, *key)).is_some();
        self.seen.retain(|key, _| is_open(key));
    }

    fn end(model: &Model, key: ProcessKey, how: &str, ledger: &mut Ledger) {
        let topic = Topic::process(FindingKind::Leak, key);
        if let (Some(_), Some(process)) = (ledger.get(&topic), model.living_or_exited(&key)) {
            ledger.close(&topic, format!("{} {how}", sentence::process(process)));
        }
    }
}

/// The limit is forecast from the rise of its own floor, where that is even, too.
fn danger(rise: FloorRise, scope: Scope<'_>) -> Option<Danger<'_>> {
    let limit_rate = scope.floor_rise().map_or(rise.rate_bytes_per_s, |all| all.rate_bytes_per_s);
    let rate = limit_rate.max(rise.rate_bytes_per_s);
    let eta_s = eta_s(scope.headroom_bytes, rate)?;
    let danger = Danger { scope, rise, limit_rate_bytes_per_s: rate, eta_s };
    all_hold(&danger.rules()).then_some(danger)
}

fn is_no_warm_up(rise: FloorRise) -> Rule {
    Rule::bytes("rise of the least that it has", rise.rise_bytes, Needs::AtLeast, WARM_UP_BYTES)
}

/// Growth without a fall that reaches a limit soon is a runaway's, not a leak's.
fn falls(growing_s: f64, rise: FloorRise) -> Rule {
    let half_s = rise.watched_s / 2.0;
    Rule::seconds(
        "time without a fall, or later than the horizon",
        growing_s,
        Needs::LessThan,
        half_s,
    )
}

/// The rules of a finding that was told just now.
pub(super) fn account(model: &Model, finding: &Finding, evidence: &Leak) -> Account {
    let process = finding.subject.as_ref().and_then(|subject| model.process(&subject.key()));
    let private = process.and_then(Process::private);
    let scope = model.limit(evidence.limit.path.as_deref());
    let (Some(private), Some(scope)) = (private, scope) else { return Account::default() };
    let Some(rise) = private.floor_rise() else { return Account::default() };
    let Some(danger) = danger(rise, scope) else { return Account::default() };
    Account {
        numbers: vec![
            Number::rate("rise of the least that it has", rise.rate_bytes_per_s),
            Number::rate("rise that the limit is forecast from", danger.limit_rate_bytes_per_s),
            Number::bytes("left of the limit", scope.headroom_bytes),
            Number::seconds("watched", rise.watched_s),
            Number::seconds("time left", danger.eta_s),
        ],
        rules: [is_no_warm_up(rise)].into_iter().chain(danger.rules()).collect(),
        choices: vec![falls(private.growing_s(), rise)],
        ..Account::default()
    }
}

impl Danger<'_> {
    /// It drives the limit, and was watched for long enough.
    fn rules(&self) -> [Rule; 2] {
        let share = self.rise.rate_bytes_per_s / self.limit_rate_bytes_per_s;
        let most_s = OUTLASTS * self.rise.watched_s;
        [
            Rule::share("share of the limit's rise", share, Needs::AtLeast, SHARE),
            Rule::seconds(
                "time left, against 20 times the time watched",
                self.eta_s,
                Needs::AtMost,
                most_s,
            ),
        ]
    }

    fn severity(&self) -> Severity {
        match self.eta_s {
            eta_s if eta_s < CRITICAL_S => Severity::Critical,
            eta_s if eta_s < WARNING_S => Severity::Warning,
            _ => Severity::Info,
        }
    }

    fn finding(&self, process: &Process, severity: Severity) -> Finding {
        let work = work::of(process);
        let served = work
            .request
            .as_ref()
            .map_or_else(String::new, |request| format!("; it serves {}", work::request(request)));
        let place = match self.scope.path {
            Some(path) => sentence::limit(self.scope.setting, self.scope.limit_bytes, path),
            None => "the end of the host's memory".to_owned(),
        };
        let summary = format!(
            "{} leaks: it never falls back, keeps {}/s more, has {}, and reaches {place} in about \
             {}{served}",
            sentence::process(process),
            text::bytes(self.rise.rate_bytes_per_s as u64),
            text::bytes(process.private_bytes()),
            text::seconds(self.eta_s),
        );
        let evidence = Leak {
            floor_rate_bytes_per_s: self.rise.rate_bytes_per_s,
            rise_bytes: self.rise.rise_bytes,
            watched_s: self.rise.watched_s,
            floor_bytes: self.rise.floor_bytes,
            limit: self.scope.limit(),
            eta_s: self.eta_s,
            request: work.request,
        };
        let subject = Some(sentence::subject(process));
        let evidence = Evidence::Leak(Box::new(evidence));
        Finding::new(FindingKind::Leak, severity, subject, summary, evidence)
    }
}

impl Detector for LeakDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger) {
        match &at.event {
            Event::Tick(_) => {
                self.close(model, ledger);
                for process in model.growers() {
                    self.consider(model, process, ledger);
                }
            }
            Event::Exit(exit) => Self::end(model, exit.key(), "ended", ledger),
            Event::Process(state) if state.cause == ProcessCause::Exec => {
                Self::end(model, state.key(), "runs another program", ledger);
            }
            _ => {}
        }
    }

    fn configure(&mut self, config: &Config) {
        self.filter = Filter::of(config);
    }
}
