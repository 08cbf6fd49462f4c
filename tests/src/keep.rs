//! Recorded traces that outlive their test, to be replayed on another machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::trace::Trace;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Writes a trace that holds findings to `$RAMPAGE_KEEP/BINARY.TEST-N.jsonl`; does nothing where
/// that is not set.
pub fn keep(trace: &Trace) -> Result<()> {
    let Some(folder) = std::env::var_os("RAMPAGE_KEEP") else { return Ok(()) };
    if trace.findings().is_empty() {
        return Ok(());
    }
    let path = place(Path::new(&folder));
    let lines: String = trace.lines.iter().map(|line| format!("{}\n", line.json)).collect();
    fs::write(&path, lines).with_context(|| format!("writing {}", path.display()))
}

fn place(folder: &Path) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let binary = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let binary = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // cargo puts a hash behind the name.
    let binary = binary.rsplit_once('-').map_or(&*binary, |(name, _)| name);
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").map_or_else(
        // With one test thread libtest runs the test in the main one.
        || std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default(),
        str::to_owned,
    );
    folder.join(format!("{binary}.{}-{number}.jsonl", test.replace("::", ".")))
}
