//! A small recording made by hand: a PHP worker leaks in a cgroup of 256 MiB until the OOM killer
//! takes a bystander.

use std::path::Path;

use rampage::cli::Speed;
use rampage::event::*;
use rampage::model::Model;
use rampage::run::block_on;
use rampage::sink::Sink;
use rampage::sink::trace_file::{Rotation, TraceFile};
use rampage::source::replay::{Damage, ReplaySource};
use rampage::source::{Flow, Source};

const MIB: u64 = 1 << 20;
const START_NS: u64 = 10_000_000;
const LEAKER: u32 = 4242;
const BYSTANDER: u32 = 17;
const CGROUP: &str = "/php";
const SECONDS: u64 = 9;

/// 2026-01-31T12:00:00Z, and boot 1000 s before.
pub fn at(t_ns: u64, event: Event) -> Stamped {
    let wall_ns = 1_769_860_800_000_000_000 + i64::try_from(t_ns).unwrap();
    Stamped { t_ns: 1_000_000_000_000 + t_ns, wall_ns, event }
}

pub fn header() -> Event {
    Event::Header(Box::new(Header {
        schema: SCHEMA.to_owned(),
        version: "0.1.0".to_owned(),
        page_bytes: 4096,
        cpus: 2,
        mem_total_bytes: 8192 * MIB,
        source: "live".to_owned(),
        ..Header::default()
    }))
}

pub fn process(tgid: u32, comm: &str) -> Event {
    Event::Process(Process {
        tgid,
        start_ns: START_NS,
        ppid: 1,
        comm: comm.into(),
        cmdline: Some("php-fpm: pool www".into()),
        exe: None,
        uid: 33,
        cgroup: Some(CGROUP.into()),
        php: None,
        cause: ProcessCause::Found,
    })
}

fn growth(tgid: u32, anon_bytes: u64) -> Event {
    Event::Growth(Growth { tgid, start_ns: START_NS, anon_bytes, ..Growth::default() })
}

fn cgroup(usage_bytes: u64) -> Event {
    Event::Cgroup(Box::new(Cgroup {
        id: 7,
        path: CGROUP.into(),
        usage_bytes,
        max_bytes: Some(256 * MIB),
        reclaimable_bytes: Some(0),
        ..Cgroup::default()
    }))
}

fn oom() -> Event {
    Event::Oom(Box::new(Oom {
        scope: OomScope {
            kind: ScopeKind::Memcg,
            cgroup: Some(CGROUP.into()),
            limit_bytes: Some(256 * MIB),
        },
        trigger: Party {
            tgid: LEAKER,
            start_ns: START_NS,
            comm: "php-fpm8.2".into(),
            cgroup: Some(CGROUP.into()),
        },
        victims: vec![Victim {
            tgid: BYSTANDER,
            start_ns: START_NS,
            comm: "mysqld".into(),
            cgroup: Some(CGROUP.into()),
            anon_bytes: 60 * MIB,
            file_bytes: 0,
            shmem_bytes: 0,
            swap_bytes: 0,
            oom_score_adj: 500,
        }],
    }))
}

/// The whole recording, from `header` to `end`.
pub fn recording() -> Vec<Stamped> {
    let mut events = vec![
        at(0, header()),
        at(0, process(LEAKER, "php-fpm8.2")),
        at(0, process(BYSTANDER, "mysqld")),
        at(0, growth(BYSTANDER, 60 * MIB)),
    ];
    for half in 0..2 * SECONDS {
        let t_ns = half * 500_000_000 + 1;
        let leaked = half * 10 * MIB;
        events.push(at(t_ns, growth(LEAKER, leaked)));
        events.push(at(t_ns, cgroup(60 * MIB + leaked)));
        if half % 2 == 1 {
            events.push(at(t_ns + 1, Event::Tick(Tick {})));
        }
    }
    let t_ns = SECONDS * 1_000_000_000;
    let exit =
        Exit { tgid: BYSTANDER, start_ns: START_NS, code: None, signal: Some(9), peak_bytes: None };
    events.push(at(t_ns, oom()));
    events.push(at(t_ns + 1, Event::Exit(exit)));
    for second in 1..4 {
        events.push(at(t_ns + second * 1_000_000_000, Event::Tick(Tick {})));
    }
    let end = End { reason: "signal".to_owned(), events: events.len() as u64, lost: 0 };
    events.push(at(t_ns + 3_000_000_001, Event::End(end)));
    events
}

/// Writes events as a trace file.
pub fn write(path: &Path, events: &[Stamped]) {
    let model = Model::new(&Config::default());
    let mut file = TraceFile::create(path, Rotation::default()).unwrap();
    events.iter().for_each(|at| file.event(&model, at).unwrap());
    file.finish().unwrap();
}

/// Reads what can be read of a trace file.
pub fn read(path: &Path) -> (Vec<Stamped>, Option<Damage>) {
    let mut source = ReplaySource::open(path, Speed::Max).unwrap();
    let mut events = Vec::new();
    block_on(async {
        while source.next(&mut events).await? == Flow::More {}
        Ok(())
    })
    .unwrap();
    (events, source.damage())
}
