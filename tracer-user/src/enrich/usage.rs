//! What one of rampage's own processes uses, from its files in /proc.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::clock;
use super::file::{self, BUFFER_BYTES, number};

/// Clock ticks of /proc per second: USER_HZ is 100 on every machine that Linux has BPF for.
const TICKS_PER_S: f64 = 100.0;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time in user space, s.
    pub user_s: f64,
    /// CPU time in the kernel, s.
    pub system_s: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Its highest.
    pub peak_bytes: u64,
    /// Locked address space.
    pub locked_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, s since 1970-01-01 UTC.
    pub started_s: f64,
}

impl Usage {
    /// Of this process.
    pub fn of_self() -> io::Result<Self> {
        let usage = Self::read(Path::new("/proc/self"))?;
        // Less the one of the folder that was read.
        Ok(Self { open_fds: usage.open_fds.saturating_sub(1), ..usage })
    }

    /// Of another process of the same user, or with CAP_SYS_PTRACE.
    pub fn of(tgid: u32) -> io::Result<Self> {
        Self::read(&PathBuf::from(format!("/proc/{tgid}")))
    }

    fn read(folder: &Path) -> io::Result<Self> {
        let mut buffer = [0; BUFFER_BYTES];
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let stat = file::read(folder.join("stat"), &mut buffer)?;
        let [user, system, start] = times(stat).ok_or_else(malformed)?;
        let mut usage = Self {
            user_s: user as f64 / TICKS_PER_S,
            system_s: system as f64 / TICKS_PER_S,
            started_s: start as f64 / TICKS_PER_S + clock::wall_offset_ns() as f64 / 1e9,
            open_fds: fs::read_dir(folder.join("fd"))?.count() as u64,
            ..Self::default()
        };
        let status = file::read(folder.join("status"), &mut buffer)?;
        for line in status.split(|byte| *byte == b'\n') {
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let (Some(name), Some(value)) = (words.next(), words.next().and_then(number)) else {
                continue;
            };
            match name {
                b"VmRSS:" => usage.resident_bytes = value << 10,
                b"VmHWM:" => usage.peak_bytes = value << 10,
                b"VmLck:" => usage.locked_bytes = value << 10,
                b"Threads:" => usage.threads = value,
                _ => {}
            }
        }
        Ok(usage)
    }
}

/// utime, stime and starttime (fields 14, 15 and 22 of proc_pid_stat(5)), clock ticks.
fn times(stat: &[u8]) -> Option<[u64; 3]> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words = stat[close + 1..].split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
    // Field 3 is the first word.
    let user = number(words.nth(14 - 3)?)?;
    let system = number(words.next()?)?;
    Some([user, system, number(words.nth(22 - 16)?)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = b"7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 11 12 13 14 20 0 3 0 98765 1 2";
        assert_eq!(times(stat), Some([11, 12, 98765]));
        assert_eq!(times(b"7 (a) S 1 2"), None);
        assert_eq!(times(b""), None);
    }

    #[test]
    fn this_process_is_alive_and_uses_something() {
        let before = Usage::of_self().unwrap();
        let held: Vec<_> =
            (0..8).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let usage = Usage::of(std::process::id()).unwrap();
        drop(held);
        assert!(usage.resident_bytes > 1 << 20 && usage.peak_bytes >= usage.resident_bytes);
        assert!(usage.threads >= 2 && usage.open_fds >= 8 + 3, "{usage:?} {before:?}");
        let now_s = clock::wall_offset_ns() as f64 / 1e9 + clock::boot_ns() as f64 / 1e9;
        assert!(usage.started_s <= now_s && usage.started_s > now_s - 3600.0, "{usage:?}");
    }
}
