//! A pseudo-terminal with a program in it, and the screen that it shows: as much of a terminal as
//! full-screen programs need that only move the cursor, clear and print.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tests::clock;

/// Something asked for is on the screen within this time, or it never will be.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program in a terminal; killed when dropped.
pub struct Terminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    screen: Arc<Mutex<Screen>>,
}

impl Terminal {
    /// Starts `command` in a terminal of this size.
    pub fn start(mut command: Command, columns: u16, lines: u16) -> Result<Self> {
        let (master, slave) = open(columns, lines)?;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
        let own_session = || {
            // SAFETY: setsid and ioctl(TIOCSCTTY) are async-signal-safe and take integers only.
            let taken = unsafe { libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 };
            if taken { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: the closure only makes system calls that are allowed between fork and exec.
        unsafe { command.pre_exec(own_session) };
        let child = command.spawn().context("starting it")?;
        let screen = Arc::new(Mutex::new(Screen::new(columns, lines)));
        let (shown, mut output) = (Arc::clone(&screen), master.try_clone()?);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap_or_else(PoisonError::into_inner).take(&bytes[..count]);
            }
        });
        Ok(Self { child, master, slave, screen })
    }

    /// Types.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Waits until `text` is on a line of the screen.
    pub fn shows(&self, text: &str) -> Result<()> {
        self.until(|screen| screen.contains(text)).with_context(|| format!("no {text:?}"))
    }

    /// Waits until `text` is not on the screen.
    pub fn hides(&self, text: &str) -> Result<()> {
        self.until(|screen| !screen.contains(text)).with_context(|| format!("still {text:?}"))
    }

    /// A line of the screen, without blanks at its end.
    pub fn line(&self, number: usize) -> String {
        self.screen().line(number)
    }

    /// Whether the alternate screen is shown.
    pub fn is_alternate(&self) -> bool {
        self.screen().alternate
    }

    /// Everything that was written so far.
    pub fn wrote(&self) -> Vec<u8> {
        self.screen().wrote.clone()
    }

    /// Whether the terminal reads whole lines and echoes, as a shell's does.
    pub fn is_canonical(&self) -> Result<bool> {
        // SAFETY: termios is plain data, for which zeros are valid.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, the settings live until the call returns.
        let read = unsafe { libc::tcgetattr(self.slave.as_raw_fd(), &raw mut settings) };
        ensure!(read == 0, io::Error::last_os_error());
        let wanted = libc::ICANON | libc::ECHO | libc::ISIG;
        Ok(settings.c_lflag & wanted == wanted)
    }

    /// Changes the size, as a window does.
    pub fn resize(&mut self, columns: u16, lines: u16) -> Result<()> {
        // The program's next drawing clears the screen first.
        self.screen().size(columns, lines);
        let size = window(columns, lines);
        // SAFETY: the descriptor is open, the size lives until the call returns.
        let set =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        ensure!(set == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Ctrl-S.
    pub fn stop_output(&self) -> Result<()> {
        // SAFETY: the descriptor is open.
        let stopped = unsafe { libc::tcflow(self.slave.as_raw_fd(), libc::TCOOFF) };
        ensure!(stopped == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: the child is not waited for yet, so its id is its own.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), signal) };
        ensure!(sent == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Waits for the program's end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(started.elapsed() < within, "still running after {within:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends with success, and everything is as it was before.
    pub fn ends_well(&mut self) -> Result<()> {
        let status = self.wait(clock::patient(PATIENCE))?;
        ensure!(status.success(), "{status}; it wrote {}", self.wrote().escape_ascii());
        self.until(|screen| !screen.alternate).context("still on the alternate screen")?;
        ensure!(self.screen().cursor_shown, "the cursor is hidden");
        ensure!(self.is_canonical()?, "the terminal is still raw");
        Ok(())
    }

    fn until(&self, condition: impl Fn(&Screen) -> bool) -> Result<()> {
        let started = Instant::now();
        while !condition(&self.screen()) {
            if started.elapsed() > clock::patient(PATIENCE) {
                bail!("the screen after {PATIENCE:?}:\n{}", self.screen().text());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn screen(&self) -> std::sync::MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn window(columns: u16, lines: u16) -> libc::winsize {
    libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn open(columns: u16, lines: u16) -> Result<(File, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    let size = window(columns, lines);
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors and the size live until the call returns; no name and no settings.
    let opened = unsafe {
        libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), &raw const size)
    };
    ensure!(opened == 0, io::Error::last_os_error());
    for descriptor in [master, slave] {
        // The program is to have the terminal as its standard streams only.
        // SAFETY: fcntl on an open descriptor, with integers.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: openpty has given both descriptors to us alone.
    Ok(unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) })
}

struct Screen {
    cells: Vec<Vec<char>>,
    x: usize,
    y: usize,
    alternate: bool,
    cursor_shown: bool,
    wrote: Vec<u8>,
    /// What is not parsed yet: the begin of a sequence or a character.
    rest: Vec<u8>,
}

impl Screen {
    fn new(columns: u16, lines: u16) -> Self {
        let (wrote, rest, cells) = (Vec::new(), Vec::new(), Vec::new());
        let (x, y, alternate, cursor_shown) = (0, 0, false, true);
        let mut screen = Self { cells, x, y, alternate, cursor_shown, wrote, rest };
        screen.size(columns, lines);
        screen
    }

    fn size(&mut self, columns: u16, lines: u16) {
        self.cells = vec![vec![' '; columns.into()]; lines.into()];
    }

    fn line(&self, number: usize) -> String {
        let line: String = self.cells.get(number).into_iter().flatten().collect();
        line.trim_end().to_owned()
    }

    fn contains(&self, text: &str) -> bool {
        (0..self.cells.len()).any(|number| self.line(number).contains(text))
    }

    fn text(&self) -> String {
        (0..self.cells.len()).map(|number| self.line(number) + "\n").collect()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.wrote.extend_from_slice(bytes);
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut at = 0;
        while at < rest.len() {
            match self.step(&rest[at..]) {
                Some(taken) => at += taken,
                None => break,
            }
        }
        self.rest = rest[at..].to_vec();
    }

    /// Takes one character or sequence; None = it is not complete.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        match bytes {
            [0x1b, b'[', tail @ ..] => {
                let end = tail.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
                self.control(tail[end], &String::from_utf8_lossy(&tail[..end]));
                Some(end + 3)
            }
            [0x1b] => None,
            [0x1b, ..] => Some(2),
            [b'\r', ..] => {
                self.x = 0;
                Some(1)
            }
            [b'\n', ..] => {
                self.y += 1;
                Some(1)
            }
            [0..0x20, ..] => Some(1),
            [first, ..] => {
                let length = match first {
                    0..0x80 => 1,
                    0x80..0xe0 => 2,
                    0xe0..0xf0 => 3,
                    _ => 4,
                };
                let text = String::from_utf8_lossy(bytes.get(..length)?).into_owned();
                for c in text.chars() {
                    if let Some(cell) = self.cells.get_mut(self.y).and_then(|l| l.get_mut(self.x)) {
                        *cell = c;
                    }
                    self.x += 1;
                }
                Some(length)
            }
            [] => None,
        }
    }

    fn control(&mut self, last: u8, parameters: &str) {
        match (last, parameters) {
            (b'H', place) => {
                let (line, column) = place.split_once(';').unwrap_or(("1", "1"));
                self.y = line.parse::<usize>().unwrap_or(1).saturating_sub(1);
                self.x = column.parse::<usize>().unwrap_or(1).saturating_sub(1);
            }
            (b'J', "" | "2" | "0") => self.cells.iter_mut().for_each(|line| line.fill(' ')),
            (b'h', "?1049") => self.alternate = true,
            (b'l', "?1049") => self.alternate = false,
            (b'h', "?25") => self.cursor_shown = true,
            (b'l', "?25") => self.cursor_shown = false,
            _ => {}
        }
    }
}
