//! When work is lost and when it only looks so; once, and without flapping.

use super::*;
use crate::event::{
    CgroupEvents, CgroupGone, Evidence, Finding, FindingState, LostWork, StallKind,
};
use crate::model::script::{MIB, Script, bytes};

fn said(script: &Script) -> Vec<(f64, &Finding, &LostWork)> {
    let news = script.news_of(FindingKind::Pressure).into_iter();
    news.filter_map(|(s, finding)| match &finding.evidence {
        Evidence::Pressure(lost) => Some((*s, finding, &**lost)),
        _ => None,
    })
    .collect()
}

fn states(script: &Script) -> Vec<FindingState> {
    said(script).iter().map(|(_, finding, _)| finding.state).collect()
}

/// /web may hold 256 MiB: a database (77) of 100 MiB, a worker (4) of 140, and `idle` sleepers.
fn scene() -> Script {
    let mut script = Script::new();
    script.process(77, "mariadbd", "/web/db");
    script.worker(4, "www", "/web/php");
    script.cgroup("/web", 245.0, 256.0, Some(5.0));
    script.size(77, 100.0);
    script.size(4, 140.0);
    script.wait(30.0);
    script
}

/// One second in which /web has so much charged and reclaimable, and 77 waits for a part of it.
fn second(script: &mut Script, usage: f64, reclaimable: f64, share: f64) {
    script.wait(1.0);
    if share > 0.0 {
        script.stall(77, StallKind::Memcg, share);
    }
    script.cgroup("/web", usage, 256.0, Some(reclaimable));
    script.tick();
}

fn seconds(script: &mut Script, count: usize, usage: f64, reclaimable: f64, share: f64) {
    for _ in 0..count {
        second(script, usage, reclaimable, share);
    }
}

#[test]
fn waiting_at_a_full_limit_is_lost_work() {
    let mut script = scene();
    for s in 1..=8 {
        script.size(4, 140.0 + f64::from(s));
        second(&mut script, 245.0, 0.0, 0.34);
    }
    let all = said(&script);
    assert_eq!(all.len(), 1, "{all:?}");
    let (s, finding, lost) = all[0];
    // 0.34 a second: a tenth of ten seconds after three, and three more.
    assert_eq!((s, finding.severity), (36.0, Severity::Warning));
    assert_eq!(
        finding.summary,
        "work is being lost in /web: 20 % of one process's time is spent waiting for memory; \
         php-fpm8.2 (pool www, pid 4) grows 1.0 MiB/s, mariadbd (pid 77) waits most (20 % of its \
         time)"
    );
    assert_eq!((lost.form, lost.limit.bytes), (LostForm::Stalled, 256 * MIB));
    assert!((lost.stall_share - 0.204).abs() < 1e-9 && lost.some_avg10.is_none());
    assert_eq!((lost.growers[0].tgid, lost.waiters[0].tgid), (4, 77));
    assert_eq!(finding.subject.as_ref().map(|subject| subject.tgid), Some(4));
}

#[test]
fn psi_says_it_too_and_makes_it_worse() {
    let mut script = scene();
    for _ in 0..6 {
        script.psi("/web", 34.0, 4.0);
        second(&mut script, 250.0, 0.0, 0.0);
    }
    script.psi("/web", 60.0, 12.0);
    seconds(&mut script, 3, 250.0, 0.0, 0.0);
    let all = said(&script);
    assert_eq!(states(&script), [FindingState::Raised, FindingState::Updated]);
    assert_eq!(
        all[0].1.summary,
        "work is being lost in /web: 34 % of the time is spent waiting for memory (PSI some 34 %, \
         full 4 %); php-fpm8.2 (pool www, pid 4) holds most (140 MiB)"
    );
    assert_eq!((all[0].1.severity, all[1].1.severity), (Severity::Warning, Severity::Critical));
    assert_eq!(all[0].1.id, all[1].1.id);
    assert_eq!(all[0].1.subject, None, "who holds most is not to blame for it");
}

#[test]
fn a_storm_of_file_pages_alarms_nobody() {
    let mut script = scene();
    for _ in 0..60 {
        script.psi("/web", 40.0, 30.0);
        second(&mut script, 256.0, 200.0, 0.9);
    }
    assert!(said(&script).is_empty());
}

#[test]
fn a_short_burst_alarms_nobody() {
    let mut script = scene();
    for _ in 0..10 {
        seconds(&mut script, 1, 250.0, 0.0, 0.9);
        seconds(&mut script, 30, 250.0, 0.0, 0.0);
        // PSI of two seconds, now and then.
        script.psi("/web", 20.0, 0.0);
        seconds(&mut script, 2, 256.0, 0.0, 0.0);
        script.psi("/web", 1.0, 0.0);
    }
    let raised = script.of_kind(FindingKind::Pressure).len();
    // 0.9 s in one are 9 % of ten.
    assert_eq!(raised, 0);
}

#[test]
fn what_swings_around_the_threshold_is_said_once() {
    let mut script = scene();
    for round in 0..120 {
        script.psi("/web", if round % 5 < 4 { 11.0 } else { 9.0 }, 0.0);
        second(&mut script, 250.0, 0.0, 0.0);
    }
    assert_eq!(states(&script), [FindingState::Raised]);
    // Room that comes and goes.
    for round in 0..120 {
        script.psi("/web", 11.0, 0.0);
        second(&mut script, if round % 2 == 0 { 250.0 } else { 200.0 }, 0.0, 0.0);
    }
    // Below half of it, but never for ten seconds.
    for round in 0..120 {
        script.psi("/web", if round % 9 == 0 { 6.0 } else { 1.0 }, 11.0);
        second(&mut script, 250.0, 0.0, 0.0);
    }
    assert_eq!(states(&script), [FindingState::Raised]);
    script.psi("/web", 4.0, 0.0);
    seconds(&mut script, 7, 250.0, 0.0, 0.0);
    assert_eq!(states(&script).len(), 1);
    seconds(&mut script, 3, 250.0, 0.0, 0.0);
    assert_eq!(states(&script), [FindingState::Raised, FindingState::Closed]);
    assert_eq!(
        said(&script)[1].1.summary,
        "work goes on in /web: hardly anybody waits for memory any more"
    );
    // Full swings as well: it does not become less severe, and not worse twice.
    for round in 0..60 {
        script.psi("/web", 30.0, if round % 2 == 0 { 12.0 } else { 8.0 });
        second(&mut script, 250.0, 0.0, 0.0);
    }
    let later: Vec<_> = states(&script).split_off(2);
    assert!(later.len() <= 2 && later[0] == FindingState::Raised, "{later:?}");
}

#[test]
fn when_all_who_run_wait_it_is_critical_without_psi() {
    let mut script = scene();
    for s in 0..12 {
        // The worker's memory does not move: only the database runs.
        script.size(77, 100.0 + 0.01 * f64::from(s));
        second(&mut script, 250.0, 0.0, 0.99);
    }
    let severities: Vec<_> = said(&script).iter().map(|(_, finding, _)| finding.severity).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Critical]);
    let mut script = scene();
    for s in 0..12 {
        script.size(4, 140.0 + 0.01 * f64::from(s));
        second(&mut script, 250.0, 0.0, 0.99);
    }
    assert_eq!(said(&script).len(), 1, "the worker works");
}

#[test]
fn tasks_that_hang_are_told_of_at_once() {
    let mut script = scene();
    let hang = |script: &mut Script, under_oom: bool| {
        script.cgroup_with("/web", 256.0, |cgroup| {
            cgroup.max_bytes = Some(bytes(256.0));
            cgroup.events = Some(CgroupEvents { under_oom, ..CgroupEvents::default() });
        });
    };
    hang(&mut script, true);
    let (s, finding, lost) = said(&script)[0];
    assert_eq!((s, finding.severity), (30.0, Severity::Critical));
    assert_eq!(
        finding.summary,
        "tasks in /web hang: its 256 MiB limit is reached and its OOM killer is disabled; \
         php-fpm8.2 (pool www, pid 4) holds most (140 MiB)"
    );
    assert_eq!(lost.form, LostForm::Hung);
    for _ in 0..60 {
        script.wait(1.0).tick();
        hang(&mut script, true);
    }
    assert_eq!(said(&script).len(), 1);
    hang(&mut script, false);
    for _ in 0..12 {
        script.wait(1.0).tick();
    }
    assert_eq!(states(&script), [FindingState::Raised, FindingState::Closed]);
}

#[test]
fn memory_high_is_named_as_the_throttle() {
    let mut script = scene();
    for high in 1..=6 {
        script.wait(1.0).psi("/web", 50.0, 5.0);
        script.cgroup_with("/web", 199.0, |cgroup| {
            cgroup.max_bytes = Some(bytes(256.0));
            cgroup.high_bytes = Some(bytes(200.0));
            cgroup.events = Some(CgroupEvents { high, ..CgroupEvents::default() });
        });
        script.tick();
    }
    let (_, finding, lost) = said(&script)[0];
    assert_eq!((lost.form, lost.limit.bytes), (LostForm::Throttled, 200 * MIB));
    assert!(
        finding.summary.contains("; it is throttled by its memory.high of 200 MiB; php-fpm8.2"),
        "{}",
        finding.summary
    );
}

#[test]
fn a_cgroup_that_is_removed_loses_no_more_work() {
    let mut script = scene();
    seconds(&mut script, 8, 250.0, 0.0, 0.5);
    script.exit(77);
    script.exit(4);
    script.feed(Event::CgroupGone(CgroupGone { id: 0, path: "/web".into() }));
    script.wait(1.0).tick();
    assert_eq!(states(&script), [FindingState::Raised, FindingState::Closed]);
    assert_eq!(said(&script)[1].1.summary, "/web was removed");
}

#[test]
fn the_host_is_short_when_nothing_is_available() {
    let mut script = scene();
    for _ in 0..8 {
        script.wait(1.0).stall(77, StallKind::Direct, 0.5);
        // Swap that is left does not help.
        script.host(1024.0, 40.0, 900.0);
        script.tick();
    }
    let all = said(&script);
    assert_eq!(all.len(), 1, "not in /web: {all:?}");
    assert!(all[0].1.summary.starts_with("work is being lost on the host: "));
    // A limit's shortage is not the host's, and the other way round.
    let mut script = scene();
    for _ in 0..20 {
        script.wait(1.0).stall(77, StallKind::Memcg, 0.5);
        script.host(1024.0, 40.0, 900.0);
        script.cgroup("/web", 100.0, 256.0, Some(0.0));
        script.tick();
    }
    assert!(said(&script).is_empty());
}
