//! One memory cgroup.
use std::sync::Arc;

use crate::event::CgroupEvents;

/// A memory cgroup.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// Path in the hierarchy.
    pub path: Arc<str>,
    /// Charge.
    pub usage_bytes: u64,
    /// Limit.
    pub max_bytes: Option<u64>,
    /// File pages that can be reclaimed, whole subtree, as last read.
    pub reclaimable_bytes: u64,
    /// Counters, as last read.
    pub events: Option<CgroupEvents>,
    /// Net growth of usage - reclaimable, bytes per second.
    pub rate_bytes_per_s: f64,
    /// PSI some over 10 s, percent.
    pub some_avg10: Option<f64>,
    /// PSI full over 10 s, percent.
    pub full_avg10: Option<f64>,
}
