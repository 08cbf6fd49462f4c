//! The flight recorder on disks that fill up, fail, or take no writes: nothing on them is corrupt, it goes on
//! when it can, and what is missing is counted exactly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::pipeline::Pipeline;
use rampage::settings::{self, Size, Span};
use rampage::sink::recorder::{Recorder, RecorderError};
use rampage::sink::{Sink, SinkError};
use rampage::source::replay::ReplaySource;
use tests::recording::{Found, Load};

/// A mounted file system, unmounted whatever happens.
struct Disk {
    folder: tempfile::TempDir,
    below: Option<Box<Self>>,
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {stderr}");
    Ok(())
}

impl Disk {
    fn tmpfs(size: &str) -> Result<Self> {
        let disk = Self { folder: tempfile::tempdir()?, below: None };
        let options = format!("size={size}");
        run("mount", &["-t", "tmpfs", "-o", &options, "rampage-test", disk.text()])?;
        Ok(disk)
    }

    /// ext4 without a journal in a file of a tmpfs that has less room than the file says.
    fn ext4(size: &str, room: &str, errors: &str) -> Result<Self> {
        let below = Self::tmpfs(room)?;
        let image = below.path().join("image");
        let image = image.to_str().context("path")?.to_owned();
        run("truncate", &["-s", size, &image])?;
        run("mkfs.ext4", &["-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", &image])?;
        let disk = Self { folder: tempfile::tempdir()?, below: Some(Box::new(below)) };
        run("mount", &["-o", &format!("loop,errors={errors}"), &image, disk.text()])?;
        Ok(disk)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn text(&self) -> &str {
        self.path().to_str().unwrap_or_default()
    }

    /// Has the kernel find an error in the file system: it takes no more writes.
    fn break_down(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let line = mounts.lines().find(|line| line.contains(self.text())).context("not mounted")?;
        let device = line.split(' ').next().and_then(|path| path.strip_prefix("/dev/"));
        let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.context("no device")?);
        fs::write(trigger, "test").context("trigger_fs_error")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run("umount", &["-l", self.text()]);
        if let Err(error) = unmounted {
            eprintln!("{error:#}");
        }
        drop(self.below.take());
    }
}

fn settings(disk: &Disk) -> settings::Recorder {
    settings::Recorder {
        directory: disk.path().join("state"),
        segment_size: Size::bytes(2 << 20),
        sync: Span::from_secs(0),
        ..settings::Recorder::default()
    }
}

#[test]
fn a_full_disk_is_counted_and_recording_goes_on_when_there_is_room() -> Result<()> {
    let disk = Disk::tmpfs("4m")?;
    let filler = disk.path().join("filler");
    let mut load = Load::start(&settings(&disk))?;
    load.until("something written", 100, |load| load.handle.totals().bytes > 0)?;
    fs::write(&filler, vec![0; 3 << 20]).ok();
    load.until("a full disk", 1000, |load| load.handle.totals().failing.is_some())?;
    let reason = load.handle.totals().failing.unwrap_or_default();
    assert!(reason.contains("No space"), "{reason}");
    load.until("losses", 1000, |load| load.handle.totals().lost > 10_000)?;
    let full = Found::read(&disk.path().join("state"))?;
    assert_eq!(full.damage, None, "what is there is whole");
    fs::remove_file(&filler)?;
    load.until("room", 1, |load| load.handle.totals().failing.is_none())?;
    // What waited for the disk goes first.
    let (mut lost, mut looks) = (0, 0);
    load.until("no more losses", 10, |load| {
        let now = load.handle.totals().lost;
        looks = if now == lost { looks + 1 } else { 0 };
        lost = now;
        looks == 50
    })?;
    let fed = load.fed;
    let handle = load.handle.clone();
    load.until("the story to go on", 10, |load| load.fed > fed + 200)?;
    let fed = load.fed;
    let ticks = load.finish()?;
    assert_eq!(handle.totals().lost, lost, "lost where there is room");
    let found = Found::read(&disk.path().join("state"))?;
    found.check(fed, ticks, lost)?;
    let last: Vec<u64> = (fed - 200..fed).collect();
    assert!(found.stalls.ends_with(&last), "the end of it: {:?}", found.stalls.last());
    assert!(found.is_complete);
    assert_eq!(found.breaks.len(), 1, "{:?}", found.breaks);
    Ok(())
}

#[test]
fn a_disk_that_fails_is_told_and_what_can_be_read_is_whole() -> Result<()> {
    // The file system has 64 MiB, and what is below it 8.
    let disk = Disk::ext4("64m", "8m", "continue")?;
    let mut load = Load::start(&settings(&disk))?;
    load.until("something written", 100, |load| load.handle.totals().bytes > 100_000)?;
    // The kernel tells at a sync what it could not write before.
    fs::write(disk.path().join("filler"), vec![1; 12 << 20])?;
    run("sync", &["-f", disk.text()]).ok();
    let before = load.handle.totals().segments;
    load.until("a new segment after EIO", 300, |load| {
        let totals = load.handle.totals();
        totals.segments > before + 1 || totals.failing.is_some()
    })?;
    let below = disk.below.as_ref().context("no disk below")?;
    run("mount", &["-o", "remount,size=80m", below.text()])?;
    load.until("it works again", 10, |load| load.handle.totals().failing.is_none())?;
    let fed = load.fed;
    load.until("the story to go on", 10, |load| load.fed > fed + 200)?;
    let (fed, handle) = (load.fed, load.handle.clone());
    load.finish()?;
    let found = Found::read(&disk.path().join("state"))?;
    assert_eq!(found.damage, None);
    assert!(found.is_complete && found.stalls.is_sorted_by(|one, next| one < next));
    // A file that could not be synced is left without its end; one that is full has it.
    assert!(!found.breaks.is_empty(), "nothing failed");
    // A file that could not be synced may lack what was told in it; all is counted.
    let told = found.lost.get("recorder").copied().unwrap_or(0);
    assert!(told <= handle.totals().lost, "{told} of {:?}", handle.totals());
    let last: Vec<u64> = (fed - 200..fed).collect();
    assert!(found.stalls.ends_with(&last), "the end of it: {:?}", found.stalls.last());
    Ok(())
}

#[test]
fn a_disk_that_becomes_read_only_is_told_once_and_harms_nobody() -> Result<()> {
    let disk = Disk::ext4("64m", "80m", "remount-ro")?;
    let mut load = Load::start(&settings(&disk))?;
    load.until("something written", 100, |load| load.handle.totals().bytes > 100_000)?;
    disk.break_down()?;
    load.until("the failure", 100, |load| load.handle.totals().failing.is_some())?;
    load.until("losses", 1000, |load| load.handle.totals().lost > 10_000)?;
    let handle = load.handle.clone();
    let started = std::time::Instant::now();
    load.finish()?;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(handle.totals().failing.is_some());
    let found = Found::read(&disk.path().join("state"))?;
    assert_eq!(found.damage, None);
    assert!(!found.is_complete && !found.stalls.is_empty());
    Ok(())
}

#[test]
fn a_read_only_directory_is_refused_at_the_start() -> Result<()> {
    let disk = Disk::tmpfs("4m")?;
    run("mount", &["-o", "remount,ro", disk.text()])?;
    let error = Recorder::open(&settings(&disk)).err().context("it was opened")?;
    assert!(matches!(error, RecorderError::Io { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("recorder.directory") && text.contains("Read-only"), "{text}");
    Ok(())
}

/// Keeps the findings.
#[derive(Default)]
struct Findings(Vec<rampage::event::Stamped>);

impl Sink for Findings {
    fn event(
        &mut self,
        _: &rampage::model::Model,
        at: &rampage::event::Stamped,
    ) -> Result<(), SinkError> {
        if matches!(at.event, rampage::event::Event::Finding(_)) {
            self.0.push(at.clone());
        }
        Ok(())
    }
}

/// A trace or a folder through a pipeline into `sinks`.
fn replay(path: &Path, sinks: Vec<&mut dyn Sink>) -> Result<()> {
    let mut source = ReplaySource::open(path, rampage::cli::Speed::Max)?;
    let mut pipeline = Pipeline::new(sinks);
    let options = rampage::run::RunOptions::default();
    rampage::run::block_on(rampage::run::run(&mut source, &mut pipeline, options))?;
    ensure!(source.damaged_file().is_none(), "{:?}", source.damaged_file());
    ensure!(source.breaks().is_empty(), "{:?}", source.breaks());
    Ok(())
}

/// Real incidents, recorded in segments of three seconds, have the same findings joined.
#[test]
fn recorded_scenarios_are_the_same_through_the_recorder() -> Result<()> {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/traces");
    let paths = fs::read_dir(&traces)?.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|name| name == "zst"));
    ensure!(!paths.is_empty(), "no traces in {}", traces.display());
    paths.sort();
    let (mut findings, mut segments) = (0, 0);
    for path in &paths {
        let folder = tempfile::tempdir()?;
        let settings = settings::Recorder {
            directory: folder.path().to_owned(),
            segment_age: Span::from_secs(3),
            ..settings::Recorder::default()
        };
        let mut recorder = Recorder::open(&settings)?;
        let handle = recorder.handle();
        let (mut live, mut joined) = (Findings::default(), Findings::default());
        replay(path, vec![&mut recorder, &mut live])?;
        // A trace is replayed faster than any disk: then losses are right, and there is nothing to compare.
        if handle.totals().lost > 0 {
            continue;
        }
        replay(folder.path(), vec![&mut joined]).with_context(|| path.display().to_string())?;
        assert_eq!(joined.0, live.0, "{}", path.display());
        findings += live.0.len();
        segments += handle.totals().segments;
    }
    println!("{} traces, {findings} findings, {segments} segments", paths.len());
    ensure!(findings > 50 && segments > 100, "{findings} findings, {segments} segments");
    Ok(())
}

/// What an event costs the pipeline, and the recorder the host.
#[test]
fn its_cost_is_bounded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = settings::Recorder {
        directory: folder.path().join("state"),
        ..settings::Recorder::default()
    };
    let anon_bytes = || -> Result<u64> {
        let text = fs::read_to_string("/proc/self/status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        Ok(line
            .and_then(|line| line.split_whitespace().next())
            .context("RssAnon")?
            .parse::<u64>()?
            << 10)
    };
    let before = anon_bytes()?;
    let mut load = Load::start(&settings)?;
    std::thread::sleep(Duration::from_millis(300));
    let at_start = anon_bytes()? - before;
    // The model and the making of events cost something, too.
    let bare = {
        let mut model = rampage::model::Model::new(&rampage::event::Config::default());
        let mut load = Load::start(&settings::Recorder {
            directory: folder.path().join("other"),
            ..settings.clone()
        })?;
        let (mut spent, mut events) = (Duration::ZERO, 0_u64);
        for _ in 0..200 {
            let started = std::time::Instant::now();
            for _ in 0..500 {
                load.make(&mut model)?;
            }
            spent += started.elapsed();
            events += 1000;
        }
        spent.as_nanos() as u64 / events
    };
    let (mut spent, mut events) = (Duration::ZERO, 0_u64);
    for _ in 0..200 {
        let started = std::time::Instant::now();
        for _ in 0..500 {
            load.step()?;
        }
        load.tick()?;
        spent += started.elapsed();
        events += 1000;
        std::thread::sleep(Duration::from_millis(5));
    }
    let each = spent.as_nanos() as u64 / events;
    let at_end = anon_bytes()? - before;
    let totals = load.handle.totals();
    load.finish()?;
    println!(
        "{} ns an event of {each} ns; {at_start} bytes at the start, {at_end} at the end; {} bytes an \
         event packed; {totals:?}",
        each.saturating_sub(bare),
        totals.bytes / events
    );
    assert_eq!(totals.lost, 0);
    // Without optimisation it is ten times slower.
    let most = if cfg!(debug_assertions) { 400_000 } else { 20_000 };
    assert!(each < most, "{each} ns an event");
    assert!(at_start < 5 << 19, "{at_start} bytes at the start");
    assert!(at_end < at_start + (1 << 20), "{at_end} bytes at the end, {at_start} at the start");
    Ok(())
}
