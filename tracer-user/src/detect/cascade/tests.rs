//! When kills are a cascade, what they are said to have in common, and when it is over.

use std::sync::Arc;

use super::*;
use crate::event::look::Memory;
use crate::event::{Evidence, Finding, FindingState, OomScope, ProcessCause, Series, Severity};
use crate::model::script::{Script, memcg};

const S: u64 = 1_000_000_000;

fn kill(t_ns: u64) -> Kill {
    Kill { t_ns, victims: vec![], culprit: None, parents: vec![], pool: None, request: None }
}

#[test]
fn kills_within_ten_minutes_count_by_limit() {
    let mut cascades = Cascades::default();
    let web = memcg("/web", 256.0);
    let mut count = |scope: &OomScope, s: u64| cascades.count(scope.cgroup.as_ref(), kill(s * S));
    assert_eq!(count(&web, 100), Cascade { number: 1, since_s: 0.0 });
    assert_eq!(count(&memcg("/db", 1.0), 101).number, 1);
    assert_eq!(count(&web, 130), Cascade { number: 2, since_s: 30.0 });
    assert_eq!(count(&web, 720), Cascade { number: 2, since_s: 590.0 });
    assert_eq!(count(&web, 5000), Cascade { number: 1, since_s: 0.0 });
}

#[test]
fn it_is_bounded() {
    let mut cascades = Cascades::default();
    for i in 0..5000 {
        let scope = memcg(&format!("/{i}"), 1.0);
        cascades.count(scope.cgroup.as_ref(), kill(i * S));
        let same = memcg("/same", 1.0);
        cascades.count(same.cgroup.as_ref(), kill(1));
    }
    assert!(cascades.limits.len() <= MOST);
    let kills = cascades.limits.values();
    assert!(kills.clone().all(|kills| kills.times.len() <= MOST && kills.last.len() <= SHOWN));
}

/// All that was said of cascades.
fn said(script: &Script) -> Vec<(f64, &Finding, &Series)> {
    let news = script.news_of(FindingKind::Cascade).into_iter();
    news.filter_map(|(s, finding)| match &finding.evidence {
        Evidence::Cascade(series) => Some((*s, finding, &**series)),
        _ => None,
    })
    .collect()
}

fn last(script: &Script) -> (&Finding, &Series) {
    let (_, finding, series) = said(script).pop().unwrap();
    (finding, series)
}

fn quiet(script: &mut Script, seconds: u32) {
    for _ in 0..seconds {
        script.wait(1.0).tick();
    }
}

/// A process `tgid` below `parent` grows 200 MiB in ten seconds and is killed for it in /web.
fn grow_and_die(script: &mut Script, parent: u32, tgid: u32, comm: &str) {
    script.fork(parent, tgid, comm, "/web");
    script.size(tgid, 1.0);
    for s in 1..=10 {
        script.wait(1.0).size(tgid, 1.0 + 20.0 * f64::from(s));
        script.tick();
    }
    let victim = script.victim(tgid, comm, "/web", 201.0);
    script.oom(memcg("/web", 256.0), tgid, vec![victim]);
    script.exit_by(tgid, 9);
}

fn supervised() -> Script {
    let mut script = Script::new();
    script.process(900, "supervisord", "/web");
    script.size(900, 20.0);
    script.wait(1.0);
    script
}

#[test]
fn one_kill_is_none_and_the_second_is_told_of() {
    let mut script = supervised();
    grow_and_die(&mut script, 900, 10, "consumer");
    assert!(said(&script).is_empty());
    grow_and_die(&mut script, 900, 11, "consumer");
    let (finding, series) = last(&script);
    assert_eq!(
        finding.summary,
        "2 OOM kills in /web (limit 256 MiB) within 10 s: all hit consumer, which supervisord (pid \
         900) starts anew; all by consumer; raise the 256 MiB limit of /web, or stop consumer and \
         supervisord (pid 900), which starts it"
    );
    assert_eq!((finding.severity, finding.state), (Severity::Critical, FindingState::Raised));
    assert_eq!((series.number, series.since_s), (2, 10.0));
    assert_eq!(series.respawned_by.as_ref().map(|by| by.tgid), Some(900));
    let cause = series.cause.as_ref().unwrap();
    assert_eq!((cause.comm.as_deref(), &cause.pool, cause.kills), (Some("consumer"), &None, 2));
    assert_eq!(series.kills[0].before_s, 0.0);
    assert_eq!(series.kills[1].victims[0].tgid, 10);
    assert_eq!(series.kills[1].culprit.as_ref().map(|culprit| culprit.tgid), Some(10));
}

#[test]
fn it_is_raised_once_updated_by_each_kill_and_closed_when_quiet() {
    let mut script = supervised();
    for tgid in 10..15 {
        grow_and_die(&mut script, 900, tgid, "consumer");
    }
    let states: Vec<_> = said(&script).iter().map(|(_, finding, _)| finding.state).collect();
    use FindingState::{Closed, Raised, Updated};
    assert_eq!(states, [Raised, Updated, Updated, Updated]);
    quiet(&mut script, 60);
    assert_eq!(said(&script).len(), 4, "a minute is not enough");
    quiet(&mut script, 2);
    let (finding, _) = last(&script);
    assert_eq!((finding.state, &*finding.summary), (Closed, "no more OOM kill in /web for 60 s"));
    quiet(&mut script, 100);
    assert_eq!(said(&script).len(), 5);
}

#[test]
fn slow_kills_have_longer_to_be_quiet() {
    let mut script = supervised();
    for tgid in 10..13 {
        grow_and_die(&mut script, 900, tgid, "consumer");
        quiet(&mut script, 90);
    }
    // 100 s from kill to kill: 300 s without one.
    quiet(&mut script, 205);
    assert_eq!(last(&script).0.state, FindingState::Updated);
    quiet(&mut script, 10);
    assert_eq!(last(&script).0.state, FindingState::Closed);
    assert_eq!(said(&script).len(), 3);
}

#[test]
fn more_than_twenty_kills_show_twenty() {
    let mut script = supervised();
    for tgid in 10..40 {
        grow_and_die(&mut script, 900, tgid, "consumer");
    }
    let (finding, series) = last(&script);
    assert_eq!((series.number, series.kills.len()), (30, 20));
    assert!(finding.summary.starts_with("30 OOM kills in /web (limit 256 MiB) within 5 min: all"));
}

#[test]
fn the_same_request_is_the_cause() {
    let mut script = supervised();
    for tgid in [10, 11] {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 10.0);
        script.look(tgid, |look| look.activity = crate::event::look::Activity::Idle);
        for s in 1..=10 {
            script.wait(1.0).size(tgid, 10.0 + 20.0 * f64::from(s));
            script.look_in_request(tgid, &format!("/import/{tgid}"), f64::from(s), 7);
        }
        let victim = script.victim(tgid, "php-fpm8.2", "/web", 210.0);
        script.oom(memcg("/web", 256.0), tgid, vec![victim]);
        script.exit_by(tgid, 9);
    }
    let (finding, series) = last(&script);
    let cause = series.cause.as_ref().unwrap();
    assert_eq!(cause.request.as_deref(), Some("GET /import/{n}"));
    assert_eq!(cause.pool.as_deref(), Some("www"));
    assert!(
        finding.summary.ends_with(
            "; all by GET /import/{n} of pool www; the same request GET /import/{n} grows each \
             time: block it"
        ),
        "{}",
        finding.summary
    );
}

/// Ten workers of pool www, of which two are killed one after the other.
fn pool(memory_limit_bytes: Option<u64>) -> Script {
    let mut script = supervised();
    script.cgroup("/web", 30.0, 256.0, Some(0.0));
    for tgid in 10..20 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 1.0);
        script.look(tgid, |look| {
            look.memory = Some(Memory {
                used_bytes: 1,
                real_bytes: 2,
                real_peak_bytes: 2,
                limit_bytes: memory_limit_bytes,
            });
        });
    }
    for s in 1..=10 {
        script.wait(1.0);
        for tgid in 10..20 {
            script.size(tgid, 1.0 + 2.0 * f64::from(s));
        }
    }
    script.cgroup("/web", 231.0, 256.0, Some(0.0));
    for tgid in [18, 19] {
        let victim = script.victim(tgid, "php-fpm8.2", "/web", 21.0);
        script.wait(1.0).oom(memcg("/web", 256.0), tgid, vec![victim]);
        script.exit_by(tgid, 9);
    }
    script
}

#[test]
fn a_pool_that_may_hold_too_much_is_told_what_would_fit() {
    let script = pool(Some(128 << 20));
    let (finding, series) = last(&script);
    assert_eq!(series.cause.as_ref().unwrap().pool.as_deref(), Some("www"));
    // 231 MiB were charged, 189 of them the nine workers' that are left: 230 - 42 MiB are theirs.
    assert_eq!(
        series.advice,
        "pool www may hold 9 workers of 128 MiB: memory_limit below 20.9 MiB or pm.max_children 1 \
         would fit the 256 MiB limit"
    );
    assert!(finding.summary.contains("; all by pool www; pool www may"), "{}", finding.summary);
    assert_eq!(series.respawned_by, None, "nobody was seen to come back");
    let script = pool(None);
    assert!(last(&script).1.advice.contains("without memory_limit: one below 20.9 MiB"));
    // A limit that fits is not what lets it grow.
    let script = pool(Some(10 << 20));
    assert_eq!(
        last(&script).1.advice,
        "raise the 256 MiB limit of /web, or lower pm.max_children of pool www"
    );
}

#[test]
fn what_has_nothing_in_common_is_said_to_have_nothing() {
    let mut script = supervised();
    for (tgid, comm) in [(10, "a"), (11, "b"), (12, "c")] {
        script.state(tgid, comm, Some("/web"), ProcessCause::Found);
        let victim = script.victim(tgid, comm, "/web", 10.0);
        script.wait(1.0).oom(memcg("/web", 256.0), tgid, vec![victim]);
        script.exit_by(tgid, 9);
    }
    let (finding, series) = last(&script);
    assert_eq!(
        finding.summary,
        "3 OOM kills in /web (limit 256 MiB) within 2.0 s: of changing victims; they have no common \
         cause; raise the 256 MiB limit of /web, or run less in it"
    );
    assert_eq!((&series.cause, &series.respawned_by), (&None, &None));
}

#[test]
fn the_host_and_hostile_names() {
    let mut script = Script::new();
    let host = || OomScope { kind: crate::event::ScopeKind::Host, ..memcg("/", 1.0) };
    for tgid in [10, 11] {
        script.state(tgid, "\x1b[2J", Some("/web"), ProcessCause::Found);
        let mut victim = script.victim(tgid, "\x1b[2J", "/web", 10.0);
        victim.comm = Arc::from("\u{202e}x");
        script.wait(1.0).oom(host(), tgid, vec![victim]);
    }
    let (finding, _) = last(&script);
    assert!(finding.summary.starts_with("2 OOM kills on the host within 1.0 s"));
    assert!(!finding.summary.chars().any(|c| c.is_control() || c == '\u{202e}'));
    quiet(&mut script, 62);
    assert_eq!(last(&script).0.summary, "no more OOM kill on the host for 60 s");
}
