//! What growth by request and the pools look like, against golden files.

use super::golden::{Shot, assert_golden, text};
use super::pages::Pages;
use super::state::{State, Subject};
use super::view::{Page, View};
use crate::event::look::{Activity, Look, Memory, Part, Reason, Request};
use crate::model::script::{Script, bytes, in_request};

fn memory(look: &mut Look, used: f64, limit: f64) {
    look.memory = Some(Memory {
        used_bytes: bytes(used),
        real_bytes: bytes(used),
        real_peak_bytes: bytes(used),
        limit_bytes: Some(bytes(limit)),
    });
}

fn idle(script: &mut Script, tgid: u32, pool: &str) {
    script.worker(tgid, pool, "/system.slice/php8.2-fpm.service");
    script.size(tgid, 12.0);
    script.look(tgid, |look| look.activity = Activity::Idle);
}

/// Two pools, and a command: some growth, some of it hostile, some that belongs to no request.
fn script() -> Script {
    let mut script = Script::new();
    script.host(24_000.0, 12_000.0, 0.0);
    script.cgroup("/system.slice/php8.2-fpm.service", 1000.0, 4096.0, None);
    for tgid in 800..820 {
        idle(&mut script, tgid, "www");
    }
    for tgid in [4_194_303, 840] {
        idle(&mut script, tgid, "a-pool-with-a-long-name");
    }
    for step in 1..=6 {
        script.wait(1.0);
        for (tgid, mib) in [(801, 50.0), (802, 10.0), (4_194_303, 80.0)] {
            let size = 12.0 + mib * f64::from(step);
            script.size(tgid, size);
            script.look(tgid, |look| {
                let uri = match tgid {
                    801 => "/orders/17/export?format=…&columns=…",
                    802 => "/evil\x1b[2J\u{202e}/search",
                    _ => "/a/very/long/path/of/a/controller/that/nobody/can/remember/or/type",
                };
                in_request(look, uri, f64::from(step), 40 + tgid % 10);
                if tgid == 4_194_303 {
                    look.pool = Some("a-pool-with-a-long-name".into());
                }
                memory(look, size, 512.0);
            });
        }
    }
    script.look(803, |look| look.miss(Part::All, Reason::SwappedOut));
    script.process(900_000, "php", "/cron");
    script.size(900_000, 5.0);
    script.look(900_000, |look| look.activity = Activity::Idle);
    script.size(900_000, 25.0);
    script.look(900_000, |look| {
        look.activity = Activity::Request;
        look.pool = None;
        look.request = Some(Request {
            script: Some("/srv/app/current/bin/console".into()),
            elapsed_ns: Some(0),
            ..Request::default()
        });
    });
    script.size(804, 64.0);
    script.look(804, |look| look.miss(Part::All, Reason::Torn));
    script.tick();
    script
}

pub(super) fn page(state: &State) -> Page {
    let mut view = View::default();
    Pages::default().turn(&script().model, state, &mut view);
    view.page
}

fn shot(width: u16, height: u16, subject: Subject) -> Shot {
    Shot { state: State { subject, ..State::default() }, ..Shot::of(width, height) }
}

#[test]
fn growth_by_request() {
    assert_golden("requests-120x40.txt", shot(120, 40, Subject::Requests));
    assert_golden("requests-80x24.txt", shot(80, 24, Subject::Requests));
    assert_golden("requests-40x10.txt", shot(40, 10, Subject::Requests));
}

#[test]
fn pools_and_their_workers() {
    assert_golden("pools-120x40.txt", shot(120, 40, Subject::Pools));
    assert_golden("pools-80x24.txt", shot(80, 24, Subject::Pools));
    assert_golden("pools-40x10.txt", shot(40, 10, Subject::Pools));
}

#[test]
fn pools_scroll_as_a_whole_and_tell_that_they_are_paused() {
    let state = State { subject: Subject::Pools, paused: true, offset: 2, ..State::default() };
    let drawn = text(&Shot { state, ..Shot::of(120, 24) }.take());
    assert!(drawn.contains("PAUSED  pools, lines 3-16 of 24"), "{drawn}");
    let state = State { subject: Subject::Requests, filter: "zzz".to_owned(), ..State::default() };
    let drawn = text(&Shot { state, ..Shot::of(80, 24) }.take());
    assert!(drawn.contains("no name matches"), "{drawn}");
}

#[test]
fn every_size_can_be_drawn_and_nothing_steers_the_terminal() {
    for subject in [Subject::Requests, Subject::Pools] {
        for width in (1..=130).step_by(3) {
            for height in [1, 7, 8, 9, 24, 50] {
                let screen = shot(width, height, subject).take();
                for cell in screen.content() {
                    let steers = |c: char| c.is_control() || c == '\u{202e}';
                    assert!(!cell.symbol().contains(steers), "{:?}", cell.symbol());
                }
            }
        }
    }
}

#[test]
fn a_tiny_terminal_shows_the_first_of_the_view() {
    let first = |subject| text(&shot(60, 3, subject).take());
    assert!(first(Subject::Requests).starts_with("480M in GET /a/very/long/"));
    assert!(first(Subject::Pools).contains("pool www "));
}
