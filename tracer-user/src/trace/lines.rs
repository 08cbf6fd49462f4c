//! One event as one line of JSON, and back (schema `rampage/1`).
//!
//! A line is `{"t":…,"time":"…","type":"…",…}` and a newline. Whatever a name contains, the line is
//! valid JSON and valid UTF-8. Reading passes over fields and types that it does not know.

use std::borrow::Cow;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::{Event, Stamped};

/// Longest line that is written or read, bytes, newline included.
pub const MAX_LINE_BYTES: usize = 1 << 20;

const NS_PER_S: i64 = 1_000_000_000;

/// Why a line is no event.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// No JSON, or not the fields that its type needs.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// `time` is not RFC 3339, or not between the years 1677 and 2262.
    #[error("`time` is no time")]
    Time,
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
}

/// What every line has, whatever its type.
#[derive(Debug, Deserialize)]
pub struct Stamp<'a> {
    /// CLOCK_BOOTTIME, ns.
    pub t: u64,
    /// RFC 3339.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// Type of the event.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
}

/// Writes lines; keeps the formatted second of the last one.
#[derive(Debug, Default)]
pub struct Encoder {
    second: Option<i64>,
    text: String,
}

impl Encoder {
    /// Appends `at` as one line. On an error `out` is as before.
    pub fn encode(&mut self, at: &Stamped, out: &mut Vec<u8>) -> Result<(), LineError> {
        let start = out.len();
        let written = self.append(at, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn append(&mut self, at: &Stamped, out: &mut Vec<u8>) -> Result<(), LineError> {
        let start = out.len();
        out.extend_from_slice(b"{\"t\":");
        serde_json::to_writer(&mut *out, &at.t_ns)?;
        out.extend_from_slice(b",\"time\":\"");
        let (second, ns) = (at.wall_ns.div_euclid(NS_PER_S), at.wall_ns.rem_euclid(NS_PER_S));
        if self.second != Some(second) {
            self.text = second_text(second);
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        let mut unit = NS_PER_S / 10;
        while unit > 0 {
            out.push(b'0' + (ns / unit % 10) as u8);
            unit /= 10;
        }
        out.extend_from_slice(b"Z\"");
        // The event's own opening brace becomes the comma between the stamp and its fields.
        let brace = out.len();
        serde_json::to_writer(&mut *out, &at.event)?;
        out[brace] = b',';
        out.push(b'\n');
        if out.len() - start > MAX_LINE_BYTES {
            return Err(LineError::TooLong);
        }
        Ok(())
    }
}

/// Appends `at` as one line; [`Encoder`] is faster for many.
pub fn encode(at: &Stamped, out: &mut Vec<u8>) -> Result<(), LineError> {
    Encoder::default().encode(at, out)
}

/// Reads one line, with or without its newline. A type that is not known is [`Event::Unknown`].
pub fn decode(line: &[u8]) -> Result<Stamped, LineError> {
    stamp(line)?.decode(line)
}

/// The part of a line that all types share.
pub fn stamp(line: &[u8]) -> Result<Stamp<'_>, LineError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong);
    }
    Ok(serde_json::from_slice(line)?)
}

impl Stamp<'_> {
    /// The whole event; `line` is what this stamp was read from.
    pub fn decode(&self, line: &[u8]) -> Result<Stamped, LineError> {
        // The frequent types are read without serde's intermediate copy of a tagged enum.
        let event = match &*self.kind {
            "growth" => Event::Growth(serde_json::from_slice(line)?),
            "process" => Event::Process(serde_json::from_slice(line)?),
            "cgroup" => Event::Cgroup(serde_json::from_slice(line)?),
            "exit" => Event::Exit(serde_json::from_slice(line)?),
            _ => serde_json::from_slice(line)?,
        };
        Ok(Stamped { t_ns: self.t, wall_ns: self.wall_ns()?, event })
    }

    /// `time` as ns since 1970-01-01 UTC.
    pub fn wall_ns(&self) -> Result<i64, LineError> {
        let time = OffsetDateTime::parse(&self.time, &Rfc3339).map_err(|_| LineError::Time)?;
        time.unix_timestamp_nanos().try_into().map_err(|_| LineError::Time)
    }
}

/// `2026-01-31T23:59:59.123Z`: a time as lines have it, to the millisecond.
pub fn time_text(wall_ns: i64) -> String {
    let ms = wall_ns.rem_euclid(NS_PER_S) / 1_000_000;
    format!("{}.{ms:03}Z", second_text(wall_ns.div_euclid(NS_PER_S)))
}

/// `2026-01-31T23:59:59`, UTC. An i64 of nanoseconds always falls into years of four digits.
fn second_text(second: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second) = time.to_hms();
    format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}",
        time.year(),
        u8::from(time.month()),
        time.day()
    )
}

#[cfg(test)]
mod tests;
