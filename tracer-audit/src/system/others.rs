//! Large processes that are no known service: what they hold, nobody else can have.

use std::collections::BTreeMap;

use crate::Context;
use crate::budget::Demand;
use crate::processes::Process;
use crate::report::Subject;
use crate::size::human;

/// From this share of the memory on processes of one name are a demand of their own: a twentieth.
const SHARE: u64 = 20;

/// What a process is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PHP-FPM, or PHP's CGI.
    Php,
    /// A database server: what a site cannot be without.
    Database,
    /// nginx or Apache.
    Web,
    /// rampage itself.
    Own,
    /// Anything else.
    Other,
}

/// What the process is.
pub fn kind(process: &Process) -> Kind {
    match process.comm.as_str() {
        "mariadbd" | "mysqld" | "redis-server" | "valkey-server" | "postgres" => Kind::Database,
        "nginx" | "apache2" | "httpd" => Kind::Web,
        "rampage" | "rampage-courier" => Kind::Own,
        comm if comm.starts_with("php-fpm") || comm.starts_with("php-cgi") => Kind::Php,
        _ => Kind::Other,
    }
}

/// A demand for each name whose processes together hold more than a twentieth of the memory. PostgreSQL is
/// one of them: nothing else counts it.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    let total = context.facts.machine.total_bytes;
    if total == 0 {
        return Vec::new();
    }
    let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for process in &context.facts.processes {
        if kind(process) == Kind::Other || process.comm == "postgres" {
            let (count, held) = by_name.entry(&process.comm).or_default();
            *count += 1;
            *held = held.saturating_add(process.held_bytes());
        }
    }
    let large = by_name.into_iter().filter(|&(_, (_, held))| held > total / SHARE);
    large
        .map(|(name, (count, held))| Demand {
            subject: Subject::System,
            name: name.to_owned(),
            reserved_bytes: held,
            worst_bytes: None,
            observed_bytes: Some(held),
            how: match count {
                1 => format!("1 process holds {} now, and nothing bounds it", human(held)),
                _ => format!("{count} processes hold {} now, and nothing bounds them", human(held)),
            },
            at: None,
        })
        .collect()
}
