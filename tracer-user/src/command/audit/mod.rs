//! `rampage audit`: what of the configuration will exhaust the memory. What files say is the crate
//! `tracer-audit`'s; here it is joined with what running workers and traces show, and printed.

mod observe;
mod show;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use audit::{Plan, Report, Root, Severity};

use self::observe::Seen;
use crate::cli::{Audit, FailOn, UsageError};
use crate::sink::SinkError;
use crate::text::printable;

/// Something is at or above the threshold; exit code 5.
#[derive(Debug, thiserror::Error)]
#[error("{count} {} at or above --fail-on {threshold}", if *count == 1 { "finding" } else { "findings" })]
pub struct Failed {
    /// Findings that are.
    pub count: usize,
    /// The threshold.
    pub threshold: &'static str,
}

/// Audits, prints, and writes drop-in files where that is asked for.
pub fn execute(args: &Audit) -> anyhow::Result<()> {
    let path = args.root.as_deref().unwrap_or(Path::new("/"));
    let root = Root::new(path).map_err(|source| UsageError::AuditRoot { source })?;
    let Seen { observed, unseen, damage } = observe::all(&root, args.trace.as_deref())?;
    let (facts, mut notes) = audit::read(&root);
    notes.extend(unseen);
    let report = audit::judge(&facts, &observed, notes);
    let plan = (args.plan || args.emit.is_some()).then(|| Plan::new(&facts, &report, &observed));
    // Before it is printed: who reads that may go away.
    let emitted =
        args.emit.as_ref().zip(plan.as_ref()).map(|(folder, plan)| plan.emit(&root, folder));
    let written = print(args, &report, plan.as_ref());
    let emitted = emitted.transpose().map_err(|source| UsageError::Emit { source })?;
    let written = written.and_then(|()| match (&args.emit, &emitted, &plan) {
        (Some(folder), Some(emitted), Some(plan)) if !args.json => {
            show::emitted(&mut io::stdout().lock(), folder, emitted, plan)
        }
        _ => Ok(()),
    });
    written.map_err(|error| SinkError::writing("standard output", error))?;
    let judged = judge(&report, args.fail_on);
    match damage {
        Some(damage) if judged.is_ok() => Err(damage.into()),
        Some(damage) => {
            tracing::warn!("{damage}");
            judged
        }
        None => judged,
    }
}

fn print(args: &Audit, report: &Report, plan: Option<&Plan>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        show::json(&mut out, report, plan)?;
    } else if let Some(plan) = plan {
        show::plan(&mut out, plan, report)?;
    } else {
        let colour = std::env::var_os("NO_COLOR").is_none() && io::stdout().is_terminal();
        show::report(&mut out, report, colour)?;
    }
    out.flush()
}

fn judge(report: &Report, threshold: FailOn) -> anyhow::Result<()> {
    let Some(least) = threshold.severity() else { return Ok(()) };
    match report.findings.iter().filter(|finding| finding.severity >= least).count() {
        0 => Ok(()),
        count => Err(Failed { count, threshold: word(least) }.into()),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// A path, safe for a terminal.
fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}
