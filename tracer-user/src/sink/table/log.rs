//! The last findings, and how many records were lost: all that the table keeps of the events.

use std::collections::VecDeque;

use super::quantity::{clean, time_of_day};
use crate::event::{Finding, FindingState, Severity};

/// Findings kept.
const KEPT: usize = 32;
/// Longest summary kept, characters.
const SUMMARY_CHARS: usize = 512;

/// One finding on one line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub severity: Severity,
    pub text: String,
}

/// Findings and losses so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log {
    lines: VecDeque<Line>,
    /// Findings so far, the forgotten ones included.
    pub findings: u64,
    /// Records lost so far.
    pub lost: u64,
}

impl Log {
    /// Takes a finding of the time `wall_ns` (ns since 1970).
    pub(super) fn push(&mut self, finding: &Finding, wall_ns: i64) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        let is_over = finding.state == FindingState::Closed;
        let tag = match finding.severity {
            _ if is_over => "over",
            Severity::Info => "info",
            Severity::Warning => "WARN",
            Severity::Critical => "CRIT",
        };
        let summary = clean(&finding.summary, SUMMARY_CHARS);
        self.findings += u64::from(finding.state == FindingState::Raised);
        self.lines.push_back(Line {
            severity: if is_over { Severity::Info } else { finding.severity },
            text: format!("{} {tag} {summary}", time_of_day(wall_ns)),
        });
    }

    /// The last `count`, oldest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &Line> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::{Evidence, FindingKind, Limit, Runaway};

    pub(in crate::sink::table) fn finding(severity: Severity, summary: &str) -> Finding {
        let limit = Limit { bytes: 1 << 30, headroom_bytes: 1 << 20, ..Limit::default() };
        Finding {
            id: 1,
            state: FindingState::Raised,
            kind: FindingKind::Runaway,
            severity,
            subject: None,
            summary: summary.to_owned(),
            evidence: Evidence::Runaway(Box::new(Runaway {
                rate_bytes_per_s: 1e6,
                limit_rate_bytes_per_s: 1e6,
                used_bytes: 1 << 20,
                grown_bytes: 1 << 20,
                growing_s: 1.0,
                share: 1.0,
                limit,
                eta_s: 1.0,
                ..Runaway::default()
            })),
        }
    }

    #[test]
    fn keeps_the_last_and_counts_all() {
        let mut log = Log::default();
        for number in 0..100 {
            log.push(&finding(Severity::Critical, &format!("f\x1b{number}")), 0);
        }
        let texts: Vec<&str> = log.last(2).map(|line| line.text.as_str()).collect();
        assert_eq!(texts, [r"00:00:00 CRIT f\x1b98", r"00:00:00 CRIT f\x1b99"]);
        assert_eq!((log.findings, log.last(usize::MAX).count()), (100, KEPT));
    }
}
