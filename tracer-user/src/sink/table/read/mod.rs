//! The one place where the table reads the model: what processes, requests, pools and gauges are
//! made of. Everything else in the table works on these types.

pub(super) mod gauges;
mod pool;
pub(super) mod pools;
pub(super) mod requests;
mod worker;

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::event::{Growth, ProcessKey};
use crate::model::{Forecast, Model, Process};
use crate::sink::filter::Filter;

/// A process that grows by less than this share of its limit's net rate does not drive it.
const DRIVES_SHARE: f64 = 0.05;

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

    /// How a process stands to the limit that it meets first. Its memory_limit is its own, whoever
    /// else is in the cgroup.
    pub(super) fn standing(&mut self, candidate: &Candidate<'a>) -> Standing {
        let model = self.model;
        let php = candidate.php.then(|| model.process(&candidate.key)).flatten();
        let own = php.and_then(|process| model.memory_limit(process));
        let shared = self.shared(candidate.cgroup, || model.process(&candidate.key));
        own.iter()
            .chain(shared)
            .min_by(|a, b| a.nearer(b))
            .map_or_else(Standing::default, |forecast| {
                standing(candidate.rate_bytes_per_s, forecast)
            })
    }

    /// The nearest limit that all in a cgroup share; `process` is one of them.
    fn shared(
        &mut self,
        cgroup: Option<&'a str>,
        process: impl FnOnce() -> Option<&'a Process>,
    ) -> Option<&Forecast> {
        let forecast = match self.by_cgroup.entry(cgroup) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                unknown.insert(process().and_then(|process| self.model.shared_forecast(process)))
            }
        };
        forecast.as_ref()
    }
}

/// Judges who grows at a rate against a limit.
fn standing(rate_bytes_per_s: f64, forecast: &Forecast) -> Standing {
    let used = forecast.limit_bytes.saturating_sub(forecast.headroom_bytes);
    let drives =
        rate_bytes_per_s > 0.0 && rate_bytes_per_s >= DRIVES_SHARE * forecast.rate_bytes_per_s;
    Standing {
        used_share: (forecast.limit_bytes > 0).then(|| used as f64 / forecast.limit_bytes as f64),
        left_s: forecast.eta_s.filter(|_| drives),
        major_per_s: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ScopeKind;
    use crate::event::look::Memory;
    use crate::model::script::{Script, bytes};

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
        let driver = standing(99.0, &forecast);
        assert_eq!((driver.used_share, driver.left_s), (Some(0.75), Some(2.5)));
        for rate in [4.0, 0.0, -3.0] {
            let idle = standing(rate, &forecast);
            assert_eq!((idle.used_share, idle.left_s), (Some(0.75), None), "rate {rate}");
        }
    }

    #[test]
    fn a_memory_limit_is_that_of_one_worker_whoever_is_asked_first() {
        let mut script = Script::new();
        script.cgroup("/web", 100.0, 1000.0, None);
        for (tgid, limit) in [(4, Some(128.0)), (5, None), (6, Some(64.0))] {
            script.worker(tgid, "www", "/web");
            script.size(tgid, 30.0);
            script.look(tgid, |look| {
                look.memory = Some(Memory {
                    used_bytes: bytes(30.0),
                    real_bytes: bytes(32.0),
                    real_peak_bytes: bytes(32.0),
                    limit_bytes: limit.map(bytes),
                });
            });
        }
        for order in [[4, 5, 6], [6, 5, 4], [5, 4, 6]] {
            let mut limits = Limits::of(&script.model);
            for tgid in order {
                let candidate =
                    candidates(&script.model).find(|candidate| candidate.key.tgid == tgid);
                let used = limits.standing(&candidate.unwrap()).used_share;
                let expected = match tgid {
                    4 => 0.25,
                    5 => 0.1,
                    _ => 0.5,
                };
                assert_eq!(used, Some(expected), "{tgid} of {order:?}");
            }
        }
    }
}
