//! The private memory cgroup of the demo: made with a hard limit and no swap, removed when dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long removing waits for killed processes to be gone.
const REMOVE_WITHIN: Duration = Duration::from_secs(3);

/// Why there is no private cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No memory controller is mounted.
    #[error("no memory cgroup hierarchy is mounted")]
    NoHierarchy,
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

/// Where memory cgroups are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: u8,
    mount: PathBuf,
    /// Path in the hierarchy of what is mounted.
    root: String,
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
        let mounts = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(mounts).map_err(CgroupError::at(mounts))?;
        let has_memory = |mount: &Path| {
            let controllers = fs::read_to_string(mount.join("cgroup.controllers"));
            controllers.is_ok_and(|all| all.split_whitespace().any(|name| name == "memory"))
        };
        let hierarchy = find(&mounts, has_memory).ok_or(CgroupError::NoHierarchy)?;
        if hierarchy.version == 2 {
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

    fn limit(&self, version: u8, limit_bytes: u64) -> Result<(), CgroupError> {
        let limit = limit_bytes.to_string();
        if version == 2 {
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

/// The memory hierarchy among these mounts; `has_memory` says whether a cgroup2 mount has it.
fn find(mountinfo: &str, has_memory: impl Fn(&Path) -> bool) -> Option<Hierarchy> {
    mountinfo.lines().find_map(|line| {
        // 35 31 0:32 /root /mount rw,relatime shared:9 - cgroup cgroup rw,memory
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, mount) = (left.next()?.to_owned(), PathBuf::from(left.next()?));
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                Some(Hierarchy { version: 1, mount, root })
            }
            "cgroup2" if has_memory(&mount) => Some(Hierarchy { version: 2, mount, root }),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
";
    const UNIFIED: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_hierarchy_that_has_the_memory_controller() {
        let v1 = find(HYBRID, |_| false).unwrap();
        assert_eq!((v1.version, v1.root.as_str()), (1, "/docker/7"));
        assert_eq!(v1.mount, Path::new("/sys/fs/cgroup/memory"));
        let v2 = find(UNIFIED, |mount| mount == Path::new("/sys/fs/cgroup")).unwrap();
        assert_eq!((v2.version, v2.root.as_str()), (2, "/"));
        assert_eq!(find(UNIFIED, |_| false), None);
        assert_eq!(find("noise\n - \n1 2 3 - cgroup\n", |_| true), None);
    }
}
