//! The one place where the table reads the model: what a row, the gauges and the limits are made
//! of. Everything else in this folder works on these types.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::event::{Growth, ProcessKey};
use crate::model::{Forecast, Model};
use crate::sink::filter::Filter;

/// A process that grows by less than this share of its limit's net rate does not drive it.
const DRIVES_SHARE: f64 = 0.05;
/// A cgroup that is full later than this is judged by its room, not by its time.
const SOON_S: f64 = 600.0;

/// A process that may become a row; borrowed, so that the many that do not cost nothing.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub key: ProcessKey,
    pub comm: &'a str,
    pub pool: Option<&'a str>,
    pub php: bool,
    pub anon_bytes: u64,
    pub swap_bytes: u64,
    pub rate_bytes_per_s: f64,
    pub major_faults: u64,
    pub cgroup: Option<&'a str>,
    /// Already known, of a paused view; None = ask.
    pub standing: Option<Standing>,
}

impl Candidate<'_> {
    /// Whether the filters of the command line show it.
    pub(super) fn passes(&self, filter: &Filter) -> bool {
        filter.matches(self.key.tgid, self.comm, self.cgroup, self.php)
    }
}

/// How a process stands to the limit that it meets first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// Used share of that limit, 0 to 1; None = no limit.
    pub used_share: Option<f64>,
    /// Estimated seconds until it is used up; None = this process does not drive it.
    pub left_s: Option<f64>,
    /// Major faults per second; None = not seen long enough.
    pub major_per_s: Option<f64>,
}

/// Memory of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HostGauge {
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
pub(super) struct CgroupGauge {
    pub path: String,
    pub used_bytes: u64,
    pub limit_bytes: u64,
    pub headroom_bytes: u64,
    /// Estimated seconds until it is full; None = not growing.
    pub left_s: Option<f64>,
    /// PSI some and full over 10 s, percent.
    pub psi: Option<(f64, f64)>,
}

/// Every process with memory mapped, which leaves out kernel threads. Anonymous memory alone would
/// not do: the kernel's cheap counters show none for small processes.
pub(super) fn candidates(model: &Model) -> impl Iterator<Item = Candidate<'_>> {
    let mapped = |memory: &Growth| {
        [memory.anon_bytes, memory.swap_bytes, memory.file_bytes, memory.shmem_bytes]
            .iter()
            .any(|bytes| *bytes > 0)
    };
    model.processes().filter(move |process| mapped(&process.memory)).map(|process| Candidate {
        key: process.key,
        comm: &process.comm,
        pool: process.php.as_ref().and_then(|php| php.pool.as_deref()),
        php: process.php.is_some(),
        anon_bytes: process.memory.anon_bytes,
        swap_bytes: process.memory.swap_bytes,
        rate_bytes_per_s: process.rate_bytes_per_s,
        major_faults: process.memory.major_faults,
        cgroup: process.cgroup.as_deref(),
        standing: None,
    })
}

/// Limits by cgroup, looked up once each: 100,000 processes share a few hundred cgroups.
pub(super) struct Limits<'a> {
    model: &'a Model,
    by_cgroup: FxHashMap<Option<&'a str>, Option<Forecast>>,
}

impl<'a> Limits<'a> {
    pub(super) fn of(model: &'a Model) -> Self {
        Self { model, by_cgroup: FxHashMap::default() }
    }

    pub(super) fn standing(&mut self, candidate: &Candidate<'a>) -> Standing {
        let forecast = match self.by_cgroup.entry(candidate.cgroup) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let process = self.model.process(&candidate.key);
                unknown.insert(process.and_then(|process| self.model.forecast(process)))
            }
        };
        forecast.as_ref().map_or_else(Standing::default, |forecast| standing(candidate, forecast))
    }
}

/// Judges one process against its limit.
pub(super) fn standing(candidate: &Candidate<'_>, forecast: &Forecast) -> Standing {
    let used = forecast.limit_bytes.saturating_sub(forecast.headroom_bytes);
    let drives = candidate.rate_bytes_per_s > 0.0
        && candidate.rate_bytes_per_s >= DRIVES_SHARE * forecast.rate_bytes_per_s;
    Standing {
        used_share: (forecast.limit_bytes > 0).then(|| used as f64 / forecast.limit_bytes as f64),
        left_s: forecast.eta_s.filter(|_| drives),
        major_per_s: None,
    }
}

/// Memory of the host now.
pub(super) fn host(model: &Model) -> HostGauge {
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
pub(super) fn worst_cgroup(model: &Model) -> Option<CgroupGauge> {
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
        path: super::quantity::clean(worst.path, super::view::PATH_CHARS),
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
    use crate::event::ScopeKind;

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

    #[test]
    fn only_who_drives_the_limit_has_a_time_left() {
        let forecast = Forecast {
            kind: ScopeKind::Memcg,
            path: Some("/a".into()),
            limit_bytes: 1000,
            headroom_bytes: 250,
            rate_bytes_per_s: 100.0,
            eta_s: Some(2.5),
        };
        let mut candidate = super::super::view::tests::candidate(7, "php-fpm");
        candidate.rate_bytes_per_s = 99.0;
        let driver = standing(&candidate, &forecast);
        assert_eq!((driver.used_share, driver.left_s), (Some(0.75), Some(2.5)));
        for rate in [4.0, 0.0, -3.0] {
            candidate.rate_bytes_per_s = rate;
            let idle = standing(&candidate, &forecast);
            assert_eq!((idle.used_share, idle.left_s), (Some(0.75), None), "rate {rate}");
        }
    }
}
