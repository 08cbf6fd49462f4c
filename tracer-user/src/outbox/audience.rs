//! Which findings leave at all: `watch.cgroup`, `watch.comm` and `watch.php`. The least severity is the
//! courier's to judge, as each receiver has its own.

use std::collections::BTreeSet;

use crate::event::{Filters, Finding, FindingState, ProcessKey};
use crate::model::Model;
use crate::sink::filter::Filter;

/// Findings that are remembered as open at most.
const MAX_OPEN: usize = 4096;

/// Decides who is told of.
#[derive(Debug, Default)]
pub struct Audience {
    filter: Filter,
    /// Findings that were told and not closed yet: the end is told of whatever began. The oldest are
    /// forgotten, as some are never closed.
    open: BTreeSet<u64>,
}

impl Audience {
    /// Fails on a bad regular expression.
    pub fn new(filters: &Filters) -> Result<Self, regex::Error> {
        Ok(Self { filter: Filter::new(filters)?, open: BTreeSet::new() })
    }

    /// Takes over what was told under settings before.
    pub fn inherit(&mut self, before: &mut Self) {
        self.open = std::mem::take(&mut before.open);
    }

    /// Whether this finding is told. One without a subject, such as a verdict without culprit, is about
    /// no process that a filter could mean: it is told.
    pub fn wants(&mut self, model: &Model, finding: &Finding) -> bool {
        let known = match finding.state {
            FindingState::Closed => self.open.remove(&finding.id),
            _ => self.open.contains(&finding.id),
        };
        let wanted = known
            || finding.subject.as_ref().is_none_or(|subject| {
                let key = ProcessKey { tgid: subject.tgid, start_ns: subject.start_ns };
                let php = subject.pool.is_some()
                    || model.process(&key).is_some_and(|process| process.php.is_some());
                self.filter.matches(subject.tgid, &subject.comm, subject.cgroup.as_deref(), php)
            });
        if wanted && finding.state != FindingState::Closed {
            self.open.insert(finding.id);
            if self.open.len() > MAX_OPEN {
                self.open.pop_first();
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Config;
    use crate::outbox::test::finding;
    use crate::settings::{Settings, Watch};

    fn told(watch: &Watch, findings: &[Finding]) -> Vec<bool> {
        let model = Model::new(&Config::default());
        let settings = Settings { watch: watch.clone(), ..Settings::default() };
        let mut audience = Audience::new(&settings.trace_config().filters).unwrap();
        findings.iter().map(|finding| audience.wants(&model, finding)).collect()
    }

    #[test]
    fn what_was_told_is_also_told_to_be_over() {
        let mut about = finding(1);
        let mut over = finding(1);
        over.state = FindingState::Closed;
        if let Some(subject) = &mut over.subject {
            subject.comm = "renamed".into();
            subject.pool = None;
        }
        let mut other = finding(2);
        if let Some(subject) = &mut other.subject {
            subject.cgroup = Some("/elsewhere".into());
        }
        about.summary = "first".to_owned();
        let watch =
            Watch { comm: "^php".into(), cgroup: "/php".into(), php: true, ..Watch::default() };
        let findings = [about, other, over.clone(), over];
        assert_eq!(told(&watch, &findings), [true, false, true, false]);
        assert_eq!(told(&Watch::default(), &findings), [true; 4]);
        // However it is written.
        for cgroup in ["php/", "/sys/fs/cgroup/php", "//php"] {
            let watch = Watch { cgroup: cgroup.into(), ..Watch::default() };
            assert_eq!(told(&watch, &findings[..2]), [true, false], "{cgroup}");
        }
    }

    #[test]
    fn nothing_but_a_regular_expression_is_taken() {
        assert!(Audience::new(&Filters { comm: Some("(".into()), ..Filters::default() }).is_err());
    }
}
