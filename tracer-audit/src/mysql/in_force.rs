//! What a running server does, against what its files say.

use super::installed::{Flavour, Version};
use super::memory::pool;
use super::server::Server;
use crate::origin::Origin;
use crate::report::{Finding, Severity, Subject};
use crate::size::human;
use crate::{Context, Set};

/// A piece of the pool, to whole ones of which a server rounds it up (MariaDB before 10.11.12).
const PIECE_BYTES: u64 = 128 << 20;

/// A file's time is cut down to seconds, and a server reads for a moment after its start.
const SLACK_S: u64 = 2;

/// Differences of `server` to its files.
pub fn judge(server: &Server, context: &Context<'_>) -> Vec<Finding> {
    let changed = changed(server);
    let mut findings: Vec<Finding> = not_in_force(server, context, &changed)
        .into_iter()
        .chain(connections(server, &changed))
        .collect();
    if findings.is_empty() {
        findings.extend(since_start(server, &changed));
    }
    findings
}

fn not_in_force(server: &Server, context: &Context<'_>, changed: &[Origin]) -> Option<Finding> {
    // Of what is not known, what counts may be the rest.
    if server.reading.partial {
        return None;
    }
    let configured = pool(server, context.budget.total_bytes);
    let (in_force, most, recorded) = in_force(server, configured.value)?;
    let rounded = configured.value.saturating_add(rounding_bytes(server, configured.value));
    if in_force == configured.value || (configured.value..rounded).contains(&in_force) {
        return None;
    }
    // Without any process, as in a backup, it is not known whether it runs.
    let stopped = server.process.is_none() && !context.facts.processes.is_empty();
    let severity = if stopped { Severity::Info } else { Severity::Warning };
    let runs = if server.process.is_some() { "runs" } else { "last started" };
    let mut finding = Finding::new(
        "mysql_not_in_force",
        severity,
        Subject::Mysql,
        &server.name,
        format!(
            "{} {runs} with a buffer pool of {most}{}, but {} are configured",
            server.name,
            human(in_force),
            human(configured.value)
        ),
        why(server, &configured, changed),
    );
    finding.at = configured.at;
    finding.others = recorded.into_iter().chain(changed.iter().cloned()).collect();
    finding.figures =
        [("pool_bytes", in_force), ("configured_pool_bytes", configured.value)].into();
    Some(finding)
}

/// The pool that is in force, bytes, `at most ` where it is only bounded, and the line of the log that says it: by
/// the server's answer, its log, or what it has mapped.
fn in_force(server: &Server, configured: u64) -> Option<(u64, &'static str, Option<Origin>)> {
    if let Some(pool) = server.answer.as_ref().and_then(|answer| answer.pool_bytes) {
        return Some((pool, "", None));
    }
    // Each start writes the log: one that is older than the process belongs to another.
    let started = server.process.as_ref().map_or(0, |process| process.started_unix_s);
    let fresh = server
        .recorded
        .as_ref()
        .filter(|log| log.written_unix_s.saturating_add(SLACK_S) >= started);
    match fresh {
        Some(log) => Some((log.pool_bytes, "", Some(log.at.clone()))),
        None => {
            let mapped = server.mapped_bytes.filter(|mapped| *mapped < configured)?;
            Some((mapped, "at most ", None))
        }
    }
}

/// How much the pool may be larger than was asked for. MySQL has up to 64 parts of whole pieces, but none of a pool
/// below a GiB, and never more than the pool itself (manual, 17.8.3.1); MariaDB had them before 10.5.
fn rounding_bytes(server: &Server, pool: u64) -> u64 {
    let parts = server.flavour == Flavour::Mysql
        || server.version.is_some_and(|version| version < Version::new(10, 5));
    if parts && pool >= 1 << 30 { pool } else { PIECE_BYTES.min(pool) }
}

/// The server lowers the number by itself where it may not open enough files.
fn connections(server: &Server, changed: &[Origin]) -> Option<Finding> {
    let configured = server.max_connections();
    let in_force = server.answer.as_ref()?.max_connections?;
    if in_force == configured.value || server.reading.partial {
        return None;
    }
    let mut finding = Finding::new(
        "mysql_not_in_force",
        Severity::Info,
        Subject::Mysql,
        &server.name,
        format!(
            "{} lets in {in_force} connections, but {} are configured",
            server.name, configured.value
        ),
        format!(
            "{} It lowers the number by itself where its limit of open files is too low.",
            why(server, &configured, changed)
        ),
    );
    finding.at = configured.at;
    finding.others = changed.to_vec();
    finding.figures =
        [("connections", in_force), ("configured_connections", configured.value)].into();
    Some(finding)
}

fn why(server: &Server, configured: &Set<u64>, changed: &[Origin]) -> String {
    if server.process.is_none() {
        return "The files count when it starts again.".to_owned();
    }
    let own = configured.at.as_ref().map(|at| &at.file);
    match changed.iter().find(|at| Some(&at.file) == own).or_else(|| changed.first()) {
        Some(at) => {
            format!("{at} changed after the server had started: it counts after a restart.")
        }
        None => "It was changed in the running server, or given to it by other means: a restart \
                 brings back what the files say."
            .to_owned(),
    }
}

fn since_start(server: &Server, changed: &[Origin]) -> Option<Finding> {
    let first = changed.first()?;
    let mut finding = Finding::new(
        "mysql_changed_since_start",
        Severity::Info,
        Subject::Mysql,
        &server.name,
        format!("{first} changed after {} had started", server.name),
        "What it says now counts only after a restart; whatever starts the server next brings it in.",
    );
    finding.at = Some(first.clone());
    finding.others = changed[1..].to_vec();
    Some(finding)
}

/// Files that were written, and folders in which files came or went, after the server's start.
fn changed(server: &Server) -> Vec<Origin> {
    let Some(process) = server.process.as_ref().filter(|process| process.started_unix_s > 0) else {
        return Vec::new();
    };
    let after = process.started_unix_s.saturating_add(SLACK_S);
    let files = server.reading.files.iter().map(|(file, written)| (file, *written));
    let folders = server.reading.folders.iter().map(|folder| (&folder.path, folder.written_unix_s));
    files
        .chain(folders)
        .filter(|(_, written)| *written > after)
        .map(|(path, _)| Origin::whole(path.clone()))
        .collect()
}
