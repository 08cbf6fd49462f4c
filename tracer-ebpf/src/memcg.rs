//! Memory cgroups: which one a task is in, and what stands in their counters.

use aya_ebpf::maps::LruHashMap;
use tracer_ebpf::{CgroupRecord, MAX_CGROUP_DEPTH, NO_LIMIT, kind};

use crate::maps::{Charge, Drop, MEMCGS, head, room, send_lazily};
use crate::read::{
    CGROUP_KN, COUNTER_HIGH, COUNTER_MAX, COUNTER_PARENT, COUNTER_USAGE, CSS_CGROUP,
    CSS_SET_SUBSYS, KN_ID, MEMCG_EVENTS_LOCAL, MEMCG_MEMORY, MEMCG_OOM_EVENT, MEMCG_SWAP,
    MEMORY_SUBSYS, PAGE_SHIFT, STEP_MAX_PAGES, STEP_MIN_PAGES, STEP_PAGES, TASK_CGROUPS, field,
    present,
};

/// Limits at and above this many pages mean none: v1 says PAGE_COUNTER_MAX = LONG_MAX / page.
const NO_LIMIT_PAGES: u64 = 1 << 50;

/// A charge is repeated at least this often while it moves.
const CHARGE_INTERVAL_NS: u64 = 1_000_000_000;

/// Address of the memory cgroup (its css is its first member) of a task; 0 = none.
#[inline(always)]
pub fn of_task(task: u64) -> Result<u64, Drop> {
    let css_set: u64 = field(task, &TASK_CGROUPS)?;
    field(css_set.wrapping_add(u64::from(MEMORY_SUBSYS.load())), &CSS_SET_SUBSYS)
}

/// Inode number of a memory cgroup.
#[inline(always)]
pub fn id(memcg: u64) -> Result<u64, Drop> {
    let cgroup: u64 = field(memcg, &CSS_CGROUP)?;
    let kn: u64 = field(cgroup, &CGROUP_KN)?;
    field(kn, &KN_ID)
}

/// The next one upwards that is charged for this one too; 0 above the root. By the counters, not by
/// the folders: until 5.10 a v1 cgroup whose parent has no memory.use_hierarchy is charged to itself
/// and the root alone, and limits in between do not bind it.
#[inline(always)]
pub fn parent(memcg: u64) -> Result<u64, Drop> {
    let memory = u64::from(MEMCG_MEMORY.load());
    let counter: u64 = field(memcg.wrapping_add(memory), &COUNTER_PARENT)?;
    Ok(if counter == 0 { 0 } else { counter.wrapping_sub(memory) })
}

/// Pages in a limit field as bytes.
#[inline(always)]
pub fn limit_bytes(pages: u64) -> u64 {
    if pages >= NO_LIMIT_PAGES { NO_LIMIT } else { pages << PAGE_SHIFT.load() }
}

/// Charge in pages and limit in bytes of the memory counter.
#[inline(always)]
pub fn memory(memcg: u64) -> Result<(u64, u64), Drop> {
    let counter = memcg.wrapping_add(u64::from(MEMCG_MEMORY.load()));
    Ok((field(counter, &COUNTER_USAGE)?, limit_bytes(field(counter, &COUNTER_MAX)?)))
}

/// Charge in pages and limit in bytes of the second counter: swap (v2), memory + swap (v1).
#[inline(always)]
pub fn swap(memcg: u64) -> Result<(u64, u64), Drop> {
    let counter = memcg.wrapping_add(u64::from(MEMCG_SWAP.load()));
    Ok((field(counter, &COUNTER_USAGE)?, limit_bytes(field(counter, &COUNTER_MAX)?)))
}

/// Times that this cgroup's own limit called the OOM killer; 0 where the kernel does not tell.
#[inline(always)]
pub fn oom_events(memcg: u64) -> u64 {
    if !present(&MEMCG_EVENTS_LOCAL) {
        return 0;
    }
    let event = memcg.wrapping_add(u64::from(MEMCG_OOM_EVENT.load()));
    field(event, &MEMCG_EVENTS_LOCAL).unwrap_or(0)
}

/// Step of growth reports for a process in this memory cgroup, pages: 1/64 of the tightest limit
/// above it, within bounds, or what was asked for.
#[inline(always)]
pub fn step_pages(memcg: u64) -> u64 {
    if STEP_PAGES.load() != 0 {
        return u64::from(STEP_PAGES.load());
    }
    let mut step = u64::from(STEP_MAX_PAGES.load());
    // From counter to counter, which the verifier walks in fewer steps than by [`parent`].
    let mut counter = memcg.wrapping_add(u64::from(MEMCG_MEMORY.load()));
    for _ in 0..MAX_CGROUP_DEPTH {
        if counter == 0 {
            break;
        }
        let Ok(max_pages) = field::<u64>(counter, &COUNTER_MAX) else { break };
        if max_pages < NO_LIMIT_PAGES {
            let share = max_pages >> 6;
            if share < step {
                step = share;
            }
        }
        let Ok(above) = field(counter, &COUNTER_PARENT) else { break };
        counter = above;
    }
    let least = u64::from(STEP_MIN_PAGES.load());
    if step < least { least } else { step }
}

/// Reports the charge of each limited cgroup from `memcg` upwards that moved by a step.
#[inline(always)]
pub fn report_charges(memcg: u64, step_pages: u64) -> Result<(), Drop> {
    let mut level = memcg;
    for _ in 0..MAX_CGROUP_DEPTH {
        if level == 0 {
            break;
        }
        report_charge(level, step_pages)?;
        level = parent(level)?;
    }
    Ok(())
}

#[inline(always)]
fn report_charge(memcg: u64, step_pages: u64) -> Result<(), Drop> {
    let (usage_pages, max_bytes) = memory(memcg)?;
    if max_bytes == NO_LIMIT {
        return Ok(());
    }
    let head = head(kind::CGROUP);
    if let Some(last) = MEMCGS.get_ptr(memcg) {
        // SAFETY: a map value; entries of an LRU map may be reused, which costs one report.
        let last = unsafe { *last };
        if last.usage_pages.abs_diff(usage_pages) < step_pages
            && head.t_ns.wrapping_sub(last.t_ns) < CHARGE_INTERVAL_NS
        {
            return Ok(());
        }
    }
    room(kind::CGROUP)?;
    remember(&MEMCGS, memcg, Charge { usage_pages, t_ns: head.t_ns });
    let (swap_usage_pages, swap_max_bytes) = swap(memcg)?;
    let counter = memcg.wrapping_add(u64::from(MEMCG_MEMORY.load()));
    let record = CgroupRecord {
        head,
        cgroup_id: id(memcg)?,
        usage_bytes: usage_pages << PAGE_SHIFT.load(),
        max_bytes,
        high_bytes: limit_bytes(field(counter, &COUNTER_HIGH)?),
        swap_usage_bytes: swap_usage_pages << PAGE_SHIFT.load(),
        swap_max_bytes,
        oom_events: oom_events(memcg),
    };
    send_lazily(&record.head, &record)
}

/// Inserts into a map that forgets its oldest entry when full, so that it cannot fail for want of
/// room.
#[inline(always)]
pub fn remember<K, V>(map: &LruHashMap<K, V>, key: K, value: V) {
    let _ = map.insert(key, value, 0);
}
