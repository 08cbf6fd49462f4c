//! Redis: what redis.conf and its includes come to, what bounds its data, whether a snapshot fits, and whether a
//! running one does what its file says.

pub mod ask;
pub mod config;
pub mod directives;
#[cfg(test)]
mod fuzz;
mod in_force;
pub mod instance;
pub mod line;
mod lines;
mod reader;
pub mod rules;

use std::path::Path;

use crate::Context;
use crate::budget::Demand;
use crate::origin::Notes;
use crate::processes::Process;
use crate::report::Finding;
use crate::root::Root;
use instance::Instance;

/// What the files and processes say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Those that run, or those that are configured where none runs.
    pub instances: Vec<Instance>,
    /// Those that run in a container.
    pub contained: Vec<Process>,
    /// `vm.overcommit_memory`; None where it is not known.
    pub overcommit: Option<u64>,
}

/// Reads them.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Facts {
    let (instances, contained) = instance::find(root, processes, notes);
    let overcommit = root.text(Path::new("/proc/sys/vm/overcommit_memory")).ok();
    let overcommit = overcommit.and_then(|text| text.trim().parse().ok());
    Facts { instances, contained, overcommit }
}

/// What each of them takes at worst.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    let facts = &context.facts.redis;
    let own = facts.instances.iter().map(rules::demand);
    own.chain(facts.contained.iter().map(rules::contained)).collect()
}

/// What is wrong.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let facts = &context.facts.redis;
    let instances = facts.instances.iter();
    instances.flat_map(|instance| rules::judge(instance, facts.overcommit, context)).collect()
}
