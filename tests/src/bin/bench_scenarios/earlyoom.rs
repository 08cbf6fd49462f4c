//! An earlyoom that really runs beside, and kills nobody. It looks at the whole host only: a limit
//! of a cgroup is nothing to it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use ::tests::clock;
use ::tests::scenario::others::Alarm;
use anyhow::{Context, Result};

/// The program.
const BINARY: &str = "/usr/bin/earlyoom";

/// A running earlyoom, or none where it is not installed; killed when dropped.
pub struct EarlyOom {
    child: Option<Child>,
    alarms: Arc<Mutex<Vec<Alarm>>>,
}

impl EarlyOom {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let alarms = Arc::new(Mutex::new(Vec::new()));
        if !std::path::Path::new(BINARY).exists() {
            eprintln!("{BINARY} is missing: its column is that of a program that names nobody");
            return Ok(Self { child: None, alarms });
        }
        let mut command = Command::new(BINARY);
        command.args(["--dryrun", "-r", "1"]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context(BINARY)?;
        let log = child.stderr.take().context("earlyoom has no stderr")?;
        let sink = Arc::clone(&alarms);
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if let Some(tgid) = named(&line) {
                    let alarm = Alarm { t_ns: clock::boot_ns(), tgid };
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push(alarm);
                }
            }
        });
        Ok(Self { child: Some(child), alarms })
    }

    /// Whom it would have killed in a span of time, CLOCK_BOOTTIME ns.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> Vec<Alarm> {
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.iter().filter(|alarm| (from_ns..=to_ns).contains(&alarm.t_ns)).copied().collect()
    }
}

impl Drop for EarlyOom {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// `sending SIGTERM to process 1234 uid 0 "hog": …`
fn named(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("to process ")?;
    line.contains("sending SIG").then(|| rest.split(' ').next()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_read_from_the_log() {
        let line = "sending SIGTERM to process 21701 uid 1000 \"hog\": badness 1054, VmRSS 9 MiB";
        assert_eq!(named(line), Some(21701));
        assert_eq!(named("mem avail: 22000 of 24000 MiB (91.00%), swap free:    0 of    0"), None);
    }
}
