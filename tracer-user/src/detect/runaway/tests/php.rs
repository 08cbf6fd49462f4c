//! PHP workers: what they do, and what PHP stops by itself.

use super::*;

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
fn a_memory_limit_that_comes_too_late_is_told_once() {
    let mut script = Script::new();
    looked_into(&mut script);
    // Worker 4 is 42 MiB below its memory_limit when worker 3 begins, five times as fast.
    for step in 1..=24_u32 {
        let grown = f64::from(step) * 4.0;
        let others = f64::from(step.saturating_sub(21)) * 20.0;
        script.wait(0.4).size(4, 10.0 + grown);
        script.size(3, 10.0 + others);
        script.cgroup("/web", 100.0 + grown + others, 256.0, Some(0.0));
        for (tgid, grown) in [(4, grown), (3, others)] {
            script.look(tgid, |look| {
                in_request(look, "/import", f64::from(step) * 0.4, 214);
                look.memory = Some(Memory {
                    used_bytes: bytes(grown),
                    real_bytes: bytes(grown + 2.0),
                    real_peak_bytes: bytes(grown + 2.0),
                    limit_bytes: Some(128 << 20),
                });
            });
        }
        script.tick();
    }
    let told = script.news_of(FindingKind::MemoryLimit);
    let of_4: Vec<_> =
        told.iter().filter(|(_, finding)| finding.summary.contains("pid 4")).collect();
    let states: Vec<_> = of_4.iter().map(|(_, finding)| finding.state).collect();
    assert_eq!(states, [FindingState::Raised, FindingState::Updated], "{told:?}");
    let late = &of_4[1].1;
    assert!(
        late.summary.contains("will not hit its memory_limit of 128 MiB in time"),
        "{}",
        late.summary
    );
    assert_eq!(evidence(late).limit.path.as_deref(), Some("/web"));
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
