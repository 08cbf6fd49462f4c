//! `rampage watch` in a real pseudo-terminal: it draws, answers keys, follows a resize, and gives
//! the terminal back however it ends.

mod terminal;

use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use terminal::Terminal;
use tests::binary::rampage;
use tests::clock;

/// Live where this host allows it, else polling: the table is the same.
fn watch(columns: u16, lines: u16) -> Result<Terminal> {
    let mut probe = Command::new(rampage()?);
    probe.args(["watch", "--plain", "--duration", "100ms"]);
    let source = match probe.output()?.status.code() {
        Some(0) => "live",
        Some(3) => "procfs",
        code => anyhow::bail!("rampage watch --plain ended with {code:?}"),
    };
    let mut command = Command::new(rampage()?);
    command.args(["watch", "--source", source]).env("TERM", "xterm-256color");
    Terminal::start(command, columns, lines)
}

#[test]
fn it_draws_answers_keys_follows_a_resize_and_quits() -> Result<()> {
    let mut terminal = watch(80, 24)?;
    terminal.shows("? help  q quit")?;
    terminal.shows("CGROUP")?;
    ensure!(terminal.is_alternate(), "not on the alternate screen");
    ensure!(!terminal.is_canonical()?, "the terminal is not raw");
    terminal.shows("sort rate")?;
    terminal.press("s")?;
    terminal.shows("sort anon")?;
    terminal.press("r")?;
    terminal.shows("sort anon reversed")?;
    terminal.press("?")?;
    terminal.shows("pause the view; tracing goes on")?;
    terminal.press("x")?;
    terminal.hides("pause the view; tracing goes on")?;
    terminal.press("/no-such-process")?;
    terminal.shows("filter: no-such-process_")?;
    terminal.press("\r")?;
    terminal.shows("no name matches")?;
    terminal.press("p")?;
    terminal.shows("PAUSED")?;
    terminal.press("p/")?;
    terminal.shows("filter: _")?;
    terminal.press("\r")?;
    terminal.hides("PAUSED")?;

    terminal.resize(120, 40)?;
    terminal.shows("MAJFLT/s")?;
    terminal.shows("/ filter  p pause")?;
    terminal.resize(50, 12)?;
    terminal.hides("CGROUP")?;
    terminal.shows("LIMIT%")?;
    terminal.resize(30, 5)?;
    terminal.hides("LIMIT%")?;
    ensure!(terminal.line(1).is_empty(), "a tiny terminal has one line: {:?}", terminal.line(1));

    terminal.press("q")?;
    terminal.ends_well()
}

#[test]
fn it_lists_the_processes_that_are_there() -> Result<()> {
    let mut terminal = watch(120, 40)?;
    let folder = tempfile::tempdir()?;
    // Its name is what it was started as: it must not reach the terminal as it is.
    let program = folder.path().join("evil\x1b]0;pwn\x07");
    symlink("/bin/sleep", &program)?;
    let mut evil = Command::new(&program).arg("60").spawn()?;
    let shown = terminal
        .shows("? help")
        .and_then(|()| terminal.press("/EVIL\r"))
        .and_then(|()| terminal.shows(r"evil\x1b]0;pwn"))
        .and_then(|()| terminal.shows(&evil.id().to_string()));
    evil.kill()?;
    evil.wait()?;
    shown?;
    let wrote = terminal.wrote();
    ensure!(!wrote.windows(4).any(|bytes| bytes == b"\x1b]0;"), "the name steered the terminal");
    terminal.press("\x03")?;
    terminal.ends_well()
}

#[test]
fn sigterm_gives_the_terminal_back() -> Result<()> {
    let mut terminal = watch(80, 24)?;
    terminal.shows("q quit")?;
    terminal.signal(libc::SIGTERM)?;
    terminal.ends_well()
}

#[test]
fn a_terminal_that_stands_still_holds_nothing_up() -> Result<()> {
    let mut terminal = watch(80, 24)?;
    terminal.shows("q quit")?;
    terminal.stop_output()?;
    // Something to draw, which cannot be written.
    terminal.resize(120, 40)?;
    std::thread::sleep(Duration::from_millis(1500));
    let asked = Instant::now();
    terminal.signal(libc::SIGTERM)?;
    let status = terminal
        .wait(clock::patient(Duration::from_secs(5)))
        .context("it hangs on the terminal")?;
    ensure!(status.success(), "{status}");
    ensure!(
        asked.elapsed() < clock::patient(Duration::from_secs(3)),
        "it took {:?}",
        asked.elapsed()
    );
    ensure!(terminal.is_canonical()?, "the terminal is still raw");
    Ok(())
}

#[test]
fn a_terminal_that_cannot_place_its_cursor_gets_plain_lines() -> Result<()> {
    let mut command = Command::new(rampage()?);
    command.args(["watch", "--source", "procfs", "--duration", "2s"]).env("TERM", "dumb");
    let mut terminal = Terminal::start(command, 80, 24)?;
    let status = terminal.wait(clock::patient(Duration::from_secs(10)))?;
    ensure!(status.success(), "{status}");
    terminal.shows("Z  ").context("no line with its time")?;
    ensure!(!terminal.wrote().windows(8).any(|bytes| bytes == b"\x1b[?1049h"));
    Ok(())
}
