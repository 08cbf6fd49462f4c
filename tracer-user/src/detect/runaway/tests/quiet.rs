//! What grows and is no runaway.

use super::*;

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
