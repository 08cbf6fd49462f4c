//! A private memory cgroup, v1 or v2, with a limit; whoever is in it when it is dropped is killed.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::clock;

/// Which kind of hierarchy holds the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// memory.limit_in_bytes, memory.oom_control.
    V1,
    /// memory.max, memory.events.
    V2,
}

/// A memory cgroup made for one test.
#[derive(Debug)]
pub struct MemoryCgroup {
    version: Version,
    /// Where the hierarchy is mounted.
    root: PathBuf,
    folder: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);
/// v1 until 5.10: whether a cgroup is charged for those below it. From 5.11 on it always is.
const HIERARCHICAL: &str = "memory.use_hierarchy";

impl MemoryCgroup {
    /// A cgroup below the root of the memory hierarchy that may hold `limit_bytes`, together with
    /// those below it.
    pub fn new(name: &str, limit_bytes: u64) -> Result<Self> {
        let cgroup = Self::flat(name, limit_bytes)?;
        let hierarchical = cgroup.folder.join(HIERARCHICAL);
        if hierarchical.exists() {
            write(&hierarchical, "1")?;
        }
        Ok(cgroup)
    }

    /// The same as the kernel makes it: where [`is_flat`], it is not charged for those below it.
    pub fn flat(name: &str, limit_bytes: u64) -> Result<Self> {
        let (version, root) = hierarchy()?;
        if version == Version::V2 {
            write(&root.join("cgroup.subtree_control"), "+memory")?;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("rampage-{name}-{}-{number}", std::process::id()));
        let cgroup = Self::make(version, root, folder)?;
        cgroup.set_limit(limit_bytes)?;
        Ok(cgroup)
    }

    /// The same without a limit: for what exhausts the whole machine.
    pub fn unlimited(name: &str) -> Result<Self> {
        Self::new(name, u64::MAX)
    }

    /// A cgroup inside this one, without a limit of its own. Drop it before its parent.
    pub fn child(&self, name: &str) -> Result<Self> {
        if self.version == Version::V2 {
            write(&self.folder.join("cgroup.subtree_control"), "+memory")?;
        }
        Self::make(self.version, self.root.clone(), self.folder.join(name))
    }

    fn make(version: Version, root: PathBuf, folder: PathBuf) -> Result<Self> {
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { version, root, folder })
    }

    /// v1 or v2.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its folder below /sys/fs/cgroup.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its path in the hierarchy, as traces name it: `/rampage-…`.
    pub fn path(&self) -> String {
        let below = self.folder.strip_prefix(&self.root).unwrap_or(&self.folder);
        format!("/{}", below.display())
    }

    /// Sets the limit of memory, bytes.
    pub fn set_limit(&self, bytes: u64) -> Result<()> {
        let text = bytes.to_string();
        let (v1, v2) = if bytes == u64::MAX { ("-1", "max") } else { (&*text, &*text) };
        let value = if self.version == Version::V1 { v1 } else { v2 };
        self.set("memory.limit_in_bytes", "memory.max", value)
    }

    /// Above how much its processes are slowed down, bytes; v2 only.
    pub fn set_high(&self, bytes: u64) -> Result<()> {
        self.set_v2("memory.high", &bytes.to_string())
    }

    /// How much of it may be swapped out, bytes; v2 only.
    pub fn set_swap_limit(&self, bytes: u64) -> Result<()> {
        self.set_v2("memory.swap.max", &bytes.to_string())
    }

    /// How readily anonymous pages are swapped out, 0 to 200; v1 only.
    pub fn set_swappiness(&self, swappiness: u32) -> Result<()> {
        if self.version == Version::V2 {
            bail!("cgroup v2 has no memory.swappiness");
        }
        write(&self.folder.join("memory.swappiness"), &swappiness.to_string())
    }

    /// Lets tasks hang at the limit instead of killing one; v1 only.
    pub fn set_oom_disabled(&self) -> Result<()> {
        if self.version == Version::V2 {
            bail!("cgroup v2 cannot disable the OOM killer");
        }
        write(&self.folder.join("memory.oom_control"), "1")
    }

    /// Makes the OOM killer take all processes of this cgroup at once; v2 only.
    pub fn set_oom_group(&self) -> Result<()> {
        self.set_v2("memory.oom.group", "1")
    }

    /// Group kills in this cgroup and below; None = the kernel does not count them (before Linux 5.17), or v1.
    pub fn group_kills(&self) -> Result<Option<u64>> {
        if self.version == Version::V1 {
            return Ok(None);
        }
        let text = read(&self.folder.join("memory.events"))?;
        let value = text.lines().find_map(|line| line.strip_prefix("oom_group_kill "));
        Ok(value.map(str::parse).transpose()?)
    }

    /// Charge now, bytes.
    pub fn usage_bytes(&self) -> Result<u64> {
        let name = self.file("memory.usage_in_bytes", "memory.current");
        Ok(read(&self.folder.join(name))?.trim().parse()?)
    }

    /// Processes that the OOM killer has killed in this cgroup and below.
    pub fn oom_kills(&self) -> Result<u64> {
        // v1 counts at the victim's cgroup only, v2 also at all above it.
        let mut kills = 0;
        let folders = match self.version {
            Version::V1 => subtree(&self.folder)?,
            Version::V2 => vec![self.folder.clone()],
        };
        for folder in folders {
            let text = read(&folder.join(self.file("memory.oom_control", "memory.events")))?;
            let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            kills += value.context("no oom_kill counter")?.parse::<u64>()?;
        }
        Ok(kills)
    }

    /// A counter of memory.events (`high`, `max`, `oom_kill` …); v2 only.
    pub fn event(&self, name: &str) -> Result<u64> {
        let text = read(&self.folder.join("memory.events"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("memory.events has no {name}"))?.parse()?)
    }

    /// Moves a process here.
    pub fn add(&self, pid: u32) -> Result<()> {
        write(&self.folder.join("cgroup.procs"), &pid.to_string())
    }

    /// Makes `command` join this cgroup before it runs anything of its own.
    pub fn confine(&self, command: &mut Command) -> Result<()> {
        let procs = fs::OpenOptions::new().write(true).open(self.folder.join("cgroup.procs"))?;
        let join = move || {
            // SAFETY: write is async-signal-safe; the descriptor is owned by this closure.
            match unsafe { libc::write(procs.as_raw_fd(), b"0".as_ptr().cast(), 1) } {
                1 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure only calls write, which is allowed between fork and exec.
        unsafe { command.pre_exec(join) };
        Ok(())
    }

    /// Processes in it now, without those below.
    pub fn processes(&self) -> Result<Vec<u32>> {
        processes(&self.folder)
    }

    fn file(&self, v1: &'static str, v2: &'static str) -> &'static str {
        match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        }
    }

    fn set_v2(&self, file: &str, value: &str) -> Result<()> {
        if self.version == Version::V1 {
            bail!("cgroup v1 has no {file}");
        }
        write(&self.folder.join(file), value)
    }

    fn set(&self, v1: &'static str, v2: &'static str, value: &str) -> Result<()> {
        write(&self.folder.join(self.file(v1, v2)), value)
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + clock::patient(Duration::from_secs(10));
        loop {
            let mut removed = true;
            for folder in subtree(&self.folder).unwrap_or_default() {
                for pid in processes(&folder).unwrap_or_default() {
                    // SAFETY: kill takes any pid; it is in a cgroup that only this test fills.
                    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
                }
                removed &= fs::remove_dir(&folder).is_ok();
            }
            if removed {
                return;
            }
            if Instant::now() > deadline {
                eprintln!("cannot remove {}: processes remain", self.folder.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where the memory controller is; None = nowhere.
pub fn version() -> Option<Version> {
    hierarchy().ok().map(|(version, _)| version)
}

/// Whether a cgroup that does not ask for it is not charged for those below it.
pub fn is_flat() -> bool {
    hierarchy().is_ok_and(|(version, root)| {
        let said = || fs::read_to_string(root.join(HIERARCHICAL));
        version == Version::V1 && said().is_ok_and(|text| text.trim() == "0")
    })
}

/// Version and mount point of the memory controller.
fn hierarchy() -> Result<(Version, PathBuf)> {
    for line in read(Path::new("/proc/self/mounts"))?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, folder, kind, options, ..] = fields[..] else { continue };
        let folder = PathBuf::from(folder);
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            return Ok((Version::V1, folder));
        }
        let controllers = || fs::read_to_string(folder.join("cgroup.controllers"));
        if kind == "cgroup2" && controllers()?.split_whitespace().any(|name| name == "memory") {
            return Ok((Version::V2, folder));
        }
    }
    bail!("no memory cgroup hierarchy is mounted")
}

/// The folder and all cgroups below it, deepest first.
fn subtree(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.extend(subtree(&entry.path())?);
        }
    }
    folders.push(folder.to_owned());
    Ok(folders)
}

fn processes(folder: &Path) -> Result<Vec<u32>> {
    let text = read(&folder.join("cgroup.procs"))?;
    text.lines().map(|line| line.parse().with_context(|| format!("pid {line}"))).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("writing {value} to {}", path.display()))
}
