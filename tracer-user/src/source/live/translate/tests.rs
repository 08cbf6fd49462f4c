//! The order of what is told of a process.

use super::*;
use tracer_ebpf::{OomLevel, OomRecord, Task};

fn record(kind: u32, t_ns: u64) -> Record {
    let mut record = ProcessRecord {
        task: Task { tgid: 7, tid: 7, start_ns: 5, ..Task::default() },
        ..ProcessRecord::default()
    };
    record.head.kind = kind;
    record.head.t_ns = t_ns;
    Record::Process(record)
}

fn told(records: &[Record]) -> Vec<(u64, &'static str)> {
    let mut translator = Translator::default();
    let (mut cgroups, mut out) = (Cgroups::detect(), Vec::new());
    for record in records {
        translator.take(record, &mut cgroups, &mut out);
    }
    out.sort_by_key(|at| at.t_ns);
    let name = |event: &Event| match event {
        Event::Process(_) => "process",
        Event::Growth(_) => "growth",
        Event::Exit(_) => "exit",
        Event::Request(edge) if edge.phase == RequestPhase::Begin => "begin",
        Event::Request(_) => "end",
        _ => "other",
    };
    out.iter().map(|at| (at.t_ns, name(&at.event))).collect()
}

#[test]
fn an_exit_comes_last_though_a_sweep_took_longer() {
    let found_late = [record(kind::SWEEP, 20), record(kind::EXIT, 10)];
    assert_eq!(told(&found_late), [(20, "process"), (20, "growth"), (20, "exit")]);
}

#[test]
fn nothing_that_comes_late_brings_back_the_dead() {
    for late in [kind::GROWTH, kind::SWEEP, kind::EXIT] {
        let records = [record(kind::FORK, 10), record(kind::EXIT, 20), record(late, 21)];
        let told = told(&records);
        assert_eq!(told.last(), Some(&(20, "exit")), "{late}: {told:?}");
    }
}

#[test]
fn edges_of_requests_stand_for_growth_and_introduce_their_process() {
    let records = [
        record(kind::REQUEST_BEGIN, 10),
        record(kind::REQUEST_END, 11),
        record(kind::EXIT, 12),
        record(kind::REQUEST_END, 13),
    ];
    let expected = [(10, "process"), (10, "begin"), (11, "end"), (12, "exit")];
    assert_eq!(told(&records), expected);
}

#[test]
fn a_group_kill_is_told_though_nothing_follows() {
    let mut mark =
        OomRecord { victim: Task { tgid: 7, tid: 7, ..Task::default() }, ..OomRecord::default() };
    mark.head.t_ns = 1_000;
    mark.levels[0] = OomLevel { cgroup_id: 1, oom_group: 1, ..OomLevel::default() };
    let mut translator = Translator::default();
    let (mut cgroups, mut out) = (Cgroups::detect(), Vec::new());
    translator.take(&Record::Oom(mark), &mut cgroups, &mut out);
    assert!(out.is_empty(), "more marks may follow");
    translator.settle_kills(u64::MAX, &mut out);
    assert_eq!(out.len(), 1);
    assert!(matches!(&out[0].event, Event::Oom(oom) if oom.victims[0].tgid == 7));
    assert_eq!(out[0].t_ns, 1_000);
}
