//! When a runaway is named, and when not.

use crate::event::look::{Activity, Memory};
use crate::event::{
    Config, Evidence, Filters, Finding, FindingKind, FindingState, Runaway, Severity,
};
use crate::event::{MemoryKind, ProcessCause, ScopeKind};
use crate::model::script::{MIB, Script, bytes, in_request};

fn evidence(finding: &Finding) -> &Runaway {
    match &finding.evidence {
        Evidence::Runaway(runaway) => runaway,
        _ => panic!("no runaway: {finding:?}"),
    }
}

fn raised(script: &Script) -> Vec<&(f64, Finding)> {
    script.of_kind(FindingKind::Runaway)
}

/// Three idle workers and one (pid 4) that will grow, in a cgroup of 256 MiB with 60 MiB of charge
/// that belongs to nobody.
fn pool(script: &mut Script) {
    script.host(8192.0, 6000.0, 0.0);
    script.cgroup("/web", 100.0, 256.0, Some(0.0));
    for tgid in 1..=4 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 10.0);
    }
    for _ in 0..30 {
        script.wait(1.0).cgroup("/web", 100.0, 256.0, Some(0.0));
        script.host(8192.0, 6000.0, 0.0);
        script.tick();
    }
}

/// Worker 4 grows at a rate (MiB/s), reported each 4 MiB or each second, until nothing is left.
/// `cgroup_events`: usage comes with the growth too. Gives the time of the kill.
fn leak(script: &mut Script, rate: f64, cgroup_events: bool) -> f64 {
    let mut since_tick = 0.0;
    let step = (4.0 / rate).min(1.0);
    let start = script.now();
    loop {
        script.wait(step);
        since_tick += step;
        let grown = (script.now() - start) * rate;
        if grown > 156.0 {
            return script.now();
        }
        script.size(4, 10.0 + grown);
        if cgroup_events {
            script.cgroup("/web", 100.0 + grown, 256.0, None);
        }
        if since_tick >= 1.0 {
            since_tick -= 1.0;
            script.cgroup("/web", 100.0 + grown, 256.0, Some(0.0));
            script.host(8192.0, 6000.0 - grown, 0.0);
            script.tick();
        }
    }
}

#[test]
fn a_leak_is_named_once_at_every_pace() {
    for rate in [1.0, 5.0, 50.0, 400.0] {
        for cgroup_events in [false, true] {
            let mut script = Script::new();
            pool(&mut script);
            let killed = leak(&mut script, rate, cgroup_events);
            let raised = raised(&script);
            assert_eq!(raised.len(), 1, "at {rate} MiB/s: {raised:?}");
            let (t, finding) = raised[0];
            let runaway = evidence(finding);
            let subject = finding.subject.as_ref().unwrap();
            assert_eq!((subject.tgid, subject.pool.as_deref()), (4, Some("www")));
            assert_eq!(runaway.limit.path.as_deref(), Some("/web"));
            let left = killed - t;
            assert!(left > 0.5 * (156.0 / rate).min(60.0), "at {rate} MiB/s only {left} s left");
            let error = (runaway.eta_s - left).abs() / left;
            assert!(error < 0.2, "at {rate} MiB/s {} s for {left} s", runaway.eta_s);
            let measured = runaway.rate_bytes_per_s / MIB as f64;
            assert!((measured / rate - 1.0).abs() < 0.15, "{measured} at {rate} MiB/s");
            let critical = runaway.eta_s < 10.0;
            assert_eq!(finding.severity == Severity::Critical, critical);
        }
    }
}

#[test]
fn one_large_allocation_is_no_growth() {
    // 100 MiB in 34 ms, and nothing after it.
    let mut script = Script::new();
    pool(&mut script);
    for step in 1..=25 {
        let grown = f64::from(step) * 4.0;
        script.wait(4.0 / 3000.0).size(4, 10.0 + grown);
        script.cgroup("/web", 100.0 + grown, 256.0, None);
    }
    script.wait(1.0).tick();
    script.wait(1.0).tick();
    assert!(raised(&script).is_empty());
}

#[test]
fn the_summary_is_a_sentence() {
    let mut script = Script::new();
    pool(&mut script);
    leak(&mut script, 50.0, true);
    let summary = &raised(&script)[0].1.summary;
    assert_eq!(
        summary,
        "php-fpm8.2 (pool www, pid 4) grows 50.0 MiB/s, has 42.0 MiB, and reaches the 256 MiB limit \
         of /web in about 2.5 s"
    );
}

#[test]
fn warm_up_of_twenty_workers_is_silent() {
    let mut script = Script::new();
    script.cgroup("/web", 40.0, 256.0, Some(0.0));
    for tgid in 1..=20 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 2.0);
    }
    for step in 1..=8 {
        for tgid in 1..=20 {
            script.wait(0.006).size(tgid, 2.0 + f64::from(step));
        }
        // Opcache fills, too.
        script.cgroup("/web", 40.0 + 24.0 * f64::from(step), 256.0, None);
    }
    script.wait(0.1).cgroup("/web", 232.0, 256.0, Some(0.0));
    script.tick();
    assert!(raised(&script).is_empty());
}

#[test]
fn requests_that_come_and_go_are_silent() {
    let mut script = Script::new();
    script.cgroup("/web", 150.0, 256.0, Some(10.0));
    for tgid in 1..=20 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 5.0);
    }
    let size = |tgid: u32, turn: u32| {
        let height = f64::from((tgid * 7 + turn / 6 * 5) % 11 + 2);
        let saw = [0.0, 0.3, 0.6, 1.0, 0.5, 0.1];
        5.0 + height * saw[(turn % 6) as usize]
    };
    for turn in 0..6000 {
        let mut sum = 0.0;
        for tgid in 1..=20 {
            sum += size(tgid, turn + tgid);
            script.wait(0.0025).size(tgid, size(tgid, turn + tgid));
        }
        if turn % 20 == 0 {
            script.cgroup("/web", 60.0 + sum, 256.0, Some(10.0));
            script.tick();
        }
    }
    assert!(script.now() > 299.0);
    assert!(raised(&script).is_empty(), "{:?}", raised(&script));
}

#[test]
fn page_cache_that_fills_the_limit_is_silent() {
    let mut script = Script::new();
    script.process(1, "tar", "/web");
    script.size(1, 10.0);
    for s in 0..60 {
        let cache = (20.0 * f64::from(s)).min(226.0);
        script.wait(0.5).size(1, 10.0 + f64::from(s % 2) / 4.0);
        script.cgroup("/web", 30.0 + cache, 256.0, None);
        script.wait(0.5).cgroup("/web", 30.0 + cache, 256.0, Some(cache));
        script.tick();
    }
    assert!(raised(&script).is_empty());
}

#[test]
fn a_leak_beside_page_cache_is_named_when_it_eats_the_cache() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 10.0);
    for s in 0..40 {
        let anon = 10.0 + 5.0 * f64::from(s);
        script.wait(1.0).size(1, anon);
        script.cgroup("/web", 256.0, 256.0, Some(246.0 - 5.0 * f64::from(s)));
        script.tick();
    }
    let raised = raised(&script);
    assert_eq!(raised.len(), 1);
    let left = evidence(&raised[0].1).limit.headroom_bytes / MIB;
    assert!((150..=200).contains(&left), "{left}");
}

#[test]
fn a_burst_that_stops_with_room_left_is_silent() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.cgroup("/web", 50.0, 1024.0, Some(0.0));
    script.size(1, 10.0);
    for step in 1..=25 {
        script.wait(0.04).size(1, 10.0 + 4.0 * f64::from(step));
    }
    for _ in 0..60 {
        script.wait(1.0).cgroup("/web", 150.0, 1024.0, Some(0.0));
        script.tick();
    }
    assert!(raised(&script).is_empty());
}

#[test]
fn counter_noise_is_silent() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 100.0);
    for i in 0..3000_u32 {
        let noise = f64::from(i * 7919 % 512) / 1024.0 - 0.25;
        script.wait(0.02).size(1, 100.0 + noise);
        script.cgroup("/web", 255.0 + noise, 256.0, Some(0.0));
        script.tick();
    }
    assert!(raised(&script).is_empty());
}

#[test]
fn many_workers_together_have_no_driver() {
    let mut script = Script::new();
    script.cgroup("/web", 10.0, 1024.0, Some(0.0));
    for tgid in 1..=20 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 0.0);
    }
    for step in 1..=50 {
        for tgid in 1..=20 {
            script.wait(0.05).size(tgid, f64::from(step));
        }
        script.cgroup("/web", 10.0 + 20.0 * f64::from(step), 1024.0, Some(0.0));
        script.tick();
    }
    assert!(raised(&script).is_empty());
}

#[test]
fn the_limit_is_forecast_from_its_own_rate() {
    // The driver alone would need 14 s, with the others 8 s.
    let mut script = Script::new();
    script.cgroup("/web", 0.0, 400.0, Some(0.0));
    for tgid in 1..=11 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 0.0);
    }
    for step in 1..=20_u32 {
        script.wait(0.5);
        for tgid in 2..=11 {
            script.size(tgid, f64::from(step));
        }
        script.size(1, 12.5 * f64::from(step));
        script.cgroup("/web", 22.5 * f64::from(step), 400.0, Some(0.0));
    }
    let raised = raised(&script);
    assert_eq!(raised.len(), 1);
    let runaway = evidence(&raised[0].1);
    assert_eq!(raised[0].1.subject.as_ref().unwrap().tgid, 1);
    let rate = runaway.limit_rate_bytes_per_s / MIB as f64;
    assert!((rate - 45.0).abs() < 5.0, "{rate}");
    assert!((0.5..0.62).contains(&runaway.share), "{}", runaway.share);
    assert!(raised[0].1.summary.contains("% of all growth there"));
}

#[test]
fn the_limit_reached_first_is_the_one_named() {
    let mut script = Script::new();
    script.process(1, "php", "/a/b/c");
    script.size(1, 0.0);
    for s in 0..20 {
        let used = 10.0 * f64::from(s);
        script.cgroup("/a", used, 250.0, Some(0.0));
        script.cgroup("/a/b", used, 220.0, Some(0.0));
        script.cgroup("/a/b/c", used, 300.0, Some(0.0));
        script.host(1000.0, 260.0 - used, 0.0);
        script.wait(1.0).size(1, used + 10.0);
    }
    let raised = raised(&script);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(evidence(&raised[0].1).limit.path.as_deref(), Some("/a/b"));
}

#[test]
fn the_host_is_a_limit_and_swap_is_room() {
    let leak = |swap_free: f64| {
        let mut script = Script::new();
        script.process(1, "java", "/");
        script.size(1, 0.0);
        for s in 0..30 {
            let used = 30.0 * f64::from(s);
            script.host(8192.0, 1000.0 - used, swap_free);
            script.wait(1.0).size(1, used + 30.0);
            script.tick();
        }
        raised(&script).iter().map(|(t, finding)| (*t, finding.clone())).collect::<Vec<_>>()
    };
    let raised = leak(0.0);
    assert_eq!(raised.len(), 1);
    let limit = &evidence(&raised[0].1).limit;
    assert_eq!((limit.kind, limit.path.clone()), (ScopeKind::Host, None));
    assert!(raised[0].1.summary.contains("uses up the memory of the host in about"));
    assert!(leak(8000.0).is_empty());
}

#[test]
fn a_process_that_is_swapped_out_still_grows() {
    let mut script = Script::new();
    pool(&mut script);
    for s in 1..=60_u32 {
        let growth = crate::event::Growth {
            tgid: 4,
            start_ns: crate::model::script::key(4).start_ns,
            anon_bytes: bytes(10.0),
            swap_bytes: bytes(4.0 * f64::from(s)),
            ..Default::default()
        };
        script.wait(1.0).feed(crate::event::Event::Growth(growth));
    }
    assert_eq!(raised(&script).len(), 1);
}

#[test]
fn after_a_pause_it_is_named_again() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 0.0);
    let mut size = 0.0;
    for _ in 0..2 {
        for _ in 0..25 {
            size += 4.0;
            script.wait(1.0).size(1, size);
            script.cgroup("/web", size, 256.0, Some(0.0));
            script.tick();
        }
        for _ in 0..15 {
            script.wait(1.0).cgroup("/web", size, 256.0, Some(0.0));
            script.tick();
        }
    }
    let raised = raised(&script);
    assert_eq!(raised.len(), 2, "{raised:?}");
    assert!(raised[1].0 - raised[0].0 > 20.0);
}

#[test]
fn after_a_fall_only_new_heights_count() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    for top in [120.0, 120.0, 118.0, 170.0] {
        for size in 0..=(top as u32) / 4 {
            script.wait(0.2).size(1, 4.0 * f64::from(size));
            script.cgroup("/web", 4.0 * f64::from(size), 256.0, Some(0.0));
        }
        script.wait(0.2).size(1, 0.0);
        script.tick();
    }
    // The first rise and the one that goes beyond it.
    assert_eq!(raised(&script).len(), 2, "{:?}", raised(&script));
}

#[test]
fn a_new_program_is_judged_anew() {
    let mut script = Script::new();
    pool(&mut script);
    leak(&mut script, 50.0, true);
    script.state(4, "php", None, ProcessCause::Exec);
    script.cgroup("/web", 100.0, 256.0, Some(0.0));
    script.size(4, 5.0);
    leak(&mut script, 50.0, true);
    assert_eq!(raised(&script).len(), 2);
}

#[test]
fn filters_restrict_what_is_named() {
    let named = |filters: Filters| {
        let mut script = Script::with(Config { filters, ..Config::default() });
        pool(&mut script);
        leak(&mut script, 50.0, true);
        raised(&script).len()
    };
    assert_eq!(named(Filters { php: true, ..Filters::default() }), 1);
    assert_eq!(named(Filters { tgid: vec![4], ..Filters::default() }), 1);
    assert_eq!(named(Filters { tgid: vec![1], ..Filters::default() }), 0);
    assert_eq!(named(Filters { comm: Some("maria".to_owned()), ..Filters::default() }), 0);
    assert_eq!(named(Filters { cgroup: Some("/db".to_owned()), ..Filters::default() }), 0);
}

#[test]
fn nothing_is_named_beyond_the_horizon() {
    let named = |horizon_s: f64| {
        let mut script = Script::with(Config { horizon_s, ..Config::default() });
        pool(&mut script);
        let killed = leak(&mut script, 5.0, true);
        raised(&script).iter().map(|(t, _)| killed - t).collect::<Vec<_>>()
    };
    assert!(named(60.0)[0] > 20.0);
    let left = named(3.0)[0];
    assert!((1.0..=4.0).contains(&left), "{left}");
}

/// Worker 4 grows by 50 MiB/s in a request, and is looked into at each step: four of five looks
/// meet one line.
fn leak_in_php(script: &mut Script, limit: Option<u64>) {
    for step in 1..=40_u32 {
        let (grown, elapsed) = (f64::from(step) * 4.0, f64::from(step) * 0.08);
        if grown > 156.0 || limit.is_some_and(|limit| bytes(grown + 2.0) > limit) {
            return;
        }
        script.wait(0.08).size(4, 10.0 + grown);
        script.cgroup("/web", 100.0 + grown, 256.0, None);
        let line = if step % 5 == 0 { 301 } else { 214 };
        script.look(4, |look| {
            in_request(look, "/orders/17/export?token=…", elapsed, line);
            look.memory = Some(Memory {
                used_bytes: bytes(grown),
                real_bytes: bytes(grown + 2.0),
                real_peak_bytes: bytes(grown + 2.0),
                limit_bytes: limit,
            });
        });
        script.sample(4, 10.0 + grown, line);
    }
}

/// As [`pool`], and each worker was looked into.
fn looked_into(script: &mut Script) {
    pool(script);
    for tgid in 1..=4 {
        script.look(tgid, |look| look.activity = Activity::Idle);
    }
}

#[test]
fn a_php_worker_is_named_with_its_request_and_its_code() {
    let mut script = Script::new();
    looked_into(&mut script);
    leak_in_php(&mut script, None);
    let raised = raised(&script);
    assert_eq!(raised.len(), 1);
    let (_, finding) = raised[0];
    let end = "; it serves GET /orders/17/export?token=…, most of its growth in App\\Import::load, \
               line 214 of Import.php";
    assert!(finding.summary.ends_with(end), "{}", finding.summary);
    let runaway = evidence(finding);
    let request = runaway.request.as_ref().unwrap();
    assert_eq!(request.script.as_deref(), Some("/srv/index.php"));
    assert_eq!(runaway.php_stack[0].line.map(|line| line / 100), Some(2));
    assert_eq!(runaway.php_growth.len(), 1);
    assert!(runaway.php_growth[0].samples >= 5);
}

#[test]
fn a_worker_that_php_stops_first_is_no_runaway() {
    let mut script = Script::new();
    looked_into(&mut script);
    leak_in_php(&mut script, Some(128 << 20));
    assert!(raised(&script).is_empty(), "{:?}", raised(&script));
    let told = script.of_kind(FindingKind::MemoryLimit);
    assert_eq!(told.len(), 1);
    let (_, finding) = told[0];
    assert_eq!(finding.severity, Severity::Info);
    let runaway = evidence(finding);
    assert_eq!((runaway.limit.kind, runaway.limit.bytes), (ScopeKind::Php, 128 << 20));
    assert!((0.1..=2.6).contains(&runaway.eta_s), "{}", runaway.eta_s);
    assert!(finding.summary.contains("will hit its memory_limit of 128 MiB in about"));
}

#[test]
fn what_a_worker_does_is_worth_a_short_wait_and_no_more() {
    let time = |looks: bool| {
        let mut script = Script::new();
        pool(&mut script);
        if looks {
            script.look(1, |look| look.activity = Activity::Idle);
        }
        leak(&mut script, 5.0, true);
        raised(&script)[0].0
    };
    let waited = time(true) - time(false);
    assert!((0.3..=1.2).contains(&waited), "{waited} s");
}

#[test]
fn it_becomes_worse_and_ends() {
    let mut script = Script::new();
    pool(&mut script);
    leak(&mut script, 5.0, true);
    script.exit(4);
    let news: Vec<_> = script
        .news_of(FindingKind::Runaway)
        .into_iter()
        .map(|(_, finding)| (finding.id, finding.state, finding.severity))
        .collect();
    assert_eq!(
        news,
        [
            (1, FindingState::Raised, Severity::Warning),
            (1, FindingState::Updated, Severity::Critical),
            (1, FindingState::Closed, Severity::Critical),
        ]
    );
    let summary = &script.news_of(FindingKind::Runaway)[2].1.summary;
    assert_eq!(summary, "php-fpm8.2 (pool www, pid 4) ended");
}

#[test]
fn growth_that_stops_is_over() {
    let mut script = Script::new();
    pool(&mut script);
    for step in 1..=40 {
        script.wait(0.1).size(4, 10.0 + 2.0 * f64::from(step));
        script.cgroup("/web", 100.0 + 2.0 * f64::from(step), 256.0, Some(0.0));
    }
    for _ in 0..12 {
        script.wait(1.0).cgroup("/web", 180.0, 256.0, Some(0.0));
        script.tick();
    }
    let news = script.news_of(FindingKind::Runaway);
    let (_, last) = news.last().unwrap();
    assert_eq!(last.state, FindingState::Closed);
    assert_eq!(last.summary, "php-fpm8.2 (pool www, pid 4) stopped growing and has 90.0 MiB");
}

#[test]
fn what_may_be_swapped_out_is_room() {
    let eta_s = |swap_free: f64| {
        let mut script = Script::new();
        script.process(1, "php", "/web");
        script.size(1, 0.0);
        for s in 0..40_u32 {
            let grown = 10.0 * f64::from(s);
            script.host(65_536.0, 60_000.0, swap_free);
            script.swapping_cgroup("/web", grown.min(250.0), (grown - 250.0).max(0.0), 256.0);
            script.wait(1.0).size(1, grown + 10.0);
        }
        let evidence = evidence(&raised(&script)[0].1);
        (evidence.limit.headroom_bytes / MIB, evidence.limit.bytes / MIB)
    };
    let (without, with) = (eta_s(0.0), eta_s(500.0));
    assert_eq!((without.1, with.1), (256, 256));
    assert!((190..=215).contains(&without.0), "{}", without.0);
    assert!((550..=610).contains(&with.0), "{}", with.0);
}

#[test]
fn uneven_growth_has_a_range() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 0.0);
    let mut size = 0.0;
    for step in 0..40 {
        size += if step < 20 { 1.0 } else { 3.0 };
        script.cgroup("/web", size, 256.0, Some(0.0));
        script.wait(0.25).size(1, size);
    }
    let (_, finding) = raised(&script)[0];
    let evidence = evidence(finding);
    assert!(evidence.eta_soonest_s < evidence.eta_s);
    assert!(evidence.eta_latest_s.is_some_and(|latest_s| latest_s > evidence.eta_s));
    assert!(finding.summary.contains(" (") && finding.summary.contains(" to "), "{finding:?}");
}

/// A process maps shared memory, and `readers` others map the same.
fn shared(readers: u32) -> Script {
    let mut script = Script::new();
    for tgid in 1..=1 + readers {
        script.process(tgid, "import", "/web");
        script.size(tgid, 10.0);
    }
    for s in 0..15_u32 {
        let shared = 10.0 * f64::from(s);
        script.wait(1.0);
        for tgid in 1..=1 + readers {
            script.shared_size(tgid, 10.0, shared);
        }
        script.cgroup("/web", 30.0 + shared, 256.0, Some(0.0));
        script.tick();
    }
    script
}

#[test]
fn shared_memory_of_one_process_is_its_growth() {
    let script = shared(0);
    let raised = raised(&script);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(evidence(&raised[0].1).memory, MemoryKind::Shared);
    assert!(
        raised[0].1.summary.starts_with("import (pid 1) grows 10.0 MiB/s in shared memory, has")
    );
}

#[test]
fn shared_memory_of_many_is_charged_once_and_blamed_on_nobody() {
    assert!(raised(&shared(1)).is_empty());
    assert!(raised(&shared(19)).is_empty());
}

#[test]
fn mapping_what_is_charged_already_is_no_growth() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 10.0);
    for s in 0..15_u32 {
        script.wait(1.0).shared_size(1, 10.0, 10.0 * f64::from(s));
        script.cgroup("/web", 180.0, 256.0, Some(0.0));
        script.tick();
    }
    assert!(raised(&script).is_empty());
}

#[test]
fn what_was_lost_since_the_onset_is_said() {
    let mut script = Script::new();
    pool(&mut script);
    script.lost("ring:fork", 50);
    for _ in 0..5 {
        script.wait(1.0).tick();
    }
    for step in 0..20 {
        if step == 2 {
            script.lost("map:procs", 1);
        }
        let grown = 4.0 * f64::from(step);
        script.wait(0.2).size(4, 10.0 + grown);
        script.cgroup("/web", 100.0 + grown, 256.0, Some(0.0));
    }
    let raised = raised(&script);
    let (_, finding) = raised[0];
    assert_eq!(evidence(finding).lost_records, 1);
    let words = "; 1 record was lost meanwhile: figures may be too low";
    assert!(finding.summary.ends_with(words), "{}", finding.summary);
}

#[test]
fn who_grows_from_the_first_event_on_may_have_grown_before() {
    for had in [2.0, 80.0] {
        let mut script = Script::new();
        script.process(4, "import", "/web");
        for tenth in 0..80 {
            let mib = had + 2.0 * f64::from(tenth);
            script.size(4, mib);
            script.cgroup("/web", mib, 256.0, Some(0.0));
            script.wait(0.1).tick();
        }
        let (t, finding) = raised(&script)[0];
        let watched_s = evidence(finding).watched_s;
        assert_eq!(watched_s.is_some(), had > 16.0, "{}", finding.summary);
        assert!(watched_s.is_none_or(|watched_s| (watched_s - t).abs() < 0.01));
        let says = finding.summary.contains(" only, it may have grown before");
        assert_eq!(says, had > 16.0, "{}", finding.summary);
    }
}

/// Time passes without events (a suspend, a tracer that was stopped), and everybody is larger then.
#[test]
fn no_rate_is_taken_over_a_gap() {
    for gap in [11.0, 60.0, 3600.0] {
        let mut script = Script::new();
        pool(&mut script);
        script.wait(gap);
        for (at, tgid) in (1..=4).enumerate() {
            script.wait(0.02).size(tgid, 35.0 + at as f64);
        }
        script.cgroup("/web", 205.0, 256.0, Some(0.0));
        script.host(8192.0, 5500.0, 0.0);
        script.tick();
        for s in 0..5 {
            let process = script.model.by_tgid(1).unwrap();
            assert_eq!(process.rate_bytes_per_s, 0.0, "{s} s after {gap} s");
            let forecast = script.model.forecast(process).unwrap();
            assert_eq!(forecast.eta_s, None, "{forecast:?}");
            script.wait(1.0).cgroup("/web", 205.0, 256.0, Some(0.0));
            script.tick();
        }
        assert!(raised(&script).is_empty(), "{:?}", raised(&script));
        // What grows afterwards is named as ever.
        for tenth in 0..20 {
            let grown = 2.0 * f64::from(tenth);
            script.wait(0.1).size(4, 38.0 + grown);
            script.cgroup("/web", 205.0 + grown, 256.0, Some(0.0));
        }
        assert_eq!(raised(&script).len(), 1);
        let rate = evidence(&raised(&script)[0].1).limit_rate_bytes_per_s / MIB as f64;
        assert!((rate - 20.0).abs() < 3.0, "{rate}");
    }
}
