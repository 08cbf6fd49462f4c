//! Who grew in the scope of a kill, over two windows, and what follows from it. The words are
//! [`super::oom_verdict`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::rule::{Needs, Rule};
use super::sentence;
use crate::event::{Culprit, Oom, ProcessKey, ScopeKind};
use crate::model::{Model, Process, Rise};

/// Length of the short window, s.
pub(super) const WINDOW_S: f64 = 60.0;
/// A culprit (or pool) holds at least this share of all growth in both windows.
const SHARE: f64 = 0.5;
/// So many are shown of each list.
const SHOWN: usize = 5;
/// Growth below this explains no kill, bytes …
const LEAST_BYTES: u64 = 1 << 20;
/// … nor growth below this part of the limit, which counts up to 16 GiB.
const LEAST_PART: u64 = 64;

/// Growth of all members of a scope.
#[derive(Debug)]
pub(super) struct Attribution<'a> {
    /// Over the last minute, largest first.
    pub window: Ranking<'a>,
    /// Since each was first seen, largest first.
    pub since_seen: Ranking<'a>,
    /// Net rise of the limit over the last minute; None = not known.
    pub rise_bytes: Option<u64>,
    /// Somebody's growth may have been missed, because it was before the trace began.
    pub is_partial: bool,
    /// Records that were lost in the last minute.
    pub lost_records: u64,
    /// Less explains no kill.
    least_bytes: u64,
}

/// Who grew in one window.
#[derive(Debug)]
pub(super) struct Ranking<'a> {
    /// All with growth, largest first.
    entries: Vec<Entry<'a>>,
    total_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    process: &'a Process,
    grown_bytes: u64,
    window_s: f64,
}

/// Who caused a kill.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cause {
    /// One process.
    Process(Box<Culprit>),
    /// The workers of one PHP pool together.
    Pool {
        /// Its name.
        pool: Arc<str>,
        /// Its master; pools of two masters may have one name.
        master_tgid: Option<u32>,
        /// Workers that grew since they were first seen.
        workers: usize,
        /// Their growth since they were first seen.
        grown_bytes: u64,
    },
    /// Nobody grew enough to explain it while it was watched.
    NoGrowth,
    /// The limit filled up by more than all processes grew.
    Elsewhere {
        /// By how much it filled up.
        rise_bytes: u64,
        /// How much of that processes grew.
        grown_bytes: u64,
    },
    /// Many grew.
    Spread {
        /// How many.
        processes: usize,
    },
    /// The two windows name different processes.
    Disagree {
        /// Most grown in the last minute.
        lately: Box<Culprit>,
        /// Most grown since first seen.
        since_seen: Box<Culprit>,
    },
}

impl Cause {
    /// The PHP pool that did it, or whose worker did.
    pub fn pool(&self) -> Option<&Arc<str>> {
        match self {
            Self::Process(culprit) => culprit.pool.as_ref(),
            Self::Pool { pool, .. } => Some(pool),
            _ => None,
        }
    }
}

impl<'a> Attribution<'a> {
    /// Looks at everybody at or below `root` (None = on the host), and at the victims.
    pub fn new(model: &'a Model, oom: &Oom, root: Option<&str>, t_ns: u64) -> Self {
        let killed: FxHashMap<ProcessKey, u64> = oom
            .victims
            .iter()
            .map(|v| (v.key(), v.anon_bytes.saturating_add(v.swap_bytes)))
            .collect();
        let is_member =
            |process: &Process| process.is_in(root) || killed.contains_key(&process.key);
        // Who died before the kill holds no memory any more; who died between the kill and its
        // report still did.
        let dead = model
            .all_exited()
            .filter(|exited| exited.exit_ns >= t_ns || killed.contains_key(&exited.process.key))
            .map(|exited| &exited.process);
        let members: Vec<&'a Process> =
            model.processes().chain(dead).filter(|process| is_member(process)).collect();
        let since_ns = t_ns.saturating_sub((WINDOW_S * 1e9) as u64);
        let rise_bytes = model.limit(root).map(|scope| scope.rise_since(since_ns));
        let rise_bytes = rise_bytes.filter(|_| oom.scope.kind != ScopeKind::Unknown);
        let mut window = Vec::new();
        let mut since_seen = Vec::new();
        for process in &members {
            let bytes = killed.get(&process.key).copied().unwrap_or(process.private_bytes());
            let age_s = t_ns.saturating_sub(process.first_seen_ns) as f64 / 1e9;
            let lately = process.grown_since(since_ns, bytes);
            let ever = process.grown_since_seen(bytes);
            window.extend(Entry::new(process, lately, age_s.min(WINDOW_S)));
            since_seen.extend(Entry::new(process, ever, age_s));
        }
        let mut window = Ranking::new(window);
        let mut since_seen = Ranking::new(since_seen);
        if let Some(rise_bytes) = rise_bytes {
            let room = rise_bytes.saturating_sub(window.total_bytes);
            if let Some((process, shared)) = alone(&members, since_ns) {
                let age_s = t_ns.saturating_sub(process.first_seen_ns) as f64 / 1e9;
                window.add(process, shared.min(room), age_s.min(WINDOW_S));
                since_seen.add(process, shared.min(room), age_s);
            }
            window.total_bytes = window.total_bytes.max(rise_bytes);
        }
        let limit = oom.scope.limit_bytes.unwrap_or(0).min(16 << 30);
        let least_bytes = LEAST_BYTES.max(limit / LEAST_PART);
        // Who was there already, with so much that, had it grown it just before, the judgement might
        // be another.
        let telling_bytes = least_bytes.max((SHARE * window.total_bytes as f64) as u64);
        let is_partial = members.iter().any(|process| {
            process.first_seen_ns > since_ns
                && process.key.start_ns < model.began_ns()
                && process.first_seen_bytes >= telling_bytes
        });
        let lost_records = model.lost_since(since_ns);
        Self { window, since_seen, rise_bytes, is_partial, lost_records, least_bytes }
    }

    /// The judgement: one process only when it leads both windows with at least half of all
    /// growth in each.
    pub fn cause(&self) -> Cause {
        let (Some(lately), Some(ever)) = (self.window.first(), self.since_seen.first()) else {
            return match self.rise_bytes {
                Some(rise_bytes) if rise_bytes >= self.least_bytes => {
                    Cause::Elsewhere { rise_bytes, grown_bytes: 0 }
                }
                _ => Cause::NoGrowth,
            };
        };
        if !self.explains().holds() {
            return Cause::NoGrowth;
        }
        if !self.is_of_processes().holds() {
            let grown_bytes = self.window.grown_bytes();
            return Cause::Elsewhere { rise_bytes: self.window.total_bytes, grown_bytes };
        }
        let [leads_lately, leads_ever] = self.leads(&lately, &ever);
        let leads = leads_lately.holds() && leads_ever.holds();
        let is_same = lately.key() == ever.key();
        if leads && is_same && self.is_enough(&lately, &ever).holds() {
            return Cause::Process(Box::new(lately));
        }
        if let Some(cause) = self.pool() {
            return cause;
        }
        if leads && !is_same {
            return Cause::Disagree { lately: Box::new(lately), since_seen: Box::new(ever) };
        }
        if leads {
            return Cause::NoGrowth;
        }
        let spread = if leads_lately.holds() { &self.since_seen } else { &self.window };
        Cause::Spread { processes: spread.entries.len() }
    }

    /// What must hold for one process to be named.
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = vec![self.explains(), self.is_of_processes()];
        if let (Some(lately), Some(ever)) = (self.window.first(), self.since_seen.first()) {
            rules.extend(self.leads(&lately, &ever));
            let leaders = if lately.key() == ever.key() { 1.0 } else { 2.0 };
            rules.push(Rule::count("leaders of both windows", leaders, Needs::AtMost, 1.0));
            rules.push(self.is_enough(&lately, &ever));
        }
        rules
    }

    fn explains(&self) -> Rule {
        let most = self.window.total_bytes.max(self.since_seen.total_bytes);
        Rule::bytes("growth, in the window with more", most, Needs::AtLeast, self.least_bytes)
    }

    fn is_of_processes(&self) -> Rule {
        let part = self.window.grown_bytes() as f64 / self.window.total_bytes.max(1) as f64;
        Rule::share("of that in the last minute, by processes", part, Needs::AtLeast, SHARE)
    }

    fn leads(&self, lately: &Culprit, ever: &Culprit) -> [Rule; 2] {
        [
            Rule::share("the leader's share, last minute", lately.share, Needs::AtLeast, SHARE),
            Rule::share("the leader's share, since first seen", ever.share, Needs::AtLeast, SHARE),
        ]
    }

    fn is_enough(&self, lately: &Culprit, ever: &Culprit) -> Rule {
        let least = lately.grown_bytes.min(ever.grown_bytes);
        Rule::bytes("the leader grew", least, Needs::AtLeast, self.least_bytes)
    }

    fn pool(&self) -> Option<Cause> {
        let lately = self.window.pools();
        let ever = self.since_seen.pools();
        let holds_half = |grown: u64, ranking: &Ranking<'_>| {
            grown >= self.least_bytes && grown as f64 >= SHARE * ranking.total_bytes as f64
        };
        ever.into_iter()
            .filter(|(pool, (_, grown))| {
                holds_half(*grown, &self.since_seen)
                    && lately.get(pool).is_some_and(|(_, grown)| holds_half(*grown, &self.window))
            })
            .max_by_key(|(_, (_, grown))| *grown)
            .filter(|(_, (workers, _))| *workers > 1)
            .map(|((pool, master_tgid), (workers, grown_bytes))| Cause::Pool {
                pool,
                master_tgid,
                workers,
                grown_bytes,
            })
    }
}

impl<'a> Ranking<'a> {
    fn new(mut entries: Vec<Entry<'a>>) -> Self {
        entries.sort_by(|a, b| {
            b.grown_bytes.cmp(&a.grown_bytes).then(a.process.key.cmp(&b.process.key))
        });
        let mut ranking = Self { entries, total_bytes: 0 };
        ranking.total_bytes = ranking.grown_bytes();
        ranking
    }

    /// Adds growth of another kind of memory.
    fn add(&mut self, process: &'a Process, grown_bytes: u64, window_s: f64) {
        let known = self.entries.iter_mut().find(|entry| entry.process.key == process.key);
        if let Some(entry) = known {
            entry.grown_bytes = entry.grown_bytes.saturating_add(grown_bytes);
        } else {
            self.entries.extend(Entry::new(process, grown_bytes, window_s));
        }
        *self = Self::new(std::mem::take(&mut self.entries));
    }

    /// What all grew together.
    fn grown_bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.grown_bytes))
    }

    /// The largest, for the evidence.
    pub fn shown(&self) -> Vec<Culprit> {
        self.entries.iter().take(SHOWN).map(|entry| self.culprit(entry)).collect()
    }

    fn first(&self) -> Option<Culprit> {
        self.entries.first().map(|entry| self.culprit(entry))
    }

    fn culprit(&self, entry: &Entry<'_>) -> Culprit {
        let process = entry.process;
        let insight = process.insight.as_ref();
        Culprit {
            tgid: process.key.tgid,
            start_ns: process.key.start_ns,
            comm: Arc::clone(&process.comm),
            pool: sentence::pool(process),
            grown_bytes: entry.grown_bytes,
            share: entry.grown_bytes as f64 / self.total_bytes.max(1) as f64,
            window_s: entry.window_s,
            onset_ns: process.rises().max_by_key(Rise::grown_bytes).map(|rise| rise.onset_ns()),
            request: insight.and_then(|insight| insight.request().cloned()),
            php_growth: insight.and_then(|insight| insight.spots().into_iter().next()),
        }
    }

    /// Workers and growth by pool and master.
    fn pools(&self) -> BTreeMap<(Arc<str>, Option<u32>), (usize, u64)> {
        let mut pools = BTreeMap::new();
        for entry in &self.entries {
            let php = entry.process.php.as_ref();
            if let Some((php, pool)) = php.and_then(|php| Some((php, php.pool.as_ref()?))) {
                let name = (Arc::clone(pool), php.master_tgid);
                let (workers, grown) = pools.entry(name).or_insert((0_usize, 0_u64));
                *workers += 1;
                *grown = grown.saturating_add(entry.grown_bytes);
            }
        }
        pools
    }
}

impl<'a> Entry<'a> {
    /// None = it did not grow.
    fn new(process: &'a Process, grown_bytes: u64, window_s: f64) -> Option<Self> {
        (grown_bytes > 0).then_some(Self { process, grown_bytes, window_s })
    }
}

/// Who mapped most new shared memory, and how much, if no other mapped half as much: what several
/// map is charged once, and to whom is not known.
fn alone<'a>(members: &[&'a Process], since_ns: u64) -> Option<(&'a Process, u64)> {
    let grown = |process: &&'a Process| process.shared_since(since_ns);
    let first = members.iter().copied().max_by_key(grown)?;
    let others = members.iter().copied().filter(|process| process.key != first.key);
    let next = others.map(|process| grown(&process)).max().unwrap_or(0);
    let shared = grown(&first);
    (shared > 0 && next <= shared / 2).then_some((first, shared))
}
