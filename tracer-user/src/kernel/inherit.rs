//! What a process gets from the one that started it: open files at agreed numbers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that were taken, a bit each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes the open file `fd` (0 to 63) over, and keeps it from what this process will run. Fails when it
/// is not open, or was taken before. To be called before anything else is opened.
pub fn take(fd: RawFd) -> io::Result<OwnedFd> {
    let bit = u32::try_from(fd).ok().and_then(|fd| 1u64.checked_shl(fd));
    let bit = bit.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: F_SETFD takes integers only, and fails on a number that is not open.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: it is open, as fcntl saw, and given out once only, as TAKEN sees to; by contract nothing
    // else has opened it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What `command` starts can be killed by the OOM killer like any other process, whatever this one is
/// protected by, and ends with this process.
pub fn unprotect(command: &mut Command) {
    // SAFETY: between fork and exec only system calls that are safe there are made, without allocation.
    unsafe {
        command.pre_exec(|| {
            super::protect::die_with_parent();
            let path = c"/proc/self/oom_score_adj".as_ptr();
            let file = libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC);
            if file >= 0 {
                libc::write(file, c"0".as_ptr().cast(), 1);
                libc::close(file);
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::IntoRawFd;

    #[test]
    fn an_open_file_is_taken_once() {
        let fd = fs::File::open("/proc/self/status").unwrap().into_raw_fd();
        let owned = take(fd).unwrap();
        assert!(take(fd).is_err());
        drop(owned);
        assert!(take(63).is_err() && take(64).is_err() && take(-1).is_err());
    }

    #[test]
    fn a_child_is_not_protected() {
        let mut command = Command::new("/bin/cat");
        command.arg("/proc/self/oom_score_adj");
        unprotect(&mut command);
        assert_eq!(command.output().unwrap().stdout, b"0\n");
    }
}
