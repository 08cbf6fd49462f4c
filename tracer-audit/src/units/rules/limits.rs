//! Limits of memory: none, one that holds nothing, one that kills, one that is not in force.

use super::{finding, has_workers};
use crate::Context;
use crate::budget::{Demand, worst_bytes};
use crate::report::{Finding, Severity};
use crate::size::human;
use crate::system::pressure::in_proportion;
use crate::units::{PAGE_BYTES, Service, Unit};

/// How many units that are used run the same, this one among them.
fn alike(context: &Context<'_>, unit: &Unit) -> u64 {
    let used = context.facts.units.used();
    used.filter(|other| other.service == unit.service).count() as u64
}

/// What units of `service` take; which of several takes what, the budget does not tell.
fn demands<'a>(
    context: &Context<'a>,
    service: Service,
) -> impl Iterator<Item = &'a Demand> + use<'a> {
    let own = move |demand: &&Demand| {
        let named = match service {
            Service::Nginx => demand.name == "nginx",
            Service::Apache => demand.name.starts_with("apache2"),
            _ => true,
        };
        named && demand.subject == service.subject()
    };
    context.budget.demands.iter().filter(own)
}

/// What may be given to `unit`, in whole 64 MiB; None where the memory is not known.
fn fence_bytes(context: &Context<'_>, unit: &Unit) -> Option<u64> {
    let room = context.budget.room_for_bytes(unit.service.subject());
    Some((room / alike(context, unit).max(1)) >> 26 << 26).filter(|&bytes| bytes > 0)
}

pub fn unbounded(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    // cgroup v1 has no MemoryHigh.
    let slowed = unit.memory_high_bytes.is_some() && !context.facts.units.cgroup_v1;
    let bounded = unit.memory_max_bytes.is_some() || slowed || unit.slice_max.is_some();
    let worst = worst_bytes(demands(context, unit.service));
    // Apache's own workers are small; those that run PHP are a demand.
    let total = context.budget.total_bytes;
    let small = unit.service == Service::Apache && worst.is_some_and(|worst| worst <= total);
    if !has_workers(unit) || bounded || small {
        return None;
    }
    let summary = match worst {
        Some(worst) if worst > 0 && alike(context, unit) == 1 => format!(
            "{} has no MemoryMax: nothing stops its workers before they take {}",
            unit.name,
            human(worst)
        ),
        Some(_) => format!("{} has no MemoryMax: nothing bounds its workers together", unit.name),
        None => format!("{} has no MemoryMax: its workers can take all memory", unit.name),
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

pub fn above_memory(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
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
pub fn too_small(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    let limit = unit.memory_max_bytes?;
    if alike(context, unit) != 1 {
        return None;
    }
    let own = demands(context, unit.service);
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

pub fn not_in_force(unit: &Unit) -> Option<Finding> {
    let in_force = unit.in_force_bytes.filter(|_| !unit.tgids.is_empty())?;
    let whole = |bytes: Option<u64>| bytes.map(|bytes| bytes / PAGE_BYTES);
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
