//! Who grew in the scope of a kill, over two windows, and what follows from it. The words are
//! [`super::oom_verdict`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::sentence;
use crate::event::look::Request;
use crate::event::{Culprit, Oom, ProcessKey};
use crate::model::{Model, Process, is_below};

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
pub(super) struct Attribution {
    /// Over the last minute, largest first.
    pub window: Ranking,
    /// Since each was first seen, largest first.
    pub since_seen: Ranking,
    least_bytes: u64,
}

/// Who grew in one window.
#[derive(Debug)]
pub(super) struct Ranking {
    /// All with growth, largest first.
    entries: Vec<Entry>,
    total_bytes: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    key: ProcessKey,
    grown_bytes: u64,
    window_s: f64,
    comm: Arc<str>,
    pool: Option<Arc<str>>,
    master: Option<u32>,
    request: Option<Request>,
}

/// Who caused a kill.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cause {
    /// One process.
    Process(Culprit),
    /// The workers of one PHP pool together.
    Pool {
        /// Its name.
        pool: Arc<str>,
        /// Workers that grew since they were first seen.
        workers: usize,
        /// Their growth since they were first seen.
        grown_bytes: u64,
    },
    /// Nobody grew enough to explain it while it was watched.
    NoGrowth,
    /// Many grew.
    Spread {
        /// How many.
        processes: usize,
    },
    /// The two windows name different processes.
    Disagree {
        /// Most grown in the last minute.
        lately: Culprit,
        /// Most grown since first seen.
        since_seen: Culprit,
    },
}

impl Attribution {
    /// Looks at everybody at or below `root` (None = on the host), and at the victims.
    pub fn new(model: &Model, oom: &Oom, root: Option<&str>, t_ns: u64) -> Self {
        let killed: FxHashMap<ProcessKey, u64> = oom
            .victims
            .iter()
            .map(|v| (v.key(), v.anon_bytes.saturating_add(v.swap_bytes)))
            .collect();
        let is_member = |process: &Process| {
            let inside = root.is_none_or(|root| {
                process.cgroup.as_ref().is_some_and(|path| is_below(path, root))
            });
            inside || killed.contains_key(&process.key)
        };
        // Who died before the kill holds no memory any more; who died between the kill and its
        // report still did.
        let dead = model
            .all_exited()
            .filter(|exited| exited.exit_ns >= t_ns || killed.contains_key(&exited.process.key))
            .map(|exited| &exited.process);
        let mut window = Vec::new();
        let mut since_seen = Vec::new();
        let window_ns = (WINDOW_S * 1e9) as u64;
        for process in model.processes().chain(dead).filter(|process| is_member(process)) {
            let bytes = killed.get(&process.key).copied().unwrap_or(process.private_bytes());
            let age_s = t_ns.saturating_sub(process.first_seen_ns) as f64 / 1e9;
            let lately = process.grown_since(t_ns.saturating_sub(window_ns), bytes);
            let ever = process.grown_since_seen(bytes);
            window.extend(Entry::new(process, lately, age_s.min(WINDOW_S)));
            since_seen.extend(Entry::new(process, ever, age_s));
        }
        let limit = oom.scope.limit_bytes.unwrap_or(0).min(16 << 30);
        Self {
            window: Ranking::new(window),
            since_seen: Ranking::new(since_seen),
            least_bytes: LEAST_BYTES.max(limit / LEAST_PART),
        }
    }

    /// The judgement: one process only when it leads both windows with at least half of all
    /// growth in each.
    pub fn cause(&self) -> Cause {
        let (Some(lately), Some(ever)) = (self.window.first(), self.since_seen.first()) else {
            return Cause::NoGrowth;
        };
        if self.window.total_bytes.max(self.since_seen.total_bytes) < self.least_bytes {
            return Cause::NoGrowth;
        }
        let leads = lately.share >= SHARE && ever.share >= SHARE;
        let is_same = (lately.tgid, lately.start_ns) == (ever.tgid, ever.start_ns);
        if leads && is_same && lately.grown_bytes.min(ever.grown_bytes) >= self.least_bytes {
            return Cause::Process(lately);
        }
        if let Some(cause) = self.pool() {
            return cause;
        }
        if leads && !is_same {
            return Cause::Disagree { lately, since_seen: ever };
        }
        if leads {
            return Cause::NoGrowth;
        }
        let spread = if lately.share < SHARE { &self.window } else { &self.since_seen };
        Cause::Spread { processes: spread.entries.len() }
    }

    fn pool(&self) -> Option<Cause> {
        let lately = self.window.pools();
        let ever = self.since_seen.pools();
        let holds_half = |grown: u64, ranking: &Ranking| {
            grown >= self.least_bytes && grown as f64 >= SHARE * ranking.total_bytes as f64
        };
        ever.into_iter()
            .filter(|(pool, (_, grown))| {
                holds_half(*grown, &self.since_seen)
                    && lately.get(pool).is_some_and(|(_, grown)| holds_half(*grown, &self.window))
            })
            .max_by_key(|(_, (_, grown))| *grown)
            .filter(|(_, (workers, _))| *workers > 1)
            .map(|((pool, _), (workers, grown_bytes))| Cause::Pool { pool, workers, grown_bytes })
    }
}

impl Ranking {
    fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| b.grown_bytes.cmp(&a.grown_bytes).then(a.key.cmp(&b.key)));
        let total_bytes =
            entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.grown_bytes));
        Self { entries, total_bytes }
    }

    /// The largest, for the evidence.
    pub fn shown(&self) -> Vec<Culprit> {
        self.entries.iter().take(SHOWN).map(|entry| self.culprit(entry)).collect()
    }

    fn first(&self) -> Option<Culprit> {
        self.entries.first().map(|entry| self.culprit(entry))
    }

    fn culprit(&self, entry: &Entry) -> Culprit {
        Culprit {
            tgid: entry.key.tgid,
            start_ns: entry.key.start_ns,
            comm: Arc::clone(&entry.comm),
            pool: entry.pool.clone(),
            grown_bytes: entry.grown_bytes,
            share: entry.grown_bytes as f64 / self.total_bytes.max(1) as f64,
            window_s: entry.window_s,
            request: entry.request.clone(),
        }
    }

    /// Workers and growth by pool and master.
    fn pools(&self) -> BTreeMap<(Arc<str>, Option<u32>), (usize, u64)> {
        let mut pools = BTreeMap::new();
        for entry in &self.entries {
            if let Some(pool) = &entry.pool {
                let (workers, grown) =
                    pools.entry((Arc::clone(pool), entry.master)).or_insert((0_usize, 0_u64));
                *workers += 1;
                *grown = grown.saturating_add(entry.grown_bytes);
            }
        }
        pools
    }
}

impl Entry {
    /// None = it did not grow.
    fn new(process: &Process, grown_bytes: u64, window_s: f64) -> Option<Self> {
        (grown_bytes > 0).then(|| Self {
            key: process.key,
            grown_bytes,
            window_s,
            comm: Arc::clone(&process.comm),
            pool: sentence::pool(process),
            master: process.php.as_ref().and_then(|php| php.master_tgid),
            request: process.insight.as_ref().and_then(|insight| insight.request().cloned()),
        })
    }
}
