//! The flight recorder: a rolling trace in segments, and incidents that are kept apart. What it promises
//! is in `docs/recorder.md`.
//!
//! The pipeline encodes and packs, which takes no time that it does not know; a thread of its own
//! ([`writer`]) does all that can block. Between them is a ring of bytes ([`ring`]). What does not fit into
//! it is counted, becomes a `lost` event of source `recorder`, and a new segment with the state as it is
//! then makes the reader right again.
//!
//! Memory, taken at the start: the ring of 1024 KiB; 842 KiB for lines (136), packed block (137) and the
//! compressor (569, measured, zstd 1.5.7 at level 1): 1.8 MiB, and what the thread touches of its stack. A line
//! that is longer than a block, and the list of who is alive while state is written anew, come on top for a
//! moment.

mod directory;
mod facts;
mod handle;
pub mod incident;
mod incidents;
mod instance;
mod previous;
mod ring;
mod segments;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use self::directory::{RecorderError, join_group};
pub use self::handle::{RecorderHandle, Totals};
pub(crate) use self::incidents::bytes_of;
pub use self::instance::Instance;
pub use self::previous::Previous;

use self::directory::Directory;
use self::handle::Shared;
use self::incidents::Incidents;
use self::ring::{Head, Kind, RING_BYTES, Sender};
use self::segments::{Segments, highest_number, segment_limit};
use self::writer::Writer;
use super::block::Block;
use super::{Sink, SinkError, snapshot};
use crate::event::{
    End, Event, FindingState, Gap, Header, Lost, Restated, SegmentPlace, Severity, Stamped,
};
use crate::model::Model;
use crate::settings;
use crate::trace::lines::Encoder;
use crate::trace::segment;

/// Most bytes of lines in a block.
const BLOCK_BYTES: usize = 128 << 10;
/// Parts of a segment: a block is at most one eighth.
const PARTS: u64 = 8;
/// A segment is begun, with the state, when so much of the ring is free.
const FREE_BYTES: usize = RING_BYTES / 2;
/// State is left out, and counted, rather than that it leaves no more of the ring to what happens.
const STATE_FREE_BYTES: usize = RING_BYTES * 3 / 8;
/// At the end of the run the writer is waited for no longer than this.
const CLOSE: Duration = Duration::from_secs(5);
const CLOSE_STEP: Duration = Duration::from_millis(5);

/// Records a run.
pub struct Recorder {
    block: Block,
    /// Events in the block that are no state written anew.
    block_events: u32,
    ring: Sender,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    settings: settings::Recorder,
    generation: u64,
    previous: Option<Previous>,
    header: Option<Header>,
    run: String,
    /// What the first header says of the time before.
    gap: Option<Gap>,
    segment: Segment,
    last: (u64, i64),
    /// Events were lost: nothing is recorded until the state can be written anew.
    is_behind: bool,
    /// Lost and not told yet.
    lost: u64,
    encoder: Encoder,
    line: Vec<u8>,
}

/// The segment that is filled.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    /// Of the last one before; 0 = the first is to come.
    number: u64,
    is_begun: bool,
    start_ns: u64,
    /// Packed.
    bytes: u64,
    events: u64,
}

impl Recorder {
    /// Opens the directory of `settings`, makes it where it is not there, and starts the writer's thread.
    ///
    /// # Errors
    /// The directory cannot be made or read, belongs to somebody else, or others may write to it.
    pub fn open(settings: &settings::Recorder) -> Result<Self, RecorderError> {
        let directory = Directory::open(&settings.directory)?;
        let folder = directory.segments();
        let found = segment::list(&folder).map_err(|source| RecorderError::Io {
            action: "read",
            path: folder,
            source,
        })?;
        let previous = Previous::read(&found);
        let number = highest_number(&found, &directory.incidents());
        let mut block = Block::new(BLOCK_BYTES, true).map_err(RecorderError::Start)?;
        let memory_bytes = block.prepare().map_err(RecorderError::Start)?;
        tracing::debug!("the recorder takes {} bytes", memory_bytes + RING_BYTES);
        let (ring, records) = ring::ring();
        let shared = Arc::new(Shared::new(settings));
        let writer = Writer {
            segments: Segments::open(directory.clone(), found),
            incidents: Incidents::open(directory.clone()),
            directory,
            instance: None,
            records,
            shared: Arc::clone(&shared),
            settings: settings.clone(),
            generation: 0,
            header: Vec::new(),
            synced: Instant::now(),
            failed: 0,
            is_urgent: false,
        };
        let thread = writer.start().map_err(RecorderError::Start)?;
        let mut recorder = Self {
            block,
            block_events: 0,
            ring,
            thread: Some(thread),
            shared,
            settings: settings.clone(),
            generation: 0,
            previous,
            header: None,
            run: String::new(),
            gap: None,
            segment: Segment { number, ..Segment::default() },
            last: (0, 0),
            is_behind: false,
            lost: 0,
            encoder: Encoder::default(),
            line: Vec::new(),
        };
        recorder.limit_block();
        Ok(recorder)
    }

    /// How the run before ended; None = nothing was recorded before.
    pub fn previous_end(&self) -> Option<Previous> {
        self.previous.clone()
    }

    /// To see and set what can be seen and set while it runs.
    pub fn handle(&self) -> RecorderHandle {
        RecorderHandle(Arc::clone(&self.shared))
    }

    fn limit_block(&mut self) {
        let part = usize::try_from(segment_limit(&self.settings) / PARTS).unwrap_or(usize::MAX);
        self.block.set_limit(part.min(BLOCK_BYTES));
    }

    fn lose(&mut self, events: u64) {
        self.lost += events;
        self.shared.lost.fetch_add(events, Relaxed);
    }

    /// Adds an event to the block.
    fn record(&mut self, at: &Stamped) {
        if self.is_behind {
            return self.lose(1);
        }
        if self.block.push(at) {
            self.block_events += 1;
            self.segment.events += 1;
        } else {
            self.lose(1);
        }
    }

    /// Adds a line that is state, or says where the reader is.
    fn restate(&mut self, event: Event) {
        let (t_ns, wall_ns) = self.last;
        self.block.push(&Stamped { t_ns, wall_ns, event });
        self.segment.events += 1;
    }

    /// Hands the block to the writer. What does not fit is lost, and with it the thread of the story.
    fn flush(&mut self, is_urgent: bool) {
        if self.block.is_empty() {
            return;
        }
        let head = Head { events: self.block_events, ..self.head(Kind::Block, is_urgent) };
        let pushed = match self.block.pack() {
            Ok(packed) => self.ring.push(&head, packed).then_some(packed.len() as u64),
            Err(error) => {
                tracing::warn!("a block of the recorder could not be packed: {error}");
                None
            }
        };
        self.block.done();
        let events = u64::from(std::mem::take(&mut self.block_events));
        match pushed {
            Some(bytes) => self.segment.bytes += bytes,
            None => {
                self.is_behind = true;
                self.lose(events);
            }
        }
        self.wake();
    }

    fn head(&self, kind: Kind, is_urgent: bool) -> Head {
        let (t_ns, wall_ns) = self.last;
        Head { kind, is_urgent, events: 0, t_ns, wall_ns, number: self.segment.number }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Tells the writer a line, beside the block that it is in.
    fn tell(&mut self, kind: Kind, at: &Stamped) {
        self.line.clear();
        let is_written = self.encoder.encode(at, &mut self.line).is_ok();
        if !is_written || !self.ring.push(&self.head(kind, true), &self.line) {
            tracing::warn!("an incident lacks a line: too much waits to be written");
        }
        self.line.shrink_to(BLOCK_BYTES);
        self.wake();
    }

    /// Begins a segment, with the state as it is. `continues`: nothing of the run is missing before it.
    fn begin(&mut self, model: &Model, continues: bool) {
        if self.segment.is_begun {
            let reason = if continues { "rotated" } else { "interrupted" };
            let lost = self.shared.lost.load(Relaxed);
            let end = End { reason: reason.to_owned(), events: self.segment.events, lost };
            self.restate(Event::End(end));
            self.flush(false);
            if continues && self.is_behind {
                return;
            }
        }
        let next = Segment {
            number: self.segment.number + 1,
            is_begun: true,
            start_ns: self.last.0,
            ..Segment::default()
        };
        let head = Head { number: next.number, ..self.head(Kind::Segment, false) };
        if !self.ring.push(&head, &[]) {
            self.is_behind = true;
            return;
        }
        self.is_behind = false;
        self.segment = next;
        self.write_state(model, continues);
        self.flush(false);
    }

    /// Header, state, and the mark behind them.
    fn write_state(&mut self, model: &Model, continues: bool) {
        if let Some(header) = &self.header {
            let place =
                SegmentPlace { run: self.run.clone(), number: self.segment.number, continues };
            let gap = self.gap.take();
            let header = Header { segment: Some(place), gap, ..header.clone() };
            self.restate(Event::Header(Box::new(header)));
        }
        let room = segment_limit(&self.settings) / 2;
        let mut left_out = 0;
        for event in snapshot::events(model) {
            let is_large = self.segment.bytes + self.block.len() as u64 > room;
            if self.is_behind || is_large || self.ring.free_bytes() < STATE_FREE_BYTES {
                left_out += 1;
                continue;
            }
            self.restate(event);
            if self.block.is_full() {
                self.flush(false);
            }
        }
        if left_out > 0 {
            let lost = Lost { source: "snapshot".into(), records: left_out };
            self.restate(Event::Lost(lost));
        }
        self.restate(Event::Restated(Restated {}));
    }

    /// Once a tick: what the writer says, what a reload changed, and whether the segment is full.
    fn look(&mut self, model: &Model) {
        if let Some(settings) = self.shared.news(&mut self.generation) {
            self.settings = settings;
            self.limit_block();
        }
        let dropped = self.shared.dropped.swap(0, Relaxed);
        self.lose(dropped);
        if !self.segment.is_begun {
            return;
        }
        let is_broken = self.shared.broken.load(Acquire) == self.segment.number;
        let is_moved = self.shared.moved.load(Acquire) == self.segment.number;
        if self.is_behind || is_broken {
            self.is_behind = true;
            if self.ring.free_bytes() >= FREE_BYTES {
                self.begin(model, false);
            }
        } else if (is_moved || self.is_full()) && self.ring.free_bytes() >= FREE_BYTES {
            self.begin(model, true);
        }
    }

    fn is_full(&self) -> bool {
        let bytes = self.segment.bytes + self.block.limit_bytes() as u64;
        let age_ns = self.last.0.saturating_sub(self.segment.start_ns);
        bytes > segment_limit(&self.settings) || age_ns >= self.settings.segment_age.as_nanos()
    }

    fn take_header(&mut self, header: &Header, at: &Stamped) {
        self.run = format!("{}:{}", header.boot_id, at.t_ns);
        self.gap = match (&self.header, &self.previous) {
            (None, Some(previous)) => Some(previous.gap(header, at.t_ns, at.wall_ns)),
            _ => None,
        };
        self.header = Some(header.clone());
        self.tell_header();
    }

    /// Tells the writer the header as it is now, for the facts of an incident.
    fn tell_header(&mut self) {
        let (t_ns, wall_ns) = self.last;
        if let Some(header) = self.header.clone() {
            let event = Event::Header(Box::new(header));
            self.tell(Kind::Header, &Stamped { t_ns, wall_ns, event });
        }
    }

    /// Waits for the writer, but not forever.
    fn close(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.is_ending.store(true, Release);
        thread.thread().unpark();
        let since = Instant::now();
        while !thread.is_finished() && since.elapsed() < CLOSE {
            std::thread::sleep(CLOSE_STEP);
        }
        if !thread.is_finished() {
            tracing::warn!("the disk of the recorder does not answer: what waits is not recorded");
        } else if thread.join().is_err() {
            tracing::warn!("the recorder's thread has failed; what it held is not recorded");
        }
    }
}

impl Sink for Recorder {
    fn event(&mut self, model: &Model, at: &Stamped) -> Result<(), SinkError> {
        self.last = (at.t_ns, at.wall_ns);
        match &at.event {
            Event::Header(header) => {
                self.take_header(header, at);
                self.begin(model, false);
                return Ok(());
            }
            Event::Config(config) => {
                if let Some(header) = &mut self.header {
                    header.config.clone_from(config);
                }
                self.tell_header();
            }
            Event::End(end) if self.is_behind => {
                self.look(model);
                let lost = self.take_lost();
                let records = lost.as_ref().map_or(0, |lost| lost.records);
                if let Some(lost) = lost {
                    self.record(&Stamped { event: Event::Lost(lost), ..at.clone() });
                }
                let end = End { lost: end.lost.saturating_add(records), ..end.clone() };
                self.record(&Stamped { event: Event::End(end), ..at.clone() });
                self.flush(true);
                return Ok(());
            }
            _ => {}
        }
        self.record(at);
        match &at.event {
            Event::Tick(_) => {
                self.flush(false);
                self.look(model);
            }
            Event::Oom(_) => {
                self.flush(true);
                self.tell(Kind::Kill, at);
            }
            Event::Finding(finding) => {
                let is_urgent =
                    finding.severity == Severity::Critical && finding.state != FindingState::Closed;
                if is_urgent {
                    self.flush(true);
                }
                self.tell(Kind::Finding, at);
            }
            Event::End(_) => self.flush(true),
            _ if self.block.is_due(at.t_ns) => self.flush(false),
            _ => {}
        }
        Ok(())
    }

    fn pulse(&mut self, model: &Model) -> Result<(), SinkError> {
        self.flush(false);
        self.look(model);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.close();
        Ok(())
    }

    fn take_lost(&mut self) -> Option<Lost> {
        if self.is_behind || self.lost == 0 {
            return None;
        }
        Some(Lost { source: "recorder".into(), records: std::mem::take(&mut self.lost) })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush(true);
        self.close();
    }
}
