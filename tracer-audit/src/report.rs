//! What an audit says: findings, most urgent first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::budget::Budget;
use crate::origin::{Note, Origin};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Info,
    /// Makes an incident longer, or likelier.
    Warning,
    /// Will exhaust the memory, or has taken away what must hold it.
    Critical,
}

/// Whom a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// PHP-FPM, its pools and php.ini.
    Php,
    /// MariaDB or MySQL.
    Mysql,
    /// Redis.
    Redis,
    /// nginx or Apache.
    Web,
    /// A systemd unit.
    Unit,
    /// A container.
    Container,
    /// The host itself.
    System,
}

/// The line to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where: a line that is there, or a file to add it to.
    pub at: Origin,
    /// The line that stands there; None where one is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The line as it should be.
    pub to: String,
    /// The section that an added line belongs to, such as `[Service]`, without brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
}

impl Change {
    /// Another text for a line that is there.
    pub fn replace(at: Origin, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { at, from: Some(from.into()), to: to.into(), section: None }
    }

    /// One more line in `file`.
    pub fn add(file: impl Into<Arc<Path>>, section: Option<&str>, to: impl Into<String>) -> Self {
        let section = section.map(str::to_owned);
        Self { at: Origin::whole(file), from: None, to: to.into(), section }
    }
}

/// One thing that an audit found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// A stable name for machines: `php_pool_too_large`.
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it is about.
    pub subject: Subject,
    /// The pool, unit, instance or process.
    pub name: String,
    /// One plain sentence with the numbers.
    pub summary: String,
    /// Why it matters, one plain sentence.
    pub why: String,
    /// Where its cause stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Origin>,
    /// Other places that take part: the file that wins, the one that is dead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Origin>,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// How much memory beyond what there is this can take: what kills first comes first. Zero where it
    /// takes none itself.
    pub excess_bytes: u64,
    /// The numbers of the summary; names end in their unit.
    pub figures: BTreeMap<&'static str, u64>,
}

impl Finding {
    /// A finding with nothing but its sentences; the rest is set on the value.
    pub fn new(
        kind: &'static str,
        severity: Severity,
        subject: Subject,
        name: impl Into<String>,
        summary: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            severity,
            subject,
            name: name.into(),
            summary: summary.into(),
            why: why.into(),
            at: None,
            others: Vec::new(),
            change: None,
            excess_bytes: 0,
            figures: BTreeMap::new(),
        }
    }
}

/// What an audit came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Most urgent first.
    pub findings: Vec<Finding>,
    /// Who takes how much of the memory.
    pub budget: Budget,
    /// What was not seen or not understood.
    pub notes: Vec<Note>,
}

impl Report {
    /// Sorts `findings` by what kills first.
    pub fn new(mut findings: Vec<Finding>, budget: Budget, notes: Vec<Note>) -> Self {
        findings.sort_by(|a, b| {
            let urgency = |finding: &Finding| Reverse((finding.severity, finding.excess_bytes));
            urgency(a).cmp(&urgency(b)).then_with(|| {
                (a.subject, a.kind, &a.name, &a.at).cmp(&(b.subject, b.kind, &b.name, &b.at))
            })
        });
        Self { findings, budget, notes }
    }

    /// The worst severity; None where nothing was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}
