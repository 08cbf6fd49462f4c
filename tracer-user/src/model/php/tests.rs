//! What follows from looks.

use crate::event::look::{Activity, Memory};
use crate::event::{Event, RequestEdge, RequestPhase};
use crate::model::script::{MIB, Script, bytes, key};
use crate::model::{Insight, RequestGrowth};

fn insight(script: &Script, tgid: u32) -> &Insight {
    script.model.process(&key(tgid)).unwrap().insight.as_ref().unwrap()
}

fn growth(script: &Script, template: &str) -> RequestGrowth {
    let found = script.model.requests().find(|(kind, _)| &*kind.template == template);
    found.map(|(_, growth)| growth.clone()).unwrap_or_default()
}

fn worker() -> Script {
    let mut script = Script::new();
    script.worker(4, "www", "/web");
    script.size(4, 10.0);
    script.look(4, |look| look.activity = Activity::Idle);
    script
}

#[test]
fn growth_belongs_to_the_request_and_the_line_that_were_seen() {
    let mut script = worker();
    for step in 1..=10 {
        let (size, line) = (10.0 + f64::from(step) * 10.0, if step % 5 == 0 { 9 } else { 7 });
        script.wait(0.1).size(4, size);
        script.look_in_request(4, "/orders/17/export", f64::from(step) * 0.1, line);
        script.sample(4, size, line);
    }
    let insight = insight(&script, 4);
    assert_eq!(insight.grown_in_request_bytes(), 100 * MIB);
    let spots = insight.spots();
    assert_eq!(spots.len(), 1);
    assert_eq!(spots[0].function.as_deref(), Some("App\\Import::load"));
    assert_eq!((spots[0].line, spots[0].share, spots[0].samples), (Some(7), 1.0, 9));
    let growth = growth(&script, "/orders/{n}/export");
    assert_eq!((growth.requests, growth.grown_bytes), (1, 100 * MIB));
    assert_eq!(growth.largest, Some(key(4)));
    assert_eq!(script.model.unattributed_bytes(), 0);
}

#[test]
fn another_request_of_the_same_kind_counts_anew() {
    let mut script = worker();
    for request in 0..3 {
        script.wait(1.0).size(4, 40.0);
        script.look_in_request(4, &format!("/a/{request}"), 0.5, 7);
        script.wait(1.0).size(4, 10.0);
        script.look(4, |look| look.activity = Activity::Idle);
    }
    let growth = growth(&script, "/a/{n}");
    assert_eq!((growth.requests, growth.grown_bytes), (3, 90 * MIB));
    assert_eq!(growth.largest_bytes, 30 * MIB);
    assert!(insight(&script, 4).request().is_none());
}

#[test]
fn what_no_look_saw_is_given_to_nobody() {
    let mut script = worker();
    script.wait(1.0).size(4, 40.0);
    script.look_in_request(4, "/a", 0.5, 7);
    // Between two looks /a ended, and another one began.
    script.wait(5.0).size(4, 90.0);
    script.look_in_request(4, "/b", 1.0, 7);
    assert_eq!(growth(&script, "/b").grown_bytes, 0);
    assert_eq!(script.model.unattributed_bytes(), 50 * MIB);
    // A look that could read nothing.
    script.wait(0.1).size(4, 95.0);
    script.look(4, |_| {});
    assert_eq!(script.model.unattributed_bytes(), 55 * MIB);
}

#[test]
fn the_end_of_a_request_and_of_a_process_count_towards_it() {
    let mut script = worker();
    script.wait(1.0).size(4, 40.0);
    script.look_in_request(4, "/a", 0.5, 7);
    script.wait(0.5).size(4, 60.0);
    script.look(4, |look| look.activity = Activity::Idle);
    assert_eq!(growth(&script, "/a").grown_bytes, 50 * MIB);
    script.wait(0.5).size(4, 70.0);
    script.look_in_request(4, "/b", 0.2, 7);
    script.wait(0.5).size(4, 200.0);
    script.exit(4);
    assert_eq!(growth(&script, "/b").grown_bytes, 140 * MIB);
}

#[test]
fn the_memory_limit_is_carried_on_by_growth() {
    let mut script = worker();
    let limit = |script: &Script| script.model.process(&key(4)).unwrap().memory_limit();
    assert_eq!(limit(&script), None);
    let memory = |limit_bytes| Memory {
        used_bytes: bytes(30.0),
        real_bytes: bytes(32.0),
        real_peak_bytes: bytes(32.0),
        limit_bytes,
    };
    script.look(4, |look| look.memory = Some(memory(Some(bytes(128.0)))));
    script.wait(0.5).size(4, 40.0);
    let left = limit(&script).unwrap();
    assert_eq!((left.limit_bytes, left.headroom_bytes), (128 * MIB, 66 * MIB));
    script.look(4, |look| look.memory = Some(memory(None)));
    assert_eq!(limit(&script), None);
}

#[test]
fn a_new_program_is_not_what_was_looked_into() {
    use crate::event::ProcessCause;
    let mut script = worker();
    script.state(4, "sh", Some("/web"), ProcessCause::Exec);
    assert!(script.model.process(&key(4)).unwrap().insight.is_none());
    assert_eq!(script.model.pools().count(), 0);
}

#[test]
fn samples_tell_who_grew_and_not_who_took_the_time() {
    let mut script = worker();
    script.size(4, 20.0);
    script.look_in_request(4, "/a", 0.1, 7);
    script.sample(4, 20.0, 7);
    // Every look meets line 7, which waits; line 9 grows.
    for step in 1..=20 {
        let size = 20.0 + f64::from(step);
        script.wait(0.1).size(4, size);
        script.look_in_request(4, "/a", 0.1 + f64::from(step) * 0.1, 7);
        script.sample(4, size, 9);
    }
    let spots = insight(&script, 4).spots();
    assert_eq!((spots[0].line, spots[0].share, spots[0].grown_bytes), (Some(9), 1.0, 20 * MIB));
}

#[test]
fn edges_of_requests_are_exact() {
    let edge = |script: &mut Script, phase, mib| {
        script.feed(Event::Request(RequestEdge {
            tgid: 4,
            start_ns: key(4).start_ns,
            phase,
            anon_bytes: bytes(mib),
            file_bytes: 0,
            shmem_bytes: 0,
            swap_bytes: 0,
        }));
    };
    let mut script = worker();
    for number in 0..3 {
        edge(&mut script, RequestPhase::Begin, 10.0);
        script.wait(0.2).size(4, 30.0);
        script.look_in_request(4, &format!("/a/{number}"), 0.2, 7);
        script.wait(0.2);
        edge(&mut script, RequestPhase::End, 40.0);
    }
    let growth = growth(&script, "/a/{n}");
    assert_eq!((growth.requests, growth.grown_bytes), (3, 90 * MIB));
    assert_eq!(script.model.unattributed_bytes(), 0);
}
