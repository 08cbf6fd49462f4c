//! An oracle beside the tracer: the kernel's own trace of oom:mark_victim, in a tracefs instance of
//! this test's own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// One mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The thread.
    pub tid: u32,
    /// When, CLOCK_BOOTTIME ns, to a microsecond.
    pub t_ns: u64,
}

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
        fs::write(marks.folder.join("trace_clock"), "boot")?;
        fs::write(marks.folder.join("events/oom/mark_victim/enable"), "1")?;
        Ok(marks)
    }

    /// Threads marked so far, in order.
    pub fn tids(&self) -> Result<Vec<u32>> {
        Ok(self.all()?.into_iter().map(|mark| mark.tid).collect())
    }

    /// All marks so far, in order.
    pub fn all(&self) -> Result<Vec<Mark>> {
        let text = fs::read_to_string(self.folder.join("trace"))?;
        let marks = text.lines().filter(|line| line.contains("mark_victim: pid="));
        marks.map(|line| mark(line).with_context(|| format!("no mark in {line}"))).collect()
    }
}

/// `          hog-812   [001] d..1.  1234.567890: mark_victim: pid=812 …`
fn mark(line: &str) -> Option<Mark> {
    let (head, rest) = line.split_once(": mark_victim: pid=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    let (seconds, micros) = head.rsplit(' ').next()?.split_once('.')?;
    let t_ns = seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000;
    Some(Mark { tid: digits.parse().ok()?, t_ns })
}

impl Drop for Marks {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_thread_and_time() {
        let line =
            "             hog-812     [001] d..1.  1234.567890: mark_victim: pid=812 comm=hog";
        assert_eq!(mark(line), Some(Mark { tid: 812, t_ns: 1_234_567_890_000 }));
        assert_eq!(mark("# tracer: nop"), None);
    }
}
