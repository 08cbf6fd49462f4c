//! The first line of a trace: where it comes from, and under which settings.

use serde::{Deserialize, Serialize};

use super::{FindingKind, matches_pattern};

/// Name and version of the trace format.
pub const SCHEMA: &str = "rampage/1";

/// First line of a trace: where it comes from and under which settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of rampage.
    pub version: String,
    /// Settings that model and detectors were run with.
    pub config: Config,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    /// Name of the host.
    pub hostname: String,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Online CPUs.
    pub cpus: u32,
    /// MemTotal.
    pub mem_total_bytes: u64,
    /// SwapTotal.
    pub swap_total_bytes: u64,
    /// `live` or `procfs`.
    pub source: String,
    /// What was attached.
    pub hooks: Vec<Hook>,
    /// Place in a run that is recorded in several files; null = this file is all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentPlace>,
    /// What was not recorded before this run began; null = nothing was recorded before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// Where a file stands in the run that it is a part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentPlace {
    /// The run: boot id and time of its begin. The same in all of its files.
    pub run: String,
    /// Number of this file; that of the file before it is one less.
    pub number: u64,
    /// What stands before `restated` is what the file before it led to: whoever read that one up to
    /// its end may pass over it.
    pub continues: bool,
}

/// Time before a run of which there is no recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Last line of the run before, RFC 3339, UTC.
    pub since: String,
    /// How long nothing was recorded; null = the clock was set meanwhile, nobody knows.
    pub seconds: Option<f64>,
    /// The run before came to its own end; false = it was killed, or the host went down.
    pub clean: bool,
}

/// Effective settings, part of the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Step of growth reports; null = the smaller of 4 MiB and 1/64 of the tightest limit.
    pub step_bytes: Option<u64>,
    /// Time between two ticks, ns.
    pub interval_ns: u64,
    /// A limit that is reached later than this raises no finding, s.
    pub horizon_s: f64,
    /// What is shown; model and detectors see everything.
    pub filters: Filters,
    /// Settings for single PHP pools; the first one that matches a pool holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolConfig>,
}

/// Settings for the workers of a PHP pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolConfig {
    /// Name of the pool; `*` stands for any characters.
    pub name: String,
    /// As that of the whole; null = that one.
    pub horizon_s: Option<f64>,
    /// Kinds of finding that are not made.
    pub ignore: Vec<FindingKind>,
}

impl Config {
    /// That of a pool's workers, or the general one (None), s.
    pub fn horizon_s_of(&self, pool: Option<&str>) -> f64 {
        self.rule(pool).and_then(|rule| rule.horizon_s).unwrap_or(self.horizon_s)
    }

    /// Whether findings of this kind are not made of a pool and its workers. Nothing is ignored of
    /// what belongs to no pool (None).
    pub fn ignores(&self, pool: Option<&str>, kind: FindingKind) -> bool {
        self.rule(pool).is_some_and(|rule| rule.ignore.contains(&kind))
    }

    /// The first that matches.
    fn rule(&self, pool: Option<&str>) -> Option<&PoolConfig> {
        let pool = pool?;
        self.pools.iter().find(|rule| matches_pattern(&rule.name, pool))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            step_bytes: None,
            interval_ns: 1_000_000_000,
            horizon_s: 600.0,
            filters: Filters::default(),
            pools: Vec::new(),
        }
    }
}

/// Which processes are shown. An empty filter shows all; several must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// Regular expression on comm.
    pub comm: Option<String>,
    /// These processes only; empty = all.
    pub tgid: Vec<u32>,
    /// This memory cgroup and what is below it.
    pub cgroup: Option<String>,
    /// PHP only.
    pub php: bool,
}

/// One hook of the kernel side, as `rampage doctor` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Subsystem and what is hooked: oom, growth, reclaim, cgroup, lifecycle, signals, sweep, php.
    pub name: String,
    /// `tp_btf`, `fentry`, `raw_tracepoint`, `kprobe`, `iterator`, `usdt`, `procfs` or `none`.
    pub mechanism: String,
    /// `attached`, `planned`, `degraded` or `missing`.
    pub state: String,
    /// Why it is not better, and what is lost; empty when nothing is.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_a_pool_holds() {
        let rule = |name: &str, horizon_s, ignore: &[FindingKind]| PoolConfig {
            name: name.to_owned(),
            horizon_s,
            ignore: ignore.to_vec(),
        };
        let pools = vec![
            rule("batch-big", None, &[]),
            rule("batch*", Some(5.0), &[FindingKind::Runaway]),
            rule("*", Some(7.0), &[FindingKind::Leak]),
        ];
        let config = Config { pools, ..Config::default() };
        let of = |pool: Option<&str>| {
            let ignores = |kind| config.ignores(pool, kind);
            let ignored = [FindingKind::Runaway, FindingKind::Leak].map(ignores);
            (config.horizon_s_of(pool), ignored)
        };
        assert_eq!(of(Some("batch-big")), (600.0, [false, false]));
        assert_eq!(of(Some("batch-7")), (5.0, [true, false]));
        assert_eq!(of(Some("www")), (7.0, [false, true]));
        assert_eq!(of(None), (600.0, [false, false]));
    }
}
