//! PHP pools and their workers.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::process::Process;
use super::roster::Roster;

/// Which pool: two masters may have pools of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    name: Arc<str>,
    master_tgid: Option<u32>,
}

impl PoolKey {
    /// The pool of a process; None = it is no worker of one.
    pub fn of(process: &Process) -> Option<Self> {
        let php = process.php.as_ref()?;
        Some(Self { name: Arc::clone(php.pool.as_ref()?), master_tgid: php.master_tgid })
    }
}

/// Workers by pool.
#[derive(Debug, Default)]
pub(super) struct Pools {
    slots: FxHashMap<PoolKey, Vec<u32>>,
}

/// A pool and its workers, as detectors and views see it.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// FPM's master; None = not known.
    pub master_tgid: Option<u32>,
    slots: &'a [u32],
    roster: &'a Roster,
}

impl Pools {
    pub fn join(&mut self, key: Option<PoolKey>, slot: u32) {
        if let Some(key) = key {
            self.slots.entry(key).or_default().push(slot);
        }
    }

    pub fn leave(&mut self, key: Option<&PoolKey>, slot: u32) {
        let Some(key) = key else { return };
        if let Some(slots) = self.slots.get_mut(key) {
            slots.retain(|known| *known != slot);
            if slots.is_empty() {
                self.slots.remove(key);
            }
        }
    }

    pub fn iter<'a>(&'a self, roster: &'a Roster) -> impl Iterator<Item = Pool<'a>> {
        self.slots.iter().map(move |(key, slots)| Pool {
            name: &key.name,
            master_tgid: key.master_tgid,
            slots,
            roster,
        })
    }
}

impl<'a> Pool<'a> {
    /// Its living workers.
    pub fn workers(&self) -> impl Iterator<Item = &'a Process> + use<'a> {
        let roster = self.roster;
        self.slots.iter().filter_map(move |slot| roster.get(*slot))
    }

    /// Its master, if it is known.
    pub fn master(&self) -> Option<&'a Process> {
        self.roster.by_tgid(self.master_tgid?)
    }
}
