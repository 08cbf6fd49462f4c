//! The ABI between the kernel programs and user space: the records in the ring buffer and in the
//! output of the task iterator, and the constants that both sides must agree on.
//!
//! Every record starts with a [`Head`] whose `kind` selects the struct. All quantities carry their
//! unit in the name; times are CLOCK_BOOTTIME nanoseconds. Decoding (kind and length checks) is the
//! reader's job; nothing here may depend on pointer width, padding or `bool`.
#![no_std]

pub mod offsets;

use core::mem::{offset_of, size_of};

/// What a record is; the first field of every [`Head`].
pub mod kind {
    /// [`super::ProcessRecord`]: anon + swap moved by a step.
    pub const GROWTH: u32 = 1;
    /// [`super::ProcessRecord`]: one process as the task iterator found it.
    pub const SWEEP: u32 = 2;
    /// [`super::ProcessRecord`]: a new process (not a thread).
    pub const FORK: u32 = 3;
    /// [`super::ProcessRecord`]: the process runs another program now.
    pub const EXEC: u32 = 4;
    /// [`super::ProcessRecord`]: the last thread is gone.
    pub const EXIT: u32 = 5;
    /// [`super::OomRecord`]: the OOM killer marked one thread.
    pub const OOM: u32 = 6;
    /// [`super::SignalRecord`]: SIGKILL or SIGTERM was sent.
    pub const SIGNAL: u32 = 7;
    /// [`super::StallRecord`]: time spent in direct or memcg reclaim.
    pub const STALL: u32 = 8;
    /// [`super::CgroupRecord`]: charge and limits of one memory cgroup.
    pub const CGROUP: u32 = 9;
    /// [`super::CgroupPathRecord`]: a memory cgroup was made, removed or renamed.
    pub const CGROUP_PATH: u32 = 10;
    /// [`super::CgroupPathRecord`]: a process moved to another memory cgroup.
    pub const CGROUP_MOVE: u32 = 11;
    /// [`super::ProcessRecord`]: its PHP begins a request.
    pub const REQUEST_BEGIN: u32 = 12;
    /// [`super::ProcessRecord`]: its PHP has ended a request, and given back what it took for it.
    pub const REQUEST_END: u32 = 13;
    /// [`super::PhpStackRecord`]: a PHP process that is under suspicion grew.
    pub const PHP_STACK: u32 = 14;
    /// One more than the largest kind; the size of the per-kind counters.
    pub const COUNT: u32 = 15;
}

/// Why a record was not delivered, or a measurement not made: index into the per-CPU `DROPS` map
/// after the [`kind::COUNT`] slots that count records dropped because the ring buffer was full.
pub mod drop_reason {
    use super::kind;
    /// The `PROCS` map is full: the process is reported by sweeps only, without step reports.
    pub const PROCS_FULL: u32 = kind::COUNT;
    /// Reading a kernel struct failed: the record was not made.
    pub const UNREADABLE: u32 = kind::COUNT + 1;
    /// A process has more threads than the bounded walk visits: its fault counts are too low.
    pub const THREADS: u32 = kind::COUNT + 2;
    /// Number of slots in the `DROPS` map.
    pub const COUNT: u32 = kind::COUNT + 3;
}

/// Most levels of the memory cgroup hierarchy that the kernel programs walk upwards.
pub const MAX_CGROUP_DEPTH: usize = 8;
/// Frames of a PHP stack that a record carries.
pub const PHP_FRAMES: usize = 16;
/// PHP processes whose growth is sampled at a time.
pub const PHP_SUSPECTS: u32 = 64;
/// Longest cgroup path that a record carries, with its NUL.
pub const PATH_BYTES: usize = 256;
/// `max_bytes` of a cgroup without a limit.
pub const NO_LIMIT: u64 = u64::MAX;
/// Nanoseconds to which a process's start time is rounded down, so that /proc (ticks of 10 ms) and
/// BPF name the same process by the same number.
pub const START_GRANULE_NS: u64 = 10_000_000;

/// First bytes of each record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// One of [`kind`].
    pub kind: u32,
    /// CPU on which the record was made.
    pub cpu: u32,
    /// CLOCK_BOOTTIME, ns.
    pub t_ns: u64,
}

/// Identity of a task: the process and the thread that was seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Thread group (process) id in the initial pid namespace; 0 = unknown.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Start of the thread group leader, CLOCK_BOOTTIME ns, rounded down to [`START_GRANULE_NS`].
    pub start_ns: u64,
    /// Name of the thread group leader, NUL padded; any bytes.
    pub comm: [u8; 16],
}

/// Memory of one address space in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// MM_ANONPAGES.
    pub anon_bytes: u64,
    /// MM_FILEPAGES.
    pub file_bytes: u64,
    /// MM_SHMEMPAGES.
    pub shmem_bytes: u64,
    /// MM_SWAPENTS.
    pub swap_bytes: u64,
}

/// Growth, sweep, fork, exec and exit of a process, and the edges of its PHP requests.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// `kind` is GROWTH, SWEEP, FORK, EXEC, EXIT, REQUEST_BEGIN or REQUEST_END.
    pub head: Head,
    /// The process.
    pub task: Task,
    /// Parent's tgid.
    pub ppid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Id (inode number) of its memory cgroup; 0 = unknown.
    pub cgroup_id: u64,
    /// Its memory now; at EXIT what it had when its last thread ended, if that can still be read.
    pub memory: Memory,
    /// Minor faults of all its threads, dead ones included; 0 at the edges of requests.
    pub minor_faults: u64,
    /// Major faults, likewise.
    pub major_faults: u64,
    /// Time its threads were stalled in reclaim, ns, since the tracer knows it; 0 at the edges of
    /// requests.
    pub stall_ns: u64,
    /// Highest resident set (anon + file + shmem) so far, bytes; 0 = unknown.
    pub peak_bytes: u64,
    /// EXIT: wait status (exit code << 8 | signal).
    pub exit_code: u32,
    /// oom_score_adj.
    pub oom_score_adj: i32,
    /// Page tables; 0 = unknown, as at the edges of requests.
    pub page_table_bytes: u64,
    /// Private writable mappings, touched or not (VmData); 0 = unknown, likewise.
    pub data_bytes: u64,
}

/// One level of the walk from the victim's memory cgroup to the root.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomLevel {
    /// Id (inode number) of the cgroup; 0 ends the list.
    pub cgroup_id: u64,
    /// Charge, bytes.
    pub usage_bytes: u64,
    /// Limit, bytes; [`NO_LIMIT`] = none.
    pub max_bytes: u64,
    /// Charge of the second counter, bytes: swap (v2) or memory + swap (v1).
    pub swap_usage_bytes: u64,
    /// Limit of the second counter, bytes; [`NO_LIMIT`] = none.
    pub swap_max_bytes: u64,
    /// 1 = also an ancestor of (or the same as) the trigger's cgroup.
    pub common: u32,
    /// 1 = memory.oom.group is set here.
    pub oom_group: u32,
    /// Times that this cgroup's own limit called the OOM killer; 0 = not known.
    pub oom_events: u64,
}

/// How the scope in an [`OomRecord`] was found.
pub mod scope {
    /// By the walk only: user space decides from the levels.
    pub const WALK: u32 = 0;
    /// From `oom_control`: a memory cgroup, `scope_cgroup_id`.
    pub const MEMCG: u32 = 1;
    /// From `oom_control`: the whole host.
    pub const HOST: u32 = 2;
    /// From `oom_control`: a cpuset or memory policy.
    pub const CPUSET: u32 = 3;
}

/// The OOM killer marked one thread as victim.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomRecord {
    /// `kind` is OOM.
    pub head: Head,
    /// The marked thread and its process.
    pub victim: Task,
    /// The task whose allocation failed (`current`).
    pub trigger: Task,
    /// The victim's memory at the kill.
    pub memory: Memory,
    /// The victim's memory cgroup.
    pub victim_cgroup_id: u64,
    /// The trigger's memory cgroup.
    pub trigger_cgroup_id: u64,
    /// oom_score_adj of the victim.
    pub oom_score_adj: i32,
    /// One of [`scope`].
    pub scope: u32,
    /// The cgroup whose limit was hit, when `scope` is MEMCG.
    pub scope_cgroup_id: u64,
    /// Number of the OOM invocation, where oom_kill_process could be hooked; 0 = unknown.
    pub invocation: u64,
    /// From the victim's cgroup upwards.
    pub levels: [OomLevel; MAX_CGROUP_DEPTH],
}

/// A call on a PHP stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhpFrame {
    /// Address of the instruction that runs, or that made the next call (`opline`).
    pub opline: u64,
    /// Address of the function (`func`).
    pub function: u64,
}

/// Where PHP was when a process under suspicion grew, as addresses in that process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhpStackRecord {
    /// `kind` is PHP_STACK.
    pub head: Head,
    /// The process.
    pub task: Task,
    /// Its anon + swap now, bytes.
    pub private_bytes: u64,
    /// Frames that were read.
    pub depth: u32,
    /// 1 = there are more, or the next one could not be read.
    pub cut: u32,
    /// Innermost first.
    pub frames: [PhpFrame; PHP_FRAMES],
}

/// A PHP process whose growth is sampled: the value of the `SUSPECTS` map, whose key is the tgid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhpSuspect {
    /// Address of `executor_globals.current_execute_data` in the process.
    pub current_at: u64,
    /// Anon + swap at the last sample, pages; 0 = none yet.
    pub sampled_pages: u64,
    /// When that was, ns.
    pub sampled_ns: u64,
}

/// SIGKILL or SIGTERM was generated.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalRecord {
    /// `kind` is SIGNAL.
    pub head: Head,
    /// `current` when the signal was made.
    pub sender: Task,
    /// Receiver.
    pub target: Task,
    /// 9 or 15.
    pub signal: u32,
    /// 1 = sent by the kernel itself (SEND_SIG_PRIV), not by the sender's own will.
    pub from_kernel: u32,
}

/// Kinds of stall.
pub mod stall {
    /// Direct reclaim: the host (a zone) is short.
    pub const DIRECT: u32 = 1;
    /// Reclaim for a memory cgroup's limit.
    pub const MEMCG: u32 = 2;
}

/// A process was stalled in reclaim; short stalls are summed up before they are reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StallRecord {
    /// `kind` is STALL.
    pub head: Head,
    /// The stalled process.
    pub task: Task,
    /// Its memory cgroup.
    pub cgroup_id: u64,
    /// Time since the last stall record of this process, ns.
    pub duration_ns: u64,
    /// One of [`stall`]: the kind of the last stall.
    pub kind: u32,
    /// Zero.
    pub pad: u32,
}

/// Charge and limits of one memory cgroup, sent with growth when they moved by a step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupRecord {
    /// `kind` is CGROUP.
    pub head: Head,
    /// Id (inode number).
    pub cgroup_id: u64,
    /// Charge, bytes.
    pub usage_bytes: u64,
    /// memory.max or limit_in_bytes; [`NO_LIMIT`] = none.
    pub max_bytes: u64,
    /// memory.high; [`NO_LIMIT`] = none.
    pub high_bytes: u64,
    /// Charge of swap (v2) or memory + swap (v1), bytes.
    pub swap_usage_bytes: u64,
    /// Limit of swap (v2) or memory + swap (v1); [`NO_LIMIT`] = none.
    pub swap_max_bytes: u64,
    /// Times that this cgroup's own limit called the OOM killer; 0 = not known.
    pub oom_events: u64,
}

/// What happened to a cgroup path.
pub mod path_op {
    /// cgroup_mkdir.
    pub const MKDIR: u32 = 1;
    /// cgroup_rmdir.
    pub const RMDIR: u32 = 2;
    /// cgroup_attach_task: `task` moved to `cgroup_id`.
    pub const ATTACH: u32 = 3;
}

/// A memory cgroup was made or removed, or a process moved to one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupPathRecord {
    /// `kind` is CGROUP_PATH or CGROUP_MOVE.
    pub head: Head,
    /// The process that moved; zero for CGROUP_PATH.
    pub task: Task,
    /// Id (inode number) of the cgroup.
    pub cgroup_id: u64,
    /// One of [`path_op`].
    pub op: u32,
    /// Bytes of `path` in use, without NUL.
    pub path_len: u32,
    /// Path from the root of the hierarchy, cut to [`PATH_BYTES`] - 1; any bytes.
    pub path: [u8; PATH_BYTES],
}

/// Values of the `CONTROL` map's only entry: what the next run of the task iterator writes.
pub mod sweep_mode {
    /// Only processes that changed since they were last written by a sweep.
    pub const CHANGED: u32 = 0;
    /// All processes.
    pub const ALL: u32 = 1;
}

const _: () = {
    assert!(size_of::<Head>() == 16);
    assert!(size_of::<Task>() == 32);
    assert!(size_of::<Memory>() == 32);
    assert!(size_of::<ProcessRecord>() == 152);
    assert!(offset_of!(ProcessRecord, memory) == 64);
    assert!(size_of::<OomLevel>() == 56);
    assert!(size_of::<OomRecord>() == 16 + 64 + 32 + 40 + 56 * MAX_CGROUP_DEPTH);
    assert!(size_of::<PhpStackRecord>() == 64 + 16 * PHP_FRAMES);
    assert!(size_of::<PhpSuspect>() == 24);
    assert!(size_of::<SignalRecord>() == 88);
    assert!(size_of::<StallRecord>() == 72);
    assert!(size_of::<CgroupRecord>() == 72);
    assert!(size_of::<CgroupPathRecord>() == 64 + PATH_BYTES);
};

impl Default for CgroupPathRecord {
    fn default() -> Self {
        Self {
            head: Head::default(),
            task: Task::default(),
            cgroup_id: 0,
            op: 0,
            path_len: 0,
            path: [0; PATH_BYTES],
        }
    }
}
