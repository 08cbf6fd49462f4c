//! How a run ends: by Ctrl-C and SIGTERM in order, with everything detached; by SIGKILL at any
//! moment with a readable file that lacks at most the last second.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::Event;
use tests::bpf;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::hog::Hog;
use tests::needs;
use tests::trace::Trace;
use tests::tracer::{self, Tracer};

const SOON: Duration = Duration::from_secs(10);
/// Flushed at least each second.
const FLUSH: Duration = Duration::from_secs(1);
/// For a busy machine to wake the writer.
const WAKE: Duration = Duration::from_millis(300);

fn ends_in_order(signal: i32) -> Result<()> {
    let before = bpf::objects()?;
    let tracer = Tracer::watch("")?;
    let attached: Vec<_> = bpf::objects()?.difference(&before).copied().collect();
    ensure!(attached.iter().any(|(kind, _)| *kind == "prog"), "no program was loaded");
    let outcome = tracer.finish_by(signal)?;
    assert_eq!(outcome.status.code(), Some(0));
    assert_eq!(outcome.stderr, "");
    let end = outcome.trace.lines.last().context("no lines")?;
    let Event::End(end) = &end.event else { unreachable!("finish_by has checked it") };
    assert_eq!(end.reason, "signal");
    // `events` counts the lines before `end`.
    assert_eq!(end.events as usize, outcome.trace.lines.len() - 1);
    // The kernel frees programs a grace period after the last reference is gone.
    clock::wait_for("all programs and links to be gone", SOON, || {
        let now = bpf::objects()?;
        Ok(attached.iter().all(|object| !now.contains(object)).then_some(()))
    })
}

#[test]
fn ctrl_c_ends_in_order() -> Result<()> {
    needs!(Btf);
    ends_in_order(libc::SIGINT)
}

#[test]
fn sigterm_ends_in_order() -> Result<()> {
    needs!(Btf);
    ends_in_order(libc::SIGTERM)
}

#[test]
fn sigterm_finishes_a_compressed_file() -> Result<()> {
    needs!(Btf);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("t.jsonl.zst");
    let mut process = tracer::start("record", Some(&path), Stdio::null())?;
    clock::wait_for("the file to be read", SOON, || {
        Ok(path.exists() && Trace::read(&path).is_ok_and(|trace| trace.header().is_ok()))
            .map(|ready| ready.then_some(()))
    })?;
    process.signal(libc::SIGTERM);
    let status = clock::wait_for("the end", SOON, || Ok(process.child.try_wait()?))?;
    assert_eq!(status.code(), Some(0));
    zstd::stream::decode_all(File::open(&path)?).context("the last frame is not whole")?;
    let trace = Trace::read(&path)?;
    assert!(matches!(trace.lines.last().map(|line| &line.event), Some(Event::End(_))));
    Ok(())
}

/// Two CPUs write, one file is read: it must still be in order.
#[test]
fn times_do_not_run_backwards() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("interrupt", 512 << 20)?;
    let tracer = Tracer::watch("--step 256K")?;
    let script = "repeat:20 { repeat:10 { fork { anon:4 exit:0 } } reap }";
    let [one, two] = [Hog::spawn(&cgroup, script)?, Hog::spawn(&cgroup, script)?];
    one.done("repeat", SOON)?;
    two.done("repeat", SOON)?;
    tracer.settle()?;
    tracer.finish()?.trace.check_order()
}

/// Kills the recorder at 20 moments while a hog grows in steps of some 10 ms.
#[test]
fn sigkill_leaves_a_readable_file() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("interrupt", 512 << 20)?;
    let _hog = Hog::spawn(&cgroup, "repeat:10000 { anon:100:40 free }")?;
    let folder = tempfile::tempdir()?;
    let mut worst = Duration::ZERO;
    for moment in 0..20_u64 {
        let path = folder.path().join(format!("{moment}.jsonl.zst"));
        let mut process = tracer::start("record --step 256K", Some(&path), Stdio::null())?;
        let ready = clock::wait_for("the header", SOON, || {
            Ok(path.exists().then(|| Trace::read(&path).ok()).flatten())
                .map(|trace| trace.filter(|trace| trace.header().is_ok()).map(|_| ()))
        });
        std::thread::sleep(Duration::from_millis(1_000 + moment * 71));
        process.child.kill()?;
        let killed_ns = clock::boot_ns();
        let status = process.child.wait()?;
        ready?;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it had ended by itself");

        let trace = Trace::read(&path)?;
        trace.header()?;
        let last_ns = trace.lines.last().context("no lines")?.t_ns;
        let lacks = Duration::from_nanos(killed_ns.saturating_sub(last_ns));
        worst = worst.max(lacks);
        assert!(
            lacks < FLUSH + clock::patient(WAKE),
            "moment {moment}: the last {lacks:?} are missing"
        );
        let output = tracer::run(&["replay", &path.display().to_string(), "--json"])?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 4)), "{}: {stderr}", output.status);
        let replayed = Trace::parse(std::str::from_utf8(&output.stdout)?)?;
        // All lines that this test could read, and a new `end` in place of none.
        let told = replayed.lines.len();
        assert!(told >= trace.lines.len(), "replay read {told} of {} lines", trace.lines.len());
    }
    println!("at most {worst:?} were missing");
    Ok(())
}
