//! One look at a memory cgroup: charge, limits, reclaimable file pages, counters, PSI. What
//! cgroup-v1/memory.rst and cgroup-v2.rst of the kernel's documentation say.

use std::io;
use std::path::PathBuf;

use super::super::host::parse_pressure;
use super::super::{Malformed, file};
use super::{Hierarchy, Version};
use crate::event::{Cgroup, CgroupEvents, Pressure};

/// v1 writes "no limit" as the largest multiple of the page size below 2^63.
const V1_NO_LIMIT: u64 = 1 << 62;

impl Hierarchy {
    /// Reads a cgroup now. Not found when it is gone, or when it has no memory controller.
    pub fn sample(&self, path: &str) -> io::Result<Cgroup> {
        let id = self.id(path)?;
        let mut folder = Folder::new(self.folder(path)?);
        let cgroup = Cgroup { id, path: path.into(), ..Cgroup::default() };
        match self.version {
            Version::V1 => folder.v1(cgroup),
            Version::V2 => folder.v2(cgroup),
        }
    }

    /// Charge, limit and PSI of a cgroup; None where it has no PSI (v1, or the kernel has none).
    pub fn pressure(&self, path: &str) -> Option<Pressure> {
        self.pressure_of(&self.sample(path).ok()?)
    }

    /// The same with a look that was just made.
    pub fn pressure_of(&self, cgroup: &Cgroup) -> Option<Pressure> {
        if self.version == Version::V1 {
            return None;
        }
        let mut buffer = [0; 512];
        let file = self.folder(&cgroup.path).ok()?.join("memory.pressure");
        let (some_avg10, full_avg10) = parse_pressure(file::read(file, &mut buffer).ok()?);
        some_avg10?;
        Some(Pressure {
            scope: cgroup.path.clone(),
            used_bytes: cgroup.usage_bytes,
            limit_bytes: cgroup.max_bytes,
            available_bytes: None,
            swap_free_bytes: None,
            shmem_bytes: None,
            some_avg10,
            full_avg10,
        })
    }
}

/// Files of one cgroup, read one after the other into the stack.
struct Folder {
    path: PathBuf,
    buffer: [u8; file::BUFFER_BYTES],
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self { path, buffer: [0; file::BUFFER_BYTES] }
    }

    fn read(&mut self, name: &str) -> io::Result<&[u8]> {
        self.path.push(name);
        let result = file::read_lines(&self.path, &mut self.buffer);
        self.path.pop();
        result
    }

    /// A file that this kernel or this cgroup may lack.
    fn optional(&mut self, name: &str) -> Option<&[u8]> {
        self.read(name).ok()
    }

    fn v1(&mut self, cgroup: Cgroup) -> io::Result<Cgroup> {
        let usage = parse_limit(self.read("memory.usage_in_bytes")?);
        let limit = |bytes: &[u8]| parse_limit(bytes).filter(|bytes| *bytes < V1_NO_LIMIT);
        let usage = usage.ok_or(Malformed { file: "memory.usage_in_bytes", field: "number" })?;
        let failcnt = self.optional("memory.failcnt").and_then(parse_limit);
        let memsw = self.optional("memory.memsw.usage_in_bytes").and_then(parse_limit);
        let stat = self.optional("memory.stat");
        let reclaimable_bytes = stat.and_then(reclaimable_v1);
        let shmem_bytes = stat.and_then(shmem_v1);
        let control = self.optional("memory.oom_control");
        let oom_disabled =
            control.is_some_and(|bytes| value(bytes, b"oom_kill_disable") == Some(1));
        let events =
            control.map(|bytes| CgroupEvents { max: failcnt.unwrap_or(0), ..oom_control(bytes) });
        Ok(Cgroup {
            usage_bytes: usage,
            max_bytes: limit(self.read("memory.limit_in_bytes")?),
            swap_usage_bytes: memsw.unwrap_or(0).saturating_sub(usage),
            memsw_max_bytes: self.optional("memory.memsw.limit_in_bytes").and_then(limit),
            reclaimable_bytes,
            shmem_bytes,
            events,
            oom_disabled,
            ..cgroup
        })
    }

    fn v2(&mut self, cgroup: Cgroup) -> io::Result<Cgroup> {
        let usage = match self.read("memory.current") {
            Ok(bytes) => {
                parse_limit(bytes).ok_or(Malformed { file: "memory.current", field: "number" })?
            }
            // The root of the hierarchy has statistics only.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                root_usage(self.read("memory.stat")?)
            }
            Err(error) => return Err(error),
        };
        let stat = self.optional("memory.stat");
        let reclaimable_bytes = stat.and_then(reclaimable_v2);
        let shmem_bytes = stat.and_then(|stat| value(stat, b"shmem"));
        Ok(Cgroup {
            usage_bytes: usage,
            max_bytes: self.optional("memory.max").and_then(parse_limit),
            high_bytes: self.optional("memory.high").and_then(parse_limit),
            swap_usage_bytes: self
                .optional("memory.swap.current")
                .and_then(parse_limit)
                .unwrap_or(0),
            swap_max_bytes: self.optional("memory.swap.max").and_then(parse_limit),
            reclaimable_bytes,
            shmem_bytes,
            events: self.optional("memory.events").map(events),
            oom_group: self.optional("memory.oom.group").and_then(parse_limit) == Some(1),
            ..cgroup
        })
    }
}

/// A number, or `max` = None.
fn parse_limit(bytes: &[u8]) -> Option<u64> {
    file::number(bytes.trim_ascii())
}

/// File pages on the reclaim lists less those that must be written first. Protection (memory.min,
/// memory.low) holds against the limits above a cgroup, not against its own, and is not subtracted.
fn reclaimable(stat: &[u8], prefix: &[u8], dirty: [&[u8]; 2]) -> Option<u64> {
    let (mut file_bytes, mut busy_bytes) = (None, 0_u64);
    for (key, value) in file::key_values(stat) {
        let Some(key) = key.strip_prefix(prefix) else { continue };
        if key == b"inactive_file" || key == b"active_file" {
            file_bytes = Some(file_bytes.unwrap_or(0_u64).saturating_add(value));
        } else if dirty.contains(&key) {
            busy_bytes = busy_bytes.saturating_add(value);
        }
    }
    file_bytes.map(|bytes| bytes.saturating_sub(busy_bytes))
}

fn reclaimable_v1(stat: &[u8]) -> Option<u64> {
    reclaimable(stat, b"total_", [b"dirty", b"writeback"])
}

fn reclaimable_v2(stat: &[u8]) -> Option<u64> {
    reclaimable(stat, b"", [b"file_dirty", b"file_writeback"])
}

/// v1 counts the cgroup alone as `shmem`, and with all below it as `total_shmem`.
fn shmem_v1(stat: &[u8]) -> Option<u64> {
    value(stat, b"total_shmem").or_else(|| value(stat, b"shmem"))
}

/// The value of a line `name value`.
fn value(bytes: &[u8], name: &[u8]) -> Option<u64> {
    file::key_values(bytes).find(|(key, _)| *key == name).map(|pair| pair.1)
}

/// Charge of the v2 root, which has no memory.current: what its statistics add up to.
fn root_usage(stat: &[u8]) -> u64 {
    let value = |name: &[u8]| value(stat, name);
    // `kernel` (5.18) contains the others.
    let kernel = value(b"kernel").unwrap_or_else(|| {
        [&b"kernel_stack"[..], b"pagetables", b"percpu", b"slab"]
            .into_iter()
            .fold(0, |sum, name| sum.saturating_add(value(name).unwrap_or(0)))
    });
    [value(b"anon"), value(b"file"), value(b"sock")]
        .into_iter()
        .flatten()
        .fold(kernel, u64::saturating_add)
}

/// v2 memory.events.
fn events(bytes: &[u8]) -> CgroupEvents {
    let mut events = CgroupEvents::default();
    for (key, value) in file::key_values(bytes) {
        match key {
            b"high" => events.high = value,
            b"max" => events.max = value,
            b"oom" => events.oom = value,
            b"oom_kill" => events.oom_kill = value,
            _ => {}
        }
    }
    events
}

/// v1 memory.oom_control; `oom_kill` is there since 4.13.
fn oom_control(bytes: &[u8]) -> CgroupEvents {
    let mut events = CgroupEvents::default();
    let mut is_disabled = false;
    for (key, value) in file::key_values(bytes) {
        match key {
            b"oom_kill_disable" => is_disabled = value != 0,
            b"under_oom" => events.under_oom = value != 0,
            b"oom_kill" => events.oom_kill = value,
            _ => {}
        }
    }
    // It is set during each kill, too.
    events.under_oom &= is_disabled;
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn hierarchy(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, Hierarchy) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("g")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join("g").join(name), text).unwrap();
        }
        let hierarchy =
            Hierarchy { version, mount: folder.path().to_owned(), root: "/".to_owned() };
        (folder, hierarchy)
    }

    #[test]
    fn samples_v2() {
        let (_folder, hierarchy) = hierarchy(
            Version::V2,
            &[
                ("memory.current", "1000000\n"),
                ("memory.max", "268435456\n"),
                ("memory.high", "max\n"),
                ("memory.swap.current", "4096\n"),
                ("memory.swap.max", "0\n"),
                (
                    "memory.stat",
                    "anon 5\nshmem 7\nfile_dirty 10\nfile_writeback 20\ninactive_file 100\nactive_file 50\n",
                ),
                ("memory.oom.group", "1\n"),
                ("memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n"),
                (
                    "memory.pressure",
                    "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.25 avg60=0 avg300=0 total=1\n",
                ),
            ],
        );
        let cgroup = hierarchy.sample("/g").unwrap();
        let expected = Cgroup {
            id: hierarchy.id("/g").unwrap(),
            path: "/g".into(),
            usage_bytes: 1_000_000,
            max_bytes: Some(256 << 20),
            high_bytes: None,
            swap_usage_bytes: 4096,
            swap_max_bytes: Some(0),
            memsw_max_bytes: None,
            reclaimable_bytes: Some(120),
            shmem_bytes: Some(7),
            events: Some(CgroupEvents { high: 2, max: 3, oom: 4, oom_kill: 5, under_oom: false }),
            oom_group: true,
            oom_disabled: false,
        };
        assert_eq!(cgroup, expected);
        let pressure = hierarchy.pressure("/g").unwrap();
        assert_eq!((pressure.some_avg10, pressure.full_avg10), (Some(1.5), Some(0.25)));
        assert_eq!((&*pressure.scope, pressure.used_bytes), ("/g", 1_000_000));
    }

    #[test]
    fn samples_v1() {
        let no_limit = "9223372036854771712\n";
        let (_folder, hierarchy) = hierarchy(
            Version::V1,
            &[
                ("memory.usage_in_bytes", "1000000\n"),
                ("memory.limit_in_bytes", "268435456\n"),
                ("memory.memsw.usage_in_bytes", "1000001\n"),
                ("memory.memsw.limit_in_bytes", no_limit),
                ("memory.failcnt", "12\n"),
                (
                    "memory.stat",
                    "inactive_file 1\ndirty 1\ntotal_dirty 10\ntotal_writeback 20\ntotal_inactive_file 100\ntotal_active_file 50\nshmem 1\ntotal_shmem 8\n",
                ),
                ("memory.oom_control", "oom_kill_disable 1\nunder_oom 1\noom_kill 3\n"),
            ],
        );
        let cgroup = hierarchy.sample("/g").unwrap();
        assert_eq!((cgroup.usage_bytes, cgroup.max_bytes), (1_000_000, Some(256 << 20)));
        let swap = (cgroup.swap_usage_bytes, cgroup.swap_max_bytes, cgroup.memsw_max_bytes);
        assert_eq!(swap, (1, None, None));
        assert_eq!(cgroup.reclaimable_bytes, Some(120));
        let events = CgroupEvents { max: 12, oom_kill: 3, under_oom: true, ..Default::default() };
        assert_eq!(cgroup.events, Some(events));
        assert_eq!((cgroup.shmem_bytes, shmem_v1(b"shmem 3\n")), (Some(8), Some(3)));
        assert!(cgroup.oom_disabled && !cgroup.oom_group);
        assert!(hierarchy.pressure("/g").is_none());
    }

    #[test]
    fn the_v2_root_is_added_up_and_missing_files_are_no_error() {
        let stat = "anon 1000\nfile 200\nkernel 30\nkernel_stack 7\nslab 9\nsock 4\n";
        let (_folder, hierarchy) = hierarchy(Version::V2, &[("memory.stat", stat)]);
        let cgroup = hierarchy.sample("/g").unwrap();
        assert_eq!(cgroup.usage_bytes, 1234);
        assert_eq!((cgroup.max_bytes, cgroup.events, cgroup.reclaimable_bytes), (None, None, None));
        assert_eq!(root_usage(b"anon 1000\nkernel_stack 7\nslab 9\n"), 1016);
        let gone = hierarchy.sample("/h").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert_eq!(hierarchy.sample("/").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn odd_contents_are_errors_or_nothing() {
        let (_folder, hierarchy) =
            hierarchy(Version::V2, &[("memory.current", "lots\n"), ("memory.stat", "\0\n")]);
        assert_eq!(hierarchy.sample("/g").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(reclaimable_v2(b"inactive_file 5\nfile_dirty 9\n"), Some(0));
        assert_eq!(parse_limit(b"max\n"), None);
        assert_eq!(parse_limit(b"-1\n"), None);
    }

    #[test]
    fn samples_this_host() {
        let hierarchy = Hierarchy::detect().unwrap();
        let found = hierarchy.walk(10_000);
        assert_eq!(found[0].1.as_ref(), hierarchy.root);
        for (id, path) in found {
            if let Ok(cgroup) = hierarchy.sample(&path) {
                assert_eq!(cgroup.id, id, "{path}");
            }
        }
    }
}
