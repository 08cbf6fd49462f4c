//! What this process asks the kernel for itself: memory that is locked as it is touched, and the OOM killer's eye
//! turned elsewhere (both best effort; what was refused is said), and children that do not stay behind.

use std::fs;
use std::io;

/// What could be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Memory is locked (pages are locked when they are first touched).
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
        libc::malloc_trim(0);
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0
    };
    if !locked {
        tracing::debug!("memory is not locked: {}", io::Error::last_os_error());
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
