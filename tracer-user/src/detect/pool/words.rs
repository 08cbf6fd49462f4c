//! A judgement of a pool as one sentence.

use super::judge::{Facts, Judgement};
use crate::detect::{sentence, work};
use crate::event::Diagnosis;
use crate::text::bytes;

/// The sentence.
pub(super) fn summary(pool: &str, facts: &Facts<'_>, judgement: &Judgement) -> String {
    let pool = sentence::name(pool);
    let limit = limit(facts);
    let workers = facts.workers.len();
    let s = if workers == 1 { "" } else { "s" };
    let used = bytes(facts.used_bytes);
    match judgement {
        Judgement::RunawayWorkers { count } => {
            let held = facts.workers[..*count]
                .iter()
                .fold(0_u64, |sum, worker| sum.saturating_add(worker.private_bytes()));
            let holds = if *count == 1 { "holds" } else { "hold" };
            let others = facts.workers.get(*count..).unwrap_or_default();
            let others = match others.get(others.len() / 2) {
                Some(worker) => {
                    format!(" (the others have about {} each)", bytes(worker.private_bytes()))
                }
                None => String::new(),
            };
            let first = facts.workers[0];
            let request = work::of(first).request.map_or_else(String::new, |request| {
                format!(", which serves {}", work::request(&request))
            });
            format!(
                "pool {pool}: {count} of {workers} worker{s} {holds} {} of its {used}{others}, and \
                 {limit}; the largest is pid {}{request}",
                bytes(held),
                first.key.tgid,
            )
        }
        Judgement::PoolTooLarge { fit } => format!(
            "pool {pool} is too large: {workers} worker{s} of about {} each take {used}, and \
             {limit}; {fit} would fit: lower pm.max_children to {fit}",
            bytes(facts.median_bytes),
        ),
        Judgement::SlowLeak { leak, max_requests } => {
            let remedy = match max_requests {
                Some(most) => format!(
                    "pm.max_requests = {most} keeps {workers} worker{s} below {}",
                    name_of(facts)
                ),
                None => format!(
                    "no pm.max_requests is low enough for {workers} worker{s} below {}",
                    name_of(facts)
                ),
            };
            format!(
                "pool {pool} leaks slowly: each request leaves about {} behind in its worker \
                 (measured over {} requests); {remedy}",
                bytes(leak.per_request() as u64),
                leak.requests,
            )
        }
        Judgement::SharedMemory => format!(
            "pool {pool} is no problem, though its {workers} worker{s} look like {} in ps and top: \
             {} of it is one piece of memory that they share (opcache, APCu), and their own is {used}",
            bytes(facts.used_bytes.saturating_add(facts.seen_shared_bytes)),
            bytes(facts.shared_bytes),
        ),
    }
}

/// It has not been so for some time.
pub(super) fn over(pool: &str, diagnosis: Diagnosis) -> String {
    let pool = sentence::name(pool);
    match diagnosis {
        Diagnosis::RunawayWorker => format!("pool {pool} has no runaway worker any more"),
        Diagnosis::PoolTooLarge => format!("pool {pool} fits again"),
        Diagnosis::SlowLeak => format!("pool {pool} leaks no more"),
        Diagnosis::SharedMemory => format!("pool {pool} looks no larger than it is any more"),
    }
}

/// `88 % of the 16.0 GiB limit of /web is used`.
fn limit(facts: &Facts<'_>) -> String {
    let used = facts.limit.bytes.saturating_sub(facts.limit.headroom_bytes);
    let share = used as f64 / facts.limit.bytes.max(1) as f64 * 100.0;
    format!("{share:.0} % of {} is used", name_of(facts))
}

/// `the 16.0 GiB limit of /web`.
fn name_of(facts: &Facts<'_>) -> String {
    let limit = &facts.limit;
    match &limit.path {
        Some(path) => sentence::limit(limit.setting, limit.bytes, path),
        None => format!("the host's {}", bytes(limit.bytes)),
    }
}
