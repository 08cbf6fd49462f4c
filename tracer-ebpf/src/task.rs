//! What the programs read of a task: identity, memory, faults.

use aya_ebpf::helpers::bpf_get_current_task;
use tracer_ebpf::{Memory, ProcessRecord, START_GRANULE_NS, Task, drop_reason, kind};

use crate::maps::{Drop, PROCS, Proc, count, head};
use crate::memcg;
use crate::read::{
    CRED_UID, MM_DATA, MM_HIWATER_RSS, MM_PAGE_TABLES, MM_RSS_STAT, PAGE_SHIFT, RSS_COUNT,
    RSS_STRIDE, SELF_TGID, SIGNAL_MAJ_FLT, SIGNAL_MAXRSS, SIGNAL_MIN_FLT, SIGNAL_OOM_SCORE_ADJ,
    SIGNAL_THREAD_HEAD, TASK_COMM, TASK_CRED, TASK_LEADER, TASK_MAJ_FLT, TASK_MIN_FLT, TASK_MM,
    TASK_PID, TASK_REAL_PARENT, TASK_SIGNAL, TASK_START, TASK_TGID, TASK_THREAD_NODE, at, field,
    field_into, present,
};

/// MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES: the same since 4.5.
const FILE: u64 = 0;
const ANON: u64 = 1;
const SWAP: u64 = 2;
const SHMEM: u64 = 3;

/// Threads whose faults are summed up at most; more are counted in [`drop_reason::THREADS`].
const MAX_THREADS: usize = 128;

/// The task that runs now.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() }
}

/// Process id of a task.
#[inline(always)]
pub fn tgid(task: u64) -> Result<u32, Drop> {
    field(task, &TASK_TGID)
}

/// Whether this is the tracer.
#[inline(always)]
pub fn is_self(tgid: u32) -> bool {
    tgid == SELF_TGID.load()
}

/// Start of the process of a thread group leader, ns, rounded down as everywhere.
#[inline(always)]
pub fn start_ns(leader: u64) -> Result<u64, Drop> {
    let start: u64 = field(leader, &TASK_START)?;
    Ok(start - start % START_GRANULE_NS)
}

/// Writes the identity of a task. Structs are filled where they stay: a copy of one costs stack,
/// and before 5.12 the verifier refuses to copy what has gaps.
#[inline(always)]
pub fn identity(task: u64, to: *mut Task) -> Result<(), Drop> {
    let leader: u64 = field(task, &TASK_LEADER)?;
    // SAFETY: `to` is a whole Task, as the verifier checks.
    unsafe {
        (*to).tgid = tgid(task)?;
        (*to).tid = field(task, &TASK_PID)?;
        (*to).start_ns = start_ns(leader)?;
        field_into(leader, &TASK_COMM, &raw mut (*to).comm)
    }
}

#[inline(always)]
fn counter_pages(mm: u64, member: u64) -> Result<u64, Drop> {
    let at_counter = mm
        .wrapping_add(u64::from(RSS_STRIDE.load()) * member)
        .wrapping_add(u64::from(RSS_COUNT.load()));
    let pages: i64 = field(at_counter, &MM_RSS_STAT)?;
    // The sum over CPUs that the kernel keeps may be below zero for a moment.
    Ok(if pages < 0 { 0 } else { pages as u64 })
}

/// Pages of an address space: anon, file, shmem, swap.
#[inline(always)]
pub fn pages(mm: u64) -> Result<[u64; 4], Drop> {
    Ok([
        counter_pages(mm, ANON)?,
        counter_pages(mm, FILE)?,
        counter_pages(mm, SHMEM)?,
        counter_pages(mm, SWAP)?,
    ])
}

/// The same in bytes.
#[inline(always)]
pub fn memory(pages: &[u64; 4]) -> Memory {
    let shift = PAGE_SHIFT.load();
    Memory {
        anon_bytes: pages[0] << shift,
        file_bytes: pages[1] << shift,
        shmem_bytes: pages[2] << shift,
        swap_bytes: pages[3] << shift,
    }
}

/// Minor and major faults of a process with one living thread: its own, and those of dead threads,
/// kept in the signal struct.
#[inline(always)]
pub fn faults_of_one(task: u64) -> Result<[u64; 2], Drop> {
    let signal: u64 = field(task, &TASK_SIGNAL)?;
    let minor: u64 = field(signal, &SIGNAL_MIN_FLT)?;
    let major: u64 = field(signal, &SIGNAL_MAJ_FLT)?;
    Ok([
        minor.wrapping_add(field::<u64>(task, &TASK_MIN_FLT)?),
        major.wrapping_add(field::<u64>(task, &TASK_MAJ_FLT)?),
    ])
}

/// The same of up to [`MAX_THREADS`] living threads.
#[inline(always)]
pub fn faults(task: u64) -> Result<[u64; 2], Drop> {
    let signal: u64 = field(task, &TASK_SIGNAL)?;
    let mut minor: u64 = field(signal, &SIGNAL_MIN_FLT)?;
    let mut major: u64 = field(signal, &SIGNAL_MAJ_FLT)?;
    let list = signal.wrapping_add(u64::from(SIGNAL_THREAD_HEAD.load()));
    let mut node: u64 = at(list)?;
    for _ in 0..MAX_THREADS {
        if node == list || node == 0 {
            return Ok([minor, major]);
        }
        let thread = node.wrapping_sub(u64::from(TASK_THREAD_NODE.load()));
        minor = minor.wrapping_add(field::<u64>(thread, &TASK_MIN_FLT)?);
        major = major.wrapping_add(field::<u64>(thread, &TASK_MAJ_FLT)?);
        node = at(node)?;
    }
    count(drop_reason::THREADS);
    Ok([minor, major])
}

/// Highest resident set of a living process, bytes.
#[inline(always)]
fn peak_bytes(mm: u64, signal: u64, pages: &[u64; 4]) -> Result<u64, Drop> {
    let ended: u64 = field(signal, &SIGNAL_MAXRSS)?;
    let mut peak = ended;
    if mm != 0 {
        let highest: u64 = field(mm, &MM_HIWATER_RSS)?;
        let now = pages[0] + pages[1] + pages[2];
        peak = if highest > peak { highest } else { peak };
        peak = if now > peak { now } else { peak };
    }
    Ok(peak << PAGE_SHIFT.load())
}

/// oom_score_adj of a process.
#[inline(always)]
pub fn oom_score_adj(task: u64) -> Result<i32, Drop> {
    let signal: u64 = field(task, &TASK_SIGNAL)?;
    Ok(i32::from(field::<i16>(signal, &SIGNAL_OOM_SCORE_ADJ)?))
}

/// Private writable mappings of an address space, touched or not, pages; 0 = unknown.
#[inline(always)]
pub fn data_pages(mm: u64) -> Result<u64, Drop> {
    if mm != 0 && present(&MM_DATA) { field(mm, &MM_DATA) } else { Ok(0) }
}

/// Page tables of an address space; 0 = unknown.
#[inline(always)]
fn page_table_bytes(mm: u64) -> Result<u64, Drop> {
    if mm != 0 && present(&MM_PAGE_TABLES) { field(mm, &MM_PAGE_TABLES) } else { Ok(0) }
}

/// What a record of a process is made from.
pub struct Source {
    /// Any of its tasks.
    pub task: u64,
    /// Its address space; 0 when it is gone already.
    pub mm: u64,
    /// [`pages`] of it.
    pub pages: [u64; 4],
    /// [`faults`] of it.
    pub faults: [u64; 2],
    /// Time stalled in reclaim, ns.
    pub stall_ns: u64,
    /// Wait status.
    pub exit_code: u32,
}

/// Writes everything about a process.
#[inline(always)]
pub fn process(kind: u32, source: &Source, to: *mut ProcessRecord) -> Result<(), Drop> {
    let task = source.task;
    let leader: u64 = field(task, &TASK_LEADER)?;
    let signal: u64 = field(task, &TASK_SIGNAL)?;
    let parent: u64 = field(leader, &TASK_REAL_PARENT)?;
    let cred: u64 = field(leader, &TASK_CRED)?;
    // A request pays for what is read at its edges, where these are not asked for.
    let mapped_mm = match kind {
        kind::REQUEST_BEGIN | kind::REQUEST_END => 0,
        _ => source.mm,
    };
    // SAFETY: `to` is a whole record, as the verifier checks; each of its bytes is written.
    unsafe {
        (*to).head = head(kind);
        identity(task, &raw mut (*to).task)?;
        (*to).ppid = tgid(parent)?;
        (*to).uid = field(cred, &CRED_UID)?;
        (*to).cgroup_id = memcg::of_task(task).and_then(memcg::id).unwrap_or(0);
        (*to).memory = memory(&source.pages);
        (*to).minor_faults = source.faults[0];
        (*to).major_faults = source.faults[1];
        (*to).stall_ns = source.stall_ns;
        (*to).peak_bytes = peak_bytes(source.mm, signal, &source.pages)?;
        (*to).exit_code = source.exit_code;
        (*to).oom_score_adj = oom_score_adj(task)?;
        (*to).page_table_bytes = page_table_bytes(mapped_mm)?;
        (*to).data_bytes = data_pages(mapped_mm)? << PAGE_SHIFT.load();
    }
    Ok(())
}

/// Address space of a task; 0 = none (a kernel thread, or already given up).
#[inline(always)]
pub fn mm(task: u64) -> Result<u64, Drop> {
    field(task, &TASK_MM)
}

/// Largest multiple of `step` not above `pages`.
#[inline(always)]
pub fn floor(pages: u64, step: u64) -> u64 {
    if step == 0 { pages } else { pages - pages % step }
}

/// Begins to follow a process from its size now; a tgid in the map that was reused starts anew.
#[inline(always)]
pub fn follow(tgid: u32, start_ns: u64, memcg: u64, private_pages: u64) -> Result<(), Drop> {
    let step_pages = memcg::step_pages(memcg);
    // After exec it is the same process still.
    // SAFETY: a map value of this type.
    let stall_ns = entry(tgid, start_ns).map_or(0, |entry| unsafe { (*entry).stall_ns });
    let entry = Proc {
        start_ns,
        base_pages: floor(private_pages, step_pages),
        step_pages,
        // No size is this large: the next sweep writes it.
        swept_pages: [u64::MAX; 4],
        swept_faults: [0; 2],
        swept_data_pages: 0,
        swept_oom_score_adj: 0,
        stall_ns,
        swept_stall_ns: 0,
        unreported_stall_ns: 0,
    };
    PROCS.insert(tgid, entry, 0).map_err(|_| Drop::PROCS_FULL)
}

/// The entry of a living process, if it is still the same process.
#[inline(always)]
pub fn entry(tgid: u32, start_ns: u64) -> Option<*mut Proc> {
    let entry = PROCS.get_ptr_mut(tgid)?;
    // SAFETY: a map value of this type.
    if unsafe { (*entry).start_ns } == start_ns { Some(entry) } else { None }
}
