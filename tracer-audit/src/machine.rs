//! The memory of the audited host, from proc/meminfo, or that of the container that is audited.

use std::path::Path;

use crate::origin::{Notes, Origin};
use crate::root::Root;
use crate::system::cgroups;
use crate::{processes, size};

/// Memory and swap, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Zero where it is not known.
    pub total_bytes: u64,
    /// The kernel's estimate of what can be had without swapping.
    pub available_bytes: u64,
    /// Size of all swap.
    pub swap_total_bytes: u64,
    /// What is left of it.
    pub swap_free_bytes: u64,
    /// The line of proc/meminfo that says so, from 1; None where none does.
    pub swap_free_line: Option<u32>,
}

impl Machine {
    /// From proc/meminfo; nothing is known where there is none, and that is said. In a container the memory is
    /// at most what its cgroup may use.
    pub fn read(root: &Root, notes: &mut Notes) -> Self {
        let mut machine = match root.text(Path::new("/proc/meminfo")) {
            Ok(text) => Self::parse(&text),
            Err(error) => {
                notes.say(format!("how much memory there is, is not known: {error}"));
                Self::default()
            }
        };
        if let Some(limit) = cgroups::tightest(root, &first_cgroup(root))
            && (machine.total_bytes == 0 || limit.bytes < machine.total_bytes)
        {
            let may = size::human(limit.bytes);
            let text = match machine.total_bytes {
                0 => format!("this is a container that may use {may}: that counts as the memory"),
                host => format!(
                    "this is a container that may use {may}: that counts as the memory, not the host's {}",
                    size::human(host)
                ),
            };
            notes.at(Origin::whole(limit.file), text);
            machine.total_bytes = limit.bytes;
            machine.available_bytes = machine.available_bytes.min(limit.bytes);
        }
        machine
    }

    fn parse(text: &str) -> Self {
        let bytes = |name: &str| meminfo_bytes(text, name);
        Self {
            total_bytes: bytes("MemTotal"),
            available_bytes: bytes("MemAvailable"),
            swap_total_bytes: bytes("SwapTotal"),
            swap_free_bytes: bytes("SwapFree"),
            swap_free_line: (1..)
                .zip(text.lines())
                .find_map(|(number, line)| line.starts_with("SwapFree:").then_some(number)),
        }
    }
}

/// A line of proc/meminfo, bytes; zero where there is none.
pub(crate) fn meminfo_bytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// The memory cgroup of the first process. On a host that has no limit, nor has the root of the hierarchy;
/// in a container both are the container's, or below it.
fn first_cgroup(root: &Root) -> String {
    let text = root.text(Path::new("/proc/1/cgroup")).unwrap_or_default();
    processes::memory_cgroup(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text =
            "MemTotal:       16384 kB\nMemAvailable: 99 kB\nSwapTotal: 10 kB\nSwapFree: x kB\n";
        let machine = Machine::parse(text);
        assert_eq!(
            machine,
            Machine {
                total_bytes: 16 << 20,
                available_bytes: 99 << 10,
                swap_total_bytes: 10 << 10,
                swap_free_bytes: 0,
                swap_free_line: Some(4),
            }
        );
        let mut notes = Notes::default();
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(
            Machine::read(&Root::new(nothing.path()).unwrap(), &mut notes),
            Machine::default()
        );
        assert_eq!(notes.finish().len(), 1);
    }
    #[test]
    fn a_container_has_what_its_cgroup_may_use() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n");
        put("proc/1/cgroup", "0::/docker/x/init\n");
        put("sys/fs/cgroup/docker/x/memory.max", "536870912\n");
        put("sys/fs/cgroup/docker/x/init/memory.max", "max\n");
        let root = Root::new(folder.path()).unwrap();
        let mut notes = Notes::default();
        let machine = Machine::read(&root, &mut notes);
        assert_eq!((machine.total_bytes, machine.available_bytes), (512 << 20, 512 << 20));
        assert_eq!(notes.finish().len(), 1);
        put("sys/fs/cgroup/docker/x/memory.max", "max\n");
        assert_eq!(Machine::read(&root, &mut Notes::default()).total_bytes, 2 << 30);
    }
}
