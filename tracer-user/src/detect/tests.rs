//! Settings: rules for pools, and what a change while running means.

use crate::event::{
    Config, Event, Filters, Finding, FindingKind, FindingState, PoolConfig, StallKind, Stamped,
};
use crate::model::Model;
use crate::model::script::{Script, memcg};
use crate::pipeline::Pipeline;
use crate::sink::{Sink, SinkError};
use crate::trace::lines;

const SIGKILL: u32 = 9;

fn rule(name: &str, horizon_s: Option<f64>, ignore: &[FindingKind]) -> Config {
    let rule = PoolConfig { name: name.to_owned(), horizon_s, ignore: ignore.to_vec() };
    Config { pools: vec![rule], ..Config::default() }
}

fn configure(script: &mut Script, config: Config) {
    script.feed(Event::Config(Box::new(config)));
}

/// A pool `www` of three workers (4 to 6), a database (7), 256 MiB for all.
fn scene(config: Config) -> Script {
    let mut script = Script::with(config);
    script.host(8192.0, 6000.0, 0.0);
    for tgid in 4..=6 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 10.0);
    }
    script.process(7, "mysqld", "/web");
    script.size(7, 40.0);
    for _ in 0..10 {
        script.cgroup("/web", 70.0, 256.0, Some(0.0));
        script.wait(1.0).tick();
    }
    script
}

/// Worker 4 grows 5 MiB/s, the database 1 MiB/s, from second `from` of that growth to `to`.
fn grow(script: &mut Script, from: u32, to: u32) {
    for s in from..to {
        let s = f64::from(s);
        script.wait(1.0).size(4, 10.0 + 5.0 * s);
        script.size(7, 40.0 + s);
        script.cgroup("/web", 70.0 + 6.0 * s, 256.0, Some(0.0));
        script.tick();
    }
}

fn states(script: &Script, kind: FindingKind) -> Vec<FindingState> {
    script.news_of(kind).into_iter().map(|(_, finding)| finding.state).collect()
}

fn subjects(script: &Script, kind: FindingKind) -> Vec<u32> {
    let raised = script.of_kind(kind).into_iter();
    raised.filter_map(|(_, finding)| finding.subject.as_ref()).map(|one| one.tgid).collect()
}

#[test]
fn an_ignored_runaway_is_not_told_and_nobody_else_is_blamed() {
    let mut told = scene(Config::default());
    grow(&mut told, 0, 30);
    assert_eq!(subjects(&told, FindingKind::Runaway), [4]);
    for name in ["www", "w*", "*"] {
        let mut script = scene(rule(name, None, &[FindingKind::Runaway]));
        grow(&mut script, 0, 30);
        assert!(script.of_kind(FindingKind::Runaway).is_empty(), "{name}");
        let victim = script.victim(7, "mysqld", "/web", 70.0);
        let verdict = script.oom(memcg("/web", 256.0), 7, vec![victim]);
        assert_eq!(verdict.subject.map(|subject| subject.tgid), Some(4), "{name}");
    }
    let mut other = scene(rule("batch*", None, &[FindingKind::Runaway]));
    grow(&mut other, 0, 30);
    assert_eq!(subjects(&other, FindingKind::Runaway), [4]);
}

#[test]
fn each_pool_has_its_horizon() {
    let first_s = |config: Config| {
        let mut script = scene(config);
        grow(&mut script, 0, 31);
        script.of_kind(FindingKind::Runaway).first().map(|(t, _)| *t)
    };
    let usual = first_s(Config::default()).unwrap();
    let near = first_s(rule("www", Some(8.0), &[])).unwrap();
    assert!(near > usual + 5.0, "{usual} {near}");
    assert_eq!(first_s(rule("api", Some(8.0), &[])), Some(usual));
    let far = Config { horizon_s: 8.0, ..rule("www", Some(600.0), &[]) };
    assert_eq!(first_s(far), Some(usual));
}

#[test]
fn a_verdict_is_not_told_of_a_pool_that_wants_none_and_the_kill_counts_all_the_same() {
    let config = rule("www", None, &[FindingKind::OomVerdict, FindingKind::Runaway]);
    let mut script = scene(config);
    grow(&mut script, 0, 30);
    for _ in 0..2 {
        let victim = script.victim(5, "php-fpm8.2", "/web", 10.0);
        let trigger = crate::event::Party {
            tgid: 4,
            start_ns: 10_000_000,
            comm: "php-fpm8.2".into(),
            cgroup: Some("/web".into()),
        };
        let scope = memcg("/web", 256.0);
        let oom = crate::event::Oom { scope, trigger, victims: vec![victim] };
        script.wait(1.0).feed(Event::Oom(Box::new(oom)));
    }
    assert!(script.of_kind(FindingKind::OomVerdict).is_empty());
    assert_eq!(script.of_kind(FindingKind::Cascade).len(), 1);
}

#[test]
fn ends_of_an_ignored_pools_workers_are_not_told() {
    let ended = |config: Config| {
        let mut script = scene(config);
        script.process(9, "earlyoom", "/system");
        for tgid in [4, 7] {
            script.size(tgid, 100.0);
            script.signal(9, tgid, SIGKILL);
            script.wait(0.1).exit_by(tgid, SIGKILL);
        }
        script.wait(5.0).tick();
        subjects(&script, FindingKind::Killed)
    };
    assert_eq!(ended(Config::default()), [4, 7]);
    assert_eq!(ended(rule("www", None, &[FindingKind::Killed])), [7]);
}

/// 20 workers, too many for their limit.
fn crowd(config: Config) -> Script {
    let mut script = Script::with(config);
    script.host(65_536.0, 60_000.0, 0.0);
    for tgid in 1..=20 {
        script.worker(tgid, "www", "/web");
        script.size(tgid, 200.0);
    }
    script
}

fn crowded(script: &mut Script) {
    for _ in 0..5 {
        script.cgroup("/web", 4010.0, 4096.0, Some(0.0));
        script.wait(1.0).tick();
    }
}

#[test]
fn a_pool_is_ignored_by_the_kind_of_finding() {
    let raised = |config: Config| {
        let mut script = crowd(config);
        crowded(&mut script);
        script.of_kind(FindingKind::PoolTooLarge).len()
    };
    assert_eq!(raised(Config::default()), 1);
    assert_eq!(raised(rule("www", None, &[FindingKind::Pool, FindingKind::Leak])), 1);
    assert_eq!(raised(rule("www", None, &[FindingKind::PoolTooLarge])), 0);
}

#[test]
fn a_pool_goes_by_changed_rules_and_what_was_said_of_it_stays() {
    let mut script = crowd(rule("www", None, &[FindingKind::PoolTooLarge]));
    crowded(&mut script);
    assert!(script.of_kind(FindingKind::PoolTooLarge).is_empty());
    configure(&mut script, Config::default());
    crowded(&mut script);
    configure(&mut script, rule("www", None, &[FindingKind::PoolTooLarge]));
    crowded(&mut script);
    assert_eq!(states(&script, FindingKind::PoolTooLarge), [FindingState::Raised]);
    for tgid in 5..=20 {
        script.exit(tgid);
    }
    for _ in 0..70 {
        script.cgroup("/web", 900.0, 4096.0, Some(0.0));
        script.wait(1.0).tick();
    }
    let expected = [FindingState::Raised, FindingState::Closed];
    assert_eq!(states(&script, FindingKind::PoolTooLarge), expected);
}

#[test]
fn a_change_holds_from_then_on_and_open_findings_stay_open() {
    let mut script = scene(rule("www", None, &[FindingKind::Runaway]));
    grow(&mut script, 0, 12);
    assert!(script.of_kind(FindingKind::Runaway).is_empty());
    configure(&mut script, Config::default());
    // What was known before the change counts: it is told with the next growth.
    let changed = script.now();
    grow(&mut script, 12, 16);
    let raised = script.of_kind(FindingKind::Runaway);
    assert_eq!(raised.len(), 1);
    assert!(raised[0].0 - changed < 1.5, "{}", raised[0].0 - changed);
    let nothing = Filters { comm: Some("nothing".to_owned()), ..Filters::default() };
    let hidden = Config { filters: nothing, ..rule("www", None, &[FindingKind::Runaway]) };
    configure(&mut script, hidden);
    grow(&mut script, 16, 31);
    assert!(!states(&script, FindingKind::Runaway).contains(&FindingState::Closed));
    assert_eq!(script.of_kind(FindingKind::Runaway).len(), 1);
    script.exit(4);
    assert_eq!(states(&script, FindingKind::Runaway).last(), Some(&FindingState::Closed));
}

#[test]
fn a_changed_filter_holds_for_every_detector() {
    let only = |cgroup: &str| {
        let filters = Filters { cgroup: Some(cgroup.to_owned()), ..Filters::default() };
        Config { filters, ..Config::default() }
    };
    // A runaway below /web that is also stalled there.
    let strain = |script: &mut Script, from: u32, to: u32| {
        for s in from..to {
            let used = 2000.0 + 5.0 * f64::from(s);
            script.wait(1.0).size(7, used - 70.0);
            script.cgroup("/web", used, 2200.0, Some(0.0));
            script.stall(7, StallKind::Memcg, 0.5);
            script.tick();
        }
    };
    let kinds = [FindingKind::Runaway, FindingKind::Pressure];
    let mut script = scene(only("/elsewhere"));
    strain(&mut script, 0, 15);
    assert!(script.of_kinds(&kinds).is_empty(), "{:?}", script.of_kinds(&kinds));
    configure(&mut script, only("/web"));
    strain(&mut script, 15, 30);
    assert_eq!(script.of_kind(FindingKind::Runaway).len(), 1);
    assert_eq!(script.of_kind(FindingKind::Pressure).len(), 1);
    configure(&mut script, only("/elsewhere"));
    for _ in 0..30 {
        script.cgroup("/web", 500.0, 2200.0, Some(0.0));
        script.wait(1.0).tick();
    }
    assert_eq!(states(&script, FindingKind::Pressure).last(), Some(&FindingState::Closed));
    script.process(9, "earlyoom", "/system");
    script.signal(9, 7, SIGKILL);
    script.wait(0.1).exit_by(7, SIGKILL);
    script.wait(5.0).tick();
    assert!(script.of_kind(FindingKind::Killed).is_empty());
}

#[derive(Default)]
struct Told {
    trace: Vec<u8>,
    findings: Vec<Finding>,
}

impl Sink for Told {
    fn event(&mut self, _: &Model, at: &Stamped) -> Result<(), SinkError> {
        lines::encode(at, &mut self.trace).unwrap();
        if let Event::Finding(finding) = &at.event {
            self.findings.push((**finding).clone());
        }
        Ok(())
    }
}

fn run(events: impl IntoIterator<Item = Stamped>) -> Told {
    let mut told = Told::default();
    let mut pipeline = Pipeline::new(vec![&mut told]);
    for at in events {
        pipeline.feed(&at).unwrap();
    }
    pipeline.finish("signal").unwrap();
    told
}

#[test]
fn a_replay_follows_the_same_change() {
    let mut script = scene(rule("www", None, &[FindingKind::Runaway]));
    grow(&mut script, 0, 12);
    configure(&mut script, rule("w*", Some(3600.0), &[FindingKind::OomVerdict]));
    grow(&mut script, 12, 31);
    let live = run(script.log.clone());
    assert_eq!(live.findings.len(), script.findings.len());
    assert!(live.findings.iter().any(|finding| finding.kind == FindingKind::Runaway));
    let recorded = live.trace.split_inclusive(|byte| *byte == b'\n');
    let replayed = run(recorded.map(|line| lines::decode(line).unwrap()));
    assert_eq!(replayed.findings, live.findings);
    assert_eq!(replayed.trace, live.trace);
    let without = script.log.iter().filter(|at| !matches!(at.event, Event::Config(_)));
    assert_ne!(run(without.cloned()).findings, live.findings);
}
