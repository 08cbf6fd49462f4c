//! Whether the services together may take more than there is: then what a stock system lacks will be needed.

use crate::Context;
use crate::budget::{Demand, worst_bytes};
use crate::report::{Severity, Subject};
use crate::web::STOCK_BYTES;

/// Whether the worst case exceeds the memory; false where the memory is not known. The worst case is that of
/// one kind of worker (PHP-FPM's, or the web server's where it is more than what it comes with), or what all
/// services need to do their work. A database's worst case does not count: its thousand connections are never
/// all at their largest, and a stock one would be said to exhaust a small host.
pub fn can_run_out(context: &Context<'_>) -> bool {
    let budget = context.budget;
    if budget.total_bytes == 0 {
        return false;
    }
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    let is_stock = |demand: &Demand| {
        demand.subject == Subject::Web
            && demand.worst_bytes.is_some_and(|worst| worst <= STOCK_BYTES)
    };
    let chosen = || budget.demands.iter().filter(|demand| !is_stock(demand));
    let reserved = chosen().map(|demand| demand.reserved_bytes).fold(0, u64::saturating_add);
    let web = chosen().filter(|demand| demand.subject == Subject::Web);
    let php = budget.worst_bytes(Subject::Php);
    // Workers without a limit take whatever there is.
    [Some(reserved), php, worst_bytes(web)].iter().any(|most| most.is_none_or(|most| most > memory))
}

/// Worth knowing, or a warning where memory can run out.
pub fn in_proportion(context: &Context<'_>) -> Severity {
    if can_run_out(context) { Severity::Warning } else { Severity::Info }
}
