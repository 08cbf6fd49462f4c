//! What a run looks like from outside: usage of a limit and resident memory of all in the cgroups,
//! ten times a second.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::cgroup::{MemoryCgroup, Version};
use crate::clock;

const EVERY: Duration = Duration::from_millis(100);

/// One look.
#[derive(Clone, Debug)]
pub struct Sample {
    /// CLOCK_BOOTTIME ns.
    pub t_ns: u64,
    /// Charge of the limit's cgroup.
    pub usage_bytes: u64,
    /// Its limit.
    pub limit_bytes: u64,
    /// Resident memory by tgid.
    pub rss: Vec<(u32, u64)>,
}

/// Looks until it is stopped.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    /// Watches `limit`, and all processes in it and in `others`.
    pub fn start(limit: &MemoryCgroup, others: &[&MemoryCgroup]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let limit = limit.watch();
        let others: Vec<Watched> = others.iter().map(|cgroup| cgroup.watch()).collect();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                samples.extend(limit.look(&others).ok());
                std::thread::sleep(EVERY);
            }
            samples
        });
        Self { stop, thread: Some(thread) }
    }

    /// All looks.
    pub fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A cgroup as it is read from another thread.
#[derive(Clone, Debug)]
struct Watched {
    version: Version,
    folder: std::path::PathBuf,
}

impl MemoryCgroup {
    fn watch(&self) -> Watched {
        Watched { version: self.version(), folder: self.folder().to_owned() }
    }
}

impl Watched {
    fn look(&self, others: &[Self]) -> Result<Sample> {
        let (usage, limit) = match self.version {
            Version::V1 => ("memory.usage_in_bytes", "memory.limit_in_bytes"),
            Version::V2 => ("memory.current", "memory.max"),
        };
        let read = |name: &str| fs::read_to_string(self.folder.join(name));
        let mut rss = Vec::new();
        for cgroup in others.iter().chain([self]) {
            let procs = fs::read_to_string(cgroup.folder.join("cgroup.procs")).unwrap_or_default();
            for tgid in procs.lines().filter_map(|line| line.parse::<u32>().ok()) {
                rss.extend(resident(tgid).map(|bytes| (tgid, bytes)));
            }
        }
        rss.sort_unstable();
        rss.dedup_by_key(|(tgid, _)| *tgid);
        Ok(Sample {
            t_ns: clock::boot_ns(),
            usage_bytes: read(usage)?.trim().parse()?,
            limit_bytes: read(limit)?.trim().parse().unwrap_or(u64::MAX),
            rss,
        })
    }
}

fn resident(tgid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{tgid}/statm")).ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}
