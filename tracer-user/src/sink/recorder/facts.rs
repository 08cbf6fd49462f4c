//! What the host says of itself when an incident begins, for `facts.json`. Bounded, and taken by the
//! writer's thread.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::trace::lines::time_text;

/// Most bytes of one file …
const FILE_BYTES: u64 = 32 << 10;
/// … and of one setting, of which there are at most so many.
const SETTING_BYTES: u64 = 1 << 10;
const SETTINGS: usize = 256;

const FILES: [&str; 8] = [
    "/proc/meminfo",
    "/proc/vmstat",
    "/proc/loadavg",
    "/proc/swaps",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/proc/pressure/cpu",
    "/proc/zoneinfo",
];

/// The facts; `header` is the first line of the trace.
pub(super) fn collect(header: &[u8], wall_ns: i64) -> Value {
    let mut files = Map::new();
    for path in FILES {
        if let Some(text) = read(Path::new(path), FILE_BYTES) {
            files.insert(path.to_owned(), text.into());
        }
    }
    let mounts = read(Path::new("/proc/self/mounts"), FILE_BYTES).unwrap_or_default();
    let is_cgroup =
        |line: &&str| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup"));
    let mounts: Vec<&str> = mounts.lines().filter(is_cgroup).collect();
    json!({
        "time": time_text(wall_ns),
        "header": serde_json::from_slice::<Value>(header).ok(),
        "files": files,
        "cgroup_mounts": mounts,
        "vm": settings(),
    })
}

/// vm.*, by name; what cannot be read is left out.
fn settings() -> Map<String, Value> {
    let entries = fs::read_dir("/proc/sys/vm").into_iter().flatten().take(SETTINGS).flatten();
    let mut settings = Map::new();
    for entry in entries {
        if let (Ok(name), Some(text)) =
            (entry.file_name().into_string(), read(&entry.path(), SETTING_BYTES))
        {
            settings.insert(name, text.trim_end().into());
        }
    }
    settings
}

fn read(path: &Path, most_bytes: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most_bytes).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_among_the_facts() {
        let facts = collect(br#"{"kernel":"6"}"#, 0);
        assert!(facts["files"]["/proc/meminfo"].as_str().unwrap().contains("MemTotal"));
        assert!(facts["files"]["/proc/vmstat"].as_str().unwrap().contains("oom_kill"));
        assert!(facts["vm"]["swappiness"].as_str().unwrap().parse::<u32>().is_ok());
        assert_eq!(facts["header"]["kernel"], "6");
        assert!(facts.to_string().len() < 9 * FILE_BYTES as usize);
    }
}
