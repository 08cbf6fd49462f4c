//! An oracle beside the tracer: the kernel's own trace of oom:mark_victim, in a tracefs instance of
//! this test's own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// Records oom:mark_victim until dropped.
#[derive(Debug)]
pub struct Marks {
    folder: PathBuf,
}

impl Marks {
    /// Starts recording.
    pub fn record() -> Result<Self> {
        let folder = PathBuf::from(INSTANCES).join(format!("rampage-test-{}", std::process::id()));
        fs::create_dir(&folder)
            .with_context(|| format!("making {} (is tracefs mounted?)", folder.display()))?;
        let marks = Self { folder };
        fs::write(marks.folder.join("events/oom/mark_victim/enable"), "1")?;
        Ok(marks)
    }

    /// Threads marked so far, in order.
    pub fn tids(&self) -> Result<Vec<u32>> {
        let text = fs::read_to_string(self.folder.join("trace"))?;
        let lines = text.lines().filter_map(|line| line.split_once("mark_victim: pid="));
        lines
            .map(|(_, rest)| {
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                digits.parse().with_context(|| format!("no pid in {rest}"))
            })
            .collect()
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}
