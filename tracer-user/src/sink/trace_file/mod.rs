//! The trace file: every event as one line ([`crate::trace::lines`]), written in blocks.
//!
//! A block holds whole lines, at most one second of event time, and is written with one call; in a
//! `.zst` file each block is one zstd frame of its own. So a file that was cut by a crash lacks at
//! most its last second, and a failed write is undone by cutting back to the last whole block.
//! While nothing can be written (disk full), one block waits, further events are counted, and each
//! tick tries again; when there is room, the count becomes a `lost` event of source `disk` and the
//! state is written anew, as at the start of each file of a rotation.

mod output;

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use self::output::Output;
use super::block::Block;
use super::{Sink, SinkError, snapshot};
use crate::event::{End, Event, Lost, Stamped};
use crate::model::Model;
use crate::text::printable;

/// Most bytes of lines in a block.
const BLOCK_BYTES: usize = 256 << 10;
/// Parts of `max_size_bytes`: a block is at most one eighth, a snapshot at most four of them.
const PARTS: u64 = 8;

/// How much is written, and into how many files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotation {
    /// A file does not become larger; None = one file without bounds.
    pub max_size_bytes: Option<u64>,
    /// Old files that are kept.
    pub keep: u32,
}

/// Totals of a trace file, readable while it is written.
#[derive(Debug, Default)]
pub struct Written {
    /// Lines on their way into a file, those of snapshots included.
    pub events: Cell<u64>,
    /// Bytes written, all files.
    pub bytes: Cell<u64>,
    /// Events that could not be written.
    pub lost: Cell<u64>,
}

/// Writes a trace.
pub struct TraceFile {
    name: String,
    output: Output,
    rotation: Rotation,
    block: Block,
    header: Option<Stamped>,
    last: (u64, i64),
    failing: bool,
    rotation_failing: bool,
    lost: u64,
    file_events: u64,
    written: Rc<Written>,
}

impl TraceFile {
    /// Opens or creates the file; what it held is gone with the first block. `-` = standard output,
    /// a name that ends in `.zst` compresses.
    pub fn create(path: &Path, rotation: Rotation) -> Result<Self, SinkError> {
        let name = if path == Path::new("-") {
            "standard output".to_owned()
        } else {
            printable(&path.to_string_lossy()).into_owned()
        };
        let fail = |source| SinkError::writing(&name, source);
        let part = rotation.max_size_bytes.map_or(u64::MAX, |bytes| bytes / PARTS);
        let limit_bytes = usize::try_from(part).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
        Ok(Self {
            output: Output::create(path).map_err(fail)?,
            rotation,
            block: Block::new(limit_bytes, is_compressed).map_err(fail)?,
            header: None,
            last: (0, 0),
            failing: false,
            rotation_failing: false,
            lost: 0,
            file_events: 0,
            written: Rc::default(),
            name,
        })
    }

    /// For a run that cannot begin: a file that was made for it is removed.
    pub fn abandon(self) {
        self.output.abandon();
    }

    /// Totals, kept up to date.
    pub fn written(&self) -> Rc<Written> {
        self.written.clone()
    }

    /// Adds a line to the block, or counts it when there is no room for it.
    fn push(&mut self, at: &Stamped) {
        if self.failing && self.block.is_full() {
            return self.lose(1);
        }
        if self.block.push(at) {
            self.file_events += 1;
            self.written.events.set(self.written.events.get() + 1);
        } else {
            self.lose(1);
        }
    }

    fn lose(&mut self, events: u64) {
        self.lost += events;
        self.written.lost.set(self.written.lost.get() + events);
    }

    /// Writes all that waits.
    fn write(&mut self) -> io::Result<()> {
        while !self.block.is_empty() {
            let block = self.block.pack()?;
            self.output.write_block(block)?;
            self.written.bytes.set(self.written.bytes.get() + block.len() as u64);
            self.block.done();
        }
        Ok(())
    }

    /// Writes all that waits, or says once why not. False = it waits on.
    fn commit(&mut self) -> Result<bool, SinkError> {
        match self.write() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(SinkError::Closed),
            Err(error) => {
                if !self.failing {
                    tracing::warn!(
                        "cannot write {}: {error}; further events are counted until it can be written",
                        self.name
                    );
                }
                self.failing = true;
                Ok(false)
            }
        }
    }

    /// Commits, and after a failure that is over writes the state anew.
    fn advance(&mut self, model: &Model) -> Result<(), SinkError> {
        let failed = self.failing;
        if self.commit()? && failed {
            self.failing = false;
            tracing::warn!("{} is written again; {} events were lost", self.name, self.lost);
            if self.lost > 0 {
                self.restate(model)?;
            }
        }
        Ok(())
    }

    /// Header and state, for a reader that knows nothing of what was before.
    fn restate(&mut self, model: &Model) -> Result<(), SinkError> {
        let (t_ns, wall_ns) = self.last;
        if let Some(header) = &self.header {
            let header = Stamped { t_ns, wall_ns, event: header.event.clone() };
            self.push(&header);
        }
        let start = self.output.end_bytes();
        let room = self.rotation.max_size_bytes.map_or(u64::MAX, |bytes| bytes / 2);
        let mut left_out = 0;
        for event in snapshot::events(model) {
            if self.output.end_bytes() - start + self.block.len() as u64 > room {
                left_out += 1;
                continue;
            }
            self.push(&Stamped { t_ns, wall_ns, event });
            if self.block.is_full() && !self.failing {
                self.commit()?;
            }
        }
        if left_out > 0 {
            let lost = Lost { source: "snapshot".into(), records: left_out };
            self.push(&Stamped { t_ns, wall_ns, event: Event::Lost(lost) });
        }
        Ok(())
    }

    fn rotation_is_due(&self) -> bool {
        let end = self.output.end_bytes();
        self.rotation.max_size_bytes.is_some_and(|max| end + self.block.limit_bytes() as u64 > max)
    }

    fn rotate(&mut self, model: &Model) -> Result<(), SinkError> {
        if !self.commit()? {
            return Ok(());
        }
        if !self.rotation_failing {
            let (t_ns, wall_ns) = self.last;
            let lost = self.written.lost.get();
            let end = End { reason: "rotated".to_owned(), events: self.file_events, lost };
            self.push(&Stamped { t_ns, wall_ns, event: Event::End(end) });
            if !self.commit()? {
                return Ok(());
            }
        }
        match self.output.rotate(self.rotation.keep) {
            Ok(()) => {
                self.rotation_failing = false;
                self.file_events = 0;
                self.restate(model)
            }
            Err(error) => {
                if !self.rotation_failing {
                    tracing::warn!("cannot rotate {}: {error}; it goes on to grow", self.name);
                }
                self.rotation_failing = true;
                Ok(())
            }
        }
    }
}

impl Sink for TraceFile {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        self.last = (at.t_ns, at.wall_ns);
        match &at.event {
            Event::Header(_) => self.header = Some(at.clone()),
            Event::End(end) if self.failing => {
                self.advance(model)?;
                let lost = std::mem::take(&mut self.lost);
                let end = End { lost: end.lost.saturating_add(lost), ..end.clone() };
                let (t_ns, wall_ns) = self.last;
                let lost = Lost { source: "disk".into(), records: lost };
                self.push(&Stamped { t_ns, wall_ns, event: Event::Lost(lost) });
                self.push(&Stamped { t_ns, wall_ns, event: Event::End(end) });
                return self.advance(model);
            }
            _ => {}
        }
        self.push(at);
        let tick = matches!(at.event, Event::Tick(_));
        if tick || (self.block.is_due(at.t_ns) && !self.failing) {
            self.advance(model)?;
            if self.rotation_is_due() && (tick || !self.rotation_failing) {
                self.rotate(model)?;
            }
        }
        Ok(())
    }

    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        self.advance(model)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.write()
            .and_then(|()| self.output.sync())
            .map_err(|error| SinkError::writing(&self.name, error))
    }

    fn take_lost(&mut self) -> Option<Lost> {
        if self.failing || self.lost == 0 {
            return None;
        }
        Some(Lost { source: "disk".into(), records: std::mem::take(&mut self.lost) })
    }
}

#[cfg(test)]
mod tests;
