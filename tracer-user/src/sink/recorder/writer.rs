//! The writer's thread: takes records from the ring to the disk, syncs, keeps what is to be kept. Whatever
//! blocks, blocks here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::directory::{Directory, RecorderError};
use super::handle::Shared;
use super::incidents::{Incidents, Moment};
use super::instance::Instance;
use super::ring::{Head, Kind, Receiver};
use super::segments::{Interference, Segments};
use crate::enrich::clock;
use crate::settings;

/// Stack of the thread; it touches a tenth of that, tests without optimisation more.
const STACK_BYTES: usize = 192 << 10;
/// Between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);
/// A file that fails so often in a row for another reason than a lack of room is given up.
const ATTEMPTS: u32 = 5;
/// Without anything to do it looks so often whether there is.
const IDLE: Duration = Duration::from_secs(60);
/// Once the run is over, a disk that takes nothing is waited for no longer than this.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);

/// The thread's own state.
pub(super) struct Writer {
    pub directory: Directory,
    /// The lock, unless who opened the recorder holds it.
    pub instance: Option<Instance>,
    pub records: Receiver,
    pub segments: Segments,
    pub incidents: Incidents,
    pub shared: Arc<Shared>,
    pub settings: settings::Recorder,
    pub generation: u64,
    pub header: Vec<u8>,
    pub synced: Instant,
    /// Attempts that failed since the last that did not.
    pub failed: u32,
    /// What was written must be on the disk before anything else is done.
    pub is_urgent: bool,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Done with it.
    Done,
    /// It is tried again.
    Again,
}

impl Writer {
    /// Starts the thread.
    pub fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name("recorder".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || self.run())
    }

    fn run(mut self) {
        let mut ending: Option<Instant> = None;
        self.incidents.limit(&self.settings);
        self.show_totals();
        loop {
            // Looked at first: what is in the ring by then is written before the end.
            let is_ending = self.shared.is_ending.load(Acquire);
            if let Some(settings) = self.shared.news(&mut self.generation) {
                self.settings = settings;
                if let Some((t_ns, wall_ns)) = self.segments.last() {
                    self.segments.retain(&self.settings, t_ns, wall_ns);
                }
                self.incidents.limit(&self.settings);
            }
            let is_drained = self.drain();
            let is_due = self.segments.is_dirty() && self.until_sync().is_zero();
            if self.is_urgent || is_due {
                self.sync();
            }
            self.incidents.settle(is_due);
            self.show_totals();
            if is_ending {
                let since = *ending.get_or_insert_with(Instant::now);
                if is_drained || since.elapsed() > LAST_ATTEMPTS {
                    return self.finish();
                }
            }
            let wait = match is_drained {
                false => RETRY,
                true if self.segments.is_dirty() => self.until_sync(),
                true => IDLE,
            };
            thread::park_timeout(wait);
        }
    }

    fn finish(&mut self) {
        if let Err(error) = self.segments.end() {
            self.fail(&error);
        } else {
            self.say_synced();
        }
        self.incidents.finish(&self.settings);
        self.show_totals();
    }

    fn until_sync(&self) -> Duration {
        self.settings.sync.get().saturating_sub(self.synced.elapsed())
    }

    /// Takes what there is. False = writing failed, and the rest waits.
    fn drain(&mut self) -> bool {
        loop {
            let Some(record) = self.records.peek() else { return true };
            let head = record.head;
            match head.kind {
                Kind::Block => {
                    let payload = record.payload();
                    let (segments, failed) = (&mut self.segments, &mut self.failed);
                    if block(segments, &self.shared, failed, &head, payload) == Step::Again {
                        return false;
                    }
                    record.done();
                    self.is_urgent |= head.is_urgent;
                    self.incidents.pass(head.t_ns, &self.settings);
                }
                Kind::Segment => {
                    // It stays in the ring until the file is there.
                    if self.segment(&head) == Step::Again {
                        return false;
                    }
                    if let Some(record) = self.records.peek() {
                        record.done();
                    }
                }
                Kind::Header => {
                    self.header = record.payload().concat();
                    record.done();
                }
                Kind::Finding | Kind::Kill => {
                    let line = record.payload().concat();
                    record.done();
                    self.said(&line, &head);
                }
            }
        }
    }

    /// What is urgent is on the disk before anything is done about it.
    fn said(&mut self, line: &[u8], head: &Head) {
        if self.is_urgent {
            self.sync();
        }
        let at = Moment { t_ns: head.t_ns, wall_ns: head.wall_ns };
        self.incidents.take(line, at, &self.segments, &self.settings, &self.header);
    }

    /// A new segment begins.
    fn segment(&mut self, head: &Head) -> Step {
        if let Err(error) = self.segments.end() {
            self.fail(&error);
        }
        match self.own_directory() {
            Ok(()) => {}
            Err(RecorderError::Io { source, .. }) => return self.fail(&source),
            Err(error) => return self.fail(&io::Error::other(error)),
        }
        self.segments.retain(&self.settings, head.t_ns, head.wall_ns);
        if let Err(error) = self.segments.begin(head.number, head.t_ns, head.wall_ns) {
            if error.kind() == io::ErrorKind::AlreadyExists {
                // Somebody planted it; the pipeline goes on with the next number.
                self.shared.broken.store(head.number, Release);
                return Step::Done;
            }
            if self.segments.current().is_none_or(|current| current.number != head.number) {
                return self.fail(&error);
            }
            tracing::warn!("the recorder's directory could not be synced: {error}");
        }
        works_again(&self.shared, &mut self.failed);
        if let Some(current) = self.segments.current() {
            let path = current.path.clone();
            self.incidents.link(&path, &self.settings);
        }
        Step::Done
    }

    /// The directory is there, and nobody else's.
    fn own_directory(&mut self) -> Result<(), RecorderError> {
        if self.directory.make()? {
            tracing::warn!(
                "the recorder's directory, or a part of it, was removed and is made anew; what was in it is gone"
            );
        }
        if let Some(instance) = Instance::keep(&self.directory)? {
            self.instance = Some(instance);
        }
        Ok(())
    }

    fn sync(&mut self) {
        self.is_urgent = false;
        self.synced = Instant::now();
        let number = self.segments.current().map_or(0, |current| current.number);
        match self.segments.sync() {
            Ok(true) => self.say_synced(),
            Ok(false) => {}
            Err(error) => {
                // The kernel tells it once and forgets what it could not write: this file is over.
                tracing::warn!(
                    "segment {number} of the recorder is not whole, up to {} of it may be missing: {error}",
                    self.settings.sync
                );
                self.segments.forget_current();
                self.shared.broken.store(number, Release);
            }
        }
    }

    fn say_synced(&self) {
        let now_ns = clock::boot_ns().cast_signed().saturating_add(clock::wall_offset_ns());
        self.shared.synced_wall_ns.store(now_ns, Relaxed);
    }

    fn show_totals(&self) {
        let (segments, bytes) = self.segments.totals();
        self.shared.segments.store(segments, Relaxed);
        self.shared.segment_bytes.store(bytes, Relaxed);
        self.shared.incidents.store(self.incidents.count(), Relaxed);
    }

    fn fail(&mut self, error: &io::Error) -> Step {
        fail(&self.shared, &mut self.failed, error)
    }
}

/// Writes a block to the current segment.
fn block(
    segments: &mut Segments,
    shared: &Shared,
    failed: &mut u32,
    head: &Head,
    payload: [&[u8]; 2],
) -> Step {
    let number = segments.current().map_or(0, |current| current.number);
    match segments.interference() {
        None => {}
        Some(what) => {
            let is_known = shared.moved.load(Relaxed) == number;
            if what != Interference::Moved {
                give_up(segments, shared, number);
            } else if !is_known {
                shared.moved.store(number, Release);
            }
            if what != Interference::Moved || !is_known {
                let words = what.words();
                tracing::warn!("segment {number} of the recorder {words}; it goes on in a new one");
            }
        }
    }
    match segments.write(payload, head.t_ns, head.wall_ns) {
        Ok(true) => {
            let bytes = payload.iter().map(|part| part.len() as u64).sum();
            shared.bytes.fetch_add(bytes, Relaxed);
            shared.events.fetch_add(u64::from(head.events), Relaxed);
            works_again(shared, failed);
        }
        Ok(false) => {
            shared.dropped.fetch_add(u64::from(head.events), Relaxed);
        }
        Err(error) => {
            fail(shared, failed, &error);
            let is_full = matches!(
                error.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::ReadOnlyFilesystem
            );
            if is_full || *failed < ATTEMPTS {
                return Step::Again;
            }
            shared.dropped.fetch_add(u64::from(head.events), Relaxed);
            give_up(segments, shared, number);
        }
    }
    Step::Done
}

fn give_up(segments: &mut Segments, shared: &Shared, number: u64) {
    segments.forget_current();
    shared.broken.store(number, Release);
}

fn fail(shared: &Shared, failed: &mut u32, error: &io::Error) -> Step {
    *failed = failed.saturating_add(1);
    if shared.failing().is_none() {
        tracing::warn!(
            "the recorder cannot write: {error}; it tries on, and counts what does not fit in memory"
        );
        shared.set_failing(Some(error.to_string()));
    }
    Step::Again
}

fn works_again(shared: &Shared, failed: &mut u32) {
    if std::mem::take(failed) > 0 {
        tracing::warn!("the recorder writes again");
        shared.set_failing(None);
    }
}
