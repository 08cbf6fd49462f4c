//! Whom the kernel would kill next.

use std::path::PathBuf;

use super::others::{Kind, kind};
use crate::Context;
use crate::origin::Origin;
use crate::processes::Process;
use crate::report::{Finding, Severity, Subject};
use crate::size::human;

/// A process without memory has a score, too, since Linux 5.9: below this one nobody stands out.
const BASE_SCORE: u64 = 667;

/// The next victim; nothing where nobody stands out.
pub fn judge(context: &Context<'_>) -> Option<Finding> {
    let processes = &context.facts.processes;
    let victim = by_score(processes)?;
    let php: u64 = processes
        .iter()
        .filter(|process| kind(process) == Kind::Php)
        .map(Process::held_bytes)
        .fold(0, u64::saturating_add);
    let wrong = kind(victim) == Kind::Database && php > victim.held_bytes();
    let who = format!("{} (pid {}, {})", victim.comm, victim.tgid, human(victim.held_bytes()));
    let summary = if wrong {
        format!("out of memory, the kernel would kill {who}, although PHP holds {}", human(php))
    } else {
        format!("out of memory, the kernel would kill {who}")
    };
    let why = if wrong {
        "The database is one large process; many workers, each smaller, take the memory and survive it."
    } else {
        "The kernel takes the process that frees most; what depends on it fails with it."
    };
    let severity = if wrong { Severity::Warning } else { Severity::Info };
    let mut finding = Finding::new(
        "system_next_victim",
        severity,
        Subject::System,
        victim.comm.as_str(),
        summary,
        why,
    );
    finding.at = Some(Origin::from(PathBuf::from(format!("/proc/{}/oom_score", victim.tgid))));
    finding.figures.insert("victim_bytes", victim.held_bytes());
    finding.figures.insert("php_bytes", php);
    if wrong {
        let units = &context.facts.units;
        let unit = units.used().find(|unit| unit.tgids.contains(&victim.tgid));
        finding.change = unit.map(|unit| {
            let at = unit.settings.oom_score_adjust.at.as_ref();
            unit.change("OOMScoreAdjust", at, "Service", "-600")
        });
    }
    Some(finding)
}

/// The one with the highest score, if it is one alone and stands out.
fn by_score(processes: &[Process]) -> Option<&Process> {
    let able = || processes.iter().filter(|process| process.oom_score_adj > -1000);
    let most = able().max_by_key(|process| process.oom_score)?;
    let alone = able().filter(|process| process.oom_score == most.oom_score).count() == 1;
    (alone && most.oom_score > BASE_SCORE).then_some(most)
}
