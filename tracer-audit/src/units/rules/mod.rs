//! What a unit lacks, and what its lines do in an incident. A stock unit lacks most of it and does well: that
//! is told as worth knowing, and is a warning only where the services together may take more than the memory.

mod effect;
mod limits;
mod oom;
mod restarts;
#[cfg(test)]
mod tests;

use super::{Service, Unit};
use crate::Context;
use crate::report::{Finding, Severity, Subject};

/// Judges all units that are used.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let facts = &context.facts.units;
    for unit in facts.used() {
        found.extend(
            unit.settings.faults.iter().filter_map(|fault| effect::without_effect(unit, fault)),
        );
        found.extend(restarts::not_restarted(context, unit));
        if unit.service == Service::Rampage {
            continue;
        }
        found.extend(limits::unbounded(context, unit));
        found.extend(limits::above_memory(context, unit));
        found.extend(limits::too_small(context, unit));
        found.extend(limits::not_in_force(unit));
        found.extend(restarts::start_limit(context, unit));
        if !facts.cgroup_v1 {
            found.extend(oom::stops_with_a_worker(context, unit));
        }
    }
    found.extend(oom::oom_order(context));
    found.extend(oom::unprotected(context));
    found
}

fn finding(
    kind: &'static str,
    severity: Severity,
    unit: &Unit,
    summary: impl Into<String>,
    why: &str,
) -> Finding {
    // No incident becomes longer without the tracer.
    let severity = if unit.service == Service::Rampage { Severity::Info } else { severity };
    Finding::new(kind, severity, Subject::Unit, unit.name.as_str(), summary, why)
}

/// Whether its workers may take what their scripts ask for.
fn has_workers(unit: &Unit) -> bool {
    matches!(unit.service, Service::Php | Service::Apache)
}
