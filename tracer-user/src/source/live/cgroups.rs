//! Memory cgroups as the live source knows them: path by id, which are in use, and one look at
//! those per interval.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::enrich::cgroup::{Hierarchy, Version};
use crate::event::{Cgroup, Event};

/// Cgroups known by id at most; more are not named.
const MAX_KNOWN: usize = 16_384;
/// Cgroups looked at per interval at most; the rest waits for the next one.
const MAX_LOOKS: usize = 64;

/// Paths of memory cgroups, and which are in use.
pub struct Cgroups {
    hierarchy: Option<Hierarchy>,
    paths: FxHashMap<u64, Arc<str>>,
    waiting: VecDeque<Arc<str>>,
    in_use: FxHashSet<Arc<str>>,
    walked: bool,
}

impl Cgroups {
    /// Finds the memory hierarchy of this host.
    pub fn detect() -> Self {
        let hierarchy =
            Hierarchy::detect().map_err(|error| tracing::warn!("no memory cgroups: {error}")).ok();
        Self {
            hierarchy,
            paths: FxHashMap::default(),
            waiting: VecDeque::new(),
            in_use: FxHashSet::default(),
            walked: false,
        }
    }

    /// Whether cgroups count memory and swap together (v1).
    pub fn counts_memsw(&self) -> bool {
        self.hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.version == Version::V1)
    }

    /// Reads all paths anew; the limited ones are looked at next.
    pub fn walk(&mut self) {
        let Some(hierarchy) = &self.hierarchy else { return };
        self.walked = true;
        for (id, path) in hierarchy.walk(MAX_KNOWN) {
            self.use_path(&path);
            self.paths.insert(id, path);
        }
    }

    /// A cgroup was made.
    pub fn made(&mut self, id: u64, path: &Arc<str>) {
        if self.paths.len() < MAX_KNOWN {
            self.paths.insert(id, path.clone());
        }
        self.use_path(path);
    }

    /// A cgroup was removed.
    pub fn gone(&mut self, id: u64) {
        if let Some(path) = self.paths.remove(&id) {
            self.in_use.remove(&path);
        }
    }

    /// Path of a cgroup. An unknown one is looked for in the file system, once per interval.
    pub fn path(&mut self, id: u64) -> Option<Arc<str>> {
        if id == 0 {
            return None;
        }
        if !self.paths.contains_key(&id) && !self.walked {
            self.walk();
        }
        self.paths.get(&id).cloned()
    }

    /// Something grew in this cgroup: it and all above it are looked at next.
    pub fn touch(&mut self, path: &Arc<str>) {
        if self.in_use.contains(path) {
            return;
        }
        self.use_path(path);
        let mut end = path.len();
        while let Some(slash) = path[..end].rfind('/') {
            end = slash;
            let parent = if slash == 0 { "/" } else { &path[..slash] };
            if self.in_use.contains(parent) {
                break;
            }
            self.use_path(&Arc::from(parent));
            if slash == 0 {
                break;
            }
        }
    }

    fn use_path(&mut self, path: &Arc<str>) {
        if self.in_use.len() < MAX_KNOWN && self.in_use.insert(path.clone()) {
            self.waiting.push_back(path.clone());
        }
    }

    /// One look at the cgroups in use. Where somebody waited for memory it is looked at again next
    /// time, until nobody does: else its last reading would stand when nothing grows there any more.
    pub fn look(&mut self) -> Vec<Event> {
        self.walked = false;
        let Some(hierarchy) = &self.hierarchy else { return Vec::new() };
        let mut events = Vec::new();
        let mut again = Vec::new();
        for _ in 0..MAX_LOOKS.min(self.waiting.len()) {
            let Some(path) = self.waiting.pop_front() else { break };
            if !self.in_use.remove(&path) {
                continue;
            }
            // Gone since: its removal is an event of its own.
            let Ok(sample) = hierarchy.sample(&path) else { continue };
            let mut waits = sample.events.is_some_and(|events| events.under_oom);
            events.push(Event::Cgroup(Box::new(sample)));
            if let Some(pressure) = hierarchy.pressure(&path) {
                waits |= pressure.some_avg10.is_some_and(|some| some > 0.0);
                events.push(Event::Pressure(pressure));
            }
            if waits {
                again.push(path);
            }
        }
        for path in again {
            self.use_path(&path);
        }
        events
    }

    /// A record of a cgroup's charge as an event.
    pub fn charge(&mut self, record: &tracer_ebpf::CgroupRecord) -> Option<Event> {
        let path = self.path(record.cgroup_id)?;
        let counts_memsw = self.counts_memsw();
        let limit = |bytes: u64| (bytes != tracer_ebpf::NO_LIMIT).then_some(bytes);
        Some(Event::Cgroup(Box::new(Cgroup {
            id: record.cgroup_id,
            path,
            usage_bytes: record.usage_bytes,
            max_bytes: limit(record.max_bytes),
            high_bytes: limit(record.high_bytes),
            swap_usage_bytes: match counts_memsw {
                true => record.swap_usage_bytes.saturating_sub(record.usage_bytes),
                false => record.swap_usage_bytes,
            },
            swap_max_bytes: limit(record.swap_max_bytes).filter(|_| !counts_memsw),
            memsw_max_bytes: limit(record.swap_max_bytes).filter(|_| counts_memsw),
            ..Cgroup::default()
        })))
    }
}
