//! Evidence about processes that were ended: verdicts, cascades, signals.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::evidence::{NextVictim, Spot, is_zero};
use super::look::Request;
use super::{OomScope, Party, Victim};

/// Evidence of an `oom_verdict` finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Who was killed.
    pub victims: Vec<Victim>,
    /// Who asked for memory.
    pub trigger: Party,
    /// Who caused it; null = no single culprit.
    pub culprit: Option<Culprit>,
    /// Who grew most in the last [`Verdict::window_s`], largest first, at most five.
    pub grown_in_window: Vec<Culprit>,
    /// Who grew most since first seen, largest first, at most five.
    pub grown_since_seen: Vec<Culprit>,
    /// Length of the short window, s.
    pub window_s: f64,
    /// The limit that was hit.
    pub limit: OomScope,
    /// Kills in the same limit within ten minutes.
    pub cascade: Cascade,
    /// Net rise of what is consumed of the limit in the last [`Verdict::window_s`]; null = not
    /// known. Where it is more than all processes grew, shares are shares of it.
    #[serde(default)]
    pub limit_rise_bytes: Option<u64>,
    /// Who set the limit, where its path tells; null = it does not.
    #[serde(default)]
    pub limit_set_by: Option<LimitOwner>,
    /// Victims that are not the culprit, by tgid; empty when there is none.
    #[serde(default)]
    pub bystanders: Vec<u32>,
    /// One sentence on what would help; null = the numbers do not tell.
    #[serde(default)]
    pub advice: Option<String>,
    /// Whom the OOM killer would choose next at that limit; null = nobody, or not known.
    #[serde(default)]
    pub next_victim: Option<NextVictim>,
    /// Records that were lost in the short window: figures may be too low.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_records: u64,
    /// How long the trace had run then, s, where memory may have grown before it began; null = all of
    /// the growth was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_s: Option<f64>,
}

/// Who set a memory cgroup's limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitOwner {
    /// What it is.
    pub kind: OwnerKind,
    /// Name of the unit, beginning of the container's id, or uid of the pod.
    pub name: Arc<str>,
}

/// Kinds of owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerKind {
    /// A unit of systemd (MemoryMax=, MemoryHigh=).
    Unit,
    /// A container.
    Container,
    /// A pod of Kubernetes.
    Pod,
}

/// Who grew, and by how much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// PHP pool.
    pub pool: Option<Arc<str>>,
    /// Growth in the window: of anon + swap, and of shared memory that it alone maps.
    pub grown_bytes: u64,
    /// When its present growth began, CLOCK_BOOTTIME ns; null = it is not known to grow.
    #[serde(default)]
    pub onset_ns: Option<u64>,
    /// Share in all growth of the scope in that window, 0 to 1.
    pub share: f64,
    /// Length of the window, s: the short one, or the time since it was first seen.
    pub window_s: f64,
    /// What a PHP process did when it was last looked into.
    #[serde(default)]
    pub request: Option<Request>,
    /// The PHP function that most of its growth was sampled in; null = no PHP, or not known.
    #[serde(default)]
    pub php_growth: Option<Spot>,
}

/// A kill is seldom alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cascade {
    /// This is kill number …, from 1.
    pub number: u32,
    /// Time since the first of them, s.
    pub since_s: f64,
}

/// Evidence of a `killed` finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Killed {
    /// What kind of sender.
    pub by: KilledBy,
    /// The signal that ended it: 9, or 15, also when it handled that and exited by itself.
    pub signal: u32,
    /// Who sent it; null = the kernel, or not seen.
    pub sender: Option<Party>,
    /// Anon + swap when it ended.
    pub used_bytes: u64,
    /// Highest resident set; null = unknown.
    pub peak_bytes: Option<u64>,
    /// The request that it was in, with the time in it until the signal; null = none, or not read.
    #[serde(default)]
    pub request: Option<Request>,
    /// From the first SIGTERM until the end, s; null = no SIGTERM was seen.
    #[serde(default)]
    pub term_s: Option<f64>,
    /// Records that were lost in the last minute: figures may be too low.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_records: u64,
}

/// Kinds of sender. The OOM killer is none of them: its kills have a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KilledBy {
    /// FPM's master, because a request took longer than request_terminate_timeout.
    FpmTimeout,
    /// systemd, of the host or of a user's session.
    Systemd,
    /// systemd-oomd, because of memory pressure.
    SystemdOomd,
    /// earlyoom, because of memory pressure.
    Earlyoom,
    /// Somebody at a shell, or a script in one.
    Shell,
    /// Another process.
    Process,
    /// The kernel on its own account, without an OOM kill.
    Kernel,
    /// No signal was seen.
    Unknown,
}

/// Evidence of a `cascade` finding: OOM kills at one limit within ten minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The last kills, the latest first, at most twenty.
    pub kills: Vec<SeriesKill>,
    /// How many in all.
    pub number: u32,
    /// Time since the first of them, s.
    pub since_s: f64,
    /// The limit that is hit.
    pub limit: OomScope,
    /// Who starts anew what was killed; null = nobody was seen to.
    pub respawned_by: Option<Party>,
    /// What most of the kills that are shown have in common; null = nothing.
    pub cause: Option<SeriesCause>,
    /// What would stop it.
    pub advice: String,
    /// Records that were lost since the first kill: figures may be too low.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_records: u64,
}

/// One kill of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesKill {
    /// How long ago, s.
    pub before_s: f64,
    /// Who was killed, at most five.
    pub victims: Vec<SeriesVictim>,
    /// Whom its verdict names; null = no single culprit.
    pub culprit: Option<SeriesCulprit>,
}

/// A victim of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesVictim {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
}

/// A culprit of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesCulprit {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// PHP pool.
    pub pool: Option<Arc<str>>,
}

/// What kills have in common: the narrowest of these that is not null is the cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesCause {
    /// The same kind of request: `GET /orders/{n}/export`, or the script.
    pub request: Option<Arc<str>>,
    /// The same PHP pool.
    pub pool: Option<Arc<str>>,
    /// The same program.
    pub comm: Option<Arc<str>>,
    /// In so many kills.
    pub kills: usize,
}
