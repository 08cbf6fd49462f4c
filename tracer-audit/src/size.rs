//! Sizes in sentences.

/// `3.1 GiB`: powers of 1024, one decimal below 100.
pub fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_are_short() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(128 << 20), "128 MiB");
        assert_eq!(human(8 << 30), "8 GiB");
        assert_eq!(human((3 << 30) + (100 << 20)), "3.1 GiB");
        assert_eq!(human(u64::MAX), "16 EiB");
    }
}
