//! The segments of a flight recorder, read as one run: where a segment goes on from the one before, its
//! header and the state at its head are passed over; where it does not, why is kept.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::event::{Event, Gap, Header, SegmentPlace, Stamped};
use crate::text::{printable, seconds};
use crate::trace::segment;

/// Breaks that are kept; a recorder that breaks more often is not told about more often.
const MOST_BREAKS: usize = 100;

/// Where a run of segments is interrupted: what was known before is forgotten.
#[derive(Clone, Debug, PartialEq)]
pub enum Break {
    /// Segments between these two are not there.
    Missing {
        /// The last one before.
        after: u64,
        /// The next one.
        before: u64,
    },
    /// A segment has no end, or is damaged.
    Cut {
        /// The segment.
        number: u64,
    },
    /// Events were lost at the end of this segment.
    Lost {
        /// The segment.
        number: u64,
    },
    /// The recorder was started anew.
    Restarted {
        /// What is known of the time between.
        gap: Option<Gap>,
    },
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { after, before } if after + 2 == *before => {
                write!(f, "segment {} is missing", after + 1)?;
            }
            Self::Missing { after, before } => {
                write!(f, "segments {} to {} are missing", after + 1, before.saturating_sub(1))?;
            }
            Self::Cut { number } => write!(f, "segment {number} is cut or damaged")?,
            Self::Lost { number } => write!(f, "events were lost at the end of segment {number}")?,
            Self::Restarted { gap: None } => f.write_str("the recorder was started anew")?,
            Self::Restarted { gap: Some(gap) } => {
                let how = if gap.clean { "ended" } else { "was killed" };
                write!(f, "the recorder {how} at {}", printable(&gap.since))?;
                match gap.seconds {
                    Some(s) => write!(f, " and nothing was recorded for {}", seconds(s))?,
                    None => f.write_str(" and was started anew")?,
                }
            }
        }
        f.write_str("; what was known before is not used after it")
    }
}

/// The files that are to be read, and where one stands among them.
#[derive(Debug, Default)]
pub(super) struct Chain {
    rest: VecDeque<PathBuf>,
    /// The one before, and whether it was read up to its end.
    before: Option<(SegmentPlace, bool)>,
    place: Option<SegmentPlace>,
    is_first_event: bool,
    /// Header and state are passed over.
    is_skipping: bool,
    breaks: Vec<Break>,
}

impl Chain {
    /// Of an incident's folder, a folder of segments, or a state directory.
    ///
    /// # Errors
    /// The folder cannot be read, or has no segments.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut found = segment::list(folder)?;
        if found.is_empty() && folder.join("segments").is_dir() {
            found = segment::list(&folder.join("segments"))?;
        }
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no segments of a recorder in this folder",
            ));
        }
        let rest = found.into_iter().map(|(_, path)| path).collect();
        Ok(Self { rest, ..Self::default() })
    }

    /// The next file.
    pub fn next_file(&mut self) -> Option<PathBuf> {
        self.is_first_event = true;
        self.is_skipping = false;
        self.rest.pop_front()
    }

    /// The file under way is read. `is_whole`: up to its end, from which the next one goes on.
    pub fn end_file(&mut self, is_whole: bool) {
        if let Some(place) = self.place.take() {
            self.before = Some((place, is_whole));
        } else if let Some((_, was_whole)) = &mut self.before {
            *was_whole = false;
        }
    }

    /// Where the run was interrupted so far.
    pub fn breaks(&self) -> &[Break] {
        &self.breaks
    }

    /// The event, unless it is state that is known.
    pub fn pass(&mut self, at: Stamped) -> Option<Stamped> {
        let is_first = std::mem::take(&mut self.is_first_event);
        match &at.event {
            Event::Header(header) if is_first => {
                self.is_skipping = self.goes_on(header);
                self.place.clone_from(&header.segment);
            }
            Event::Restated(_) => {
                self.is_skipping = false;
                return None;
            }
            _ => {}
        }
        (!self.is_skipping).then_some(at)
    }

    /// Whether all that the header's segment restates is known.
    fn goes_on(&mut self, header: &Header) -> bool {
        let (Some((before, is_whole)), Some(place)) = (&self.before, &header.segment) else {
            return false;
        };
        let number = before.number;
        let broken = if place.run != before.run {
            Break::Restarted { gap: header.gap.clone() }
        } else if place.number != number.saturating_add(1) {
            Break::Missing { after: number, before: place.number }
        } else if !place.continues {
            Break::Lost { number }
        } else if !is_whole {
            Break::Cut { number }
        } else {
            return true;
        };
        if self.breaks.len() < MOST_BREAKS {
            self.breaks.push(broken);
        }
        false
    }
}
