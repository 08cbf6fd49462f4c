//! Decides what is wrong with a pool, from the sizes of its workers and the limit over them.

use crate::detect::rule::{Needs, Rule, all_hold};
use crate::detect::{sentence, work};
use crate::event::{Diagnosis, Limit, PoolDiagnosis, PoolWorker};
use crate::model::{Leak, Model, Pool, Process, Scope};

/// A limit is pressed when less than this part of it is left …
const ROOM: f64 = 0.1;
/// … or when it is used by this much, and reached within the horizon.
const USED: f64 = 0.5;
/// A pool that holds less of what is used is not what presses the limit.
const POOL_SHARE: f64 = 0.5;
/// So few workers are "a few".
const FEW: f64 = 0.2;
/// Runaways hold this share of the pool …
const RUNAWAY_SHARE: f64 = 0.5;
/// … and each is this much larger than the median of the others.
const RUNAWAY_TIMES: u64 = 3;
/// What fits leaves a limit just not pressed.
const FILL: f64 = 1.0 - ROOM;
const _: () = assert!(RUNAWAY_TIMES == 3 && RUNAWAY_SHARE == 0.5, "as the rules' words say");
/// Shared memory is told of when the workers' sums of it are this many times what they have …
const SHARED_TIMES: u64 = 3;
/// … and this part of the limit.
const SHARED_SHARE: f64 = 0.5;
const _: () = assert!(SHARED_TIMES == 3 && SHARED_SHARE == 0.5, "as the rules' words say");
/// Workers that are shown.
const SHOWN: usize = 5;

/// What a judgement rests on.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// Living workers, the largest first.
    pub workers: Vec<&'a Process>,
    /// Memory (anon + swap) of all: what the kernel counts for each, but together not more than
    /// what is charged, because forked workers go on sharing pages that neither has written to.
    pub used_bytes: u64,
    /// Of the median worker, after the same correction.
    pub median_bytes: u64,
    /// Shared memory of all, each worker's counted, as ps shows it.
    pub seen_shared_bytes: u64,
    /// Shared memory of the worker that maps most.
    pub shared_bytes: u64,
    /// The limit that is nearest.
    pub limit: Limit,
    /// Used of that limit by all that is not a worker of this pool.
    pub others_bytes: u64,
    /// Left of the limit, time left, and again left of the limit: the first alone, or the others
    /// together, press it.
    pub pressed: [Rule; 3],
    /// In the last minute.
    pub lost_records: u64,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Judgement {
    /// So many of the largest hold most.
    RunawayWorkers {
        /// How many.
        count: usize,
    },
    /// Too many.
    PoolTooLarge {
        /// How many of the median size fit.
        fit: u64,
    },
    /// Each request leaves something behind.
    SlowLeak {
        /// Of the median leaking worker.
        leak: Leak,
        /// The pm.max_requests that bounds it; None = none is low enough.
        max_requests: Option<u64>,
    },
    /// It only looks large.
    SharedMemory,
}

impl Judgement {
    pub fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::RunawayWorkers { .. } => Diagnosis::RunawayWorker,
            Self::PoolTooLarge { .. } => Diagnosis::PoolTooLarge,
            Self::SlowLeak { .. } => Diagnosis::SlowLeak,
            Self::SharedMemory => Diagnosis::SharedMemory,
        }
    }
}

impl<'a> Facts<'a> {
    /// None = no worker, or no limit is known.
    pub fn of(model: &'a Model, pool: &Pool<'a>) -> Option<Self> {
        let horizon_s = model.config().horizon_s_of(Some(pool.name));
        let mut workers: Vec<&Process> = pool.workers().collect();
        workers.sort_by_key(|worker| (std::cmp::Reverse(worker.private_bytes()), worker.key));
        let room =
            |scope: &Scope<'_>| scope.headroom_bytes as f64 / scope.limit_bytes.max(1) as f64;
        let scope = model
            .limits_of(workers.first()?)
            .filter(|scope| scope.limit_bytes > 0)
            // What the pool grows counts in all of them: the one with the least room ends first.
            .min_by_key(|scope| scope.headroom_bytes)?;
        let forecast = scope.forecast();
        let left_s = forecast.eta_s.unwrap_or(f64::INFINITY);
        let consumed = scope.limit_bytes.saturating_sub(scope.headroom_bytes);
        let sum = |size: fn(&Process) -> u64| {
            workers.iter().map(|worker| size(worker)).fold(0, u64::saturating_add)
        };
        let counted_bytes = sum(Process::private_bytes);
        let swapped_bytes = sum(|worker| worker.memory.swap_bytes);
        let used_bytes = counted_bytes.min(consumed.saturating_add(swapped_bytes));
        let own = used_bytes as f64 / counted_bytes.max(1) as f64;
        let median_bytes = workers[workers.len() / 2].private_bytes() as f64 * own;
        Some(Self {
            used_bytes,
            median_bytes: median_bytes as u64,
            seen_shared_bytes: sum(|worker| worker.memory.shmem_bytes),
            shared_bytes: workers.iter().map(|worker| worker.memory.shmem_bytes).max()?,
            others_bytes: consumed.saturating_sub(used_bytes),
            pressed: [
                Rule::share("left of the limit", room(&scope), Needs::LessThan, ROOM),
                Rule::seconds("time left, against the horizon", left_s, Needs::LessThan, horizon_s),
                Rule::share("left of it, if soon", room(&scope), Needs::LessThan, 1.0 - USED),
            ],
            limit: scope.limit(),
            lost_records: sentence::lost_lately(model),
            workers,
        })
    }

    /// The limit is nearly used up, or soon will be.
    pub fn is_pressed(&self) -> bool {
        let [full, soon @ ..] = &self.pressed;
        full.holds() || all_hold(soon)
    }

    /// None = nothing is wrong with this pool.
    pub fn judge(&self) -> Option<Judgement> {
        if self.is_pressed() && self.presses().holds() {
            self.runaways().or_else(|| self.slow_leak()).or_else(|| self.too_large())
        } else {
            self.slow_leak().or_else(|| self.shared())
        }
    }

    /// What had to hold for this judgement.
    pub fn rules(&self, judgement: &Judgement) -> Vec<Rule> {
        match judgement {
            Judgement::RunawayWorkers { count } => {
                [self.presses()].into_iter().chain(self.are_runaways(*count)).collect()
            }
            Judgement::PoolTooLarge { .. } => vec![self.presses(), self.exceeds(self.fit())],
            Judgement::SlowLeak { .. } => vec![self.leak_alike(self.leaks().len())],
            Judgement::SharedMemory => self.looks_large().to_vec(),
        }
    }

    fn presses(&self) -> Rule {
        let consumed = self.limit.bytes.saturating_sub(self.limit.headroom_bytes);
        let least = POOL_SHARE * consumed as f64;
        Rule::bytes("the pool has, of what is used", self.used_bytes, Needs::AtLeast, 0)
            .against(least)
    }

    fn runaways(&self) -> Option<Judgement> {
        let mut held = 0_u64;
        let count = 1 + self.workers.iter().position(|worker| {
            held = worker.private_bytes().saturating_add(held);
            held as f64 >= RUNAWAY_SHARE * self.used_bytes as f64
        })?;
        all_hold(&self.are_runaways(count)).then_some(Judgement::RunawayWorkers { count })
    }

    fn are_runaways(&self, count: usize) -> [Rule; 2] {
        let others = self.workers.get(count..).unwrap_or_default();
        let typical = others.get(others.len() / 2).map_or(0, |worker| worker.private_bytes());
        let few = (self.workers.len() as f64 * FEW).max(1.0);
        let least = count.checked_sub(1).and_then(|at| self.workers.get(at));
        let least = least.map_or(0, |worker| worker.private_bytes());
        let times = typical.saturating_mul(RUNAWAY_TIMES);
        [
            Rule::count("workers that hold half of the pool", count as f64, Needs::AtMost, few),
            Rule::bytes("the least of them has, against 3 others", least, Needs::AtLeast, times),
        ]
    }

    /// When at least half of the workers leak.
    fn slow_leak(&self) -> Option<Judgement> {
        let mut leaks = self.leaks();
        if leaks.is_empty() || !self.leak_alike(leaks.len()).holds() {
            return None;
        }
        leaks.sort_by(|a, b| a.0.per_request().total_cmp(&b.0.per_request()));
        let (leak, requests) = leaks[leaks.len() / 2];
        let above = leaks.iter().map(|(leak, _)| leak.above_bytes).max().unwrap_or(0);
        let fresh = leak.floor_bytes as f64 - leak.per_request() * requests as f64;
        let own = self.limit.bytes as f64 * FILL - self.others_bytes as f64;
        let each = own / self.workers.len() as f64 - fresh.max(0.0) - above as f64;
        let max_requests = round_down(each / leak.per_request());
        Some(Judgement::SlowLeak { leak, max_requests })
    }

    /// Workers that leak, and the requests that each has served.
    fn leaks(&self) -> Vec<(Leak, u64)> {
        let insights = self.workers.iter().filter_map(|worker| worker.insight.as_ref());
        insights.filter_map(|insight| Some((insight.leak()?, insight.requests()?))).collect()
    }

    fn leak_alike(&self, leaking: usize) -> Rule {
        let half = self.workers.len() as f64 / 2.0;
        Rule::count("workers that leak, against half of all", leaking as f64, Needs::AtLeast, half)
    }

    fn too_large(&self) -> Option<Judgement> {
        let fit = self.fit();
        self.exceeds(fit).holds().then_some(Judgement::PoolTooLarge { fit })
    }

    /// Workers of the median size that leave a tenth of the limit free.
    fn fit(&self) -> u64 {
        let room = self.limit.bytes as f64 * FILL - self.others_bytes as f64;
        (room.max(0.0) / self.median_bytes.max(1) as f64) as u64
    }

    fn exceeds(&self, fit: u64) -> Rule {
        let workers = self.workers.len() as f64;
        Rule::count("workers, against those that fit", workers, Needs::MoreThan, fit as f64)
    }

    fn shared(&self) -> Option<Judgement> {
        all_hold(&self.looks_large()).then_some(Judgement::SharedMemory)
    }

    fn looks_large(&self) -> [Rule; 2] {
        let seen = self.seen_shared_bytes;
        let times = SHARED_TIMES.saturating_mul(self.used_bytes);
        let part = SHARED_SHARE * self.limit.bytes as f64;
        [
            Rule::bytes("shared memory, against 3 times its own", seen, Needs::AtLeast, times),
            Rule::bytes("shared memory, against half the limit", seen, Needs::AtLeast, 0)
                .against(part),
        ]
    }

    /// The numbers.
    pub fn evidence(&self, judgement: &Judgement) -> PoolDiagnosis {
        let largest = self.workers.iter().take(SHOWN).map(|worker| PoolWorker {
            tgid: worker.key.tgid,
            start_ns: worker.key.start_ns,
            used_bytes: worker.private_bytes(),
            request: work::of(worker).request,
        });
        let mut evidence = PoolDiagnosis {
            diagnosis: judgement.diagnosis(),
            workers: self.workers.len(),
            used_bytes: self.used_bytes,
            median_bytes: self.median_bytes,
            shared_bytes: self.shared_bytes,
            limit: self.limit.clone(),
            largest: largest.collect(),
            workers_that_fit: None,
            leak_bytes_per_request: None,
            leak_requests: None,
            max_requests: None,
            lost_records: self.lost_records,
        };
        match judgement {
            Judgement::PoolTooLarge { fit } => evidence.workers_that_fit = Some(*fit),
            Judgement::SlowLeak { leak, max_requests } => {
                evidence.leak_bytes_per_request = Some(leak.per_request());
                evidence.leak_requests = Some(leak.requests);
                evidence.max_requests = *max_requests;
            }
            Judgement::RunawayWorkers { .. } | Judgement::SharedMemory => {}
        }
        evidence
    }
}

/// To two digits, as a setting is written; None below 1.
fn round_down(number: f64) -> Option<u64> {
    if number.is_nan() || number < 1.0 {
        return None;
    }
    let whole = number.min(1e15) as u64;
    let mut unit = 1;
    while whole / unit >= 100 {
        unit *= 10;
    }
    Some(whole / unit * unit)
}
