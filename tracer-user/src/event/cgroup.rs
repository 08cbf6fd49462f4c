//! Memory cgroups, and pressure on them and on the host.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
    /// What of it is swapped out.
    #[serde(default)]
    pub swap_usage_bytes: u64,
    /// memory.swap.max; null = no limit, or v1.
    pub swap_max_bytes: Option<u64>,
    /// memory.memsw.limit_in_bytes, of memory and swap together; null = no limit, or v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memsw_max_bytes: Option<u64>,
    /// File pages that can be reclaimed, whole subtree; null = not read with this event.
    pub reclaimable_bytes: Option<u64>,
    /// Shared memory and tmpfs that is charged, whole subtree; null = not read with this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shmem_bytes: Option<u64>,
    /// Counters of memory.events or of v1's failcnt and oom_kill; null = not read.
    pub events: Option<CgroupEvents>,
    /// v2 memory.oom.group: the OOM killer takes all processes of it at once. Read with `events`,
    /// else it tells nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom_group: bool,
    /// v1: the OOM killer is disabled here, tasks hang at the limit instead. Read with `events`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom_disabled: bool,
}

fn is_false(value: &bool) -> bool {
    !value
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
    /// Shmem (shared memory and tmpfs); null = not known, or a cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shmem_bytes: Option<u64>,
    /// PSI some, 10 s, percent; null = no PSI.
    pub some_avg10: Option<f64>,
    /// PSI full, 10 s, percent; null = no PSI.
    pub full_avg10: Option<f64>,
}
