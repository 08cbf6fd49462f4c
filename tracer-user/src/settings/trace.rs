//! The part of the settings that model and detectors go by, and that stands in each trace.

use super::{PoolRule, Settings};
use crate::cli::parse_cgroup;
use crate::event::{Config, Filters, PoolConfig};

impl Settings {
    /// As it stands in the header of a trace, and in its `config` events.
    pub fn trace_config(&self) -> Config {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        Config {
            step_bytes: (self.watch.step.get() > 0).then(|| self.watch.step.get()),
            interval_ns: self.watch.interval.as_nanos(),
            horizon_s: self.findings.horizon.get().as_secs_f64(),
            filters: Filters {
                comm: given(&self.watch.comm),
                tgid: Vec::new(),
                cgroup: parse_cgroup(&self.watch.cgroup).ok(),
                php: self.watch.php,
            },
            pools: self.pool.iter().map(pool).collect(),
        }
    }
}

fn pool(rule: &PoolRule) -> PoolConfig {
    PoolConfig {
        name: rule.name.clone(),
        horizon_s: rule.horizon.map(|horizon| horizon.get().as_secs_f64()),
        ignore: rule.ignore.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FindingKind;
    use crate::settings::{Size, Span};

    #[test]
    fn defaults_are_those_of_a_trace() {
        assert_eq!(Settings::default().trace_config(), Config::default());
    }

    #[test]
    fn what_is_set_is_in_it() {
        let mut settings = Settings::default();
        settings.watch.step = Size::bytes(1 << 20);
        settings.watch.cgroup = "web//php/".to_owned();
        settings.watch.comm = "^php".to_owned();
        settings.watch.php = true;
        settings.findings.horizon = Span::from_secs(90);
        settings.pool = vec![PoolRule {
            name: "batch*".to_owned(),
            horizon: Some(Span::from_secs(5)),
            ignore: vec![FindingKind::Leak],
        }];
        let config = settings.trace_config();
        assert_eq!(config.step_bytes, Some(1 << 20));
        assert_eq!(config.filters.cgroup.as_deref(), Some("/web/php"));
        assert_eq!(config.filters.comm.as_deref(), Some("^php"));
        assert!(config.filters.php);
        assert_eq!((config.horizon_s, config.horizon_s_of(Some("batch-7"))), (90.0, 5.0));
        assert!(config.ignores(Some("batch-7"), FindingKind::Leak));
    }
}
