//! How the values of flags are read; each error says what is wrong and what to write instead.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::{FlameFile, FlameFormat, Speed};
use crate::sink::filter::{comm_regex, reason};

/// Smallest step of growth reports, bytes: below it, reports cost more than they tell.
const MIN_STEP_BYTES: u64 = 64 << 10;
/// Smallest size at which a trace file is rotated, bytes.
const MIN_FILE_BYTES: u64 = 64 << 10;
/// Bounds of the ring buffer, bytes.
const RING_BYTES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;
/// Shortest interval between two ticks.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Where the hierarchy with the memory controller is mounted: v1, v2 beside v1, v2 alone.
pub const HIERARCHIES: [&str; 3] =
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// `4M`, `4MiB`, `256K`, `1048576`: powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no size; try 4M or 256K"))?;
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        unit => return Err(format!("unknown unit `{unit}`; use K, M or G (powers of 1024)")),
    };
    match number.checked_shl(shift).filter(|bytes| bytes >> shift == number) {
        Some(0) => Err("must be more than 0".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("`{text}` is too large")),
    }
}

/// `500ms`, `30s`, `10m`, `2h`, or seconds without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 =
        digits.parse().map_err(|_| format!("`{text}` is no time; try 30s, 10m or 2h"))?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        unit => return Err(format!("unknown unit `{unit}`; use ms, s, m, h or d")),
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) | Err(_) => Err(format!("`{text}` is out of range")),
        Ok(duration) => Ok(duration),
    }
}

/// `max`, `1`, `10x`.
pub fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err(format!("`{text}` is no speed; use max or a number above 0")),
    }
}

/// A file whose ending says what it is to be.
pub fn parse_flame(text: OsString) -> Result<FlameFile, String> {
    let path = PathBuf::from(text);
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => FlameFormat::Svg,
        Some("folded") => FlameFormat::Folded,
        _ => return Err("its name must end in .svg or .folded".to_owned()),
    };
    Ok(FlameFile { path, format })
}

/// A size of at least 64K.
pub fn parse_step(text: &str) -> Result<u64, String> {
    at_least(parse_bytes(text)?, MIN_STEP_BYTES)
}

/// A size of at least 64K.
pub fn parse_max_size(text: &str) -> Result<u64, String> {
    at_least(parse_bytes(text)?, MIN_FILE_BYTES)
}

fn at_least(bytes: u64, least: u64) -> Result<u64, String> {
    if bytes < least {
        return Err(format!("too small; the least is {}K", least >> 10));
    }
    Ok(bytes)
}

/// A power of two of pages.
pub fn parse_ring(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if !bytes.is_power_of_two() || !RING_BYTES.contains(&bytes) {
        return Err("must be a power of two from 4K to 1G".to_owned());
    }
    Ok(bytes)
}

/// A time of at least 100 ms.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < MIN_INTERVAL {
        return Err("too short; the least is 100ms".to_owned());
    }
    Ok(interval)
}

/// A regular expression, kept as its text.
pub fn parse_comm(text: &str) -> Result<String, String> {
    match comm_regex(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let reason = reason(&error);
            Err(format!("{reason}; quote the expression, and escape ()[]{{}}.*+? by \\"))
        }
    }
}

/// The path in the memory hierarchy, whether it was given as such or below the mount point.
pub fn parse_cgroup(text: &str) -> Result<String, String> {
    let given = Path::new(text);
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    // On a pure v2 host `memory` below the mount point is a cgroup like any other.
    let roots = if unified { &HIERARCHIES[2..] } else { &HIERARCHIES[..] };
    let inner = roots.iter().find_map(|root| given.strip_prefix(root).ok()).unwrap_or(given);
    let mut path = String::new();
    for component in inner.components() {
        match component {
            Component::Normal(name) => {
                path.push('/');
                path.push_str(&name.to_string_lossy());
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err("must not contain `..`; give the path from the root".to_owned());
            }
        }
    }
    if text.is_empty() {
        return Err("must not be empty; `/` is the root".to_owned());
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path })
}

/// A path in the hierarchy as one in the file system.
pub fn below(root: &str, path: &str) -> PathBuf {
    Path::new(root).join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_bounded() {
        assert_eq!(parse_bytes("4M"), Ok(4 << 20));
        assert_eq!(parse_bytes("256KiB"), Ok(256 << 10));
        for bad in ["", "M", "4X", "-1", "1.5M", "0", "99999999999G", "4 M", "１K"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_step("64K"), Ok(64 << 10));
        assert!(parse_step("65535").unwrap_err().contains("64K"));
        assert!(parse_ring("4M").is_ok() && parse_ring("3M").is_err() && parse_ring("2G").is_err());
    }

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        for bad in ["", "s", "-1s", "0", "1d", "nan", "inf", "1e300h", "1 s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_interval("99ms").is_err() && parse_interval("100ms").is_ok());
    }

    #[test]
    fn speeds_are_above_0() {
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert_eq!(parse_speed("10x"), Ok(Speed::Times(10.0)));
        assert!(["0", "-1", "nan", "inf", "fast"].iter().all(|bad| parse_speed(bad).is_err()));
    }

    #[test]
    fn the_ending_of_a_flame_graph_says_what_it_is() {
        let format = |text: &str| parse_flame(text.into()).map(|file| file.format);
        assert_eq!(format("/a.b/c.svg"), Ok(FlameFormat::Svg));
        assert_eq!(format("c.folded"), Ok(FlameFormat::Folded));
        for text in ["", "svg", ".svg", "a.svg.gz", "a.txt", "a/.folded/.."] {
            assert!(format(text).is_err_and(|text| text.contains(".svg or .folded")), "{text}");
        }
    }

    #[test]
    fn cgroups_become_paths_in_the_hierarchy() {
        assert_eq!(parse_cgroup("/sys/fs/cgroup/php"), Ok("/php".to_owned()));
        assert_eq!(parse_cgroup("/php//www/"), Ok("/php/www".to_owned()));
        assert_eq!(parse_cgroup("php/./www"), Ok("/php/www".to_owned()));
        assert_eq!(parse_cgroup("/"), Ok("/".to_owned()));
        assert_eq!(parse_cgroup("/sys/fs/cgroup"), Ok("/".to_owned()));
        assert!(parse_cgroup("/a/../b").is_err() && parse_cgroup("").is_err());
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            assert_eq!(parse_cgroup("/sys/fs/cgroup/memory/x"), Ok("/x".to_owned()));
        }
    }

    #[test]
    fn a_bad_expression_is_refused_with_its_reason() {
        assert!(parse_comm("php|nginx").is_ok());
        assert!(parse_comm("(").unwrap_err().contains("unclosed group"));
    }
}
