//! From marks of threads to OOM events: several marks of one process are one victim, the marks of
//! a group kill are one event, and the limit that was hit is found among the cgroups above the
//! victim.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tracer_ebpf::{CgroupRecord, NO_LIMIT, OomLevel, OomRecord, scope};

use crate::event::{Oom, OomScope, Party, ProcessKey, ScopeKind, Victim};

/// Victims remembered for telling further marks of the same process; a process dies once.
const MAX_REMEMBERED: usize = 4096;
/// Cgroups whose counters are remembered at most.
const MAX_CGROUPS: usize = 16_384;
/// Marks of a group kill follow each other at once.
const GROUP_GAP_NS: u64 = 50_000_000;
/// A charge fails when it does not fit any more: it may be this much below the limit (a huge page
/// and the kernel's batch of 64 pages).
const FULL_SLACK_BYTES: u64 = 4 << 20;
/// A limit calls the killer this long before the mark at most. Another CPU may report the counter
/// in between, or while the mark is written.
const CALL_NS: u64 = 1_000_000_000;
/// A limit that is used less than this was not the one that was hit.
const FAR_FROM_FULL: f64 = 0.9;

/// An OOM event that may still get victims.
struct Group {
    oom: Oom,
    t_ns: u64,
    last_ns: u64,
    trigger_tid: u32,
    invocation: u64,
}

/// How often the limit of a cgroup called the OOM killer.
#[derive(Clone, Copy)]
struct Calls {
    /// As last seen.
    seen: u64,
    /// Before the last rise that no mark has followed yet.
    before: u64,
    /// When that rise was seen.
    rose_ns: u64,
    /// When a process was last killed in it.
    marked_ns: Option<u64>,
    /// When it last grew, in vain or not.
    grew_ns: Option<u64>,
}

/// Puts marks together.
#[derive(Default)]
pub struct Kills {
    seen: FxHashSet<ProcessKey>,
    group: Option<Group>,
    calls: FxHashMap<u64, Calls>,
    memsw: bool,
}

impl Kills {
    /// `memsw`: the second counter of a cgroup is memory and swap together, whose limit calls the
    /// OOM killer too (v1); else it is swap alone, whose limit never does (v2).
    pub fn new(memsw: bool) -> Self {
        Self { memsw, ..Self::default() }
    }

    /// Takes the counter of a cgroup that is near its limit, to compare with after a kill.
    pub fn note(&mut self, record: &CgroupRecord) {
        let (t_ns, seen) = (record.head.t_ns, record.oom_events);
        let Some(calls) = self.calls.get_mut(&record.cgroup_id) else {
            let calls = Calls { seen, before: seen, rose_ns: t_ns, marked_ns: None, grew_ns: None };
            return self.remember(record.cgroup_id, calls);
        };
        if seen > calls.seen {
            // While the victim ends, whoever asks for memory calls in vain.
            let in_vain = calls.marked_ns.is_some_and(|marked_ns| is_recent(marked_ns, t_ns));
            if in_vain {
                calls.before = seen;
            } else if !is_recent(calls.rose_ns, t_ns) {
                calls.before = calls.seen;
            }
            *calls = Calls { seen, rose_ns: t_ns, grew_ns: Some(t_ns), ..*calls };
        }
    }

    /// A cgroup is gone.
    pub fn forget(&mut self, cgroup_id: u64) {
        self.calls.remove(&cgroup_id);
    }

    fn remember(&mut self, cgroup_id: u64, calls: Calls) {
        if self.calls.len() < MAX_CGROUPS || self.calls.contains_key(&cgroup_id) {
            self.calls.insert(cgroup_id, calls);
        }
    }

    /// Whether this cgroup's own limit called the OOM killer for the mark at `t_ns`: its counter has
    /// risen since it was last seen, or just before. A cgroup that was never seen counts when this
    /// is its first time.
    fn called(&self, level: &OomLevel, t_ns: u64) -> bool {
        let Some(calls) = self.calls.get(&level.cgroup_id) else { return level.oom_events == 1 };
        let rose = is_recent(calls.rose_ns, t_ns);
        level.oom_events > if rose { calls.before } else { calls.seen }
    }

    /// Whether a limit above both victim and trigger called the OOM killer just before, perhaps in vain: in
    /// a storm its next call cannot be told from those, and memory may be free again at the mark.
    fn grew_lately(&self, level: &OomLevel, t_ns: u64) -> bool {
        let grew_ns = self.calls.get(&level.cgroup_id).and_then(|calls| calls.grew_ns);
        level.common == 1
            && level.max_bytes != NO_LIMIT
            && grew_ns.is_some_and(|grew_ns| is_recent(grew_ns, t_ns))
    }

    /// Takes a mark. Gives the events that are complete, with their times: usually one at once, for
    /// a group kill later, through [`Kills::settle`].
    pub fn mark(
        &mut self,
        record: &OomRecord,
        mut path: impl FnMut(u64) -> Option<Arc<str>>,
    ) -> Vec<(u64, Oom)> {
        let mut complete = Vec::new();
        let victim = victim(record, &mut path);
        if self.seen.len() >= MAX_REMEMBERED {
            self.seen.clear();
        }
        if !self.seen.insert(victim.key()) {
            return complete;
        }
        if let Some(group) = &mut self.group {
            if group.continues(record) {
                group.last_ns = record.head.t_ns;
                group.oom.victims.push(victim);
                return complete;
            }
            complete.extend(self.take());
        }
        let mut record = *record;
        if !self.memsw {
            for level in &mut record.levels {
                level.swap_max_bytes = NO_LIMIT;
            }
        }
        let record = &record;
        let t_ns = record.head.t_ns;
        let mut scope = find_scope(record, |level| self.called(level, t_ns), &mut path);
        let is_guess = record.scope != scope::HOST && scope.kind == ScopeKind::Host;
        if is_guess && record.levels.iter().any(|level| self.grew_lately(level, t_ns)) {
            scope.kind = ScopeKind::Unknown;
        }
        for level in record.levels.iter().filter(|level| level.cgroup_id != 0) {
            let seen = level.oom_events;
            let known = self.calls.get(&level.cgroup_id);
            let grew = known.is_some_and(|calls| seen > calls.seen);
            let grew_ns = if grew { Some(t_ns) } else { known.and_then(|calls| calls.grew_ns) };
            let calls = Calls { seen, before: seen, rose_ns: t_ns, marked_ns: Some(t_ns), grew_ns };
            self.remember(level.cgroup_id, calls);
        }
        let trigger = party(&record.trigger, record.trigger_cgroup_id, &mut path);
        let oom = Oom { scope, trigger, victims: vec![victim] };
        if record.levels.iter().any(|level| level.cgroup_id != 0 && level.oom_group == 1) {
            self.group = Some(Group {
                oom,
                t_ns: record.head.t_ns,
                last_ns: record.head.t_ns,
                trigger_tid: record.trigger.tid,
                invocation: record.invocation,
            });
        } else {
            complete.push((record.head.t_ns, oom));
        }
        complete
    }

    /// The group kill that has got no mark for a while, if any.
    pub fn settle(&mut self, now_ns: u64) -> Option<(u64, Oom)> {
        let quiet = now_ns.saturating_sub(self.group.as_ref()?.last_ns) > GROUP_GAP_NS;
        if quiet { self.take() } else { None }
    }

    /// Whether a group kill may get further marks.
    pub fn is_open(&self) -> bool {
        self.group.is_some()
    }

    fn take(&mut self) -> Option<(u64, Oom)> {
        self.group.take().map(|group| (group.t_ns, group.oom))
    }
}

impl Group {
    fn continues(&self, record: &OomRecord) -> bool {
        record.trigger.tid == self.trigger_tid
            && record.invocation == self.invocation
            && record.head.t_ns.saturating_sub(self.last_ns) <= GROUP_GAP_NS
    }
}

fn victim(record: &OomRecord, path: &mut impl FnMut(u64) -> Option<Arc<str>>) -> Victim {
    Victim {
        tgid: record.victim.tgid,
        start_ns: record.victim.start_ns,
        comm: super::translate::comm(&record.victim.comm),
        cgroup: path(record.victim_cgroup_id),
        anon_bytes: record.memory.anon_bytes,
        file_bytes: record.memory.file_bytes,
        shmem_bytes: record.memory.shmem_bytes,
        swap_bytes: record.memory.swap_bytes,
        oom_score_adj: record.oom_score_adj,
    }
}

/// A task as a party of an event.
pub fn party(
    task: &tracer_ebpf::Task,
    cgroup_id: u64,
    path: &mut impl FnMut(u64) -> Option<Arc<str>>,
) -> Party {
    Party {
        tgid: task.tgid,
        start_ns: task.start_ns,
        comm: super::translate::comm(&task.comm),
        cgroup: path(cgroup_id),
    }
}

/// The limit that was hit: the kernel's own word where there is one; else, of the cgroups above both
/// victim and trigger, the lowest whose own counter of OOM calls has risen (`called`), or that stands
/// at its limit; of those above the victim alone, one of which both is true. When no limit is near,
/// it was the host; in between it is unknown.
fn find_scope(
    record: &OomRecord,
    called: impl Fn(&OomLevel) -> bool,
    path: &mut impl FnMut(u64) -> Option<Arc<str>>,
) -> OomScope {
    let of_level = |level: &OomLevel, path: &mut dyn FnMut(u64) -> Option<Arc<str>>| OomScope {
        kind: ScopeKind::Memcg,
        cgroup: path(level.cgroup_id),
        limit_bytes: Some(match full(level.usage_bytes, level.max_bytes) {
            false if full(level.swap_usage_bytes, level.swap_max_bytes) => level.swap_max_bytes,
            _ => level.max_bytes,
        })
        .filter(|&bytes| bytes != NO_LIMIT),
    };
    let without = |kind| OomScope { kind, cgroup: None, limit_bytes: None };
    let levels = || record.levels.iter().take_while(|level| level.cgroup_id != 0);
    match record.scope {
        scope::MEMCG => {
            return levels()
                .find(|level| level.cgroup_id == record.scope_cgroup_id)
                .map(|level| of_level(level, path))
                .unwrap_or(OomScope {
                    kind: ScopeKind::Memcg,
                    cgroup: path(record.scope_cgroup_id),
                    limit_bytes: None,
                });
        }
        scope::HOST => return without(ScopeKind::Host),
        scope::CPUSET => return without(ScopeKind::Cpuset),
        _ => {}
    }
    let common = || levels().filter(|level| level.common == 1);
    let is_full = |level: &OomLevel| {
        full(level.usage_bytes, level.max_bytes)
            || full(level.swap_usage_bytes, level.swap_max_bytes)
    };
    // While many processes end, a limit that was hit is not full any more at the mark.
    let hit = common()
        .find(|level| called(level) && is_full(level))
        .or_else(|| common().find(|level| called(level)))
        // Who lowers a limit below the usage calls the killer from outside of the cgroup.
        .or_else(|| levels().find(|level| called(level) && is_full(level)))
        .or_else(|| common().find(|level| is_full(level)));
    if let Some(level) = hit {
        return of_level(level, path);
    }
    let near = common().any(|level| {
        let near =
            |usage: u64, max: u64| max != NO_LIMIT && usage as f64 >= max as f64 * FAR_FROM_FULL;
        near(level.usage_bytes, level.max_bytes)
            || near(level.swap_usage_bytes, level.swap_max_bytes)
    });
    without(if near { ScopeKind::Unknown } else { ScopeKind::Host })
}

/// Whether one of two times is not long before the other, however they are ordered.
fn is_recent(t_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(t_ns) <= CALL_NS
}

fn full(usage_bytes: u64, max_bytes: u64) -> bool {
    // A limit of a few pages is never far from full.
    let slack = FULL_SLACK_BYTES.min(max_bytes / 16);
    max_bytes != NO_LIMIT && usage_bytes.saturating_add(slack) >= max_bytes
}

#[cfg(test)]
mod tests;
