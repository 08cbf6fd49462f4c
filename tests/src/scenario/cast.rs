//! Who was who: the processes of each actor, found in the trace by who forked whom.

use std::collections::{BTreeMap, HashMap};

use rampage::event::{Event, ProcessKey};
use serde::{Deserialize, Serialize};

use crate::trace::Trace;

/// Processes by name, what was started first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cast(pub BTreeMap<String, Vec<ProcessKey>>);

impl Cast {
    /// `leaders` with all that they and their children forked, as far as the trace knows.
    pub fn of(trace: &Trace, leaders: &[(String, ProcessKey)]) -> Self {
        let mut cast: BTreeMap<String, Vec<ProcessKey>> = BTreeMap::new();
        // Whose each living process is; tgids are reused, so that the order of events counts.
        let mut actor: HashMap<ProcessKey, String> = HashMap::new();
        for (name, key) in leaders {
            cast.entry(name.clone()).or_default().push(*key);
            actor.insert(*key, name.clone());
        }
        // Those found at the start come in any order: until nothing is added.
        loop {
            let mut alive: HashMap<u32, ProcessKey> = HashMap::new();
            let mut added = false;
            for event in trace.events() {
                match event {
                    Event::Process(process) => {
                        let key = process.key();
                        let is_new = alive.insert(key.tgid, key) != Some(key);
                        let parent = alive.get(&process.ppid).and_then(|key| actor.get(key));
                        if let Some(name) = parent.cloned()
                            && is_new
                            && !actor.contains_key(&key)
                        {
                            cast.entry(name.clone()).or_default().push(key);
                            actor.insert(key, name);
                            added = true;
                        }
                    }
                    Event::Exit(exit) if alive.get(&exit.tgid) == Some(&exit.key()) => {
                        alive.remove(&exit.tgid);
                    }
                    _ => {}
                }
            }
            if !added {
                return Self(cast);
            }
        }
    }

    /// Adds a name for one process.
    pub fn call(&mut self, name: &str, key: ProcessKey) {
        self.0.entry(name.to_owned()).or_default().push(key);
    }

    /// Processes of `NAME`, `NAME.leader` or `NAME.child`.
    pub fn who(&self, name: &str) -> &[ProcessKey] {
        let (actor, part) = name.split_once('.').unwrap_or((name, ""));
        let all = self.0.get(actor).map_or(&[][..], Vec::as_slice);
        match part {
            "leader" => all.get(..1).unwrap_or_default(),
            "child" => all.get(1..).unwrap_or_default(),
            _ => all,
        }
    }

    /// Whether any of `names` has this process.
    pub fn is_one_of<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        key: &ProcessKey,
    ) -> bool {
        names.into_iter().any(|name| self.who(name).contains(key))
    }

    /// Whether anybody has it.
    pub fn contains(&self, key: &ProcessKey) -> bool {
        self.0.values().any(|keys| keys.contains(key))
    }

    /// Name of a process, for messages.
    pub fn name(&self, key: &ProcessKey) -> String {
        // A worker that a request named is one of the pool's, too: the more exact name.
        let of = |keys: &&Vec<ProcessKey>| keys.contains(key);
        let mut found: Vec<_> = self.0.iter().filter(|(_, keys)| of(keys)).collect();
        found.sort_by_key(|(_, keys)| keys.len());
        match found.first() {
            Some((name, _)) => (*name).clone(),
            None => format!("pid {}", key.tgid),
        }
    }
}
