//! Who dies first, and who with it.

use super::{finding, has_workers};
use crate::Context;
use crate::report::{Finding, Severity};
use crate::system::pressure::{can_run_out, in_proportion};
use crate::units::settings::OomPolicy;
use crate::units::{Service, Unit};

pub fn stops_with_a_worker(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
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
pub fn oom_order(context: &Context<'_>) -> Vec<Finding> {
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
        // Below -900 nothing is left to go.
        finding.change = Some(if other > -800 {
            unit.change("OOMScoreAdjust", own_at.as_ref(), "Service", &to)
        } else {
            let to = (own + 100).clamp(0, 1000).to_string();
            php.change("OOMScoreAdjust", php_at.as_ref(), "Service", &to)
        });
        finding.at = Some(own_at.clone().or(php_at.clone()).unwrap_or_else(|| unit.place()));
        finding.others = own_at.as_ref().and(php_at.clone()).into_iter().collect();
        found.push(finding);
    }
    found
}

/// A database that the kernel takes for any other process, where memory can run out.
pub fn unprotected(context: &Context<'_>) -> Vec<Finding> {
    if !can_run_out(context) {
        return Vec::new();
    }
    let units = &context.facts.units;
    let Some(php) = units.used().find(|unit| unit.service == Service::Php) else {
        return Vec::new();
    };
    let database = |unit: &&Unit| matches!(unit.service, Service::Mysql | Service::Redis);
    let alike =
        units.used().filter(database).filter(|unit| unit.oom_score_adj() == php.oom_score_adj());
    alike
        .map(|unit| {
            let mut finding = finding(
                "unit_unprotected",
                Severity::Info,
                unit,
                format!("nothing makes the kernel kill a worker rather than {}: their oom_score_adj is the same", unit.name),
                "Of many workers each may be smaller than the database, which then is the one to die.",
            );
            let at = unit.settings.oom_score_adjust.at.clone();
            finding.change = Some(unit.change("OOMScoreAdjust", at.as_ref(), "Service", "-600"));
            finding.at = Some(at.unwrap_or_else(|| unit.place()));
            finding
        })
        .collect()
}
