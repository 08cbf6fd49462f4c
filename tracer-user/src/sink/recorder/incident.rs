//! What `incident.json` says of an incident: the one source of `rampage incidents`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::event::Severity;

/// Name of the file in an incident's folder.
pub const FILE: &str = "incident.json";
/// Most bytes of it.
const MOST_BYTES: u64 = 256 << 10;
/// Kinds, subjects and problems that are named.
const MOST_NAMED: usize = 32;
/// Most bytes of a summary or a name.
const TEXT_BYTES: usize = 1024;

/// How an incident stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// It goes on, or the recorder was killed in it.
    #[default]
    Open,
    /// Nothing critical happened for `incident_after`.
    Ended,
    /// The recorder, or the host, went down in it.
    CutShort,
}

/// An incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Incident {
    /// How it stands.
    pub state: IncidentState,
    /// First critical finding or kill, RFC 3339, UTC.
    pub start: String,
    /// The last one so far.
    pub end: String,
    /// The same, CLOCK_BOOTTIME ns.
    pub start_ns: u64,
    /// The same, CLOCK_BOOTTIME ns.
    pub end_ns: u64,
    /// Kinds of finding, and `oom`; at most 32.
    pub kinds: Vec<String>,
    /// Names of those it is about; at most 32.
    pub subjects: Vec<String>,
    /// What was said in it: raised, updated and closed findings.
    pub findings: u64,
    /// Critical ones among them.
    pub critical: u64,
    /// `oom` events.
    pub kills: u64,
    /// Severity of the most severe finding; null = there is none yet.
    pub severity: Option<Severity>,
    /// What that one says.
    pub summary: String,
    /// Segments in its folder.
    pub segments: Vec<String>,
    /// What of it could not be kept; at most 32.
    pub problems: Vec<String>,
}

impl Incident {
    /// Reads that of a folder.
    ///
    /// # Errors
    /// The file is not there, larger than any, or not of this form.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(folder.join(FILE))?.take(MOST_BYTES).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Adds a kind that is not named yet.
    pub(super) fn add_kind(&mut self, kind: &str) {
        add(&mut self.kinds, kind);
    }

    /// Adds a subject that is not named yet.
    pub(super) fn add_subject(&mut self, subject: &str) {
        add(&mut self.subjects, subject);
    }

    /// Adds a problem. True = it is new, and to be said.
    pub(super) fn add_problem(&mut self, problem: &str) -> bool {
        add(&mut self.problems, problem)
    }

    /// Takes the summary of a finding that is no less severe than that so far.
    pub(super) fn summarise(&mut self, severity: Severity, is_verdict: bool, summary: &str) {
        let is_worse = self.severity.is_none_or(|so_far| severity > so_far);
        if is_worse || (is_verdict && self.severity == Some(severity)) {
            self.severity = Some(severity);
            self.summary = cut(summary).to_owned();
        }
    }
}

fn add(list: &mut Vec<String>, text: &str) -> bool {
    let text = cut(text);
    let is_new = list.len() < MOST_NAMED && list.iter().all(|known| known != text);
    if is_new {
        list.push(text.to_owned());
    }
    is_new
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// A name from a process as a part of a file name: `[A-Za-z0-9._-]`, neither empty nor hidden, at most
/// 40 bytes.
pub(super) fn safe_name(name: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let safe: String = name.chars().take(40).map(|c| if is_safe(c) { c } else { '_' }).collect();
    let safe = safe.trim_start_matches(['.', '-']);
    if safe.is_empty() { "unnamed".to_owned() } else { safe.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_processes_cannot_leave_the_folder() {
        assert_eq!(safe_name("php-fpm8.2"), "php-fpm8.2");
        assert_eq!(safe_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(safe_name(".hidden\n\x1b[2Já"), "hidden__[2J_".replace('[', "_"));
        assert_eq!(safe_name("..."), "unnamed");
        assert_eq!(safe_name(""), "unnamed");
        assert_eq!(safe_name(&"x".repeat(99)).len(), 40);
    }

    #[test]
    fn the_summary_is_that_of_the_most_severe_and_lists_are_bounded() {
        let mut incident = Incident::default();
        incident.summarise(Severity::Warning, false, "a");
        incident.summarise(Severity::Critical, false, "b");
        incident.summarise(Severity::Critical, false, "c");
        incident.summarise(Severity::Warning, true, "d");
        assert_eq!(incident.summary, "b");
        incident.summarise(Severity::Critical, true, "e");
        assert_eq!(incident.summary, "e");
        for number in 0..100 {
            incident.add_subject(&number.to_string());
            incident.add_kind("oom");
        }
        assert_eq!((incident.subjects.len(), incident.kinds.len()), (MOST_NAMED, 1));
    }
}
