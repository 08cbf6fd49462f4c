//! The model as a whole: identity, baselines, limits, cost.

use std::sync::Arc;
use std::time::Instant;

use super::script::{MIB, Script, bytes, key};
use super::*;
use crate::event::{Cgroup as CgroupEvent, CgroupGone, CgroupMove, Event, Growth, ProcessCause};

fn only(script: &Script, tgid: u32) -> &Process {
    script.model.process(&key(tgid)).unwrap()
}

fn risen(process: &Process) -> u64 {
    process.private().map_or(0, |rise| rise.grown_bytes())
}

fn novel(process: &Process) -> u64 {
    process.private().map_or(0, |rise| rise.novel_bytes())
}

#[test]
fn a_found_process_starts_with_what_it_has() {
    let mut script = Script::new();
    script.process(1, "mariadbd", "/db");
    script.wait(5.0).size(1, 500.0);
    assert_eq!(only(&script, 1).first_seen_bytes, 500 * MIB);
    script.wait(1.0).size(1, 510.0);
    let process = only(&script, 1);
    assert_eq!(process.grown_since_seen(process.private_bytes()), 10 * MIB);
    assert_eq!(risen(process), 10 * MIB);
}

#[test]
fn growth_of_an_unknown_process_creates_it() {
    let mut script = Script::new();
    script.size(7, 100.0);
    script.wait(1.0).size(7, 120.0);
    assert_eq!(risen(only(&script, 7)), 20 * MIB);
    script.process(7, "late", "/web");
    assert_eq!(&*only(&script, 7).comm, "late");
    assert_eq!(risen(only(&script, 7)), 20 * MIB);
}

#[test]
fn what_a_fork_shares_is_no_growth() {
    let mut script = Script::new();
    script.process(1, "php-fpm8.2", "/web");
    script.size(1, 80.0);
    script.wait(1.0).fork(1, 2, "php-fpm8.2", "/web");
    let grown = only(&script, 2).grown_since_seen(bytes(85.0));
    assert_eq!(grown, 5 * MIB, "before its first growth event it has what its parent had");
    script.wait(0.1).size(2, 82.0);
    assert_eq!(only(&script, 2).first_seen_bytes, 82 * MIB);
    assert_eq!(risen(only(&script, 2)), 0);
    script.wait(0.1).size(2, 90.0);
    assert_eq!(novel(only(&script, 2)), 8 * MIB);
}

#[test]
fn exec_starts_anew_and_an_update_does_not() {
    let mut script = Script::new();
    script.process(1, "sh", "/web");
    script.size(1, 50.0);
    script.wait(1.0).size(1, 150.0);
    script.state(1, "sh", None, ProcessCause::Update);
    assert_eq!(risen(only(&script, 1)), 100 * MIB);
    assert_eq!(only(&script, 1).cgroup.as_deref(), Some("/web"));
    script.wait(1.0).state(1, "php", None, ProcessCause::Exec);
    let process = only(&script, 1);
    assert_eq!((process.private_bytes(), risen(process)), (0, 0));
    assert_eq!(process.grown_since_seen(bytes(9.0)), 9 * MIB);
    script.wait(0.1).size(1, 10.0);
    assert_eq!(only(&script, 1).first_seen_bytes, 10 * MIB);
    script.wait(0.1).size(1, 60.0);
    assert_eq!(novel(only(&script, 1)), 50 * MIB);
}

#[test]
fn the_dead_stay_dead_and_are_remembered_for_a_while() {
    let mut script = Script::new();
    script.size(1, 10.0);
    script.wait(1.0).size(1, 90.0);
    script.exit(1);
    script.exit(2);
    script.wait(0.1).size(1, 95.0);
    script.process(1, "ghost", "/web");
    assert!(script.model.process(&key(1)).is_none());
    assert_eq!(risen(&script.model.exited(&key(1)).unwrap().process), 80 * MIB);
    script.wait(121.0).tick();
    assert!(script.model.living_or_exited(&key(1)).is_none());
}

#[test]
fn a_reused_tgid_is_another_process() {
    let mut script = Script::new();
    script.size(1, 100.0);
    let young = ProcessKey { tgid: 1, start_ns: 50_000_000 };
    let growth = Growth { tgid: 1, start_ns: young.start_ns, ..Growth::default() };
    script.wait(1.0).feed(Event::Growth(growth));
    assert!(script.model.process(&key(1)).is_none());
    assert_eq!(script.model.process(&young).unwrap().private_bytes(), 0);
    script.size(1, 200.0);
    assert_eq!(script.model.processes().count(), 1);
    assert!(script.model.exited(&key(1)).is_some());
}

#[test]
fn late_news_do_not_turn_the_clock_back() {
    let mut script = Script::new();
    script.size(1, 10.0);
    script.wait(2.0).size(1, 100.0);
    script.t_ns -= 1_000_000_000;
    script.size(1, 50.0);
    assert_eq!(only(&script, 1).private_bytes(), 100 * MIB);
    assert_eq!(script.model.now_ns(), script.t_ns + 1_000_000_000);
}

#[test]
fn an_idle_process_is_never_dropped_and_costs_little() {
    let mut script = Script::new();
    script.size(1, 10.0);
    for _ in 0..1000 {
        script.wait(60.0).tick();
    }
    assert!(only(&script, 1).trend.is_none());
    assert!(size_of::<Process>() <= 320, "{}", size_of::<Process>());
}

#[test]
fn names_are_shared() {
    let mut script = Script::new();
    script.worker(1, "www", "/web");
    script.worker(2, "www", "/web");
    let (a, b) = (only(&script, 1), only(&script, 2));
    assert!(Arc::ptr_eq(&a.comm, &b.comm));
    assert!(Arc::ptr_eq(a.cmdline.as_ref().unwrap(), b.cmdline.as_ref().unwrap()));
    assert!(Arc::ptr_eq(a.cgroup.as_ref().unwrap(), b.cgroup.as_ref().unwrap()));
}

#[test]
fn rates_fade_on_ticks() {
    let mut script = Script::new();
    script.size(1, 10.0);
    script.wait(1.0).size(1, 60.0);
    script.wait(0.1).tick();
    let rate = only(&script, 1).rate_bytes_per_s / MIB as f64;
    assert!((rate - 50.0).abs() < 1.0, "{rate}");
    script.wait(1.6).tick();
    assert_eq!(only(&script, 1).rate_bytes_per_s, 0.0);
    assert!(script.model.moving.is_empty());
}

#[test]
fn the_forecast_is_of_the_limit_that_is_reached_first() {
    let mut script = Script::new();
    script.process(1, "php", "/web/php");
    script.size(1, 10.0);
    for s in 0..5 {
        let used = 10.0 * f64::from(s);
        script.cgroup("/web", used, 200.0, Some(0.0));
        script.cgroup("/web/php", used, 1000.0, Some(0.0));
        script.host(8000.0, 4000.0 - used, 0.0);
        script.wait(1.0).size(1, 20.0 + used);
    }
    let forecast = script.model.forecast(only(&script, 1)).unwrap();
    assert_eq!((forecast.kind, forecast.path.as_deref()), (ScopeKind::Memcg, Some("/web")));
    assert_eq!(forecast.headroom_bytes, 150 * MIB);
    assert!((forecast.eta_s.unwrap() - 15.0).abs() < 1.0, "{forecast:?}");
    script.wait(30.0).tick();
    let forecast = script.model.forecast(only(&script, 1)).unwrap();
    assert_eq!((forecast.eta_s, forecast.path.as_deref()), (None, Some("/web")));
    let path: Vec<_> = script.model.ancestors("/web/php").map(|c| c.path.to_string()).collect();
    assert_eq!(path, ["/web/php", "/web"]);
}

#[test]
fn a_process_that_moves_drives_its_new_limits_only() {
    let mut script = Script::new();
    script.cgroup("/a", 10.0, 100.0, Some(0.0));
    script.cgroup("/b", 10.0, 100.0, Some(0.0));
    script.process(1, "php", "/a");
    script.size(1, 10.0);
    script.wait(1.0).size(1, 40.0);
    let growers = |script: &Script, path: &str| {
        script
            .model
            .limits()
            .filter(|scope| scope.path.is_some_and(|p| &**p == path))
            .flat_map(|scope| scope.growers())
            .count()
    };
    assert_eq!((growers(&script, "/a"), growers(&script, "/b")), (1, 0));
    script.feed(Event::CgroupMove(CgroupMove {
        tgid: 1,
        start_ns: key(1).start_ns,
        from: Some(Arc::from("/a")),
        to: Arc::from("/b"),
    }));
    script.wait(0.1).size(1, 45.0);
    assert_eq!((growers(&script, "/a"), growers(&script, "/b")), (0, 1));
    script.feed(Event::CgroupGone(CgroupGone { id: 1, path: Arc::from("/a") }));
    assert!(script.model.cgroup("/a").is_none() && script.model.cgroup("/b").is_some());
    script.exit(1);
    assert_eq!(growers(&script, "/b"), 0);
}

#[test]
fn an_unlimited_cgroup_has_no_forecast() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 10.0);
    let mut cgroup =
        CgroupEvent { path: Arc::from("/web"), usage_bytes: MIB, ..CgroupEvent::default() };
    for max in [None, Some(0x7fff_ffff_ffff_f000)] {
        cgroup.max_bytes = max;
        script.feed(Event::Cgroup(Box::new(cgroup.clone())));
        assert_eq!(script.model.forecast(only(&script, 1)), None);
        assert_eq!(script.model.cgroup("/web").unwrap().max_bytes, None);
    }
}

/// Time of 200,000 growth events spread over so many processes, s: the best of three.
fn cost(processes: u32) -> f64 {
    let mut script = Script::new();
    script.detectors.clear();
    script.cgroup("/web", 10.0, 1e6, Some(0.0));
    for tgid in 1..=processes {
        script.process(tgid, "php", "/web");
        script.size(tgid, 10.0);
        script.size(tgid, 11.0);
    }
    let round = |script: &mut Script, round: u32| {
        let start = Instant::now();
        for i in 0..200_000 {
            script.t_ns += 10_000;
            script.size(1 + i % processes, 12.0 + f64::from((round + i / processes) % 64));
        }
        start.elapsed().as_secs_f64()
    };
    (0..3).map(|i| round(&mut script, i)).fold(f64::INFINITY, f64::min)
}

#[test]
fn the_cost_of_an_event_does_not_grow_with_the_processes() {
    // A scan of all processes per event would make it a hundred times; caches alone make it a few.
    let (few, many) = (cost(1000), cost(100_000));
    assert!(many < few * 20.0, "{few} s with 1,000 processes, {many} s with 100,000");
}

#[test]
fn a_new_program_does_not_fill_what_the_old_one_had_mapped() {
    let mut script = Script::new();
    let grow = |script: &mut Script, anon: f64, data: f64| {
        script.wait(1.0).feed(Event::Growth(Growth {
            tgid: 1,
            start_ns: key(1).start_ns,
            anon_bytes: bytes(anon),
            data_bytes: bytes(data),
            ..Growth::default()
        }));
    };
    script.process(1, "java", "/web");
    for s in 0..5 {
        grow(&mut script, 10.0 * f64::from(s), 800.0);
    }
    assert!(only(&script, 1).untouched_bytes().is_some());
    script.state(1, "leak", Some("/web"), ProcessCause::Exec);
    grow(&mut script, 1.0, 2.0);
    grow(&mut script, 30.0, 31.0);
    grow(&mut script, 60.0, 61.0);
    assert_eq!(only(&script, 1).untouched_bytes(), None);
}
