//! Which limit of a memory cgroup binds, and how much fits below it.
//!
//! The kernel reclaims at a limit before it kills there, and what it swaps out leaves the charge: a
//! limit has room for what is charged and for what may still be swapped out. So the charge that is
//! compared with it is anonymous memory and swap together, as growth is.

use super::cgroup::Cgroup;
use crate::event::LimitSetting;

/// memory.high is passed when less than this part of it is left: its processes are throttled then,
/// and what comes next is the limit above it.
const PASSED: f64 = 0.05;

/// A limit that binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// Which setting it is.
    pub setting: LimitSetting,
    /// The setting's value, bytes.
    pub limit_bytes: u64,
    /// Memory and swap that fit, bytes.
    pub capacity_bytes: u64,
}

/// The limit of a cgroup that is met next. `swap_left_bytes`: what its processes may still swap
/// out, on the host and by the limits above and at it. None = it has no limit.
pub(super) fn of(cgroup: &Cgroup, swap_left_bytes: u64) -> Option<Bound> {
    let swap_bytes = cgroup.swap_usage_bytes.saturating_add(swap_left_bytes);
    let memory = |setting, limit_bytes: u64| Bound {
        setting,
        limit_bytes,
        capacity_bytes: limit_bytes
            .saturating_add(swap_bytes)
            .min(cgroup.memsw_max_bytes.unwrap_or(u64::MAX)),
    };
    let both = |limit_bytes| Bound {
        setting: LimitSetting::MemoryAndSwap,
        limit_bytes,
        capacity_bytes: limit_bytes,
    };
    let max = cgroup.max_bytes.map(|bytes| memory(LimitSetting::Max, bytes));
    let memsw = cgroup.memsw_max_bytes.map(both);
    // Memory and swap together count where they leave less than memory and the swap there is; when it
    // is the same number twice, it is memory that is short.
    let last = match (max, memsw) {
        (Some(max), Some(memsw))
            if memsw.limit_bytes > max.limit_bytes
                && memsw.limit_bytes < max.limit_bytes.saturating_add(swap_bytes) =>
        {
            Some(memsw)
        }
        (max, memsw) => max.or(memsw),
    };
    let high = cgroup.high_bytes.map(|bytes| memory(LimitSetting::High, bytes)).filter(|high| {
        let used = cgroup.usage_bytes.saturating_sub(cgroup.reclaimable_bytes);
        let is_passed = used as f64 > high.limit_bytes as f64 * (1.0 - PASSED);
        last.is_none_or(|last| high.capacity_bytes < last.capacity_bytes && !is_passed)
    });
    high.or(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn cgroup(usage: u64, max: Option<u64>) -> Cgroup {
        let max_bytes = max.map(|mib| mib * MIB);
        Cgroup { usage_bytes: usage * MIB, max_bytes, ..Cgroup::new(Arc::from("/web")) }
    }

    fn bound(cgroup: &Cgroup, swap_left: u64) -> Option<(LimitSetting, u64, u64)> {
        let bound = of(cgroup, swap_left * MIB)?;
        Some((bound.setting, bound.limit_bytes / MIB, bound.capacity_bytes / MIB))
    }

    #[test]
    fn swap_is_room() {
        assert_eq!(bound(&cgroup(100, None), 0), None);
        let mut web = cgroup(100, Some(256));
        assert_eq!(bound(&web, 0), Some((LimitSetting::Max, 256, 256)));
        assert_eq!(bound(&web, 64), Some((LimitSetting::Max, 256, 320)));
        web.swap_usage_bytes = 60 * MIB;
        assert_eq!(bound(&web, 4), Some((LimitSetting::Max, 256, 320)));
    }

    #[test]
    fn memory_and_swap_together_bind_where_they_leave_less() {
        let mut web = cgroup(100, Some(256));
        web.memsw_max_bytes = Some(300 * MIB);
        assert_eq!(bound(&web, 1000), Some((LimitSetting::MemoryAndSwap, 300, 300)));
        assert_eq!(bound(&web, 0), Some((LimitSetting::Max, 256, 256)));
        web.memsw_max_bytes = Some(256 * MIB);
        assert_eq!(bound(&web, 1000), Some((LimitSetting::Max, 256, 256)));
        web.max_bytes = None;
        assert_eq!(bound(&web, 1000), Some((LimitSetting::MemoryAndSwap, 256, 256)));
    }

    #[test]
    fn high_comes_first_until_it_is_passed() {
        let mut web = cgroup(100, Some(256));
        web.high_bytes = Some(200 * MIB);
        assert_eq!(bound(&web, 0), Some((LimitSetting::High, 200, 200)));
        web.usage_bytes = 195 * MIB;
        assert_eq!(bound(&web, 0), Some((LimitSetting::Max, 256, 256)));
        web.reclaimable_bytes = 50 * MIB;
        assert_eq!(bound(&web, 0), Some((LimitSetting::High, 200, 200)));
        web.high_bytes = Some(300 * MIB);
        assert_eq!(bound(&web, 0), Some((LimitSetting::Max, 256, 256)));
        web.max_bytes = None;
        web.usage_bytes = 400 * MIB;
        assert_eq!(bound(&web, 0), Some((LimitSetting::High, 300, 300)));
    }
}
