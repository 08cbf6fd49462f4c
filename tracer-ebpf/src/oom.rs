//! The OOM killer: oom:mark_victim, and oom_kill_process where it can be hooked.
//!
//! At the mark `current` is the task whose allocation failed. The mark names a thread; the cgroup
//! whose limit was hit is not named at all: it is read from `oom_control` where oom_kill_process
//! can be hooked, and else left to user space, which gets the counters from the victim's cgroup
//! upwards.

use aya_ebpf::macros::{fentry, kprobe, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{FEntryContext, ProbeContext};
use aya_log_ebpf::debug;
use tracer_ebpf::{MAX_CGROUP_DEPTH, OomLevel, OomRecord, kind, scope};

use crate::hook::Args;
use crate::maps::{Drop, head, send, settle};
use crate::memcg;
use crate::read::{
    MEMCG_OOM_GROUP, OC_CONSTRAINT, OC_MEMCG, PAGE_SHIFT, SIGNAL_OOM_SCORE_ADJ, TASK_PID,
    TASK_SIGNAL, field, present,
};
use crate::{signals, task, tracepoint};

tracepoint!(mark_victim, mark_victim_raw, try_mark_task);
tracepoint!(mark_victim_tid, mark_victim_tid_raw, try_mark_tid);

/// Where a record is put together: too large for the stack; the OOM killer runs one at a time,
/// under the kernel's oom_lock.
#[map]
static OOM: Array<OomRecord> = Array::with_max_entries(1, 0);

/// What the last call of oom_kill_process was about.
#[map]
static INVOCATION: Array<Invocation> = Array::with_max_entries(1, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Invocation {
    number: u64,
    trigger_tid: u64,
    scope: u64,
    cgroup_id: u64,
}

/// `enum oom_constraint`.
const CONSTRAINT_CPUSET: u32 = 1;
const CONSTRAINT_MEMORY_POLICY: u32 = 2;
const CONSTRAINT_MEMCG: u32 = 3;

#[fentry]
fn oom_kill(ctx: FEntryContext) -> i32 {
    settle(try_invocation(Args::new(&ctx).get(0)));
    0
}

#[kprobe]
fn oom_kill_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(control) = ctx.arg::<u64>(0) {
        settle(try_invocation(control));
    }
    0
}

#[inline(always)]
fn try_invocation(control: u64) -> Result<(), Drop> {
    let Some(invocation) = INVOCATION.get_ptr_mut(0) else { return Ok(()) };
    let memcg: u64 = field(control, &OC_MEMCG)?;
    let constraint: u32 = field(control, &OC_CONSTRAINT)?;
    let (scope, cgroup_id) = match constraint {
        CONSTRAINT_MEMCG if memcg != 0 => (scope::MEMCG, memcg::id(memcg)?),
        CONSTRAINT_CPUSET | CONSTRAINT_MEMORY_POLICY => (scope::CPUSET, 0),
        _ => (scope::HOST, 0),
    };
    let trigger_tid: u32 = field(task::current(), &TASK_PID)?;
    // SAFETY: a map value; the OOM killer runs one at a time.
    unsafe {
        *invocation = Invocation {
            number: (*invocation).number + 1,
            trigger_tid: u64::from(trigger_tid),
            scope: u64::from(scope),
            cgroup_id,
        };
    }
    Ok(())
}

#[inline(always)]
fn try_mark_task(args: Args) -> Result<(), Drop> {
    mark(args, args.get(0))
}

#[inline(always)]
fn try_mark_tid(args: Args) -> Result<(), Drop> {
    let tid = args.get(0) as u32;
    let current = task::current();
    match signals::last_killed(tid) {
        Some(victim) => mark(args, victim),
        // A task that marks itself because it is ending anyway.
        None if field::<u32>(current, &TASK_PID)? == tid => mark(args, current),
        None => Err(Drop::UNREADABLE),
    }
}

#[inline(always)]
fn mark(args: Args, victim: u64) -> Result<(), Drop> {
    let Some(record) = OOM.get_ptr_mut(0) else { return Ok(()) };
    let current = task::current();
    let mm = task::mm(victim)?;
    let pages = if mm == 0 { [0; 4] } else { task::pages(mm)? };
    let signal: u64 = field(victim, &TASK_SIGNAL)?;
    let victim_memcg = memcg::of_task(victim)?;
    let trigger_memcg = memcg::of_task(current)?;
    let trigger_tid: u32 = field(current, &TASK_PID)?;
    // SAFETY: a map value of this type; the OOM killer runs one at a time.
    unsafe {
        (*record).head = head(kind::OOM);
        task::identity(victim, &raw mut (*record).victim)?;
        task::identity(current, &raw mut (*record).trigger)?;
        (*record).memory = task::memory(&pages);
        (*record).victim_cgroup_id = if victim_memcg == 0 { 0 } else { memcg::id(victim_memcg)? };
        (*record).trigger_cgroup_id =
            if trigger_memcg == 0 { 0 } else { memcg::id(trigger_memcg)? };
        (*record).oom_score_adj = i32::from(field::<i16>(signal, &SIGNAL_OOM_SCORE_ADJ)?);
        (*record).scope = scope::WALK;
        (*record).scope_cgroup_id = 0;
        (*record).invocation = 0;
        if let Some(last) = INVOCATION.get(0)
            && last.number != 0
            && last.trigger_tid == u64::from(trigger_tid)
        {
            (*record).scope = last.scope as u32;
            (*record).scope_cgroup_id = last.cgroup_id;
            (*record).invocation = last.number;
        }
        walk(&mut (*record).levels, victim_memcg, trigger_memcg)?;
        debug!(
            &args,
            "marked tid {} of {}, {} anon pages, cgroup {}; trigger {}",
            (*record).victim.tid,
            (*record).victim.tgid,
            pages[0],
            (*record).victim_cgroup_id,
            trigger_tid
        );
        send(kind::OOM, &*record)
    }
}

/// The hierarchy from the victim upwards.
#[inline(always)]
fn walk(
    levels: &mut [OomLevel; MAX_CGROUP_DEPTH],
    victim_memcg: u64,
    trigger_memcg: u64,
) -> Result<(), Drop> {
    let mut above_trigger = [0u64; MAX_CGROUP_DEPTH];
    let mut memcg = trigger_memcg;
    for slot in &mut above_trigger {
        if memcg == 0 {
            break;
        }
        *slot = memcg;
        memcg = memcg::parent(memcg).unwrap_or(0);
    }
    let mut memcg = victim_memcg;
    for level in levels.iter_mut() {
        if memcg == 0 {
            level.cgroup_id = 0;
            continue;
        }
        let (usage_pages, max_bytes) = memcg::memory(memcg)?;
        let (swap_pages, swap_max_bytes) = memcg::swap(memcg)?;
        let mut common = 0;
        for above in &above_trigger {
            if *above == memcg {
                common = 1;
            }
        }
        let group: u8 = if present(&MEMCG_OOM_GROUP) { field(memcg, &MEMCG_OOM_GROUP)? } else { 0 };
        *level = OomLevel {
            cgroup_id: memcg::id(memcg)?,
            usage_bytes: usage_pages << PAGE_SHIFT.load(),
            max_bytes,
            swap_usage_bytes: swap_pages << PAGE_SHIFT.load(),
            swap_max_bytes,
            common,
            oom_group: u32::from(group & 1),
            oom_events: memcg::oom_events(memcg),
        };
        memcg = memcg::parent(memcg)?;
    }
    Ok(())
}
