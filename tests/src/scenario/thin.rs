//! A trace without what has nothing to do with its scenario: small enough to be kept.

use std::collections::{BTreeSet, HashMap};

use rampage::event::{Event, ProcessKey};
use rampage::model::is_below;

use super::facts::{self, Facts};
use crate::trace::{Line, Trace};

/// The lines to be kept: header, ticks, losses, the host, the scenario's cgroups and processes, and
/// what stands above these. Findings are left out, a replay makes them anew.
pub fn thin<'a>(trace: &'a Trace, facts: &Facts) -> Vec<&'a Line> {
    let kept = processes(trace, facts);
    trace.lines.iter().filter(|line| is_kept(&line.event, &kept, facts)).collect()
}

fn is_kept(event: &Event, kept: &BTreeSet<ProcessKey>, facts: &Facts) -> bool {
    match event {
        Event::Header(_) | Event::Config(_) | Event::Tick(_) | Event::Lost(_) | Event::End(_) => {
            true
        }
        Event::Process(process) => kept.contains(&process.key()),
        Event::Growth(growth) => kept.contains(&growth.key()),
        Event::Php(look) => kept.contains(&look.key()),
        Event::PhpGrowth(growth) => kept.contains(&growth.key()),
        Event::Request(edge) => kept.contains(&edge.key()),
        Event::Stall(stall) => kept.contains(&stall.key()),
        Event::Exit(exit) => kept.contains(&exit.key()),
        Event::CgroupMove(moved) => kept.contains(&moved.key()),
        Event::Cgroup(cgroup) => is_near(&cgroup.path, facts),
        Event::CgroupGone(gone) => is_near(&gone.path, facts),
        Event::Pressure(pressure) => &*pressure.scope == "host" || is_near(&pressure.scope, facts),
        Event::Signal(signal) => kept.contains(&signal.target.key()),
        Event::Oom(oom) => facts::hits(oom, &facts.cgroups),
        Event::Finding(_) | Event::Restated(_) | Event::Unknown => false,
    }
}

/// One of ours, below one, or above one.
fn is_near(path: &str, facts: &Facts) -> bool {
    facts.is_ours(path) || facts.cgroups.values().any(|ours| is_below(ours, path))
}

/// The cast, whoever else was in the cgroups, who signalled them, and the parents of all.
fn processes(trace: &Trace, facts: &Facts) -> BTreeSet<ProcessKey> {
    let mut kept: BTreeSet<ProcessKey> = facts.cast.0.values().flatten().copied().collect();
    let mut parents: HashMap<ProcessKey, Vec<ProcessKey>> = HashMap::new();
    let mut alive: HashMap<u32, ProcessKey> = HashMap::new();
    for event in trace.events() {
        match event {
            Event::Process(process) => {
                let key = process.key();
                alive.insert(key.tgid, key);
                parents.entry(key).or_default().extend(alive.get(&process.ppid));
                if process.cgroup.as_deref().is_some_and(|path| facts.is_ours(path)) {
                    kept.insert(key);
                }
            }
            Event::CgroupMove(moved) if facts.is_ours(&moved.to) => {
                kept.insert(moved.key());
            }
            Event::Signal(signal) if kept.contains(&signal.target.key()) => {
                kept.insert(signal.sender.key());
            }
            _ => {}
        }
    }
    let mut waiting: Vec<ProcessKey> = kept.iter().copied().collect();
    while let Some(key) = waiting.pop() {
        for parent in parents.get(&key).into_iter().flatten() {
            if kept.insert(*parent) {
                waiting.push(*parent);
            }
        }
    }
    kept
}
