//! The maps, all bounded and pre-allocated, and how records leave the kernel.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use tracer_ebpf::{Head, ProcessRecord, drop_reason, kind};

use crate::read::RING_HIGH_WATER;
use crate::task;

/// Records on their way to user space. Full: the record is counted in [`DROPS`] and dropped.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// What is known of each process. Full: sweeps still report it, steps and stalls do not.
#[map]
pub static PROCS: HashMap<u32, Proc> = HashMap::with_max_entries(32_768, 0);

/// Last reported charge of memory cgroups, by address. Full: the one unused for longest is
/// forgotten and reported once more than needed.
#[map]
pub static MEMCGS: LruHashMap<u64, Charge> = LruHashMap::with_max_entries(4096, 0);

/// Threads in reclaim and since when, ns. Full: the oldest stall is not timed.
#[map]
pub static RECLAIM: LruHashMap<u32, u64> = LruHashMap::with_max_entries(8192, 0);

/// Records dropped because the ring was full, by kind, then the other [`drop_reason`]s.
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(drop_reason::COUNT, 0);

/// When the reader was last woken for growth, ns.
#[map]
static LAST_WAKE: Array<u64> = Array::with_max_entries(1, 0);

/// Unread growth is announced at most this often; the reader looks by itself after that time.
const WAKE_INTERVAL_NS: u64 = 20_000_000;

/// One process as the programs know it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Proc {
    /// Start, rounded; another one means that the tgid was reused.
    pub start_ns: u64,
    /// Anon + swap at the last step report, on the grid of steps, pages.
    pub base_pages: u64,
    /// Step, pages.
    pub step_pages: u64,
    /// What the last sweep wrote: anon, file, shmem, swap in pages, then faults.
    pub swept_pages: [u64; 4],
    /// Minor and major faults at the last sweep.
    pub swept_faults: [u64; 2],
    /// Private writable mappings at the last sweep, pages.
    pub swept_data_pages: u64,
    /// oom_score_adj at the last sweep; as wide as the rest, so that there are no gaps.
    pub swept_oom_score_adj: i64,
    /// Stalled in reclaim, ns.
    pub stall_ns: u64,
    /// Stall at the last sweep, ns.
    pub swept_stall_ns: u64,
    /// Part of it that no stall record carried yet, ns.
    pub unreported_stall_ns: u64,
}

/// Last reported charge of a memory cgroup.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Charge {
    /// Pages.
    pub usage_pages: u64,
    /// When, ns.
    pub t_ns: u64,
}

/// Why a measurement or record was given up: its slot in [`DROPS`]. A plain number, since an enum
/// with a payload leaves gaps that verifiers before 5.12 refuse to have copied.
#[derive(Clone, Copy)]
pub struct Drop(u32);

impl Drop {
    /// Reading a kernel struct failed.
    pub const UNREADABLE: Self = Self(drop_reason::UNREADABLE);
    /// The map of processes is full.
    pub const PROCS_FULL: Self = Self(drop_reason::PROCS_FULL);

    /// The ring has no room for a record of this kind.
    pub const fn ring(kind: u32) -> Self {
        Self(kind)
    }
}

/// Counts what was given up.
#[inline(always)]
pub fn settle(result: Result<(), Drop>) {
    if let Err(Drop(slot)) = result {
        count(slot);
    }
}

/// Adds one to a slot of [`DROPS`].
#[inline(always)]
pub fn count(slot: u32) {
    if let Some(cell) = DROPS.get_ptr_mut(slot) {
        // A program can be preempted by another one on the same CPU, so the sum must be atomic to
        // be exact. The BPF target has no atomics in core; this is BPF_XADD.
        // SAFETY: the verifier knows `cell` as a map value of 8 bytes.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({cell} + 0) += {one}",
                cell = in(reg) cell,
                one = in(reg) 1u64,
            );
        }
    }
}

/// First bytes of a record of this kind, made now.
#[inline(always)]
pub fn head(kind: u32) -> Head {
    // SAFETY: helpers without arguments.
    unsafe { Head { kind, cpu: bpf_get_smp_processor_id(), t_ns: bpf_ktime_get_boot_ns() } }
}

/// Sends a record, and wakes the reader at once.
#[inline(always)]
pub fn send<T>(kind: u32, record: &T) -> Result<(), Drop> {
    EVENTS.output::<T>(record, u64::from(BPF_RB_FORCE_WAKEUP)).map_err(|_| Drop::ring(kind))
}

/// Sends a record that may wait for a moment: the reader is woken at most each
/// [`WAKE_INTERVAL_NS`].
#[inline(always)]
pub fn send_lazily<T>(head: &Head, record: &T) -> Result<(), Drop> {
    let mut flags = u64::from(BPF_RB_NO_WAKEUP);
    if let Some(last) = LAST_WAKE.get_ptr_mut(0) {
        // SAFETY: a map value; a race costs one wake-up more or a delay of one interval.
        unsafe {
            if head.t_ns.wrapping_sub(*last) > WAKE_INTERVAL_NS {
                *last = head.t_ns;
                flags = u64::from(BPF_RB_FORCE_WAKEUP);
            }
        }
    }
    EVENTS.output::<T>(record, flags).map_err(|_| Drop::ring(head.kind))
}

/// Makes and sends a record of a process, as [`send_lazily`] does.
#[inline(always)]
pub fn send_process(kind: u32, source: &task::Source) -> Result<(), Drop> {
    let mut record = MaybeUninit::<ProcessRecord>::uninit();
    task::process(kind, source, record.as_mut_ptr())?;
    // SAFETY: every byte was written.
    let record = unsafe { record.assume_init_ref() };
    send_lazily(&record.head, record)
}

/// Refuses growth, stalls and charges when little room is left, for what matters more.
#[inline(always)]
pub fn room(kind: u32) -> Result<(), Drop> {
    const AVAILABLE_DATA: u64 = 0;
    if EVENTS.query(AVAILABLE_DATA) > u64::from(RING_HIGH_WATER.load()) {
        return Err(Drop::ring(kind));
    }
    Ok(())
}

const _: () = assert!(kind::COUNT < drop_reason::COUNT);
