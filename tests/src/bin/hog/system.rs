//! The hog's system calls.

use std::ffi::CString;

/// Says what failed and why, and ends the process.
pub fn fail(what: &str) -> ! {
    let line = format!("hog: {what}: {}\n", std::io::Error::last_os_error());
    // SAFETY: the buffer is valid for its length, and _exit does not return.
    unsafe {
        libc::write(2, line.as_ptr().cast(), line.len());
        libc::_exit(99)
    }
}

/// New zeroed memory of `len` bytes, private and anonymous, or that of `fd`.
pub fn map(len: usize, fd: i32) -> *mut u8 {
    map_with(len, fd, 0)
}

/// The same with more flags.
pub fn map_with(len: usize, fd: i32, more: i32) -> *mut u8 {
    let flags =
        more | if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
    let mapping = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, 0) };
    if mapping == libc::MAP_FAILED {
        fail("mmap");
    }
    mapping.cast()
}

/// `SIGNAL:PID`: sends it.
pub fn send(argument: &str) {
    let numbers = argument.split_once(':').map(|(signal, pid)| (signal.parse(), pid.parse()));
    let Some((Ok(signal), Ok(pid))) = numbers else { fail("kill:SIGNAL:PID") };
    // SAFETY: kill has no memory effects.
    unsafe { libc::kill(pid, signal) };
}

/// A memfd of `len` bytes.
pub fn memfd(len: usize) -> i32 {
    // SAFETY: the name is a NUL-terminated literal; both results are checked.
    let fd = unsafe { libc::memfd_create(c"hog".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: fd was just opened here (or is -1, which ftruncate refuses).
    if unsafe { libc::ftruncate(fd, len as libc::off_t) } != 0 {
        fail("memfd");
    }
    fd
}

/// Sets the name of this thread, which may hold any bytes but NUL.
pub fn set_comm(name: &[u8]) {
    let Ok(name) = CString::new(name) else { fail("comm holds a NUL") };
    // SAFETY: PR_SET_NAME reads at most 16 bytes of a NUL-terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Reads a line from standard input; ends the process when the test is gone.
pub fn wait_for_line() {
    let mut byte = [0_u8; 1];
    // SAFETY: reads one byte into a buffer of one byte.
    while unsafe { libc::read(0, byte.as_mut_ptr().cast(), 1) } == 1 {
        if byte[0] == b'\n' {
            return;
        }
    }
    // SAFETY: _exit does not return; the test is gone.
    unsafe { libc::_exit(0) }
}
