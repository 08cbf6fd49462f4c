//! What is known of a run from outside the tracer: who was who, when the growth began, when it did
//! harm, and who was killed.

use std::collections::BTreeMap;

use rampage::event::{Event, Oom, ProcessKey};
use rampage::model::is_below;
use serde::{Deserialize, Serialize};

use super::cast::Cast;
use crate::trace::{Trace, any_in};

/// The facts of one run; times are CLOCK_BOOTTIME ns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Start of the timeline.
    pub start_ns: u64,
    /// When the harmful growth began, or the tracer came, whichever is later.
    pub onset_ns: Option<u64>,
    /// When the harm was done: the first kill, or the limit reached, or the end.
    pub harm_ns: u64,
    /// Who was who.
    pub cast: Cast,
    /// Paths of the cgroups by name.
    pub cgroups: BTreeMap<String, String>,
    /// Who was ended by SIGKILL or SIGTERM, or by the OOM killer.
    pub killed: Vec<Killed>,
    /// Invocations of the OOM killer.
    pub ooms: usize,
}

/// Somebody was ended by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Who.
    pub key: ProcessKey,
    /// When.
    pub t_ns: u64,
    /// By the OOM killer.
    pub oom: bool,
}

impl Facts {
    /// Whether a path is one of the scenario's cgroups, or below.
    pub fn is_ours(&self, path: &str) -> bool {
        self.cgroups.values().any(|cgroup| is_below(path, cgroup))
    }

    /// Time from onset to harm; None = no harmful growth.
    pub fn possible_ns(&self) -> Option<u64> {
        self.onset_ns.map(|onset_ns| self.harm_ns.saturating_sub(onset_ns))
    }

    /// Time from `t_ns` to the harm, as a share of what was possible.
    pub fn lead_share(&self, t_ns: u64) -> Option<f64> {
        let possible_ns = self.possible_ns()?.max(1);
        Some((self.harm_ns.saturating_sub(t_ns) as f64 / possible_ns as f64).min(1.0))
    }
}

/// Whether one of the victims was in one of these cgroups, or below.
pub(super) fn hits(oom: &Oom, cgroups: &BTreeMap<String, String>) -> bool {
    cgroups.values().any(|path| any_in(&oom.victims, path))
}

/// Who of the cast was killed, in order, and how often the OOM killer came.
pub fn killed(
    trace: &Trace,
    cast: &Cast,
    cgroups: &BTreeMap<String, String>,
) -> (Vec<Killed>, usize) {
    let mut killed: Vec<Killed> = Vec::new();
    let mut ooms = 0;
    for line in &trace.lines {
        match &line.event {
            Event::Oom(oom) if hits(oom, cgroups) => {
                ooms += 1;
                let victims = oom.victims.iter().map(|victim| Killed {
                    key: victim.key(),
                    t_ns: line.t_ns,
                    oom: true,
                });
                killed.extend(victims);
            }
            Event::Exit(exit) if matches!(exit.signal, Some(9 | 15)) => {
                let key = exit.key();
                let is_told = killed.iter().any(|one| one.key == key);
                if cast.contains(&key) && !is_told {
                    killed.push(Killed { key, t_ns: line.t_ns, oom: false });
                }
            }
            _ => {}
        }
    }
    (killed, ooms)
}
