//! Signals that kill, and the OOM killer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A process named in an event about something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
