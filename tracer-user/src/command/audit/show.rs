//! How an audit is printed.

use std::io::{self, Write};
use std::path::Path;

use audit::plan::{Emitted, Row};
use audit::{Change, Finding, Origin, Plan, Report, Severity};
use serde_json::json;

use super::{shown, word};
use crate::text::{bytes, columns, printable};

/// One object: findings, budget, notes, and the plan where it was asked for.
pub fn json(out: &mut impl Write, report: &Report, plan: Option<&Plan>) -> io::Result<()> {
    let mut value = serde_json::to_value(report)?;
    if let (Some(plan), Some(object)) = (plan, value.as_object_mut()) {
        object.insert("plan".to_owned(), json!(plan));
    }
    serde_json::to_writer(&mut *out, &value)?;
    writeln!(out)
}

/// The findings, a paragraph each, and what was not seen.
pub fn report(out: &mut impl Write, report: &Report, colour: bool) -> io::Result<()> {
    for finding in &report.findings {
        self::finding(out, finding, colour)?;
    }
    notes(out, report)?;
    let count = |severity| report.findings.iter().filter(|one| one.severity == severity).count();
    let warnings = count(Severity::Warning);
    writeln!(
        out,
        "{} critical, {warnings} warning{}, {} to know; `rampage audit --plan` proposes what fits",
        count(Severity::Critical),
        if warnings == 1 { "" } else { "s" },
        count(Severity::Info)
    )
}

fn notes(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for note in &report.notes {
        let at = note.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
        writeln!(out, "note: {}{}", printable(&at), printable(&note.text))?;
    }
    if !report.notes.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}

fn finding(out: &mut impl Write, finding: &Finding, colour: bool) -> io::Result<()> {
    let name = word(finding.severity).to_uppercase();
    let (on, off) = match finding.severity {
        _ if !colour => ("", ""),
        Severity::Critical => ("\x1b[1;31m", "\x1b[0m"),
        Severity::Warning => ("\x1b[33m", "\x1b[0m"),
        Severity::Info => ("", ""),
    };
    writeln!(out, "{on}{name:<8}{off} {}", printable(&finding.summary))?;
    if let Some(at) = &finding.at {
        writeln!(out, "         at      {}", printable(&at.to_string()))?;
    }
    for other in &finding.others {
        writeln!(out, "         see     {}", printable(&other.to_string()))?;
    }
    writeln!(out, "         why     {}", printable(&finding.why))?;
    if let Some(change) = &finding.change {
        self::change(out, change, finding.at.as_ref())?;
    }
    writeln!(out)
}

/// Where it is, unless the finding has said that.
fn change(out: &mut impl Write, change: &Change, said: Option<&Origin>) -> io::Result<()> {
    match &change.from {
        Some(from) => {
            writeln!(out, "         change  {}", printable(from.trim()))?;
            writeln!(out, "         to      {}", printable(&change.to))?;
        }
        None => writeln!(out, "         add     {}", printable(&change.to))?,
    }
    if change.from.is_none() || change.section.is_some() || said != Some(&change.at) {
        let section = change.section.as_ref().map(|name| format!(", [{name}]")).unwrap_or_default();
        writeln!(out, "         in      {}", printable(&format!("{}{section}", change.at)))?;
    }
    Ok(())
}

/// The table of the budget, and each value that is proposed.
pub fn plan(out: &mut impl Write, plan: &Plan, report: &Report) -> io::Result<()> {
    let heads = ["SERVICE", "RESERVED", "WORST CASE", "OBSERVED", "PROPOSED"].map(str::to_owned);
    let mut rows: Vec<[String; 5]> = vec![heads];
    rows.extend(plan.rows.iter().map(row));
    let sum = plan.rows.iter().map(|row| row.proposed_bytes).fold(0, u64::saturating_add);
    let empty = String::new;
    rows.push(["sum".to_owned(), empty(), empty(), empty(), bytes(sum)]);
    rows.push(["memory".to_owned(), empty(), empty(), empty(), bytes(plan.total_bytes)]);
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = columns(cell).max(*width);
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[at] - columns(cell));
            let cell = if at == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
            line.push_str(&cell);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)?;
    for proposal in &plan.proposals {
        let from = proposal.from.as_deref().unwrap_or("not set");
        writeln!(
            out,
            "{}: {} = {} (now {})",
            printable(&proposal.name),
            printable(&proposal.key),
            printable(&proposal.to),
            printable(from)
        )?;
        writeln!(out, "    in {}", shown(&proposal.file))?;
    }
    if plan.proposals.is_empty() {
        writeln!(out, "Nothing to change: what is configured fits.")?;
    }
    for remark in &plan.remarks {
        writeln!(out, "note: {}", printable(remark))?;
    }
    notes(out, report)
}

fn row(row: &Row) -> [String; 5] {
    let unbounded = || "no bound".to_owned();
    [
        printable(&row.name).into_owned(),
        bytes(row.reserved_bytes),
        row.worst_bytes.map_or_else(unbounded, bytes),
        row.observed_bytes.map_or_else(|| "-".to_owned(), bytes),
        bytes(row.proposed_bytes),
    ]
}

/// The files that were written, and how they come into force.
pub fn emitted(
    out: &mut impl Write,
    folder: &Path,
    emitted: &Emitted,
    plan: &Plan,
) -> io::Result<()> {
    writeln!(out)?;
    for file in &emitted.files {
        writeln!(out, "wrote {}", shown(file))?;
    }
    if folder != Path::new("/") && !emitted.files.is_empty() {
        writeln!(out, "Read them, then copy what is below {} to /.", shown(folder))?;
    }
    for command in &plan.commands {
        writeln!(out, "then: {}", printable(command))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use audit::Subject;

    use super::*;

    #[test]
    fn a_change_says_where_it_is_unless_the_finding_does() {
        let file: Arc<Path> = Path::new("/etc/www.conf").into();
        let (children, limit) = (Origin::new(&file, 8), Origin::new(&file, 11));
        let mut finding = Finding::new(
            "large",
            Severity::Critical,
            Subject::Php,
            "www",
            "Too much.",
            "It kills.",
        );
        finding.at = Some(children.clone());
        let mut shown = |change| {
            finding.change = Some(change);
            let mut out = Vec::new();
            super::finding(&mut out, &finding, false).unwrap();
            String::from_utf8(out).unwrap()
        };
        let there = shown(Change::replace(children, "pm.max_children = 20", "pm.max_children = 4"));
        assert!(
            there.ends_with(
                "change  pm.max_children = 20\n         to      pm.max_children = 4\n\n"
            )
        );
        let elsewhere = shown(Change::replace(limit, "memory_limit = 8G", "memory_limit = 1G"));
        assert!(elsewhere.contains("         in      /etc/www.conf:11\n"), "{elsewhere}");
        let new = shown(Change::add(Path::new("/etc/x"), Some("Service"), "MemoryMax=1G"));
        assert!(
            new.contains("add     MemoryMax=1G\n         in      /etc/x, [Service]\n"),
            "{new}"
        );
    }
}
