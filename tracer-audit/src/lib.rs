//! The causes of an outage, found in configuration files before it happens.
//!
//! A subject has a folder: it reads its files as its program does ([`Root`] keeps it inside the audited file
//! system), says what it takes at worst ([`Demand`](budget::Demand)), and judges that against the memory of
//! the host ([`Budget`]). Nothing is written, no process is stopped, no other host is asked. Owns no
//! output: the command `rampage audit` shows the [`Report`].

mod bound;
pub mod budget;
mod dpkg;
mod drop_in;
pub mod machine;
pub mod mysql;
pub mod observed;
pub mod origin;
pub mod php;
pub mod plan;
pub mod processes;
pub mod redis;
pub mod report;
pub mod root;
pub mod size;
pub mod system;
#[cfg(test)]
mod test;
pub mod units;
pub mod web;

#[cfg(test)]
mod mutate;

pub use budget::Budget;
pub use machine::Machine;
pub use observed::Observed;
pub use origin::{Note, Notes, Origin, Set};
pub use plan::Plan;
pub use processes::Process;
pub use report::{Change, Finding, Report, Severity, Subject};
pub use root::{ReadError, Root};

/// All that was read, before it is judged.
#[derive(Debug)]
pub struct Facts {
    /// Memory and swap.
    pub machine: Machine,
    /// What runs.
    pub processes: Vec<Process>,
    /// PHP-FPM and mod_php.
    pub php: php::Facts,
    /// MariaDB and MySQL.
    pub mysql: mysql::Facts,
    /// Redis.
    pub redis: redis::Facts,
    /// nginx and Apache.
    pub web: web::Facts,
    /// systemd's units of these.
    pub units: units::Facts,
    /// Swap, overcommit, killers, containers.
    pub system: system::Facts,
}

/// What a judge looks at: all facts, because one service's limit depends on the others.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// All facts.
    pub facts: &'a Facts,
    /// Who takes how much; empty while the demands are made.
    pub budget: &'a Budget,
    /// What was seen of running workers, or in a trace.
    pub observed: &'a Observed,
}

/// Audits the file system `root`.
pub fn audit(root: &Root, observed: &Observed) -> Report {
    let (facts, notes) = read(root);
    judge(&facts, observed, notes)
}

/// All facts, and what could not be read.
pub fn read(root: &Root) -> (Facts, Vec<Note>) {
    let mut notes = Notes::default();
    let processes = processes::read(root, &mut notes);
    let facts = Facts {
        machine: Machine::read(root, &mut notes),
        php: php::read(root, &processes, &mut notes),
        mysql: mysql::read(root, &processes, &mut notes),
        redis: redis::read(root, &processes, &mut notes),
        web: web::read(root, &processes, &mut notes),
        units: units::read(root, &processes, &mut notes),
        system: system::read(root, &processes, &mut notes),
        processes,
    };
    (facts, notes.finish())
}

/// What is wrong with them.
pub fn judge(facts: &Facts, observed: &Observed, notes: Vec<Note>) -> Report {
    let nobody = Budget::default();
    let first = Context { facts, budget: &nobody, observed };
    let demands = [
        php::demands,
        mysql::demands,
        redis::demands,
        web::demands,
        units::demands,
        system::demands,
    ];
    let demands = demands.iter().flat_map(|demands| demands(&first)).collect();
    let budget = Budget::new(facts.machine.total_bytes, demands);
    let context = Context { budget: &budget, ..first };
    let judges = [php::judge, mysql::judge, redis::judge, web::judge, units::judge, system::judge];
    let findings = judges.iter().flat_map(|judge| judge(&context)).collect();
    Report::new(findings, budget, notes)
}
