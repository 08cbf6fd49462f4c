//! Who lives, and who died lately.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::process::Process;
use crate::event::ProcessKey;

/// The dead are remembered this long, ns.
const REMEMBERED_NS: u64 = 120_000_000_000;
/// At most this many of them.
const MOST_EXITED: usize = 4096;

/// A process that ended.
#[derive(Clone, Debug)]
pub struct Exited {
    /// As it was.
    pub process: Process,
    /// When it ended, ns.
    pub exit_ns: u64,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It lives in this slot.
    Living(u32),
    /// An older process of the same tgid is in this slot: its end was missed.
    Replaces(u32),
    /// It ended, or a younger process has its tgid: news of it come too late.
    Ended,
    /// Never seen.
    New,
}

/// Living processes by slot and the lately dead by key.
#[derive(Debug, Default)]
pub(super) struct Roster {
    slots: Vec<Option<Process>>,
    free: Vec<u32>,
    by_tgid: FxHashMap<u32, u32>,
    /// Boxed: a table that grew keeps room for twice as many.
    exited: FxHashMap<ProcessKey, Box<Exited>>,
    exit_order: VecDeque<(u64, ProcessKey)>,
}

impl Roster {
    /// Where a process stands.
    pub fn locate(&self, key: &ProcessKey) -> Known {
        if let Some(slot) = self.by_tgid.get(&key.tgid) {
            let living = self.get(*slot).map_or(0, |process| process.key.start_ns);
            return match living.cmp(&key.start_ns) {
                std::cmp::Ordering::Equal => Known::Living(*slot),
                std::cmp::Ordering::Less => Known::Replaces(*slot),
                std::cmp::Ordering::Greater => Known::Ended,
            };
        }
        if self.exited.contains_key(key) { Known::Ended } else { Known::New }
    }

    /// Takes in a process whose tgid no living one has; gives its slot.
    pub fn insert(&mut self, process: Process) -> u32 {
        let tgid = process.key.tgid;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(process);
                slot
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact((self.slots.len() / 4).max(64));
                }
                self.slots.push(Some(process));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_tgid.insert(tgid, slot);
        slot
    }

    /// A living process.
    pub fn get(&self, slot: u32) -> Option<&Process> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// A living process.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Process> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// A living process by its key.
    pub fn living_mut(&mut self, key: &ProcessKey) -> Option<&mut Process> {
        match self.locate(key) {
            Known::Living(slot) => self.get_mut(slot),
            _ => None,
        }
    }

    /// A living process by its tgid, whenever it started.
    pub fn by_tgid(&self, tgid: u32) -> Option<&Process> {
        self.get(*self.by_tgid.get(&tgid)?)
    }

    /// All living processes.
    pub fn living(&self) -> impl Iterator<Item = &Process> {
        self.slots.iter().flatten()
    }

    /// A process that died lately.
    pub fn exited(&self, key: &ProcessKey) -> Option<&Exited> {
        self.exited.get(key).map(|exited| &**exited)
    }

    /// All that died lately.
    pub fn all_exited(&self) -> impl Iterator<Item = &Exited> {
        self.exited.values().map(|exited| &**exited)
    }

    /// Moves a process to the dead.
    pub fn bury(&mut self, slot: u32, exit_ns: u64) {
        let Some(process) = self.slots.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(slot);
        self.by_tgid.remove(&process.key.tgid);
        self.exit_order.push_back((exit_ns, process.key));
        self.exited.insert(process.key, Box::new(Exited { process, exit_ns }));
        self.forget(exit_ns);
    }

    /// Drops the dead of long ago.
    pub fn forget(&mut self, now_ns: u64) {
        while let Some((exit_ns, key)) = self.exit_order.front() {
            let old = now_ns.saturating_sub(*exit_ns) > REMEMBERED_NS;
            if !old && self.exit_order.len() <= MOST_EXITED {
                return;
            }
            self.exited.remove(key);
            self.exit_order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn key(tgid: u32, start_ns: u64) -> ProcessKey {
        ProcessKey { tgid, start_ns }
    }

    fn process(tgid: u32, start_ns: u64) -> Process {
        Process::new(key(tgid, start_ns), 0, Arc::from("x"))
    }

    #[test]
    fn a_tgid_is_reused() {
        let mut roster = Roster::default();
        let slot = roster.insert(process(7, 100));
        assert_eq!(roster.locate(&key(7, 100)), Known::Living(slot));
        assert_eq!(roster.locate(&key(7, 200)), Known::Replaces(slot));
        assert_eq!(roster.locate(&key(7, 50)), Known::Ended);
        assert_eq!(roster.locate(&key(8, 100)), Known::New);
        roster.bury(slot, 1);
        assert_eq!(roster.locate(&key(7, 100)), Known::Ended);
        assert_eq!(roster.locate(&key(7, 200)), Known::New);
    }

    #[test]
    fn the_dead_are_few_and_recent() {
        let mut roster = Roster::default();
        for tgid in 0..10_000 {
            let slot = roster.insert(process(tgid, 1));
            roster.bury(slot, 1000);
        }
        assert_eq!(roster.all_exited().count(), MOST_EXITED);
        assert!(roster.exited(&key(9_999, 1)).is_some());
        roster.forget(1000 + REMEMBERED_NS);
        assert_eq!(roster.all_exited().count(), MOST_EXITED);
        roster.forget(1001 + REMEMBERED_NS);
        assert_eq!(roster.all_exited().count(), 0);
        assert_eq!(roster.slots.len(), 1);
    }
}
