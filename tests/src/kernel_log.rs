//! An oracle beside the tracer: what the kernel itself writes of an OOM kill to its log.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};

/// The kernel's log from one moment on.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    lines: Vec<String>,
}

impl KernelLog {
    /// Starts here.
    pub fn from_now() -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let mut file = options.open("/dev/kmsg").context("opening /dev/kmsg")?;
        file.seek(SeekFrom::End(0)).context("/dev/kmsg")?;
        Ok(Self { file, lines: Vec::new() })
    }

    /// All lines since the start.
    pub fn lines(&mut self) -> Result<&[String]> {
        // A read gives one record, cut to the buffer.
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]).into_owned();
                    let line = text.split_once(';').map_or(&*text, |(_, line)| line);
                    self.lines.push(line.trim_end().to_owned());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(&self.lines),
                // The record was overwritten meanwhile; the next read goes on after it.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(error).context("reading /dev/kmsg"),
            }
        }
    }

    /// Processes that it says were killed because the whole host had no memory left, in order.
    /// <https://elixir.bootlin.com/linux/v6.12/source/mm/oom_kill.c>, `__oom_kill_process`
    pub fn killed_on_host(&mut self) -> Result<Vec<u32>> {
        let tgid = |line: &String| {
            let (_, rest) = line.split_once("Out of memory: Killed process ")?;
            rest.split(' ').next()?.parse().ok()
        };
        Ok(self.lines()?.iter().filter_map(tgid).collect())
    }

    /// Threads that called the OOM killer, by the headings of its reports.
    pub fn oom_callers(&mut self) -> Result<Vec<u32>> {
        let mut callers = Vec::new();
        let mut lines = self.lines()?.iter();
        while lines.by_ref().any(|line| line.contains(" invoked oom-killer: ")) {
            // The line after it, of dump_stack: `CPU: 0 UID: 0 PID: 77 Comm: hog Not tainted …`.
            let tid = lines.find_map(|line| {
                let (_, rest) = line.split_once(" PID: ")?;
                rest.split(' ').next()?.parse().ok()
            });
            callers.push(tid.context("an OOM report without the caller's PID")?);
        }
        Ok(callers)
    }
}
