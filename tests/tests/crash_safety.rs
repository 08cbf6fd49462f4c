//! SIGKILL at random moments while a recorder records under load: what is on the disk reads to within a
//! second of the kill, each time, and the next run says that there was a gap.
//!
//! `RAMPAGE_CRASHES` says how often (15), `RAMPAGE_CRASH_OF` what is killed: `recorder` (the recorder with a
//! made-up load; quick), `record` or `serve` (the whole program, with kernel programs).

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rampage::source::replay::Break;
use tests::binary;
use tests::clock;
use tests::features::Feature;
use tests::hog::Hog;
use tests::needs;
use tests::recording::{Found, segments};

const SOON: Duration = Duration::from_secs(20);
/// Flushed at least each second.
const FLUSH: Duration = Duration::from_secs(1);
/// For a busy machine to wake pipeline and writer.
const WAKE: Duration = Duration::from_millis(400);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Recorder,
    Record,
    Serve,
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}

impl Program {
    fn chosen() -> Result<Self> {
        match std::env::var("RAMPAGE_CRASH_OF").as_deref() {
            Err(_) | Ok("recorder") => Ok(Self::Recorder),
            Ok("record") => Ok(Self::Record),
            Ok("serve") => Ok(Self::Serve),
            Ok(other) => bail!("RAMPAGE_CRASH_OF={other}"),
        }
    }

    fn start(self, folder: &Path, number: u64) -> Result<Running> {
        let mut command = match self {
            Self::Recorder => {
                let mut command = Command::new(binary::named("recorder_load")?);
                // In turn blocks that become full, and such that a second ends.
                command.arg(folder.join("state")).arg(["1", "20"][number as usize % 2]);
                command
            }
            Self::Record => {
                let mut command = Command::new(binary::rampage()?);
                command.args(["record", "--step", "256K", "-o"]).arg(file(folder, number));
                command
            }
            Self::Serve => {
                let config = folder.join("rampage.toml");
                let text = format!(
                    "[watch]\nstep = \"256KiB\"\n[recorder]\ndirectory = {:?}\n[metrics]\nlisten = \"\"\n\
                     [alerts]\njournal = false\n",
                    folder.join("state")
                );
                fs::write(&config, text)?;
                let mut command = Command::new(binary::rampage()?);
                command.args(["serve", "--config"]).arg(config);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Running(command.spawn().with_context(|| format!("{command:?}"))?))
    }

    /// Where this run records: files that were not there before.
    fn files(self, folder: &Path, number: u64, before: u64) -> Result<Vec<PathBuf>> {
        if self == Self::Record {
            return Ok(vec![file(folder, number)]
                .into_iter()
                .filter(|path| path.exists())
                .collect());
        }
        if !folder.join("state/segments").exists() {
            return Ok(Vec::new());
        }
        let found = segments(&folder.join("state"))?.into_iter();
        Ok(found.filter(|(number, _)| *number > before).map(|(_, path)| path).collect())
    }
}

fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.jsonl.zst"))
}

fn last_number(folder: &Path) -> u64 {
    let found = segments(&folder.join("state")).unwrap_or_default();
    found.last().map_or(0, |(number, _)| *number)
}

/// xorshift64*, from the clock: other moments each time, which are said when one of them fails.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[test]
fn a_recording_reads_to_within_a_second_of_a_kill_at_any_moment() -> Result<()> {
    let program = Program::chosen()?;
    if program != Program::Recorder && !tests::features::need(&[Feature::Btf])? {
        return Ok(());
    }
    let crashes: u64 = std::env::var("RAMPAGE_CRASHES").ok().map_or(Ok(15), |text| text.parse())?;
    // The whole program needs something to see.
    let _hog = match program {
        Program::Recorder => None,
        _ => Some(Hog::unconfined("repeat:1000000 { anon:8:40 free }")?),
    };
    let folder = tempfile::tempdir()?;
    let mut seed = clock::boot_ns() | 1;
    let mut worst = Duration::ZERO;
    for number in 1..=crashes {
        let before = last_number(folder.path());
        let mut running = program.start(folder.path(), number)?;
        clock::wait_for("something recorded", SOON, || {
            let files = program.files(folder.path(), number, before)?;
            let is_written = |path: &PathBuf| path.metadata().is_ok_and(|file| file.len() > 0);
            ensure!(running.0.try_wait()?.is_none(), "crash {number}: it ended by itself");
            Ok(files.iter().any(is_written).then_some(()))
        })?;
        let delay = Duration::from_micros(random(&mut seed) % 1_300_000);
        std::thread::sleep(delay);
        running.0.kill()?;
        let killed_ns = clock::boot_ns();
        let status = running.0.wait()?;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "crash {number}: it had ended by itself");

        let mut last_ns = 0;
        for path in program.files(folder.path(), number, before)? {
            let found = Found::read(&path)?;
            // A block that the kill cut off is the last thing in its file; all before it was read.
            let is_cut =
                found.damage.as_deref().is_none_or(|damage| damage.contains("ends within"));
            let is_new = path.metadata()?.len() == 0;
            assert!(is_cut || is_new, "crash {number} after {delay:?}: {:?}", found.damage);
            last_ns = last_ns.max(found.last_ns);
        }
        let lacks = Duration::from_nanos(killed_ns.saturating_sub(last_ns));
        worst = worst.max(lacks);
        assert!(
            lacks < FLUSH + clock::patient(WAKE),
            "crash {number} after {delay:?}: the last {lacks:?} are missing"
        );
    }
    println!("{program:?}: {crashes} crashes, at most {worst:?} were missing");
    if program != Program::Record {
        let whole = Found::read(&folder.path().join("state"))?;
        let is_told =
            |one: &&Break| matches!(one, Break::Restarted { gap: Some(gap) } if !gap.clean);
        let told = whole.breaks.iter().filter(is_told).count();
        assert!(told as u64 >= (crashes - 1).min(20), "{:?}", whole.breaks);
    }
    Ok(())
}

#[test]
fn a_recorder_that_is_stopped_for_ten_seconds_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let mut running = Program::Recorder.start(folder.path(), 1)?;
    let signal = |signal| {
        // SAFETY: kill has no memory effects; the child is not waited for before it is dropped.
        unsafe { libc::kill(running.0.id().cast_signed(), signal) };
    };
    std::thread::sleep(Duration::from_millis(2500));
    signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(10));
    let stopped = Found::read(&state)?;
    assert_eq!(stopped.damage, None);
    signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_millis(2500));
    drop(running.0.stdin.take());
    let started = Instant::now();
    let status = clock::wait_for("its end", SOON, || Ok(running.0.try_wait()?))?;
    assert!(status.success(), "{status} after {:?}", started.elapsed());
    let found = Found::read(&state)?;
    let fed = found.stalls.last().context("no stalls")? + 1;
    found.check(fed, found.ticks_ns.len() as u64, 0)?;
    assert!(found.is_complete && found.breaks.is_empty(), "{:?}", found.breaks);
    let gaps = found.ticks_ns.windows(2).filter(|pair| pair[1] - pair[0] > 10_000_000_000);
    assert_eq!(gaps.count(), 1, "the ticks show for how long it stood still");
    Ok(())
}

#[test]
fn the_whole_program_leaves_a_readable_file() -> Result<()> {
    needs!(Btf);
    let folder = tempfile::tempdir()?;
    let mut running = Program::Record.start(folder.path(), 1)?;
    clock::wait_for("something recorded", SOON, || {
        let files = Program::Record.files(folder.path(), 1, 0)?;
        Ok(files.iter().any(|path| path.metadata().is_ok_and(|file| file.len() > 0)).then_some(()))
    })?;
    running.0.kill()?;
    running.0.wait()?;
    assert!(Found::read(&file(folder.path(), 1))?.last_ns > 0);
    Ok(())
}
