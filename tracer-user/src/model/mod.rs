//! What is known of processes, memory cgroups and the host, kept from events alone.

mod cgroup;
mod history;
mod host;
mod process;

pub use cgroup::Cgroup;
pub use host::Host;
pub use process::Process;

use crate::event::{Config, ProcessKey, ScopeKind, Stamped};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The state of the traced host.
#[derive(Debug)]
pub struct Model {
    config: Config,
    now_ns: u64,
    processes: FxHashMap<ProcessKey, Process>,
    cgroups: FxHashMap<Arc<str>, Cgroup>,
    host: Host,
}

/// The limit that a process is closest to.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Memcg or host.
    pub kind: ScopeKind,
    /// Path of the cgroup; None for the host.
    pub path: Option<Arc<str>>,
    /// The limit.
    pub limit_bytes: u64,
    /// What is left of it, reclaimable file pages counted as free.
    pub headroom_bytes: u64,
    /// Net rate at which it is used up.
    pub rate_bytes_per_s: f64,
    /// Estimated seconds until nothing is left; None = not growing.
    pub eta_s: Option<f64>,
}

impl Model {
    /// An empty model.
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            now_ns: 0,
            processes: FxHashMap::default(),
            cgroups: FxHashMap::default(),
            host: Host::default(),
        }
    }

    /// Settings of this trace.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Time of the last event, CLOCK_BOOTTIME ns.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Takes in one event.
    pub fn apply(&mut self, at: &Stamped) {
        self.now_ns = at.t_ns;
    }

    /// Living processes, in no order.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// One process.
    pub fn process(&self, key: &ProcessKey) -> Option<&Process> {
        self.processes.get(key)
    }

    /// Known memory cgroups, in no order.
    pub fn cgroups(&self) -> impl Iterator<Item = &Cgroup> {
        self.cgroups.values()
    }

    /// One memory cgroup, by its path.
    pub fn cgroup(&self, path: &str) -> Option<&Cgroup> {
        self.cgroups.get(path)
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The limit that this process will meet first, or, when nothing grows, the one with the least
    /// room left.
    pub fn forecast(&self, process: &Process) -> Option<Forecast> {
        let _ = process;
        None
    }
}
