//! What others see of a recorder that runs: totals, and the settings that a reload changes.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::settings;

/// Totals since the start, and how it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events written, without state that is written anew.
    pub events: u64,
    /// Bytes written, packed.
    pub bytes: u64,
    /// Events that were not recorded.
    pub lost: u64,
    /// Segments that are kept now.
    pub segments: u64,
    /// Bytes of them.
    pub segment_bytes: u64,
    /// Incidents that are kept now.
    pub incidents: u64,
    /// When all that was written so far was last known to be on the disk, ns since 1970; None = never.
    pub synced_wall_ns: Option<i64>,
    /// Why nothing can be written at the moment.
    pub failing: Option<String>,
}

/// Between pipeline, writer and whoever asks. No lock is held while anything is read or written.
#[derive(Debug)]
pub(super) struct Shared {
    pub events: AtomicU64,
    pub bytes: AtomicU64,
    pub lost: AtomicU64,
    pub segments: AtomicU64,
    pub segment_bytes: AtomicU64,
    pub incidents: AtomicU64,
    pub synced_wall_ns: AtomicI64,
    failing: Mutex<Option<String>>,
    settings: Mutex<settings::Recorder>,
    generation: AtomicU64,
    /// Events that the writer had to give up; the pipeline tells and counts them.
    pub dropped: AtomicU64,
    /// The last segment that the writer gave up: its state must be told anew.
    pub broken: AtomicU64,
    /// The last segment that is no longer in its place; it goes on in a new one.
    pub moved: AtomicU64,
    /// The run is over: write what waits, and end.
    pub is_ending: AtomicBool,
}

impl Shared {
    pub fn new(settings: &settings::Recorder) -> Self {
        Self {
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            segment_bytes: AtomicU64::new(0),
            incidents: AtomicU64::new(0),
            synced_wall_ns: AtomicI64::new(i64::MIN),
            failing: Mutex::new(None),
            settings: Mutex::new(settings.clone()),
            generation: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
        }
    }

    /// The settings in force, if they are others than those of `generation`, which is renewed.
    pub fn news(&self, generation: &mut u64) -> Option<settings::Recorder> {
        let now = self.generation.load(Relaxed);
        (std::mem::replace(generation, now) != now).then(|| lock(&self.settings).clone())
    }

    /// Writing fails, and why; None = it works.
    pub fn set_failing(&self, reason: Option<String>) {
        *lock(&self.failing) = reason;
    }

    pub fn failing(&self) -> Option<String> {
        lock(&self.failing).clone()
    }
}

/// A recorder seen from elsewhere.
#[derive(Clone, Debug)]
pub struct RecorderHandle(pub(super) Arc<Shared>);

impl RecorderHandle {
    /// Of a recorder that could not begin.
    pub fn failed(settings: &settings::Recorder, reason: String) -> Self {
        let shared = Shared::new(settings);
        shared.set_failing(Some(reason));
        Self(Arc::new(shared))
    }

    /// Puts other settings in force; another `directory` only at the next start.
    pub fn apply(&self, settings: &settings::Recorder) {
        let mut current = lock(&self.0.settings);
        let directory = std::mem::take(&mut current.directory);
        *current = settings::Recorder { directory, ..settings.clone() };
        self.0.generation.fetch_add(1, Relaxed);
    }

    /// How it is now.
    pub fn totals(&self) -> Totals {
        let shared = &self.0;
        let synced_wall_ns = shared.synced_wall_ns.load(Relaxed);
        Totals {
            events: shared.events.load(Relaxed),
            bytes: shared.bytes.load(Relaxed),
            lost: shared.lost.load(Relaxed),
            segments: shared.segments.load(Relaxed),
            segment_bytes: shared.segment_bytes.load(Relaxed),
            incidents: shared.incidents.load(Relaxed),
            synced_wall_ns: (synced_wall_ns != i64::MIN).then_some(synced_wall_ns),
            failing: shared.failing(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
