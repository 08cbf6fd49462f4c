//! Alert rules and dashboard name only metrics and labels that there are. Tests alone.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::table::{ALL, Description};

/// Labels that Prometheus itself, or a rule, adds.
const ADDED: [&str; 3] = ["instance", "job", "severity"];
/// A metric that Prometheus itself makes.
const UP: &str = "up";

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path))
        .unwrap()
}

fn metric(name: &str) -> Option<&'static Description> {
    ALL.iter().find(|of| of.full_name() == name).copied()
}

/// What is wrong with an expression; its metrics are added to `used`.
fn faults(expr: &str, used: &mut BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut labels: BTreeSet<&str> = ADDED.into();
    let selector = Regex::new(r"\b(rampage_[a-z0-9_]+)(?:\{([^}]*)\})?").unwrap();
    let label = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    for found in selector.captures_iter(expr) {
        let name = &found[1];
        used.insert(name.to_owned());
        let Some(of) = metric(name) else {
            faults.push(format!("no metric {name} in {expr}"));
            continue;
        };
        labels.extend(of.labels);
        let matchers = found.get(2).map_or("", |matchers| matchers.as_str());
        for matcher in label.captures_iter(matchers) {
            if !of.labels.contains(&&matcher[1]) && !ADDED[..2].contains(&&matcher[1]) {
                faults.push(format!("{name} has no label {} in {expr}", &matcher[1]));
            }
        }
    }
    let grouping = Regex::new(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)").unwrap();
    for found in grouping.captures_iter(expr) {
        let named = found[1].split(',').map(str::trim).filter(|name| !name.is_empty());
        faults.extend(
            named
                .filter(|name| !labels.contains(name))
                .map(|name| format!("nothing has a label {name} in {expr}")),
        );
    }
    faults
}

/// Labels that a text shows as `{{label}}` or `$labels.label`, which the metrics in `expr` lack.
fn unknown_labels(text: &str, expr: &str) -> Vec<String> {
    let mut used = BTreeSet::new();
    faults(expr, &mut used);
    let known = |label: &str| {
        ADDED.contains(&label)
            || used.iter().filter_map(|name| metric(name)).any(|of| of.labels.contains(&label))
    };
    let shown = Regex::new(r"\{\{([a-z_]+)\}\}|\$labels\.([a-z_]+)").unwrap();
    shown
        .captures_iter(text)
        .filter_map(|found| found.get(1).or(found.get(2)))
        .filter(|label| !known(label.as_str()))
        .map(|label| format!("{} in {text} for {expr}", label.as_str()))
        .collect()
}

/// Every object of the dashboard that has an expression.
fn expressions<'a>(value: &'a Value, out: &mut Vec<(&'a str, String)>) {
    match value {
        Value::Object(fields) => {
            if let Some(expr) = value["expr"].as_str() {
                let texts = ["legendFormat", "titleFormat", "textFormat"];
                let shown: Vec<_> = texts.iter().filter_map(|name| value[name].as_str()).collect();
                out.push((expr, shown.join(" ")));
            }
            fields.values().for_each(|field| expressions(field, out));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, out)),
        _ => {}
    }
}

#[test]
fn the_alert_rules_use_what_there_is() {
    let rules = read("prometheus/rampage.rules.yml");
    let mut used = BTreeSet::new();
    let alerts: Vec<&str> = rules.split("- alert:").skip(1).collect();
    assert!(alerts.len() >= 12);
    for alert in alerts {
        let (expr, rest) = alert.split_once("expr:").unwrap().1.split_once("labels:").unwrap();
        assert_eq!(faults(expr, &mut used), [""; 0]);
        assert_eq!(unknown_labels(rest, expr), [""; 0]);
        assert!(expr.contains("rampage_") || expr.contains(UP), "{expr}");
        for annotation in ["summary:", "description:", "action:"] {
            assert!(rest.contains(annotation), "{annotation} {alert}");
        }
    }
}

#[test]
fn the_dashboard_uses_what_there_is_and_most_of_it() {
    let dashboard: Value = serde_json::from_str(&read("grafana/rampage.json")).unwrap();
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    let mut used = BTreeSet::new();
    for (expr, shown) in &all {
        assert_eq!(faults(expr, &mut used), [""; 0]);
        assert_eq!(unknown_labels(shown, expr), [""; 0]);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["definition"].as_str().unwrap_or("");
        assert_eq!(faults(query, &mut used), [""; 0]);
    }
    assert!(used.len() * 3 > ALL.len() * 2, "{} of {}", used.len(), ALL.len());
    assert_eq!(dashboard["uid"], "rampage");
    assert!(dashboard["schemaVersion"].as_u64() >= Some(39));
    // Panels do not lie upon each other.
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|at| panel["gridPos"][at].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for (column, line) in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert((column, line)), "{}", panel["title"]);
        }
    }
}

#[test]
fn what_there_is_not_is_noticed() {
    let mut used = BTreeSet::new();
    for wrong in [
        "rampage_none > 0",
        "rampage_ready{kind=\"x\"}",
        "sum by (pool) (rampage_ready)",
        "rate(rampage_events[1m])",
    ] {
        assert_eq!(faults(wrong, &mut used).len(), 1, "{wrong}");
    }
    assert_eq!(unknown_labels("{{pool}} {{instance}}", "rampage_ready").len(), 1);
    assert_eq!(unknown_labels("{{ $labels.kind }}", "rampage_findings_total").len(), 0);
}
