//! What is kept: segments within their bounds, incidents, and the end of the run before.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::story::story;
use super::*;

fn told(folder: &Path) -> Incident {
    Incident::read(folder).unwrap()
}

#[test]
fn an_incident_has_trace_findings_and_facts() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings::Recorder {
        incident_before: Span::from_secs(12),
        incident_after: Span::from_secs(6),
        ..settings(folder.path())
    };
    let live = record(&settings, &story());
    let folders = incidents_of(folder.path());
    let names: Vec<_> = folders.iter().map(|path| path.file_name().unwrap()).collect();
    assert!(names.len() >= 2, "{names:?}");
    for path in &folders {
        let told = told(path);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(path), 0o750);
        for entry in fs::read_dir(path).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o640);
        }
        let facts = fs::read_to_string(path.join("facts.json")).unwrap();
        assert!(facts.contains("MemTotal") && facts.contains("\"boot_id\":\"b\""));
        let findings = fs::read_to_string(path.join("findings.jsonl")).unwrap();
        assert_eq!(findings.lines().count() as u64, told.findings);
        assert!(told.problems.is_empty() && !told.summary.is_empty(), "{told:?}");
        let linked = segment::list(path).unwrap();
        assert_eq!(linked.len(), told.segments.len());
        let (seen, breaks, _) = replay(path);
        assert_eq!(breaks, []);
        assert!(seen.0[0].t_ns <= told.start_ns - 12 * S, "{told:?}");
        assert!(seen.0.last().unwrap().t_ns >= told.end_ns);
        // All that was said in it stands in it, and comes again.
        let again = seen.findings();
        for at in live.findings() {
            let Event::Finding(finding) = &at.event else { continue };
            // What needs more of the past than the incident has (a leak, a series of kills) may be missing.
            let is_new = finding.kind == crate::event::FindingKind::OomVerdict;
            if is_new && at.t_ns >= told.start_ns && at.t_ns <= told.end_ns {
                let summary = serde_json::to_string(&finding.summary).unwrap();
                assert!(findings.contains(&summary), "{summary}");
                assert!(again.iter().any(|said| said.t_ns == at.t_ns), "{}", finding.summary);
            }
        }
    }
    assert_eq!(folders.iter().map(|path| told(path).kills).sum::<u64>(), 2);
    assert!(
        folders
            .iter()
            .all(|path| told(path).kinds.contains(&"oom".to_owned()) == (told(path).kills > 0))
    );
    assert!(names.iter().all(|name| !name.to_string_lossy().contains(['/', '\n'])), "{names:?}");
}

#[test]
fn the_current_segment_is_linked_at_once_and_retention_leaves_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings::Recorder { max_size: Size::bytes(1), ..settings(folder.path()) };
    let mut recorder = Recorder::open(&settings).unwrap();
    let handle = recorder.handle();
    let mut pipeline = Pipeline::new(vec![&mut recorder]);
    let events = story();
    let kill = events.iter().position(|at| matches!(at.event, Event::Oom(_))).unwrap();
    for at in &events[..=kill] {
        pipeline.feed(at).unwrap();
    }
    // Neither a tick nor an end has come since.
    wait("the kill", || {
        incidents_of(folder.path()).last().is_some_and(|path| {
            Incident::read(path).is_ok_and(|told| told.kills == 1 && told.kinds.len() > 1)
        })
    });
    assert!(handle.totals().synced_wall_ns.is_some());
    let path = incidents_of(folder.path()).pop().unwrap();
    assert_eq!(told(&path).state, incident::IncidentState::Open);
    let (seen, _, _) = replay(&path);
    assert!(
        matches!(seen.0.last().unwrap().event, Event::Finding(_)),
        "the verdict is on the disk"
    );
    for at in &events[kill + 1..] {
        pipeline.feed(at).unwrap();
    }
    pipeline.finish("signal").unwrap();
    drop(pipeline);
    assert!(segments_of(folder.path()).len() <= 2, "max_size");
    assert!(told(&path).segments.len() > 3);
    let (seen, breaks, _) = replay(&path);
    assert_eq!((breaks.len(), told(&path).kills), (0, seen_kills(&seen)));
}

fn seen_kills(seen: &Seen) -> u64 {
    seen.0.iter().filter(|at| matches!(at.event, Event::Oom(_))).count() as u64
}

#[test]
fn incidents_are_bounded_and_the_oldest_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings::Recorder {
        incident_after: Span::from_secs(1),
        max_incidents: 3,
        ..settings(folder.path())
    };
    // One story after the other, 20 incidents or so.
    for round in 0..10 {
        let events: Vec<_> = story()
            .into_iter()
            .map(|at| Stamped {
                t_ns: at.t_ns + round * 100 * S,
                wall_ns: at.wall_ns - round as i64 * 100 * S as i64,
                ..at
            })
            .collect();
        record(&settings, &events);
        assert!(incidents_of(folder.path()).len() <= 3);
    }
    // The clock ran backwards from one to the next; those that are left are the last all the same.
    let newest = segments_of(folder.path()).last().unwrap().0;
    for path in incidents_of(folder.path()) {
        let number = segment::list(&path).unwrap()[0].0;
        assert!(number + 2 * 16 > newest, "{} of {newest}", path.display());
    }
    let small = settings::Recorder { max_incidents_size: Size::bytes(1), ..settings };
    record(&small, &story());
    assert!(incidents_of(folder.path()).is_empty(), "none is under way: all are too large");
}

#[test]
fn what_an_administrator_put_aside_stays() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings::Recorder { max_incidents: 1, ..settings(folder.path()) };
    record(&settings, &story());
    let aside = folder.path().join("incidents/archive");
    fs::create_dir(&aside).unwrap();
    let kept = incidents_of(folder.path()).into_iter().find(|path| *path != aside).unwrap();
    fs::rename(&kept, aside.join("that-night")).unwrap();
    for _ in 0..2 {
        record(&settings, &story());
    }
    assert!(aside.join("that-night").join(incident::FILE).is_file());
    assert_eq!(incidents_of(folder.path()).len(), 2, "the archive and the newest");
}

#[test]
fn a_smaller_number_holds_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    for _ in 0..3 {
        record(&settings, &story());
    }
    assert!(incidents_of(folder.path()).len() > 2);
    let recorder = Recorder::open(&settings).unwrap();
    recorder.handle().apply(&settings::Recorder { max_incidents: 2, ..settings });
    recorder.wake();
    wait("the others to go", || incidents_of(folder.path()).len() == 2);
}

#[test]
fn a_recorder_that_was_killed_tells_so_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let mut recorder = Recorder::open(&settings).unwrap();
    assert_eq!(recorder.previous_end(), None);
    let mut pipeline = Pipeline::new(vec![&mut recorder]);
    let events = story();
    let kill = events.iter().position(|at| matches!(at.event, Event::Oom(_))).unwrap();
    events[..=kill].iter().for_each(|at| pipeline.feed(at).unwrap());
    drop(pipeline);
    // All is written, and there is no end.
    drop(recorder);
    let number = segments_of(folder.path()).last().unwrap().0;
    let killed = incidents_of(folder.path()).pop().unwrap();
    assert_eq!(told(&killed).state, incident::IncidentState::CutShort);

    let mut recorder = Recorder::open(&settings).unwrap();
    let previous = recorder.previous_end().unwrap();
    let last = &events[kill];
    assert_eq!(
        (previous.t_ns, previous.wall_ns / 1_000_000),
        (last.t_ns, last.wall_ns / 1_000_000)
    );
    assert_eq!((previous.boot_id.as_str(), previous.clean), ("b", false));
    let mut pipeline = Pipeline::new(vec![&mut recorder]);
    let start = Stamped { t_ns: last.t_ns + 3 * S, wall_ns: 0, event: header("b") };
    pipeline.feed(&start).unwrap();
    pipeline.finish("signal").unwrap();
    drop(pipeline);
    drop(recorder);
    let (_, path) = segments_of(folder.path()).pop().unwrap();
    let (seen, _, _) = replay(&path);
    let Event::Header(header) = &seen.0[0].event else { panic!("no header") };
    assert_eq!(header.segment.as_ref().unwrap().number, number + 1);
    let gap = header.gap.as_ref().unwrap();
    assert_eq!((gap.seconds, gap.clean), (Some(3.0), false));
    assert!(gap.since.starts_with("2026-01-31T12:00:39.999"), "{}", gap.since);
    assert!(Recorder::open(&settings).unwrap().previous_end().unwrap().clean);
}

#[test]
fn a_clock_that_steps_changes_no_order() {
    let folder = tempfile::tempdir().unwrap();
    let day_ns = 24 * 3600 * S as i64;
    let events: Vec<_> = story()
        .into_iter()
        .map(|at| {
            let second = (at.t_ns - BOOT_NS) / S;
            let step = [0, 400 * day_ns, -400 * day_ns, 0][second as usize / 20];
            Stamped { wall_ns: at.wall_ns + step, ..at }
        })
        .collect();
    let live = record(&settings(folder.path()), &events);
    let (joined, breaks, _) = replay(folder.path());
    assert_eq!((joined.stalls(), breaks.len()), (live.stalls(), 0));
    assert_eq!(joined.findings(), live.findings());
    let names = fs::read_dir(folder.path().join("segments")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let numbers = names.iter().map(|name| segment::number(name.to_str().unwrap()).unwrap());
    assert!(numbers.eq(1..=names.len() as u64), "{names:?}");
}

#[test]
fn a_reload_holds_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let mut recorder = Recorder::open(&settings).unwrap();
    let handle = recorder.handle();
    let mut pipeline = Pipeline::new(vec![&mut recorder]);
    let events = story();
    let (first, second) = events.split_at(events.len() / 2);
    first.iter().for_each(|at| pipeline.feed(at).unwrap());
    wait("segments", || handle.totals().segments >= 7);
    let other = settings::Recorder {
        directory: "/nowhere".into(),
        segment_age: Span::from_secs(2),
        max_age: Span::from_secs(6),
        ..settings
    };
    handle.apply(&other);
    second.iter().for_each(|at| pipeline.feed(at).unwrap());
    pipeline.finish("signal").unwrap();
    drop(pipeline);
    let segments = segments_of(folder.path());
    assert!((4..=6).contains(&segments.len()), "{segments:?}");
    assert!(segments[0].0 > 20, "{segments:?}");
    let totals = handle.totals();
    assert_eq!(totals.segments, segments.len() as u64);
    assert_eq!((totals.lost, totals.failing), (0, None));
    assert_eq!(totals.incidents, incidents_of(folder.path()).len() as u64);
}
