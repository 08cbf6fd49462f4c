//! When a finding is raised again, becomes worse, and ends.

use super::*;

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
