//! Growth: kmem:rss_stat, which fires whenever a counter of an address space moves.
//!
//! The fast path runs at each page fault: one load, a hash and a compare decide that the counter is
//! still in the same quantum as at the last call. Only when it is not, the owner is looked up
//! and its size compared with its last report.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use tracer_ebpf::kind;

use crate::hook::Args;
use crate::maps::{Drop, room, send_process, settle};
use crate::memcg;
use crate::php;
use crate::read::{ANON_AT, MM_OWNER, QUANTUM_SHIFT, SWAP_AT, TASK_LEADER, at, field, present};
use crate::task;

/// Which quantum each counter was in when last seen, by a hash of its address space and member. A
/// collision costs a look-up, never a report. A plain static: its look-up is one addition.
static mut SEEN: [u64; SEEN_ENTRIES] = [0; SEEN_ENTRIES];
const SEEN_ENTRIES: usize = 4096;

/// Bits of a quantum in an entry of [`SEEN`].
const QUANTA: u64 = 0x003f_ffff;

const MM_ANONPAGES: u32 = 1;
const MM_SWAPENTS: u32 = 2;

#[btf_tracepoint]
fn rss_stat(ctx: BtfTracePointContext) -> i32 {
    let args = Args::new(&ctx);
    if let Some(offset) = counter(args) {
        let mm = args.get(0);
        // The pointer of a BTF tracepoint may be followed directly, which is the cheapest read.
        // SAFETY: the verifier knows the type behind it and checks the constant offset.
        let pages = unsafe { *((mm + u64::from(offset)) as *const u64) };
        // The verifier forbids shifts of a typed pointer; its distance from a fixed address is a
        // number.
        changed(args, mm.wrapping_sub(&raw const MM_OWNER as u64), pages);
    }
    0
}

#[raw_tracepoint]
fn rss_stat_raw(ctx: RawTracePointContext) -> i32 {
    let args = Args::new(&ctx);
    if let Some(offset) = counter(args) {
        let mm = args.get(0);
        if let Ok(pages) = at(mm + u64::from(offset)) {
            changed(args, mm, pages);
        }
    }
    0
}

/// Where in the address space the counter lies that moved. File and shared pages are left to the
/// sweep: growth is judged on anon + swap.
#[inline(always)]
fn counter(args: Args) -> Option<u32> {
    match args.get(1) as u32 {
        MM_ANONPAGES => Some(ANON_AT.load()),
        MM_SWAPENTS => Some(SWAP_AT.load()),
        _ => None,
    }
}

/// `number` tells address spaces apart.
#[inline(always)]
fn changed(args: Args, number: u64, pages: u64) {
    let quantum = pages >> QUANTUM_SHIFT.load();
    // mm_structs lie at least 64 bytes apart, and the upper 16 bits are the same for all.
    let slot = (number >> 6).wrapping_add(args.get(1)) as usize & (SEEN_ENTRIES - 1);
    let word = (number << 16) ^ (quantum & QUANTA);
    // SAFETY: in bounds by the mask; read and written whole, and a race costs one look-up.
    let rose = unsafe {
        let seen = (&raw mut SEEN).cast::<u64>().add(slot);
        let before = *seen;
        if before == word {
            return;
        }
        *seen = word;
        quantum & QUANTA > (before ^ (number << 16)) & QUANTA
    };
    settle(try_step(args.get(0), rose));
}

/// The task to which an address space belongs; None while it is set up (fork, exec) or torn down.
#[inline(always)]
fn owner(mm: u64) -> Result<Option<u64>, Drop> {
    let owner = if present(&MM_OWNER) { field(mm, &MM_OWNER)? } else { task::current() };
    // In fork the new mm is filled while its owner still has no mm and its parent's ids; after
    // exit and exec the old one is emptied with no task behind it.
    if owner == 0 || task::mm(owner)? != mm {
        return Ok(None);
    }
    Ok(Some(owner))
}

/// `rose`: a counter of this address space has just grown, as far as can be told.
#[inline(never)]
fn try_step(mm: u64, rose: bool) -> Result<(), Drop> {
    let Some(owner) = owner(mm)? else { return Ok(()) };
    let tgid = task::tgid(owner)?;
    if task::is_self(tgid) {
        return Ok(());
    }
    let pages = task::pages(mm)?;
    let private = pages[0] + pages[3];
    settle(php::try_sample(owner, mm, private, rose));
    let leader: u64 = field(owner, &TASK_LEADER)?;
    let Some(entry) = task::entry(tgid, task::start_ns(leader)?) else {
        // A process that was there before the tracer, or that the full map had no room for.
        return task::follow(tgid, task::start_ns(leader)?, memcg::of_task(owner)?, private);
    };
    // SAFETY: a map value of this process; two threads that step at once cost one report.
    let (base, step) = unsafe { ((*entry).base_pages, (*entry).step_pages) };
    if private.abs_diff(base) < step {
        return Ok(());
    }
    // Reports lie on a grid of steps: growing from one size to another passes a number of grid
    // lines that does not depend on the way.
    // SAFETY: as above.
    unsafe {
        (*entry).base_pages =
            task::floor(if private < base { private + step - 1 } else { private }, step);
    }
    room(kind::GROWTH)?;
    let memcg = memcg::of_task(owner)?;
    let source = task::Source {
        task: owner,
        mm,
        pages,
        faults: task::faults(owner)?,
        // SAFETY: as above.
        stall_ns: unsafe { (*entry).stall_ns },
        exit_code: 0,
    };
    send_process(kind::GROWTH, &source)?;
    memcg::report_charges(memcg, step)
}
