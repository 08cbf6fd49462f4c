//! The memory limit around a PHP-FPM master, of its container or unit, against the worst case of its pools.

use super::cgroups::{self, Limit};
use crate::Context;
use crate::origin::Origin;
use crate::processes::Process;
use crate::report::{Finding, Severity, Subject};
use crate::root::Root;
use crate::size::human;

/// A PHP-FPM master with a limit around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The master.
    pub tgid: u32,
    /// Its pools, as its workers are called.
    pub pools: Vec<String>,
    /// The tightest limit on the way from the root of the hierarchy to its cgroup.
    pub limit: Limit,
}

/// All masters with a limit.
pub fn read(root: &Root, processes: &[Process]) -> Vec<Master> {
    let is_master = |process: &&Process| {
        process.args.first().is_some_and(|title| title.starts_with("php-fpm: master"))
    };
    let read = |master: &Process| {
        let limit = cgroups::tightest(root, &master.cgroup)?;
        let workers = processes.iter().filter(|process| process.ppid == master.tgid);
        let pool = |process: &Process| {
            Some(process.args.first()?.strip_prefix("php-fpm: pool ")?.trim_end().to_owned())
        };
        let mut pools: Vec<String> = workers.filter_map(pool).collect();
        pools.sort();
        pools.dedup();
        Some(Master { tgid: master.tgid, pools, limit })
    };
    processes.iter().filter(is_master).filter_map(read).collect()
}

/// Judges each of them.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let masters = &context.facts.system.masters;
    masters.iter().filter_map(|master| too_tight(context, master, masters.len() == 1)).collect()
}

fn too_tight(context: &Context<'_>, master: &Master, only: bool) -> Option<Finding> {
    let total = context.facts.machine.total_bytes;
    let limit = &master.limit;
    // Where the limit is the memory, the pool is judged against it as against any host's.
    if total > 0 && limit.bytes >= total {
        return None;
    }
    let own = context.budget.demands.iter().filter(|demand| {
        let named =
            |pool: &String| demand.name == *pool || demand.name.ends_with(&format!("/{pool}"));
        demand.subject == Subject::Php && (only || master.pools.iter().any(named))
    });
    let worst = own.filter_map(|demand| demand.worst_bytes).reduce(u64::saturating_add)?;
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
