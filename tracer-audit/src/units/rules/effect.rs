//! Lines that systemd passes over although they were meant.

use super::finding;
use crate::report::{Change, Finding, Severity};
use crate::units::settings::Fault;
use crate::units::{Unit, values};

pub fn without_effect(unit: &Unit, fault: &Fault) -> Option<Finding> {
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
