//! Watches the size of one process, and where it grows, in a thread of its own: a look at a process
//! that holds its mmap_lock waits for it, and holds up nobody else here.
//!
//! The size is RssAnon + VmSwap of /proc/TGID/status: 10 µs a reading (statm takes 1.4 µs, but does
//! not know what is swapped out). From Linux 6.2 to 6.15 the kernel's counters may be behind by 32
//! pages for each CPU that the process ran on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::folded::Place;
use super::looks::Looks;
use super::samples::Samples;
use super::size::Size;
use crate::enrich::file::BUFFER_BYTES;
use crate::enrich::status::Status;
use crate::php::{Look, LookOptions, Looker, Reason, Target};

/// Time between two readings of the size: a fifth of a per cent of a core.
const PAUSE: Duration = Duration::from_millis(5);

/// Growth, and where it was seen.
#[derive(Debug)]
pub struct Step {
    /// Since the step before.
    pub grown_bytes: u64,
    /// What it gave back since the step before.
    pub shrunk_bytes: u64,
    /// Where it grew, or was soon after.
    pub place: Place,
    /// A sample or a look tells the place, rather than that there was none to take.
    pub seen: bool,
}

/// Who tells where it grows.
#[derive(Debug)]
enum Witness {
    Samples(Box<Samples>),
    Looks(Looks),
}

/// A process that is watched.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    status: File,
    size: Size,
    witness: Witness,
    late: Option<String>,
}

impl Watch {
    /// Starts from the present size. `first`: a look that `looker` has just taken. Not found when the
    /// process has ended.
    pub fn new(
        target: Target,
        looker: Looker,
        options: LookOptions,
        first: Look,
    ) -> io::Result<Self> {
        let (witness, late) = match Samples::start(looker, options, first) {
            Ok(samples) => (Witness::Samples(Box::new(samples)), None),
            Err((looker, why)) => (Witness::Looks(Looks::new(looker, options)), Some(why)),
        };
        let status = target.open_file("status")?;
        let size = Size::new(size(&status).ok_or(io::ErrorKind::NotFound)?);
        Ok(Self { target, status, size, witness, late })
    }

    /// Why places are those after the growth; None = the kernel samples it.
    pub fn late(&self) -> Option<&str> {
        self.late.as_deref()
    }

    /// Sends steps until `stop` is closed, or the process has ended.
    pub fn run(mut self, stop: &Receiver<()>, steps: Sender<Step>) {
        loop {
            let stopped = stop.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout);
            let (found, alive) = self.step(stopped);
            for step in found {
                if steps.blocking_send(step).is_err() {
                    return;
                }
            }
            if stopped || !alive {
                // Whoever adds up need not wait until the kernel programs are detached.
                drop(steps);
                return;
            }
        }
    }

    /// What happened since the last call, and whether the process lives on.
    fn step(&mut self, last: bool) -> (Vec<Step>, bool) {
        let mut found = Vec::new();
        if let Witness::Samples(samples) = &mut self.witness {
            samples.take(&self.target, &mut self.size, &mut found);
        }
        let Some(size_bytes) = size(&self.status) else {
            found.push(self.size.rest().step(Place::unread(&Reason::Gone), false));
            return (found, false);
        };
        self.size.is_now(size_bytes);
        match &mut self.witness {
            Witness::Looks(looks) => found.extend(looks.take(&self.target, &mut self.size, last)),
            Witness::Samples(_) if last => {
                found.push(self.size.rest().step(Place::unsampled(), false));
            }
            Witness::Samples(_) => {}
        }
        (found, true)
    }
}

/// Anon + swap, bytes; None = the process has ended.
fn size(status: &File) -> Option<u64> {
    let mut buffer = [0; BUFFER_BYTES];
    let bytes = status.read_at(&mut buffer, 0).ok()?;
    let status = Status::parse(&buffer[..bytes]);
    status.has_memory.then(|| status.anon_bytes.saturating_add(status.swap_bytes))
}
