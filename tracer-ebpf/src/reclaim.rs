//! Time that processes lose in reclaim: vmscan's direct and memcg reclaim, begin to end.

use core::mem::MaybeUninit;

use tracer_ebpf::{StallRecord, kind, stall};

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;

use crate::hook::Args;
use crate::maps::{Drop, RECLAIM, head, room, send_lazily};
use crate::memcg::{self, remember};
use crate::read::{TASK_LEADER, TASK_PID, field};
use crate::task;
use crate::tracepoint;

tracepoint!(direct_begin, direct_begin_raw, try_begin);
tracepoint!(direct_end, direct_end_raw, try_direct_end);
tracepoint!(memcg_begin, memcg_begin_raw, try_begin);
tracepoint!(memcg_end, memcg_end_raw, try_memcg_end);

/// Shorter stalls are summed up until they reach this.
const REPORT_NS: u64 = 10_000_000;

#[inline(always)]
fn try_begin(_args: Args) -> Result<(), Drop> {
    let tid: u32 = field(task::current(), &TASK_PID)?;
    // SAFETY: a helper without arguments.
    remember(&RECLAIM, tid, unsafe { bpf_ktime_get_boot_ns() });
    Ok(())
}

#[inline(always)]
fn try_direct_end(_args: Args) -> Result<(), Drop> {
    try_end(stall::DIRECT)
}

#[inline(always)]
fn try_memcg_end(_args: Args) -> Result<(), Drop> {
    try_end(stall::MEMCG)
}

#[inline(always)]
fn try_end(stall_kind: u32) -> Result<(), Drop> {
    let current = task::current();
    let tid: u32 = field(current, &TASK_PID)?;
    let Some(since) = RECLAIM.get_ptr(tid) else { return Ok(()) };
    let head = head(kind::STALL);
    // SAFETY: a map value of 8 bytes.
    let stalled_ns = head.t_ns.saturating_sub(unsafe { *since });
    let _ = RECLAIM.remove(tid);
    let leader: u64 = field(current, &TASK_LEADER)?;
    let Some(entry) = task::entry(task::tgid(current)?, task::start_ns(leader)?) else {
        return Ok(());
    };
    // SAFETY: a map value of this process; threads that end at once may lose one of their sums.
    let duration_ns = unsafe {
        (*entry).stall_ns += stalled_ns;
        (*entry).unreported_stall_ns += stalled_ns;
        (*entry).unreported_stall_ns
    };
    if duration_ns < REPORT_NS {
        return Ok(());
    }
    room(kind::STALL)?;
    // SAFETY: as above.
    unsafe { (*entry).unreported_stall_ns = 0 };
    let mut record = MaybeUninit::<StallRecord>::uninit();
    let to = record.as_mut_ptr();
    // SAFETY: every byte is written.
    unsafe {
        (*to).head = head;
        task::identity(current, &raw mut (*to).task)?;
        (*to).cgroup_id = memcg::of_task(current).and_then(memcg::id).unwrap_or(0);
        (*to).duration_ns = duration_ns;
        (*to).kind = stall_kind;
        (*to).pad = 0;
        send_lazily(&head, record.assume_init_ref())
    }
}
