//! Blocks, losses and their order. What survives a full disk or a rotation is tested on real files
//! in the `tests` crate.

use super::*;
use crate::event::{Config, Header, Tick};
use crate::trace::lines::{MAX_LINE_BYTES, decode};
use std::fs;
use std::io::Read;

const SECOND: u64 = 1_000_000_000;

fn tick(t_ns: u64) -> Stamped {
    Stamped { t_ns, wall_ns: 0, event: Event::Tick(Tick {}) }
}

fn lost(t_ns: u64, source: &str) -> Stamped {
    let lost = Lost { source: source.into(), records: 1 };
    Stamped { t_ns, wall_ns: 0, event: Event::Lost(lost) }
}

fn events(text: &[u8]) -> Vec<Stamped> {
    text.split_inclusive(|byte| *byte == b'\n').map(|line| decode(line).unwrap()).collect()
}

#[test]
fn lines_go_out_at_each_tick_pulse_and_second_of_event_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let model = Model::new(&Config::default());
    let mut file = TraceFile::create(&path, Rotation::default()).unwrap();
    let written = || events(&fs::read(&path).unwrap()).len();
    file.event(&model, &lost(0, "a")).unwrap();
    assert_eq!(written(), 0);
    file.event(&model, &tick(1)).unwrap();
    assert_eq!(written(), 2);
    file.event(&model, &lost(2, "b")).unwrap();
    file.event(&model, &lost(SECOND + 1, "c")).unwrap();
    assert_eq!(written(), 2);
    file.event(&model, &lost(SECOND + 2, "d")).unwrap();
    assert_eq!(written(), 5);
    file.event(&model, &lost(SECOND + 3, "e")).unwrap();
    file.pulse(&model).unwrap();
    assert_eq!(written(), 6);
    file.event(&model, &lost(SECOND + 4, "f")).unwrap();
    file.finish().unwrap();
    assert_eq!(written(), 7);
}

#[test]
fn a_line_that_no_reader_takes_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new(&Config::default());
    let mut file = TraceFile::create(&folder.path().join("t"), Rotation::default()).unwrap();
    file.event(&model, &lost(0, &"x".repeat(MAX_LINE_BYTES))).unwrap();
    assert_eq!(file.take_lost(), Some(Lost { source: "disk".into(), records: 1 }));
    assert_eq!(file.take_lost(), None);
}

/// A pipe that takes nothing more until it is read: every write fails with EAGAIN.
fn narrow_pipe() -> (fs::File, std::path::PathBuf, tempfile::TempDir) {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let reader = fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    (reader, path, folder)
}

fn drain(reader: &mut fs::File, into: &mut Vec<u8>) {
    match reader.read_to_end(into) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        ended => drop(ended.unwrap()),
    }
}

#[test]
fn a_stream_goes_on_where_it_stopped_and_tells_what_it_lost() {
    use std::os::unix::fs::OpenOptionsExt;
    let (mut reader, path, _folder) = narrow_pipe();
    let mut file = TraceFile::create(&path, Rotation::default()).unwrap();
    let writer = fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    file.output = Output::stream(writer.unwrap());
    let model = Model::new(&Config::default());
    let header = Event::Header(Box::new(Header { hostname: "h".to_owned(), ..Header::default() }));
    file.event(&model, &Stamped { t_ns: 0, wall_ns: 0, event: header }).unwrap();
    let filling = "x".repeat(1000);
    for number in 0..2000 {
        file.event(&model, &lost(number, &filling)).unwrap();
    }
    let dropped = file.written().lost.get();
    assert!(dropped > 0 && file.take_lost().is_none(), "told only when it can be written");

    let mut text = Vec::new();
    drain(&mut reader, &mut text);
    let end = End { reason: "signal".to_owned(), events: 9, lost: 5 };
    let at = |event| Stamped { t_ns: 3000, wall_ns: 0, event };
    // The pipe is narrower than a block: several turns until all is through.
    for _ in 0..20 {
        file.pulse(&model).unwrap();
        drain(&mut reader, &mut text);
    }
    assert!(!file.failing);
    let told = file.take_lost().unwrap();
    file.event(&model, &at(Event::Lost(told))).unwrap();
    file.event(&model, &at(Event::End(end.clone()))).unwrap();
    file.finish().unwrap();
    drain(&mut reader, &mut text);
    let events = events(&text);
    let kept = events.iter().filter(|at| matches!(&at.event, Event::Lost(l) if l.records == 1));
    assert_eq!(kept.count() as u64 + dropped, 2000);
    let headers = events.iter().filter(|at| matches!(at.event, Event::Header(_)));
    assert_eq!(headers.count(), 2, "the state is told anew after a loss");
    let told = Lost { source: "disk".into(), records: dropped };
    assert_eq!(events[events.len() - 2..], [at(Event::Lost(told)), at(Event::End(end))]);
}

#[test]
fn an_end_that_finds_room_again_carries_the_losses() {
    use std::os::unix::fs::OpenOptionsExt;
    let (mut reader, path, _folder) = narrow_pipe();
    let mut file = TraceFile::create(&path, Rotation::default()).unwrap();
    let writer = fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    file.output = Output::stream(writer.unwrap());
    file.block.set_limit(32 << 10);
    let model = Model::new(&Config::default());
    let filling = "x".repeat(1000);
    for number in 0..2000 {
        file.event(&model, &lost(number, &filling)).unwrap();
    }
    assert!(file.failing);
    let dropped = file.written().lost.get();
    let mut text = Vec::new();
    drain(&mut reader, &mut text);
    let end = |lost| {
        let end = End { reason: "signal".to_owned(), events: 9, lost };
        Stamped { t_ns: 3000, wall_ns: 0, event: Event::End(end) }
    };
    file.event(&model, &end(5)).unwrap();
    drain(&mut reader, &mut text);
    file.finish().unwrap();
    drain(&mut reader, &mut text);
    let events = events(&text);
    assert_eq!(events.last().unwrap(), &end(5 + dropped));
}

#[test]
fn a_reader_that_went_away_ends_the_run() {
    let (reader, path, _folder) = narrow_pipe();
    let mut file = TraceFile::create(&path, Rotation::default()).unwrap();
    drop(reader);
    let ended = file.event(&Model::new(&Config::default()), &tick(1));
    assert!(matches!(ended, Err(SinkError::Closed)));
}
