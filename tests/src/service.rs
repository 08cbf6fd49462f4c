//! `rampage serve` as a black box: a private state directory and settings, a stand-in for systemd that
//! hears its notifications, and its end.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binary;
use crate::clock;
use crate::trace::Trace;
use crate::tracer::Process;

/// From the start until READY=1: loading and attaching on a busy machine.
const START: Duration = Duration::from_secs(30);
/// From SIGTERM until the end.
const END: Duration = Duration::from_secs(15);

/// Where a service keeps what it has; shared by services that follow each other.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rampage-serve-").tempdir()?;
        Ok(Self { folder })
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The settings.
    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("rampage.toml")
    }

    /// Where /metrics is served.
    pub fn endpoint(&self) -> PathBuf {
        self.folder.path().join("metrics.sock")
    }

    /// What the endpoint answers.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.endpoint()).context("asking the endpoint")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// All that is recorded up to now: the segments, the oldest first.
    pub fn recorded(&self) -> Result<Trace> {
        let mut all = Trace::default();
        for segment in self.segments()? {
            all.lines.extend(Trace::read(&segment)?.lines);
        }
        Ok(all)
    }

    /// The segments, the oldest first.
    fn segments(&self) -> Result<Vec<PathBuf>> {
        let mut segments: Vec<PathBuf> = fs::read_dir(self.state().join("segments"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        segments.sort();
        Ok(segments)
    }

    /// Writes settings: `[recorder]` has this state directory, `[metrics]` this endpoint, and no journal is
    /// told, unless `more` (TOML tables and dotted keys) says something else.
    pub fn set(&self, more: &str) -> Result<()> {
        let mut settings: toml::Table = toml::from_str(&format!(
            "[recorder]\ndirectory = {:?}\n[metrics]\nlisten = {:?}\n[alerts]\njournal = false\n",
            self.state(),
            format!("unix:{}", self.endpoint().display())
        ))?;
        merge(&mut settings, toml::from_str(more)?);
        let text = toml::to_string(&settings)?;
        fs::write(self.settings(), text).context("writing the settings")
    }
}

fn merge(into: &mut toml::Table, more: toml::Table) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(known)), toml::Value::Table(more)) => merge(known, more),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Reads a record while it grows, each block once.
#[derive(Debug, Default)]
pub struct Follower {
    /// The segment that was read last …
    segment: PathBuf,
    /// … and how many bytes of it.
    bytes: usize,
}

impl Follower {
    /// What was recorded since the last call, up to the last whole block. Fails on a segment that has another
    /// one behind it and does not end with a whole block.
    pub fn news(&mut self, home: &Home) -> Result<Trace> {
        let mut news = Trace::default();
        let segments = home.segments()?;
        for (at, segment) in segments.iter().enumerate() {
            if *segment < self.segment {
                continue;
            }
            if *segment != self.segment {
                *self = Self { segment: segment.clone(), bytes: 0 };
            }
            let packed = fs::read(segment)?;
            let (plain, read) = whole_blocks(packed.get(self.bytes..).unwrap_or_default())?;
            self.bytes += read;
            news.lines.extend(Trace::parse(std::str::from_utf8(&plain)?)?.lines);
            let is_over = at + 1 < segments.len();
            ensure!(!is_over || self.bytes == packed.len(), "{}: not whole", segment.display());
        }
        Ok(news)
    }
}

/// What the blocks say that are there as a whole, and their length packed. A block is a frame of whole lines.
fn whole_blocks(packed: &[u8]) -> Result<(Vec<u8>, usize)> {
    let (mut plain, mut rest) = (Vec::new(), packed);
    while !rest.is_empty() {
        let mut block = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::with_buffer(rest)?.single_frame();
        if decoder.read_to_end(&mut block).is_err() {
            break;
        }
        plain.extend(block);
        rest = decoder.finish();
    }
    Ok((plain, packed.len() - rest.len()))
}

/// A running `rampage serve`; killed when dropped.
#[derive(Debug)]
pub struct Service {
    process: Process,
    heard: Arc<Mutex<Vec<String>>>,
    stderr: Option<JoinHandle<String>>,
}

/// How a service ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard error.
    pub stderr: String,
    /// What it told systemd.
    pub heard: Vec<String>,
}

impl Service {
    /// With the settings of `home` as they stand, ready when this returns.
    pub fn start(home: &Home) -> Result<Self> {
        let service = Self::begin(home)?;
        service.wait_to_hear("READY=1", START)?;
        Ok(service)
    }

    /// As [`Service::start`], started by a program, such as setpriv, that is given with its arguments.
    pub fn start_by(home: &Home, by: &[&str]) -> Result<Self> {
        let service = Self::begin_by(home, by)?;
        service.wait_to_hear("READY=1", START)?;
        Ok(service)
    }

    /// As [`Service::start`], whatever becomes of it.
    pub fn begin(home: &Home) -> Result<Self> {
        Self::begin_by(home, &[])
    }

    fn begin_by(home: &Home, by: &[&str]) -> Result<Self> {
        let address = home.folder().join("notify.sock");
        fs::remove_file(&address).ok();
        let systemd = UnixDatagram::bind(&address).context("a stand-in for systemd")?;
        let rampage = binary::rampage()?;
        let mut words = by.iter().map(OsStr::new).chain([rampage.as_os_str()]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).arg("serve").arg("--config").arg(home.settings());
        command.env("NOTIFY_SOCKET", &address).env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process { child: command.spawn().context("starting rampage serve")? };
        let mut errors = process.child.stderr.take().context("it has no stderr")?;
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            errors.read_to_end(&mut said).ok();
            String::from_utf8_lossy(&said).into_owned()
        });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let words = heard.clone();
        // Ends with the test's process: nobody else would end it.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = systemd.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let Ok(mut words) = words.lock() else { return };
                words.extend(text.lines().map(str::to_owned));
            }
        });
        Ok(Self { process, heard, stderr: Some(stderr) })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// What it has told systemd, a line each.
    pub fn heard(&self) -> Result<Vec<String>> {
        let heard = self.heard.lock().map_err(|_| anyhow::anyhow!("the stand-in panicked"))?;
        Ok(heard.clone())
    }

    /// Waits until systemd heard a line that starts so; gives its number.
    pub fn wait_to_hear(&self, line: &str, timeout: Duration) -> Result<usize> {
        self.wait_to_hear_after(0, line, timeout)
    }

    /// As [`Service::wait_to_hear`], of the lines from number `from` on.
    pub fn wait_to_hear_after(&self, from: usize, line: &str, timeout: Duration) -> Result<usize> {
        clock::wait_for(line, timeout, || {
            let heard = self.heard()?;
            let at = heard.iter().skip(from).position(|word| word.starts_with(line));
            Ok(at.map(|at| from + at))
        })
    }

    /// SIGHUP; returns when the reload is over.
    pub fn reload(&self) -> Result<()> {
        let from = self.heard()?.len();
        self.signal(libc::SIGHUP);
        let at = self.wait_to_hear_after(from, "RELOADING=1", Duration::from_secs(10))?;
        self.wait_to_hear_after(at, "READY=1", Duration::from_secs(10)).map(drop)
    }

    /// A line of /proc/PID/status of each of its threads, by its key.
    pub fn status(&self, key: &str) -> Result<Vec<String>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()))?;
        let of = |task: std::io::Result<fs::DirEntry>| -> Result<String> {
            let text = fs::read_to_string(task?.path().join("status"))?;
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            Ok(line.with_context(|| format!("no {key}"))?.trim().to_owned())
        };
        tasks.map(of).collect()
    }

    /// Processes that it started and that are there.
    pub fn children(&self) -> Result<BTreeMap<u32, String>> {
        // Each thread has its own.
        let mut text = String::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            text.push_str(&fs::read_to_string(task?.path().join("children"))?);
        }
        let named = text.split_whitespace().filter_map(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some((pid.parse().ok()?, comm.trim().to_owned()))
        });
        Ok(named.collect())
    }

    /// Ends it by SIGTERM; it must say so and succeed.
    pub fn finish(self) -> Result<Ended> {
        self.signal(libc::SIGTERM);
        let ended = self.ended()?;
        ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
        Ok(ended)
    }

    /// Ends it by SIGKILL.
    pub fn kill(self) -> Result<Ended> {
        self.signal(libc::SIGKILL);
        self.ended()
    }

    /// Waits until it has ended.
    pub fn ended(mut self) -> Result<Ended> {
        let status = clock::wait_for("the end of rampage serve", END, || {
            Ok(self.process.child.try_wait()?)
        })?;
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(Ended { status, stderr, heard: self.heard()? })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.process.child.try_wait(), Ok(None)) {
            self.process.child.kill().ok();
            self.process.child.wait().ok();
            if let Some(stderr) = self.stderr.take().and_then(|thread| thread.join().ok()) {
                eprintln!("rampage serve was still running; it said: {stderr}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_when_it_is_whole() -> Result<()> {
        let block = |text: &str| zstd::encode_all(text.as_bytes(), 1);
        let (one, two) = (block("one\n")?, block("two\n")?);
        let both = [&one[..], &two[..]].concat();
        assert_eq!(whole_blocks(&both)?, (b"one\ntwo\n".to_vec(), both.len()));
        assert_eq!(whole_blocks(&both[..both.len() - 1])?, (b"one\n".to_vec(), one.len()));
        assert_eq!(whole_blocks(&[])?, (Vec::new(), 0));
        Ok(())
    }
}
