//! Watches the size of one process, and looks into it as it grows, in a thread of its own: a look
//! at a process that holds its mmap_lock waits for it, and holds up nobody else here.
//!
//! The size is RssAnon + VmSwap of /proc/TGID/status: 10 µs a reading (statm takes 1.4 µs, but does
//! not know what is swapped out). Since Linux 6.2 the kernel's counters may be behind by 32 pages
//! for each CPU that the process ran on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::folded::Place;
use crate::enrich::file::BUFFER_BYTES;
use crate::enrich::status::Status;
use crate::php::{LookOptions, Looker, Reason, Target};

/// Time between two readings of the size: a fifth of a per cent of a core.
const PAUSE: Duration = Duration::from_millis(5);
/// Growth that is worth a look, bytes …
const STEP_BYTES: u64 = 256 << 10;
/// … but not sooner than after this: at most 100 looks a second, at 0.1 to 0.4 ms each.
const APART: Duration = Duration::from_millis(10);

/// Growth, and where it was seen.
#[derive(Debug)]
pub struct Step {
    /// Since the step before.
    pub grown_bytes: u64,
    /// What it gave back since the step before.
    pub shrunk_bytes: u64,
    /// Where it is now.
    pub place: Place,
    /// A look was taken, rather than that there was none to take.
    pub looked: bool,
}

/// A process that is watched.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    looker: Looker,
    options: LookOptions,
    status: File,
    /// The size from which growth counts, and the size as it was last read.
    base_bytes: u64,
    size_bytes: u64,
    shrunk_bytes: u64,
}

impl Watch {
    /// Starts from the present size. Not found when the process has ended.
    pub fn new(target: Target, looker: Looker, options: LookOptions) -> io::Result<Self> {
        let status = target.open_file("status")?;
        let size_bytes = size(&status).ok_or(io::ErrorKind::NotFound)?;
        let base_bytes = size_bytes;
        Ok(Self { target, looker, options, status, base_bytes, size_bytes, shrunk_bytes: 0 })
    }

    /// Sends steps until `stop` is closed, or the process has ended.
    pub fn run(mut self, stop: &Receiver<()>, steps: &Sender<Step>) {
        let mut looked = None::<Instant>;
        loop {
            let stopped = stop.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout);
            let Some(size_bytes) = size(&self.status) else {
                let _ = self.step(steps, Place::unread(&Reason::Gone), false);
                return;
            };
            self.size_bytes = size_bytes;
            self.shrunk_bytes += self.base_bytes.saturating_sub(size_bytes);
            self.base_bytes = self.base_bytes.min(size_bytes);
            let grown_bytes = size_bytes - self.base_bytes;
            let may_look = looked.is_none_or(|looked: Instant| looked.elapsed() >= APART);
            if (grown_bytes >= STEP_BYTES && may_look) || (stopped && grown_bytes > 0) {
                looked = Some(Instant::now());
                let place = Place::of(&self.looker.look_at(&self.target, &self.options));
                if !self.step(steps, place, true) {
                    return;
                }
            }
            if stopped {
                return;
            }
        }
    }

    /// Gives what it grew to a place. Tells whether somebody listens.
    fn step(&mut self, steps: &Sender<Step>, place: Place, looked: bool) -> bool {
        let step = Step {
            grown_bytes: self.size_bytes - self.base_bytes,
            shrunk_bytes: std::mem::take(&mut self.shrunk_bytes),
            place,
            looked,
        };
        self.base_bytes = self.size_bytes;
        steps.blocking_send(step).is_ok()
    }
}

/// Anon + swap, bytes; None = the process has ended.
fn size(status: &File) -> Option<u64> {
    let mut buffer = [0; BUFFER_BYTES];
    let bytes = status.read_at(&mut buffer, 0).ok()?;
    let status = Status::parse(&buffer[..bytes]);
    status.has_memory.then(|| status.anon_bytes.saturating_add(status.swap_bytes))
}
