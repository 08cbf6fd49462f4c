//! Events from a trace file, or from the segments of a recorder as one. Reads what is there, up to the last whole line, passes over what is
//! damaged, and says so afterwards: [`ReplaySource::damage`].

mod damage;
mod input;
mod reader;
mod segments;
mod unpack;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

pub use self::damage::{Cause, Damage};
use self::input::Input;
use self::reader::Reader;
pub use self::segments::Break;
use self::segments::Chain;
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

/// A trace file, or a folder of segments, as a source.
pub struct ReplaySource {
    path: PathBuf,
    chain: Chain,
    /// Of files that are read.
    damage: Option<(PathBuf, Damage)>,
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
    /// Opens a trace, compressed or not (its first bytes tell); `-` = standard input. Of a folder the
    /// segments are read: of an incident, or of the rolling trace.
    pub fn open(path: &Path, speed: Speed) -> Result<Self, OpenError> {
        let fail = |source| OpenError { path: path.to_owned(), source };
        let mut chain = Chain::default();
        let mut file = path.to_owned();
        if path.is_dir() {
            chain = Chain::open(path).map_err(fail)?;
            file = chain.next_file().unwrap_or(file);
        }
        Ok(Self {
            chain,
            damage: None,
            input: Input::open(&file).map_err(fail)?,
            path: file,
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
        self.damaged_file().map(|(_, damage)| damage)
    }

    /// The same, and in which file: of several the first that is damaged.
    pub fn damaged_file(&self) -> Option<(&Path, Damage)> {
        let before = self.damage.as_ref().map(|(path, damage)| (path.as_path(), *damage));
        before.or_else(|| Some((self.path.as_path(), self.reader.damage()?)))
    }

    /// Where segments do not follow each other.
    pub fn breaks(&self) -> &[Break] {
        self.chain.breaks()
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
                out.extend(self.chain.pass(at));
                if out.len() >= BATCH {
                    return Ok(());
                }
            }
            if !out.is_empty() {
                return Ok(());
            }
            if self.ended {
                match self.chain.next_file() {
                    Some(path) => self.go_on(path)?,
                    None => return Ok(()),
                }
            }
            match self.unpacker.step(self.reader.text(), self.input_ended)? {
                Step::More => {}
                Step::Damaged(offset) => self.break_off(Cause::BadFrame, offset, out),
                Step::Cut(offset) => self.break_off(Cause::CutFrame, offset, out),
                Step::Starved if self.input_ended || self.reader.is_hopeless() => {
                    self.ended = true;
                    if let Some(at) = self.reader.finish() {
                        out.extend(self.chain.pass(at));
                    }
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

    /// Leaves a segment that is read for the next one.
    fn go_on(&mut self, path: PathBuf) -> anyhow::Result<()> {
        // One that was begun when the recorder was killed has nothing in it.
        let damage = self.reader.damage().filter(|damage| damage.cause != Cause::Empty);
        self.chain.end_file(damage.is_none() && self.reader.is_rotated());
        let read = std::mem::replace(&mut self.path, path);
        if self.damage.is_none() {
            self.damage = damage.map(|damage| (read, damage));
        }
        self.input = match Input::open(&self.path) {
            // Retention was quicker: it is missing, as others may be.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(|source| OpenError { path: self.path.clone(), source })?,
        };
        self.unpacker = Unpacker::new();
        self.reader = Reader::default();
        (self.input_ended, self.ended) = (false, false);
        Ok(())
    }

    /// Uses the whole lines before the damage, then gives up the one that it falls into.
    fn break_off(&mut self, cause: Cause, offset: u64, out: &mut VecDeque<Stamped>) {
        while let Some(at) = self.reader.next() {
            out.extend(self.chain.pass(at));
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
