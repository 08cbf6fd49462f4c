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
fn after_a_call_in_vain_nobody_says_that_it_was_the_host() {
    const MS: u64 = 1_000_000;
    let mut kills = Kills::default();
    let note = |kills: &mut Kills, t_ns: u64, oom_events| {
        let mut record = CgroupRecord { cgroup_id: 1, oom_events, ..CgroupRecord::default() };
        record.head.t_ns = t_ns;
        kills.note(&record);
    };
    let scope = |kills: &mut Kills, t_ns: u64, tgid, oom_events| {
        let level = OomLevel { oom_events, ..level(1, 60 * MIB, 96 * MIB, 1) };
        kills.mark(&record(t_ns, tgid, &[level]), path)[0].1.scope.kind
    };
    note(&mut kills, MS, 0);
    assert_eq!(scope(&mut kills, 2 * MS, 1, 1), ScopeKind::Memcg);
    // The next call is reported before its mark, as if it were one in vain.
    note(&mut kills, 9 * MS, 2);
    assert_eq!(scope(&mut kills, 10 * MS, 2, 2), ScopeKind::Unknown);
    assert_eq!(scope(&mut kills, 5000 * MS, 3, 2), ScopeKind::Host);
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
