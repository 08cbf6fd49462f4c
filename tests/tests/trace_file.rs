//! Trace files: what is written is read again, whatever happens to the file or its disk meanwhile.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binary;
mod synthetic;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use binary::{rampage, run};
use rampage::event::*;
use rampage::model::Model;
use rampage::pipeline::Pipeline;
use rampage::sink::trace_file::{Rotation, TraceFile};
use rampage::sink::{Sink, SinkError};
use rampage::source::replay::Cause;
use rampage::trace::lines::encode;
use synthetic::{at, header, process, read, recording, write};

const NAMES: [&str; 2] = ["t.jsonl", "t.jsonl.zst"];

/// Keeps the findings.
#[derive(Default)]
struct Findings(Vec<Stamped>);

impl Sink for Findings {
    fn event(&mut self, _: &Model, at: &Stamped) -> Result<(), SinkError> {
        if matches!(at.event, Event::Finding(_)) {
            self.0.push(at.clone());
        }
        Ok(())
    }
}

fn findings(events: &[Stamped]) -> Vec<Stamped> {
    let mut findings = Findings::default();
    let mut pipeline = Pipeline::new(vec![&mut findings]);
    events.iter().for_each(|at| pipeline.feed(at).unwrap());
    drop(pipeline);
    findings.0
}

/// What a reader gets of a whole recording: all but its `end`.
fn without_end(mut events: Vec<Stamped>) -> Vec<Stamped> {
    events.pop();
    events
}

#[test]
fn what_is_written_is_read_again_with_the_same_findings() {
    let folder = tempfile::tempdir().unwrap();
    let expected = without_end(recording());
    for name in NAMES {
        let path = folder.path().join(name);
        write(&path, &recording());
        let (events, damage) = read(&path);
        assert_eq!((&events, damage), (&expected, None), "{name}");
        assert!(!findings(&events).is_empty(), "the recording holds an OOM kill");
        assert_eq!(findings(&events), findings(&expected));
    }
}

#[test]
fn plain_files_cut_at_every_byte_are_read_up_to_the_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    write(&path, &recording());
    let text = fs::read(&path).unwrap();
    let whole = without_end(recording());
    let file = fs::File::options().write(true).open(&path).unwrap();
    for length in (0..text.len()).rev() {
        file.set_len(length as u64).unwrap();
        let (events, damage) = read(&path);
        let kept = &text[..length];
        // A line that lacks nothing but its newline is whole.
        let lines =
            kept.iter().filter(|byte| **byte == b'\n').count() + usize::from(text[length] == b'\n');
        assert_eq!(events, whole[..lines.min(whole.len())], "cut at {length}");
        let start = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let expected = match length {
            0 => Some((Cause::Empty, Some(0))),
            _ if start == length || text[length] == b'\n' => None,
            _ if start == 0 => Some((Cause::NotATrace, Some(0))),
            _ => Some((Cause::CutLine, Some(start as u64))),
        };
        assert_eq!(damage.map(|damage| (damage.cause, damage.offset)), expected, "cut at {length}");
    }
}

#[test]
fn compressed_files_cut_at_every_byte_are_read_up_to_the_last_whole_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl.zst");
    write(&path, &recording());
    let packed = fs::read(&path).unwrap();
    let whole = without_end(recording());
    let file = fs::File::options().write(true).open(&path).unwrap();
    let frames: Vec<usize> =
        (0..packed.len()).filter(|&at| packed[at..].starts_with(b"\x28\xb5\x2f\xfd")).collect();
    assert!(frames.len() > 9, "a frame for each second");
    let mut events_before = whole.len();
    for length in (1..packed.len()).rev() {
        file.set_len(length as u64).unwrap();
        let (events, damage) = read(&path);
        assert!(whole.starts_with(&events) && events.len() <= events_before, "cut at {length}");
        events_before = events.len();
        let cause = damage.map(|damage| damage.cause);
        match length {
            _ if frames.contains(&length) => assert_eq!(cause, None, "cut at {length}"),
            0..4 => assert_eq!(cause, Some(Cause::NotATrace)),
            _ => assert_eq!(cause, Some(Cause::CutFrame), "cut at {length}"),
        }
    }
}

#[test]
fn findings_of_a_cut_file_are_the_first_ones_of_the_whole() {
    let whole = without_end(recording());
    let all = findings(&whole);
    for length in 0..whole.len() {
        assert!(all.starts_with(&findings(&whole[..length])), "after {length} events");
    }
}

#[test]
fn the_command_uses_what_is_readable_and_exits_with_0_or_4() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = folder.path().join(name);
        write(&path, &recording());
        let bytes = fs::read(&path).unwrap();
        let step = bytes.len() / 25;
        for length in (0..=bytes.len()).step_by(step).chain([bytes.len()]) {
            fs::write(&path, &bytes[..length]).unwrap();
            let (events, damage) = read(&path);
            let (code, stdout, stderr) = run(rampage().args(["replay", "--json"]).arg(&path));
            assert_eq!(
                code,
                if damage.is_some() { 4 } else { 0 },
                "{name} cut at {length}: {stderr}"
            );
            let ticks = events.iter().filter(|at| matches!(at.event, Event::Tick(_))).count();
            assert_eq!(
                stdout.matches("\"type\":\"tick\"").count(),
                ticks,
                "{name} cut at {length}"
            );
            assert_eq!(stderr.lines().count(), usize::from(length < bytes.len()), "{stderr}");
        }
    }
}

#[test]
fn two_replays_are_identical() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl.zst");
    write(&path, &recording());
    for output in ["--json", "--plain"] {
        let replay = || run(rampage().args(["replay", output]).arg(&path));
        let (code, first, _) = replay();
        assert_eq!(code, 0);
        assert!(first.lines().count() > 10);
        assert_eq!(first, replay().1);
    }
}

#[test]
fn standard_input_may_be_compressed_and_standard_output_may_be_closed() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = folder.path().join(name);
        write(&path, &recording());
        let input = fs::File::open(&path).unwrap();
        let from_file = run(rampage().args(["replay", "--json"]).arg(&path));
        let mut cat = Command::new("cat").stdin(input).stdout(Stdio::piped()).spawn().unwrap();
        let pipe = cat.stdout.take().unwrap();
        assert_eq!(run(rampage().args(["replay", "--json", "-"]).stdin(pipe)), from_file);
        assert!(cat.wait().unwrap().success());

        let mut closed = rampage();
        closed.args(["replay", "--json"]).arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, _, stderr) = run(closed.stdout(writer));
        assert_eq!((code, stderr.as_str()), (0, ""), "a reader that goes away is a success");
    }
}

#[test]
fn filters_concern_what_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    write(&path, &recording());
    let (code, all, _) = run(rampage().args(["replay", "--json"]).arg(&path));
    assert_eq!(code, 0);
    let (code, some, _) =
        run(rampage().args(["replay", "--json", "--comm", "^mysqld$"]).arg(&path));
    assert_eq!(code, 0);
    let of_type = |text: &str, kind: &str| text.matches(&format!("\"type\":\"{kind}\"")).count();
    assert_eq!((of_type(&all, "process"), of_type(&some, "process")), (2, 1));
    assert_eq!((of_type(&all, "growth"), of_type(&some, "growth")), (19, 1));
    for kind in ["exit", "oom", "tick", "finding"] {
        assert_eq!(of_type(&some, kind), of_type(&all, kind), "{kind}");
    }
}

#[test]
fn speed_follows_the_time_of_the_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl.zst");
    write(&path, &recording());
    let started = Instant::now();
    let (code, slow, _) = run(rampage().args(["replay", "--speed", "20"]).arg(&path));
    let elapsed = started.elapsed();
    assert_eq!(code, 0);
    assert!(elapsed >= Duration::from_millis(600), "12 s of events at 20 times: {elapsed:?}");
    assert_eq!(slow, run(rampage().arg("replay").arg(&path)).1);
}

#[test]
fn a_signal_ends_a_replay_that_waits_for_its_input() {
    for signal in ["-INT", "-TERM"] {
        let mut replay = rampage();
        replay.args(["replay", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = replay.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut text = Vec::new();
        let tick = Event::Tick(Tick {});
        for event in [at(0, header()), at(1, tick)] {
            encode(&event, &mut text).unwrap();
        }
        input.write_all(&text).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("host"), "the tick is shown");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert!(lines.next().unwrap().unwrap().contains("end       signal"));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        drop(input);
    }
}

/// A stall that can be told from every other: it is not part of any restated state.
fn stall(number: u64) -> Stamped {
    let stall =
        Stall { tgid: 1, start_ns: 0, cgroup: None, kind: StallKind::Memcg, duration_ns: number };
    at(number * 1_000_000, Event::Stall(stall))
}

fn stalls(events: &[Stamped]) -> Vec<u64> {
    let number = |at: &Stamped| match &at.event {
        Event::Stall(stall) => Some(stall.duration_ns),
        _ => None,
    };
    events.iter().filter_map(number).collect()
}

#[test]
fn rotated_files_are_bounded_complete_and_readable_alone() {
    for name in NAMES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let rotation = Rotation { max_size_bytes: Some(64 << 10), keep: 3 };
        let mut file = TraceFile::create(&path, rotation).unwrap();
        let mut pipeline = Pipeline::new(vec![&mut file]);
        pipeline.feed(&at(0, header())).unwrap();
        pipeline.feed(&at(0, process(1, "php-fpm"))).unwrap();
        for number in 0..60_000 {
            pipeline.feed(&stall(number)).unwrap();
            if number % 1000 == 0 {
                pipeline.feed(&at(number * 1_000_000, Event::Tick(Tick {}))).unwrap();
            }
        }
        pipeline.finish("signal").unwrap();
        drop(pipeline);

        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            4,
            "{name} and its three old ones"
        );
        let mut numbers = Vec::new();
        for suffix in [".3", ".2", ".1", ""] {
            let part = PathBuf::from(format!("{}{suffix}", path.display()));
            assert!(fs::metadata(&part).unwrap().len() <= 64 << 10, "{name}{suffix}");
            let (events, damage) = read(&part);
            assert_eq!(damage, None, "{name}{suffix}");
            assert!(matches!(events[0].event, Event::Header(_)), "{name}{suffix}");
            let known = |at: &Stamped| matches!(&at.event, Event::Process(p) if p.tgid == 1);
            assert!(events.iter().any(known), "{name}{suffix} says who is there");
            numbers.extend(stalls(&events));
            let (code, _, stderr) = run(rampage().arg("replay").arg(&part));
            assert_eq!((code, stderr.as_str()), (0, ""), "{name}{suffix} has an end");
        }
        let first = 60_000 - numbers.len() as u64;
        assert!(first > 0, "the oldest files are gone");
        assert!(
            numbers.iter().copied().eq(first..60_000),
            "{name}: nothing lost between two files"
        );
    }
}

/// A file system of a few pages, unmounted whatever happens.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "rampage-test"])
            .arg(folder.path())
            .status();
        assert!(mount.unwrap().success(), "this test mounts a tmpfs: run it as root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_disk_is_counted_and_recording_goes_on_when_there_is_room() {
    for name in NAMES {
        let disk = TinyDisk::mount();
        let path = disk.path().join(name);
        let filler = disk.path().join("filler");
        let room = if name.ends_with("zst") { 8 << 10 } else { 32 << 10 };
        fs::write(&filler, vec![0; (1 << 20) - room]).unwrap();
        let mut file = TraceFile::create(&path, Rotation::default()).unwrap();
        let written = file.written();
        let mut pipeline = Pipeline::new(vec![&mut file]);
        pipeline.feed(&at(0, header())).unwrap();
        let mut fed = 0;
        let mut feed = |pipeline: &mut Pipeline<'_>, seconds: std::ops::Range<u64>| {
            for second in seconds {
                for number in 0..100 {
                    pipeline.feed(&stall(second * 1000 + number)).unwrap();
                }
                let tick = at(second * 1_000_000_000 + 999_000_000, Event::Tick(Tick {}));
                pipeline.feed(&tick).unwrap();
                fed += 101;
            }
        };
        feed(&mut pipeline, 0..60);
        let lost = written.lost.get();
        assert!(lost > 0, "{name}: the disk was full");
        assert_eq!(read(&path).1, None, "{name}: what fits is whole");
        let whole_bytes = fs::metadata(&path).unwrap().len();

        fs::write(&filler, "").unwrap();
        feed(&mut pipeline, 60..62);
        assert!(fs::metadata(&path).unwrap().len() > whole_bytes, "{name}: it goes on");
        pipeline.finish("signal").unwrap();
        drop(pipeline);

        let (events, damage) = read(&path);
        assert_eq!(damage, None, "{name}");
        let told: u64 = events
            .iter()
            .map(|at| match &at.event {
                Event::Lost(lost) if &*lost.source == "disk" => lost.records,
                _ => 0,
            })
            .sum();
        assert_eq!(told, written.lost.get(), "{name}");
        let ticks = events.iter().filter(|at| matches!(at.event, Event::Tick(_))).count() as u64;
        assert_eq!(stalls(&events).len() as u64 + ticks + told, fed, "{name}: seen + lost = made");
    }
}

#[test]
fn a_disk_that_stays_full_fails_in_the_end_but_not_before() {
    let mut file = TraceFile::create(Path::new("/dev/full"), Rotation::default()).unwrap();
    let written = file.written();
    let mut pipeline = Pipeline::new(vec![&mut file]);
    pipeline.feed(&at(0, header())).unwrap();
    for number in 0..20_000 {
        pipeline.feed(&stall(number)).unwrap();
    }
    let error = pipeline.finish("signal").unwrap_err();
    assert!(error.to_string().contains("/dev/full"), "{error}");
    assert!(written.lost.get() > 0 && written.bytes.get() == 0);
}
