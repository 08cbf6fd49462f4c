//! Who imports, as the pages say it themselves: the shop notes the process id at the begin of each import.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::place::Place;
use super::tree::Tree;
use crate::clock;
use crate::proc;

/// An import that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// When it was noticed, CLOCK_BOOTTIME ns.
    pub at_ns: u64,
    /// The worker, as the host counts.
    pub tgid: u32,
}

/// Follows the shop's log until it is dropped.
#[derive(Debug)]
pub struct Witness {
    imports: Arc<Mutex<Vec<Import>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Begins with the next import.
    pub fn new(tree: &Tree, place: &Arc<Place>) -> Self {
        let (imports, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let log = tree.at("/var/log/shop.log");
        let follower = Follower {
            seen: lines(&log).len(),
            log,
            place: Arc::clone(place),
            imports: Arc::clone(&imports),
        };
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || follower.follow(&over));
        Self { imports, is_over, thread: Some(thread) }
    }

    /// Imports so far.
    pub fn imports(&self) -> Vec<Import> {
        self.imports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this worker has imported.
    pub fn is_importer(&self, tgid: u32) -> bool {
        self.imports().iter().any(|import| import.tgid == tgid)
    }

    /// The largest worker that imports now, and its anonymous memory, bytes.
    pub fn largest(&self) -> Option<(u32, u64)> {
        let sizes = self
            .imports()
            .into_iter()
            .filter_map(|import| Some((import.tgid, proc::memory(import.tgid).ok()?.anon_bytes)));
        sizes.max_by_key(|(_, bytes)| *bytes)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Follower {
    log: PathBuf,
    seen: usize,
    place: Arc<Place>,
    imports: Arc<Mutex<Vec<Import>>>,
}

impl Follower {
    fn follow(mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            for line in lines(&self.log).into_iter().skip(self.seen) {
                self.seen += 1;
                let inside = line.strip_prefix("import begins in ").and_then(|id| id.parse().ok());
                let tgid = inside.and_then(|inside| self.place.tgid(inside).ok().flatten());
                if let Some(tgid) = tgid {
                    let import = Import { at_ns: clock::boot_ns(), tgid };
                    self.imports.lock().unwrap_or_else(PoisonError::into_inner).push(import);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whole lines.
fn lines(log: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}
