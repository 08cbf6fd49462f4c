//! What this process asks the kernel for itself: code that is locked, memory that is locked as it is
//! touched, and the OOM killer's eye turned elsewhere (all best effort; what was refused is said), and
//! children that do not stay behind.

use std::fs;
use std::io;

/// Blocks from this size on are given back when they are freed, and so is the end of the heap.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 128 << 10;

/// What could be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Memory is locked (pages of data are locked when they are first touched).
    pub locked: bool,
    /// oom_score_adj that is in force.
    pub oom_score_adj: i32,
}

/// Has this process killed when its parent ends, however that happens.
pub fn die_with_parent() {
    // SAFETY: prctl(PR_SET_PDEATHSIG) takes integers only and changes nothing but the signal that
    // this process gets.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Locks memory and lowers oom_score_adj as far as allowed. Called after everything large that is
/// needed only once (the kernel's types) was dropped.
pub fn protect() -> Protection {
    // SAFETY: mallopt and malloc_trim only tune the allocator; mlockall takes flags.
    let locked = unsafe {
        #[cfg(target_env = "gnu")]
        {
            // By itself the allocator learns from a large block that was freed once to keep all like it.
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
            libc::malloc_trim(0);
        }
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0
    };
    if !locked {
        tracing::debug!("memory is not locked: {}", io::Error::last_os_error());
    } else if let Err(error) = lock_code() {
        tracing::debug!("code is not locked: {error}");
    }
    // -1000 needs CAP_SYS_RESOURCE.
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-1000") {
        tracing::debug!("oom_score_adj stays as it is: {error}");
    }
    let oom_score_adj = fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Protection { locked, oom_score_adj }
}

/// Brings in all code of this program and locks it; of libraries what has run is locked already, and
/// the rest, a MiB, is hardly called. A page of code that first runs while the host thrashes, such as that
/// of an OOM verdict, would have to be read from the disk that everybody waits for.
fn lock_code() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    // The program lies below its libraries.
    let Some((address, len)) = maps.lines().find_map(code) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // SAFETY: mlock changes nothing in memory, and fails where nothing is mapped.
    match unsafe { libc::mlock(address as *const libc::c_void, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Address and length, bytes, of what a line of /proc/self/maps says is code of a file:
/// `55bc72fc8000-55bc734d9000 r-xp 00488000 fe:00 57852  /usr/bin/rampage`.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let (from, to) = (address(from)?, address(to)?);
    let is_code = words.next()? == "r-xp" && words.nth(3)?.starts_with('/');
    is_code.then(|| (from, to.saturating_sub(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_found() {
        let file = "/usr/bin/rampage (deleted)";
        let line = |rights: &str, file: &str| {
            code(&format!("7f00-8100 {rights} 00488000 fe:00 57852    {file}"))
        };
        assert_eq!(line("r-xp", file), Some((0x7f00, 0x200)));
        assert_eq!(line("r--p", file), None);
        assert_eq!(line("r-xp", "[vdso]"), None);
        assert_eq!(line("r-xp", ""), None);
        assert_eq!(code("what is this?"), None);
    }
}
