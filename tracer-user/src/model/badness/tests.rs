//! Points counted by hand, in pages of 4 KiB.

use std::sync::Arc;

use super::super::script::{MIB, Script, key, memcg};
use crate::event::{Cgroup, CgroupEvents, Event, Growth, Header, ProcessCause};

/// A host of 16 GiB with 4 GiB of swap: 5 242 880 pages, a thousandth of them is 5242.
fn script() -> Script {
    let mut script = Script::new();
    script.feed(Event::Header(Box::new(Header {
        page_bytes: 4096,
        mem_total_bytes: 16 << 30,
        swap_total_bytes: 4 << 30,
        source: "live".to_owned(),
        ..Header::default()
    })));
    script
}

/// Sizes in MiB: anon, file, shmem, swap.
fn sized(script: &mut Script, tgid: u32, cgroup: &str, mib: [u64; 4], oom_score_adj: i32) {
    script.process(tgid, &format!("p{tgid}"), cgroup);
    script.feed(Event::Growth(Growth {
        tgid,
        start_ns: key(tgid).start_ns,
        anon_bytes: mib[0] * MIB,
        file_bytes: mib[1] * MIB,
        shmem_bytes: mib[2] * MIB,
        swap_bytes: mib[3] * MIB,
        oom_score_adj,
        ..Growth::default()
    }));
}

fn limit(script: &mut Script, path: &str, max_mib: u64, change: impl FnOnce(&mut Cgroup)) {
    let mut cgroup = Cgroup {
        path: Arc::from(path),
        max_bytes: Some(max_mib * MIB),
        events: Some(CgroupEvents::default()),
        ..Cgroup::default()
    };
    change(&mut cgroup);
    script.feed(Event::Cgroup(Box::new(cgroup)));
}

fn victim(script: &Script, place: Option<&str>) -> Option<(u32, bool)> {
    script.model.next_victim(place).map(|victim| (victim.tgid, victim.is_certain))
}

fn points(script: &Script, tgid: u32, place: Option<&str>) -> [i64; 2] {
    let place = script.model.place(place).unwrap();
    let process = script.model.process(&key(tgid)).unwrap();
    place.total_bytes.map(|total| place.points(process, total))
}

#[test]
fn all_that_is_resident_or_swapped_counts_and_page_tables() {
    let mut script = script();
    sized(&mut script, 5, "/a", [100, 20, 30, 50], 0);
    assert_eq!(points(&script, 5, None), [51_200; 2]);
    script.feed(Event::Growth(Growth {
        tgid: 5,
        start_ns: key(5).start_ns,
        anon_bytes: 100 * MIB,
        page_table_bytes: 3 * 4096 + 100,
        ..Growth::default()
    }));
    assert_eq!(points(&script, 5, None), [25_603; 2]);
    assert_eq!(script.model.next_victim(None).unwrap().used_bytes, 100 * MIB + 3 * 4096 + 100);
}

#[test]
fn oom_score_adj_is_a_share_of_the_host() {
    let mut script = script();
    // 256 000 pages.
    sized(&mut script, 5, "/a", [1000, 0, 0, 0], 0);
    // 25 600 and 44 × 5242 = 230 648 make 256 248; with 43 they make 251 006.
    sized(&mut script, 6, "/b", [100, 0, 0, 0], 44);
    assert_eq!(points(&script, 6, None), [256_248; 2]);
    assert_eq!(victim(&script, None), Some((6, false)));
    sized(&mut script, 6, "/b", [100, 0, 0, 0], 43);
    assert_eq!(points(&script, 6, None), [251_006; 2]);
    assert_eq!(victim(&script, None), Some((5, true)));
    // 256 000 - 100 × 5242.
    sized(&mut script, 5, "/a", [1000, 0, 0, 0], -100);
    assert_eq!(points(&script, 5, None), [-268_200; 2]);
    assert_eq!(victim(&script, None), Some((6, true)));
}

#[test]
fn in_a_cgroup_it_is_a_share_of_the_limit_and_the_swap_that_may_be_used() {
    let mut script = script();
    sized(&mut script, 5, "/a", [10, 0, 0, 0], 100);
    // 256 MiB are 65 536 pages, a thousandth is 65; with 4 GiB of swap it is 1114.
    limit(&mut script, "/a", 256, |_| {});
    assert_eq!(points(&script, 5, Some("/a")), [2560 + 111_400, 2560 + 6500]);
    limit(&mut script, "/a", 256, |cgroup| cgroup.swap_max_bytes = Some(0));
    assert_eq!(points(&script, 5, Some("/a")), [2560 + 6500; 2]);
    // 512 MiB of swap: 196 608 pages in all.
    limit(&mut script, "/a", 256, |cgroup| cgroup.swap_max_bytes = Some(512 * MIB));
    assert_eq!(points(&script, 5, Some("/a")), [2560 + 19_600, 2560 + 6500]);
    // v1: 512 MiB of memory and swap leave 256 MiB for swap, 131 072 pages in all.
    limit(&mut script, "/a", 256, |cgroup| cgroup.memsw_max_bytes = Some(512 * MIB));
    assert_eq!(points(&script, 5, Some("/a")), [2560 + 13_100, 2560 + 6500]);
}

#[test]
fn a_choice_that_hangs_on_swappiness_is_not_certain() {
    let mut script = script();
    limit(&mut script, "/a", 256, |_| {});
    sized(&mut script, 5, "/a", [150, 0, 0, 0], 0);
    // 2560 + 100 × 1114 with swap, 2560 + 6500 without; 38 400 stand against it.
    sized(&mut script, 6, "/a", [10, 0, 0, 0], 100);
    assert_eq!(victim(&script, Some("/a")), Some((6, false)));
    limit(&mut script, "/a", 256, |cgroup| cgroup.swap_max_bytes = Some(0));
    assert_eq!(victim(&script, Some("/a")), Some((5, true)));
}

#[test]
fn only_those_below_the_limit_are_chosen() {
    let mut script = script();
    limit(&mut script, "/a", 256, |_| {});
    sized(&mut script, 5, "/a/b", [50, 0, 0, 0], 0);
    sized(&mut script, 6, "/a", [20, 0, 0, 0], 0);
    sized(&mut script, 7, "/abc", [200, 0, 0, 0], 0);
    assert_eq!(victim(&script, Some("/a")), Some((5, true)));
    assert_eq!(victim(&script, None), Some((7, true)));
    assert_eq!(victim(&script, Some("/nowhere")), None);
    // Of a cgroup without a limit nothing can be said.
    limit(&mut script, "/abc", 1, |cgroup| cgroup.max_bytes = None);
    assert_eq!(victim(&script, Some("/abc")), None);
}

#[test]
fn the_unkillable_the_unknown_and_the_killed_are_passed_over() {
    let mut script = script();
    limit(&mut script, "/a", 256, |_| {});
    assert_eq!(victim(&script, Some("/a")), None);
    sized(&mut script, 1, "/a", [100, 0, 0, 0], 0);
    sized(&mut script, 5, "/a", [90, 0, 0, 0], -1000);
    script.process(6, "unknown", "/a");
    assert_eq!(victim(&script, Some("/a")), None);
    sized(&mut script, 7, "/a", [5, 0, 0, 0], -999);
    assert_eq!(victim(&script, Some("/a")), Some((7, true)));
    sized(&mut script, 8, "/a", [50, 0, 0, 0], 0);
    assert_eq!(victim(&script, Some("/a")), Some((8, true)));
    let killed = script.victim(8, "p8", "/a", 50.0);
    script.oom(memcg("/a", 256.0), 8, vec![killed]);
    assert_eq!(victim(&script, Some("/a")), Some((7, true)));
}

#[test]
fn near_ones_are_not_certain() {
    let mut script = script();
    limit(&mut script, "/a", 256, |_| {});
    sized(&mut script, 5, "/a", [50, 0, 0, 0], 0);
    // Steps of 4 MiB and counters that are off by less than one: twice 4.75 MiB.
    for (mib, is_certain) in [(41, false), (40, true)] {
        sized(&mut script, 6, "/a", [mib, 0, 0, 0], 0);
        assert_eq!(victim(&script, Some("/a")), Some((5, is_certain)), "{mib}");
    }
    // The tighter the limit the finer the steps: 1 MiB.
    limit(&mut script, "/a", 64, |_| {});
    sized(&mut script, 6, "/a", [46, 0, 0, 0], 0);
    assert_eq!(victim(&script, Some("/a")), Some((5, true)));
}

#[test]
fn the_highest_group_below_the_limit_dies_as_a_whole() {
    let mut script = script();
    let group = |script: &Script, place: Option<&str>| {
        script.model.next_victim(place).unwrap().group.map(|path| path.to_string())
    };
    limit(&mut script, "/a", 256, |_| {});
    sized(&mut script, 5, "/a/b/c", [50, 0, 0, 0], 0);
    assert_eq!(group(&script, Some("/a")), None);
    limit(&mut script, "/a/b/c", 200, |cgroup| cgroup.oom_group = true);
    assert_eq!(group(&script, Some("/a")), Some("/a/b/c".to_owned()));
    limit(&mut script, "/a/b", 200, |cgroup| cgroup.oom_group = true);
    assert_eq!(group(&script, Some("/a")), Some("/a/b".to_owned()));
    assert_eq!(group(&script, Some("/a/b/c")), Some("/a/b/c".to_owned()));
    assert_eq!(group(&script, None), Some("/a/b".to_owned()));
    // An event without counters has not read it.
    limit(&mut script, "/a/b", 200, |cgroup| cgroup.events = None);
    assert_eq!(group(&script, Some("/a")), Some("/a/b".to_owned()));
    limit(&mut script, "/a/b", 200, |_| {});
    assert_eq!(group(&script, Some("/a")), Some("/a/b/c".to_owned()));
}

#[test]
fn where_the_killer_is_disabled_nobody_is_killed() {
    let mut script = script();
    sized(&mut script, 5, "/a", [50, 0, 0, 0], 0);
    limit(&mut script, "/a", 256, |cgroup| cgroup.oom_disabled = true);
    assert_eq!(victim(&script, Some("/a")), None);
    assert_eq!(victim(&script, None), Some((5, true)));
}

#[test]
fn exec_keeps_oom_score_adj_and_requests_keep_all() {
    let mut script = script();
    sized(&mut script, 5, "/a", [50, 0, 0, 0], 300);
    script.state(5, "other", Some("/a"), ProcessCause::Exec);
    assert_eq!(script.model.process(&key(5)).unwrap().memory.oom_score_adj, 300);
    // Nothing is known of its new memory yet.
    assert_eq!(victim(&script, None), None);
    script.feed(Event::Growth(Growth {
        tgid: 5,
        start_ns: key(5).start_ns,
        anon_bytes: MIB,
        oom_score_adj: 200,
        page_table_bytes: 4096,
        data_bytes: 2 * MIB,
        ..Growth::default()
    }));
    script.feed(Event::Request(crate::event::RequestEdge {
        tgid: 5,
        start_ns: key(5).start_ns,
        phase: crate::event::RequestPhase::Begin,
        anon_bytes: 3 * MIB,
        file_bytes: 0,
        shmem_bytes: 0,
        swap_bytes: 0,
    }));
    let memory = script.model.process(&key(5)).unwrap().memory;
    assert_eq!((memory.anon_bytes, memory.oom_score_adj), (3 * MIB, 200));
    assert_eq!((memory.page_table_bytes, memory.data_bytes), (4096, 2 * MIB));
}

#[test]
fn hostile_numbers_are_bounded() {
    let mut script = script();
    let worst = Growth {
        tgid: 5,
        start_ns: key(5).start_ns,
        anon_bytes: u64::MAX,
        shmem_bytes: u64::MAX,
        page_table_bytes: u64::MAX,
        oom_score_adj: i32::MAX,
        ..Growth::default()
    };
    script.process(5, "a", "/a");
    script.process(6, "b", "/a");
    script.feed(Event::Growth(worst));
    script.feed(Event::Growth(Growth { tgid: 6, oom_score_adj: i32::MIN, ..worst }));
    script.feed(Event::Header(Box::new(Header {
        page_bytes: 1,
        mem_total_bytes: u64::MAX,
        swap_total_bytes: u64::MAX,
        ..Header::default()
    })));
    limit(&mut script, "/a", 1, |cgroup| cgroup.max_bytes = Some(u64::MAX));
    assert_eq!(victim(&script, None), Some((5, true)));
    assert_eq!(victim(&script, Some("/a")), None, "so large a limit is none");
}
