//! Processes whose names and command lines attack the reader: escape sequences, control characters,
//! invalid UTF-8, quotes, 4 KiB lengths. Traces stay valid JSON, terminals see nothing raw.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::Event;
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::hog::Hog;
use tests::needs;
use tests::tracer::{self, Tracer};

const SOON: Duration = Duration::from_secs(30);
/// Clears a terminal, breaks JSON and UTF-8: `"evil\ESC[2J\n\xff\r`, hexadecimal.
const COMM: &str = "comm-hex:226576696c5c1b5b324a0aff0d";
const LIMIT_BYTES: u64 = 64 << 20;

/// A hog of that name, and with a command line of over 4 KiB that holds every byte but NUL.
fn spawn(cgroup: &MemoryCgroup, script: &str) -> Result<Hog> {
    let mut junk = b"junk:".to_vec();
    for _ in 0..20 {
        junk.extend(1..=255_u8);
    }
    let mut words = vec![OsString::from_vec(junk), OsString::from(COMM)];
    words.extend(script.split_whitespace().map(OsString::from));
    let name = OsStr::from_bytes(b"\x1b]0;owned\x07\"\\\xc3\x28 \xe2\x80\xae");
    Hog::spawn_words(Some(cgroup), Some(name), &words)
}

#[test]
fn json_stays_valid() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("hostile", 256 << 20)?;
    let before = spawn(&cgroup, "anon:4 hold")?;
    before.done("anon", SOON)?;
    let tracer = Tracer::watch("--step 256K")?;
    let after = spawn(&cgroup, "anon:20:20 hold")?;
    after.done("anon", SOON)?;
    tracer.settle()?;
    // Reading the lines has checked that each is UTF-8, valid JSON and of a known type.
    let trace = tracer.finish()?.trace;
    for hog in [&before, &after] {
        let known = trace.processes(hog.pid());
        let last = known.last().context("the process is not in the trace")?;
        assert!(
            known.iter().any(|process| process.comm.starts_with("\"evil\\\u{1b}[2J\n\u{fffd}"))
        );
        let cmdline = known.iter().rev().find_map(|process| process.cmdline.as_deref());
        let cmdline = cmdline.with_context(|| format!("no command line: {last:?}"))?;
        assert!(cmdline.contains("owned") && cmdline.contains("junk:"), "{cmdline:?}");
        let chars = cmdline.chars().count();
        assert!((1_300..=4_096).contains(&chars), "a command line of {chars} characters");
    }
    Ok(())
}

#[test]
fn plain_output_holds_no_control_characters() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("hostile", LIMIT_BYTES)?;
    let mut process = tracer::start("watch --plain --step 256K", None, Stdio::piped())?;
    let mut stdout = process.child.stdout.take().context("stdout")?;
    let mut stderr = process.child.stderr.take().context("stderr")?;
    let (output, errors) = std::thread::scope(|scope| -> Result<_> {
        let output = scope.spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        let errors = scope.spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        let leaked = (|| -> Result<()> {
            // For it to attach, and then to write: nothing says when.
            std::thread::sleep(clock::patient(Duration::from_secs(4)));
            spawn(&cgroup, "anon:96:10")?.wait(SOON)?;
            std::thread::sleep(clock::patient(Duration::from_secs(3)));
            Ok(())
        })();
        process.signal(libc::SIGTERM);
        let status = clock::wait_for("the end", SOON, || Ok(process.child.try_wait()?));
        if status.is_err() {
            process.child.kill()?;
        }
        leaked?;
        ensure!(status?.success(), "rampage failed");
        let join = |_| anyhow::anyhow!("the reader panicked");
        Ok((output.join().map_err(join)??, errors.join().map_err(join)??))
    })?;
    assert_eq!(cgroup.oom_kills()?, 1);
    for bytes in [&output, &errors] {
        let text = std::str::from_utf8(bytes)?;
        let raw = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(raw, None, "in {text:?}");
    }
    let text = String::from_utf8(output)?;
    let naming = text.lines().filter(|line| line.contains("evil")).count();
    assert!(naming >= 2, "a runaway and a verdict should name it: {text}");
    Ok(())
}

/// The same for a cgroup whose name holds what a file name may hold.
#[test]
fn cgroup_names_are_no_better() -> Result<()> {
    needs!(Btf);
    let parent = MemoryCgroup::new("hostile", LIMIT_BYTES)?;
    let child = parent.child("a\"b\\c\u{1b}[31md")?;
    let tracer = Tracer::watch("--step 256K")?;
    let hog = Hog::spawn(&child, "anon:16 hold")?;
    hog.done("anon", SOON)?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let path = child.path();
    let known = trace.processes(hog.pid());
    assert_eq!(known.last().and_then(|process| process.cgroup.as_deref()), Some(&*path));
    let seen = trace.events().any(|event| {
        matches!(event, Event::Cgroup(cgroup) if *cgroup.path == *path && cgroup.usage_bytes > 0)
    });
    assert!(seen, "the cgroup is not in the trace");
    Ok(())
}
