//! What is known of processes, memory cgroups and the host, kept from events alone. The cost of an
//! event does not depend on how many processes there are.

mod apply;
mod badness;
mod bound;
mod certainty;
mod cgroup;
mod gauge;
mod growers;
mod history;
mod host;
mod intern;
mod lows;
mod owner;
mod php;
mod pools;
mod process;
mod rise;
mod roster;
mod scope;
#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
mod soup;
mod stalls;
mod strain;
#[cfg(test)]
mod tests;
mod tree;
mod trend;

pub use cgroup::{Cgroup, is_below};
pub use gauge::Rates;
pub use host::Host;
pub use lows::FloorRise;
pub use owner::{Identity, identity};
pub use php::{Insight, Leak, MemoryLimit, RequestGrowth, RequestKind};
pub use pools::Pool;
pub use process::Process;
pub use rise::Rise;
pub use roster::Exited;
pub use scope::Scope;
pub use strain::Strain;

pub(crate) use owner::of as limit_owner;
pub(crate) use scope::eta_s;

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::event::{Config, ProcessKey, ScopeKind};
use certainty::{Affected, Certainty};
use gauge::Gauge;
use intern::Interner;
use php::Requests;
use pools::Pools;
use process::NO_NODE;
use roster::{Known, Roster};
use tree::Tree;

/// Changed processes are reported at least this often by the kernel, ns.
const REPORT_NS: u64 = 1_000_000_000;
/// The state of the traced host.
#[derive(Debug)]
pub struct Model {
    config: Config,
    now_ns: u64,
    certainty: Certainty,
    roster: Roster,
    tree: Tree,
    host: Host,
    host_gauge: Gauge,
    names: Interner,
    pools: Pools,
    requests: Requests,
    /// PHP processes are looked into: what one does will be known.
    looks: bool,
    /// The growth of PHP processes under suspicion is sampled.
    samples: bool,
    /// Time within which a changed process is reported.
    report_ns: u64,
    /// Time within which cgroups and host are reported.
    tick_ns: u64,
    /// Processes with a rate that must fade when they fall silent.
    moving: Vec<(u32, ProcessKey)>,
    refreshed_ns: u64,
}

/// The limit that a process is closest to.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Memcg, host or PHP's memory_limit.
    pub kind: ScopeKind,
    /// Path of the cgroup; None for the others.
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
            certainty: Certainty::default(),
            roster: Roster::default(),
            tree: Tree::default(),
            host: Host::default(),
            host_gauge: Gauge::default(),
            names: Interner::default(),
            pools: Pools::default(),
            requests: Requests::default(),
            looks: false,
            samples: false,
            report_ns: REPORT_NS,
            tick_ns: config.interval_ns.clamp(REPORT_NS, 60 * REPORT_NS),
            moving: Vec::new(),
            refreshed_ns: 0,
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

    /// Time of the first event, CLOCK_BOOTTIME ns: nothing is known of what was before.
    pub fn began_ns(&self) -> u64 {
        self.certainty.began_ns()
    }

    /// Records that were lost since a time, as far as they make sizes and identities uncertain.
    pub fn lost_since(&self, since_ns: u64) -> u64 {
        self.certainty.lost_since(since_ns, Affected::Growth)
    }

    /// The same of those that make times of waiting uncertain.
    pub fn stalls_lost_since(&self, since_ns: u64) -> u64 {
        self.certainty.lost_since(since_ns, Affected::Waiting)
    }

    /// Living processes, in no order.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.roster.living()
    }

    /// One living process.
    pub fn process(&self, key: &ProcessKey) -> Option<&Process> {
        match self.roster.locate(key) {
            Known::Living(slot) => self.roster.get(slot),
            _ => None,
        }
    }

    /// The living process of a tgid, whenever it started.
    pub fn by_tgid(&self, tgid: u32) -> Option<&Process> {
        self.roster.by_tgid(tgid)
    }

    /// A process that ended within the last two minutes.
    pub fn exited(&self, key: &ProcessKey) -> Option<&Exited> {
        self.roster.exited(key)
    }

    /// Processes that ended within the last two minutes, at most 4096, in no order.
    pub fn all_exited(&self) -> impl Iterator<Item = &Exited> {
        self.roster.all_exited()
    }

    /// A process that lives or ended lately.
    pub fn living_or_exited(&self, key: &ProcessKey) -> Option<&Process> {
        self.process(key).or_else(|| self.exited(key).map(|exited| &exited.process))
    }

    /// Known memory cgroups, in no order.
    pub fn cgroups(&self) -> impl Iterator<Item = &Cgroup> {
        self.tree.nodes().filter(|node| node.is_known).map(|node| &node.cgroup)
    }

    /// One memory cgroup, by its path.
    pub fn cgroup(&self, path: &str) -> Option<&Cgroup> {
        let node = self.tree.get(self.tree.find(path)?)?;
        node.is_known.then_some(&node.cgroup)
    }

    /// The known cgroups of a path, from itself up to the root.
    pub fn ancestors(&self, path: &str) -> impl Iterator<Item = &Cgroup> {
        let at = self.tree.find(path).unwrap_or(NO_NODE);
        self.tree.chain(at).filter(|node| node.is_known).map(|node| &node.cgroup)
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The limits over a process: its cgroup's, those above, and the host's.
    pub fn limits_of(&self, process: &Process) -> impl Iterator<Item = Scope<'_>> {
        self.tree
            .chain(process.node)
            .filter_map(|node| Scope::memcg(self, &node.cgroup.path, &node.gauge))
            .chain(Scope::host(self, &self.host_gauge))
    }

    /// The limit of one memory cgroup, or the host's (None). None = it has no limit.
    pub fn limit(&self, path: Option<&str>) -> Option<Scope<'_>> {
        let Some(path) = path else { return Scope::host(self, &self.host_gauge) };
        let node = self.tree.get(self.tree.find(path)?)?;
        Scope::memcg(self, &node.cgroup.path, &node.gauge)
    }

    /// All limits.
    pub fn limits(&self) -> impl Iterator<Item = Scope<'_>> {
        self.tree
            .nodes()
            .filter_map(|node| Scope::memcg(self, &node.cgroup.path, &node.gauge))
            .chain(Scope::host(self, &self.host_gauge))
    }

    /// All limits at which somebody waits for memory, and the host.
    pub fn strains(&self) -> impl Iterator<Item = Strain<'_>> {
        self.tree
            .nodes()
            .filter_map(|node| Strain::memcg(self, node))
            .chain(Strain::host(self, &self.host_gauge))
    }

    /// The limit of one cgroup if somebody waits there, or the host's (None).
    pub fn strain(&self, path: Option<&str>) -> Option<Strain<'_>> {
        let Some(path) = path else { return Strain::host(self, &self.host_gauge) };
        Strain::memcg(self, self.tree.get(self.tree.find(path)?)?)
    }

    /// Those who grew most lately below any limit, each once.
    pub fn growers(&self) -> impl Iterator<Item = &Process> {
        let mut seen = FxHashSet::default();
        let all = self.limits().flat_map(|scope| scope.growers());
        all.filter(move |process| seen.insert(process.key))
    }

    /// PHP pools that have workers, in no order.
    pub fn pools(&self) -> impl Iterator<Item = Pool<'_>> {
        self.pools.iter(&self.roster)
    }

    /// Growth by kind of request, in no order.
    pub fn requests(&self) -> impl Iterator<Item = (&RequestKind, &RequestGrowth)> {
        self.requests.iter()
    }

    /// Growth of PHP processes that counts towards no kind of request, bytes.
    pub fn unattributed_bytes(&self) -> u64 {
        self.requests.unattributed_bytes()
    }

    /// Whether PHP processes are looked into, so that what one does will be known soon.
    pub fn takes_looks(&self) -> bool {
        self.looks
    }

    /// Whether the growth of PHP processes under suspicion is sampled, so that the code which grows
    /// will be known soon.
    pub fn takes_samples(&self) -> bool {
        self.looks && self.samples
    }

    /// The limit that this process will meet first, or, when nothing grows, the one with the least
    /// room left.
    pub fn forecast(&self, process: &Process) -> Option<Forecast> {
        let all = self.shared_forecast(process).into_iter().chain(self.memory_limit(process));
        all.min_by(Forecast::nearer)
    }

    /// The same of the limits that it shares with others: cgroups and host.
    pub fn shared_forecast(&self, process: &Process) -> Option<Forecast> {
        self.limits_of(process).map(|scope| scope.forecast()).min_by(Forecast::nearer)
    }

    /// When a PHP process will meet its own memory_limit. None = no PHP, no limit, or not known.
    pub fn memory_limit(&self, process: &Process) -> Option<Forecast> {
        let MemoryLimit { limit_bytes, headroom_bytes } = process.memory_limit()?;
        let rate_bytes_per_s = process.rate_at(self.now_ns);
        Some(Forecast {
            kind: ScopeKind::Php,
            path: None,
            limit_bytes,
            headroom_bytes,
            rate_bytes_per_s,
            eta_s: eta_s(headroom_bytes, rate_bytes_per_s),
        })
    }
}

impl Forecast {
    /// Orders by time left, and then by room left.
    pub fn nearer(&self, other: &Self) -> std::cmp::Ordering {
        let time = |forecast: &Self| forecast.eta_s.unwrap_or(f64::INFINITY);
        time(self).total_cmp(&time(other)).then(self.headroom_bytes.cmp(&other.headroom_bytes))
    }
}
