//! Requests of PHP: its own probes request__startup and request__shutdown, each a breakpoint in the
//! program's code. Loaded only where they are asked for.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::kind;

use crate::maps::{Drop, room, send_process, settle};
use crate::task;

#[uprobe]
fn request_begin(_ctx: ProbeContext) -> u32 {
    settle(try_edge(kind::REQUEST_BEGIN));
    0
}

#[uprobe]
fn request_end(_ctx: ProbeContext) -> u32 {
    settle(try_edge(kind::REQUEST_END));
    0
}

/// A breakpoint is met by the process itself, with its own address space.
#[inline(always)]
fn try_edge(kind: u32) -> Result<(), Drop> {
    let task = task::current();
    let mm = task::mm(task)?;
    if mm == 0 {
        return Ok(());
    }
    room(kind)?;
    // Faults and stalls are left to the other reports: reading them too takes a third longer.
    let (pages, faults) = (task::pages(mm)?, [0; 2]);
    send_process(kind, &task::Source { task, mm, pages, faults, stall_ns: 0, exit_code: 0 })
}
