//! `pool`: what is wrong with a PHP pool under pressure: a runaway worker, too many workers, a slow
//! leak, or nothing but shared memory. [`judge`] decides, [`words`] says it.

mod judge;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Detector;
use crate::event::{
    Config, Diagnosis, Event, Evidence, Finding, FindingKind, Severity, Stamped, Subject,
};
use crate::model::{Model, Pool};
use crate::sink::filter::Filter;
use judge::{Facts, Judgement};

/// Pools are judged this often at most, ns.
const EVERY_NS: u64 = 900_000_000;
/// What has not been so for this long may be said again, ns.
const AGAIN_NS: u64 = 60_000_000_000;
/// A limit with less room than this part of it is critical.
const CRITICAL_ROOM: f64 = 0.05;

/// Judges pools.
pub struct PoolDetector {
    horizon_s: f64,
    filter: Filter,
    judged_ns: u64,
    known: FxHashMap<PoolName, Vec<Known>>,
}

/// Name, and master.
type PoolName = (Arc<str>, Option<u32>);

/// A diagnosis that held lately.
struct Known {
    diagnosis: Diagnosis,
    /// Judged so two times in a row, and said.
    said: bool,
    last_ns: u64,
}

impl PoolDetector {
    /// For these settings. An expression that cannot be compiled (in the header of a foreign
    /// trace) filters nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            horizon_s: config.horizon_s,
            filter: Filter::new(&config.filters).unwrap_or_default(),
            judged_ns: 0,
            known: FxHashMap::default(),
        }
    }

    fn judge(&mut self, model: &Model, pool: &Pool<'_>) -> Option<Finding> {
        let now_ns = model.now_ns();
        let facts = Facts::of(model, pool, self.horizon_s)?;
        let judgement = facts.judge()?;
        let name = (Arc::clone(pool.name), pool.master_tgid);
        let known = self.known.entry(name).or_default();
        let diagnosis = judgement.diagnosis();
        let Some(at) = known.iter().position(|known| known.diagnosis == diagnosis) else {
            known.push(Known { diagnosis, said: false, last_ns: now_ns });
            return None;
        };
        let known = &mut known[at];
        known.last_ns = now_ns;
        if std::mem::replace(&mut known.said, true) {
            return None;
        }
        let shown = pool.workers().any(|worker| self.filter.matches_process(worker));
        shown.then(|| finding(pool, &facts, &judgement))
    }
}

impl Detector for PoolDetector {
    fn observe(&mut self, model: &Model, at: &Stamped, findings: &mut Vec<Finding>) {
        let now_ns = model.now_ns();
        if !matches!(at.event, Event::Tick(_)) || now_ns.saturating_sub(self.judged_ns) < EVERY_NS {
            return;
        }
        let before_ns = std::mem::replace(&mut self.judged_ns, now_ns);
        let mut pools: Vec<Pool<'_>> = model.pools().collect();
        pools.sort_by_key(|pool| (Arc::clone(pool.name), pool.master_tgid));
        for pool in &pools {
            findings.extend(self.judge(model, pool));
        }
        self.known.retain(|_, known| {
            known.retain(|known| match known.said {
                true => now_ns.saturating_sub(known.last_ns) < AGAIN_NS,
                // Judged so once and not again: a passing state.
                false => known.last_ns > before_ns,
            });
            !known.is_empty()
        });
    }
}

fn finding(pool: &Pool<'_>, facts: &Facts<'_>, judgement: &Judgement) -> Finding {
    let room = facts.limit.headroom_bytes as f64 / facts.limit.bytes.max(1) as f64;
    let severity = match judgement {
        Judgement::SharedMemory => Severity::Info,
        Judgement::SlowLeak { .. } if !facts.is_pressed => Severity::Info,
        _ if room < CRITICAL_ROOM => Severity::Critical,
        _ => Severity::Warning,
    };
    let first = facts.workers.first();
    let master = pool.master();
    let subject = master.or(first.copied()).map(|process| Subject {
        tgid: process.key.tgid,
        start_ns: process.key.start_ns,
        comm: Arc::clone(&process.comm),
        pool: Some(Arc::clone(pool.name)),
        cgroup: first.and_then(|worker| worker.cgroup.clone()),
    });
    Finding {
        kind: FindingKind::Pool,
        severity,
        subject,
        summary: words::summary(pool.name, facts, judgement),
        evidence: Evidence::Pool(facts.evidence(judgement)),
    }
}
