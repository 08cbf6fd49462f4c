//! What a server takes of the memory, and whether it fits.
//!
//! The bound that is usual for MySQL counts every buffer of every connection at once, which no server has ever
//! taken. It is in the budget as an upper bound; a finding needs more: a pool that does not fit by itself, or
//! own limits with which the buffers alone (no packets, no temporary tables) are beyond the memory.

use super::installed::Flavour;
use super::server::Server;
use super::settings;
use super::variables::{CONNECTIONS, POOL};
use crate::budget::{Budget, Demand};
use crate::processes::Process;
use crate::report::{Change, Finding, Severity, Subject};
use crate::size::human;
use crate::{Context, Set};

const MIB: u64 = 1 << 20;

/// Buffers beside the pool that exist once.
const SHARED: [&str; 3] = ["key-buffer-size", "aria-pagecache-buffer-size", "query-cache-size"];

/// Buffers of each connection.
const OF_A_CONNECTION: [&str; 8] = [
    "sort-buffer-size",
    "join-buffer-size",
    "read-buffer-size",
    "read-rnd-buffer-size",
    "thread-stack",
    "net-buffer-length",
    "binlog-cache-size",
    "binlog-stmt-cache-size",
];

/// What a server has beside its buffers: 80 MiB of anonymous memory in an idle MariaDB 10.11 with a pool of 256
/// MiB that is still empty, measured. MySQL 8 has a performance schema on top, 350 MiB in all by its manual.
fn base_bytes(flavour: Flavour) -> u64 {
    match flavour {
        Flavour::Mariadb => 80 * MIB,
        Flavour::Mysql => 350 * MIB,
    }
}

/// What a server's settings allow it, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The buffer pool.
    pub pool: u64,
    /// What it needs beside the pool to do its work.
    pub base: u64,
    /// Other buffers that exist once. They are filled only by engines that are in use.
    pub shared: u64,
    /// Buffers of a connection that sorts, joins and reads without an index, each once.
    pub buffers: u64,
    /// A packet and a temporary table of a connection, each as large as it may be.
    pub extremes: u64,
    /// How many connections there may be: one more is kept for an administrator.
    pub connections: u64,
}

impl Sizes {
    /// Of the settings of `server`; the pool of a MySQL that takes what there is, of `total_bytes`.
    pub fn new(server: &Server, total_bytes: u64) -> Self {
        let number = |name: &str| server.settings.number(name).value;
        let sum =
            |names: &[&str]| names.iter().map(|name| number(name)).fold(0, u64::saturating_add);
        Self {
            pool: pool(server, total_bytes).value,
            base: base_bytes(server.flavour).saturating_add(number("innodb-log-buffer-size")),
            shared: sum(&SHARED),
            buffers: sum(&OF_A_CONNECTION),
            extremes: number("max-allowed-packet")
                .saturating_add(number("tmp-table-size").min(number("max-heap-table-size"))),
            connections: number(CONNECTIONS).saturating_add(1),
        }
    }

    /// All connections with all their buffers.
    pub fn busy(&self) -> u64 {
        self.once().saturating_add(self.connections.saturating_mul(self.buffers))
    }

    /// The usual bound: everything at once.
    pub fn worst(&self) -> u64 {
        let each = self.buffers.saturating_add(self.extremes);
        self.once().saturating_add(self.connections.saturating_mul(each))
    }

    fn once(&self) -> u64 {
        self.pool.saturating_add(self.base).saturating_add(self.shared)
    }
}

/// The buffer pool of files and arguments. `innodb_dedicated_server` of MySQL 8.0 makes it from the memory when
/// nobody says anything (manual, 17.8.12).
pub fn pool(server: &Server, total_bytes: u64) -> Set<u64> {
    let pool = server.pool();
    if !server.settings.dedicated || !server.settings.said(POOL).is_empty() || total_bytes < 1 << 30
    {
        return pool;
    }
    let share = if total_bytes <= 4 << 30 { total_bytes / 2 } else { total_bytes / 4 * 3 };
    Set { value: share, ..pool }
}

/// The pool that fits into what the budget leaves to databases, bytes: whole 64 MiB, at least the 64 MiB with
/// which a server still works.
pub fn fitting_pool(server: &Server, budget: &Budget) -> u64 {
    let sizes = Sizes::new(server, budget.total_bytes);
    let room = budget.room_for_bytes(Subject::Mysql);
    // A tenth of all connections at work at the same time is a busy server.
    let work = sizes.base.saturating_add((sizes.connections / 10).saturating_mul(sizes.buffers));
    let rest = room.saturating_sub(work);
    (rest - rest % (64 * MIB)).max(64 * MIB)
}

/// A size as an option has it: `2G`.
pub fn option(bytes: u64) -> String {
    for (suffix, unit) in [("G", 1 << 30), ("M", MIB), ("K", 1 << 10)] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{suffix}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// What `server` takes.
pub fn demand(server: &Server, total_bytes: u64) -> Demand {
    let sizes = Sizes::new(server, total_bytes);
    let observed = server.process.as_ref().map(|process| process.held_bytes());
    let needs = sizes.pool.saturating_add(sizes.base);
    Demand {
        subject: Subject::Mysql,
        name: server.name.clone(),
        reserved_bytes: needs.max(observed.unwrap_or(0)),
        worst_bytes: Some(sizes.worst()),
        observed_bytes: observed,
        how: format!(
            "a pool of {}, {} shared, and at most {} for each of {} connections: an upper bound, \
             which no server reaches",
            human(sizes.pool),
            human(sizes.shared.saturating_add(sizes.base)),
            human(sizes.buffers.saturating_add(sizes.extremes)),
            sizes.connections
        ),
        at: server.pool().at,
    }
}

/// What a server in a container takes, of which no file is read.
pub fn contained(process: &Process) -> Demand {
    Demand {
        subject: Subject::Mysql,
        name: format!("{} in a container (process {})", process.comm, process.tgid),
        reserved_bytes: process.held_bytes(),
        worst_bytes: None,
        observed_bytes: Some(process.held_bytes()),
        how: "its option files are in the container, and not read".to_owned(),
        at: None,
    }
}

/// A pool, or connections, that do not fit.
pub fn judge(server: &Server, context: &Context<'_>) -> Vec<Finding> {
    let total = context.budget.total_bytes;
    if total == 0 {
        return Vec::new();
    }
    let mut findings: Vec<Finding> = too_large(server, context).into_iter().collect();
    // Connections do not matter where the pool is too large by itself.
    if findings.is_empty() {
        findings.extend(shared_too_large(server, context).or_else(|| too_many(server, context)));
    }
    findings
}

fn too_large(server: &Server, context: &Context<'_>) -> Option<Finding> {
    let budget = context.budget;
    let sizes = Sizes::new(server, budget.total_bytes);
    let pool = pool(server, budget.total_bytes);
    let needs = sizes.pool.saturating_add(sizes.base);
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    let room = budget.room_for_bytes(Subject::Mysql);
    // A small one is not what takes the memory, however much the others reserve.
    if needs <= room || needs <= memory / 4 {
        return None;
    }
    let given = !server.settings.said(POOL).is_empty();
    let severity = match (needs > memory, given) {
        (_, false) => Severity::Info,
        (true, true) => Severity::Critical,
        (false, true) => Severity::Warning,
    };
    let fitting = fitting_pool(server, budget);
    let mut finding = Finding::new(
        "mysql_pool_too_large",
        severity,
        Subject::Mysql,
        &server.name,
        format!(
            "{} has a buffer pool of {} and needs {} with it, but {} are left to it",
            server.name,
            human(sizes.pool),
            human(needs),
            human(room)
        ),
        "The pool is filled sooner or later and never given back; then the kernel swaps, and kills \
         the largest process, which is the database.",
    );
    finding.excess_bytes = needs.saturating_sub(room);
    finding.change = change(server, POOL, &option(fitting));
    finding.at = pool.at;
    finding.figures = [
        ("pool_bytes", sizes.pool),
        ("needed_bytes", needs),
        ("room_bytes", room),
        ("fitting_pool_bytes", fitting),
    ]
    .into();
    Some(finding)
}

/// Another buffer that exists once: given, large, and more than there is with the rest. Those that nobody set are
/// hardly used.
fn shared_too_large(server: &Server, context: &Context<'_>) -> Option<Finding> {
    let budget = context.budget;
    let sizes = Sizes::new(server, budget.total_bytes);
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    let given = SHARED.iter().filter(|name| !server.settings.said(name).is_empty());
    let (name, set) = given
        .map(|name| (name, server.settings.number(name)))
        .max_by_key(|(_, set)| set.value)
        .filter(|(_, set)| sizes.once() > memory && set.value > memory / 4)?;
    let key = name.replace('-', "_");
    let others = sizes.once().saturating_sub(set.value);
    let fitting = memory.saturating_sub(others);
    let mut finding = Finding::new(
        "mysql_buffer_too_large",
        Severity::Warning,
        Subject::Mysql,
        &server.name,
        format!(
            "{} has a {key} of {} beside {} that it needs anyway, but there are {}",
            server.name,
            human(set.value),
            human(others),
            human(memory)
        ),
        "Engines that use it fill it and never give it back; then the kernel swaps, and kills the largest \
         process, which is the database.",
    );
    finding.excess_bytes = sizes.once() - memory;
    if fitting >= MIB {
        finding.change = change(server, name, &option(fitting - fitting % MIB));
    }
    finding.at = set.at;
    finding.figures = [
        ("buffer_bytes", set.value),
        ("needed_bytes", sizes.once()),
        ("memory_bytes", memory),
        ("fitting_buffer_bytes", fitting),
    ]
    .into();
    Some(finding)
}

fn too_many(server: &Server, context: &Context<'_>) -> Option<Finding> {
    let budget = context.budget;
    let sizes = Sizes::new(server, budget.total_bytes);
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    // What the makers chose is nobody's mistake.
    let own = settings::numbers()
        .filter(|name| *name == CONNECTIONS || OF_A_CONNECTION.contains(name))
        .filter_map(|name| server.settings.said(name).last())
        .max_by_key(|said| said.at.is_some())?;
    // Where nothing is left to them, connections are not the cause.
    let rest = memory.saturating_sub(sizes.once());
    if sizes.busy() <= memory || rest == 0 {
        return None;
    }
    // One more is kept for an administrator.
    let fitting = (rest / sizes.buffers.max(1)).saturating_sub(1).clamp(10, 100_000);
    let limit = server.max_connections();
    let mut finding = Finding::new(
        "mysql_connections_exceed_memory",
        Severity::Warning,
        Subject::Mysql,
        &server.name,
        format!(
            "{} may take {} when all {} connections use their {} of buffers, but there are {}: an \
             upper bound, which even a busy server hardly reaches",
            server.name,
            human(sizes.busy()),
            sizes.connections,
            human(sizes.buffers),
            human(memory)
        ),
        "A site that is stuck opens all its connections at once, just when memory is short.",
    );
    finding.excess_bytes = sizes.busy() - memory;
    if fitting < limit.value {
        finding.change = change(server, CONNECTIONS, &fitting.to_string());
    }
    finding.at = limit.at.or_else(|| own.at.clone());
    finding.figures = [
        ("busy_bytes", sizes.busy()),
        ("worst_bytes", sizes.worst()),
        ("connections", sizes.connections),
        ("buffers_bytes", sizes.buffers),
        ("memory_bytes", memory),
        ("fitting_connections", fitting),
    ]
    .into();
    Some(finding)
}

/// The line that gives `name` the value `value`: another text for the one that counts, or one more. None where
/// no file that can be written decides it.
pub fn change(server: &Server, name: &str, value: &str) -> Option<Change> {
    let key = name.replace('-', "_");
    if let Some(last) = server.settings.said(name).last() {
        let at = last.at.as_ref()?;
        let from = server.line_at(at)?;
        let (head, tail) = from.split_once('=').unwrap_or((key.as_str(), ""));
        let blanks = &tail[..tail.len() - tail.trim_start().len()];
        return Some(Change::replace(at.clone(), from, format!("{head}={blanks}{value}")));
    }
    let last = server.reading.files.last().map(|(file, _)| file.to_path_buf());
    let file = server.drop_in().or(last).unwrap_or_else(|| "/etc/mysql/my.cnf".into());
    Some(Change::add(file, Some("mysqld"), format!("{key}={value}")))
}
