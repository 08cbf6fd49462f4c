//! Every directive of redis.conf of Redis 7.0, what values it takes, and how it keeps them (src/config.c).

use std::collections::HashMap;
use std::sync::LazyLock;

/// `name[,alias] kind default [low high] [unsigned]`, a directive a line.
const TABLE: &str = include_str!("directives.txt");

/// A directive.
#[derive(Debug, PartialEq, Eq)]
pub struct Directive {
    /// As `CONFIG GET` has it.
    pub name: &'static str,
    alias: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value when nobody gives one; empty for texts and lists.
    pub default: &'static str,
}

/// What a directive takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// One word.
    Text,
    /// Any number of words.
    Words,
    /// One of these, some of them another name of one: `relative=yes`.
    One(&'static str),
    /// A number between bounds.
    Number(Number),
}

/// A number of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    unit: Unit,
    low: i128,
    high: i128,
    unsigned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Plain,
    Octal,
    Memory,
    MemoryOrShare,
}

/// Why redis refuses a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not `yes`, not `no`.
    #[error("it takes yes or no")]
    Bool,
    /// None of a list.
    #[error("it takes one of {0}")]
    One(&'static str),
    /// No number, or no unit.
    #[error("it takes a number")]
    Number,
    /// No memory size.
    #[error("it takes bytes, or a number with one of the units b, k, kb, m, mb, g, gb")]
    Memory,
    /// Outside of its bounds.
    #[error("the number is out of its bounds")]
    Bounds,
}

static DIRECTIVES: LazyLock<Vec<Directive>> =
    LazyLock::new(|| TABLE.lines().filter_map(directive).collect());

fn directive(line: &'static str) -> Option<Directive> {
    let mut fields = line.split(' ');
    let (name, alias) = match fields.next()?.split_once(',') {
        Some(names) => names,
        None => (line.split(' ').next()?, ""),
    };
    let kind = fields.next()?;
    let default = fields.next().unwrap_or_default();
    let kind = match kind {
        "bool" => Kind::Bool,
        "text" => Kind::Text,
        "words" => Kind::Words,
        "one" => Kind::One(fields.next()?),
        kind => Kind::Number(Number {
            unit: match kind {
                "octal" => Unit::Octal,
                "memory" => Unit::Memory,
                "share" => Unit::MemoryOrShare,
                _ => Unit::Plain,
            },
            low: fields.next()?.parse().ok()?,
            high: fields.next()?.parse().ok()?,
            unsigned: fields.next() == Some("unsigned"),
        }),
    };
    Some(Directive { name, alias, kind, default })
}

/// All of them.
pub fn all() -> &'static [Directive] {
    &DIRECTIVES
}

/// By name and alias.
static INDEX: LazyLock<HashMap<&'static str, &'static Directive>> = LazyLock::new(|| {
    let names = DIRECTIVES.iter().flat_map(|one| [(one.name, one), (one.alias, one)]);
    names.filter(|(name, _)| !name.is_empty()).collect()
});

/// The directive of this name or alias, in any case.
pub fn find(name: &str) -> Option<&'static Directive> {
    INDEX.get(name.to_ascii_lowercase().as_str()).copied()
}

impl Kind {
    /// The value as redis keeps and shows it.
    ///
    /// # Errors
    ///
    /// See [`ValueError`].
    pub fn value(self, word: &str) -> Result<String, ValueError> {
        match self {
            Self::Bool => match word.to_ascii_lowercase().as_str() {
                "yes" => Ok("yes".to_owned()),
                "no" => Ok("no".to_owned()),
                _ => Err(ValueError::Bool),
            },
            Self::Text | Self::Words => Ok(word.to_owned()),
            Self::One(names) => {
                let mut parts =
                    names.split('|').map(|part| part.split_once('=').unwrap_or((part, part)));
                let found = parts.find(|(name, _)| name.eq_ignore_ascii_case(word));
                found.map(|(_, kept)| kept.to_owned()).ok_or(ValueError::One(names))
            }
            Self::Number(number) => number.value(word),
        }
    }
}

impl Number {
    fn value(self, word: &str) -> Result<String, ValueError> {
        let number = match self.unit {
            Unit::Plain => integer(word).ok_or(ValueError::Number)?,
            Unit::Octal => octal(word).ok_or(ValueError::Number)?,
            // Kept as a signed number of 64 bits.
            Unit::Memory => memory(word).ok_or(ValueError::Memory)?.cast_signed(),
            Unit::MemoryOrShare => match (memory(word), word.strip_suffix('%').and_then(integer)) {
                (Some(bytes), _) => bytes.cast_signed(),
                (None, Some(share)) if share >= 0 => -share,
                _ => return Err(ValueError::Memory),
            },
        };
        let compared = match self.unsigned {
            true => i128::from(number.cast_unsigned()),
            false => i128::from(number),
        };
        if compared < self.low || compared > self.high {
            return Err(ValueError::Bounds);
        }
        Ok(match self.unit {
            Unit::Octal => format!("{number:o}"),
            Unit::MemoryOrShare if number < 0 => format!("{}%", -number),
            _ => compared.to_string(),
        })
    }
}

/// A size in bytes: `k` is 1000 and `kb` 1024. No digits are zero; what is too large wraps around.
pub fn memory(word: &str) -> Option<u64> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(end);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    // What redis has room for.
    if digits.len() >= 128 {
        return None;
    }
    let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) };
    Some(number.wrapping_mul(unit))
}

/// Decimal, without blanks, plus or leading zeros.
fn integer(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let plain = word == "0" || matches!(digits.as_bytes(), [b'1'..=b'9', ..]);
    if plain { word.parse().ok() } else { None }
}

fn octal(word: &str) -> Option<i64> {
    let word = word.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    if word.is_empty() { Some(0) } else { i64::from_str_radix(word, 8).ok() }
}

/// A decimal number as strtoll(3) reads it: blanks and a sign before it, all of the word, too large ones cut.
pub fn decimal(word: &str) -> Option<i64> {
    let rest = word.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if word.is_empty() {
        return Some(0);
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let large = if rest.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(rest.parse().unwrap_or(large))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, word: &str) -> Result<String, ValueError> {
        find(name).unwrap().kind.value(word)
    }

    #[test]
    fn every_line_of_the_table_is_a_directive() {
        assert_eq!(all().len(), TABLE.lines().count());
        assert_eq!(find("SLAVE-priority").unwrap().name, "replica-priority");
        assert!(find("").is_none());
        for directive in all() {
            if !matches!(directive.kind, Kind::Text | Kind::Words) {
                assert!(directive.kind.value(directive.default).is_ok(), "{directive:?}");
            }
        }
    }

    #[test]
    fn sizes_have_the_units_of_redis() {
        for (word, bytes) in [
            ("1k", 1000),
            ("1kb", 1024),
            ("2MB", 2 << 20),
            ("3g", 3_000_000_000),
            ("4gB", 4 << 30),
            ("5b", 5),
            ("", 0),
            ("18446744073709551616", u64::MAX),
            ("17179869184gb", 0),
        ] {
            assert_eq!(memory(word), Some(bytes), "{word}");
        }
        for word in ["-1", "1.5gb", "1t", "1 gb", "50%"] {
            assert_eq!(memory(word), None, "{word}");
        }
    }

    #[test]
    fn values_are_kept_as_redis_shows_them() {
        assert_eq!(value("maxmemory", "1gb").as_deref(), Ok("1073741824"));
        assert_eq!(
            value("maxmemory", "18446744073709551615").as_deref(),
            Ok("18446744073709551615")
        );
        assert_eq!(value("maxmemory-clients", "5%").as_deref(), Ok("5%"));
        assert_eq!(value("maxmemory-clients", "101%"), Err(ValueError::Bounds));
        assert_eq!(value("maxmemory-policy", "AllKeys-LRU").as_deref(), Ok("allkeys-lru"));
        assert_eq!(value("oom-score-adj", "relative").as_deref(), Ok("yes"));
        assert_eq!(value("appendonly", "YES").as_deref(), Ok("yes"));
        assert_eq!(value("unixsocketperm", "770").as_deref(), Ok("770"));
        assert_eq!(value("port", "070"), Err(ValueError::Number));
        assert_eq!(value("port", "65536"), Err(ValueError::Bounds));
        assert_eq!(value("repl-backlog-size", "10000000000gb"), Err(ValueError::Bounds));
        assert_eq!(value("appendonly", "1"), Err(ValueError::Bool));
        assert_eq!((decimal(" +7"), decimal("7x"), decimal("")), (Some(7), None, Some(0)));
    }
}
