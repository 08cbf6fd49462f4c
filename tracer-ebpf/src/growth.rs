//! Growth: kmem:rss_stat, which fires whenever a counter of an address space moves.
//!
//! The fast path runs at each page fault: two loads, a hash and a compare decide that anon + swap
//! is still in the same quantum as at the last call. Only when it is not, the owner is looked up
//! and its size compared with its last report.

use aya_ebpf::macros::{btf_tracepoint, map, raw_tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use tracer_ebpf::kind;

use crate::hook::Args;
use crate::maps::{Drop, room, send_process, settle};
use crate::memcg;
use crate::read::{
    MM_OWNER, MM_RSS_STAT, QUANTUM_SHIFT, RSS_COUNT, RSS_STRIDE, TASK_LEADER, at, field, present,
};
use crate::task;

/// Which quantum each address space was in when last seen, by a hash of its address. A collision
/// costs a look-up, never a report.
#[map]
static SEEN: Array<u64> = Array::with_max_entries(SEEN_ENTRIES, 0);
const SEEN_ENTRIES: u32 = 4096;

const MM_ANONPAGES: u64 = 1;
const MM_SWAPENTS: u64 = 2;

#[btf_tracepoint]
fn rss_stat(ctx: BtfTracePointContext) -> i32 {
    let args = Args::new(&ctx);
    let mm = args.get(0);
    if concerns(args) {
        // The pointer of a BTF tracepoint may be followed directly, which is the cheapest read.
        // SAFETY: the verifier knows the type behind it and checks the constant offset.
        let count = |member: u64| unsafe { *(address(mm, member) as *const i64) };
        // The verifier forbids shifts of a typed pointer; its distance from a fixed address is a
        // number.
        let number = mm.wrapping_sub(&raw const MM_OWNER as u64);
        changed(mm, number, count(MM_ANONPAGES), count(MM_SWAPENTS));
    }
    0
}

#[raw_tracepoint]
fn rss_stat_raw(ctx: RawTracePointContext) -> i32 {
    let args = Args::new(&ctx);
    let mm = args.get(0);
    if concerns(args)
        && let (Ok(anon), Ok(swap)) = (at(address(mm, MM_ANONPAGES)), at(address(mm, MM_SWAPENTS)))
    {
        changed(mm, mm, anon, swap);
    }
    0
}

/// File and shared pages are left to the sweep: growth is judged on anon + swap.
#[inline(always)]
fn concerns(args: Args) -> bool {
    let member = args.get(1) as u32 as u64;
    member == MM_ANONPAGES || member == MM_SWAPENTS
}

#[inline(always)]
fn address(mm: u64, member: u64) -> u64 {
    mm + u64::from(MM_RSS_STAT.load() + RSS_COUNT.load()) + u64::from(RSS_STRIDE.load()) * member
}

/// `number` tells address spaces apart.
#[inline(always)]
fn changed(mm: u64, number: u64, anon_pages: i64, swap_pages: i64) {
    let quantum = (anon_pages.wrapping_add(swap_pages) as u64) >> QUANTUM_SHIFT.load();
    // mm_structs lie at least 64 bytes apart, and the upper 16 bits are the same for all.
    let slot = (number >> 6) as u32 & (SEEN_ENTRIES - 1);
    let word = (number << 16) ^ (quantum & 0x003f_ffff);
    if let Some(seen) = SEEN.get_ptr_mut(slot) {
        // SAFETY: a map value; it is read and written whole.
        unsafe {
            if *seen == word {
                return;
            }
            *seen = word;
        }
    }
    settle(try_step(mm));
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

#[inline(never)]
fn try_step(mm: u64) -> Result<(), Drop> {
    let Some(owner) = owner(mm)? else { return Ok(()) };
    let tgid = task::tgid(owner)?;
    if task::is_self(tgid) {
        return Ok(());
    }
    let pages = task::pages(mm)?;
    let private = pages[0] + pages[3];
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
