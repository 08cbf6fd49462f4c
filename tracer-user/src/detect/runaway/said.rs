//! A runaway as a finding: the sentence and the evidence.

use super::{Danger, PhpDanger, rules};
use crate::detect::{sentence, work};
use crate::event::{
    Evidence, Finding, FindingKind, Limit, LimitSetting, MemoryKind, NextVictim, Runaway,
    ScopeKind, Severity,
};
use crate::model::{Model, Process, Rise};
use crate::text;

/// Growth that began so soon after the trace began before it, as far as anybody knows, ns.
const FIRST_NS: u64 = 1_000_000_000;
/// A range of times is told when its ends differ by more than this factor.
const NEAR: f64 = 1.5;

/// The finding of a process that drives a limit to its end.
pub(super) fn runaway(
    model: &Model,
    process: &Process,
    danger: &Danger<'_>,
    share: f64,
    severity: Severity,
) -> Finding {
    let scope = &danger.scope;
    let limit = match (scope.path, scope.setting) {
        (None, _) => "uses up the memory of the host".to_owned(),
        (Some(path), setting) => {
            let slowed = match setting {
                LimitSetting::High => ", where it is slowed down,",
                LimitSetting::Max | LimitSetting::MemoryAndSwap => "",
            };
            format!("reaches {}{slowed}", sentence::limit(setting, scope.limit_bytes, path))
        }
    };
    let others = if share < 0.9 {
        format!(" ({:.0} % of all growth there)", share * 100.0)
    } else {
        String::new()
    };
    let shared = match danger.rise.memory {
        MemoryKind::Private => "",
        MemoryKind::Shared => " in shared memory",
    };
    let mut evidence = at_shared_limit(model, process, danger);
    evidence.share = share;
    if scope.setting != LimitSetting::High {
        evidence.next_victim = model.next_victim(scope.path.map(|path| &**path));
    }
    Finding::new(
        FindingKind::Runaway,
        severity,
        Some(sentence::subject(process)),
        format!(
            "{} grows {}/s{shared}, has {}, and {limit} in about {}{}{others}{}{}{}",
            sentence::process(process),
            text::bytes(evidence.rate_bytes_per_s as u64),
            text::bytes(evidence.used_bytes),
            text::seconds(danger.eta_s),
            range((evidence.eta_soonest_s, evidence.eta_latest_s)),
            work::sentence(&evidence),
            bystander(process, evidence.next_victim.as_ref()),
            certainty(&evidence),
        ),
        Evidence::Runaway(Box::new(evidence)),
    )
}

/// `; the OOM killer would take mariadbd (pid 77), not the one that grows`; empty when it takes
/// that one, or when it is not certain.
fn bystander(process: &Process, next_victim: Option<&NextVictim>) -> String {
    match next_victim.filter(|victim| victim.is_certain && victim.key() != process.key) {
        Some(victim) => format!(
            "; the OOM killer would take {}, not the one that grows",
            sentence::named(&victim.comm, victim.pool.as_deref(), victim.tgid)
        ),
        None => String::new(),
    }
}

/// ` (8.0 s to 20 s)`; empty when the two are near each other.
fn range((soonest_s, latest_s): (f64, Option<f64>)) -> String {
    match latest_s {
        Some(latest_s) if latest_s <= NEAR * soonest_s => String::new(),
        Some(latest_s) => {
            format!(" ({} to {})", text::seconds(soonest_s), text::seconds(latest_s))
        }
        None => format!(" ({} at the soonest)", text::seconds(soonest_s)),
    }
}

/// The finding of a worker that PHP stops first.
pub(super) fn memory_limit(model: &Model, process: &Process, danger: &PhpDanger) -> Finding {
    let PhpDanger { limit, eta_s } = danger;
    let mut evidence = evidence(model, process, process.private().as_ref());
    evidence.eta_s = *eta_s;
    (evidence.eta_soonest_s, evidence.eta_latest_s) = (*eta_s, Some(*eta_s));
    evidence.limit.bytes = limit.limit_bytes;
    evidence.limit.headroom_bytes = limit.headroom_bytes;
    Finding::new(
        FindingKind::MemoryLimit,
        Severity::Info,
        Some(sentence::subject(process)),
        format!(
            "{} grows {}/s and will hit its memory_limit of {} in about {}: PHP then ends the \
             request, before anybody else is short of memory{}{}",
            sentence::process(process),
            text::bytes(evidence.rate_bytes_per_s as u64),
            text::bytes(limit.limit_bytes),
            text::seconds(*eta_s),
            work::sentence(&evidence),
            certainty(&evidence),
        ),
        Evidence::Runaway(Box::new(evidence)),
    )
}

/// Others grow beside a worker that PHP was to stop at `own_bytes`: a shared limit is used up first.
pub(super) fn overtaken(
    model: &Model,
    process: &Process,
    danger: &Danger<'_>,
    own_bytes: u64,
) -> Finding {
    let scope = &danger.scope;
    let limit = match scope.path {
        None => "the memory of the host".to_owned(),
        Some(path) => sentence::limit(scope.setting, scope.limit_bytes, path),
    };
    let evidence = at_shared_limit(model, process, danger);
    Finding::new(
        FindingKind::MemoryLimit,
        Severity::Info,
        Some(sentence::subject(process)),
        format!(
            "{} grows {}/s and will not hit its memory_limit of {} in time: with what others grow, {limit} \
             is used up in about {}{}{}",
            sentence::process(process),
            text::bytes(evidence.rate_bytes_per_s as u64),
            text::bytes(own_bytes),
            text::seconds(danger.eta_s),
            work::sentence(&evidence),
            certainty(&evidence),
        ),
        Evidence::Runaway(Box::new(evidence)),
    )
}

/// It grows no more, or `gave_back` what it had grown.
pub(super) fn over(process: &Process, rise: Option<&Rise<'_>>, gave_back: bool) -> String {
    let verb = if gave_back { "gave its memory back" } else { "stopped growing" };
    let bytes = rise.map_or(process.private_bytes(), |rise| rise.bytes);
    format!("{} {verb} and has {}", sentence::process(process), text::bytes(bytes))
}

/// It ended, or is another program by now.
pub(super) fn ended(process: &Process, how: &str) -> String {
    format!("{} {how}", sentence::process(process))
}

/// What is known of the process, at a limit that it shares.
fn at_shared_limit(model: &Model, process: &Process, danger: &Danger<'_>) -> Runaway {
    let (eta_soonest_s, eta_latest_s) = danger.eta_range_s();
    Runaway {
        limit_rate_bytes_per_s: danger.rate_bytes_per_s,
        limit: danger.scope.limit(),
        eta_s: danger.eta_s,
        eta_soonest_s,
        eta_latest_s,
        ..evidence(model, process, Some(&danger.rise))
    }
}

/// What is known of the process itself, at its own memory_limit.
fn evidence(model: &Model, process: &Process, rise: Option<&Rise<'_>>) -> Runaway {
    let rate_bytes_per_s = rise.map_or(0.0, |rise| rise.rate_at(model.now_ns())).max(0.0);
    let work = work::of(process);
    let onset_ns = rise.map_or(model.now_ns(), Rise::onset_ns);
    Runaway {
        memory: rise.map(|rise| rise.memory).unwrap_or_default(),
        rate_bytes_per_s,
        limit_rate_bytes_per_s: rate_bytes_per_s,
        used_bytes: rise.map_or(process.private_bytes(), |rise| rise.bytes),
        grown_bytes: rise.map_or(0, Rise::grown_bytes),
        onset_ns,
        growing_s: rise.map_or(0.0, Rise::growing_s),
        share: 1.0,
        limit: Limit { kind: ScopeKind::Php, ..Limit::default() },
        eta_s: 0.0,
        eta_soonest_s: 0.0,
        eta_latest_s: None,
        request: work.request,
        php_stack: work.stack,
        php: work.memory,
        php_growth: work.growth,
        php_missing: work.missing,
        next_victim: None,
        lost_records: model.lost_since(onset_ns),
        watched_s: watched_s(model, process, onset_ns),
    }
}

/// How long it was watched, if it has been growing since the trace began and had something then.
fn watched_s(model: &Model, process: &Process, onset_ns: u64) -> Option<f64> {
    let began_ns = model.began_ns();
    let is_first = onset_ns <= began_ns.saturating_add(FIRST_NS);
    let is_older = process.key.start_ns < began_ns;
    let had_some = rules::is_more_than_warm_up(process.first_seen_bytes);
    (is_first && is_older && had_some).then(|| model.now_ns().saturating_sub(began_ns) as f64 / 1e9)
}

/// How far the figures can be believed.
fn certainty(evidence: &Runaway) -> String {
    let watched = evidence.watched_s.map_or_else(String::new, |watched_s| {
        format!("; watched for {} only, it may have grown before", text::seconds(watched_s))
    });
    format!("{watched}{}", sentence::lost(evidence.lost_records))
}
