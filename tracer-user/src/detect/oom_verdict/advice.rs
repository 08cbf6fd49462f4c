//! What would have prevented a kill, where the numbers tell.

use std::sync::Arc;

use super::Place;
use crate::detect::attribution::Cause;
use crate::detect::sentence::{name, named};
use crate::event::{Culprit, Oom};
use crate::model::{Model, Pool, Process};
use crate::text::bytes;

/// What fits leaves this part of a limit free.
const FREE: f64 = 0.1;
/// No PHP application runs in less.
const LEAST_MEMORY_LIMIT: u64 = 16 << 20;

/// One sentence; None = the numbers do not tell.
pub(super) fn of(model: &Model, oom: &Oom, place: &Place, cause: &Cause) -> Option<String> {
    match cause {
        Cause::Process(culprit) => process(model, oom, place, culprit),
        Cause::Pool { pool, master_tgid, .. } => {
            let pool = find(model, pool, *master_tgid)?;
            let facts = Facts::of(model, oom, place, &pool)?;
            let fit = facts.room_bytes / (facts.pool_bytes / facts.workers).max(1);
            (fit < facts.workers && fit > 0)
                .then(|| format!("pm.max_children = {fit} of pool {} would fit", name(pool.name)))
        }
        Cause::Elsewhere { .. } => Some(
            "look at tmpfs and shared memory (df -t tmpfs, ipcs -m), and at what forked processes \
             wrote to"
                .to_owned(),
        ),
        Cause::Spread { .. } => {
            Some("raise the limit, or run less below it: nobody stands out".to_owned())
        }
        Cause::NoGrowth => {
            let largest = members(model, place).max_by_key(|process| process.private_bytes())?;
            Some(format!(
                "most is held by {}, {}, which did not grow while it was watched",
                named(&largest.comm, None, largest.key.tgid),
                bytes(largest.private_bytes()),
            ))
        }
        Cause::Disagree { .. } => None,
    }
}

fn process(model: &Model, oom: &Oom, place: &Place, culprit: &Culprit) -> Option<String> {
    let process = model.living_or_exited(&culprit.key())?;
    let php = process.php.as_ref();
    let pool = php.and_then(|php| find(model, php.pool.as_ref()?, php.master_tgid));
    if let Some(pool) = pool {
        let facts = Facts::of(model, oom, place, &pool)?;
        let each = facts.room_bytes / facts.workers;
        let is_kept = process.memory_limit().is_some_and(|limit| limit.limit_bytes <= each);
        if each < LEAST_MEMORY_LIMIT || is_kept {
            return None;
        }
        let s = if facts.workers == 1 { "" } else { "s" };
        return Some(format!(
            "a memory_limit of at most {} keeps the {} worker{s} of pool {} below the limit",
            bytes(round_down(each)),
            facts.workers,
            name(pool.name),
        ));
    }
    let harmed = oom.victims.iter().any(|victim| victim.key() != culprit.key());
    let comm = name(&culprit.comm);
    Some(match harmed {
        true => format!("give {comm} a limit of its own, so that it takes nobody else down"),
        false => format!("{comm} needs a higher limit, or leaks"),
    })
}

/// What a pool has and may have below the limit that was hit.
struct Facts {
    workers: u64,
    pool_bytes: u64,
    room_bytes: u64,
}

impl Facts {
    fn of(model: &Model, oom: &Oom, place: &Place, pool: &Pool<'_>) -> Option<Self> {
        let host = model.host();
        let limit_bytes = oom.scope.limit_bytes.unwrap_or(host.mem_total_bytes);
        let sum = |sum: u64, process: &Process| sum.saturating_add(process.private_bytes());
        let pool_bytes = pool.workers().fold(0, sum);
        let is_other = |process: &&Process| {
            process.php.as_ref().is_none_or(|php| {
                (php.pool.as_ref(), php.master_tgid) != (Some(pool.name), pool.master_tgid)
            })
        };
        let others_bytes = members(model, place).filter(is_other).fold(0, sum);
        let usable = (limit_bytes as f64 * (1.0 - FREE)) as u64;
        let workers = pool.workers().count() as u64;
        let room_bytes = usable.saturating_sub(others_bytes);
        (workers > 0).then_some(Self { workers, pool_bytes, room_bytes })
    }
}

/// Pools of two masters may have one name.
fn find<'a>(model: &'a Model, name: &Arc<str>, master_tgid: Option<u32>) -> Option<Pool<'a>> {
    model.pools().find(|pool| (pool.name, pool.master_tgid) == (name, master_tgid))
}

fn members<'a>(model: &'a Model, place: &'a Place) -> impl Iterator<Item = &'a Process> {
    model.processes().filter(|process| process.is_in(place.root.as_deref()))
}

/// To whole MiB.
fn round_down(bytes: u64) -> u64 {
    bytes >> 20 << 20
}
