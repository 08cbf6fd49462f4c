//! CLOCK_BOOTTIME, the clock of traces, and waiting with a deadline.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Now, CLOCK_BOOTTIME ns.
pub fn boot_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, which is valid for that.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// How many times longer than usual things may take here: `$RAMPAGE_PATIENCE`, or 1. It stretches
/// deadlines, never what shapes a load.
pub fn patience() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| {
        let text = std::env::var("RAMPAGE_PATIENCE").ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
    })
}

/// A deadline as this machine needs it.
pub fn patient(timeout: Duration) -> Duration {
    timeout * patience()
}

/// Asks every 10 ms until there is an answer; fails with `what` after `timeout`, which is stretched
/// by [`patience`].
pub fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let timeout = patient(timeout);
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited {timeout:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
