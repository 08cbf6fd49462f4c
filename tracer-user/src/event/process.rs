//! Lives and memory of processes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// How much more (or less) readily the OOM killer takes it, -1000 (never) to 1000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oom_score_adj: i32,
    /// Page tables; 0 = not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub page_table_bytes: u64,
    /// Private writable mappings, touched or not (VmData): what it may still come to take; 0 = not
    /// known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub data_bytes: u64,
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

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Growth {
    /// What growth is judged on: anon + swap, bytes.
    pub fn private_bytes(&self) -> u64 {
        self.anon_bytes.saturating_add(self.swap_bytes)
    }
}

impl Php {
    /// Whether it serves requests or runs a script: FPM's master does not, and what is not known to
    /// be a worker yet is not said to.
    pub fn serves(&self) -> bool {
        &*self.sapi != "fpm" || self.pool.is_some()
    }
}
