//! What each service should have, so that all together fit: the values of the files that decide it, and
//! drop-in files that set them.
//!
//! What is not PHP comes first, as it is what PHP's workers push out: the system, other large processes, web
//! servers, the database with the pool that it has or was meant to have but at most a quarter, Redis but at most
//! an eighth. Where all fits as it is, these two keep what they have. PHP gets the rest, less a tenth for what its
//! limit does not count (opcache, the heap of the C library). A pool keeps its workers as long as each of them can
//! have a memory_limit to work with; else it loses workers. What nobody gets is left to the page cache.

mod emit;
mod php;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::emit::{EmitError, Emitted};
use self::emit::{Files, Section};
use crate::budget::Demand;
use crate::mysql::installed::Flavour;
use crate::mysql::memory;
use crate::mysql::variables::POOL;
use crate::observed::Observed;
use crate::report::{Report, Severity, Subject};
use crate::root::Root;
use crate::units::Service;
use crate::{Budget, Context, Facts};

const MIB: u64 = 1 << 20;

/// A service in the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The pool, instance or unit.
    pub name: String,
    /// What it needs to do its work, bytes.
    pub reserved_bytes: u64,
    /// What its configuration allows it, bytes; None where nothing bounds it.
    pub worst_bytes: Option<u64>,
    /// What it takes now, or took in a trace, bytes.
    pub observed_bytes: Option<u64>,
    /// What it should have at most, bytes.
    pub proposed_bytes: u64,
}

/// A value to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// The pool, instance or unit.
    pub name: String,
    /// As the file calls it: `pm.max_children`.
    pub key: String,
    /// The value now; None where nothing sets it.
    pub from: Option<String>,
    /// The value that fits.
    pub to: String,
    /// The drop-in file that sets it.
    pub file: PathBuf,
}

/// A budget that adds up to the memory, and how to keep to it.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// Memory of the host, bytes: the sum of all that is proposed.
    pub total_bytes: u64,
    /// Who gets how much.
    pub rows: Vec<Row>,
    /// The values.
    pub proposals: Vec<Proposal>,
    /// What has to be done by hand, or known.
    pub remarks: Vec<String>,
    /// What brings the files into force.
    pub commands: Vec<String>,
    #[serde(skip)]
    files: Files,
}

impl Plan {
    /// For what was audited. Where the memory is not known there is nothing to plan, which a remark says.
    pub fn new(facts: &Facts, report: &Report, observed: &Observed) -> Self {
        let budget = &report.budget;
        let mut plan = Self { total_bytes: budget.total_bytes, ..Self::default() };
        if budget.total_bytes == 0 {
            plan.remarks.push(
                "how much memory there is, is not known: put a copy of the host's /proc/meminfo into \
                 proc/meminfo of this file system"
                    .to_owned(),
            );
            return plan;
        }
        let context = Context { facts, budget, observed };
        let fits = fits(budget);
        let mut left = budget.total_bytes.saturating_sub(budget.system_bytes);
        for demand in &budget.demands {
            let bytes = match demand.subject {
                Subject::Php => continue,
                Subject::Mysql => plan.database(&context, demand, fits),
                Subject::Redis => plan.redis(&context, demand, fits),
                _ => demand.reserved_bytes,
            };
            left = left.saturating_sub(bytes);
            plan.row(demand, bytes);
        }
        let php_bytes = plan.php(&context, left);
        left = left.saturating_sub(php_bytes);
        let safeguards = report.findings.iter().filter(|one| one.severity >= Severity::Warning);
        for change in safeguards.filter_map(|finding| finding.change.as_ref()) {
            if change.from.is_none() && change.at.file.ends_with(crate::units::DROP_IN) {
                let section = change.section.as_deref().unwrap_or("Service");
                plan.files.line(change.at.file.to_path_buf(), Section::named(section), &change.to);
            }
        }
        plan.rows.push(Row {
            name: "kernel, page cache, small services".to_owned(),
            reserved_bytes: budget.system_bytes,
            worst_bytes: None,
            observed_bytes: None,
            proposed_bytes: budget.system_bytes.saturating_add(left),
        });
        plan.squeeze();
        if plan.files.has_unit() {
            plan.commands.insert(0, "systemctl daemon-reload".to_owned());
        }
        plan
    }

    fn row(&mut self, demand: &Demand, proposed_bytes: u64) {
        self.rows.push(Row {
            name: demand.name.clone(),
            reserved_bytes: demand.reserved_bytes,
            worst_bytes: demand.worst_bytes,
            observed_bytes: demand.observed_bytes,
            proposed_bytes,
        });
    }

    fn propose(&mut self, name: &str, key: &str, from: Option<String>, to: String, file: PathBuf) {
        let (name, key) = (name.to_owned(), key.to_owned());
        self.proposals.push(Proposal { name, key, from, to, file });
    }

    fn restart(&mut self, facts: &Facts, service: Service, otherwise: &str) {
        let unit = facts.units.used().find(|unit| unit.service == service);
        let name = unit.map_or(otherwise, |unit| unit.name.trim_end_matches(".service"));
        self.commands.push(format!("systemctl restart {name}"));
    }

    /// What a database gets: its pool as it is, or as a file that is never read meant it, at most a quarter.
    /// Where all fits, it keeps what it has.
    fn database(&mut self, context: &Context<'_>, demand: &Demand, fits: bool) -> u64 {
        let facts = &context.facts.mysql;
        let Some(server) = facts.servers.iter().find(|server| server.name == demand.name) else {
            return demand.reserved_bytes;
        };
        let now = memory::pool(server, context.budget.total_bytes).value;
        let meant = facts.unread.iter().filter_map(|file| Some(file.said.get(POOL)?.value)).max();
        let most = (context.budget.total_bytes / 4 / (64 * MIB)).max(1) * 64 * MIB;
        let most = if fits { most.max(now) } else { most };
        let pool = meant.unwrap_or(0).max(now).min(most);
        let rest = demand.reserved_bytes.saturating_sub(now);
        if pool == now {
            return rest.saturating_add(pool);
        }
        let to = memory::option(pool);
        match server.drop_in() {
            Some(file) => {
                let line = format!("innodb_buffer_pool_size = {to}");
                self.files.line(file.clone(), Section::named("mysqld"), &line);
                let from = Some(memory::option(now));
                self.propose(&demand.name, "innodb_buffer_pool_size", from, to, file);
                let name = match server.flavour {
                    Flavour::Mariadb => "mariadb",
                    Flavour::Mysql => "mysql",
                };
                self.restart(context.facts, Service::Mysql, name);
                if server.outranks_drop_in(POOL) {
                    self.remarks.push(format!(
                        "{}: its command line, a SET PERSIST or a file that is read later sets the buffer pool, too, \
                         and counts more",
                        demand.name
                    ));
                }
            }
            None => self.remarks.push(format!(
                "{}: no folder of drop-in files is read; set innodb_buffer_pool_size = {to} in its own file",
                demand.name
            )),
        }
        rest.saturating_add(pool)
    }

    /// What Redis gets: never less than it holds, because then it would lose keys or refuse to write at once. It
    /// reads no folder of its own accord, so the line goes by hand.
    fn redis(&mut self, context: &Context<'_>, demand: &Demand, fits: bool) -> u64 {
        let most = context.budget.total_bytes / 8;
        let facts = &context.facts.redis;
        let Some(instance) = facts.instances.iter().find(|one| one.name == demand.name) else {
            return demand.reserved_bytes;
        };
        // A snapshot is written by a copy of the process, for which there must be room.
        let copies = if instance.forks() { 2 } else { 1 };
        let set = instance.config.maxmemory().value;
        if set > 0 && fits {
            return demand.reserved_bytes;
        }
        if set > 0 && set.saturating_mul(copies) <= most {
            return demand.reserved_bytes.max(set.saturating_mul(copies));
        }
        // Twice what it holds now, so that it does not begin to evict tomorrow.
        let bytes = match demand.observed_bytes {
            Some(held) => held.saturating_mul(2).max(64 * MIB).min(most / copies).max(held),
            None => most / copies,
        };
        let bytes = bytes.div_ceil(MIB).max(1) * MIB;
        if set > 0 && bytes >= set {
            return demand.reserved_bytes;
        }
        let to = format!("{}mb", bytes / MIB);
        let from = (set > 0).then(|| format!("{}mb", set / MIB));
        match (instance.drop_in("maxmemory"), &instance.file) {
            (Some(file), _) => {
                self.files.line(file.clone(), Section::none(), &format!("maxmemory {to}"));
                self.propose(&demand.name, "maxmemory", from, to, file);
                self.restart(context.facts, Service::Redis, "redis-server");
            }
            (None, file) => self.remarks.push(format!(
                "{}: Redis reads no drop-in files: write `maxmemory {to}` into {}, and say it to the running one by \
                 `redis-cli CONFIG SET maxmemory {to}`",
                demand.name,
                file.as_ref().map_or_else(|| "its file".to_owned(), |file| file.display().to_string())
            )),
        }
        bytes.saturating_mul(copies)
    }

    /// Services that need more than there is cannot be planned for: PHP's rows then stand for what is left.
    fn squeeze(&mut self) {
        let sum = self.rows.iter().map(|row| row.proposed_bytes).fold(0, u64::saturating_add);
        if sum > self.total_bytes {
            self.remarks.push(
                "what the other services need is more than the memory: move one to another host"
                    .to_owned(),
            );
        }
    }

    /// Writes the drop-in files below `folder`, each at its place in the file system. What such a file of an earlier
    /// plan sets in `root`, which is planned for, is kept where this plan says nothing else.
    ///
    /// # Errors
    ///
    /// See [`EmitError`]. A file that somebody else wrote is left alone.
    pub fn emit(&self, root: &Root, folder: &Path) -> Result<Emitted, EmitError> {
        self.files.write(root, folder)
    }
}

/// Whether what all others need and PHP's worst case are no more than there is.
fn fits(budget: &Budget) -> bool {
    let others = budget.demands.iter().filter(|demand| demand.subject != Subject::Php);
    let others = others.map(|demand| demand.reserved_bytes).fold(0, u64::saturating_add);
    let free = budget.total_bytes.saturating_sub(budget.system_bytes);
    let worst = budget.worst_bytes(Subject::Php);
    worst.is_some_and(|worst| worst.saturating_add(others) <= free)
}
