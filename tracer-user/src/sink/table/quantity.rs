//! How names and quantities look in a cell: short, of bounded width, and safe for a terminal.

use crate::text::{fit, printable};

/// Bytes in at most five characters: `0`, `512K`, `1.5M`, `123M`, `4.0G`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes == 0 {
        return "0".to_owned();
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match UNITS[unit] {
        "K" => format!("{:.0}K", value.max(1.0)),
        suffix if value < 9.95 => format!("{value:.1}{suffix}"),
        suffix => format!("{value:.0}{suffix}"),
    }
}

/// Bytes per second, signed: `+20M/s`; less than 512 B/s either way is `0`.
pub(super) fn rate(bytes_per_s: f64) -> String {
    if !bytes_per_s.is_finite() || bytes_per_s.abs() < 512.0 {
        return "0".to_owned();
    }
    let sign = if bytes_per_s < 0.0 { '-' } else { '+' };
    format!("{sign}{}/s", bytes(bytes_per_s.abs() as u64))
}

/// Seconds in at most four characters: `5.2s`, `42s`, `12m`, `5h`, `9d`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 99.5 => format!("{s:.0}s"),
        s if s < 99.5 * 60.0 => format!("{:.0}m", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.0}h", s / 3600.0),
        s if s < 999.0 * 86_400.0 => format!("{:.0}d", s / 86_400.0),
        _ => "-".to_owned(),
    }
}

/// A share as a whole percentage: `78%`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}%", (share * 100.0).clamp(0.0, 999.0))
}

/// Time of day in UTC of `wall_ns` (ns since 1970): `12:03:04`.
pub(super) fn time_of_day(wall_ns: i64) -> String {
    let second = wall_ns.div_euclid(1_000_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// At most `chars` characters of `text`, with escapes for all that could steer a terminal.
pub(super) fn clean(text: &str, chars: usize) -> String {
    let end = text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    printable(&text[..end]).into_owned()
}

/// The beginning of a text, with `..` for what was cut; `text` is clean.
pub(super) fn head(text: &str, columns: usize) -> String {
    if crate::text::columns(text) <= columns {
        return text.to_owned();
    }
    let cut = fit(text, columns.saturating_sub(1));
    let kept = cut.trim_end_matches('\u{2026}');
    format!("{kept}..").chars().take(columns).collect()
}

/// The end of a path: whole components, with `..` for what was cut, or, when not even the last one
/// fits, its beginning, which is what names a unit or a container.
pub(super) fn tail(path: &str, chars: usize) -> String {
    if path.chars().count() <= chars {
        return path.to_owned();
    }
    let room = chars.saturating_sub(2);
    let fits = |at: &usize| path[*at..].chars().count() <= room;
    match path.match_indices('/').map(|(at, _)| at).find(fits) {
        Some(at) => format!("..{}", &path[at..]),
        None => path.rsplit('/').next().unwrap_or(path).chars().take(chars).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_within_five_characters() {
        let shown: Vec<String> =
            [0, 1, 4096, 1023 << 10, 1 << 20, 10 << 20, 1023 << 20, 5 << 30, u64::MAX]
                .map(bytes)
                .to_vec();
        assert_eq!(
            shown,
            ["0", "1K", "4K", "1023K", "1.0M", "10M", "1023M", "5.0G", "16384P"].map(str::to_owned)
        );
        for bits in 0..60 {
            for near in [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                assert!(bytes(near).len() <= 5, "{near}: {}", bytes(near));
            }
        }
    }

    #[test]
    fn rates_and_times() {
        assert_eq!(rate(20.0 * 1_048_576.0), "+20M/s");
        assert_eq!(rate(-1_048_576.0), "-1.0M/s");
        assert_eq!([rate(3.0), rate(f64::NAN)], ["0", "0"]);
        let shown = [5.2, 9.96, 42.0, 100.0, 7200.0, 90_000.0, 9e5, 1e12, f64::INFINITY];
        assert_eq!(
            shown.map(seconds),
            ["5.2s", "10s", "42s", "2m", "2h", "25h", "10d", "-", "-"].map(str::to_owned)
        );
        assert_eq!(seconds(7200.0 - 1300.0), "98m");
        assert_eq!(time_of_day(1_700_000_000_000_000_000), "22:13:20");
        assert_eq!(time_of_day(-1), "23:59:59");
    }

    #[test]
    fn hostile_names_are_tamed() {
        assert_eq!(clean("a\x1b[31mb\u{202e}c", 99), r"a\x1b[31mb\u{202e}c");
        assert_eq!(clean("東\n京", 2), r"東\n");
        assert_eq!(clean("abcdef", 3), "abc");
    }

    #[test]
    fn the_end_of_a_path_tells_most() {
        let path = "/system.slice/php.service";
        assert_eq!(tail(path, 25), path);
        assert_eq!(tail(path, 24), "../php.service");
        assert_eq!(tail(path, 14), "../php.service");
        assert_eq!(tail(path, 13), "php.service");
        assert_eq!(tail(path, 4), "php.");
        assert_eq!([tail("/a", 2), tail("/abc", 1), tail("/é東京/x", 4)], ["/a", "a", "../x"]);
        assert_eq!(tail("/a", 0), "");
    }
}
