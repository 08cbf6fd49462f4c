//! Hostile text: what the kernel, /proc and trace files gave, made safe and short enough for a
//! terminal. Owns no layout and no colours.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use unicode_width::UnicodeWidthChar;

/// Longest text that [`lossy`] returns, bytes; what is longer is cut.
pub const MAX_TEXT_BYTES: usize = 4096;

/// `text` with everything that could steer a terminal or deceive its reader (control characters,
/// bidirectional overrides, zero-width and invisible characters) as visible escapes: `\n`, `\x1b`,
/// `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_deceptive) else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => push(&mut out, format_args!("\\x{:02x}", u32::from(c))),
            c if is_deceptive(c) => push(&mut out, format_args!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// `text` cut to `columns` of a terminal; what was cut is shown by `…`. Expects [`printable`] text:
/// a control character counts as one column.
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    let mut used = 0;
    let mut keep = 0;
    for (at, c) in text.char_indices() {
        let width = c.width().unwrap_or(1);
        if used + width > columns {
            let mut cut = String::with_capacity(keep + 3);
            if columns > 0 {
                cut.push_str(&text[..keep]);
                cut.push('…');
            }
            return Cow::Owned(cut);
        }
        used += width;
        // A later cut must leave one column for the ellipsis.
        if used < columns {
            keep = at + c.len_utf8();
        }
    }
    Cow::Borrowed(text)
}

/// Columns that [`printable`] text takes on a terminal.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(1)).sum()
}

/// Bytes up to the first NUL as text: invalid UTF-8 becomes U+FFFD, and what is longer than
/// [`MAX_TEXT_BYTES`] is cut at a character.
pub fn lossy(bytes: &[u8]) -> Arc<str> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.len() <= MAX_TEXT_BYTES
    {
        return text.into();
    }
    let mut out = String::with_capacity(bytes.len().min(MAX_TEXT_BYTES));
    for chunk in bytes.utf8_chunks() {
        let room = MAX_TEXT_BYTES - out.len();
        let valid = chunk.valid();
        out.push_str(&valid[..valid.floor_char_boundary(room)]);
        let replaced = !chunk.invalid().is_empty();
        if valid.len() > room || (replaced && out.len() + 3 > MAX_TEXT_BYTES) {
            break;
        }
        if replaced {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    out.into()
}

/// `3.1 GiB`: powers of 1024.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// `1,203`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `+3.1 MiB/s`: bytes per second, with its sign.
pub fn rate(bytes_per_s: f64) -> String {
    let sign = if bytes_per_s < 0.0 { '-' } else { '+' };
    format!("{sign}{}/s", bytes(bytes_per_s.abs() as u64))
}

/// `4.2 s`, `3 min`, `2.5 h`.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn push(out: &mut String, escape: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(escape);
}

/// Control and format characters, invisible fillers, line separators, tags, private use.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_leaves_plain_text_alone() {
        assert!(matches!(printable("php-fpm: pool größe 東京"), Cow::Borrowed(_)));
    }

    #[test]
    fn printable_escapes_whatever_steers_a_terminal() {
        assert_eq!(printable("a\x1b[31m\x07\x7f"), "a\\x1b[31m\\x07\\x7f");
        assert_eq!(printable("x\n\r\ty"), "x\\n\\r\\ty");
        assert_eq!(printable("\u{9b}2J \u{202e}cod.exe \u{200b}\u{feff}"), {
            "\\u{9b}2J \\u{202e}cod.exe \\u{200b}\\u{feff}"
        });
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let text = c.to_string();
            let shown = printable(&text);
            assert!(!shown.chars().any(is_deceptive), "{:x}", u32::from(c));
            assert!(!shown.chars().any(|c| c.width().is_none()), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn fit_counts_columns_not_bytes() {
        assert_eq!(fit("short", 5), "short");
        assert_eq!(fit("longer", 5), "long…");
        assert_eq!(fit("東京都", 6), "東京都");
        assert_eq!(fit("東京都", 5), "東京…");
        assert_eq!(fit("東京都", 4), "東…");
        assert_eq!(fit("x", 0), "");
        assert_eq!(fit("xy", 1), "…");
        for width in 0..12 {
            assert!(columns(&fit("a東b京c都d", width)) <= width);
        }
    }

    #[test]
    fn lossy_stops_at_nul_and_replaces_what_is_no_text() {
        assert_eq!(&*lossy(b"php-fpm\0\0junk"), "php-fpm");
        assert_eq!(&*lossy(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
        assert_eq!(&*lossy(b""), "");
    }

    #[test]
    fn lossy_is_bounded_and_cuts_at_a_character() {
        let long = lossy("é".repeat(5000).as_bytes());
        assert_eq!(long.len(), MAX_TEXT_BYTES);
        let odd = lossy(format!("x{}", "é".repeat(5000)).as_bytes());
        assert_eq!(odd.len(), MAX_TEXT_BYTES - 1);
        assert!(odd.chars().skip(1).all(|c| c == 'é'));
        let noise = lossy(&[0xff; 9000]);
        assert!(noise.len() <= MAX_TEXT_BYTES && noise.chars().all(|c| c == '\u{fffd}'));
    }

    #[test]
    fn units_are_powers_of_1024() {
        let told = [0, 12, 123, 1203, 1_234_567].map(thousands);
        assert_eq!(told, ["0", "12", "123", "1,203", "1,234,567"]);
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(rate(-1048576.0), "-1.0 MiB/s");
        assert_eq!(seconds(59.6), "60 s");
        assert_eq!(seconds(600.0), "10 min");
    }
}
