//! What PHP processes do, beside looks: edges of requests, and where they grow.

use serde::{Deserialize, Serialize};

use super::look;

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
