//! What is wrong with a trace file, in one line.

use std::fmt;
use std::io;

/// Kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is nothing in it.
    Empty,
    /// It does not start with a header of a known schema.
    NotATrace,
    /// It ends within a line.
    CutLine,
    /// It ends within a zstd frame.
    CutFrame,
    /// A line is no event.
    BadLine,
    /// A line is longer than any event.
    LongLine,
    /// A zstd frame cannot be decompressed.
    BadFrame,
    /// The system could not read on.
    Unreadable(io::ErrorKind),
}

/// The first place that is damaged, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong there.
    pub cause: Cause,
    /// Line of the (decompressed) text, from 1.
    pub line: u64,
    /// Byte of the file, from 0; None for a line in a compressed one.
    pub offset: Option<u64>,
    /// Damaged places in all.
    pub places: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Empty => return f.write_str("empty file"),
            Cause::NotATrace => f.write_str("no header of a rampage trace")?,
            Cause::CutLine => f.write_str("the file ends within a line")?,
            Cause::CutFrame => f.write_str("the file ends within a zstd frame")?,
            Cause::BadLine => f.write_str("no event in this line")?,
            Cause::LongLine => f.write_str("the line is longer than any event")?,
            Cause::BadFrame => f.write_str("the zstd frame is damaged")?,
            Cause::Unreadable(kind) => write!(f, "reading failed ({kind})")?,
        }
        write!(f, ", line {}", self.line)?;
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        if self.places > 1 {
            write!(f, "; {} damaged places in all", self.places)?;
        }
        Ok(())
    }
}
