//! Births and deaths: sched_process_fork, _exec and _exit.

use aya_log_ebpf::debug;
use tracer_ebpf::kind;

use crate::hook::Args;
use crate::maps::{Drop, PROCS, send_process};
use crate::memcg;
use crate::read::{
    EXIT_HAS_GROUP_DEAD, SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE, SIGNAL_LIVE, TASK_EXIT_CODE,
    TASK_LEADER, TASK_PID, TASK_SIGNAL, field,
};
use crate::task;
use crate::tracepoint;

tracepoint!(process_fork, process_fork_raw, try_fork);
tracepoint!(process_exec, process_exec_raw, try_exec);
tracepoint!(process_exit, process_exit_raw, try_exit);

/// The process was ended as a whole (exit_group or a fatal signal): its code is the group's.
const SIGNAL_GROUP_EXIT: u32 = 0x4;

#[inline(always)]
fn try_fork(args: Args) -> Result<(), Drop> {
    let child = args.get(1);
    let tgid = task::tgid(child)?;
    let tid: u32 = field(child, &TASK_PID)?;
    let mm = task::mm(child)?;
    if tgid != tid || mm == 0 {
        return Ok(());
    }
    born(args, kind::FORK, child, mm)
}

#[inline(always)]
fn try_exec(args: Args) -> Result<(), Drop> {
    let task = args.get(0);
    born(args, kind::EXEC, task, task::mm(task)?)
}

/// A new process, or an old one with a new address space: it is followed from its size now.
#[inline(always)]
fn born(args: Args, kind: u32, task: u64, mm: u64) -> Result<(), Drop> {
    let tgid = task::tgid(task)?;
    if task::is_self(tgid) {
        return Ok(());
    }
    let pages = task::pages(mm)?;
    let leader: u64 = field(task, &TASK_LEADER)?;
    let start_ns = task::start_ns(leader)?;
    let followed = task::follow(tgid, start_ns, memcg::of_task(task)?, pages[0] + pages[3]);
    debug!(&args, "follow {} from {} anon pages", tgid, pages[0]);
    let faults = task::faults_of_one(task)?;
    send_process(kind, &task::Source { task, mm, pages, faults, stall_ns: 0, exit_code: 0 })?;
    followed
}

#[inline(always)]
fn try_exit(args: Args) -> Result<(), Drop> {
    let task = args.get(0);
    let signal: u64 = field(task, &TASK_SIGNAL)?;
    let group_dead = if EXIT_HAS_GROUP_DEAD.load() != 0 {
        args.get(1) as u8 != 0
    } else {
        field::<i32>(signal, &SIGNAL_LIVE)? == 0
    };
    let tgid = task::tgid(task)?;
    if !group_dead || task::is_self(tgid) {
        return Ok(());
    }
    // Before 6.16 two threads that end at the same moment both look like the last one; whoever
    // removes the entry is.
    let entry = PROCS.get_ptr(tgid);
    let known = entry.is_some();
    // SAFETY: a map value of this type.
    let stall_ns = entry.map_or(0, |entry| unsafe { (*entry).stall_ns });
    let removed = PROCS.remove(tgid).is_ok();
    if known && !removed {
        return Ok(());
    }
    // Before 6.16 the address space is gone by now; the peak is not.
    let mm = task::mm(task)?;
    let pages = if mm == 0 { [0; 4] } else { task::pages(mm)? };
    let flags: u32 = field(signal, &SIGNAL_FLAGS)?;
    let exit_code = if flags & SIGNAL_GROUP_EXIT != 0 {
        field(signal, &SIGNAL_GROUP_EXIT_CODE)?
    } else {
        let leader: u64 = field(task, &TASK_LEADER)?;
        field(leader, &TASK_EXIT_CODE)?
    };
    let faults = task::faults_of_one(task)?;
    send_process(kind::EXIT, &task::Source { task, mm, pages, faults, stall_ns, exit_code })
}
