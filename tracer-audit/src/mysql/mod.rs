//! MariaDB and MySQL: which option files a server reads, what they come to, what is in force, and whether that
//! fits. A server that runs is asked over its local socket when the audit is root's; where it cannot be asked, its
//! log and its mappings tell what it runs with.
//!
//! What files cannot show: the accounts. In an unpacked file system a login of root without limits is known
//! only from `skip-grant-tables`, from an `init_file`, and from a client's option file that logs root in
//! without a password.

pub mod access;
pub mod ask;
pub mod files;
#[cfg(test)]
mod fuzz;
mod in_force;
pub mod installed;
mod mapped;
pub mod memory;
pub mod option_file;
pub mod options;
mod persisted;
pub mod reader;
pub mod recorded;
pub mod server;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod variables;

use crate::Context;
use crate::budget::Demand;
use crate::origin::Notes;
use crate::processes::Process;
use crate::report::Finding;
use crate::root::Root;
use server::Server;

/// What the files and processes say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Those that run, or the installed one.
    pub servers: Vec<Server>,
    /// Those that run in a container.
    pub contained: Vec<Process>,
    /// Option files that no server reads, though they have options for one.
    pub unread: Vec<files::Unread>,
    /// Files that log in a client, or are run by a server as it starts.
    pub logins: Vec<access::Login>,
}

/// Reads them.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Facts {
    let (servers, contained) = server::find(root, processes, notes);
    if servers.is_empty() {
        return Facts { contained, ..Facts::default() };
    }
    let unread = files::unread(root, &servers);
    let logins = access::logins(root, &servers, notes);
    Facts { servers, contained, unread, logins }
}

/// What each of them takes at worst.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    let facts = context.facts;
    let total = facts.machine.total_bytes;
    let servers = facts.mysql.servers.iter().map(|server| memory::demand(server, total));
    servers.chain(facts.mysql.contained.iter().map(memory::contained)).collect()
}

/// What is wrong.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let facts = &context.facts.mysql;
    let mut findings = Vec::new();
    for server in &facts.servers {
        findings.extend(memory::judge(server, context));
        findings.extend(files::judge(server, &facts.unread, context));
        findings.extend(in_force::judge(server, context));
        findings.extend(access::judge(server));
    }
    findings.extend(facts.logins.iter().map(access::Login::finding));
    findings
}
