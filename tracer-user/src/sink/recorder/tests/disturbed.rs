//! Others meddle with the files, or nothing can be written for a while: what is on the disk stays
//! readable, it goes on, and what is missing is told and counted exactly.

use std::fs;

use super::*;

/// A run under way that a test disturbs.
struct Run {
    folder: tempfile::TempDir,
    recorder: Recorder,
    handle: RecorderHandle,
    model: Model,
    fed: u64,
    /// Of these, what others removed from the disk.
    gone: u64,
    second: u64,
}

impl Run {
    fn new(change: impl FnOnce(&mut settings::Recorder)) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change)
    }

    fn at(folder: tempfile::TempDir, change: impl FnOnce(&mut settings::Recorder)) -> Self {
        let mut settings = settings(&folder.path().join("state"));
        settings.segment_age = Span::from_secs(3600);
        change(&mut settings);
        let recorder = Recorder::open(&settings).unwrap();
        let (handle, model) = (recorder.handle(), Model::new(&crate::event::Config::default()));
        let mut run = Self { folder, recorder, handle, model, fed: 0, gone: 0, second: 0 };
        run.feed(header("b"));
        run
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn feed(&mut self, event: Event) {
        let at = at(self.second * S, event);
        self.model.apply(&at);
        self.recorder.event(&self.model, &at).unwrap();
    }

    /// Seconds of ten stalls and a tick, each on the disk before the next.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            for _ in 0..10 {
                self.feed(stall(self.fed));
                self.fed += 1;
            }
            self.tick();
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// A tick as the pipeline does it: losses are told behind it.
    fn tick(&mut self) {
        self.second += 1;
        self.feed(tick());
        if let Some(lost) = self.recorder.take_lost() {
            self.feed(Event::Lost(lost));
        }
    }

    fn current(&self) -> PathBuf {
        segments_of(&self.state()).pop().unwrap().1
    }

    /// Ends it; all that was fed is on the disk, or was told as lost.
    fn end(mut self, at_hand: &[PathBuf]) -> Seen {
        self.pass(2);
        let end = End { reason: "signal".to_owned(), events: 0, lost: 0 };
        self.feed(Event::End(end));
        self.recorder.finish().unwrap();
        let mut all = Seen::default();
        let segments = segments_of(&self.state());
        let files = at_hand.iter().chain(segments.iter().map(|(_, path)| path));
        for path in files {
            let (seen, breaks, _) = replay(path);
            assert_eq!(breaks, []);
            all.0.extend(seen.0);
        }
        let lost = all.lost().get("recorder").copied().unwrap_or(0);
        assert_eq!(lost, self.handle.totals().lost);
        assert_eq!(self.handle.totals().failing, None);
        let stalls = all.stalls();
        assert!(stalls.is_sorted(), "none is doubled or out of order");
        let missing = self.fed - self.gone - stalls.len() as u64;
        // Ticks are lost as well.
        assert!(missing <= lost && lost <= missing + missing / 10 + 2, "{missing} of {lost}");
        all
    }
}

#[test]
fn a_segment_that_is_moved_is_whole_and_the_run_goes_on_in_a_new_one() {
    let mut run = Run::new(|_| {});
    run.pass(3);
    let moved = run.folder.path().join("elsewhere.jsonl.zst");
    fs::rename(run.current(), &moved).unwrap();
    run.pass(4);
    assert_eq!(segments_of(&run.state()).len(), 1);
    let all = run.end(&[moved]);
    assert_eq!(all.lost(), BTreeMap::new());
}

#[test]
fn a_segment_that_is_renamed_is_not_written_under_another_name() {
    let mut run = Run::new(|_| {});
    run.pass(2);
    let current = run.current();
    // As log rotation does it.
    fs::rename(&current, current.with_extension("zst.1")).unwrap();
    fs::write(&current, "").unwrap();
    run.pass(3);
    assert_eq!(fs::read(&current).unwrap(), b"", "what others made is left alone");
    fs::remove_file(&current).unwrap();
    let all = run.end(&[current.with_extension("zst.1")]);
    assert_eq!(all.lost(), BTreeMap::new());
}

#[test]
fn a_segment_that_is_cut_or_written_to_is_given_up() {
    for disturb in [
        (|path: &Path| fs::File::create(path).map(drop).unwrap()) as fn(&Path),
        |path| {
            fs::write(path, "noise that is longer than all that was written".repeat(99)).unwrap()
        },
        |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        },
    ] {
        let mut run = Run::new(|_| {});
        run.pass(2);
        let current = run.current();
        disturb(&current);
        let disturbed = fs::read(&current).unwrap();
        run.pass(4);
        assert_eq!(fs::read(&current).unwrap(), disturbed, "it is not written to");
        fs::remove_file(&current).unwrap();
        // Twenty were in it.
        run.gone = 20;
        let all = run.end(&[]);
        assert!((10..=33).contains(&all.lost()["recorder"]), "{:?}", all.lost());
    }
}

#[test]
fn what_is_removed_is_made_anew() {
    for is_whole in [false, true] {
        let mut run = Run::new(|_| {});
        run.pass(2);
        match is_whole {
            false => fs::remove_file(run.current()).unwrap(),
            true => fs::remove_dir_all(run.state()).unwrap(),
        }
        run.pass(4);
        // Nobody else can begin there, also where it was made anew.
        let claimed = Instance::claim(&run.state());
        assert!(matches!(claimed, Err(RecorderError::Taken { .. })), "{claimed:?}");
        // Twenty were in it.
        run.gone = 20;
        let all = run.end(&[]);
        assert!((10..=33).contains(&all.lost()["recorder"]), "{:?}", all.lost());
    }
}

#[test]
fn a_lock_that_this_process_has_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let _held = Instance::claim(&folder.path().join("state")).unwrap();
    let mut run = Run::at(folder, |settings| settings.segment_age = Span::from_secs(3));
    run.pass(2);
    let incidents = run.state().join("incidents");
    fs::remove_dir_all(&incidents).unwrap();
    run.pass(4);
    wait("a new folder", || incidents.exists());
    run.pass(1);
    assert_eq!(run.handle.totals().failing, None);
    assert_eq!(run.end(&[]).lost(), BTreeMap::new());
}

#[test]
fn where_another_one_has_begun_nothing_is_written() {
    let mut run = Run::new(|_| {});
    run.pass(2);
    let state = run.state();
    fs::remove_dir_all(&state).unwrap();
    let other = Instance::claim(&state).unwrap();
    fs::write(state.join("lock"), "1\n").unwrap();
    run.pass(4);
    wait("the failure", || run.handle.totals().failing.is_some());
    let why = run.handle.totals().failing.unwrap();
    assert!(why.contains("another rampage (process 1)"), "{why}");
    assert!(segments_of(&state).is_empty());
    // It ends.
    drop(other);
    wait("its end", || run.handle.totals().failing.is_none());
    run.gone = 20;
    let all = run.end(&[]);
    assert!((10..=33).contains(&all.lost()["recorder"]), "{:?}", all.lost());
}

#[test]
fn what_finds_no_room_is_counted_and_the_state_is_told_anew() {
    let mut run = Run::new(|_| {});
    run.pass(2);
    // No segment can be made: the one under way is gone, and its folder is a file.
    let folder = run.state().join("segments");
    let aside = run.folder.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "").unwrap();
    run.pass(3);
    wait("the failure", || run.handle.totals().failing.is_some());
    // More than the ring holds, and not to be packed well.
    let mut noise = 1_u64;
    for _ in 0..200 {
        for _ in 0..300 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            run.feed(growth(noise as u32, noise));
            run.feed(Event::Lost(Lost {
                source: format!("{noise:x}").into(),
                records: noise >> 40,
            }));
        }
        run.tick();
    }
    assert!(run.handle.totals().lost > 10_000, "{:?}", run.handle.totals());
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    let handle = run.handle.clone();
    wait("room", || {
        run.tick();
        handle.totals().failing.is_none() && !run.recorder.is_behind
    });
    run.pass(1);
    let end = End { reason: "signal".to_owned(), events: 0, lost: 0 };
    run.feed(Event::End(end));
    run.recorder.finish().unwrap();
    let (seen, breaks, is_complete) = replay(&run.state());
    assert!(matches!(breaks[..], [Break::Lost { .. }]), "{breaks:?}");
    assert!(is_complete);
    assert_eq!(seen.lost()["recorder"], handle.totals().lost);
    assert_eq!(
        seen.stalls(),
        (0..run.fed).collect::<Vec<_>>(),
        "the first and the last ones are there"
    );
}

#[test]
fn a_planted_name_costs_a_number() {
    let mut run = Run::new(|_| {});
    run.pass(1);
    let planted = run.state().join("segments").join(segment::name(2, WALL_NS + 4 * S as i64));
    let secret = run.folder.path().join("secret");
    fs::write(&secret, "kept").unwrap();
    std::os::unix::fs::symlink(&secret, &planted).unwrap();
    let settings = settings::Recorder { segment_age: Span::from_secs(4), ..settings(&run.state()) };
    run.handle.apply(&settings);
    run.pass(6);
    assert_eq!(fs::read(&secret).unwrap(), b"kept");
    fs::remove_file(&planted).unwrap();
    let numbers: Vec<_> = segments_of(&run.state()).iter().map(|(number, _)| *number).collect();
    assert!(numbers.contains(&1) && numbers.contains(&3) && !numbers.contains(&2), "{numbers:?}");
    run.end(&[]);
}
