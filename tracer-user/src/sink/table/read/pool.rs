//! A pool, its workers together.

use super::super::quantity::clean;
use super::{Limits, Standing, standing};
use crate::event::ScopeKind;
use crate::event::look::Activity;
use crate::model::{Forecast, Process};

/// Longest name of a pool that is kept, characters.
const POOL_CHARS: usize = 64;

/// A pool, its workers together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolRow {
    pub name: String,
    pub master_tgid: Option<u32>,
    pub workers: usize,
    pub private_bytes: u64,
    pub rate_bytes_per_s: f64,
    /// To the limit that the pool, or one of its workers, meets first.
    pub standing: Standing,
    /// Which limit that is.
    pub nearest: Option<&'static str>,
    /// What the workers did when they were last looked into.
    pub busy: usize,
    pub idle: usize,
    pub unknown: usize,
}

impl PoolRow {
    /// None = no worker is shown.
    pub fn new<'a>(
        name: &str,
        master_tgid: Option<u32>,
        workers: &[&'a Process],
        limits: &mut Limits<'a>,
    ) -> Option<Self> {
        if workers.is_empty() {
            return None;
        }
        let mut row = Self {
            name: clean(name, POOL_CHARS),
            master_tgid,
            workers: workers.len(),
            ..Self::default()
        };
        let mut nearest: Option<Forecast> = None;
        for worker in workers {
            row.private_bytes = row.private_bytes.saturating_add(worker.private_bytes());
            row.rate_bytes_per_s += worker.rate_bytes_per_s;
            match worker.insight.as_ref().map_or(Activity::Unknown, |insight| insight.activity) {
                Activity::Request | Activity::Finishing => row.busy += 1,
                Activity::Idle => row.idle += 1,
                Activity::Unknown => row.unknown += 1,
            }
            let own = limits.model.memory_limit(worker);
            let shared = limits.shared(worker.cgroup.as_deref(), || Some(worker));
            for forecast in own.iter().chain(shared) {
                if nearest.as_ref().is_none_or(|known| forecast.nearer(known).is_lt()) {
                    nearest = Some(forecast.clone());
                }
            }
        }
        if let Some(nearest) = nearest {
            let (name, rate) = match nearest.kind {
                // One worker alone meets this one.
                ScopeKind::Php => ("memory_limit", nearest.rate_bytes_per_s),
                ScopeKind::Memcg => ("cgroup", row.rate_bytes_per_s),
                _ => ("host", row.rate_bytes_per_s),
            };
            row.nearest = Some(name);
            row.standing = standing(rate, &nearest);
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::look::Memory;
    use crate::model::script::{MIB, Script, bytes};

    fn pool(script: &Script) -> PoolRow {
        let pool = script.model.pools().next().unwrap();
        let workers: Vec<_> = pool.workers().collect();
        let mut limits = Limits::of(&script.model);
        PoolRow::new(pool.name, pool.master_tgid, &workers, &mut limits).unwrap()
    }

    #[test]
    fn a_pool_sums_up_its_workers_and_names_its_nearest_limit() {
        let mut script = Script::new();
        script.cgroup("/www", 100.0, 1000.0, None);
        for (tgid, mib) in [(4, 10.0), (5, 90.0), (6, 20.0)] {
            script.worker(tgid, "www", "/www");
            script.size(tgid, mib);
        }
        script.look(4, |look| look.activity = Activity::Idle);
        script.look_in_request(5, "/orders/17", 1.0, 7);
        let before = pool(&script);
        assert_eq!((before.busy, before.idle, before.unknown), (1, 1, 1));
        assert_eq!((before.workers, before.private_bytes), (3, 120 * MIB));
        assert_eq!(before.master_tgid, Some(900));
        assert_eq!((before.nearest, before.standing.used_share), (Some("cgroup"), Some(0.1)));
        // One of them is about to meet its own limit.
        for step in 0..5 {
            script.wait(1.0).size(5, 90.0 + f64::from(step) * 4.0);
        }
        script.look(5, |look| {
            look.memory = Some(Memory {
                used_bytes: bytes(112.0),
                real_bytes: bytes(112.0),
                real_peak_bytes: bytes(112.0),
                limit_bytes: Some(bytes(128.0)),
            });
        });
        let after = pool(&script);
        assert_eq!((after.nearest, after.standing.used_share), (Some("memory_limit"), Some(0.875)));
        assert!(after.standing.left_s.is_some_and(|left| (3.0..6.0).contains(&left)), "{after:?}");
    }
}
