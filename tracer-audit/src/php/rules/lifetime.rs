//! How long a worker and a request may live.

use std::collections::BTreeMap;

use super::set;
use crate::Context;
use crate::php::Site;
use crate::php::pool::Pool;
use crate::php::share::title;
use crate::report::{Finding, Severity, Subject};
use crate::size::human;

/// Fewest requests that a worker is worth starting for, and the most that make a difference.
const LEAST_REQUESTS: u64 = 50;
const MOST_REQUESTS: u64 = 100_000;

/// A leak that was seen, and workers that live for ever.
pub fn requests(context: &Context<'_>, site: &Site, pool: &Pool, found: &mut Vec<Finding>) {
    let seen = context.observed.pools.iter().find(|seen| seen.name == pool.name);
    let Some(leak) = seen.and_then(|seen| seen.leak_bytes_per_request).filter(|&leak| leak > 0)
    else {
        return;
    };
    if pool.max_requests.value != 0 {
        return;
    }
    let title = title(&context.facts.php, site, pool);
    // Until a worker has gained as much as it needs anyway.
    let gain = seen.map_or(0, |seen| seen.p50_bytes).max(16 << 20);
    let requests = (gain / leak).clamp(LEAST_REQUESTS, MOST_REQUESTS).next_multiple_of(50);
    let summary = format!(
        "workers of pool {title} keep {} of each request, and are never replaced: pm.max_requests is 0; \
         {requests} would bound it to {} a worker",
        human(leak),
        human(leak.saturating_mul(requests)),
    );
    let why = "A slow leak fills the memory over hours or days, with no request that looks wrong.";
    let mut finding =
        Finding::new("php_leak_unbounded", Severity::Warning, Subject::Php, title, summary, why);
    finding.at = pool.max_requests.at.clone().or_else(|| pool.sections.first().cloned());
    finding.figures = BTreeMap::from([
        ("leak_bytes_per_request", leak),
        ("requests", requests),
        ("gain_bytes", leak.saturating_mul(requests)),
    ]);
    finding.change = set(site, pool, "pm.max_requests", &requests.to_string());
    found.push(finding);
}

/// Requests that may run for ever. Worth a warning only where they may grow for ever, too.
pub fn timeout(
    context: &Context<'_>,
    site: &Site,
    pool: &Pool,
    exhausts: bool,
    found: &mut Vec<Finding>,
) {
    if pool.terminate_timeout_s.value != 0 {
        return;
    }
    let severity = if exhausts { Severity::Warning } else { Severity::Info };
    let title = title(&context.facts.php, site, pool);
    let summary =
        format!("a request of pool {title} may run for ever: request_terminate_timeout is not set");
    let why = "PHP's max_execution_time counts no waiting for the disk, the database or memory; a request \
               that hangs keeps its worker and what it holds.";
    let mut finding =
        Finding::new("php_no_terminate_timeout", severity, Subject::Php, title, summary, why);
    finding.at = pool.terminate_timeout_s.at.clone().or_else(|| pool.sections.first().cloned());
    finding.change = set(site, pool, "request_terminate_timeout", "300s");
    found.push(finding);
}
