//! Whether the services together may take more than there is: then what a stock system lacks will be needed.

use crate::Context;
use crate::budget::Demand;
use crate::report::Subject;
use crate::web::STOCK_BYTES;

/// How much the worst case exceeds the memory, bytes; None where it does not, or the memory is not known.
/// The worst case is that of one kind of worker (PHP-FPM's, or the web server's where it is more than what it
/// comes with), or what all services need to do their work. A database's worst case counts not: its thousand connections are never all at their
/// largest, and a stock one would be said to exhaust a small host.
pub fn excess_bytes(context: &Context<'_>) -> Option<u64> {
    let budget = context.budget;
    if budget.total_bytes == 0 {
        return None;
    }
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    let php = worst_bytes(context, Subject::Php).unwrap_or(0);
    let is_stock = |demand: &Demand| {
        demand.subject == Subject::Web
            && demand.worst_bytes.is_some_and(|worst| worst <= STOCK_BYTES)
    };
    let chosen = || budget.demands.iter().filter(|demand| !is_stock(demand));
    let reserved = chosen().map(|demand| demand.reserved_bytes).fold(0, u64::saturating_add);
    let web = chosen().filter(|demand| demand.subject == Subject::Web);
    let web = web.filter_map(|demand| demand.worst_bytes).fold(0, u64::saturating_add);
    let workers = [php, web];
    let most = workers.into_iter().fold(reserved, u64::max);
    most.checked_sub(memory).filter(|&excess| excess > 0)
}

/// The worst case of all demands of `subject` that are bounded, bytes; None without a bounded one.
pub fn worst_bytes(context: &Context<'_>, subject: Subject) -> Option<u64> {
    let own = context.budget.demands.iter().filter(|demand| demand.subject == subject);
    own.filter_map(|demand| demand.worst_bytes).reduce(u64::saturating_add)
}
