//! Who kills: signal:signal_generate for SIGKILL and SIGTERM.

use core::mem::MaybeUninit;

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use tracer_ebpf::{SignalRecord, kind};

use crate::hook::Args;
use crate::maps::{Drop, head, send};
use crate::read::{TASK_PID, field};
use crate::task;
use crate::tracepoint;

tracepoint!(signal_generate, signal_generate_raw, try_signal);

const SIGKILL: u64 = 9;
const SIGTERM: u64 = 15;

/// `info` of a signal that the kernel sends on its own account.
const SEND_SIG_PRIV: u64 = 1;

/// The task that the kernel itself sent SIGKILL last: where oom:mark_victim carries a thread id
/// only, this is the task behind it.
#[map]
static LAST_KILL: Array<Kill> = Array::with_max_entries(1, 0);

/// A task and its thread id.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Kill {
    task: u64,
    tid: u64,
}

/// The last task that the kernel killed, if it is this thread.
#[inline(always)]
pub fn last_killed(tid: u32) -> Option<u64> {
    let kill = LAST_KILL.get(0)?;
    if kill.tid == u64::from(tid) { Some(kill.task) } else { None }
}

#[inline(always)]
fn try_signal(args: Args) -> Result<(), Drop> {
    let signal = args.get(0) as u32 as u64;
    if signal != SIGKILL && signal != SIGTERM {
        return Ok(());
    }
    let target = args.get(2);
    let from_kernel = args.get(1) == SEND_SIG_PRIV;
    if signal == SIGKILL
        && from_kernel
        && let Some(kill) = LAST_KILL.get_ptr_mut(0)
    {
        // SAFETY: a map value; the OOM killer holds its lock from here to the mark.
        unsafe { *kill = Kill { task: target, tid: u64::from(field::<u32>(target, &TASK_PID)?) } };
    }
    let mut record = MaybeUninit::<SignalRecord>::uninit();
    let to = record.as_mut_ptr();
    // SAFETY: every byte is written.
    unsafe {
        (*to).head = head(kind::SIGNAL);
        task::identity(task::current(), &raw mut (*to).sender)?;
        task::identity(target, &raw mut (*to).target)?;
        (*to).signal = signal as u32;
        (*to).from_kernel = u32::from(from_kernel);
        send(kind::SIGNAL, record.assume_init_ref())
    }
}
