//! The sweep: a task iterator that writes every process, or every changed one. It finds what was
//! there before the tracer, reports each second what moved by less than a step, and restores the
//! truth after a loss. Its output cannot overflow: it is read straight from the iterator.

use core::ffi::c_void;
use core::mem::{MaybeUninit, size_of};

use aya_ebpf::helpers::generated::bpf_seq_write;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use tracer_ebpf::{ProcessRecord, kind, sweep_mode};

use crate::maps::{Drop, Proc, settle};
use crate::memcg;
use crate::read::{TASK_LEADER, TASK_PID, field};
use crate::task;

/// What the next sweep writes: one of [`sweep_mode`].
#[map]
static CONTROL: Array<u32> = Array::with_max_entries(1, 0);

/// `struct bpf_iter__task`, as the kernel passes it.
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const c_void,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn sweep(ctx: *mut c_void) -> i32 {
    let ctx: *const Context = ctx.cast();
    // SAFETY: the verifier knows the context of an iterator; `task` is null at its end.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task as u64) };
    if task != 0 {
        // SAFETY: as above.
        settle(try_write(unsafe { (*meta).seq }, task));
    }
    0
}

#[inline(always)]
fn try_write(seq: *mut c_void, task: u64) -> Result<(), Drop> {
    let mm = task::mm(task)?;
    let tgid = task::tgid(task)?;
    if mm == 0 || task::is_self(tgid) {
        return Ok(());
    }
    let leader: u64 = field(task, &TASK_LEADER)?;
    // Each process once: by its leader, or, when that has ended before the others, by any thread.
    if tgid != field::<u32>(task, &TASK_PID)? && task::mm(leader)? != 0 {
        return Ok(());
    }
    let pages = task::pages(mm)?;
    let start_ns = task::start_ns(leader)?;
    let faults = task::faults(task)?;
    let data_pages = task::data_pages(mm)?;
    let oom_score_adj = i64::from(task::oom_score_adj(task)?);
    let mut stall_ns = 0;
    let entry = match task::entry(tgid, start_ns) {
        Some(entry) => Some(entry),
        None => {
            settle(task::follow(tgid, start_ns, memcg::of_task(task)?, pages[0] + pages[3]));
            task::entry(tgid, start_ns)
        }
    };
    if let Some(entry) = entry {
        // SAFETY: a map value of this process.
        let known = unsafe { &*entry };
        stall_ns = known.stall_ns;
        let all = CONTROL.get(0).is_some_and(|mode| *mode == sweep_mode::ALL);
        if !all
            && unchanged(known, &pages, &faults)
            && known.swept_data_pages == data_pages
            && known.swept_oom_score_adj == oom_score_adj
        {
            return Ok(());
        }
    }
    let mut record = MaybeUninit::<ProcessRecord>::uninit();
    let source = task::Source { task, mm, pages, faults, stall_ns, exit_code: 0 };
    task::process(kind::SWEEP, &source, record.as_mut_ptr())?;
    // SAFETY: seq is the iterator's own; every byte of the record was written.
    let written = unsafe {
        bpf_seq_write(seq.cast(), record.as_ptr().cast(), size_of::<ProcessRecord>() as u32)
    };
    // Without room the kernel empties the buffer and shows the same task again.
    if written == 0
        && let Some(entry) = entry
    {
        // SAFETY: a map value of this process.
        unsafe {
            (*entry).swept_pages = pages;
            (*entry).swept_faults = faults;
            (*entry).swept_data_pages = data_pages;
            (*entry).swept_oom_score_adj = oom_score_adj;
            (*entry).swept_stall_ns = stall_ns;
            // The tightest limit may have moved.
            if let Ok(memcg) = memcg::of_task(task) {
                (*entry).step_pages = memcg::step_pages(memcg);
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn unchanged(known: &Proc, pages: &[u64; 4], faults: &[u64; 2]) -> bool {
    known.swept_pages[0] == pages[0]
        && known.swept_pages[1] == pages[1]
        && known.swept_pages[2] == pages[2]
        && known.swept_pages[3] == pages[3]
        && known.swept_faults[0] == faults[0]
        && known.swept_faults[1] == faults[1]
        && known.swept_stall_ns == known.stall_ns
}
