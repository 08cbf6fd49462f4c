//! The two clocks of a trace: CLOCK_BOOTTIME, and the wall clock as an offset to it; and the
//! monotonic clock, by which other programs time what they do.

/// CLOCK_BOOTTIME now, ns.
pub fn boot_ns() -> u64 {
    u64::try_from(read_ns(libc::CLOCK_BOOTTIME)).unwrap_or(0)
}

/// CLOCK_MONOTONIC now, ns: stands still while the host sleeps.
pub fn monotonic_ns() -> u64 {
    u64::try_from(read_ns(libc::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// What has to be added to a CLOCK_BOOTTIME time to get ns since 1970-01-01 UTC. It moves when the
/// wall clock is set.
pub fn wall_offset_ns() -> i64 {
    let before = read_ns(libc::CLOCK_BOOTTIME);
    let wall = read_ns(libc::CLOCK_REALTIME);
    let after = read_ns(libc::CLOCK_BOOTTIME);
    wall.saturating_sub(before + (after - before) / 2)
}

fn read_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that lives through the call, which writes nothing else.
    // It cannot fail: both clocks exist since 2.6.39, and the pointer is valid.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    #[allow(clippy::useless_conversion, reason = "both are 32 bits wide on some machines")]
    i64::from(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_with_the_kernel() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime_s: f64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!((boot_ns() as f64 / 1e9 - uptime_s).abs() < 1.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let wall_ns = i64::try_from(boot_ns()).unwrap() + wall_offset_ns();
        assert!((now.as_nanos() as i64 - wall_ns).abs() < 1_000_000_000);
    }
}
