//! `cascade`: OOM kills follow each other at one limit. Counts the kills at each, hands the count to
//! the verdict, and tells from the second one on what they have in common: [`common`] finds it,
//! [`said`] puts it into words. The verdicts' causes are taken as they are.

mod common;
mod said;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::account::{Account, Number};
use super::attribution::Cause;
use super::rule::{Needs, Rule};
use super::{Ledger, Topic, sentence};
use crate::event::{
    Cascade, Culprit, FindingKind, Oom, Party, ProcessKey, Series, SeriesVictim, Victim,
};
use crate::model::{Model, Process, RequestKind};
use crate::text;

pub(super) use said::Place;

/// Kills further back than this are another story, ns.
const SPAN_NS: u64 = 600_000_000_000;
/// One kill is no cascade.
const LEAST: f64 = 2.0;
/// Most limits that are remembered, and most kills of each.
const MOST: usize = 1024;
/// Kills of which more than the time is remembered.
const SHOWN: usize = 20;
/// Victims of a group kill that are.
const VICTIMS: usize = 5;
/// A cascade is over when no kill came for this many times the longest gap between two: what came
/// back so often would have been back by then …
const QUIET_GAPS: u64 = 3;
/// … and not sooner than this: a process that was started anew needs some time to grow, ns.
const QUIET_NS: u64 = 60_000_000_000;

/// Kills of the last ten minutes by place, None = the host: what a finding is about, too.
#[derive(Debug, Default)]
pub(super) struct Cascades {
    limits: FxHashMap<Option<Arc<str>>, Kills>,
}

/// Kills at one limit.
#[derive(Debug, Default)]
struct Kills {
    times: VecDeque<u64>,
    last: VecDeque<Kill>,
    /// It was told of.
    is_open: bool,
}

/// One kill, and the cause that its verdict found.
#[derive(Debug)]
pub(super) struct Kill {
    t_ns: u64,
    victims: Vec<SeriesVictim>,
    culprit: Option<Culprit>,
    /// Parents of victims and culprit, with the name of the child.
    parents: Vec<(Party, Arc<str>)>,
    /// Pool of the culprit, or the one whose workers did it together.
    pool: Option<Arc<str>>,
    request: Option<RequestKind>,
}

impl Kill {
    /// What a verdict says of it.
    pub fn new(model: &Model, oom: &Oom, cause: &Cause, t_ns: u64) -> Self {
        let culprit = match cause {
            Cause::Process(culprit) => Some((**culprit).clone()),
            _ => None,
        };
        let known = |key: ProcessKey| model.living_or_exited(&key);
        let blamed = culprit.as_ref().and_then(|culprit| known(culprit.key()));
        let pool = cause.pool().cloned();
        let is_served = culprit.as_ref().is_some_and(|culprit| culprit.request.is_some());
        let kind = || blamed?.insight.as_ref()?.kind().cloned();
        let victims = oom.victims.iter().take(VICTIMS);
        let mut parents = Vec::new();
        for child in victims.clone().filter_map(|victim| known(victim.key())).chain(blamed) {
            if let Some(parent) = model.by_tgid(child.ppid) {
                let parent = (party(parent), Arc::clone(&child.comm));
                if !parents.contains(&parent) {
                    parents.push(parent);
                }
            }
        }
        let request = if is_served { kind() } else { None };
        Self { t_ns, victims: victims.map(victim).collect(), culprit, parents, pool, request }
    }
}

/// The rules of a cascade.
pub(super) fn account(series: &Series) -> Account {
    let shown = series.kills.len() as f64;
    let common = series.cause.as_ref().map(|cause| {
        let kills = cause.kills as f64;
        Rule::count(
            "kills with that in common, of those shown",
            kills,
            Needs::MoreThan,
            shown / 2.0,
        )
    });
    Account {
        numbers: vec![Number::count("kills that are shown", shown)],
        rules: vec![
            Rule::count("kills at this limit", f64::from(series.number), Needs::AtLeast, LEAST),
            Rule::seconds(
                "since the first of them",
                series.since_s,
                Needs::AtMost,
                SPAN_NS as f64 / 1e9,
            ),
        ],
        choices: common.into_iter().collect(),
        ..Account::default()
    }
}

impl Cascades {
    /// One more kill; `path` is where it counts. When too many limits have had one lately, it counts
    /// as the first at its own.
    pub fn count(&mut self, path: Option<&Arc<str>>, kill: Kill) -> Cascade {
        let t_ns = kill.t_ns;
        let key = path.cloned();
        if self.limits.len() >= MOST && !self.limits.contains_key(&key) {
            self.limits.retain(|_, kills| kills.is_open || !kills.is_quiet_for(SPAN_NS, t_ns));
            if self.limits.len() >= MOST {
                return Cascade { number: 1, since_s: 0.0 };
            }
        }
        let kills = self.limits.entry(key).or_default();
        kills.forget(t_ns);
        kills.times.push_back(t_ns);
        kills.last.push_back(kill);
        kills.cascade(t_ns)
    }

    /// Tells of the kill that was just counted, if it is not the first.
    pub fn tell(&mut self, model: &Model, oom: &Oom, place: &Place<'_>, ledger: &mut Ledger) {
        let Some(kills) = self
            .limits
            .get_mut(&place.root.cloned())
            .filter(|kills| kills.times.len() as f64 >= LEAST)
        else {
            return;
        };
        let topic = Topic::place(FindingKind::Cascade, place.root);
        let finding = said::finding(model, kills, &oom.scope, place);
        kills.is_open = true;
        match ledger.get(&topic) {
            Some(_) => ledger.update(&topic, finding),
            None => ledger.hold(topic, finding),
        }
    }

    /// Closes what is quiet.
    pub fn close(&mut self, now_ns: u64, ledger: &mut Ledger) {
        for (place, kills) in self.limits.iter_mut().filter(|(_, kills)| kills.is_open) {
            let quiet_ns = kills.quiet_ns();
            if kills.is_quiet_for(quiet_ns, now_ns) {
                kills.is_open = false;
                let place_words = match place {
                    Some(path) => format!("in {}", sentence::name(path)),
                    None => "on the host".to_owned(),
                };
                let quiet = text::seconds(quiet_ns as f64 / 1e9);
                let summary = format!("no more OOM kill {place_words} for {quiet}");
                ledger.close(&Topic::place(FindingKind::Cascade, place.as_ref()), summary);
            }
        }
    }
}

impl Kills {
    /// Drops what is further back than ten minutes, or too much.
    fn forget(&mut self, t_ns: u64) {
        let is_old = |first: &u64| t_ns.saturating_sub(*first) > SPAN_NS;
        while self.times.len() >= MOST || self.times.front().is_some_and(is_old) {
            self.times.pop_front();
        }
        let is_old = |first: &Kill| t_ns.saturating_sub(first.t_ns) > SPAN_NS;
        while self.last.len() >= SHOWN || self.last.front().is_some_and(is_old) {
            self.last.pop_front();
        }
    }

    fn cascade(&self, now_ns: u64) -> Cascade {
        let since_ns = self.times.front().map_or(0, |first| now_ns.saturating_sub(*first));
        Cascade {
            number: u32::try_from(self.times.len()).unwrap_or(u32::MAX),
            since_s: since_ns as f64 / 1e9,
        }
    }

    /// Without a kill for so long, the cascade is over.
    fn quiet_ns(&self) -> u64 {
        let later = self.times.iter().skip(1);
        let gaps = self.times.iter().zip(later).map(|(a, b)| b.saturating_sub(*a));
        gaps.max().unwrap_or(0).saturating_mul(QUIET_GAPS).clamp(QUIET_NS, SPAN_NS)
    }

    fn is_quiet_for(&self, quiet_ns: u64, now_ns: u64) -> bool {
        self.times.back().is_none_or(|last| now_ns.saturating_sub(*last) > quiet_ns)
    }
}

fn victim(victim: &Victim) -> SeriesVictim {
    SeriesVictim { tgid: victim.tgid, start_ns: victim.start_ns, comm: Arc::clone(&victim.comm) }
}

fn party(process: &Process) -> Party {
    Party {
        tgid: process.key.tgid,
        start_ns: process.key.start_ns,
        comm: Arc::clone(&process.comm),
        cgroup: process.cgroup.clone(),
    }
}
