//! PHP: where a process under suspicion grows; and its own probes request__startup and
//! request__shutdown, each a breakpoint in the program's code, loaded only where they are asked for.

use core::mem::offset_of;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated as helpers;
use aya_ebpf::macros::{map, uprobe};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::{PHP_FRAMES, PHP_SUSPECTS, PhpFrame, PhpStackRecord, PhpSuspect, kind};

use crate::maps::{Drop, EVENTS, head, room, send_process, settle};
use crate::read::PAGE_SHIFT;
use crate::task;

/// Whose growth is sampled; user space fills it. Full: the process is not sampled.
#[map]
static SUSPECTS: HashMap<u32, PhpSuspect> = HashMap::with_max_entries(PHP_SUSPECTS, 0);

/// A sample stands for at least this much growth, pages …
const SAMPLE_PAGES: u64 = 64;
/// … and comes not sooner than this after the one before, ns.
const SAMPLE_NS: u64 = 10_000_000;

/// The head of zend_execute_data, which is the same from PHP 7.4 to 8.5.
#[repr(C)]
struct Call {
    opline: u64,
    call: u64,
    return_value: u64,
    function: u64,
    this: [u64; 2],
    previous: u64,
}

/// The address space of `owner` has `private` pages now: says where PHP is, if that is more by a
/// sample, and the process itself has just grown (what frees memory is not what took it).
#[inline(never)]
pub fn try_sample(owner: u64, mm: u64, private: u64, rose: bool) -> Result<(), Drop> {
    let tgid = task::tgid(owner)?;
    let Some(suspect) = SUSPECTS.get_ptr_mut(tgid) else { return Ok(()) };
    // SAFETY: a map value; a race of two threads costs one sample.
    let PhpSuspect { current_at, sampled_pages, sampled_ns } = unsafe { *suspect };
    if private < sampled_pages || sampled_pages == 0 {
        // SAFETY: as above.
        unsafe { (*suspect).sampled_pages = private };
        return Ok(());
    }
    let current = task::current();
    let head = head(kind::PHP_STACK);
    if !rose
        || private - sampled_pages < SAMPLE_PAGES
        || head.t_ns.wrapping_sub(sampled_ns) < SAMPLE_NS
        || task::mm(current)? != mm
    {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe {
        (*suspect).sampled_pages = private;
        (*suspect).sampled_ns = head.t_ns;
    }
    room(kind::PHP_STACK)?;
    let Some(mut entry) = EVENTS.reserve::<PhpStackRecord>(0) else {
        return Err(Drop::ring(kind::PHP_STACK));
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and every field is written.
    let identified = unsafe {
        (&raw mut (*record).head).write(head);
        (&raw mut (*record).private_bytes).write(private << PAGE_SHIFT.load());
        task::identity(owner, &raw mut (*record).task)
    };
    if identified.is_err() {
        entry.discard(0);
        return identified;
    }
    // SAFETY: as above.
    unsafe { walk(current_at, record) };
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    Ok(())
}

/// Follows the calls outwards. What cannot be read ends the walk: PHP's own pages are resident
/// while it runs, or nearly always.
///
/// # Safety
///
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn walk(current_at: u64, record: *mut PhpStackRecord) {
    let mut at = 0_u64;
    let mut depth = 0;
    // SAFETY: by the caller; the helper checks addresses of the process.
    unsafe {
        (&raw mut (*record).frames).write([PhpFrame { opline: 0, function: 0 }; PHP_FRAMES]);
        let mut good = read_user(&raw mut at, current_at);
        while depth < PHP_FRAMES && good && at != 0 {
            let mut call = core::mem::MaybeUninit::<Call>::uninit();
            good = read_user(call.as_mut_ptr(), at);
            let call = call.as_ptr();
            if good {
                let frame = (&raw mut (*record).frames).cast::<PhpFrame>().add(depth);
                (&raw mut (*frame).opline).write((*call).opline);
                (&raw mut (*frame).function).write((*call).function);
                at = (*call).previous;
                depth += 1;
            }
        }
        (&raw mut (*record).depth).write(depth as u32);
        (&raw mut (*record).cut).write(u32::from(at != 0));
    }
}

/// Reads memory of the current process. False = it is not there.
///
/// # Safety
///
/// `to` must be valid for writes.
#[inline(always)]
unsafe fn read_user<T>(to: *mut T, from: u64) -> bool {
    // SAFETY: `to` by the caller; the helper checks `from`.
    unsafe { helpers::bpf_probe_read_user(to.cast(), size_of::<T>() as u32, from as *const _) == 0 }
}

const _: () = assert!(offset_of!(Call, function) == 24 && offset_of!(Call, previous) == 48);

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
