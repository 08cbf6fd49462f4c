//! Counters in a file that a hog and its test both map: what the hog touched stays known after a
//! SIGKILL.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 8;

/// What is counted.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Slot {
    /// Anonymous bytes that the hog (all its threads) has touched and not freed.
    Anon,
    /// Shared memory, likewise.
    Shmem,
    /// Mapped file pages, likewise.
    File,
    /// Bytes of any kind that its children touched, less what they freed themselves.
    ChildBytes,
    /// Children started, by it and its children.
    Forks,
    /// Children whose end was waited for.
    Reaped,
}

/// The mapped counters; live until the process ends.
#[derive(Debug)]
pub struct Counters([AtomicU64; SLOTS]);

impl Counters {
    /// Maps the counters in `path`, which is made when missing.
    pub fn map(path: &Path) -> io::Result<&'static Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(size_of::<Self>() as u64)?;
        Self::share(Some(&file))
    }

    /// Counters that only this process and its children see.
    pub fn anonymous() -> io::Result<&'static Self> {
        Self::share(None)
    }

    fn share(file: Option<&File>) -> io::Result<&'static Self> {
        let anonymous = if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
        // SAFETY: a new shared mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | anonymous,
                file.map_or(-1, AsRawFd::as_raw_fd),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is page aligned, as long as Self, never unmapped, and any bits are
        // valid atomics; all access from both processes is atomic.
        Ok(unsafe { &*address.cast::<Self>() })
    }

    /// One counter.
    pub fn slot(&self, slot: Slot) -> &AtomicU64 {
        &self.0[slot as usize]
    }

    /// Its value now.
    pub fn get(&self, slot: Slot) -> u64 {
        self.slot(slot).load(Ordering::Relaxed)
    }
}
