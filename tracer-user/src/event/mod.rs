//! The events that flow through the pipeline, which are also the lines of a trace file
//! (schema `rampage/1`).
//!
//! An event says what happened; [`Stamped`] adds when. Every quantity ends in its unit, times are
//! CLOCK_BOOTTIME nanoseconds, a process is always `tgid` and `start_ns` (rounded down to 10 ms).
//! Strings are what the kernel and /proc gave, with invalid UTF-8 replaced: they are hostile input,
//! and whoever prints them goes through [`crate::text`].

mod finding;
pub mod look;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use finding::{
    Cascade, Culprit, Diagnosis, Evidence, Finding, FindingKind, Limit, PoolDiagnosis, PoolWorker,
    Runaway, Severity, Spot, Subject, Verdict,
};

/// Name and version of the trace format.
pub const SCHEMA: &str = "rampage/1";

/// An event and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// CLOCK_BOOTTIME, ns.
    pub t_ns: u64,
    /// Wall clock, ns since 1970-01-01 UTC.
    pub wall_ns: i64,
    /// What happened.
    pub event: Event,
}

/// Identity of a process that survives reuse of its tgid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Start, CLOCK_BOOTTIME ns, rounded down to 10 ms.
    pub start_ns: u64,
}

/// What happened: one line of a trace, by its `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is documented at its struct")]
pub enum Event {
    Header(Box<Header>),
    Process(Process),
    Growth(Growth),
    Php(Box<look::Look>),
    PhpGrowth(Box<PhpGrowth>),
    Request(RequestEdge),
    Cgroup(Box<Cgroup>),
    CgroupMove(CgroupMove),
    CgroupGone(CgroupGone),
    Tick(Tick),
    Pressure(Pressure),
    Stall(Stall),
    Signal(Box<Signal>),
    Oom(Box<Oom>),
    Exit(Exit),
    Finding(Box<Finding>),
    Lost(Lost),
    End(End),
    /// A type of a newer schema; a reader passes over it.
    #[serde(other)]
    Unknown,
}

/// First line of a trace: where it comes from and under which settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of rampage.
    pub version: String,
    /// Settings that model and detectors were run with.
    pub config: Config,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    /// Name of the host.
    pub hostname: String,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Online CPUs.
    pub cpus: u32,
    /// MemTotal.
    pub mem_total_bytes: u64,
    /// SwapTotal.
    pub swap_total_bytes: u64,
    /// `live` or `procfs`.
    pub source: String,
    /// What was attached.
    pub hooks: Vec<Hook>,
}

/// Effective settings, part of the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Step of growth reports; null = the smaller of 4 MiB and 1/64 of the tightest limit.
    pub step_bytes: Option<u64>,
    /// Time between two ticks, ns.
    pub interval_ns: u64,
    /// A limit that is reached later than this raises no finding, s.
    pub horizon_s: f64,
    /// What is shown; model and detectors see everything.
    pub filters: Filters,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            step_bytes: None,
            interval_ns: 1_000_000_000,
            horizon_s: 60.0,
            filters: Filters::default(),
        }
    }
}

/// Which processes are shown. An empty filter shows all; several must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// Regular expression on comm.
    pub comm: Option<String>,
    /// These processes only; empty = all.
    pub tgid: Vec<u32>,
    /// This memory cgroup and what is below it.
    pub cgroup: Option<String>,
    /// PHP only.
    pub php: bool,
}

/// One hook of the kernel side, as `rampage doctor` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Subsystem and what is hooked: oom, growth, reclaim, cgroup, lifecycle, signals, sweep, php.
    pub name: String,
    /// `tp_btf`, `fentry`, `raw_tracepoint`, `kprobe`, `iterator`, `usdt`, `procfs` or `none`.
    pub mechanism: String,
    /// `attached`, `planned`, `degraded` or `missing`.
    pub state: String,
    /// Why it is not better, and what is lost; empty when nothing is.
    pub reason: String,
}

/// A process as it is known now: written when it is first seen, and again after exec and change of
/// title.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Parent's tgid; 0 = unknown.
    pub ppid: u32,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// Command line, arguments joined by spaces, cut to 4 KiB; null = not (yet) read.
    pub cmdline: Option<Arc<str>>,
    /// Executable; null = not read.
    pub exe: Option<Arc<str>>,
    /// Real user id.
    pub uid: u32,
    /// Path of its memory cgroup; null = not known.
    pub cgroup: Option<Arc<str>>,
    /// What is known of PHP; null = no PHP process.
    pub php: Option<Php>,
    /// Why this was written.
    #[serde(default)]
    pub cause: ProcessCause,
}

/// Why a [`Process`] event was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessCause {
    /// It was there before the tracer, or after a loss.
    #[default]
    Found,
    /// It was just forked: its memory is its parent's, shared.
    Fork,
    /// It runs a new program: its memory starts anew.
    Exec,
    /// More is known of the same program (command line, title, cgroup).
    Update,
}

/// PHP identity from the process title.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Php {
    /// `fpm`, `cli`, `cgi`, …
    pub sapi: Arc<str>,
    /// Pool of an FPM worker; null for a master.
    pub pool: Option<Arc<str>>,
    /// Master of an FPM worker.
    pub master_tgid: Option<u32>,
    /// `8.2`, where the name of the executable tells.
    pub version: Option<Arc<str>>,
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Anonymous resident memory.
    pub anon_bytes: u64,
    /// File pages mapped.
    pub file_bytes: u64,
    /// Shared memory mapped.
    pub shmem_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
    /// Minor faults since its start, all threads.
    pub minor_faults: u64,
    /// Major faults since its start, all threads: the sign of thrash.
    pub major_faults: u64,
    /// Time stalled in reclaim since it is traced, ns.
    pub stall_ns: u64,
}

/// PHP begins a request, or has ended one, and the memory of its process then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEdge {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Which edge.
    pub phase: RequestPhase,
    /// Anonymous resident memory.
    pub anon_bytes: u64,
    /// File pages mapped.
    pub file_bytes: u64,
    /// Shared memory mapped.
    pub shmem_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
}

/// Which edge of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestPhase {
    /// Nothing was done for it yet.
    Begin,
    /// It is answered, and its memory is given back to PHP's memory manager.
    End,
}

/// Where in its code a PHP process under suspicion grew, sampled by the kernel as it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhpGrowth {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Anon + swap then: the growth since the sample before belongs to this code.
    pub private_bytes: u64,
    /// The PHP stack, innermost frame first, at most 16; empty = it could not be named.
    pub stack: Vec<look::Frame>,
}

/// A memory cgroup: on creation, change and each tick while in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Inode number; 0 = unknown.
    pub id: u64,
    /// Path in the hierarchy, `/` = root.
    pub path: Arc<str>,
    /// Charge.
    pub usage_bytes: u64,
    /// memory.max or limit_in_bytes; null = no limit.
    pub max_bytes: Option<u64>,
    /// memory.high; null = no limit.
    pub high_bytes: Option<u64>,
    /// Charge of swap (v2) or memory + swap (v1).
    #[serde(default)]
    pub swap_usage_bytes: u64,
    /// memory.swap.max (v2) or memsw limit (v1); null = no limit.
    pub swap_max_bytes: Option<u64>,
    /// File pages that can be reclaimed, whole subtree; null = not read with this event.
    pub reclaimable_bytes: Option<u64>,
    /// Counters of memory.events or of v1's failcnt and oom_kill; null = not read.
    pub events: Option<CgroupEvents>,
}

/// Counters of a memory cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupEvents {
    /// Times that memory.high throttled.
    pub high: u64,
    /// Times that the limit was hit (v2 `max`, v1 failcnt).
    pub max: u64,
    /// Times that reclaim failed (v2).
    pub oom: u64,
    /// Processes killed.
    pub oom_kill: u64,
    /// v1: tasks hang here because its OOM killer is disabled.
    pub under_oom: bool,
}

/// A process moved to another memory cgroup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CgroupMove {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Path before; null = unknown.
    pub from: Option<Arc<str>>,
    /// Path now.
    pub to: Arc<str>,
}

/// A memory cgroup was removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CgroupGone {
    /// Inode number.
    pub id: u64,
    /// Its path.
    pub path: Arc<str>,
}

/// Time passes; once each interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {}

/// Pressure on the host or a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// `host` or a cgroup path.
    pub scope: Arc<str>,
    /// Memory in use: total - available for the host, usage for a cgroup.
    pub used_bytes: u64,
    /// MemTotal, or the cgroup's limit; null = none.
    pub limit_bytes: Option<u64>,
    /// MemAvailable; null for a cgroup.
    pub available_bytes: Option<u64>,
    /// SwapFree; null for a cgroup.
    pub swap_free_bytes: Option<u64>,
    /// PSI some, 10 s, percent; null = no PSI.
    pub some_avg10: Option<f64>,
    /// PSI full, 10 s, percent; null = no PSI.
    pub full_avg10: Option<f64>,
}

/// A process was stalled in reclaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Its memory cgroup.
    pub cgroup: Option<Arc<str>>,
    /// `direct` (the host is short) or `memcg` (a limit).
    pub kind: StallKind,
    /// Time since its last stall event, ns.
    pub duration_ns: u64,
}

/// Which kind of reclaim stalled a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StallKind {
    /// The host is short.
    Direct,
    /// A memory cgroup's limit.
    Memcg,
}

/// A process named in an event about something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// Its memory cgroup, where the event tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Arc<str>>,
}

/// SIGKILL or SIGTERM was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// 9 or 15.
    pub signal: u32,
    /// Who sent it; for the kernel's own signals who ran when it was sent.
    pub sender: Party,
    /// Who gets it.
    pub target: Party,
    /// The kernel sent it on its own account (OOM killer, namespace exit …).
    #[serde(default)]
    pub from_kernel: bool,
}

/// Where a limit was hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomScope {
    /// Which limit.
    pub kind: ScopeKind,
    /// The cgroup whose limit was hit; null for host and unknown.
    pub cgroup: Option<Arc<str>>,
    /// That limit; null when unknown.
    pub limit_bytes: Option<u64>,
}

/// Kinds of OOM scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// A memory cgroup's limit.
    Memcg,
    /// The host has no memory left.
    Host,
    /// A cpuset or memory policy.
    Cpuset,
    /// PHP's own memory_limit.
    Php,
    /// It could not be found out.
    #[default]
    Unknown,
}

/// One invocation of the OOM killer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oom {
    /// The limit.
    pub scope: OomScope,
    /// Who asked for the memory that was not there.
    pub trigger: Party,
    /// Who was killed: one process, or all of a group kill.
    pub victims: Vec<Victim>,
}

/// A process that the OOM killer chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// Its memory cgroup.
    pub cgroup: Option<Arc<str>>,
    /// Anonymous memory at the kill.
    pub anon_bytes: u64,
    /// File pages at the kill.
    pub file_bytes: u64,
    /// Shared memory at the kill.
    pub shmem_bytes: u64,
    /// Swap at the kill.
    pub swap_bytes: u64,
    /// Its oom_score_adj.
    pub oom_score_adj: i32,
}

/// A process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Exit code; null when it was ended by a signal or is not known.
    pub code: Option<u32>,
    /// Signal that ended it; null when none or not known.
    pub signal: Option<u32>,
    /// Highest resident set; null = unknown.
    pub peak_bytes: Option<u64>,
}

/// Records that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Where: `ring:growth`, `ring:fork`, `map:procs`, `disk` …
    pub source: Arc<str>,
    /// How many since the last event of this source.
    pub records: u64,
}

/// Last line of a complete trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// `signal`, `duration`, `quit`, `end of input` …
    pub reason: String,
    /// Events before this one.
    pub events: u64,
    /// Records lost in all.
    pub lost: u64,
}

impl Process {
    /// Identity.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { tgid: self.tgid, start_ns: self.start_ns }
    }
}

impl Growth {
    /// Identity.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { tgid: self.tgid, start_ns: self.start_ns }
    }

    /// What growth is judged on: anon + swap, bytes.
    pub fn private_bytes(&self) -> u64 {
        self.anon_bytes.saturating_add(self.swap_bytes)
    }
}

impl RequestEdge {
    /// Identity.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { tgid: self.tgid, start_ns: self.start_ns }
    }
}

impl PhpGrowth {
    /// Identity.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { tgid: self.tgid, start_ns: self.start_ns }
    }
}

impl Victim {
    /// Identity.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { tgid: self.tgid, start_ns: self.start_ns }
    }
}
