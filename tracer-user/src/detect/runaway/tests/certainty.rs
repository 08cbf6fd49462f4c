//! What was lost or not watched is said, and a gap gives no rates.

use super::*;

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
