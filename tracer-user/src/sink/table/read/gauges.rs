//! What the gauges show: memory of the host, and the memory cgroup that is worst off.

use super::super::quantity::clean;
use super::super::view::PATH_CHARS;
use crate::model::Model;

/// A cgroup that is full later than this is judged by its room, not by its time.
const SOON_S: f64 = 600.0;

/// Memory of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostGauge {
    pub used_bytes: u64,
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub swap_used_bytes: u64,
    pub swap_total_bytes: u64,
    /// PSI some and full over 10 s, percent.
    pub psi: Option<(f64, f64)>,
}

/// The memory cgroup that is worst off.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupGauge {
    pub path: String,
    pub used_bytes: u64,
    pub limit_bytes: u64,
    pub headroom_bytes: u64,
    /// Estimated seconds until it is full; None = not growing.
    pub left_s: Option<f64>,
    /// PSI some and full over 10 s, percent.
    pub psi: Option<(f64, f64)>,
}

/// Memory of the host now.
pub fn host(model: &Model) -> HostGauge {
    let host = model.host();
    HostGauge {
        used_bytes: host.mem_total_bytes.saturating_sub(host.available_bytes),
        total_bytes: host.mem_total_bytes,
        available_bytes: host.available_bytes,
        swap_used_bytes: host.swap_total_bytes.saturating_sub(host.swap_free_bytes),
        swap_total_bytes: host.swap_total_bytes,
        psi: host.some_avg10.zip(host.full_avg10),
    }
}

/// The cgroup that is full soonest, or, when none is soon, the one with the least room relative to
/// its limit.
pub fn worst_cgroup(model: &Model) -> Option<CgroupGauge> {
    worst(model.cgroups().filter_map(|cgroup| {
        let limit_bytes = cgroup.max_bytes.filter(|limit| *limit > 0)?;
        let room = limit_bytes.saturating_sub(cgroup.usage_bytes);
        let headroom_bytes = room.saturating_add(cgroup.reclaimable_bytes).min(limit_bytes);
        let rate = cgroup.rate_bytes_per_s;
        Some(Judged {
            path: &cgroup.path,
            used_bytes: cgroup.usage_bytes,
            limit_bytes,
            headroom_bytes,
            left_s: (rate > 0.0).then(|| headroom_bytes as f64 / rate),
            psi: cgroup.some_avg10.zip(cgroup.full_avg10),
        })
    }))
}

/// A cgroup with a limit, before it is known whether it is shown.
struct Judged<'a> {
    path: &'a str,
    used_bytes: u64,
    limit_bytes: u64,
    headroom_bytes: u64,
    left_s: Option<f64>,
    psi: Option<(f64, f64)>,
}

impl Judged<'_> {
    fn badness(&self) -> (f64, f64) {
        let soon = self.left_s.filter(|left| *left < SOON_S).unwrap_or(SOON_S);
        (soon, self.headroom_bytes as f64 / self.limit_bytes as f64)
    }
}

fn worst<'a>(cgroups: impl Iterator<Item = Judged<'a>>) -> Option<CgroupGauge> {
    let worst = cgroups.min_by(|a, b| {
        let ((a_soon, a_room), (b_soon, b_room)) = (a.badness(), b.badness());
        a_soon.total_cmp(&b_soon).then(a_room.total_cmp(&b_room)).then(a.path.cmp(b.path))
    })?;
    Some(CgroupGauge {
        path: clean(worst.path, PATH_CHARS),
        used_bytes: worst.used_bytes,
        limit_bytes: worst.limit_bytes,
        headroom_bytes: worst.headroom_bytes,
        left_s: worst.left_s,
        psi: worst.psi,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(path: &str, used: u64, limit: u64, left_s: Option<f64>) -> Judged<'_> {
        let headroom_bytes = limit - used;
        Judged { path, used_bytes: used, limit_bytes: limit, headroom_bytes, left_s, psi: None }
    }

    #[test]
    fn the_worst_cgroup_is_full_soonest_or_has_least_room() {
        let roomy_but_fast = judged("/fast", 10, 100, Some(5.0));
        let tight = judged("/tight", 95, 100, None);
        let tight_and_slow = judged("/slow", 90, 100, Some(90_000.0));
        let found = worst([tight_and_slow, tight, roomy_but_fast].into_iter());
        assert_eq!(found.map(|gauge| gauge.path), Some("/fast".to_owned()));
        let found = worst(
            [judged("/slow", 90, 100, Some(90_000.0)), judged("/tight", 95, 100, None)].into_iter(),
        );
        assert_eq!(found.map(|gauge| gauge.path), Some("/tight".to_owned()));
        assert_eq!(worst(std::iter::empty()), None);
    }
}
