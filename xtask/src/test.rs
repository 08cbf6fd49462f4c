//! `cargo xtask test`: everything that must pass. Its last line is `N passed, N failed`, summed
//! over all test programs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::build::{self, Courier};
use crate::exec::{Output, check, exec, line};
use crate::toolchain::Rustc;
use crate::workspace::{Workspace, is_root, on_path};
use crate::{debian, lint, setup, vm};

/// Real PHP and a FastCGI client to ask it, Prometheus, what a shop is made of, and the programs whose files the
/// audit reads.
const PACKAGES: [&str; 13] = [
    "apache2",
    "earlyoom",
    "iproute2",
    "libapache2-mod-php8.2",
    "libfcgi-bin",
    "mariadb-server",
    "nginx-light",
    "php8.2-fpm",
    "php8.2-mysql",
    "prometheus",
    "redis-server",
    "systemd",
    "util-linux",
];

/// How long output may stay open after a test program's end.
const GRACE: Duration = Duration::from_secs(5);

/// Sums over the `test result:` lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Sets up and runs all stages; the first that fails ends it.
pub fn execute(workspace: &Workspace) -> anyhow::Result<()> {
    let mut counts = Counts::default();
    let outcome = stages(workspace, &mut counts);
    let sum = format!("{} passed, {} failed", counts.passed, counts.failed);
    match outcome {
        Ok(()) => {
            println!("{sum}");
            Ok(())
        }
        Err(error) => Err(anyhow!("{error:#}\n{sum}")),
    }
}

fn stages(workspace: &Workspace, counts: &mut Counts) -> anyhow::Result<()> {
    setup::execute(workspace)?;
    debian::ensure(&PACKAGES, "the tests")?;
    let rustc = Rustc::probe(workspace)?;

    let mut unit = workspace.cargo(["test", "--workspace", "--exclude", "tests"]);
    // They measure, and share the kernel: one at a time.
    let mut kernel = workspace.cargo(["test", "--package", "tests", "--", "--test-threads=1"]);
    run_as_root(&mut kernel, &rustc)?;

    stage("rustfmt", || exec(&mut lint::format(workspace), Output::Shown).map(drop))?;
    stage("clippy, host", || exec(&mut lint::clippy_host(workspace), Output::Shown).map(drop))?;
    stage("clippy, BPF", || exec(&mut lint::clippy_bpf(workspace), Output::Shown).map(drop))?;
    stage("check, other architecture", || lint::other_architecture(workspace))?;
    stage("unit tests", || count(&mut unit, counts, std::io::stdout()))?;
    stage("release build", || {
        exec(&mut build::release(workspace, Courier::Wanted), Output::Shown).map(drop)
    })?;
    stage("kernel and PHP tests, as root", || count(&mut kernel, counts, std::io::stdout()))?;
    stage("kernel tests in other kernels", || {
        let guests = vm::quick(workspace)?;
        counts.passed += guests.passed as u64;
        counts.failed += guests.failed as u64;
        if guests.failed > 0 {
            bail!("not every guest held");
        }
        Ok(())
    })
}

/// Lets a `cargo test` or `cargo run` build as this user and run the programs as root.
pub fn run_as_root(cargo: &mut Command, rustc: &Rustc) -> anyhow::Result<()> {
    if is_root() {
        return Ok(());
    }
    if on_path("sudo").is_none() {
        bail!("loading programs into the kernel needs root and there is no sudo: run this as root");
    }
    let triple = rustc.host.to_uppercase().replace(['-', '.'], "_");
    cargo.env(format!("CARGO_TARGET_{triple}_RUNNER"), "sudo -E --");
    Ok(())
}

/// A heading, the work, and its time.
fn stage(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = Instant::now();
    println!("== {name}");
    work().with_context(|| format!("stage `{name}` failed"))?;
    println!("== {name}: {:.1} s\n", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a `cargo test`, copies its output to `out` as it comes and adds up its results.
fn count(
    command: &mut Command,
    counts: &mut Counts,
    out: impl Write + Send + 'static,
) -> anyhow::Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    let stdout = child.stdout.take().context("the output of cargo test is not ours")?;
    let (sender, results) = mpsc::channel();
    thread::spawn(move || show(BufReader::new(stdout), out, &sender));
    let status = child.wait().with_context(|| format!("waiting for `{}`", line(command)))?;
    // The channel closes with the output, which a process left behind would hold open.
    let deadline = Instant::now() + GRACE;
    loop {
        match results.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Counts { passed, failed }) => {
                counts.passed += passed;
                counts.failed += failed;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("`{}` left a process behind that holds its output open", line(command));
            }
        }
    }
    check(command, status, "")
}

/// Copies lines and sends the results among them.
fn show(mut input: impl BufRead, mut out: impl Write, results: &mpsc::Sender<Counts>) {
    let mut bytes = Vec::new();
    while input.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        // A closed output is no reason to stop a test half way.
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
        if let Some(result) = result(&String::from_utf8_lossy(&bytes))
            && results.send(result).is_err()
        {
            return;
        }
        bytes.clear();
    }
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; …`
fn result(line: &str) -> Option<Counts> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        rest.split(';').find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered \
                    out; finished in 0.00s\n";
        assert_eq!(result(line), Some(Counts { passed: 12, failed: 3 }));
        assert_eq!(result("test result: ok. many passed; 0 failed"), None);
        assert_eq!(result("test x ... ok"), None);
    }

    #[test]
    fn results_are_summed_over_programs() {
        let mut counts = Counts { passed: 1, failed: 0 };
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; printf '\\377\\n';\
                      echo 'test result: ok. 3 passed; 0 failed; 0 ignored'";
        count(Command::new("sh").args(["-c", script]), &mut counts, std::io::sink()).unwrap();
        assert_eq!(counts, Counts { passed: 6, failed: 0 });
    }

    #[test]
    fn failures_are_counted_and_reported() {
        let mut counts = Counts::default();
        let script = "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101";
        let error = count(Command::new("sh").args(["-c", script]), &mut counts, std::io::sink())
            .unwrap_err();
        assert!(error.to_string().contains("exit status: 101"), "{error}");
        assert_eq!(counts, Counts { passed: 2, failed: 1 });
    }
}
