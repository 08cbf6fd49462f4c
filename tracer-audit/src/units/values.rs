//! Values as systemd reads them: sizes, shares of the memory, time spans, switches, numbers
//! (src/basic/parse-util.c, percent-util.c, time-util.c of 252).

use super::lines::WHITESPACE;

/// A bound of memory. [`Limit::bytes`] needs to know the memory of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No bound.
    Infinity,
    /// Bytes.
    Bytes(u64),
    /// Ten thousandths of the memory.
    Share(u32),
}

impl Limit {
    /// The bound, bytes, where the host has `total_bytes` of pages of `page_bytes`; None where there is none,
    /// or where it is a share of a memory that is not known (0).
    pub fn bytes(self, total_bytes: u64, page_bytes: u64) -> Option<u64> {
        match self {
            Self::Infinity => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Share(_) if total_bytes == 0 => None,
            Self::Share(share) => {
                let pages = total_bytes / page_bytes.max(1);
                let part = u128::from(pages) * u128::from(share) / 10_000;
                Some(u64::try_from(part).unwrap_or(u64::MAX).saturating_mul(page_bytes))
            }
        }
    }
}

/// `MemoryMax=` and its kin; None where systemd passes the line over.
pub fn limit(text: &str) -> Option<Limit> {
    if text.is_empty() || text == "infinity" {
        return Some(Limit::Infinity);
    }
    match share(text) {
        Some(0) => None,
        Some(share) => Some(Limit::Share(share)),
        None => size(text).filter(|&bytes| bytes > 0 && bytes < u64::MAX).map(Limit::Bytes),
    }
}

/// Ten thousandths: `12.5%`, `125‰`, `1250‱`; None above the whole.
fn share(text: &str) -> Option<u32> {
    let (number, places) = if let Some(number) = text.strip_suffix('%') {
        (number, 2)
    } else if let Some(number) = text.strip_suffix('‰') {
        (number, 1)
    } else {
        (text.strip_suffix('‱')?, 0)
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if places > 0 => (whole, Some(fraction)),
        Some(_) => return None,
        None => (number, None),
    };
    let mut value = integer(whole).filter(|&value| value >= 0)?;
    let mut left = places;
    if let Some(fraction) = fraction {
        if fraction.is_empty()
            || fraction.len() > left
            || !fraction.bytes().all(|byte| byte.is_ascii_digit())
        {
            return None;
        }
        for digit in fraction.bytes() {
            value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
            left -= 1;
        }
    }
    value = value.checked_mul(10_i64.pow(left as u32))?;
    u32::try_from(value).ok().filter(|&value| value <= 10_000)
}

/// A size, base 1024: `1.5G`, `1G 512M`, units in falling order and in capitals only.
pub fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32); 8] =
        [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10), ("B", 0), ("", 0)];
    let mut rest = text;
    let mut sum = 0_u64;
    let mut first_unit = 0;
    loop {
        let (number, after) = whole_number(rest)?;
        let mut after = after;
        let mut fraction = 0.0;
        if let Some(decimals) = after.strip_prefix('.') {
            let length = decimals.bytes().take_while(u8::is_ascii_digit).count();
            let digits = &decimals[..length];
            // More than strtoull() takes is an error there, too.
            let value = if digits.is_empty() { 0 } else { digits.parse::<u64>().ok()? };
            fraction = (0..length).fold(value as f64, |value, _| value / 10.0);
            after = &decimals[length..];
        }
        let after = after.trim_start_matches(WHITESPACE);
        let (index, (name, shift)) = UNITS
            .iter()
            .enumerate()
            .skip(first_unit)
            .find(|(_, (name, _))| after.starts_with(name))?;
        let factor = 1_u64 << shift;
        if number.checked_add(u64::from(fraction > 0.0))? > u64::MAX / factor {
            return None;
        }
        sum = sum.checked_add(number * factor + (fraction * factor as f64) as u64)?;
        rest = &after[name.len()..];
        first_unit = index + 1;
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

/// What strtoull() takes from the front of `text`, without a minus.
fn whole_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let digits = text.strip_prefix('+').unwrap_or(text);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    Some((digits[..length].parse().ok()?, &digits[length..]))
}

/// A time span, microseconds; a bare number is seconds; `u64::MAX` is for ever.
pub fn span_us(text: &str) -> Option<u64> {
    let mut rest = text.trim_start_matches(WHITESPACE);
    if let Some(after) = rest.strip_prefix("infinity") {
        return after.trim_start_matches(WHITESPACE).is_empty().then_some(u64::MAX);
    }
    let mut sum = 0_u64;
    let mut something = false;
    loop {
        rest = rest.trim_start_matches(WHITESPACE);
        if rest.is_empty() {
            return something.then_some(sum);
        }
        // `.5s` is half a second: strtoll() finds no number there, and the point follows.
        let (number, after) = if rest.starts_with('.') { (0, rest) } else { whole_number(rest)? };
        i64::try_from(number).ok()?;
        let (decimals, after) = match after.strip_prefix('.') {
            Some(decimals) => {
                let length = decimals.bytes().take_while(u8::is_ascii_digit).count();
                if length == 0 {
                    return None;
                }
                (&decimals[..length], &decimals[length..])
            }
            None => ("", after),
        };
        let blank = after.trim_start_matches(WHITESPACE);
        let (unit_us, end) = unit_us(blank);
        if end.len() == after.len() && !end.is_empty() {
            return None;
        }
        if number >= u64::MAX / unit_us {
            return None;
        }
        sum = sum.checked_add(number * unit_us).filter(|&sum| sum < u64::MAX)?;
        let mut digit_us = unit_us / 10;
        for digit in decimals.bytes() {
            sum = sum.checked_add(u64::from(digit - b'0') * digit_us)?;
            digit_us /= 10;
        }
        something = true;
        rest = end;
    }
}

/// The unit at the front of `text`, microseconds, and what follows it; seconds where there is none.
fn unit_us(text: &str) -> (u64, &str) {
    const S: u64 = 1_000_000;
    const DAY: u64 = 86_400 * S;
    // The first that fits counts: the longer ones stand first.
    const UNITS: [(&str, u64); 31] = [
        ("seconds", S),
        ("second", S),
        ("sec", S),
        ("s", S),
        ("minutes", 60 * S),
        ("minute", 60 * S),
        ("min", 60 * S),
        ("months", 2_629_800 * S),
        ("month", 2_629_800 * S),
        ("M", 2_629_800 * S),
        ("msec", 1000),
        ("ms", 1000),
        ("m", 60 * S),
        ("hours", 3600 * S),
        ("hour", 3600 * S),
        ("hr", 3600 * S),
        ("h", 3600 * S),
        ("days", DAY),
        ("day", DAY),
        ("d", DAY),
        ("weeks", 7 * DAY),
        ("week", 7 * DAY),
        ("w", 7 * DAY),
        ("years", 31_557_600 * S),
        ("year", 31_557_600 * S),
        ("y", 31_557_600 * S),
        ("usec", 1),
        ("us", 1),
        ("μs", 1),
        ("µs", 1),
        ("", S),
    ];
    let found = UNITS.iter().find_map(|(name, us)| Some((*us, text.strip_prefix(name)?)));
    found.unwrap_or((S, text))
}

/// A switch, as parse_boolean() takes it.
pub fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["1", "yes", "y", "true", "t", "on"]) {
        Some(true)
    } else if is(&["0", "no", "n", "false", "f", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// A whole number as safe_atoi() takes it: with sign, decimal, 0x, 0b, 0o, or octal with a leading zero.
pub fn integer(text: &str) -> Option<i64> {
    let (negative, value) = number(text)?;
    let value = i64::try_from(value).ok()?;
    i32::try_from(if negative { -value } else { value }).ok().map(i64::from)
}

/// A number that is not below zero, as safe_atou() takes it: up to `u32::MAX`.
pub fn unsigned(text: &str) -> Option<u32> {
    let (negative, value) = number(text)?;
    u32::try_from(value).ok().filter(|&value| !negative || value == 0)
}

fn number(text: &str) -> Option<(bool, u64)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).to_ascii_lowercase();
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, &digits[..]),
    };
    // from_str_radix() would take a second sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let value = u64::from_str_radix(digits, base).ok().filter(|_| plain)?;
    Some((negative, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_capital_units_in_falling_order() {
        for (text, expected) in [
            ("1", 1),
            ("1B", 1),
            ("2K", 2048),
            ("1.5G", 3 << 29),
            ("1G 512M", 3 << 29),
            ("1G512M", 3 << 29),
            ("10.M", 10 << 20),
            ("15E", 15 << 60),
            (" 1 G", 1 << 30),
        ] {
            assert_eq!(size(text), Some(expected), "{text:?}");
        }
        for text in
            ["", "k", "1k", "1g", "1GB2", "1KB ", "512M 1G", "-1", "16E", "1G ", "1 G x", "1GiB"]
        {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn limits_are_sizes_shares_or_nothing() {
        assert_eq!(limit(""), Some(Limit::Infinity));
        assert_eq!(limit("infinity"), Some(Limit::Infinity));
        assert_eq!(limit("12.5%"), Some(Limit::Share(1250)));
        assert_eq!(limit("12.55%"), Some(Limit::Share(1255)));
        assert_eq!(limit("125‰"), Some(Limit::Share(1250)));
        assert_eq!(limit("7‱"), Some(Limit::Share(7)));
        for text in ["0", "0%", "101%", "1.555%", "-1%", "18446744073709551615", "Infinity", "8 GB"]
        {
            assert_eq!(limit(text), None, "{text:?}");
        }
        assert_eq!(Limit::Share(5000).bytes(4096 * 3, 4096), Some(4096));
        assert_eq!(Limit::Share(5000).bytes(0, 4096), None);
    }

    #[test]
    fn spans_add_up() {
        for (text, expected) in [
            ("5", 5_000_000),
            ("100ms", 100_000),
            ("1min 30s", 90_000_000),
            ("1.5 h", 5_400_000_000),
            (".5", 500_000),
            ("2M", 5_259_600_000_000),
            ("3 µs", 3),
            ("infinity", u64::MAX),
            ("1s1", 2_000_000),
        ] {
            assert_eq!(span_us(text), Some(expected), "{text:?}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1.",
            "1.s",
            "5 lightyears",
            "1.2.3",
            "infinity x",
            "99999999999999999999",
        ] {
            assert_eq!(span_us(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_may_be_octal() {
        assert_eq!(integer("-0x10"), Some(-16));
        assert_eq!(integer("010"), Some(8));
        assert_eq!(integer("0b11"), Some(3));
        assert_eq!(integer("--1"), None);
        assert_eq!(integer("1 "), None);
        assert_eq!(integer("99999999999"), None);
        assert_eq!(unsigned("+5"), Some(5));
        assert_eq!((unsigned("-5"), unsigned("-0")), (None, Some(0)));
        assert_eq!(boolean("On"), Some(true));
        assert_eq!(boolean("f"), Some(false));
        assert_eq!(boolean(""), None);
    }
}
