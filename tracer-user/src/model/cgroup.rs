//! One memory cgroup.

use std::sync::Arc;

use crate::event::CgroupEvents;

/// A memory cgroup.
#[derive(Clone, Debug, Default)]
pub struct Cgroup {
    /// Path in the hierarchy.
    pub path: Arc<str>,
    /// Charge.
    pub usage_bytes: u64,
    /// Limit.
    pub max_bytes: Option<u64>,
    /// Above this its processes are throttled.
    pub high_bytes: Option<u64>,
    /// What of it is swapped out.
    pub swap_usage_bytes: u64,
    /// Limit of swap (v2).
    pub swap_max_bytes: Option<u64>,
    /// Limit of memory and swap together (v1).
    pub memsw_max_bytes: Option<u64>,
    /// File pages that can be reclaimed, whole subtree, as last read.
    pub reclaimable_bytes: u64,
    /// Shared memory and tmpfs that is charged, whole subtree, as last read; None = not known.
    pub shmem_bytes: Option<u64>,
    /// Counters, as last read.
    pub events: Option<CgroupEvents>,
    /// v2: the OOM killer takes all processes of it at once.
    pub oom_group: bool,
    /// v1: the OOM killer is disabled here, tasks hang at the limit instead.
    pub oom_disabled: bool,
    /// When memory.high was last seen to have slowed somebody down, ns.
    pub throttled_ns: Option<u64>,
    /// Net growth of usage - reclaimable, bytes per second.
    pub rate_bytes_per_s: f64,
    /// PSI some over 10 s, percent.
    pub some_avg10: Option<f64>,
    /// PSI full over 10 s, percent.
    pub full_avg10: Option<f64>,
}

impl Cgroup {
    pub(super) fn new(path: Arc<str>) -> Self {
        Self { path, ..Self::default() }
    }

    /// Whether the OOM killer kills at its limit: there is one beyond memory.high, and v1 did not
    /// disable it.
    pub(crate) fn kills(&self) -> bool {
        self.max_bytes.is_some() && !self.oom_disabled
    }

    /// What its own limit of swap leaves, bytes.
    pub(super) fn swap_left_bytes(&self) -> u64 {
        self.swap_max_bytes.map_or(u64::MAX, |max| max.saturating_sub(self.swap_usage_bytes))
    }
}

/// Whether `path` is `root` or below it.
pub fn is_below(path: &str, root: &str) -> bool {
    root == "/"
        || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path above: `/a/b` → `/a` → `/`; None above the root.
pub(super) fn parent_path(path: &str) -> Option<&str> {
    match path.rfind('/') {
        _ if path == "/" || path.is_empty() => None,
        Some(0) | None => Some("/"),
        Some(at) => Some(&path[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_by_whole_names() {
        assert!(is_below("/web", "/web") && is_below("/web/php", "/web") && is_below("/web", "/"));
        assert!(!is_below("/website", "/web") && !is_below("/", "/web") && !is_below("", "/web"));
    }

    #[test]
    fn every_path_leads_to_the_root() {
        for path in ["/a/b/c", "a/b", "a", "//", "/a//b/", "é/ü", ""] {
            let mut path = path;
            for _ in 0..10 {
                match parent_path(path) {
                    Some(parent) => path = parent,
                    None => break,
                }
            }
            assert!(path == "/" || path.is_empty(), "{path}");
        }
    }
}
