//! What was seen of running workers, which no file tells: given by the caller, who can look into processes and
//! read traces.

use serde::Serialize;

/// Everything that was seen; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Observed {
    /// Of each PHP worker that was looked into.
    pub workers: Vec<Worker>,
    /// Of each PHP pool in a trace.
    pub pools: Vec<Pool>,
}

/// A PHP worker, looked into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// The worker.
    pub tgid: u32,
    /// Its master.
    pub master_tgid: u32,
    /// Its pool.
    pub pool: String,
    /// memory_limit in force, bytes; None where PHP has none.
    pub limit_bytes: Option<u64>,
}

/// The growth of a pool's workers in a trace, or now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Workers that were seen.
    pub workers: u64,
    /// Anonymous memory and swap of a worker at its largest: the median worker, bytes.
    pub p50_bytes: u64,
    /// 95 of 100 workers stayed below, bytes.
    pub p95_bytes: u64,
    /// The largest, bytes.
    pub largest_bytes: u64,
    /// What a request leaves behind, bytes; None where no leak was found.
    pub leak_bytes_per_request: Option<u64>,
}
