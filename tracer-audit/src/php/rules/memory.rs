//! Whether the pools can take more memory than there is.

use std::collections::BTreeMap;

use super::{at_most, change};
use crate::Context;
use crate::observed;
use crate::php::Site;
use crate::php::pool::{Pool, SetBy};
use crate::php::share::{Fit, pool_worst_bytes, title, worker_worst_bytes};
use crate::report::{Finding, Severity, Subject};
use crate::size::human;

/// Above this a memory_limit is no safeguard: one request may take what a whole pool needs, bytes.
const HIGH_LIMIT_BYTES: u64 = 1 << 30;

/// A worst case of so many times the room is no overcommitment that works out, but a failure that waits.
const CRITICAL_FACTOR: u64 = 4;

const WHY: &str = "When some workers grow at once, the kernel kills processes until there is memory again, \
                   and often others than the one that grew.";

/// Pools that fit alone, but not together.
#[derive(Debug, Default)]
pub struct Together {
    fitting: u64,
}

/// Judges one pool. True where it can exhaust the memory.
pub fn pool(
    context: &Context<'_>,
    site: &Site,
    pool: &Pool,
    together: &mut Together,
    found: &mut Vec<Finding>,
) -> bool {
    // php-fpm refuses it, or process.max leaves nothing to it.
    if pool.workers == 0 {
        return false;
    }
    let room = context.budget.room_for_bytes(Subject::Php);
    let known = context.budget.total_bytes > 0;
    let title = title(&context.facts.php, site, pool);
    let mut fit = Fit::new(&context.facts.php, pool, room);
    let seen = seen(context, pool);
    if let Some(seen) = seen {
        let fitting = fit.share_bytes / seen.p95_bytes.max(1);
        fit.workers = u32::try_from(fitting).unwrap_or(u32::MAX).min(pool.workers);
    }
    let Some(worker) = worker_worst_bytes(site, pool, context.observed) else {
        let summary = if known {
            format!(
                "pool {title} has no memory_limit: each of its {} workers may take all of the {} that are \
                 left to PHP",
                pool.workers,
                human(room)
            )
        } else {
            format!(
                "pool {title} has no memory_limit: each of its {} workers may take all memory",
                pool.workers
            )
        };
        let mut finding = Finding::new(
            "php_memory_unlimited",
            Severity::Critical,
            Subject::Php,
            title,
            summary,
            WHY,
        );
        finding.at = pool.memory.limit_bytes.at.clone().or_else(|| pool.sections.first().cloned());
        finding.others.extend(pool.max_children.at.clone());
        finding.excess_bytes = u64::MAX;
        finding.figures = BTreeMap::from([("workers", pool.workers.into()), ("room_bytes", room)]);
        finding.change = change(site, pool, &fit).filter(|_| known);
        found.push(finding);
        return true;
    };
    let worst = worker.saturating_mul(pool.workers.into());
    if known && worst > room {
        found.push(too_large(context, site, pool, worker, &fit));
        return severity(pool, worker, worst, room, context) == Severity::Critical;
    }
    together.fitting = together.fitting.saturating_add(worst);
    if let Some(seen) = seen
        && known
        && let Some(finding) = beyond_trace(context, site, pool, seen)
    {
        let exhausts = finding.severity > Severity::Info;
        found.push(finding);
        return exhausts;
    }
    if pool.limit_bytes().is_some_and(|limit| limit > HIGH_LIMIT_BYTES) {
        found.push(high(context, site, pool, known));
    }
    false
}

fn seen<'a>(context: &Context<'a>, pool: &Pool) -> Option<&'a observed::Pool> {
    context.observed.pools.iter().find(|seen| seen.name == pool.name)
}

/// A pool that kept within the memory while it was traced, although its limit lets one or two of its workers
/// exhaust it.
fn beyond_trace(
    context: &Context<'_>,
    site: &Site,
    pool: &Pool,
    seen: &observed::Pool,
) -> Option<Finding> {
    let room = context.budget.room_for_bytes(Subject::Php);
    let limit = pool.limit_bytes();
    let two = limit.map(|limit| limit.saturating_mul(u64::from(pool.workers.min(2))));
    if two.is_some_and(|two| two <= room) {
        return None;
    }
    let title = title(&context.facts.php, site, pool);
    let each = limit.map_or("without a memory_limit".to_owned(), |limit| {
        format!("each of its {} workers may take {}", pool.workers, human(limit))
    });
    let summary = format!(
        "95 of 100 workers of pool {title} stayed below {} in the trace, but {each}, and {} are left to PHP",
        human(seen.p95_bytes),
        human(room)
    );
    let severity = at_most(Severity::Warning, Severity::Info, pool.is_stock());
    let mut finding =
        Finding::new("php_memory_limit_high", severity, Subject::Php, title, summary, WHY);
    finding.at = pool.memory.limit_bytes.at.clone();
    finding.excess_bytes = two.map_or(u64::MAX, |two| two - room);
    finding.figures = BTreeMap::from([("seen_bytes", seen.p95_bytes), ("room_bytes", room)]);
    finding.figures.extend(limit.map(|limit| ("limit_bytes", limit)));
    // Twice what was seen is room for a request that is larger than those.
    let enough = seen.largest_bytes.min(HIGH_LIMIT_BYTES).saturating_mul(2);
    let enough = enough.next_multiple_of(64 << 20).clamp(128 << 20, HIGH_LIMIT_BYTES);
    if limit.is_none_or(|limit| enough < limit) {
        finding.change = Some(super::set_limit(site, pool, enough));
    }
    Some(finding)
}

fn severity(pool: &Pool, worker: u64, worst: u64, room: u64, context: &Context<'_>) -> Severity {
    let seen = seen(context, pool).is_some();
    let two = worker.saturating_mul(u64::from(pool.workers.min(2)));
    let critical = seen || two > room || worst / CRITICAL_FACTOR >= room;
    let severity = if critical { Severity::Critical } else { Severity::Warning };
    at_most(severity, Severity::Info, pool.is_stock() && !seen)
}

fn too_large(context: &Context<'_>, site: &Site, pool: &Pool, worker: u64, fit: &Fit) -> Finding {
    let room = context.budget.room_for_bytes(Subject::Php);
    let worst = worker.saturating_mul(pool.workers.into());
    let title = title(&context.facts.php, site, pool);
    let fitting = (fit.share_bytes / worker.max(1)).min(pool.workers.into());
    let fits = match fitting {
        0 => "not even one fits".to_owned(),
        1 => "1 of them fits".to_owned(),
        many => format!("{many} of them fit"),
    };
    let stale = seen(context, pool).is_none() && Some(worker) != pool.limit_bytes();
    let of = if stale {
        ", by the limit in force,"
    } else if seen(context, pool).is_some() {
        ", as seen in the trace,"
    } else {
        ","
    };
    let reload = match pool.limit_bytes() {
        Some(limit) if stale => format!("; a reload brings the {} of the files", human(limit)),
        _ => String::new(),
    };
    let summary = format!(
        "pool {title} may use {}: {} workers of {}{of} but {} are left to PHP; {fits}{reload}",
        human(worst),
        pool.workers,
        human(worker),
        human(room),
    );
    let severity = severity(pool, worker, worst, room, context);
    let mut finding =
        Finding::new("php_pool_too_large", severity, Subject::Php, title, summary, WHY);
    let limit_at = pool.memory.limit_bytes.at.clone();
    let high = pool.limit_bytes().is_some_and(|limit| limit > HIGH_LIMIT_BYTES);
    let places = if high {
        [limit_at, pool.max_children.at.clone()]
    } else {
        [pool.max_children.at.clone(), limit_at]
    };
    let mut places = places.into_iter().flatten().chain(site.process_max.at.clone());
    finding.at = places.next();
    finding.others = places.collect();
    finding.excess_bytes = worst - room;
    finding.figures = BTreeMap::from([
        ("worst_bytes", worst),
        ("workers", pool.workers.into()),
        ("worker_bytes", worker),
        ("room_bytes", room),
        ("workers_that_fit", fitting),
    ]);
    if let Some(bytes) = fit.limit_bytes {
        finding.figures.insert("limit_that_fits_bytes", bytes);
    }
    finding.change = change(site, pool, fit).filter(|_| !stale);
    finding
}

fn high(context: &Context<'_>, site: &Site, pool: &Pool, known: bool) -> Finding {
    let title = title(&context.facts.php, site, pool);
    let limit = pool.limit_bytes().unwrap_or(u64::MAX);
    let room = context.budget.room_for_bytes(Subject::Php);
    let summary = if known {
        format!(
            "a request of pool {title} may take {}; {} are left to PHP, so it fits, but it bounds little",
            human(limit),
            human(room)
        )
    } else {
        format!("a request of pool {title} may take {}: memory_limit is above 1 GiB", human(limit))
    };
    let severity = if known { Severity::Info } else { Severity::Warning };
    let why = "A memory_limit above 1 GiB lets one runaway request take what all others need.";
    let mut finding =
        Finding::new("php_memory_limit_high", severity, Subject::Php, title, summary, why);
    finding.at = pool.memory.limit_bytes.at.clone();
    finding.figures = BTreeMap::from([("limit_bytes", limit), ("room_bytes", room)]);
    finding.change = Some(super::set_limit(site, pool, 512 << 20));
    finding
}

/// Scripts that may raise their own limit, and folders that have another.
pub fn scripts(context: &Context<'_>, site: &Site, pool: &Pool, found: &mut Vec<Finding>) {
    let Some(limit) = pool.limit_bytes() else {
        return;
    };
    // Who left the limit as it came did not mean it as a safeguard.
    let chosen = pool.memory.set_by == SetBy::PhpValue
        || pool.memory.set_by == SetBy::Ini && limit != crate::php::DEFAULT_LIMIT_BYTES;
    if chosen && !pool.is_stock() {
        let title = title(&context.facts.php, site, pool);
        let summary = format!(
            "a script of pool {title} may raise its memory_limit of {} with ini_set",
            human(limit)
        );
        let why =
            "Only php_admin_value pins the limit; php.ini and php_value set where a script starts.";
        let mut finding = Finding::new(
            "php_memory_limit_not_pinned",
            Severity::Info,
            Subject::Php,
            title,
            summary,
            why,
        );
        finding.at = pool.memory.limit_bytes.at.clone();
        finding.figures = BTreeMap::from([("limit_bytes", limit)]);
        finding.change = Some(super::set_limit(site, pool, limit));
        found.push(finding);
    }
}

impl Together {
    /// Pools that fit each alone, but not together.
    pub fn judge(self, context: &Context<'_>, found: &mut Vec<Finding>) {
        let room = context.budget.room_for_bytes(Subject::Php);
        if context.budget.total_bytes == 0 || self.fitting <= room {
            return;
        }
        let php = &context.facts.php;
        let worst = |site: &Site, pool: &Pool| pool_worst_bytes(site, pool, context.observed);
        let mut pools: Vec<(&Site, &Pool)> = php
            .pools()
            .filter(|(_, pool)| pool.workers > 0)
            .filter(|(site, pool)| worst(site, pool).is_some_and(|worst| worst <= room))
            .collect();
        pools.sort_by_key(|(site, pool)| std::cmp::Reverse(worst(site, pool)));
        let beyond = |(site, pool): &&(&Site, &Pool)| {
            let share = Fit::new(php, pool, room).share_bytes;
            worst(site, pool).unwrap_or(0).saturating_sub(share)
        };
        // Of equals the first.
        let Some(&(site, largest)) = pools.iter().rev().max_by_key(beyond) else {
            return;
        };
        let name = |(site, pool): &(&Site, &Pool)| {
            let worker = worker_worst_bytes(site, pool, context.observed).unwrap_or(0);
            format!("{} {} of {}", title(php, site, pool), pool.workers_text(), human(worker))
        };
        let names: Vec<String> = pools.iter().take(4).map(name).collect();
        let more = pools.len().saturating_sub(4);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let summary = format!(
            "{} pools of PHP may together use {}, but {} are left to PHP: {}{more}",
            pools.len(),
            human(self.fitting),
            human(room),
            names.join(", "),
        );
        let all_stock = pools.iter().all(|(_, pool)| pool.is_stock());
        let severity = if self.fitting / CRITICAL_FACTOR >= room {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let severity = at_most(severity, Severity::Info, all_stock);
        let mut finding = Finding::new(
            "php_pools_too_large",
            severity,
            Subject::Php,
            title(php, site, largest),
            summary,
            WHY,
        );
        finding.at = largest.max_children.at.clone();
        let others = pools.iter().filter(|(_, pool)| !std::ptr::eq(*pool, largest));
        let others = others.filter_map(|(_, pool)| pool.max_children.at.clone());
        finding.others = others.take(8).collect();
        finding.excess_bytes = self.fitting - room;
        finding.figures = BTreeMap::from([
            ("worst_bytes", self.fitting),
            ("room_bytes", room),
            ("pools", pools.len() as u64),
        ]);
        finding.change = change(site, largest, &Fit::new(php, largest, room));
        found.push(finding);
    }
}
