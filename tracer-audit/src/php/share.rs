//! What the pools take of the memory, and how much of it each of them could have.

use super::pool::{DEFAULT_LIMIT_BYTES, Pool};
use super::{Facts, Site};
use crate::Context;
use crate::budget::Demand;
use crate::observed::Observed;
use crate::report::Subject;
use crate::size;

/// What a worker needs when nothing is known of it: a framework's request takes 20 to 60 MiB.
const TYPICAL_BYTES: u64 = 40 << 20;

/// memory_limits that people write, MiB, the largest first.
const LIMITS_MIB: [u64; 12] = [1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 24];

/// What a worker of a pool needs to do its work, bytes: 95 of 100 in a trace stayed below it; without a trace
/// a typical one, but never more than its limit.
pub fn typical_bytes(pool: &Pool, observed: &Observed) -> u64 {
    let seen = observed.pools.iter().find(|seen| seen.name == pool.name);
    let bytes = seen.map_or(TYPICAL_BYTES, |seen| seen.p95_bytes);
    pool.limit_bytes().map_or(bytes, |limit| bytes.min(limit))
}

/// Takes what process.max forbids from the pools with the smallest limits: the worst case is that the others
/// have all their workers. Zero is no bound.
pub fn under_process_max(pools: &mut [Pool], process_max: u32) {
    if process_max == 0 {
        return;
    }
    let mut by_limit: Vec<&mut Pool> = pools.iter_mut().collect();
    by_limit.sort_by_key(|pool| std::cmp::Reverse(pool.limit_bytes().unwrap_or(u64::MAX)));
    let mut left = process_max;
    for pool in by_limit {
        pool.workers = pool.workers.min(left);
        left -= pool.workers;
    }
}

/// Whether its workers can have another limit because their master read other files. Where none changed, and
/// scripts may raise the limit, they did.
pub fn may_be_stale(site: &Site, pool: &Pool) -> bool {
    pool.memory.is_pinned() || !site.changed.is_empty()
}

/// memory_limit of the pool that its master goes by, where that may be another than that of the files: the one
/// that all looked-into workers agree in. None where that is not known; the inner None is no limit.
pub fn in_force(site: &Site, pool: &Pool, observed: &Observed) -> Option<Option<u64>> {
    if !may_be_stale(site, pool) {
        return None;
    }
    let mut limits = observed
        .workers
        .iter()
        .filter(|worker| worker.pool == pool.name && site.has_master(worker.master_tgid))
        .map(|worker| worker.limit_bytes);
    let first = limits.next()?;
    limits.all(|limit| limit == first).then_some(first)
}

/// What one worker may take at worst, bytes; None where nothing bounds it: the larger of the configured limit
/// and the one in force, or what a trace has seen.
pub fn worker_worst_bytes(site: &Site, pool: &Pool, observed: &Observed) -> Option<u64> {
    if let Some(seen) = observed.pools.iter().find(|seen| seen.name == pool.name) {
        return Some(seen.p95_bytes);
    }
    let configured = pool.limit_bytes()?;
    match in_force(site, pool, observed) {
        Some(in_force) => Some(in_force?.max(configured)),
        None => Some(configured),
    }
}

/// What all its workers may take at worst, bytes; None where nothing bounds them.
pub fn pool_worst_bytes(site: &Site, pool: &Pool, observed: &Observed) -> Option<u64> {
    match u64::from(pool.workers) {
        0 => Some(0),
        workers => Some(worker_worst_bytes(site, pool, observed)?.saturating_mul(workers)),
    }
}

/// The pool's name, with the version where several sites have one of that name.
pub fn title(facts: &Facts, site: &Site, pool: &Pool) -> String {
    let others = facts.pools().filter(|(_, other)| other.name == pool.name).count();
    match site.version {
        Some(version) if others > 1 => format!("{} (PHP {version})", pool.name),
        _ => pool.name.clone(),
    }
}

/// A demand for each pool.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    let observed = context.observed;
    let one = |(site, pool): (&Site, &Pool)| {
        let workers = u64::from(pool.workers);
        let seen = observed.pools.iter().find(|seen| seen.name == pool.name);
        let worker = worker_worst_bytes(site, pool, observed);
        let worst_bytes = pool_worst_bytes(site, pool, observed);
        let reserved = typical_bytes(pool, observed).saturating_mul(workers);
        let how = match (seen, worker) {
            (Some(seen), _) => format!(
                "{workers} workers of {}, as 95 of 100 were seen in the trace",
                size::human(seen.p95_bytes)
            ),
            (None, Some(bytes)) if Some(bytes) != pool.limit_bytes() => {
                format!("{workers} workers of {}, the limit in force", size::human(bytes))
            }
            _ => pool.how(),
        };
        Demand {
            subject: Subject::Php,
            name: title(&context.facts.php, site, pool),
            reserved_bytes: worst_bytes.map_or(reserved, |worst| reserved.min(worst)),
            worst_bytes,
            observed_bytes: seen
                .map(|seen| seen.p50_bytes.saturating_mul(seen.workers.min(workers)))
                .or_else(|| pool.held_bytes()),
            how,
            at: pool.max_children.at.clone().or_else(|| pool.sections.first().cloned()),
        }
    };
    context.facts.php.pools().map(one).collect()
}

/// What would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The pool's part of what is left to PHP, bytes.
    pub share_bytes: u64,
    /// Workers of the present limit that fit into it.
    pub workers: u32,
    /// The largest usual memory_limit with which all workers fit, bytes; None where that would be too small
    /// to work with.
    pub limit_bytes: Option<u64>,
}

impl Fit {
    /// For a pool of `facts`, when `room_bytes` are left to PHP. See [`share`].
    pub fn new(facts: &Facts, pool: &Pool, room_bytes: u64) -> Self {
        let pools: Vec<&Pool> = facts.pools().map(|(_, pool)| pool).collect();
        let share_bytes = share(&pools, pool, room_bytes);
        let workers = share_bytes / pool.limit_bytes().unwrap_or(u64::MAX).max(1);
        let each_mib = (share_bytes / u64::from(pool.workers.max(1))) >> 20;
        let limit = LIMITS_MIB.iter().find(|&&limit| limit <= each_mib);
        Self {
            share_bytes,
            workers: u32::try_from(workers).unwrap_or(u32::MAX).min(pool.workers),
            limit_bytes: limit.map(|limit| limit << 20),
        }
    }
}

/// What `pool`, one of `pools`, can have of `room_bytes`. They share it by what their workers need to do their
/// work; what a pool cannot use of its part goes to the others. So nobody loses anything to a neighbour whose
/// limit is absurd, and where all fit, all keep what they have.
fn share(pools: &[&Pool], pool: &Pool, room_bytes: u64) -> u64 {
    let want = |pool: &Pool| u128::from(pool.worst_bytes().unwrap_or(u64::MAX));
    let weight = |pool: &Pool| {
        let limit = pool.limit_bytes().unwrap_or(DEFAULT_LIMIT_BYTES).min(DEFAULT_LIMIT_BYTES);
        (u128::from(limit) * u128::from(pool.workers)).max(1)
    };
    // Who wants least for what its workers need is served first.
    let mut order = pools.to_vec();
    order.sort_by(|a, b| (want(a) * weight(b)).cmp(&(want(b) * weight(a))));
    let mut left = u128::from(room_bytes);
    let mut all: u128 = order.iter().map(|pool| weight(pool)).sum();
    for other in order {
        let part = left * weight(other) / all.max(1);
        if part < want(other) {
            break;
        }
        if std::ptr::eq(other, pool) {
            return u64::try_from(part).unwrap_or(room_bytes);
        }
        left -= want(other);
        all -= weight(other);
    }
    let part = left * weight(pool) / all.max(1);
    u64::try_from(part).unwrap_or(room_bytes)
}

/// `512M`, as PHP reads it.
pub fn php_size(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}
