//! The memory limit around a PHP-FPM master, of its container or unit, against the worst case of its pools.

use super::cgroups::{self, Limit};
use crate::Context;
use crate::origin::Origin;
use crate::php;
use crate::processes::{self, Process};
use crate::report::{Finding, Severity, Subject};
use crate::root::Root;
use crate::size::human;

/// A PHP-FPM master with a limit around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The master.
    pub tgid: u32,
    /// The tightest limit on the way from the root of the hierarchy to its cgroup.
    pub limit: Limit,
}

/// All masters with a limit. One that has another file system than this has other pools, too.
pub fn read(root: &Root, processes: &[Process]) -> Vec<Master> {
    let is_master = |process: &&Process| {
        process.args.first().is_some_and(|title| title.starts_with("php-fpm: master"))
    };
    let is_here = |process: &&Process| !processes::is_contained(root, process);
    let read = |master: &Process| {
        let limit = cgroups::tightest(root, &master.cgroup)?;
        Some(Master { tgid: master.tgid, limit })
    };
    processes.iter().filter(is_master).filter(is_here).filter_map(read).collect()
}

/// Judges each of them.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let masters = &context.facts.system.masters;
    masters.iter().filter_map(|master| too_tight(context, master)).collect()
}

/// The worst case of its pools, bytes; None where one of them is unbounded, which is told of the pool.
fn worst_bytes(context: &Context<'_>, master: &Master) -> Option<u64> {
    let facts = &context.facts.php;
    let own = facts.pools().filter(|(site, _)| site.has_master(master.tgid));
    own.map(|(site, pool)| php::pool_worst_bytes(site, pool, context.observed))
        .try_fold(0_u64, |sum, pool| Some(sum.saturating_add(pool?)))
}

fn too_tight(context: &Context<'_>, master: &Master) -> Option<Finding> {
    let total = context.facts.machine.total_bytes;
    let limit = &master.limit;
    // Where the limit is the memory, the pool is judged against it as against any host's.
    if total > 0 && limit.bytes >= total {
        return None;
    }
    let worst = worst_bytes(context, master)?;
    let excess = worst.checked_sub(limit.bytes).filter(|&excess| excess > 0)?;
    // The limit of a unit is a fence that somebody put there, so that nobody else is hit.
    let fence = limit.cgroup.ends_with(".service");
    let name = limit.cgroup.rsplit('/').next().unwrap_or("/").to_owned();
    let mut finding = Finding::new(
        "container_pool_too_large",
        if fence { Severity::Info } else { Severity::Critical },
        Subject::Container,
        name,
        format!(
            "the pools of php-fpm (pid {}) may use {}, but {} may use {}",
            master.tgid,
            human(worst),
            limit.cgroup,
            human(limit.bytes)
        ),
        "The kernel kills inside of this limit as soon as it is met, however much the host has left.",
    );
    finding.at = Some(Origin::from(limit.file.clone()));
    // What goes beyond the limit takes no memory from the host.
    finding.excess_bytes = if fence { 0 } else { excess };
    finding.figures.insert("worst_bytes", worst);
    finding.figures.insert("limit_bytes", limit.bytes);
    Some(finding)
}
