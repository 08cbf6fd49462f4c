//! One process: identity, memory, and the history of its anon + swap.

use std::sync::Arc;

use crate::event::{Growth, Php, ProcessKey};

/// A living process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Identity.
    pub key: ProcessKey,
    /// Parent.
    pub ppid: u32,
    /// Name.
    pub comm: Arc<str>,
    /// Command line, if read.
    pub cmdline: Option<Arc<str>>,
    /// Real user.
    pub uid: u32,
    /// Memory cgroup, if known.
    pub cgroup: Option<Arc<str>>,
    /// PHP, if it is.
    pub php: Option<Php>,
    /// Its last growth event.
    pub memory: Growth,
    /// Growth of anon + swap over the recent past, bytes per second; negative = shrinks.
    pub rate_bytes_per_s: f64,
    /// When the model first saw it, ns.
    pub first_seen_ns: u64,
    /// Anon + swap when first seen (or after its last exec), bytes.
    pub first_seen_bytes: u64,
}
