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
            let calls = Calls { seen, before: seen, rose_ns: t_ns, marked_ns: None };
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
            *calls = Calls { seen, rose_ns: t_ns, ..*calls };
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
        let scope = find_scope(record, |level| self.called(level, t_ns), &mut path);
        for level in record.levels.iter().filter(|level| level.cgroup_id != 0) {
            let seen = level.oom_events;
            let marked_ns = Some(t_ns);
            self.remember(level.cgroup_id, Calls { seen, before: seen, rose_ns: t_ns, marked_ns });
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
mod tests {
    use super::*;
    use tracer_ebpf::{MAX_CGROUP_DEPTH, Task};

    const MIB: u64 = 1 << 20;

    fn level(cgroup_id: u64, usage: u64, max: u64, common: u32) -> OomLevel {
        OomLevel {
            cgroup_id,
            usage_bytes: usage,
            max_bytes: max,
            swap_usage_bytes: 0,
            swap_max_bytes: NO_LIMIT,
            common,
            oom_group: 0,
            oom_events: 0,
        }
    }

    fn record(t_ns: u64, tgid: u32, levels: &[OomLevel]) -> OomRecord {
        let mut all = [OomLevel::default(); MAX_CGROUP_DEPTH];
        all[..levels.len()].copy_from_slice(levels);
        let mut record = OomRecord {
            victim: Task { tgid, tid: tgid, ..Task::default() },
            trigger: Task { tgid: 9, tid: 9, ..Task::default() },
            levels: all,
            ..OomRecord::default()
        };
        record.head.t_ns = t_ns;
        record
    }

    fn path(id: u64) -> Option<Arc<str>> {
        (id != 0).then(|| Arc::from(format!("/{id}")))
    }

    fn scope_of(levels: &[OomLevel]) -> OomScope {
        find_scope(&record(0, 1, levels), |_| false, &mut path)
    }

    #[test]
    fn the_lowest_full_common_level_was_hit() {
        let found = scope_of(&[
            level(1, 100 * MIB, 100 * MIB, 0),
            level(2, 255 * MIB, 256 * MIB, 1),
            level(3, 512 * MIB, 512 * MIB, 1),
        ]);
        assert_eq!(found.cgroup.as_deref(), Some("/2"));
        assert_eq!(found.limit_bytes, Some(256 * MIB));
        assert_eq!(found.kind, ScopeKind::Memcg);
    }

    #[test]
    fn far_from_every_limit_it_was_the_host_and_near_one_it_is_unknown() {
        let host = scope_of(&[level(1, 100 * MIB, 256 * MIB, 1), level(2, 9, NO_LIMIT, 1)]);
        assert_eq!(host, OomScope { kind: ScopeKind::Host, cgroup: None, limit_bytes: None });
        assert_eq!(scope_of(&[level(1, 240 * MIB, 256 * MIB, 1)]).kind, ScopeKind::Unknown);
    }

    #[test]
    fn memory_and_swap_together_can_be_the_limit() {
        let mut both = level(1, 100 * MIB, 256 * MIB, 1);
        both.swap_usage_bytes = 300 * MIB;
        both.swap_max_bytes = 300 * MIB;
        let found = scope_of(&[both]);
        assert_eq!(found.kind, ScopeKind::Memcg);
        assert_eq!(found.limit_bytes, Some(300 * MIB));
    }

    #[test]
    fn a_limit_of_swap_alone_is_never_the_one() {
        // memory.swap.max = 0 in a cgroup that has room, below one that is full.
        let mut child = level(1, 100 * MIB, 256 * MIB, 1);
        child.swap_max_bytes = 0;
        let levels = [child, level(2, 512 * MIB, 512 * MIB, 1)];
        let scope =
            |memsw: bool| Kills::new(memsw).mark(&record(0, 1, &levels), path)[0].1.scope.clone();
        assert_eq!(scope(false).cgroup.as_deref(), Some("/2"));
        assert_eq!(scope(false).limit_bytes, Some(512 * MIB));
        // On v1 the second counter holds memory as well, and 0 of it would be full.
        assert_eq!(scope(true).cgroup.as_deref(), Some("/1"));
    }

    #[test]
    fn the_kernels_own_word_wins() {
        let mut known = record(0, 1, &[level(1, MIB, 256 * MIB, 1), level(2, MIB, 512 * MIB, 1)]);
        known.scope = scope::MEMCG;
        known.scope_cgroup_id = 2;
        assert_eq!(find_scope(&known, |_| true, &mut path).cgroup.as_deref(), Some("/2"));
        known.scope = scope::HOST;
        assert_eq!(find_scope(&known, |_| true, &mut path).kind, ScopeKind::Host);
    }

    #[test]
    fn a_limit_that_called_the_killer_was_hit_though_memory_is_free_again() {
        let levels = |child: u64, parent: u64| {
            let mut levels = [level(1, 240 * MIB, 256 * MIB, 1), level(2, 300 * MIB, 512 * MIB, 1)];
            levels[0].oom_events = child;
            levels[1].oom_events = parent;
            levels
        };
        let mut kills = Kills::default();
        for (cgroup_id, oom_events) in [(1, 3), (2, 7)] {
            kills.note(&CgroupRecord { cgroup_id, oom_events, ..CgroupRecord::default() });
        }
        let scope = |kills: &mut Kills, tgid, levels: [OomLevel; 2]| {
            kills.mark(&record(u64::from(tgid), tgid, &levels), path)[0].1.scope.clone()
        };
        assert_eq!(scope(&mut kills, 1, levels(4, 7)).cgroup.as_deref(), Some("/1"));
        assert_eq!(scope(&mut kills, 2, levels(4, 8)).cgroup.as_deref(), Some("/2"));
        // No counter has risen: 240 of 256 MiB is neither full nor far from it.
        assert_eq!(scope(&mut kills, 3, levels(4, 8)).kind, ScopeKind::Unknown);
        kills.forget(1);
        assert_eq!(scope(&mut kills, 4, levels(1, 8)).cgroup.as_deref(), Some("/1"));
    }

    #[test]
    fn a_limit_that_somebody_outside_has_lowered_was_hit() {
        let mut lowered = level(1, 120 * MIB, 40 * MIB, 0);
        lowered.oom_events = 1;
        let levels = [lowered, level(2, 300 * MIB, NO_LIMIT, 1)];
        let scope = |record: OomRecord| Kills::default().mark(&record, path)[0].1.scope.clone();
        let found = scope(record(1, 1, &levels));
        assert_eq!((found.cgroup.as_deref(), found.limit_bytes), (Some("/1"), Some(40 * MIB)));
        // Full, but its limit did not call the killer: the host did.
        lowered.oom_events = 0;
        assert_eq!(scope(record(1, 1, &[lowered, levels[1]])).kind, ScopeKind::Host);
    }

    #[test]
    fn a_counter_that_was_reported_before_its_mark_has_still_risen() {
        const S: u64 = 1_000_000_000;
        let note = |kills: &mut Kills, t_ns: u64, cgroup_id, oom_events| {
            let mut record = CgroupRecord { cgroup_id, oom_events, ..CgroupRecord::default() };
            record.head.t_ns = t_ns;
            kills.note(&record);
        };
        // Memory is free again at the mark, so that nothing but the counter tells.
        let levels = |child: u64, parent: u64| {
            let mut levels = [level(1, 240 * MIB, 256 * MIB, 1), level(2, 490 * MIB, 512 * MIB, 1)];
            (levels[0].oom_events, levels[1].oom_events) = (child, parent);
            levels
        };
        let scope = |kills: &mut Kills, t_ns: u64, tgid, levels: [OomLevel; 2]| {
            kills.mark(&record(t_ns, tgid, &levels), path)[0].1.scope.clone()
        };
        let mut kills = Kills::default();
        for cgroup_id in [1, 2] {
            note(&mut kills, S, cgroup_id, 0);
        }
        // Another CPU has reported the rise just before the mark, or with a later time.
        note(&mut kills, 10 * S + 5, 1, 1);
        assert_eq!(scope(&mut kills, 10 * S, 1, levels(1, 0)).cgroup.as_deref(), Some("/1"));
        // What calls in vain while the victim ends does not explain the parent's kill.
        note(&mut kills, 10 * S + S / 2, 1, 3);
        assert_eq!(scope(&mut kills, 11 * S, 2, levels(3, 1)).cgroup.as_deref(), Some("/2"));
        // Nor does a rise of long ago.
        note(&mut kills, 20 * S, 1, 4);
        assert_eq!(scope(&mut kills, 30 * S, 3, levels(4, 1)).kind, ScopeKind::Unknown);
    }

    #[test]
    fn several_threads_of_one_process_are_one_victim() {
        let mut kills = Kills::default();
        let levels = [level(1, 256 * MIB, 256 * MIB, 1)];
        assert_eq!(kills.mark(&record(1, 5, &levels), path).len(), 1);
        let mut thread = record(2, 5, &levels);
        thread.victim.tid = 6;
        assert!(kills.mark(&thread, path).is_empty());
        assert_eq!(kills.mark(&record(3, 7, &levels), path).len(), 1);
    }

    #[test]
    fn a_group_kill_is_one_event_with_all_victims() {
        let mut kills = Kills::default();
        let mut group = level(1, 256 * MIB, 256 * MIB, 1);
        group.oom_group = 1;
        for tgid in 1..=5 {
            assert!(kills.mark(&record(u64::from(tgid), tgid, &[group]), path).is_empty());
        }
        assert_eq!(kills.settle(GROUP_GAP_NS), None);
        let (t_ns, oom) = kills.settle(GROUP_GAP_NS + 6).unwrap();
        assert_eq!(t_ns, 1);
        assert_eq!(oom.victims.iter().map(|v| v.tgid).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(kills.settle(u64::MAX), None);
        // The next round of the same trigger, later, is another event.
        assert!(kills.mark(&record(10, 6, &[group]), path).is_empty());
        let second = kills.mark(&record(11 + GROUP_GAP_NS, 7, &[group]), path);
        assert_eq!(second[0].1.victims[0].tgid, 6);
    }
}
