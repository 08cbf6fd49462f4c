//! `rampage audit`: what of the configuration will exhaust the memory. What files say is the crate
//! `tracer-audit`'s; here it is joined with what running workers and traces show, and printed.

mod observe;
mod show;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use audit::{Plan, Report, Root, Severity};

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
    let observed = observe::all(&root, args.trace.as_deref())?;
    let (facts, notes) = audit::read(&root);
    let report = audit::judge(&facts, &observed, notes);
    let plan = (args.plan || args.emit.is_some()).then(|| Plan::new(&facts, &report, &observed));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        show::json(&mut out, &report, plan.as_ref())
    } else {
        let colour = std::env::var_os("NO_COLOR").is_none() && io::stdout().is_terminal();
        match &plan {
            Some(plan) => show::plan(&mut out, plan, &report),
            None => show::report(&mut out, &report, colour),
        }
    };
    let written = written.and_then(|()| out.flush());
    written.map_err(|error| SinkError::writing("standard output", error))?;
    if let (Some(folder), Some(plan)) = (&args.emit, &plan) {
        let emitted = plan.emit(&root, folder).map_err(|source| UsageError::Emit { source })?;
        if !args.json {
            show::emitted(&mut io::stdout().lock(), folder, &emitted, plan)
                .map_err(|error| SinkError::writing("standard output", error))?;
        }
    }
    judge(&report, args.fail_on)
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
