//! A child process that lets the kernel count the run time of BPF programs when it is asked to. It is
//! made before the tracer gives its capabilities away, keeps CAP_SYS_ADMIN and no descriptor of the
//! tracer, and reads nothing but single bytes from it.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use aya::sys::{Stats, enable_stats};
use caps::{CapSet, Capability, CapsHashSet};

use super::protect::die_with_parent;

/// Asks for counting to begin, and to end.
const ON: u8 = b'1';
const OFF: u8 = b'0';
/// Its answers to [`ON`].
const DONE: u8 = b'y';
const REFUSED: u8 = b'n';
/// The connection, in the child.
const LINK_FD: libc::c_int = 3;

/// The tracer's end. The child ends when this is dropped, or with the tracer.
#[derive(Debug)]
pub struct Switch {
    link: UnixStream,
}

/// What the child says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel counts.
    On,
    /// Nothing yet.
    Pending,
}

impl Switch {
    /// Leaves the child behind. None = this process may not switch either, or has threads already, which
    /// a fork would not take along.
    pub fn keep() -> Option<Self> {
        let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN);
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        if !may.unwrap_or(false) || threads != 1 {
            return None;
        }
        let (link, theirs) = UnixStream::pair().ok()?;
        link.set_nonblocking(true).ok()?;
        // SAFETY: this is the only thread, so that the child may do whatever this process could; it
        // leaves by _exit alone.
        match unsafe { libc::fork() } {
            -1 => None,
            0 => {
                serve(&theirs);
                // SAFETY: ends the process; nothing of the tracer's is run or written at its end.
                unsafe { libc::_exit(0) }
            }
            _ => Some(Self { link }),
        }
    }

    /// Asks for counting; [`Switch::answer`] tells what came of it.
    pub fn on(&mut self) -> io::Result<()> {
        // An answer that nobody waited for any more is not the one to this.
        let _ = self.link.read(&mut [0; 64]);
        self.link.write_all(&[ON])
    }

    /// What the child said.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut said = [0];
        match self.link.read(&mut said) {
            Ok(1) if said[0] == DONE => Ok(Answer::On),
            Ok(1) => Err(io::ErrorKind::PermissionDenied.into()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Answer::Pending),
            Err(error) => Err(error),
        }
    }

    /// The kernel need not count any more.
    pub fn off(&mut self) {
        if let Err(error) = self.link.write_all(&[OFF]) {
            tracing::debug!("the switch of the kernel's statistics is gone: {error}");
        }
    }
}

/// The child's life.
fn serve(link: &UnixStream) {
    die_with_parent();
    let only = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
    for set in [CapSet::Effective, CapSet::Permitted] {
        if caps::set(None, set, &only).is_err() {
            return;
        }
    }
    // SAFETY: takes integers. No descriptor above the link is used from here on; the locks and sockets
    // of the tracer must not live on in the child.
    let is_alone = unsafe {
        libc::dup2(link.as_raw_fd(), LINK_FD) == LINK_FD
            && libc::syscall(libc::SYS_close_range, LINK_FD + 1, u32::MAX, 0) == 0
    };
    if is_alone {
        answer();
    }
}

/// Does as it is asked until nobody asks any more.
fn answer() {
    let mut counting: Option<OwnedFd> = None;
    while let Some(asked) = read() {
        if asked == OFF {
            counting = None;
            continue;
        }
        counting = enable_stats(Stats::RunTime).ok();
        if !write(if counting.is_some() { DONE } else { REFUSED }) {
            break;
        }
    }
    drop(counting);
}

fn read() -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: `byte` lives through the call, which writes at most one byte.
    let read = unsafe { libc::read(LINK_FD, (&raw mut byte).cast(), 1) };
    (read == 1).then_some(byte)
}

fn write(byte: u8) -> bool {
    // SAFETY: `byte` lives through the call, which reads one byte.
    unsafe { libc::write(LINK_FD, (&raw const byte).cast(), 1) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Switch, UnixStream) {
        let (link, theirs) = UnixStream::pair().unwrap();
        link.set_nonblocking(true).unwrap();
        (Switch { link }, theirs)
    }

    #[test]
    fn answers_are_waited_for_by_nobody() {
        let (mut switch, mut child) = pair();
        switch.on().unwrap();
        assert_eq!(switch.answer().unwrap(), Answer::Pending);
        child.write_all(&[DONE]).unwrap();
        assert_eq!(switch.answer().unwrap(), Answer::On);
        switch.off();
        let mut asked = [0; 2];
        child.read_exact(&mut asked).unwrap();
        assert_eq!(asked, [ON, OFF]);
    }

    #[test]
    fn a_refusal_and_a_late_answer_and_an_end_are_told_apart() {
        let (mut switch, mut child) = pair();
        child.write_all(&[DONE]).unwrap();
        switch.on().unwrap();
        assert_eq!(switch.answer().unwrap(), Answer::Pending);
        child.write_all(&[REFUSED]).unwrap();
        assert_eq!(switch.answer().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(child);
        assert!(switch.on().is_err() || switch.answer().is_err());
    }
}
