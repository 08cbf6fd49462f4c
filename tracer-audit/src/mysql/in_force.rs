//! What a running server does, against what its files say.

use super::memory::pool;
use super::server::Server;
use crate::Context;
use crate::origin::Origin;
use crate::report::{Finding, Severity, Subject};
use crate::size::human;

/// A server rounds its pool up to whole pieces for each of its parts: at most 8 of 128 MiB (MySQL 8.0's
/// manual, 17.8.3.1; MariaDB before 10.11.12).
const ROUNDING_BYTES: u64 = 1 << 30;

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
    let configured = pool(server, context.budget.total_bytes);
    let asked = server.answer.as_ref().and_then(|answer| answer.pool_bytes);
    let (in_force, most) = match asked {
        Some(pool) => (pool, ""),
        None => (server.mapped_bytes.filter(|mapped| *mapped < configured.value)?, "at most "),
    };
    if in_force == configured.value
        || (configured.value..configured.value.saturating_add(ROUNDING_BYTES)).contains(&in_force)
    {
        return None;
    }
    let mut finding = Finding::new(
        "mysql_not_in_force",
        Severity::Warning,
        Subject::Mysql,
        &server.name,
        format!(
            "{} runs with a buffer pool of {most}{}, but {} are configured",
            server.name,
            human(in_force),
            human(configured.value)
        ),
        why(changed),
    );
    finding.at = configured.at;
    finding.others = changed.to_vec();
    finding.figures =
        [("pool_bytes", in_force), ("configured_pool_bytes", configured.value)].into();
    Some(finding)
}

/// The server lowers the number by itself where it may not open enough files.
fn connections(server: &Server, changed: &[Origin]) -> Option<Finding> {
    let configured = server.max_connections();
    let in_force = server.answer.as_ref()?.max_connections?;
    if in_force == configured.value {
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
            why(changed)
        ),
    );
    finding.at = configured.at;
    finding.others = changed.to_vec();
    finding.figures =
        [("connections", in_force), ("configured_connections", configured.value)].into();
    Some(finding)
}

fn why(changed: &[Origin]) -> String {
    match changed.first() {
        Some(at) => {
            format!("{at} changed after the server had started: it counts after a restart.")
        }
        None => {
            "It was changed in the running server, or given to it by other means: a restart brings \
                 back what the files say."
                .to_owned()
        }
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
    let after = process.started_unix_s + SLACK_S;
    let files = server.reading.files.iter().map(|(file, written)| (file, *written));
    let folders = server.reading.folders.iter().map(|folder| (&folder.path, folder.written_unix_s));
    files
        .chain(folders)
        .filter(|(_, written)| *written > after)
        .map(|(path, _)| Origin::whole(path.clone()))
        .collect()
}
