//! How many requests Apache works on at a time, with the corrections that it makes at its start.

use crate::origin::Set;
use crate::php::ini::integer;

use super::read::Config;

/// How processes and threads are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process for each request.
    Prefork,
    /// Processes with threads.
    Worker,
    /// Likewise, and idle connections take no thread.
    Event,
}

/// What is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mpm {
    /// Which.
    pub kind: Kind,
    /// Requests at a time, with the line that sets MaxRequestWorkers.
    pub workers: Set<u32>,
    /// Most processes.
    pub processes: u32,
}

impl Mpm {
    /// Of a whole configuration; None where no module for it is loaded.
    pub fn of(config: &Config) -> Option<Self> {
        let loaded = |module: &str| config.modules.contains_key(module);
        let kind = if loaded("mpm_prefork_module") {
            Kind::Prefork
        } else if loaded("mpm_worker_module") {
            Kind::Worker
        } else if loaded("mpm_event_module") {
            Kind::Event
        } else {
            return None;
        };
        let number = |names: &[&str], default: i32| match config.last(names) {
            Some(found) => Set::at(integer(unquoted(&found.args)), found.at.clone()),
            None => Set::default_of(default),
        };
        let prefork = kind == Kind::Prefork;
        let (servers, most, workers) =
            if prefork { (256, 200_000, 256) } else { (16, 20_000, 400) };
        let server_limit = number(&["ServerLimit"], servers).value.clamp(1, most);
        let thread_limit = number(&["ThreadLimit"], 64).value.clamp(1, 20_000);
        let threads = number(&["ThreadsPerChild"], 25).value.clamp(1, thread_limit);
        let threads = if prefork { 1 } else { threads };
        let asked = number(&["MaxRequestWorkers", "MaxClients"], workers);
        let processes = (asked.value.max(threads) / threads).clamp(1, server_limit);
        Some(Self {
            kind,
            workers: Set { value: processes.saturating_mul(threads) as u32, at: asked.at },
            processes: processes as u32,
        })
    }
}

fn unquoted(args: &str) -> &[u8] {
    args.trim_matches(['"', '\'']).as_bytes()
}
