//! Who is looked into, and when.

use super::*;
use crate::event::look::Look;
use crate::event::{Exit, Php, ProcessCause, Tick};

const S: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;
const NOBODY: [u32; 0] = [];

fn at(t_ns: u64, event: Event) -> Stamped {
    Stamped { t_ns, wall_ns: 0, event }
}

fn process(tgid: u32, sapi: &str, pool: Option<&str>) -> Event {
    Event::Process(Process {
        tgid,
        start_ns: 1,
        ppid: 1,
        comm: "php-fpm8.2".into(),
        cmdline: None,
        exe: None,
        uid: 0,
        cgroup: None,
        php: Some(Php {
            sapi: sapi.into(),
            pool: pool.map(Into::into),
            master_tgid: None,
            version: None,
        }),
        cause: ProcessCause::Found,
    })
}

fn growth(tgid: u32, anon_bytes: u64) -> Event {
    Event::Growth(Growth { tgid, start_ns: 1, anon_bytes, ..Growth::default() })
}

/// Looks whose threads note who is asked for; each look is done as soon as it is asked for.
struct Bench {
    looks: Looks,
    asked: std::sync::mpsc::Receiver<u32>,
}

impl Bench {
    fn new() -> Self {
        let (note, asked) = std::sync::mpsc::channel();
        let read = move |ask: Ask| {
            let Ask::Look(key) = ask else { return None };
            note.send(key.tgid).unwrap();
            let look = Look::new(key.tgid, key.start_ns);
            Some(Told::Look(Box::new(look), Some(0x1000)))
        };
        Self { looks: Looks::with(Worker::start("test", [read]).unwrap()), asked }
    }

    /// Who is asked for by these events.
    fn asks(&mut self, events: &[Stamped]) -> Vec<u32> {
        let before: Vec<ProcessKey> = self.under_way();
        assert!(before.is_empty());
        self.looks.observe(events);
        let mut asked: Vec<u32> =
            self.under_way().iter().map(|_| self.asked.recv().unwrap()).collect();
        while !self.under_way().is_empty() {
            self.looks.try_next();
        }
        asked.sort_unstable();
        asked
    }

    fn under_way(&self) -> Vec<ProcessKey> {
        self.looks.subjects.iter().filter(|(_, s)| s.asked).map(|(key, _)| *key).collect()
    }
}

#[test]
fn workers_are_looked_into_when_they_appear_and_masters_are_not() {
    let mut bench = Bench::new();
    let events = [
        at(9 * S, process(1, "fpm", None)),
        at(9 * S, process(2, "fpm", Some("www"))),
        at(9 * S, process(3, "cli", None)),
    ];
    assert_eq!(bench.asks(&events), [2, 3]);
    assert_eq!(bench.asks(&events), NOBODY, "each once");
    let gone = at(9 * S, Event::Exit(Exit { tgid: 2, start_ns: 1, ..exit() }));
    assert_eq!(bench.asks(&[gone, at(20 * S, growth(2, 99 * MIB))]), NOBODY);
}

fn exit() -> Exit {
    Exit { tgid: 0, start_ns: 0, code: None, signal: None, peak_bytes: None }
}

#[test]
fn steps_call_for_a_look_and_little_movement_waits_for_the_tick() {
    let mut bench = Bench::new();
    assert_eq!(bench.asks(&[at(9 * S, process(2, "fpm", Some("www")))]), [2]);
    let ms = |ms: u64| 9 * S + ms * 1_000_000;
    assert_eq!(bench.asks(&[at(ms(10), growth(2, 5 * MIB))]), NOBODY, "too soon");
    assert_eq!(bench.asks(&[at(ms(60), growth(2, 5 * MIB))]), [2]);
    assert_eq!(bench.asks(&[at(ms(500), growth(2, 8 * MIB))]), NOBODY);
    assert_eq!(bench.asks(&[at(ms(800), Event::Tick(Tick {}))]), NOBODY);
    assert_eq!(bench.asks(&[at(ms(1000), Event::Tick(Tick {}))]), [2]);
    assert_eq!(bench.asks(&[at(ms(3000), Event::Tick(Tick {}))]), NOBODY, "it stood still");
}

#[test]
fn suspects_are_looked_into_again_and_again_until_they_stand_still() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _time = runtime.enter();
    let mut bench = Bench::new();
    assert_eq!(bench.asks(&[at(9 * S, process(2, "fpm", Some("www")))]), [2]);
    bench.asks(&[at(9 * S, growth(2, 5 * MIB)), at(9 * S, growth(2, 16 * MIB))]);
    assert!(bench.looks.suspects_at.is_none(), "11 MiB are warm-up");
    bench.asks(&[at(10 * S, growth(2, 18 * MIB))]);
    assert!(bench.looks.suspects_at.is_some());
    for ms in [100, 200, 300] {
        bench.looks.look_into_suspects(10 * S + ms * 1_000_000);
        assert_eq!(bench.asked.recv().unwrap(), 2);
        while !bench.under_way().is_empty() {
            bench.looks.try_next();
        }
    }
    bench.looks.look_into_suspects(13 * S);
    assert!(bench.looks.suspects_at.is_none() && bench.under_way().is_empty());
}

#[test]
fn the_budget_bounds_the_looks_and_nobody_is_forgotten() {
    let mut bench = Bench::new();
    let all: Vec<Stamped> = (1..=100).map(|tgid| at(9 * S, process(tgid, "cli", None))).collect();
    let mut seen = bench.asks(&all);
    assert_eq!(seen.len() as u64, LOOKS_PER_S);
    for second in 10..13 {
        seen.extend(bench.asks(&[at(second * S, Event::Tick(Tick {}))]));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_look_under_way_is_not_asked_for_again_and_one_of_the_gone_is_dropped() {
    let mut bench = Bench::new();
    bench.looks.observe(&[at(9 * S, process(2, "fpm", Some("www")))]);
    bench.looks.observe(&[at(10 * S, growth(2, 50 * MIB))]);
    assert_eq!(bench.asked.recv().unwrap(), 2);
    let next = std::iter::repeat_with(|| bench.looks.try_next()).flatten().next().unwrap();
    let Event::Php(look) = next.1 else { panic!("{next:?}") };
    assert_eq!(look.pool.as_deref(), Some("www"));
    assert!(bench.asked.try_recv().is_err());
}
