//! Events from a trace file. Reads what is there, up to the last whole line, passes over what is
//! damaged, and says so afterwards: [`ReplaySource::damage`].

mod damage;
mod input;
mod reader;
mod unpack;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

pub use self::damage::{Cause, Damage};
use self::input::Input;
use self::reader::Reader;
use self::unpack::{Step, Unpacker};
use super::{Flow, Source};
use crate::cli::Speed;
use crate::event::{Event, Stamped};

/// Most events that are given at once.
const BATCH: usize = 1024;
/// Longest sleep between two events; a hostile time stamp must not overflow the clock.
const MAX_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// The file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", crate::text::printable(&path.to_string_lossy()))]
pub struct OpenError {
    /// What should be read.
    pub path: PathBuf,
    /// The system's reason.
    pub source: std::io::Error,
}

/// A trace file as a source.
pub struct ReplaySource {
    input: Input,
    input_ended: bool,
    unpacker: Unpacker,
    reader: Reader,
    speed: Speed,
    /// Real time and event time of the first event.
    origin: Option<(Instant, u64)>,
    waiting: VecDeque<Stamped>,
    ended: bool,
}

impl ReplaySource {
    /// Opens a trace, compressed or not (its first bytes tell); `-` = standard input.
    pub fn open(path: &Path, speed: Speed) -> Result<Self, OpenError> {
        let input =
            Input::open(path).map_err(|source| OpenError { path: path.to_owned(), source })?;
        Ok(Self {
            input,
            input_ended: false,
            unpacker: Unpacker::new(),
            reader: Reader::default(),
            speed,
            origin: None,
            waiting: VecDeque::new(),
            ended: false,
        })
    }

    /// What is damaged, as far as the file was read.
    pub fn damage(&self) -> Option<Damage> {
        self.reader.damage()
    }

    /// Whether the recording came to its own end (an `end` line); if not, it was killed or is still
    /// running.
    pub fn is_complete(&self) -> bool {
        self.reader.ended()
    }

    /// Appends up to [`BATCH`] events; none = the end of the file.
    async fn read(&mut self, out: &mut VecDeque<Stamped>) -> anyhow::Result<()> {
        loop {
            while let Some(at) = self.reader.next() {
                out.push_back(at);
                if out.len() >= BATCH {
                    return Ok(());
                }
            }
            if !out.is_empty() || self.ended {
                return Ok(());
            }
            match self.unpacker.step(self.reader.text(), self.input_ended)? {
                Step::More => {}
                Step::Damaged(offset) => self.break_off(Cause::BadFrame, offset, out),
                Step::Cut(offset) => self.break_off(Cause::CutFrame, offset, out),
                Step::Starved if self.input_ended || self.reader.is_hopeless() => {
                    self.ended = true;
                    out.extend(self.reader.finish());
                }
                Step::Starved => match self.input.chunk().await {
                    Ok(chunk) => {
                        self.input_ended = chunk.is_empty();
                        self.unpacker.feed(&chunk);
                    }
                    Err(error) => {
                        self.input_ended = true;
                        self.reader.break_off(Cause::Unreadable(error.kind()), 0);
                    }
                },
            }
            if self.unpacker.is_packed() {
                self.reader.set_packed();
            }
        }
    }

    /// Uses the whole lines before the damage, then gives up the one that it falls into.
    fn break_off(&mut self, cause: Cause, offset: u64, out: &mut VecDeque<Stamped>) {
        while let Some(at) = self.reader.next() {
            out.push_back(at);
        }
        self.reader.break_off(cause, offset);
    }

    /// When an event is due.
    fn due(&mut self, at: &Stamped, times: f64) -> Instant {
        let now = Instant::now();
        let restarted = matches!(at.event, Event::Header(_));
        let (start, start_ns) = match self.origin {
            Some(origin) if !restarted => origin,
            _ => *self.origin.insert((now, at.t_ns)),
        };
        let elapsed_s = at.t_ns.saturating_sub(start_ns) as f64 / 1e9 / times;
        Duration::try_from_secs_f64(elapsed_s)
            .ok()
            .and_then(|elapsed| start.checked_add(elapsed))
            .unwrap_or(now + MAX_SLEEP)
            .min(now + MAX_SLEEP)
    }
}

impl Source for ReplaySource {
    async fn next(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<Flow> {
        // Events stay in `waiting` across the awaits, so that a dropped future loses none.
        let mut waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            self.read(&mut waiting).await?;
        }
        self.waiting = waiting;
        let Some(first) = self.waiting.front() else {
            return Ok(Flow::Ended("end of input"));
        };
        let Speed::Times(times) = self.speed else {
            out.extend(self.waiting.drain(..));
            return Ok(Flow::More);
        };
        let first = first.clone();
        sleep_until(self.due(&first, times)).await;
        while let Some(at) = self.waiting.pop_front() {
            if self.due(&at, times) > Instant::now() {
                self.waiting.push_front(at);
                break;
            }
            out.push(at);
        }
        Ok(Flow::More)
    }
}
