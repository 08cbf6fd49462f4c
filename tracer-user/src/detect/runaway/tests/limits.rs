//! Which limit is told, and when it is met.

use super::*;

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
