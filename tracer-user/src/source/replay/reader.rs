//! Events from the text of a trace: splits lines, passes over what is damaged and counts it, and
//! over what only a newer version knows. Bounded: no line beyond [`MAX_LINE_BYTES`] is kept.

use std::borrow::Cow;

use serde::Deserialize;

use super::damage::{Cause, Damage};
use crate::event::{Event, Header, SCHEMA, Stamped};
use crate::trace::lines::{self, LineError, MAX_LINE_BYTES, Stamp};

/// Text without one event after which a file is no trace.
const GIVE_UP_BYTES: u64 = 1 << 20;

/// Reads lines that are fed to it.
#[derive(Default)]
pub struct Reader {
    text: Vec<u8>,
    at: usize,
    /// Offset of `text[at]` in the whole text.
    offset: u64,
    line: u64,
    in_long_line: bool,
    started: bool,
    newer: bool,
    ended: bool,
    rotated: bool,
    packed: bool,
    damage: Option<Damage>,
}

#[derive(Deserialize)]
struct SchemaOnly<'a> {
    #[serde(borrow)]
    schema: Cow<'a, str>,
}

impl Reader {
    /// Where new text is appended; lines that were read are gone.
    pub fn text(&mut self) -> &mut Vec<u8> {
        self.text.drain(..self.at);
        self.at = 0;
        &mut self.text
    }

    /// Says that the text comes from a compressed file: its offsets mean nothing to the user.
    pub fn set_packed(&mut self) {
        self.packed = true;
    }

    /// What is damaged so far.
    pub fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// Whether the recording came to its own end.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the end is that of a file, and the recording went on in the next one.
    pub fn is_rotated(&self) -> bool {
        self.ended && self.rotated
    }

    /// Whether there is no point in reading on.
    pub fn is_hopeless(&self) -> bool {
        !self.started && self.offset > GIVE_UP_BYTES
    }

    /// The next event of the text so far; None = more text is needed.
    pub fn next(&mut self) -> Option<Stamped> {
        while let Some(length) = self.text[self.at..].iter().position(|&byte| byte == b'\n') {
            let event = self.take_line(length);
            self.skip(length + 1);
            if event.is_some() {
                return event;
            }
        }
        let rest = self.text.len() - self.at;
        if rest >= MAX_LINE_BYTES || (self.in_long_line && rest > 0) {
            if !self.in_long_line {
                self.line += 1;
                self.fault(Cause::LongLine);
            }
            self.in_long_line = true;
            self.skip(rest);
        }
        None
    }

    /// What follows the last newline when no more text comes: an event, or a cut line.
    pub fn finish(&mut self) -> Option<Stamped> {
        let rest = self.text.len() - self.at;
        let before = self.damage;
        let event = if rest > 0 { self.take_line(rest) } else { None };
        if event.is_none() && self.damage != before && self.started {
            self.damage = before;
            self.fault(Cause::CutLine);
        }
        self.skip(rest);
        if self.offset == 0 && self.damage.is_none() {
            self.line = 1;
            self.fault_at(Cause::Empty, Some(0));
        } else if !self.started && self.damage.is_none() {
            self.line = 1;
            self.fault_at(Cause::NotATrace, Some(0));
        }
        event
    }

    /// Gives up the line under way: the zstd frame that holds its rest is damaged or cut.
    pub fn break_off(&mut self, cause: Cause, offset: u64) {
        let rest = self.text.len() - self.at;
        self.line += 1;
        self.fault_at(cause, Some(offset));
        self.line -= u64::from(rest == 0);
        self.skip(rest);
        self.in_long_line = false;
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.offset += bytes as u64;
    }

    fn take_line(&mut self, length: usize) -> Option<Stamped> {
        if std::mem::take(&mut self.in_long_line) {
            return None;
        }
        self.line += 1;
        let text = std::mem::take(&mut self.text);
        let line = &text[self.at..self.at + length];
        let event =
            if line.iter().all(u8::is_ascii_whitespace) { Ok(None) } else { self.read(line) };
        self.text = text;
        event.unwrap_or_else(|cause| {
            self.fault(cause);
            None
        })
    }

    fn read(&mut self, line: &[u8]) -> Result<Option<Stamped>, Cause> {
        let bad = if self.started { Cause::BadLine } else { Cause::NotATrace };
        let stamp = lines::stamp(line).map_err(|error| match error {
            LineError::TooLong => Cause::LongLine,
            LineError::Json(_) | LineError::Time => bad,
        })?;
        let at = match &*stamp.kind {
            "header" => self.header(&stamp, line).ok_or(bad)?,
            // Findings come again from model and detectors, whatever was found when it happened.
            "finding" => return Ok(None),
            _ => match stamp.decode(line) {
                Ok(at) => at,
                Err(_) if self.newer => return Ok(None),
                Err(_) => return Err(bad),
            },
        };
        match at.event {
            Event::Unknown => return Ok(None),
            Event::End(end) => {
                self.ended = true;
                self.rotated = end.reason == "rotated";
                return Ok(None);
            }
            _ => self.ended = false,
        }
        if !std::mem::replace(&mut self.started, true) && !matches!(at.event, Event::Header(_)) {
            self.fault(Cause::NotATrace);
        }
        Ok(Some(at))
    }

    fn header(&mut self, stamp: &Stamp<'_>, line: &[u8]) -> Option<Stamped> {
        let SchemaOnly { schema } = serde_json::from_slice(line).ok()?;
        let version = version(&schema)?;
        self.newer = version > self::version(SCHEMA)?;
        match stamp.decode(line) {
            Err(_) if self.newer => {
                let header = Header { schema: schema.into_owned(), ..Header::default() };
                let event = Event::Header(Box::new(header));
                Some(Stamped { t_ns: stamp.t, wall_ns: stamp.wall_ns().unwrap_or(0), event })
            }
            at => at.ok(),
        }
        .inspect(|_| {
            if self.newer {
                tracing::warn!(
                    "the trace is of the newer schema rampage/{version}; what {SCHEMA} does not know is passed over"
                );
            }
        })
    }

    fn fault(&mut self, cause: Cause) {
        self.fault_at(cause, (!self.packed).then_some(self.offset));
    }

    /// Keeps the first damage and counts the others.
    fn fault_at(&mut self, cause: Cause, offset: Option<u64>) {
        match &mut self.damage {
            Some(damage) => damage.places += 1,
            None => self.damage = Some(Damage { cause, line: self.line, offset, places: 1 }),
        }
    }
}

fn version(schema: &str) -> Option<u32> {
    schema.strip_prefix("rampage/")?.parse().ok().filter(|&version| version > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = r#""t":1,"time":"2026-01-01T00:00:00Z""#;

    fn header(version: &str) -> String {
        format!(r#"{{"type":"header",{STAMP},"schema":"rampage/{version}"}}"#)
    }

    fn tick() -> String {
        format!(r#"{{"type":"tick",{STAMP}}}"#)
    }

    fn read(text: &[u8]) -> (usize, Option<Damage>) {
        let mut reader = Reader::default();
        let mut events = 0;
        for chunk in text.chunks(4096) {
            reader.text().extend_from_slice(chunk);
            while reader.next().is_some() {
                events += 1;
            }
        }
        events += usize::from(reader.finish().is_some());
        (events, reader.damage())
    }

    fn cause(text: &str) -> Option<Cause> {
        read(text.as_bytes()).1.map(|damage| damage.cause)
    }

    #[test]
    fn a_last_line_without_newline_is_whole_or_cut() {
        let text = format!("{}\n{}", header("1"), tick());
        assert_eq!(read(text.as_bytes()), (2, None));
        let (events, damage) = read(&text.as_bytes()[..text.len() - 1]);
        let offset = Some(header("1").len() as u64 + 1);
        assert_eq!(events, 1);
        assert_eq!(damage, Some(Damage { cause: Cause::CutLine, line: 2, offset, places: 1 }));
    }

    #[test]
    fn what_is_no_trace_is_told_from_an_empty_file() {
        assert_eq!(cause(""), Some(Cause::Empty));
        assert_eq!(cause("\n\n"), Some(Cause::NotATrace));
        assert_eq!(cause("root:x:0:0:root\n"), Some(Cause::NotATrace));
        assert_eq!(cause(&header("x")), Some(Cause::NotATrace));
        assert_eq!(cause(&header("1").replace("rampage", "other")), Some(Cause::NotATrace));
        assert_eq!(read(format!("{}\n", tick()).as_bytes()).1.unwrap().cause, Cause::NotATrace);
    }

    #[test]
    fn bad_lines_are_passed_over_and_counted() {
        let text = format!("{}\nnoise\n{}\n\n[]\n{}\n", header("1"), tick(), tick());
        let (events, damage) = read(text.as_bytes());
        let damage = damage.unwrap();
        assert_eq!((events, damage.cause, damage.line, damage.places), (3, Cause::BadLine, 2, 2));
        let line = damage.to_string();
        assert!(line.contains("line 2") && line.contains("2 damaged places"), "{line}");
    }

    #[test]
    fn a_long_line_is_passed_over_without_being_kept() {
        let mut text = format!("{}\n", header("1")).into_bytes();
        text.resize(text.len() + 3 * MAX_LINE_BYTES, 0);
        text.extend_from_slice(format!("\n{}\n", tick()).as_bytes());
        let (events, damage) = read(&text);
        let damage = damage.unwrap();
        assert_eq!((events, damage.cause, damage.line, damage.places), (2, Cause::LongLine, 2, 1));
    }

    #[test]
    fn a_newer_schema_is_read_as_far_as_it_is_understood() {
        let changed = header("2").replace("\"schema\"", "\"cpus\":\"many\",\"schema\"");
        let growth = tick().replace("tick", "growth");
        let text = format!("{changed}\n{growth}\n{}\n", tick());
        assert_eq!(read(text.as_bytes()), (2, None));
    }

    #[test]
    fn a_large_file_without_any_event_is_given_up() {
        let mut reader = Reader::default();
        for _ in 0..3000 {
            reader.text().extend_from_slice(&[b'x'; 1000]);
            reader.text().push(b'\n');
            assert!(reader.next().is_none());
        }
        assert!(reader.is_hopeless());
    }
}
