//! Series of PHP pools, and how many requests they had.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::series::{Families, label, texts};
use crate::event::look::{Activity, Look};
use crate::metrics::table;
use crate::model::{Model, Process};

/// Workers whose count of requests is followed.
const MOST_WORKERS: usize = 4096;
/// Pools whose requests are counted.
const MOST_POOLS: usize = 512;

/// Name and cgroup: two masters may have pools of the same name.
type Key = (Arc<str>, Arc<str>);

/// Requests by pool, as looks into its workers tell.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Start of a worker and its requests at the last look, by tgid.
    workers: FxHashMap<u32, (u64, u64)>,
    pools: FxHashMap<Key, u64>,
}

impl Requests {
    pub fn look(&mut self, model: &Model, look: &Look) {
        let Some(requests) = look.requests else { return };
        let Some(key) = model.process(&look.key()).and_then(key) else { return };
        let known = self.workers.get(&look.tgid).filter(|known| known.0 == look.start_ns);
        if known.is_none() && self.workers.len() >= MOST_WORKERS {
            return;
        }
        // What a worker had before it was traced is not ours to count.
        let is_ours = look.start_ns >= model.began_ns();
        let before = known.map_or(if is_ours { 0 } else { requests }, |known| known.1);
        self.workers.insert(look.tgid, (look.start_ns, requests));
        if self.pools.len() < MOST_POOLS || self.pools.contains_key(&key) {
            *self.pools.entry(key).or_default() += requests.saturating_sub(before);
        }
    }

    pub fn exit(&mut self, tgid: u32) {
        self.workers.remove(&tgid);
    }

    /// Forgets pools that are no more, when there are many.
    fn prune(&mut self, living: &BTreeMap<Key, Sums>) {
        if self.pools.len() >= MOST_POOLS / 2 {
            self.pools.retain(|key, _| living.contains_key(key));
        }
    }
}

/// What the workers of a pool have together.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    workers: u64,
    busy: Option<u64>,
    bytes: u64,
    largest_bytes: u64,
    rate_bytes_per_s: f64,
    memory_limit_bytes: Option<u64>,
}

impl Sums {
    fn add(&mut self, worker: &Process, now_ns: u64) {
        let bytes = worker.private_bytes();
        self.workers += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.largest_bytes = self.largest_bytes.max(bytes);
        self.rate_bytes_per_s += worker.rate_at(now_ns);
        if let Some(insight) = &worker.insight {
            let is_busy = matches!(insight.activity, Activity::Request | Activity::Finishing);
            *self.busy.get_or_insert(0) += u64::from(is_busy);
        }
        let limit = worker.memory_limit().map(|limit| limit.limit_bytes);
        self.memory_limit_bytes = self.memory_limit_bytes.max(limit);
    }
}

pub(super) fn tell(requests: &mut Requests, model: &Model, most: usize, families: &mut Families) {
    let mut pools: BTreeMap<Key, Sums> = BTreeMap::new();
    for pool in model.pools() {
        for worker in pool.workers() {
            if let Some(key) = key(worker) {
                pools.entry(key).or_default().add(worker, model.now_ns());
            }
        }
    }
    requests.prune(&pools);
    let known = pools.len();
    let mut told: Vec<_> = pools.iter().collect();
    told.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.bytes));
    told.truncate(most);
    let told: Vec<([String; 2], &Key, &Sums)> =
        told.into_iter().map(|(key, sums)| ([label(&key.0), label(&key.1)], key, sums)).collect();
    let each = |value: fn(&Sums) -> Option<f64>| {
        told.iter().filter_map(move |(labels, _, sums)| Some((texts(labels), value(sums)?)))
    };
    families.each(&table::POOL_WORKERS, each(|sums| Some(sums.workers as f64)));
    families.each(&table::POOL_BUSY, each(|sums| sums.busy.map(|busy| busy as f64)));
    families.each(&table::POOL_MEMORY, each(|sums| Some(sums.bytes as f64)));
    families.each(&table::POOL_LARGEST, each(|sums| Some(sums.largest_bytes as f64)));
    families.each(&table::POOL_GROWTH, each(|sums| Some(sums.rate_bytes_per_s)));
    let requests = told
        .iter()
        .filter_map(|(labels, key, _)| Some((texts(labels), *requests.pools.get(*key)? as f64)));
    families.each(&table::POOL_REQUESTS, requests);
    families.each(&table::POOL_MEMORY_LIMIT, each(|sums| Some(sums.memory_limit_bytes? as f64)));
    families.one(&table::POOLS, known as f64);
    families.one(&table::POOLS_OMITTED, (known - told.len()) as f64);
}

/// Of a worker; None = it is none.
fn key(process: &Process) -> Option<Key> {
    let pool = process.php.as_ref()?.pool.clone()?;
    Some((pool, process.cgroup.clone().unwrap_or_default()))
}
