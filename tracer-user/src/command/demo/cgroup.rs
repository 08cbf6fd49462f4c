//! The private memory cgroup of the demo: made with a hard limit and no swap, removed when dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::enrich::cgroup::{Hierarchy, Version};

/// How long removing waits for killed processes to be gone.
const REMOVE_WITHIN: Duration = Duration::from_secs(3);

/// Why there is no private cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No memory controller is mounted.
    #[error("no memory cgroup hierarchy was found: {0}")]
    NoHierarchy(io::Error),
    /// The system refused.
    #[error("{path}: {source}")]
    Refused {
        /// What was made or written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl CgroupError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Refused { path: path.to_owned(), source }
    }
}

/// A memory cgroup that is ours.
#[derive(Debug)]
pub struct PrivateCgroup {
    folder: PathBuf,
    path: String,
}

impl PrivateCgroup {
    /// Makes `name` below the root of the hierarchy, with a limit of `limit_bytes` and no swap.
    pub fn make(name: &str, limit_bytes: u64) -> Result<Self, CgroupError> {
        let hierarchy = Hierarchy::detect().map_err(CgroupError::NoHierarchy)?;
        if hierarchy.version == Version::V2 {
            delegate(&hierarchy.mount)?;
        }
        let folder = hierarchy.mount.join(name);
        fs::create_dir(&folder).map_err(CgroupError::at(&folder))?;
        let path = format!("{}/{name}", hierarchy.root.trim_end_matches('/'));
        let cgroup = Self { folder, path };
        cgroup.limit(hierarchy.version, limit_bytes)?;
        Ok(cgroup)
    }

    /// Path in the hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Moves a process in; what it has allocated before stays where it was charged.
    pub fn join(&self, tgid: u32) -> Result<(), CgroupError> {
        self.set("cgroup.procs", &tgid.to_string())
    }

    fn limit(&self, version: Version, limit_bytes: u64) -> Result<(), CgroupError> {
        let limit = limit_bytes.to_string();
        if version == Version::V2 {
            self.set("memory.max", &limit)?;
            self.set_if_there("memory.swap.max", "0")?;
            return self.set_if_there("memory.oom.group", "0");
        }
        self.set("memory.limit_in_bytes", &limit)?;
        // Memory and swap together, only with swap accounting; without it, swappiness 0 keeps this
        // cgroup out of swap.
        self.set_if_there("memory.memsw.limit_in_bytes", &limit)?;
        self.set_if_there("memory.swappiness", "0")?;
        // 1 is inherited, and would make the tasks hang instead of one being killed.
        self.set_if_there("memory.oom_control", "0")
    }

    fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.folder.join(file);
        fs::write(&path, value).map_err(CgroupError::at(&path))
    }

    fn set_if_there(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        if self.folder.join(file).exists() { self.set(file, value) } else { Ok(()) }
    }

    /// Removes it; its processes must be ended and waited for.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let started = Instant::now();
        loop {
            match fs::remove_dir(&self.folder) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // The kernel is still taking the killed processes apart.
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy
                        && started.elapsed() < REMOVE_WITHIN =>
                {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(CgroupError::at(&self.folder)(error)),
            }
        }
    }
}

impl Drop for PrivateCgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("the demo's cgroup could not be removed: {error}");
        }
    }
}

/// Lets children of the root have memory limits; mostly they already may.
fn delegate(mount: &Path) -> Result<(), CgroupError> {
    let path = mount.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&path).map_err(CgroupError::at(&path))?;
    if enabled.split_whitespace().any(|name| name == "memory") {
        return Ok(());
    }
    fs::write(&path, "+memory").map_err(CgroupError::at(&path))
}
