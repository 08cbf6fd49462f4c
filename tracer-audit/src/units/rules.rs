//! What a unit lacks, and what its lines do in an incident. A stock unit lacks most of it and does well: that
//! is told as worth knowing, and is a warning only where the services together may take more than the memory.

use super::settings::{Fault, OomPolicy, Restart};
use super::{Service, Unit, values};
use crate::Context;
use crate::report::{Change, Finding, Severity, Subject};
use crate::size::human;
use crate::system::pressure;

/// Judges all units that are used.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let facts = &context.facts.units;
    for unit in facts.used() {
        found.extend(unit.settings.faults.iter().filter_map(|fault| without_effect(unit, fault)));
        if unit.service == Service::Rampage {
            continue;
        }
        found.extend(unbounded(context, unit));
        found.extend(above_memory(context, unit));
        found.extend(too_small(context, unit));
        found.extend(not_in_force(unit));
        found.extend(not_restarted(context, unit));
        found.extend(start_limit(context, unit));
        if !facts.cgroup_v1 {
            found.extend(stops_with_a_worker(context, unit));
        }
    }
    found.extend(oom_order(context));
    found
}

/// Worth knowing, or a warning where memory can run out.
fn in_proportion(context: &Context<'_>) -> Severity {
    if pressure::excess_bytes(context).is_some() { Severity::Warning } else { Severity::Info }
}

fn finding(
    kind: &'static str,
    severity: Severity,
    unit: &Unit,
    summary: impl Into<String>,
    why: &str,
) -> Finding {
    Finding::new(kind, severity, Subject::Unit, unit.name.as_str(), summary, why)
}

/// Whether its workers may take what their scripts ask for.
fn has_workers(unit: &Unit) -> bool {
    matches!(unit.service, Service::Php | Service::Apache)
}

/// What may be given to `unit`, in whole 64 MiB; None where the memory is not known.
fn fence_bytes(context: &Context<'_>, unit: &Unit) -> Option<u64> {
    let subject = unit.service.subject();
    let alike = context
        .facts
        .units
        .used()
        .filter(|other| has_workers(other) && other.service.subject() == subject);
    let room = context.budget.room_for_bytes(subject) / (alike.count() as u64).max(1);
    Some(room >> 26 << 26).filter(|&bytes| bytes > 0)
}

fn unbounded(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    let bounded = unit.memory_max_bytes.is_some()
        || unit.memory_high_bytes.is_some()
        || unit.slice_max.is_some();
    if !has_workers(unit) || bounded {
        return None;
    }
    let summary = match pressure::worst_bytes(context, unit.service.subject()) {
        Some(worst) if worst > 0 => format!(
            "{} has no MemoryMax: nothing stops its workers before they take {}",
            unit.name,
            human(worst)
        ),
        _ => format!("{} has no MemoryMax: its workers can take all memory", unit.name),
    };
    let mut finding = finding(
        "unit_unbounded",
        in_proportion(context),
        unit,
        summary,
        "With a limit of its own it is one of these workers that dies when they grow, not another service.",
    );
    finding.at = Some(unit.place());
    if let Some(fence) = fence_bytes(context, unit) {
        let value = format!("{}M", fence >> 20);
        finding.change = Some(unit.change("MemoryMax", None, "Service", &value));
        finding.figures.insert("proposed_bytes", fence);
    }
    Some(finding)
}

fn above_memory(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    let total = context.facts.machine.total_bytes;
    let limit = unit.memory_max_bytes.filter(|&limit| total > 0 && limit >= total)?;
    let severity = if has_workers(unit) { in_proportion(context) } else { Severity::Info };
    let at = unit.settings.memory_max.at.clone();
    let mut finding = finding(
        "unit_limit_above_memory",
        severity,
        unit,
        format!(
            "MemoryMax of {} is {}, but there are {}: it holds nothing",
            unit.name,
            human(limit),
            human(total)
        ),
        "A limit above the memory is met only after the memory is gone.",
    );
    if let Some(fence) = fence_bytes(context, unit).filter(|_| has_workers(unit)) {
        let value = format!("{}M", fence >> 20);
        finding.change = Some(unit.change("MemoryMax", at.as_ref(), "Service", &value));
    }
    finding.at = at;
    finding.figures.insert("limit_bytes", limit);
    finding.figures.insert("memory_bytes", total);
    Some(finding)
}

/// A limit below what the service needs to do its work kills it.
fn too_small(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    let limit = unit.memory_max_bytes?;
    let subject = unit.service.subject();
    let alike = context.facts.units.used().filter(|other| other.service.subject() == subject);
    // Which of several instances needs what, the budget does not tell.
    if alike.count() != 1 {
        return None;
    }
    let own = context.budget.demands.iter().filter(|demand| demand.subject == subject);
    let needed = own.map(|demand| demand.reserved_bytes).fold(0, u64::saturating_add);
    if needed <= limit {
        return None;
    }
    let at = unit.settings.memory_max.at.clone();
    let mut finding = finding(
        "unit_limit_too_small",
        Severity::Warning,
        unit,
        format!("{} may take {}, but needs {}", unit.name, human(limit), human(needed)),
        "The kernel kills it when it fills what it is configured to use.",
    );
    let value = format!("{}M", (needed / 4 * 5).div_ceil(64 << 20) * 64);
    finding.change = Some(unit.change("MemoryMax", at.as_ref(), "Service", &value));
    finding.at = at;
    finding.figures.insert("limit_bytes", limit);
    finding.figures.insert("needed_bytes", needed);
    Some(finding)
}

fn not_in_force(unit: &Unit) -> Option<Finding> {
    let in_force = unit.in_force_bytes.filter(|_| !unit.tgids.is_empty())?;
    let whole = |bytes: Option<u64>| bytes.map(|bytes| bytes / super::PAGE_BYTES);
    if whole(in_force) == whole(unit.memory_max_bytes) {
        return None;
    }
    let say = |bytes: Option<u64>| bytes.map_or("no limit".to_owned(), human);
    let lost =
        unit.memory_max_bytes.is_some_and(|wanted| in_force.is_none_or(|bytes| bytes > wanted));
    let mut finding = finding(
        "unit_limit_not_in_force",
        if lost { Severity::Warning } else { Severity::Info },
        unit,
        format!(
            "the files give {} {}, but {} is in force",
            unit.name,
            say(unit.memory_max_bytes),
            say(in_force)
        ),
        "What was changed in files counts after `systemctl daemon-reload`; what was set by hand is gone then.",
    );
    finding.at = Some(unit.settings.memory_max.at.clone().unwrap_or_else(|| unit.place()));
    let figure = |bytes: Option<u64>| bytes.unwrap_or(0);
    finding.figures.insert("configured_bytes", figure(unit.memory_max_bytes));
    finding.figures.insert("in_force_bytes", figure(in_force));
    Some(finding)
}

/// Whether systemd starts it again after the kernel killed it. Where the policy stops or kills what is left,
/// the end counts as an OOM kill, which is no abort.
fn is_restarted(unit: &Unit) -> bool {
    match unit.settings.restart.value {
        Restart::Always | Restart::OnFailure | Restart::OnAbnormal => true,
        Restart::OnAbort => unit.settings.oom_policy.value == OomPolicy::Continue,
        Restart::No | Restart::OnSuccess | Restart::OnWatchdog => false,
    }
}

fn not_restarted(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    if is_restarted(unit) {
        return None;
    }
    let at = unit.settings.restart.at.clone();
    let line = match &at {
        Some(_) => unit.settings.texts.get("Restart").cloned().unwrap_or_default(),
        None => "no Restart=".to_owned(),
    };
    let mut finding = finding(
        "unit_not_restarted",
        in_proportion(context),
        unit,
        format!("{} stays down when the kernel kills it: {line}", unit.name),
        "After an OOM kill somebody has to notice and start it by hand.",
    );
    finding.change = Some(unit.change("Restart", at.as_ref(), "Service", "on-failure"));
    finding.at = Some(at.unwrap_or_else(|| unit.place()));
    Some(finding)
}

/// How many starts in which time systemd still takes for good.
fn start_limit(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    let settings = &unit.settings;
    let (burst, interval) = (&settings.start_limit_burst, &settings.start_limit_interval_us);
    let limited = burst.value > 0 && interval.value > 0;
    let pause_us = settings.restart_us.value;
    let reached = u64::from(burst.value).saturating_mul(pause_us) < interval.value;
    if !is_restarted(unit) || !limited || !reached {
        return None;
    }
    let severity = in_proportion(context);
    // systemd's own limit with its own pause is nothing that anybody chose.
    if severity == Severity::Info && burst.at.is_none() && interval.at.is_none() {
        return None;
    }
    let places = [&interval.at, &burst.at, &settings.restart_us.at, &settings.restart.at];
    let at = places.into_iter().find_map(Clone::clone).unwrap_or_else(|| unit.place());
    let seconds = |us: u64| {
        if us == u64::MAX { "ever".to_owned() } else { format!("{} s", us as f64 / 1e6) }
    };
    let mut finding = finding(
        "unit_start_limit",
        severity,
        unit,
        format!(
            "{} stays down after {} starts within {}: it is started again after {}",
            unit.name,
            burst.value,
            seconds(interval.value),
            seconds(pause_us)
        ),
        "Kills that follow each other use up the starts within seconds; after that nobody starts it.",
    );
    finding.change = Some(if interval.value >= 3_600_000_000 {
        unit.change("StartLimitIntervalSec", interval.at.as_ref(), "Unit", "0")
    } else {
        let pause_s = interval.value / u64::from(burst.value) / 1_000_000 + 1;
        unit.change(
            "RestartSec",
            settings.restart_us.at.as_ref(),
            "Service",
            &format!("{pause_s}s"),
        )
    });
    finding.at = Some(at);
    finding.figures.insert("start_limit_starts", burst.value.into());
    finding.figures.insert("start_limit_interval_us", interval.value);
    finding.figures.insert("restart_us", pause_us);
    Some(finding)
}

fn stops_with_a_worker(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    let policy = &unit.settings.oom_policy;
    if !has_workers(unit) || policy.value == OomPolicy::Continue {
        return None;
    }
    let line = match unit.settings.texts.get("OOMPolicy").filter(|_| policy.at.is_some()) {
        Some(text) => text.clone(),
        None => "OOMPolicy is stop by default".to_owned(),
    };
    let mut finding = finding(
        "unit_stops_with_a_worker",
        in_proportion(context),
        unit,
        format!(
            "when the kernel kills one worker of {}, systemd stops all of them: {line}",
            unit.name
        ),
        "One request too large then takes every request down, also those that did no harm.",
    );
    finding.change = Some(unit.change("OOMPolicy", policy.at.as_ref(), "Service", "continue"));
    finding.at = Some(policy.at.clone().unwrap_or_else(|| unit.place()));
    Some(finding)
}

/// A database that the kernel prefers to PHP.
fn oom_order(context: &Context<'_>) -> Vec<Finding> {
    let units = &context.facts.units;
    let mut found = Vec::new();
    let Some(php) = units
        .used()
        .filter(|unit| unit.service == Service::Php)
        .min_by_key(|unit| unit.oom_score_adj())
    else {
        return found;
    };
    for unit in units.used().filter(|unit| matches!(unit.service, Service::Mysql | Service::Redis))
    {
        let (own, other) = (unit.oom_score_adj(), php.oom_score_adj());
        if own <= other {
            continue;
        }
        let mut finding = finding(
            "unit_dies_before_php",
            Severity::Warning,
            unit,
            format!(
                "the kernel kills {} (oom_score_adj {own}) before workers of {} ({other}) of the same size",
                unit.name, php.name
            ),
            "The workers grow, and the database pays for it: all of them fail when it is gone.",
        );
        let (own_at, php_at) =
            (&unit.settings.oom_score_adjust.at, &php.settings.oom_score_adjust.at);
        let to = (i64::from(other) - 100).clamp(-900, 0).to_string();
        finding.change = Some(if own > 0 || other > -800 {
            unit.change("OOMScoreAdjust", own_at.as_ref(), "Service", &to)
        } else {
            php.change("OOMScoreAdjust", php_at.as_ref(), "Service", "0")
        });
        finding.at = Some(own_at.clone().or(php_at.clone()).unwrap_or_else(|| unit.place()));
        finding.others = own_at.as_ref().and(php_at.clone()).into_iter().collect();
        found.push(finding);
    }
    found
}

fn without_effect(unit: &Unit, fault: &Fault) -> Option<Finding> {
    let (key, value) = fault.text.split_once('=')?;
    let why = match fault.belongs_to {
        Some(_) => {
            "systemd passes it over without an error, so the unit is not what it looks like."
        }
        None => "systemd passes over what it does not understand, and the setting stays as it was.",
    };
    let summary = match fault.belongs_to {
        Some(section) => {
            format!("`{}` of {} has no effect: it belongs into [{section}]", fault.text, unit.name)
        }
        None => format!(
            "`{}` of {} has no effect: systemd does not understand it",
            fault.text, unit.name
        ),
    };
    let mut finding = finding("unit_line_without_effect", Severity::Warning, unit, summary, why);
    finding.at = Some(fault.at.clone());
    let mended = match fault.belongs_to {
        Some(_) => Some(fault.text.clone()),
        None => mended(key, value).map(|value| format!("{key}={value}")),
    };
    finding.change = mended.map(|to| {
        let mut change = Change::replace(fault.at.clone(), fault.text.clone(), to);
        change.section = fault.belongs_to.map(str::to_owned);
        change
    });
    Some(finding)
}

/// A size as it was meant: `8g`, `8GB`, `8GiB`.
fn mended(key: &str, value: &str) -> Option<String> {
    if !key.starts_with("Memory") {
        return None;
    }
    let upper = value.trim_matches(['"', '\'']).to_ascii_uppercase();
    let short = upper.strip_suffix("IB").or(upper.strip_suffix('B')).unwrap_or(&upper);
    values::limit(short).is_some().then(|| short.to_owned()).filter(|short| !short.is_empty())
}
