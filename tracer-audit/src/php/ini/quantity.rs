//! Sizes such as memory_limit, as each version of PHP reads them.

use crate::php::Version;

/// Below this PHP keeps the limit that it had: it has taken so much by the time it reads its files.
pub const LEAST_LIMIT_BYTES: u64 = 2 << 20;

/// No process can have more: 47 bits of address space. A limit above it is none.
const MOST_BYTES: u64 = 1 << 47;

/// A size that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    /// What PHP takes it for; all ones for -1.
    pub value: u64,
    /// Whether PHP (from 8.2 on) warns of it: it does not mean what it seems to.
    pub odd: bool,
}

impl Quantity {
    /// The limit in bytes that it sets; None where it sets none.
    pub fn limit(self) -> Option<u64> {
        (self.value < MOST_BYTES).then_some(self.value)
    }
}

/// Reads `text` as `version` does; the newest, where it is not known.
pub fn parse(text: &str, version: Option<Version>) -> Quantity {
    let text = text.as_bytes();
    match version {
        Some(version) if version < Version::new(8, 2) => old(text),
        _ => new(text),
    }
}

/// Before 8.2: whatever number stands in front, times what the last letter says.
fn old(text: &[u8]) -> Quantity {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    let (negative, digits) = match text.get(start) {
        Some(b'-') => (true, &text[start + 1..]),
        Some(b'+') => (false, &text[start + 1..]),
        _ => (false, &text[start..]),
    };
    let (base, skip) = match digits {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (16, 2),
        [b'0', ..] => (8, 0),
        _ => (10, 0),
    };
    let (number, _, _) = number(&digits[skip..], base);
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let signed = if negative { -number } else { number };
    let factor = text.last().and_then(|&last| factor(last)).unwrap_or(1);
    Quantity { value: signed.wrapping_mul(factor as i64) as u64, odd: false }
}

/// From 8.2 on, unsigned.
fn new(text: &[u8]) -> Quantity {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(*byte)).map_or(start, |last| last + 1);
    let nothing = |odd| Quantity { value: 0, odd };
    let mut rest = &text[start..end];
    if rest.is_empty() {
        return nothing(false);
    }
    let negative = rest[0] == b'-';
    if negative || rest[0] == b'+' {
        rest = &rest[1..];
    }
    if !rest.first().is_some_and(u8::is_ascii_digit) {
        return nothing(true);
    }
    let mut base = if rest[0] == b'0' { 8 } else { 10 };
    if rest[0] == b'0' && !rest.get(1).is_some_and(u8::is_ascii_digit) {
        base = match rest.get(1) {
            None => return nothing(false),
            Some(b'g' | b'G' | b'm' | b'M' | b'k' | b'K') => 8,
            Some(b'x' | b'X') => 16,
            Some(b'o' | b'O') => 8,
            Some(b'b' | b'B') => 2,
            Some(_) => return nothing(true),
        };
        if matches!(rest[1], b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
            rest = &rest[2..];
            let again = matches!(rest, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
            if rest.is_empty() || again || !rest[0].is_ascii_hexdigit() {
                return nothing(true);
            }
        }
    }
    let (mut value, len, mut overflow) = number(rest, base);
    if len == 0 {
        return nothing(true);
    }
    if negative && !overflow {
        if value == 1 && len == rest.len() {
            value = u64::MAX;
        } else {
            overflow = true;
        }
    }
    let blanks = rest[len..].iter().take_while(|byte| is_space(**byte)).count();
    let suffix = &rest[len + blanks..];
    let Some(&last) = suffix.last() else {
        return Quantity { value, odd: overflow };
    };
    let Some(factor) = factor(last) else {
        return Quantity { value, odd: true };
    };
    let odd = overflow || value.checked_mul(factor).is_none() || suffix.len() > 1;
    Quantity { value: value.wrapping_mul(factor), odd }
}

fn factor(suffix: u8) -> Option<u64> {
    match suffix {
        b'g' | b'G' => Some(1 << 30),
        b'm' | b'M' => Some(1 << 20),
        b'k' | b'K' => Some(1 << 10),
        _ => None,
    }
}

/// strtoul(): the number, how many bytes it took, and whether it was too large.
fn number(text: &[u8], base: u32) -> (u64, usize, bool) {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let (mut value, mut len, mut overflow) = (0_u64, 0, false);
    for digit in text.iter().map_while(digit) {
        let next = value.checked_mul(base.into()).and_then(|value| value.checked_add(digit.into()));
        overflow |= next.is_none();
        value = next.unwrap_or(u64::MAX);
        len += 1;
    }
    (if overflow { u64::MAX } else { value }, len, overflow)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn php_8_2_measured_these() {
        let value = |text: &str| parse(text, Some(Version::new(8, 2))).value;
        for (text, bytes) in [
            ("128M", 128 << 20),
            ("-1", u64::MAX),
            ("0", 0),
            ("1e3", 1),
            ("-2", 2),
            ("-1M", 1 << 20),
            ("-1G", 1 << 30),
            ("0x10M", 16 << 20),
            ("0o17M", 15 << 20),
            ("010M", 8 << 20),
            ("0b11M", 3 << 20),
            ("1.5G", 1 << 30),
            ("128MB", 128),
            ("128 M", 128 << 20),
            ("128M ", 128 << 20),
            ("4T", 4),
            ("+64M", 64 << 20),
            ("- 64M", 0),
            ("16E", 16),
            ("17179869184G", 0),
            ("64MK", 64 << 10),
            ("08M", 0),
            ("3 3M", 3 << 20),
            ("0x", 0),
            ("0xM", 0),
            ("", 0),
        ] {
            assert_eq!(value(text), bytes, "{text}");
        }
    }

    #[test]
    fn older_versions_look_at_the_last_letter_only() {
        let value = |text: &str| parse(text, Some(Version::new(7, 4))).value;
        assert_eq!(value("128M"), 128 << 20);
        assert_eq!(value("1.5G"), 1 << 30);
        assert_eq!(value("-1"), u64::MAX);
        assert_eq!(value("0x10M"), 16 << 20);
        assert_eq!(value("x"), 0);
        assert_eq!(parse("-1", None).limit(), None);
        assert_eq!(parse("128M", None).limit(), Some(128 << 20));
    }
}
