//! The events that flow through the pipeline, which are also the lines of a trace file
//! (schema `rampage/1`).
//!
//! An event says what happened; [`Stamped`] adds when. Every quantity ends in its unit, times are
//! CLOCK_BOOTTIME nanoseconds, a process is always `tgid` and `start_ns` (rounded down to 10 ms).
//! Strings are what the kernel and /proc gave, with invalid UTF-8 replaced: they are hostile input,
//! and whoever prints them goes through [`crate::text`].

mod cgroup;
mod ended;
mod evidence;
mod finding;
mod header;
mod kill;
pub mod look;
mod pattern;
mod process;
mod request;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use cgroup::{Cgroup, CgroupEvents, CgroupGone, CgroupMove, Pressure};
pub use ended::{
    Cascade, Culprit, Killed, KilledBy, LimitOwner, OwnerKind, Series, SeriesCause, SeriesCulprit,
    SeriesKill, SeriesVictim, Verdict,
};
pub use evidence::{
    Diagnosis, Leak, Limit, LimitSetting, LostForm, LostWork, MemoryKind, NextVictim,
    PoolDiagnosis, PoolWorker, Runaway, Spot, Waiting,
};
pub use finding::{Evidence, Finding, FindingKind, FindingState, Severity, Subject};
pub use header::{Config, Filters, Gap, Header, Hook, PoolConfig, SCHEMA, SegmentPlace};
pub use kill::{Oom, OomScope, Party, ScopeKind, Signal, Victim};
pub use pattern::matches_pattern;
pub use process::{Exit, Growth, Php, Process, ProcessCause};
pub use request::{PhpGrowth, RequestEdge, RequestPhase};

/// An event and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// CLOCK_BOOTTIME, ns.
    pub t_ns: u64,
    /// Wall clock, ns since 1970-01-01 UTC.
    pub wall_ns: i64,
    /// What happened.
    pub event: Event,
}

/// Identity of a process that survives reuse of its tgid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Start, CLOCK_BOOTTIME ns, rounded down to 10 ms.
    pub start_ns: u64,
}

/// What happened: one line of a trace, by its `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is documented at its struct")]
pub enum Event {
    Header(Box<Header>),
    Config(Box<Config>),
    Restated(Restated),
    Process(Process),
    Growth(Growth),
    Php(Box<look::Look>),
    PhpGrowth(Box<PhpGrowth>),
    Request(RequestEdge),
    Cgroup(Box<Cgroup>),
    CgroupMove(CgroupMove),
    CgroupGone(CgroupGone),
    Tick(Tick),
    Pressure(Pressure),
    Stall(Stall),
    Signal(Box<Signal>),
    Oom(Box<Oom>),
    Exit(Exit),
    Finding(Box<Finding>),
    Lost(Lost),
    End(End),
    /// A type of a newer schema; a reader passes over it.
    #[serde(other)]
    Unknown,
}

/// Time passes; once each interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {}

/// Ends the state that is written anew at the head of a file: what follows has happened since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restated {}

/// A process was stalled in reclaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Process id.
    pub tgid: u32,
    /// Start, ns.
    pub start_ns: u64,
    /// Its memory cgroup.
    pub cgroup: Option<Arc<str>>,
    /// `direct` (the host is short) or `memcg` (a limit).
    pub kind: StallKind,
    /// Time since its last stall event, ns.
    pub duration_ns: u64,
}

/// Which kind of reclaim stalled a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StallKind {
    /// The host is short.
    Direct,
    /// A memory cgroup's limit.
    Memcg,
}

/// Records that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Where: `ring:growth`, `ring:fork`, `map:procs`, `disk` …
    pub source: Arc<str>,
    /// How many since the last event of this source.
    pub records: u64,
}

/// Last line of a complete trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// `signal`, `duration`, `quit`, `end of input` …
    pub reason: String,
    /// Events before this one.
    pub events: u64,
    /// Records lost in all.
    pub lost: u64,
}

/// What is about one process has its identity.
macro_rules! keyed {
    ($($event:ty),+) => {$(
        impl $event {
            /// Identity of the process.
            pub fn key(&self) -> ProcessKey {
                ProcessKey { tgid: self.tgid, start_ns: self.start_ns }
            }
        }
    )+};
}
keyed!(
    CgroupMove,
    Culprit,
    Exit,
    Growth,
    look::Look,
    NextVictim,
    Party,
    PhpGrowth,
    PoolWorker,
    Process,
    RequestEdge,
    Stall,
    Subject,
    Victim
);
