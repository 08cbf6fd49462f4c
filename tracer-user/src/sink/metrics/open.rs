//! Findings as metrics: how many were raised, and which are open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::series::{Families, label, texts};
use crate::event::{Evidence, Finding, FindingKind, FindingState, ScopeKind, Severity};
use crate::metrics::table;

/// Open findings that are known; beyond that the oldest is forgotten, as the pipeline itself does.
const MOST_OPEN: usize = 1024;
/// Open findings with a series of their own.
const MOST_TOLD: usize = 64;

const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
const KINDS: [FindingKind; 9] = [
    FindingKind::Runaway,
    FindingKind::MemoryLimit,
    FindingKind::Pool,
    FindingKind::PoolTooLarge,
    FindingKind::Leak,
    FindingKind::OomVerdict,
    FindingKind::Killed,
    FindingKind::Cascade,
    FindingKind::Pressure,
];

/// Counts of findings by kind and severity.
type Counts = [[u64; SEVERITIES.len()]; KINDS.len()];

/// Findings since the start.
#[derive(Debug, Default)]
pub(super) struct Findings {
    raised: Counts,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    kind: FindingKind,
    severity: Severity,
    tgid: Option<u32>,
    comm: Option<Arc<str>>,
    pool: Option<Arc<str>>,
    cgroup: Option<Arc<str>>,
    limit: Option<Arc<str>>,
}

impl Findings {
    /// A new trace begins; its findings are numbered anew.
    pub fn restart(&mut self) {
        self.open.clear();
    }

    pub fn take(&mut self, finding: &Finding) {
        let severity = finding.severity;
        let (is_new, before) = match finding.state {
            FindingState::Raised => (true, None),
            FindingState::Updated => {
                let known = self.open.get(&finding.id).map(|known| known.severity);
                (known.is_some_and(|known| severity > known), known)
            }
            FindingState::Closed => {
                self.open.remove(&finding.id);
                return;
            }
        };
        if is_new {
            self.raised[kind_index(finding.kind)][severity_index(severity)] += 1;
        }
        let lasts = !matches!(finding.kind, FindingKind::OomVerdict | FindingKind::Killed);
        if lasts && (is_new || before.is_some()) {
            self.open.insert(finding.id, Open::of(finding));
            if self.open.len() > MOST_OPEN {
                self.open.pop_first();
            }
        }
    }

    pub fn tell(&self, families: &mut Families) {
        families.each(&table::FINDINGS, by_kind(&self.raised));
        let mut open = Counts::default();
        for finding in self.open.values() {
            open[kind_index(finding.kind)][severity_index(finding.severity)] += 1;
        }
        families.each(&table::FINDINGS_OPEN, by_kind(&open));
        let mut told: Vec<_> = self.open.iter().collect();
        told.sort_unstable_by(|(a, x), (b, y)| y.severity.cmp(&x.severity).then(b.cmp(a)));
        told.truncate(MOST_TOLD);
        let told: Vec<[String; 8]> = told.into_iter().map(|(id, open)| open.labels(*id)).collect();
        let series = told.iter().map(|labels| (texts(labels), 1.0));
        families.each(&table::FINDING_ACTIVE, series);
        let omitted = self.open.len() - told.len();
        families.one(&table::FINDINGS_OMITTED, omitted as f64);
    }
}

impl Open {
    fn of(finding: &Finding) -> Self {
        let subject = finding.subject.as_ref();
        let pool_of_itself = subject.and_then(|subject| subject.pool.clone());
        Self {
            kind: finding.kind,
            severity: finding.severity,
            tgid: subject.map(|subject| subject.tgid).filter(|tgid| *tgid != 0),
            comm: subject.map(|subject| subject.comm.clone()),
            pool: pool_of_itself,
            cgroup: subject.and_then(|subject| subject.cgroup.clone()),
            limit: limit(&finding.evidence),
        }
    }

    fn labels(&self, id: u64) -> [String; 8] {
        let text = |name: &Option<Arc<str>>| name.as_deref().map(label).unwrap_or_default();
        [
            id.to_string(),
            kind_name(self.kind).to_owned(),
            severity_name(self.severity).to_owned(),
            text(&self.comm),
            self.tgid.map(|tgid| tgid.to_string()).unwrap_or_default(),
            text(&self.cgroup),
            text(&self.pool),
            text(&self.limit),
        ]
    }
}

/// Path of the cgroup whose limit it is about, `host`, or `memory_limit` (PHP's own).
fn limit(evidence: &Evidence) -> Option<Arc<str>> {
    let (kind, path) = match evidence {
        Evidence::Runaway(runaway) => (runaway.limit.kind, runaway.limit.path.as_ref()),
        Evidence::Pool(pool) => (pool.limit.kind, pool.limit.path.as_ref()),
        Evidence::Leak(leak) => (leak.limit.kind, leak.limit.path.as_ref()),
        Evidence::Pressure(pressure) => (pressure.limit.kind, pressure.limit.path.as_ref()),
        Evidence::Cascade(series) => (series.limit.kind, series.limit.cgroup.as_ref()),
        Evidence::OomVerdict(verdict) => (verdict.limit.kind, verdict.limit.cgroup.as_ref()),
        Evidence::Killed(_) => return None,
    };
    match (kind, path) {
        (_, Some(path)) => Some(path.clone()),
        (ScopeKind::Host, None) => Some(Arc::from("host")),
        (ScopeKind::Php, None) => Some(Arc::from("memory_limit")),
        _ => None,
    }
}

fn by_kind(counts: &Counts) -> impl Iterator<Item = ([&'static str; 2], f64)> {
    KINDS.iter().zip(counts).flat_map(|(kind, counts)| {
        SEVERITIES.iter().zip(counts).map(move |(severity, count)| {
            ([kind_name(*kind), severity_name(*severity)], *count as f64)
        })
    })
}

fn kind_index(kind: FindingKind) -> usize {
    match kind {
        FindingKind::Runaway => 0,
        FindingKind::MemoryLimit => 1,
        FindingKind::Pool => 2,
        FindingKind::PoolTooLarge => 3,
        FindingKind::Leak => 4,
        FindingKind::OomVerdict => 5,
        FindingKind::Killed => 6,
        FindingKind::Cascade => 7,
        FindingKind::Pressure => 8,
    }
}

/// As in a trace.
pub(super) fn kind_name(kind: FindingKind) -> &'static str {
    const NAMES: [&str; KINDS.len()] = [
        "runaway",
        "memory_limit",
        "pool",
        "pool_too_large",
        "leak",
        "oom_verdict",
        "killed",
        "cascade",
        "pressure",
    ];
    NAMES[kind_index(kind)]
}

fn severity_index(severity: Severity) -> usize {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    }
}

fn severity_name(severity: Severity) -> &'static str {
    ["info", "warning", "critical"][severity_index(severity)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Limit, Runaway, Subject};
    use crate::metrics::Family;

    fn finding(id: u64, state: FindingState, severity: Severity) -> Finding {
        let path = Some(Arc::from("/web"));
        let limit = Limit { kind: ScopeKind::Memcg, path, ..Limit::default() };
        let subject = Subject {
            tgid: 7,
            start_ns: 1,
            comm: "php".into(),
            pool: Some("www".into()),
            cgroup: Some("/web/php".into()),
        };
        let evidence = Evidence::Runaway(Box::new(Runaway { limit, ..Runaway::default() }));
        let kind = FindingKind::Runaway;
        Finding {
            id,
            state,
            ..Finding::new(kind, severity, Some(subject), String::new(), evidence)
        }
    }

    fn told(findings: &Findings) -> Vec<Family> {
        let mut families = Families::default();
        findings.tell(&mut families);
        families.into_inner()
    }

    fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = families.iter().find(|family| family.name == name)?;
        let has = |sample: &&crate::metrics::Sample| {
            labels.iter().all(|(name, value)| {
                sample.labels.iter().any(|label| label.0 == *name && label.1 == *value)
            })
        };
        family.samples.iter().find(has).map(|sample| sample.value)
    }

    #[test]
    fn names_are_those_of_a_trace() {
        for kind in KINDS {
            let written = serde_json::to_string(&kind).unwrap();
            assert_eq!(written, format!("\"{}\"", kind_name(kind)));
            assert_eq!(KINDS[kind_index(kind)], kind);
        }
        for severity in SEVERITIES {
            let written = serde_json::to_string(&severity).unwrap();
            assert_eq!(written, format!("\"{}\"", severity_name(severity)));
        }
    }

    #[test]
    fn a_finding_is_counted_once_for_each_severity_and_is_open_until_closed() {
        use FindingState::{Closed, Raised, Updated};
        use Severity::{Critical, Warning};
        let mut findings = Findings::default();
        findings.take(&finding(1, Raised, Warning));
        findings.take(&finding(1, Updated, Warning));
        let warning = [("kind", "runaway"), ("severity", "warning")];
        let critical = [("kind", "runaway"), ("severity", "critical")];
        let now = told(&findings);
        assert_eq!(value(&now, "rampage_findings", &warning), Some(1.0));
        assert_eq!(value(&now, "rampage_findings", &critical), Some(0.0));
        let labels = [("finding", "1"), ("tgid", "7"), ("pool", "www"), ("limit", "/web")];
        assert_eq!(value(&now, "rampage_finding_active", &labels), Some(1.0));
        findings.take(&finding(1, Updated, Critical));
        let now = told(&findings);
        assert_eq!(value(&now, "rampage_findings", &warning), Some(1.0));
        assert_eq!(value(&now, "rampage_findings", &critical), Some(1.0));
        assert_eq!(value(&now, "rampage_findings_open", &warning), Some(0.0));
        assert_eq!(value(&now, "rampage_findings_open", &critical), Some(1.0));
        findings.take(&finding(1, Closed, Critical));
        findings.take(&finding(1, Updated, Critical));
        let now = told(&findings);
        assert_eq!(value(&now, "rampage_finding_active", &[]), None);
        assert_eq!(value(&now, "rampage_findings_open", &critical), Some(0.0));
        assert_eq!(value(&now, "rampage_findings", &critical), Some(1.0));
    }

    #[test]
    fn what_happened_at_one_moment_is_never_open() {
        let mut findings = Findings::default();
        let kill = Finding {
            kind: FindingKind::Killed,
            ..finding(1, FindingState::Raised, Severity::Critical)
        };
        findings.take(&kill);
        let now = told(&findings);
        let labels = [("kind", "killed"), ("severity", "critical")];
        assert_eq!(value(&now, "rampage_findings", &labels), Some(1.0));
        assert_eq!(value(&now, "rampage_findings_open", &labels), Some(0.0));
    }

    #[test]
    fn series_are_bounded_the_severe_first() {
        let mut findings = Findings::default();
        findings.take(&finding(1, FindingState::Raised, Severity::Critical));
        for id in 2..=3000 {
            findings.take(&finding(id, FindingState::Raised, Severity::Info));
        }
        let now = told(&findings);
        let active = now.iter().find(|family| family.name == "rampage_finding_active").unwrap();
        assert_eq!(active.samples.len(), MOST_TOLD);
        assert_eq!(active.samples[0].labels[0].1, "3000");
        assert_eq!(value(&now, "rampage_findings_omitted", &[]), Some(960.0));
    }
}
