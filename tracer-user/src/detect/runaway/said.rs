//! A runaway as a finding: the sentence and the evidence.

use super::{Danger, PhpDanger};
use crate::detect::{sentence, work};
use crate::event::{Evidence, Finding, FindingKind, Limit, Runaway, ScopeKind, Severity};
use crate::model::{Model, Process};
use crate::text;

/// The finding of a process that drives a limit to its end.
pub(super) fn runaway(
    model: &Model,
    process: &Process,
    danger: &Danger<'_>,
    share: f64,
    severity: Severity,
) -> Finding {
    let scope = &danger.scope;
    let limit = match (scope.kind, scope.path) {
        (ScopeKind::Memcg, Some(path)) => {
            format!(
                "reaches the {} limit of {}",
                text::bytes(scope.limit_bytes),
                sentence::name(path)
            )
        }
        _ => "uses up the memory of the host".to_owned(),
    };
    let others = if share < 0.9 {
        format!(" ({:.0} % of all growth there)", share * 100.0)
    } else {
        String::new()
    };
    let mut evidence = evidence(model, process);
    evidence.limit_rate_bytes_per_s = danger.rate_bytes_per_s;
    evidence.share = share;
    evidence.eta_s = danger.eta_s;
    evidence.limit = Limit {
        kind: scope.kind,
        path: scope.path.cloned(),
        bytes: scope.limit_bytes,
        headroom_bytes: scope.headroom_bytes,
    };
    Finding::new(
        FindingKind::Runaway,
        severity,
        Some(sentence::subject(process)),
        format!(
            "{} grows {}/s, has {}, and {limit} in about {}{others}{}",
            sentence::process(process),
            text::bytes(evidence.rate_bytes_per_s as u64),
            text::bytes(evidence.used_bytes),
            text::seconds(danger.eta_s),
            work::sentence(&evidence),
        ),
        Evidence::Runaway(Box::new(evidence)),
    )
}

/// The finding of a worker that PHP stops first.
pub(super) fn memory_limit(model: &Model, process: &Process, danger: &PhpDanger) -> Finding {
    let PhpDanger { limit, eta_s } = danger;
    let mut evidence = evidence(model, process);
    evidence.eta_s = *eta_s;
    evidence.limit.bytes = limit.limit_bytes;
    evidence.limit.headroom_bytes = limit.headroom_bytes;
    Finding::new(
        FindingKind::MemoryLimit,
        Severity::Info,
        Some(sentence::subject(process)),
        format!(
            "{} grows {}/s and will hit its memory_limit of {} in about {}: PHP then ends the \
             request, before anybody else is short of memory{}",
            sentence::process(process),
            text::bytes(evidence.rate_bytes_per_s as u64),
            text::bytes(limit.limit_bytes),
            text::seconds(*eta_s),
            work::sentence(&evidence),
        ),
        Evidence::Runaway(Box::new(evidence)),
    )
}

/// It grows no more, or `gave_back` what it had grown.
pub(super) fn over(process: &Process, gave_back: bool) -> String {
    let verb = if gave_back { "gave its memory back" } else { "stopped growing" };
    format!(
        "{} {verb} and has {}",
        sentence::process(process),
        text::bytes(process.private_bytes())
    )
}

/// It ended, or is another program by now.
pub(super) fn ended(process: &Process, how: &str) -> String {
    format!("{} {how}", sentence::process(process))
}

/// What is known of the process itself, at its own memory_limit.
fn evidence(model: &Model, process: &Process) -> Runaway {
    let rate_bytes_per_s = process.rate_at(model.now_ns()).max(0.0);
    let work = work::of(process);
    Runaway {
        rate_bytes_per_s,
        limit_rate_bytes_per_s: rate_bytes_per_s,
        used_bytes: process.private_bytes(),
        grown_bytes: process.grown_bytes(),
        onset_ns: process.onset_ns(),
        growing_s: process.growing_s(),
        share: 1.0,
        limit: Limit { kind: ScopeKind::Php, path: None, bytes: 0, headroom_bytes: 0 },
        eta_s: 0.0,
        request: work.request,
        php_stack: work.stack,
        php: work.memory,
        php_growth: work.growth,
        php_missing: work.missing,
        next_victim: None,
    }
}
