//! `pool`: what is wrong with a PHP pool under pressure: a runaway worker, too many workers, a slow
//! leak, or nothing but shared memory. [`judge`] decides, [`words`] says it.

mod judge;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::account::{Account, Number};
use super::{Detector, Ledger, Topic, sentence};
use crate::event::{
    Config, Diagnosis, Event, Evidence, Finding, FindingKind, PoolDiagnosis, Severity, Stamped,
    Subject,
};
use crate::model::{Model, Pool};
use crate::sink::filter::Filter;
use judge::{Facts, Judgement};

/// Pools are judged this often at most, ns.
const EVERY_NS: u64 = 900_000_000;
/// What has not been so for this long is over, ns.
const AGAIN_NS: u64 = 60_000_000_000;
/// A limit with less room than this part of it is critical.
const CRITICAL_ROOM: f64 = 0.05;

/// Judges pools.
pub struct PoolDetector {
    filter: Filter,
    judged_ns: u64,
    known: FxHashMap<PoolName, Vec<Known>>,
}

/// Name, and master.
type PoolName = (Arc<str>, Option<u32>);

/// A diagnosis that held lately.
struct Known {
    diagnosis: Diagnosis,
    /// What was said of it, from the second time in a row on.
    said: Option<Topic>,
    last_ns: u64,
}

impl PoolDetector {
    /// For these settings.
    pub fn new(config: &Config) -> Self {
        Self { filter: Filter::of(config), judged_ns: 0, known: FxHashMap::default() }
    }

    fn judge(&mut self, model: &Model, pool: &Pool<'_>, ledger: &mut Ledger) {
        let now_ns = model.now_ns();
        let Some(facts) = Facts::of(model, pool) else { return };
        let Some(judgement) = facts.judge() else { return };
        let name = (Arc::clone(pool.name), pool.master_tgid);
        let known = self.known.entry(name).or_default();
        let diagnosis = judgement.diagnosis();
        let Some(at) = known.iter().position(|known| known.diagnosis == diagnosis) else {
            known.push(Known { diagnosis, said: None, last_ns: now_ns });
            return;
        };
        let known = &mut known[at];
        known.last_ns = now_ns;
        let is_told = pool.workers().any(|worker| self.filter.matches_process(worker))
            && !model.config().ignores(Some(pool.name), kind(&judgement));
        if is_told || known.said.is_some() {
            let severity = severity(&facts, &judgement);
            if known.said.as_ref().is_none_or(|said| ledger.is_news(said, severity)) {
                let finding = finding(pool, &facts, &judgement);
                let said = known.said.get_or_insert_with(|| Topic {
                    kind: finding.kind,
                    process: finding.subject.as_ref().map(Subject::key),
                    place: Some(Arc::clone(pool.name)),
                });
                ledger.hold(said.clone(), finding);
            }
        }
    }
}

impl Detector for PoolDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, ledger: &mut Ledger) {
        let now_ns = model.now_ns();
        if !matches!(at.event, Event::Tick(_)) || now_ns.saturating_sub(self.judged_ns) < EVERY_NS {
            return;
        }
        let before_ns = std::mem::replace(&mut self.judged_ns, now_ns);
        let mut pools: Vec<Pool<'_>> = model.pools().collect();
        pools.sort_by_key(|pool| (Arc::clone(pool.name), pool.master_tgid));
        for pool in &pools {
            self.judge(model, pool, ledger);
        }
        self.known.retain(|(pool, _), known| {
            known.retain(|known| match &known.said {
                Some(_) if now_ns.saturating_sub(known.last_ns) < AGAIN_NS => true,
                Some(topic) => {
                    ledger.close(topic, words::over(pool, known.diagnosis));
                    false
                }
                // Judged so once and not again: a passing state.
                None => known.last_ns > before_ns,
            });
            !known.is_empty()
        });
    }

    fn configure(&mut self, config: &Config) {
        self.filter = Filter::of(config);
    }
}

/// The rules of a finding that was told just now.
pub(super) fn account(model: &Model, evidence: &PoolDiagnosis) -> Account {
    let is_in = |pool: &Pool<'_>| {
        evidence.largest.first().is_some_and(|largest| {
            let mut workers = pool.workers();
            workers.any(|one| (one.key.tgid, one.key.start_ns) == (largest.tgid, largest.start_ns))
        })
    };
    let pool = model.pools().find(is_in);
    let facts = pool.and_then(|pool| Facts::of(model, &pool));
    let Some(facts) = facts else { return Account::default() };
    let Some(judgement) = facts.judge() else { return Account::default() };
    Account {
        numbers: vec![
            Number::count("workers", facts.workers.len() as f64),
            Number::bytes("memory of all workers", facts.used_bytes),
            Number::bytes("memory of the median worker", facts.median_bytes),
            Number::bytes("used of the limit by others", facts.others_bytes),
            Number::bytes("left of the limit", facts.limit.headroom_bytes),
        ],
        rules: facts.rules(&judgement),
        choices: facts.pressed.to_vec(),
        therefore: Some(
            "the limit is pressed when the first of the choices holds, or both others; it was judged \
             so twice in a row"
                .to_owned(),
        ),
        ..Account::default()
    }
}

fn severity(facts: &Facts<'_>, judgement: &Judgement) -> Severity {
    let room = facts.limit.headroom_bytes as f64 / facts.limit.bytes.max(1) as f64;
    match judgement {
        Judgement::SharedMemory => Severity::Info,
        Judgement::SlowLeak { .. } if !facts.is_pressed() => Severity::Info,
        _ if room < CRITICAL_ROOM => Severity::Critical,
        _ => Severity::Warning,
    }
}

fn kind(judgement: &Judgement) -> FindingKind {
    match judgement {
        Judgement::PoolTooLarge { .. } => FindingKind::PoolTooLarge,
        Judgement::SlowLeak { .. } => FindingKind::Leak,
        Judgement::RunawayWorkers { .. } | Judgement::SharedMemory => FindingKind::Pool,
    }
}

fn finding(pool: &Pool<'_>, facts: &Facts<'_>, judgement: &Judgement) -> Finding {
    let severity = severity(facts, judgement);
    let first = facts.workers.first();
    let master = pool.master();
    let subject = master.or(first.copied()).map(|process| Subject {
        tgid: process.key.tgid,
        start_ns: process.key.start_ns,
        comm: Arc::clone(&process.comm),
        pool: Some(Arc::clone(pool.name)),
        cgroup: first.and_then(|worker| worker.cgroup.clone()),
    });
    let lost = sentence::lost(facts.lost_records);
    let summary = words::summary(pool.name, facts, judgement) + &lost;
    Finding::new(
        kind(judgement),
        severity,
        subject,
        summary,
        Evidence::Pool(facts.evidence(judgement)),
    )
}
