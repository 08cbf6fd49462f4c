//! An explained finding as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::explain::Point;
use crate::detect::{Account, Rule, Unit};
use crate::event::{Culprit, Finding, FindingState, Severity, Stamped};
use crate::sink::plain::clock;
use crate::text::{self, printable};

/// A finding, and what it rests on.
pub(super) struct Explained<'a> {
    pub at: &'a Stamped,
    pub finding: &'a Finding,
    pub points: &'a [Point],
    pub account: Account,
}

impl Explained<'_> {
    /// Some lines, and an empty one.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let finding = self.finding;
        let state = match finding.state {
            FindingState::Raised => "raised",
            FindingState::Updated => "updated",
            FindingState::Closed => "closed",
        };
        let severity = match finding.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let t_s = self.at.t_ns as f64 / 1e9;
        write!(out, "finding {} ({severity}), {state} at ", finding.id)?;
        clock(out, self.at.wall_ns);
        writeln!(out, ", {t_s:.3} s after boot")?;
        writeln!(out, "  {}", printable(&finding.summary))?;
        self.write_points(out)?;
        if !self.account.numbers.is_empty() {
            writeln!(out, "\n  numbers")?;
        }
        for number in &self.account.numbers {
            writeln!(out, "    {:<48} {:>12}", number.what, number.unit.show(number.value))?;
        }
        for (heading, culprits) in &self.account.rankings {
            write_ranking(out, heading, culprits)?;
        }
        write_rules(out, "rules", &self.account.rules)?;
        write_rules(out, "choices", &self.account.choices)?;
        if let Some(therefore) = &self.account.therefore {
            writeln!(out, "\n  {}", printable(therefore))?;
        }
        writeln!(out)
    }

    fn write_points(&self, out: &mut String) -> std::fmt::Result {
        let is_known = |point: &&Point| point.size.is_some() || point.limit.is_some();
        let points: Vec<&Point> = self.points.iter().filter(is_known).collect();
        if points.is_empty() {
            return Ok(());
        }
        let [time, size, rate, used, left] = ["time", "size", "rate", "limit used", "limit left"];
        writeln!(out, "\n  {time:>10} {size:>12} {rate:>14} {used:>12} {left:>12}")?;
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), text::bytes);
        for point in points {
            let rate = point.size.map(|size| text::rate(size.rate_bytes_per_s));
            writeln!(
                out,
                "  {:>8.1} s {:>12} {:>14} {:>12} {:>12}",
                self.seconds(point),
                bytes(point.size.map(|size| size.bytes)),
                rate.unwrap_or_else(|| "-".to_owned()),
                bytes(point.limit.map(|(used, _)| used)),
                bytes(point.limit.map(|(_, left)| left)),
            )?;
        }
        Ok(())
    }

    /// Before the finding: negative.
    fn seconds(&self, point: &Point) -> f64 {
        let before_ns = self.at.t_ns.max(point.t_ns) - point.t_ns;
        if before_ns == 0 { 0.0 } else { -(before_ns as f64 / 1e9) }
    }

    /// One line.
    pub fn json(&self) -> String {
        let points = self.points.iter().map(|point| {
            json!({
                "t": point.t_ns,
                "size_bytes": point.size.map(|size| size.bytes),
                "rate_bytes_per_s": point.size.map(|size| size.rate_bytes_per_s),
                "limit_used_bytes": point.limit.map(|(used, _)| used),
                "limit_headroom_bytes": point.limit.map(|(_, left)| left),
            })
        });
        let points: Vec<Value> = points.collect();
        let account = &self.account;
        let numbers = account.numbers.iter().map(|number| {
            json!({
                "what": number.what.trim_start(),
                "value": number.value,
                "unit": number.unit.name(),
            })
        });
        let numbers: Vec<Value> = numbers.collect();
        let rankings = account
            .rankings
            .iter()
            .map(|(heading, culprits)| json!({ "what": heading, "processes": culprits }));
        let rankings: Vec<Value> = rankings.collect();
        let line = json!({
            "t": self.at.t_ns,
            "finding": self.finding,
            "points": points,
            "numbers": numbers,
            "rankings": rankings,
            "rules": rules(&account.rules),
            "choices": rules(&account.choices),
            "therefore": account.therefore,
        });
        format!("{line}\n")
    }
}

fn write_ranking(out: &mut String, heading: &str, culprits: &[Culprit]) -> std::fmt::Result {
    writeln!(out, "\n  {heading}")?;
    if culprits.is_empty() {
        writeln!(out, "    nobody")?;
    }
    for culprit in culprits {
        let comm = printable(&culprit.comm);
        let name = format!("{} (pid {})", text::fit(&comm, 32), culprit.tgid);
        writeln!(
            out,
            "    {name:<48} {:>12} {:>6} in {}",
            text::bytes(culprit.grown_bytes),
            Unit::Share.show(culprit.share),
            text::seconds(culprit.window_s),
        )?;
    }
    Ok(())
}

fn write_rules(out: &mut String, heading: &str, rules: &[Rule]) -> std::fmt::Result {
    if rules.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n  {heading}")?;
    for rule in rules {
        let value = rule.unit.show(rule.value);
        let needs = format!("{} {}", rule.needs.words(), rule.unit.show(rule.bound));
        let holds = if rule.holds() { "yes" } else { "no" };
        writeln!(out, "    {:<48} {value:>12}   {needs:<20} {holds}", rule.what)?;
    }
    Ok(())
}

fn rules(rules: &[Rule]) -> Vec<Value> {
    let told = |rule: &Rule| {
        json!({
            "what": rule.what,
            "value": rule.value,
            "needs": rule.needs.words(),
            "bound": rule.bound,
            "unit": rule.unit.name(),
            "holds": rule.holds(),
        })
    };
    rules.iter().map(told).collect()
}
