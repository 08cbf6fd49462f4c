//! Customers, who ask for a page so many times a second whatever becomes of it, and imports at set times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::http::{self, HttpError};
use crate::clock;

/// A customer waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// The one who started an import does.
const IMPORT_PATIENCE: Duration = Duration::from_secs(60);
/// A page that has this at its end came as a whole.
const LAST_WORDS: &[u8] = b" visits</p>\n";

/// What is asked for, and when.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Pages per second, all the time.
    pub pages_per_s: u32,
    /// Articles on each.
    pub articles: u32,
    /// When imports begin.
    pub imports_ms: &'static [u64],
    /// How long it goes on.
    pub lasts_ms: u64,
}

/// One page that was asked for.
#[derive(Debug)]
pub struct Asked {
    /// When, CLOCK_BOOTTIME ns.
    pub at_ns: u64,
    /// How long it took until the answer, or until it was given up.
    pub took: Duration,
    /// What is wrong with the answer; None = nothing.
    pub failure: Option<String>,
}

/// How many, and how many were answered well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Pages asked for.
    pub asked: usize,
    /// Whole pages that came in time.
    pub answered: usize,
}

impl Rate {
    /// Percent.
    pub fn percent(self) -> f64 {
        self.answered as f64 * 100.0 / self.asked.max(1) as f64
    }
}

/// All that was asked for.
#[derive(Debug)]
pub struct Log {
    /// When the load began, CLOCK_BOOTTIME ns.
    pub started_ns: u64,
    /// Pages, in the order of their time.
    pub pages: Vec<Asked>,
}

impl Log {
    /// Of pages that were asked for from `from_ms` to `to_ms` after the start.
    pub fn rate(&self, from_ms: u64, to_ms: u64) -> Rate {
        let (asked, failed) = (self.span(from_ms, to_ms), self.failures(from_ms, to_ms));
        let asked = asked.count();
        Rate { asked, answered: asked - failed.count() }
    }

    /// The most frequent failure of them.
    pub fn failure(&self, from_ms: u64, to_ms: u64) -> Option<&str> {
        let mut counts = BTreeMap::new();
        for failure in self.failures(from_ms, to_ms) {
            *counts.entry(failure).or_insert(0) += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(failure, _)| failure)
    }

    fn span(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &Asked> {
        let span = self.started_ns + from_ms * 1_000_000..self.started_ns + to_ms * 1_000_000;
        self.pages.iter().filter(move |page| span.contains(&page.at_ns))
    }

    fn failures(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &str> {
        self.span(from_ms, to_ms).filter_map(|page| page.failure.as_deref())
    }
}

/// A load under way; no more is asked for when it is dropped.
#[derive(Debug)]
pub struct Load {
    /// When it began, CLOCK_BOOTTIME ns.
    pub started_ns: u64,
    pages: Arc<Mutex<Vec<Asked>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins to ask nginx at `socket`.
    pub fn start(socket: &Path, schedule: Schedule) -> Self {
        let started_ns = clock::boot_ns();
        let (pages, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let asker = Asker { socket: socket.to_owned(), pages: Arc::clone(&pages) };
        let stop = Arc::clone(&is_over);
        let importer = socket.to_owned();
        let imports = Arc::clone(&is_over);
        let threads = vec![
            thread::spawn(move || customers(&asker, schedule, &stop)),
            thread::spawn(move || import(&importer, schedule.imports_ms, &imports)),
        ];
        Self { started_ns, pages, is_over, threads }
    }

    /// Waits for its end, and for the answers to all pages.
    pub fn finish(mut self) -> Result<Log> {
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))?;
        }
        let mut pages = std::mem::take(&mut *lock(&self.pages));
        pages.sort_by_key(|page| page.at_ns);
        Ok(Log { started_ns: self.started_ns, pages })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

struct Asker {
    socket: PathBuf,
    pages: Arc<Mutex<Vec<Asked>>>,
}

/// Each page has a customer of its own, so that a slow answer keeps nobody from asking.
fn customers(asker: &Asker, schedule: Schedule, is_over: &AtomicBool) {
    let (started, number) =
        (Instant::now(), schedule.lasts_ms * u64::from(schedule.pages_per_s) / 1000);
    thread::scope(|scope| {
        for page in 0..number {
            let at = Duration::from_millis(page * 1000 / u64::from(schedule.pages_per_s));
            if !wait_until(started + at, is_over) {
                return;
            }
            scope.spawn(move || {
                let (at_ns, asked) = (clock::boot_ns(), Instant::now());
                let uri = format!("/?page={page}&size={}", schedule.articles);
                let answer = http::get(&asker.socket, &uri, PATIENCE);
                let failure = match answer {
                    Ok(answer) if answer.status != 200 => Some(format!("status {}", answer.status)),
                    Ok(answer) if !answer.body.ends_with(LAST_WORDS) => {
                        Some("half a page".to_owned())
                    }
                    Ok(_) => None,
                    Err(error) => Some(error.to_string()),
                };
                lock(&asker.pages).push(Asked { at_ns, took: asked.elapsed(), failure });
            });
        }
    });
}

/// What becomes of an import is nobody's concern; its connection is held.
fn import(socket: &Path, times_ms: &[u64], is_over: &AtomicBool) {
    let started = Instant::now();
    for (number, time_ms) in times_ms.iter().enumerate() {
        if !wait_until(started + Duration::from_millis(*time_ms), is_over) {
            return;
        }
        let socket = socket.to_owned();
        thread::spawn(move || -> Result<(), HttpError> {
            http::get(&socket, &format!("/import?supplier={number}"), IMPORT_PATIENCE).map(drop)
        });
    }
}

/// False = it is over before.
fn wait_until(time: Instant, is_over: &AtomicBool) -> bool {
    loop {
        if is_over.load(Ordering::Relaxed) {
            return false;
        }
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
