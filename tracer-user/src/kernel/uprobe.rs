//! Breakpoints in programs (uprobes): one program of ours at one place of one file, for every process
//! that has the file mapped, now or later. Made by hand because aya attaches none with a semaphore.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::enrich::file::read_word;

/// What the kernel says of its uprobes (4.17; the semaphore 4.20).
const PMU: &str = "/sys/bus/event_source/devices/uprobe";
const SET_BPF: libc::c_ulong = 0x4004_2408;
const ENABLE: libc::c_ulong = 0x2400;
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY: libc::__fsword_t = 0x794c_7630;

/// `struct perf_event_attr` of include/uapi/linux/perf_event.h, its second version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    path: u64,
    offset: u64,
}
const _: () = assert!(size_of::<Attributes>() == 72);

/// This kernel's uprobes.
#[derive(Clone, Copy, Debug)]
pub struct Uprobes {
    kind: u32,
    semaphores: bool,
}

/// A breakpoint; dropping it removes it.
#[derive(Debug)]
pub struct Uprobe {
    _event: OwnedFd,
}

impl Uprobes {
    /// None = this kernel has none.
    pub fn detect() -> Option<Self> {
        let kind = read_word(format!("{PMU}/type")).ok()?.parse().ok()?;
        let format = read_word(format!("{PMU}/format/ref_ctr_offset"));
        Some(Self { kind, semaphores: format.is_ok_and(|bits| bits == "config:32-63") })
    }

    /// Runs `program` wherever a process comes to `offset` of `file`. `semaphore`: where in the file
    /// the counter of those who listen is; it is raised in every process as long as this lives. Waits
    /// for the mmap_lock of each process that has the file mapped.
    pub fn attach(
        self,
        program: BorrowedFd<'_>,
        file: &File,
        offset: u64,
        semaphore: Option<u64>,
    ) -> io::Result<Uprobe> {
        let counter = match semaphore {
            None => 0,
            Some(at) if self.semaphores => u32::try_from(at).map_err(io::Error::other)?,
            Some(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let attributes = Attributes {
            kind: self.kind,
            size: size_of::<Attributes>() as u32,
            config: u64::from(counter) << 32,
            path: path.as_ptr() as u64,
            offset,
            ..Attributes::default()
        };
        // SAFETY: the kernel reads `size` bytes of the attributes and the path that they lead to;
        // the other arguments are numbers: all processes, CPU 0 (a program runs on every one).
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                -1,
                0,
                -1,
                CLOSE_ON_EXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the call has just opened it for us.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        for (request, argument) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
            // SAFETY: both requests take a number.
            if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Uprobe { _event: event })
    }
}

/// Whether a file is seen through an overlay, as those of containers are: then it is the file of a
/// layer that runs, which other overlays may share.
pub fn is_on_overlay(file: &File) -> bool {
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel fills the struct when it returns 0.
    unsafe {
        libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) == 0
            && found.assume_init_ref().f_type == OVERLAY
    }
}
