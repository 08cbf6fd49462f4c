//! `pressure`: work is being lost at a limit, because processes wait for memory. [`said`] puts it
//! into words.

mod said;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::account::Account;
use super::rule::{Needs, Rule};
use super::{Detector, Ledger, Topic};
use crate::event::{Config, Event, FindingKind, LostForm, LostWork, Severity, Stamped};
use crate::model::{Model, Strain};
use crate::sink::filter::Filter;
use crate::text;

/// Limits are judged this often at most, ns.
const EVERY_NS: u64 = 900_000_000;
/// Waiting means little while more than this part of a limit is left, or could be had by dropping
/// file pages: whoever reads or writes more files than fit reclaims all the time, and loses little.
const ROOM: f64 = 0.1;
/// With so much room it is over, whoever still waits.
const CALM_ROOM: f64 = 0.2;
/// A tenth of one process's time is felt as slowness. systemd-oomd kills at 60 % of everybody's time
/// for 30 s, when a host is hardly to be used any more: the warning must come well before.
const SHARE: f64 = 0.1;
/// The same by PSI, percent.
const SOME: f64 = 10.0;
/// Nobody at all works for a tenth of the time, percent.
const FULL: f64 = 10.0;
/// Without PSI: of those who run, nearly all wait (the rule's words say four fifths).
const ALL_SHARE: f64 = 0.8;
/// A single burst of reclaim, as when a large file is closed or a program starts, is over sooner, ns.
const LASTS_NS: u64 = 3_000_000_000;
/// It is over below this part of what it began with …
const CALM: f64 = 0.5;
/// … for as long as PSI and the sums of stalls look back, ns.
const CALM_NS: u64 = 10_000_000_000;

/// Finds limits at which work is lost.
pub struct PressureDetector {
    filter: Filter,
    judged_ns: u64,
    /// Limits that are strained, or were lately, by path; None = the host.
    known: FxHashMap<Option<Arc<str>>, Known>,
}

/// Since when what holds without a break; None = it does not.
#[derive(Debug, Default)]
struct Known {
    strained_ns: Option<u64>,
    calm_ns: Option<u64>,
    /// What was said.
    told: Option<LostForm>,
}

impl PressureDetector {
    /// For these settings.
    pub fn new(config: &Config) -> Self {
        Self { filter: Filter::of(config), judged_ns: 0, known: FxHashMap::default() }
    }

    fn judge(&mut self, model: &Model, strain: &Strain<'_>, ledger: &mut Ledger) {
        let now_ns = model.now_ns();
        let path = strain.path.cloned();
        let is_shown = path.is_none() || self.filter.matches_cgroup(path.as_deref());
        let is_told = self.known.get(&path).is_some_and(|known| known.told.is_some());
        let holds = strain.is_hung || is_strained(strain);
        if !(is_shown || is_told) || (!holds && !self.known.contains_key(&path)) {
            return;
        }
        let topic = Topic::place(FindingKind::Pressure, path.as_ref());
        let known = self.known.entry(path).or_default();
        known.strained_ns = holds.then(|| known.strained_ns.unwrap_or(now_ns));
        known.calm_ns = is_calm(strain).then(|| known.calm_ns.unwrap_or(now_ns));
        let lasts = known.strained_ns.is_some_and(|since| now_ns.saturating_sub(since) >= LASTS_NS);
        if !strain.is_hung && !lasts {
            return;
        }
        let severity = severity(strain);
        let form = form(strain);
        let is_news = form == LostForm::Hung && known.told.is_some_and(|told| told != form);
        match ledger.get(&topic) {
            Some(open) if is_news => {
                let severity = severity.max(open.severity);
                ledger.update(&topic, said::finding(model, strain, form, severity));
            }
            _ if !ledger.is_news(&topic, severity) => {}
            _ => ledger.hold(topic, said::finding(model, strain, form, severity)),
        }
        known.told = Some(form);
    }

    /// Drops limits that are strained no more, and closes what was said of them.
    fn close(&mut self, model: &Model, now_ns: u64, ledger: &mut Ledger) {
        self.known.retain(|path, known| {
            let is_gone = path.as_ref().is_some_and(|path| model.cgroup(path).is_none());
            let strain = model.strain(path.as_deref());
            // Nobody waits there any more; the host is always judged.
            if strain.is_none() && path.is_some() {
                known.strained_ns = None;
                known.calm_ns = Some(known.calm_ns.unwrap_or(now_ns));
            }
            if known.told.is_none() {
                return known.strained_ns.is_some() && !is_gone;
            }
            let is_over =
                known.calm_ns.is_some_and(|since| now_ns.saturating_sub(since) >= CALM_NS);
            if is_gone || is_over {
                let topic = Topic::place(FindingKind::Pressure, path.as_ref());
                ledger.close(&topic, said::over(path.as_deref(), is_gone));
            }
            !is_gone && !is_over
        });
    }
}

impl Detector for PressureDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger) {
        let now_ns = model.now_ns();
        match &at.event {
            // Nothing else may happen there any more.
            Event::Cgroup(state) if state.events.is_some_and(|events| events.under_oom) => {
                if let Some(strain) = model.strain(Some(&state.path)) {
                    self.judge(model, &strain, ledger);
                }
            }
            Event::Tick(_) if now_ns.saturating_sub(self.judged_ns) >= EVERY_NS => {
                self.judged_ns = now_ns;
                let mut strains: Vec<Strain<'_>> = model.strains().collect();
                strains.sort_by_key(|strain| strain.path);
                for strain in &strains {
                    self.judge(model, strain, ledger);
                }
                self.close(model, now_ns, ledger);
            }
            _ => {}
        }
    }

    fn configure(&mut self, config: &Config) {
        self.filter = Filter::of(config);
        self.known.retain(|_, known| known.told.is_some());
    }
}

fn room(strain: &Strain<'_>) -> f64 {
    strain.headroom_bytes as f64 / strain.limit_bytes.max(1) as f64
}

/// Little is left.
fn is_full(strain: &Strain<'_>) -> Rule {
    Rule::share("left of the limit", room(strain), Needs::LessThan, ROOM)
}

/// Either of these is waiting.
fn waits(strain: &Strain<'_>, part: f64) -> [Rule; 2] {
    let some = strain.some_avg10.unwrap_or(f64::NAN);
    [
        Rule::share(
            "time waited, of one process",
            strain.stall_share,
            Needs::AtLeast,
            part * SHARE,
        ),
        percent("PSI some over 10 s", some, part * SOME),
    ]
}

/// Any of these makes it critical.
fn is_critical(strain: &Strain<'_>) -> [Rule; 2] {
    let running = if strain.stall_share >= ALL_SHARE { strain.running().max(1) } else { 1 };
    [
        percent("PSI full over 10 s", strain.full_avg10.unwrap_or(f64::NAN), FULL),
        Rule::share(
            "time waited, against four fifths of all who run",
            strain.stall_share,
            Needs::AtLeast,
            ALL_SHARE * running as f64,
        ),
    ]
}

fn percent(what: &'static str, value: f64, bound: f64) -> Rule {
    Rule::share(what, value / 100.0, Needs::AtLeast, bound / 100.0)
}

fn is_strained(strain: &Strain<'_>) -> bool {
    is_full(strain).holds() && waits(strain, 1.0).iter().any(Rule::holds)
}

fn is_calm(strain: &Strain<'_>) -> bool {
    let waits = waits(strain, CALM).iter().any(Rule::holds);
    !strain.is_hung && (!waits || room(strain) >= CALM_ROOM)
}

fn severity(strain: &Strain<'_>) -> Severity {
    match strain.is_hung || is_critical(strain).iter().any(Rule::holds) {
        true => Severity::Critical,
        false => Severity::Warning,
    }
}

/// The rules of a finding that was told just now.
pub(super) fn account(model: &Model, evidence: &LostWork) -> Account {
    let Some(strain) = model.strain(evidence.limit.path.as_deref()) else {
        return Account::default();
    };
    if strain.is_hung {
        let therefore = "its tasks hang: that is said at once".to_owned();
        return Account { therefore: Some(therefore), ..Account::default() };
    }
    let [stalled, some] = waits(&strain, 1.0);
    Account {
        rules: vec![is_full(&strain)],
        choices: [stalled, some].into_iter().chain(is_critical(&strain)).collect(),
        therefore: Some(format!(
            "the first two of the choices are waiting: one of them is enough, for {} in a row; one \
             of the others makes it critical",
            text::seconds(LASTS_NS as f64 / 1e9)
        )),
        ..Account::default()
    }
}

fn form(strain: &Strain<'_>) -> LostForm {
    match (strain.is_hung, strain.is_throttled) {
        (true, _) => LostForm::Hung,
        (false, true) => LostForm::Throttled,
        (false, false) => LostForm::Stalled,
    }
}
