//! Whom the model names as the next victim just before each kill, against whom the kernel killed.

use anyhow::Result;
use rampage::event::{Event, NextVictim, Oom, Stamped, Victim};
use rampage::model::Model;

use crate::trace::Trace;

/// A kill, and what the model knew before it.
#[derive(Clone, Debug)]
pub struct Foretold<'a> {
    /// Whom it named; None = nobody.
    pub named: Option<NextVictim>,
    /// Whom the kernel killed.
    pub oom: &'a Oom,
    /// When, CLOCK_BOOTTIME ns.
    pub t_ns: u64,
}

/// All kills at the limit of `path` and below, in order. A group kill is told when all of it were marked, by
/// then the first may have ended: the signals come before.
pub fn before_kills<'a>(trace: &'a Trace, path: &str) -> Result<Vec<Foretold<'a>>> {
    let mut kills = trace.ooms_in(path).into_iter().peekable();
    let mut model = Model::new(&trace.header()?.config);
    let mut found = Vec::new();
    for line in &trace.lines {
        while let Some(oom) = kills.next_if(|oom| is_kill(&line.event, oom)) {
            found.push(Foretold { named: model.next_victim(Some(path)), oom, t_ns: line.t_ns });
        }
        model.apply(&Stamped { t_ns: line.t_ns, wall_ns: 0, event: line.event.clone() });
    }
    Ok(found)
}

fn is_kill(event: &Event, oom: &Oom) -> bool {
    match event {
        Event::Oom(told) => **told == *oom,
        Event::Signal(signal) => {
            let is_target = |victim: &Victim| victim.tgid == signal.target.tgid;
            signal.from_kernel && oom.victims.iter().any(is_target)
        }
        _ => false,
    }
}
