//! Sizes and times as they are written in the file: `64MiB`, `10m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::cli::{parse_bytes, parse_duration};
use crate::text::{fit, printable};

/// What is quoted in a message, columns.
const QUOTED_COLUMNS: usize = 64;

/// Why a text is no size or no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// `64MB`.
    #[error("sizes are powers of 1024: write \"{write}\"")]
    PowersOf1000 {
        /// The same number with the unit that is meant.
        write: String,
    },
    /// No number with a unit, or out of all bounds.
    #[error("`{}` is no size: write it such as \"64MiB\"", quoted(text))]
    NoSize {
        /// As it was written.
        text: String,
    },
    /// `30`.
    #[error("a time needs its unit: write \"{text}s\", if seconds are meant")]
    NoUnit {
        /// As it was written.
        text: String,
    },
    /// No number with a unit, or out of all bounds.
    #[error(
        "`{}` is no time: write it such as \"500ms\", \"30s\", \"10m\" or \"7d\"",
        quoted(text)
    )]
    NoTime {
        /// As it was written.
        text: String,
    },
}

/// A value in a message: safe for a terminal, and not longer than helps.
pub(super) fn quoted(text: &str) -> String {
    let short = &text[..text.floor_char_boundary(8 * QUOTED_COLUMNS)];
    fit(&printable(short), QUOTED_COLUMNS).into_owned()
}

/// Bytes: `64MiB`, `64M`, `512K`, powers of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// This many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let is_zero = !number.is_empty() && number.bytes().all(|digit| digit == b'0');
        let unit = text[number.len()..].to_ascii_lowercase();
        let meant = [("kb", "KiB"), ("mb", "MiB"), ("gb", "GiB")];
        if let Some((_, unit)) = meant.into_iter().find(|(decimal, _)| *decimal == unit)
            && number.parse::<u64>().is_ok()
        {
            return Err(ValueError::PowersOf1000 { write: format!("{number}{unit}") });
        }
        match parse_bytes(text) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) if is_zero && parse_bytes(&format!("1{unit}")).is_ok() => Ok(Self(0)),
            Err(_) => Err(ValueError::NoSize { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(shift, _)| self.0 > 0 && self.0 % (1 << shift) == 0) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A time in whole milliseconds: `500ms`, `30s`, `10m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// This many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As a duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// In nanoseconds; what is longer than 584 years is cut to that.
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let has_unit = number.len() < text.len();
        let unit = &text[number.len()..];
        let is_zero = !number.is_empty() && number.bytes().all(|digit| digit == b'0');
        if is_zero && (!has_unit || parse_duration(&format!("1{unit}")).is_ok()) {
            return Ok(Self(Duration::ZERO));
        }
        let whole_ms = |time: Duration| u64::try_from(time.as_millis()).ok().filter(|ms| *ms > 0);
        match parse_duration(text).ok().and_then(whole_ms) {
            Some(_) if !has_unit => Err(ValueError::NoUnit { text: text.to_owned() }),
            Some(ms) => Ok(Self(Duration::from_millis(ms))),
            None => Err(ValueError::NoTime { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(unit_ms, _)| ms > 0 && ms % unit_ms == 0) {
            Some((unit_ms, unit)) => write!(f, "{}{unit}", ms / unit_ms),
            None if ms == 0 => write!(f, "0s"),
            None => write!(f, "{ms}ms"),
        }
    }
}

macro_rules! as_text {
    ($type:ident, $format:literal, $expecting:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format })
            }
        }
    };
}

as_text!(Size, "size", "a size such as \"64MiB\"");
as_text!(Span, "time", "a time such as \"30s\", \"10m\" or \"7d\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_say_so() {
        let size = |text: &str| text.parse::<Size>().map(Size::get);
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("65536"), Ok(64 << 10));
        assert_eq!((size("0"), size("0MiB")), (Ok(0), Ok(0)));
        let error = |text: &str| size(text).unwrap_err().to_string();
        assert_eq!(error("64MB"), "sizes are powers of 1024: write \"64MiB\"");
        assert_eq!(error("1kB"), "sizes are powers of 1024: write \"1KiB\"");
        for bad in ["", "-1", "MB", "64 MiB", "1.5GiB", "0X", "64TB", "99999999999G", "\0", "٣M"] {
            assert!(error(bad).contains("write it such as \"64MiB\""), "{bad}");
        }
        assert!(error("a\x1b[2J").starts_with("`a\\x1b[2J` is no size"));
        assert!(error(&"é".repeat(1_000_000)).len() < 300);
    }

    #[test]
    fn times_have_a_unit_and_whole_milliseconds() {
        let time = |text: &str| text.parse::<Span>().map(|span| span.get().as_millis());
        assert_eq!(time("1.5h"), Ok(5_400_000));
        assert_eq!(time("1.0009s"), Ok(1000));
        assert_eq!((time("0"), time("0s"), time("0ms")), (Ok(0), Ok(0), Ok(0)));
        let error = |text: &str| time(text).unwrap_err().to_string();
        assert_eq!(error("30"), "a time needs its unit: write \"30s\", if seconds are meant");
        for bad in ["", "-1", "-1s", "s", "0.1ms", "1e300h", "1w", "0w", "nan", "1 s"] {
            assert!(error(bad).contains("is no time"), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for bytes in [0, 1, 1023, 1024, 1025, 3 << 30, u64::from(u32::MAX)] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        for ms in [0, 1, 999, 1000, 90_000, 3_600_000, 86_400_000, 86_400_001] {
            let span = Span(Duration::from_millis(ms));
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
