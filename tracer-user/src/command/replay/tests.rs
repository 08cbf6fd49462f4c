//! A scripted trace, explained.

use std::sync::Arc;

use super::explain::{Explain, Survey};
use crate::event::{
    Cgroup, Event, Growth, Header, Oom, OomScope, Party, Process, ProcessCause, ScopeKind, Stamped,
    Tick, Victim,
};
use crate::pipeline::Pipeline;

const S: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

/// A process that grows 8 MiB/s below a limit of 256 MiB, beside one that sleeps, and its kill.
fn trace() -> Vec<Stamped> {
    let mut events = Vec::new();
    let mut feed = |t_ns: u64, event: Event| events.push(Stamped { t_ns, wall_ns: 0, event });
    let header = Header { source: "live".to_owned(), ..Header::default() };
    feed(1000 * S, Event::Header(Box::new(header)));
    for (tgid, comm) in [(7, "import\x1b[2J"), (8, "idle")] {
        feed(
            1000 * S,
            Event::Process(Process {
                tgid,
                start_ns: 10_000_000,
                ppid: 1,
                comm: Arc::from(comm),
                cmdline: None,
                exe: None,
                uid: 0,
                cgroup: Some(Arc::from("/web")),
                php: None,
                cause: ProcessCause::Found,
            }),
        );
    }
    for s in 0..36 {
        let mib = if s < 12 { 20 } else { 20 + 8 * (s - 11) };
        let t_ns = (1000 + s) * S;
        for (tgid, mib) in [(7, mib), (8, 30)] {
            feed(
                t_ns,
                Event::Growth(Growth {
                    tgid,
                    start_ns: 10_000_000,
                    anon_bytes: mib * MIB,
                    ..Growth::default()
                }),
            );
        }
        let cgroup = Cgroup {
            path: Arc::from("/web"),
            usage_bytes: (mib + 30) * MIB,
            max_bytes: Some(256 * MIB),
            reclaimable_bytes: Some(0),
            ..Cgroup::default()
        };
        feed(t_ns, Event::Cgroup(Box::new(cgroup)));
        feed(t_ns, Event::Tick(Tick {}));
    }
    let path: Arc<str> = Arc::from("/web");
    let comm: Arc<str> = Arc::from("idle");
    let victim = Victim {
        tgid: 8,
        start_ns: 10_000_000,
        comm: Arc::clone(&comm),
        cgroup: Some(Arc::clone(&path)),
        anon_bytes: 30 * MIB,
        file_bytes: 0,
        shmem_bytes: 0,
        swap_bytes: 0,
        oom_score_adj: 0,
    };
    let scope = OomScope {
        kind: ScopeKind::Memcg,
        cgroup: Some(Arc::clone(&path)),
        limit_bytes: Some(256 * MIB),
    };
    let trigger = Party { tgid: 8, start_ns: 10_000_000, comm, cgroup: Some(path) };
    feed(1036 * S, Event::Oom(Box::new(Oom { scope, trigger, victims: vec![victim] })));
    events
}

fn explained(events: &[Stamped], id: Option<u64>, json: bool) -> (String, (u64, u64)) {
    let mut survey = Survey::new(id);
    feed(&mut Pipeline::new(vec![&mut survey]), events);
    let mut out = Vec::new();
    let mut explain = Explain::new(survey, &mut out, json);
    feed(&mut Pipeline::new(vec![&mut explain]), events);
    let told = explain.told();
    (String::from_utf8(out).unwrap(), told)
}

fn feed(pipeline: &mut Pipeline<'_>, events: &[Stamped]) {
    for at in events {
        pipeline.feed(at).unwrap();
    }
}

#[test]
fn a_finding_is_explained_by_the_rules_that_made_it() {
    let (text, told) = explained(&trace(), None, false);
    assert_eq!(text, include_str!("golden.txt"), "{text}");
    assert_eq!(told, (3, 0));
}

#[test]
fn one_finding_may_be_asked_for() {
    let (text, told) = explained(&trace(), Some(2), false);
    assert!(
        text.starts_with("finding 2 (critical), raised at 00:00:00Z, 1036.000 s after boot\n"),
        "{text}"
    );
    assert_eq!(told.0, 1);
    assert_eq!(explained(&trace(), Some(9), false), (String::new(), (0, 0)));
}

#[test]
fn every_line_is_json_with_the_rules_of_its_finding() {
    let (text, _) = explained(&trace(), None, true);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let rules = lines[0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 6 && rules.iter().all(|rule| rule["holds"] == true), "{rules:?}");
    let points = lines[0]["points"].as_array().unwrap();
    assert!((6..=13).contains(&points.len()), "{points:?}");
    assert_eq!(points.last().unwrap()["t"], lines[0]["t"]);
}

#[test]
fn two_traces_in_one_file_are_two() {
    let twice: Vec<Stamped> = [trace(), trace()].concat();
    let (once, _) = explained(&trace(), None, false);
    assert_eq!(explained(&twice, None, false).0, once.repeat(2));
}
