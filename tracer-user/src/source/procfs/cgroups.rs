//! Follows the memory cgroups in use, and those above them that have a limit.

use std::io;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Stamper;
use crate::enrich::cgroup::{Hierarchy, ancestry};
use crate::event::{CgroupGone, Event};

/// Memory cgroups by path.
#[derive(Debug)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    known: FxHashMap<Arc<str>, Known>,
    round: u32,
}

#[derive(Debug, Default)]
struct Known {
    /// 0 until an event of it was written.
    id: u64,
    /// Round in which it, or one below it, had processes.
    needed: u32,
    /// Round in which it had processes itself.
    in_use: u32,
}

impl Cgroups {
    /// Nothing is known yet.
    pub fn new(hierarchy: Hierarchy) -> Self {
        Self { hierarchy, known: FxHashMap::default(), round: 0 }
    }

    /// Looks at the cgroups of `in_use` and above.
    pub fn round<'a>(
        &mut self,
        in_use: impl Iterator<Item = &'a Arc<str>>,
        events: &mut Stamper<'_>,
    ) {
        self.round = self.round.wrapping_add(1);
        for path in in_use {
            self.mark(path);
        }
        let Self { hierarchy, known, round } = self;
        known.retain(|path, known| {
            if known.needed == *round {
                sample(hierarchy, path, known, known.in_use == *round, events);
                return true;
            }
            // One look more: the last process may have been killed, which its counter tells.
            if known.id != 0 && known.needed.wrapping_add(1) == *round {
                sample(hierarchy, path, known, true, events);
                return known.id != 0;
            }
            // Empty, but perhaps still there: the model keeps it until it is gone.
            let kept = known.id != 0 && hierarchy.id(path).is_ok_and(|id| id == known.id);
            if known.id != 0 && !kept {
                events.push(gone(path, known.id));
            }
            kept
        });
    }

    fn mark(&mut self, path: &Arc<str>) {
        let round = self.round;
        for (level, path) in ancestry(path).enumerate() {
            let known = match self.known.get_mut(path) {
                Some(known) => known,
                None => self.known.entry(path.into()).or_default(),
            };
            if level == 0 {
                known.in_use = round;
            } else if known.needed == round {
                // All above are marked too.
                return;
            }
            known.needed = round;
        }
    }
}

/// Writes the events of one cgroup; those above the ones in use only where they limit something.
fn sample(
    hierarchy: &Hierarchy,
    path: &Arc<str>,
    known: &mut Known,
    in_use: bool,
    events: &mut Stamper<'_>,
) {
    let cgroup = match hierarchy.sample(path) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            if missing && known.id != 0 && hierarchy.id(path).is_err() {
                events.push(gone(path, known.id));
                known.id = 0;
            }
            return;
        }
    };
    if known.id != 0 && known.id != cgroup.id {
        events.push(gone(path, known.id));
    }
    let limited =
        [cgroup.max_bytes, cgroup.high_bytes, cgroup.swap_max_bytes, cgroup.memsw_max_bytes];
    if !in_use && known.id == 0 && limited.iter().all(Option::is_none) {
        return;
    }
    known.id = cgroup.id;
    let pressure = hierarchy.pressure_of(&cgroup);
    events.push(Event::Cgroup(Box::new(cgroup)));
    if let Some(pressure) = pressure {
        events.push(Event::Pressure(pressure));
    }
}

fn gone(path: &Arc<str>, id: u64) -> Event {
    Event::CgroupGone(CgroupGone { id, path: Arc::clone(path) })
}
