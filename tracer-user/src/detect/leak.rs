//! `leak`: a process that keeps a little more each time, hours before a limit is reached. Judged by
//! its floors: the least that it had in each of the last spans of time, whatever came and went
//! above. (The workers of a PHP pool are judged together by [`super::pool`], request by request.)

#[cfg(test)]
mod tests;

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
/// It holds at least this share of the rise of what the limit is never below.
const SHARE: f64 = 0.5;
/// A limit that is reached sooner deserves more than a note, s …
const WARNING_S: f64 = 3600.0;
/// … and sooner than this, haste.
const CRITICAL_S: f64 = 60.0;

/// Finds leaks.
pub struct LeakDetector {
    horizon_s: f64,
    filter: Filter,
}

/// A leak and the limit that it will reach.
struct Danger<'a> {
    scope: Scope<'a>,
    rise: FloorRise,
    eta_s: f64,
}

impl LeakDetector {
    /// For these settings. An expression that cannot be compiled (in the header of a foreign
    /// trace) filters nothing.
    pub fn new(config: &Config) -> Self {
        let filter = Filter::new(&config.filters).unwrap_or_default();
        Self { horizon_s: config.horizon_s, filter }
    }

    fn consider(&self, model: &Model, process: &Process, ledger: &mut Ledger) {
        let is_pooled = process.php.as_ref().is_some_and(|php| php.pool.is_some());
        let runaway = Topic::process(FindingKind::Runaway, process.key);
        if is_pooled || ledger.get(&runaway).is_some() || !self.filter.matches_process(process) {
            return;
        }
        let Some(private) = process.private() else { return };
        let Some(rise) = private.floor_rise() else { return };
        if rise.rise_bytes < WARM_UP_BYTES {
            return;
        }
        // Growth without a fall that reaches a limit soon is a runaway's, not a leak's.
        let rises_and_falls = private.growing_s() < rise.watched_s / 2.0;
        let dangers = model
            .limits_of(process)
            .filter(|scope| can_reach(process, scope))
            .filter_map(|scope| danger(rise, scope))
            .filter(|danger| rises_and_falls || danger.eta_s > self.horizon_s);
        if let Some(danger) = dangers.min_by(|a, b| a.eta_s.total_cmp(&b.eta_s)) {
            let topic = Topic::process(FindingKind::Leak, process.key);
            let severity = danger.severity();
            if ledger.get(&topic).is_none_or(|open| open.severity < severity) {
                ledger.hold(topic, danger.finding(process, severity));
            }
        }
    }

    /// Closes what is over: it rises no more.
    fn close(&self, model: &Model, ledger: &mut Ledger) {
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
            }
        }
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
    let is_driver = rise.rate_bytes_per_s >= SHARE * rate;
    (is_driver && eta_s <= OUTLASTS * rise.watched_s).then_some(Danger { scope, rise, eta_s })
}

impl Danger<'_> {
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
            Some(path) => format!("the {} limit of {}", self.limit(), sentence::name(path)),
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

    fn limit(&self) -> String {
        text::bytes(self.scope.limit_bytes)
    }
}

impl Detector for LeakDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger) {
        match &at.event {
            Event::Tick(_) => {
                self.close(model, ledger);
                for scope in model.limits() {
                    for process in scope.growers() {
                        self.consider(model, process, ledger);
                    }
                }
            }
            Event::Exit(exit) => Self::end(model, exit.key(), "ended", ledger),
            Event::Process(state) if state.cause == ProcessCause::Exec => {
                Self::end(model, state.key(), "runs another program", ledger);
            }
            _ => {}
        }
    }
}
