//! Whom the OOM killer would choose now, by the kernel's own rule: oom_badness() and
//! constrained_alloc() of mm/oom_kill.c and mem_cgroup_get_max() of mm/memcontrol.c, which are the
//! same from Linux 5.10 on. A process has a point for each page that is resident or swapped out and
//! for each page of page tables, and for each unit of oom_score_adj a thousandth of the limit.
//!
//! Not known here, and so not heeded: vm.oom_kill_allocating_task, a swappiness of 0 (only told by
//! [`NextVictim::is_certain`]), and processes that are ending without being OOM victims.

use std::sync::Arc;

use super::process::Process;
use super::trend::NOISE_BYTES;
use super::{Model, is_below};
use crate::event::NextVictim;

/// oom_score_adj of those that are never chosen.
const NEVER: i32 = -1000;
/// Page size where the trace does not tell.
const PAGE_BYTES: u64 = 4096;
/// Largest step of growth reports.
const STEP_MAX_BYTES: u64 = 4 << 20;
/// Smallest step, where it goes by the limit.
const STEP_MIN_BYTES: u64 = 256 << 10;

/// A limit as the OOM killer sees it.
struct Place<'a> {
    /// None = the whole host.
    root: Option<&'a str>,
    /// What oom_score_adj is a share of, bytes: with the swap that may be used, and as it is with a
    /// swappiness of 0.
    total_bytes: [u64; 2],
    page_bytes: u64,
    /// By how much two sizes that are known may be apart from the true ones.
    error_bytes: u64,
}

impl Model {
    /// Whom the OOM killer would choose now if this limit were hit: that of a memory cgroup, or
    /// (None) the host. None = nobody can be chosen, no such limit is known, or its OOM killer is
    /// disabled. Walks all processes: for findings and for what is shown, not for each event.
    pub fn next_victim(&self, place: Option<&str>) -> Option<NextVictim> {
        let place = self.place(place)?;
        let [total_bytes, _] = place.total_bytes;
        let chosen = self
            .candidates(&place)
            .max_by_key(|process| (place.points(process, total_bytes), process.key))?;
        let is_ahead = |total_bytes, other| {
            let ahead = place.points(chosen, total_bytes) - place.points(other, total_bytes);
            ahead > pages(place.error_bytes, place.page_bytes)
        };
        let is_certain = self
            .candidates(&place)
            .filter(|other| other.key != chosen.key)
            .all(|other| place.total_bytes.iter().all(|total| is_ahead(*total, other)));
        Some(NextVictim {
            tgid: chosen.key.tgid,
            start_ns: chosen.key.start_ns,
            comm: chosen.comm.clone(),
            pool: chosen.php.as_ref().and_then(|php| php.pool.clone()),
            used_bytes: judged_bytes(chosen),
            oom_score_adj: chosen.memory.oom_score_adj,
            is_certain,
            group: self.group_of(chosen, &place),
        })
    }

    fn place<'a>(&self, root: Option<&'a str>) -> Option<Place<'a>> {
        let host = &self.host;
        let (total_bytes, largest_step_bytes) = match root {
            None => {
                let total = host.mem_total_bytes.saturating_add(host.swap_total_bytes);
                ([total; 2], STEP_MAX_BYTES)
            }
            Some(path) => {
                let cgroup = self.cgroup(path).filter(|cgroup| cgroup.kills())?;
                let max = cgroup.max_bytes?;
                let memsw = cgroup.memsw_max_bytes.map(|memsw| memsw.saturating_sub(max));
                let swap = memsw.or(cgroup.swap_max_bytes).unwrap_or(u64::MAX);
                let with_swap = max.saturating_add(swap.min(host.swap_total_bytes));
                ([with_swap, max], (max / 64).clamp(STEP_MIN_BYTES, STEP_MAX_BYTES))
            }
        };
        // A size moves by less than a step before it is reported, and the counters are inexact;
        // both sizes may be off, in either direction.
        let step_bytes = self.config.step_bytes.unwrap_or(largest_step_bytes);
        (total_bytes[0] > 0).then_some(Place {
            root,
            total_bytes,
            page_bytes: if host.page_bytes > 0 { host.page_bytes } else { PAGE_BYTES },
            error_bytes: step_bytes.saturating_add(NOISE_BYTES).saturating_mul(2),
        })
    }

    fn candidates<'a>(&'a self, place: &'a Place<'_>) -> impl Iterator<Item = &'a Process> {
        self.roster.living().filter(|process| place.may_choose(process))
    }

    /// The highest cgroup up to the limit that dies as a whole, as mem_cgroup_get_oom_group() finds
    /// it.
    fn group_of(&self, process: &Process, place: &Place<'_>) -> Option<Arc<str>> {
        self.tree
            .chain(process.node)
            .map(|node| &node.cgroup)
            .take_while(|cgroup| place.root.is_none_or(|root| is_below(&cgroup.path, root)))
            .filter(|cgroup| cgroup.oom_group)
            .last()
            .map(|cgroup| cgroup.path.clone())
    }
}

impl Place<'_> {
    /// Whether the OOM killer looks at it. Threads of the kernel have no memory, and neither has
    /// one that is not known yet.
    fn may_choose(&self, process: &Process) -> bool {
        process.is_in(self.root)
            && process.key.tgid != 1
            && process.memory.oom_score_adj > NEVER
            && !process.is_killed
            && judged_bytes(process) > 0
    }

    /// oom_badness(), pages.
    fn points(&self, process: &Process, total_bytes: u64) -> i64 {
        let used = pages(judged_bytes(process), self.page_bytes);
        let share = pages(total_bytes, self.page_bytes) / 1000;
        let adj = i64::from(process.memory.oom_score_adj.clamp(NEVER, -NEVER));
        used + adj * share
    }
}

/// What the OOM killer judges a process by before oom_score_adj.
fn judged_bytes(process: &Process) -> u64 {
    let memory = &process.memory;
    [memory.file_bytes, memory.shmem_bytes, memory.page_table_bytes]
        .into_iter()
        .fold(memory.private_bytes(), u64::saturating_add)
}

/// At most 2^54, whatever the trace says of pages: a thousandth of that times oom_score_adj fits.
fn pages(bytes: u64, page_bytes: u64) -> i64 {
    (bytes / page_bytes.max(1024)).cast_signed()
}

#[cfg(test)]
mod tests;
