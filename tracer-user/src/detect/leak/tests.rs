//! When a leak is told, and when not.

use crate::event::{Evidence, Finding, FindingKind, FindingState, Growth, Leak, Severity};
use crate::model::script::{MIB, Script, bytes, key};

fn evidence(finding: &Finding) -> &Leak {
    match &finding.evidence {
        Evidence::Leak(leak) => leak,
        _ => panic!("no leak: {finding:?}"),
    }
}

/// A process in a limit of 1 GiB, whose size after so many seconds is `mib(t)`.
fn process(seconds: u32, mib: impl Fn(f64) -> f64) -> Script {
    let mut script = Script::new();
    script.process(1, "node", "/web");
    for half in 0..2 * seconds {
        let size = mib(f64::from(half) / 2.0);
        script.size(1, size);
        script.cgroup("/web", 30.0 + size, 1024.0, Some(0.0));
        script.wait(0.5).tick();
    }
    script
}

/// Garbage that comes and goes, above what is kept.
fn garbage(t: f64) -> f64 {
    50.0 + (t * 7.3 % 5.0) * 12.0
}

#[test]
fn what_is_kept_below_garbage_is_a_leak() {
    let script = process(300, |t| garbage(t) + 0.25 * t);
    let found = script.of_kind(FindingKind::Leak);
    assert_eq!(found.len(), 1, "{found:?}");
    let (t, finding) = found[0];
    let leak = evidence(finding);
    let rate = leak.floor_rate_bytes_per_s / MIB as f64;
    assert!((rate - 0.25).abs() < 0.08, "{rate}");
    let left = (1024.0 - 110.0) / 0.25 - t;
    assert!((leak.eta_s / left - 1.0).abs() < 0.4, "{} for {left}", leak.eta_s);
    assert_eq!(finding.severity, Severity::Warning);
    assert!(*t < 240.0, "after {t} s");
    assert!(finding.summary.starts_with("node (pid 1) leaks: it never falls back, keeps "));
    assert!(script.of_kind(FindingKind::Runaway).is_empty());
}

#[test]
fn hours_away_is_a_note() {
    let script = process(2400, |t| garbage(t) / 4.0 + 0.04 * t);
    let found = script.of_kind(FindingKind::Leak);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1.severity, Severity::Info);
    assert!(evidence(&found[0].1).eta_s > 3600.0);
}

#[test]
fn garbage_warm_up_and_one_step_are_none() {
    for mib in [
        garbage as fn(f64) -> f64,
        |t| 200.0 * (1.0 - (-t / 40.0).exp()),
        |t| if t < 100.0 { 40.0 } else { 240.0 },
        |t| garbage(t) + 0.01 * t,
    ] {
        let script = process(400, mib);
        assert!(script.of_kind(FindingKind::Leak).is_empty());
    }
}

#[test]
fn giving_back_ends_it() {
    let script = process(200, |t| if t < 150.0 { garbage(t) + t } else { 50.0 });
    let news = script.news_of(FindingKind::Leak);
    let last = &news.last().unwrap().1;
    assert_eq!(last.state, FindingState::Closed);
    assert_eq!(last.summary, "node (pid 1) gave its memory back and has 50.0 MiB");
}

#[test]
fn a_leak_that_stops_is_over() {
    let script = process(1000, |t| garbage(t) + 0.25 * t.min(300.0));
    let news = script.news_of(FindingKind::Leak);
    let states: Vec<_> = news.iter().map(|(_, finding)| finding.state).collect();
    assert_eq!(states, [FindingState::Raised, FindingState::Closed]);
    assert!(news[1].1.summary.starts_with("node (pid 1) has not leaked for "), "{:?}", news[1]);
}

#[test]
fn a_buffer_pool_that_fits_is_filled_and_not_leaked() {
    let grow = |data: f64| {
        let mut script = Script::new();
        script.process(1, "mariadbd", "/db");
        for s in 0..60_u32 {
            let anon = 40.0 + 3.0 * f64::from(s);
            script.feed(crate::event::Event::Growth(Growth {
                tgid: 1,
                start_ns: key(1).start_ns,
                anon_bytes: bytes(anon),
                data_bytes: bytes(data),
                ..Growth::default()
            }));
            script.cgroup("/db", 20.0 + anon, 512.0, Some(0.0));
            script.wait(1.0).tick();
        }
        script.of_kinds(&[FindingKind::Leak, FindingKind::Runaway]).len()
    };
    // 256 MiB are mapped; 512 MiB would not fit.
    assert_eq!(grow(256.0), 0);
    assert_eq!(grow(512.0), 1);
}
