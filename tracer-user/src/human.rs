//! Numbers and names in the words of a sentence: sizes, rates, durations, and names made safe to
//! print. Whole lines of output are laid out elsewhere.

use std::borrow::Cow;

/// Longest name in a sentence, characters.
const NAME_CHARS: usize = 64;

/// A size in binary units with three significant digits: `48.2 MiB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, "")
}

/// A rate, bytes per second: `48.2 MiB/s`. What is no finite number is `0 B/s`.
pub fn rate(bytes_per_s: f64) -> String {
    scaled(if bytes_per_s.is_finite() { bytes_per_s } else { 0.0 }, "/s")
}

/// A duration: `0.31 s`, `1.6 s`, `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn seconds(seconds: f64) -> String {
    let s = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    if s < 0.995 {
        return format!("{s:.2} s");
    }
    if s < 9.95 {
        return format!("{s:.1} s");
    }
    let whole = s.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => pair(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => pair(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => pair(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

/// A name that cannot harm a terminal or a sentence: control, bidirectional and invisible
/// characters become `\u{…}` escapes, and what is longer than 64 characters ends in `…`.
pub fn name(name: &str) -> Cow<'_, str> {
    if name.is_empty() {
        return Cow::Borrowed("?");
    }
    if name.len() <= NAME_CHARS && !name.chars().any(is_hostile) {
        return Cow::Borrowed(name);
    }
    let mut safe = String::with_capacity(name.len().min(4 * NAME_CHARS));
    let mut used = 0;
    for c in name.chars() {
        let escaped = is_hostile(c).then(|| c.escape_unicode());
        let width = escaped.as_ref().map_or(1, |e| e.len());
        if used + width > NAME_CHARS - 1 {
            safe.push('…');
            break;
        }
        match escaped {
            Some(escape) => safe.extend(escape),
            None => safe.push(c),
        }
        used += width;
    }
    Cow::Owned(safe)
}

fn scaled(value: f64, suffix: &str) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = value;
    let mut unit = 0;
    // What would be rounded to 1024 is 1 of the next unit.
    while scaled.abs() >= 1023.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = match scaled.abs() {
        _ if unit == 0 || scaled.fract() == 0.0 => 0,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {}{suffix}", UNITS[unit])
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.50 KiB"),
            (256 << 20, "256 MiB"),
            (50_541_363, "48.2 MiB"),
            (1_072_693_249, "1023 MiB"),
            ((1 << 30) - 1, "1.00 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn rates_are_finite() {
        assert_eq!(rate(50_541_363.0), "48.2 MiB/s");
        assert_eq!(rate(-2048.0), "-2 KiB/s");
        assert_eq!(rate(f64::NAN), "0 B/s");
        assert_eq!(rate(f64::INFINITY), "0 B/s");
    }

    #[test]
    fn durations_are_short() {
        for (s, text) in [
            (0.0, "0.00 s"),
            (0.312, "0.31 s"),
            (0.999, "1.0 s"),
            (1.62, "1.6 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (200.0, "3 min 20 s"),
            (3600.0, "1 h"),
            (7500.0, "2 h 5 min"),
            (273_600.0, "3 d 4 h"),
            (f64::INFINITY, "0.00 s"),
            (-1.0, "0.00 s"),
        ] {
            assert_eq!(seconds(s), text);
        }
    }

    #[test]
    fn names_are_harmless_and_bounded() {
        assert!(matches!(name("php-fpm8.2"), Cow::Borrowed("php-fpm8.2")));
        assert_eq!(name(""), "?");
        assert_eq!(name("a\x1b[31m\nb"), "a\\u{1b}[31m\\u{a}b");
        assert_eq!(name("x\u{202e}y\u{9b}"), "x\\u{202e}y\\u{9b}");
        for long in ["é".repeat(4096), "\x1b".repeat(4096), "x".repeat(65)] {
            let safe = name(&long);
            assert!(safe.chars().count() <= NAME_CHARS, "{safe}");
            assert!(safe.ends_with('…') && !safe.chars().any(is_hostile));
        }
    }
}
