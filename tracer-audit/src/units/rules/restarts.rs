//! Whether a unit comes back after a kill, and after several.

use super::finding;
use crate::Context;
use crate::report::{Finding, Severity};
use crate::system::pressure::in_proportion;
use crate::units::Unit;
use crate::units::settings::{OomPolicy, Restart};

/// Whether systemd starts it again after the kernel killed it. Where systemd hears of the kill and the policy
/// stops or kills what is left, the end counts as an OOM kill, which is no abort.
fn is_restarted(context: &Context<'_>, unit: &Unit) -> bool {
    let hears = !context.facts.units.cgroup_v1;
    match unit.settings.restart.value {
        Restart::Always | Restart::OnFailure | Restart::OnAbnormal => true,
        Restart::OnAbort => !hears || unit.settings.oom_policy.value == OomPolicy::Continue,
        Restart::No | Restart::OnSuccess | Restart::OnWatchdog => false,
    }
}

pub fn not_restarted(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    if is_restarted(context, unit) {
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
pub fn start_limit(context: &Context<'_>, unit: &Unit) -> Option<Finding> {
    let settings = &unit.settings;
    let (burst, interval) = (&settings.start_limit_burst, &settings.start_limit_interval_us);
    let limited = burst.value > 0 && interval.value > 0;
    let pause_us = settings.restart_us.value;
    let reached = u64::from(burst.value).saturating_mul(pause_us) < interval.value;
    if !is_restarted(context, unit) || !limited || !reached {
        return None;
    }
    let severity = in_proportion(context);
    // systemd's own limit with its own pause is nothing that anybody chose.
    if severity == Severity::Info && burst.at.is_none() && interval.at.is_none() {
        return None;
    }
    let places = [&interval.at, &burst.at, &settings.restart_us.at, &settings.restart.at];
    let at = places.into_iter().find_map(Clone::clone).unwrap_or_else(|| unit.place());
    let seconds = |us: u64| us as f64 / 1e6;
    let within = match interval.value {
        u64::MAX => "in its life".to_owned(),
        us => format!("within {} s", seconds(us)),
    };
    let mut finding = finding(
        "unit_start_limit",
        severity,
        unit,
        format!(
            "{} stays down after {} starts {within}: it is started again after {} s",
            unit.name,
            burst.value,
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
