//! Findings; the numbers that they rest on are in [`super::evidence`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ended::{Killed, Series, Verdict};
use super::evidence::{Leak, LostWork, PoolDiagnosis, Runaway};

/// How bad a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Act soon.
    Warning,
    /// Act now, or too late.
    Critical,
}

/// Who a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// PHP pool.
    pub pool: Option<Arc<str>>,
    /// Memory cgroup.
    pub cgroup: Option<Arc<str>>,
}

/// Where a finding is in its life. What happens at one moment (a verdict, a kill) is raised and
/// never closed; what lasts is closed when it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// New.
    #[default]
    Raised,
    /// Known already: it became worse, or more is known of it.
    Updated,
    /// Over; the summary says why.
    Closed,
}

/// A judgement with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Number within the trace, from 1; what is said of the same finding later has the same one.
    #[serde(default)]
    pub id: u64,
    /// Raised, updated or closed.
    #[serde(default)]
    pub state: FindingState,
    /// What kind of judgement.
    pub kind: FindingKind,
    /// How bad.
    pub severity: Severity,
    /// The process that it is about; null when no single one is (a verdict without culprit).
    pub subject: Option<Subject>,
    /// One plain sentence.
    pub summary: String,
    /// The numbers that it rests on.
    pub evidence: Evidence,
}

impl Finding {
    /// A finding that is not numbered yet.
    pub fn new(
        kind: FindingKind,
        severity: Severity,
        subject: Option<Subject>,
        summary: String,
        evidence: Evidence,
    ) -> Self {
        Self { id: 0, state: FindingState::Raised, kind, severity, subject, summary, evidence }
    }
}

/// Kinds of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A process drives a limit towards its end.
    Runaway,
    /// A PHP process will be stopped by its own memory_limit before it harms anybody.
    MemoryLimit,
    /// What is wrong with a PHP pool: a runaway worker holds it, or nothing but shared memory.
    Pool,
    /// A PHP pool has more workers than fit.
    PoolTooLarge,
    /// Slow growth without end, found from what is left after each request, or from floors.
    Leak,
    /// Who caused an OOM kill.
    OomVerdict,
    /// Who ended a process that matters.
    Killed,
    /// OOM kills follow each other at one limit.
    Cascade,
    /// Work is being lost: processes wait for memory.
    Pressure,
}

impl FindingKind {
    /// Whether findings of this kind are closed when they are over; others tell of a moment.
    pub fn has_end(self) -> bool {
        !matches!(self, Self::OomVerdict | Self::Killed)
    }
}

/// What a finding rests on, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant is documented at its struct")]
pub enum Evidence {
    Runaway(Box<Runaway>),
    OomVerdict(Box<Verdict>),
    Pool(PoolDiagnosis),
    Leak(Box<Leak>),
    Killed(Box<Killed>),
    Cascade(Box<Series>),
    Pressure(Box<LostWork>),
}
