//! A process as /proc shows it: identity, and memory at this moment. [`Reader`] looks without
//! touching the process's own pages; [`read`] also reads its command line, which can block for
//! seconds while the process is swapped out.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::sync::Arc;

use super::stat::Stat;
use super::status::Status;
use super::{file, php};
use crate::event::{Growth, Php, ProcessKey};

/// Most bytes of a command line that are kept.
const CMDLINE_BYTES: usize = 4096;

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Process id and start.
    pub key: ProcessKey,
    /// Parent's tgid.
    pub ppid: u32,
    /// Name of the leader.
    pub comm: Arc<str>,
    /// Arguments joined by spaces, or the title that the process gave itself; None = it has none,
    /// or it may not be read.
    pub cmdline: Option<Arc<str>>,
    /// Executable; None = may not be read.
    pub exe: Option<Arc<str>>,
    /// Real user id.
    pub uid: u32,
    /// Path in the hierarchy of the memory controller.
    pub cgroup: Option<Arc<str>>,
    /// What is known of PHP.
    pub php: Option<Php>,
}

/// Reads a process's identity, command line included. Not found when it ended meanwhile.
pub fn read(tgid: u32) -> io::Result<Identity> {
    let mut reader = Reader::default();
    let mut identity = reader.identity(tgid)?;
    identity.cmdline = reader.cmdline(tgid)?;
    identity.php = php::identify(
        &identity.comm,
        identity.cmdline.as_deref(),
        identity.exe.as_deref(),
        identity.ppid,
    );
    if reader.stat(tgid)?.key() != identity.key {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(identity)
}

/// Memory and faults of a process now. `stall_ns` is not known to /proc and stays 0. Not found
/// when the process ended.
pub fn memory(tgid: u32) -> io::Result<Growth> {
    let mut reader = Reader::default();
    let stat = reader.stat(tgid)?;
    if stat.ended() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (key, faults) = (stat.key(), (stat.minor_faults, stat.major_faults));
    let status = reader.status(tgid)?;
    Ok(growth(key, faults, &status, reader.oom_score_adj(tgid)?))
}

/// One look as an event; `faults` are minor and major ones.
pub fn growth(key: ProcessKey, faults: (u64, u64), status: &Status, oom_score_adj: i32) -> Growth {
    Growth {
        tgid: key.tgid,
        start_ns: key.start_ns,
        anon_bytes: status.anon_bytes,
        file_bytes: status.file_bytes,
        shmem_bytes: status.shmem_bytes,
        swap_bytes: status.swap_bytes,
        minor_faults: faults.0,
        major_faults: faults.1,
        stall_ns: 0,
        oom_score_adj,
        page_table_bytes: status.page_table_bytes,
        data_bytes: status.data_bytes,
    }
}

/// All processes, kernel threads among them, in the order of /proc.
pub fn list() -> io::Result<Vec<u32>> {
    let mut tgids = Vec::new();
    list_into(&mut tgids)?;
    Ok(tgids)
}

/// [`list`] into a buffer that is cleared first.
pub fn list_into(tgids: &mut Vec<u32>) -> io::Result<()> {
    tgids.clear();
    for entry in fs::read_dir("/proc")? {
        if let Some(tgid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            tgids.push(tgid);
        }
    }
    Ok(())
}

/// Reads files of processes into one buffer.
#[derive(Debug)]
pub struct Reader {
    path: String,
    buffer: Box<[u8]>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { path: String::with_capacity(64), buffer: vec![0; file::BUFFER_BYTES].into() }
    }
}

impl Reader {
    /// /proc/TGID/stat.
    pub fn stat(&mut self, tgid: u32) -> io::Result<Stat<'_>> {
        self.set_path(tgid, "stat");
        Ok(Stat::parse(file::read(&self.path, &mut self.buffer).map_err(gone)?)?)
    }

    /// /proc/TGID/status; of another thread where the leader has ended before its process.
    pub fn status(&mut self, tgid: u32) -> io::Result<Status> {
        self.set_path(tgid, "status");
        let status = self.parse_status()?;
        if status.has_memory {
            return Ok(status);
        }
        self.set_path(tgid, "task");
        for thread in fs::read_dir(&self.path).map_err(gone)?.flatten() {
            let Some(tid): Option<u32> =
                thread.file_name().to_str().and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if tid == tgid {
                continue;
            }
            self.set_path(tgid, "task");
            let _ = write!(self.path, "/{tid}/status");
            match self.parse_status() {
                Ok(of_thread) if of_thread.has_memory => return Ok(of_thread),
                _ => {}
            }
        }
        Ok(status)
    }

    /// /proc/TGID/oom_score_adj.
    pub fn oom_score_adj(&mut self, tgid: u32) -> io::Result<i32> {
        self.set_path(tgid, "oom_score_adj");
        let bytes = file::read(&self.path, &mut self.buffer).map_err(gone)?;
        let number = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
        Ok(number.ok_or(super::Malformed { file: "/proc/TGID/oom_score_adj", field: "number" })?)
    }

    /// Path of its memory cgroup. Not found for a process whose leader is ending: v1 shows the
    /// root then, wherever the process was.
    pub fn cgroup(&mut self, tgid: u32) -> io::Result<Arc<str>> {
        self.cgroup_changed(tgid, None)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The same; None when it is still `known`.
    pub fn cgroup_changed(
        &mut self,
        tgid: u32,
        known: Option<&str>,
    ) -> io::Result<Option<Arc<str>>> {
        self.set_path(tgid, "cgroup");
        let bytes = file::read_lines(&self.path, &mut self.buffer).map_err(gone)?;
        let path = memory_cgroup(bytes)
            .ok_or(super::Malformed { file: "/proc/TGID/cgroup", field: "memory hierarchy" })?;
        let path = String::from_utf8_lossy(path);
        if known == Some(&*path) {
            return Ok(None);
        }
        let path: Arc<str> = path.into();
        if &*path == "/" && self.stat(tgid)?.exiting {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Some(path))
    }

    /// Everything but the command line; `php` from names alone.
    pub fn identity(&mut self, tgid: u32) -> io::Result<Identity> {
        let stat = self.stat(tgid)?;
        let (key, ppid) = (stat.key(), stat.ppid);
        let comm: Arc<str> = String::from_utf8_lossy(stat.comm).into();
        let uid = self.status(tgid)?.uid;
        let cgroup = self.cgroup(tgid).ok();
        self.set_path(tgid, "exe");
        let exe: Option<Arc<str>> =
            fs::read_link(&self.path).ok().map(|path| path.to_string_lossy().into());
        let php = php::identify(&comm, None, exe.as_deref(), ppid);
        Ok(Identity {
            key,
            ppid,
            comm,
            cmdline: None,
            exe,
            uid: uid.unwrap_or(u32::MAX),
            cgroup,
            php,
        })
    }

    /// /proc/TGID/cmdline. Reads pages of the process: can block.
    pub fn cmdline(&mut self, tgid: u32) -> io::Result<Option<Arc<str>>> {
        self.set_path(tgid, "cmdline");
        match file::read(&self.path, &mut self.buffer[..CMDLINE_BYTES]) {
            Ok(bytes) => Ok(command_line(bytes)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(gone(error)),
        }
    }

    fn parse_status(&mut self) -> io::Result<Status> {
        let bytes = file::read_lines(&self.path, &mut self.buffer).map_err(gone)?;
        Ok(Status::parse(bytes))
    }

    fn set_path(&mut self, tgid: u32, name: &str) {
        self.path.clear();
        let _ = write!(self.path, "/proc/{tgid}/{name}");
    }
}

/// A process that ends between open and read says ESRCH.
fn gone(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
}

/// The path in the memory controller's v1 hierarchy if there is one, or else in the v2 hierarchy.
fn memory_cgroup(bytes: &[u8]) -> Option<&[u8]> {
    let mut unified = None;
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.split(|byte| *byte == b',').any(|controller| controller == b"memory") {
            return Some(path);
        }
        if id == b"0" && controllers.is_empty() {
            unified = Some(path.strip_suffix(b" (deleted)").unwrap_or(path));
        }
    }
    unified
}

/// Arguments joined by spaces, without the padding that a changed title leaves.
fn command_line(bytes: &[u8]) -> Option<Arc<str>> {
    let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' '))? + 1;
    let text = String::from_utf8_lossy(&bytes[..end]).replace('\0', " ");
    Some(text[..text.floor_char_boundary(CMDLINE_BYTES)].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: &[u8]) -> Option<String> {
        command_line(bytes).map(|text| text.to_string())
    }

    #[test]
    fn command_lines_lose_padding_and_nothing_else() {
        assert_eq!(line(b"php-fpm: pool www\0\0\0\0").as_deref(), Some("php-fpm: pool www"));
        assert_eq!(line(b"php-fpm: pool www       ").as_deref(), Some("php-fpm: pool www"));
        assert_eq!(line(b"php\0-r\0echo 1;\0").as_deref(), Some("php -r echo 1;"));
        assert_eq!(line(b"a\0\0b\0").as_deref(), Some("a  b"));
        assert_eq!(line(b"\0\0 \0"), None);
        assert_eq!(line(b""), None);
    }

    #[test]
    fn hostile_command_lines_are_bounded_text() {
        assert_eq!(line(b"a\xff\x1b[2J\n").as_deref(), Some("a\u{fffd}\u{1b}[2J\n"));
        let binary = line(&[0xff; CMDLINE_BYTES]).unwrap();
        assert!(binary.len() <= CMDLINE_BYTES && binary.len() > CMDLINE_BYTES - 4);
        assert!(binary.chars().all(|c| c == '\u{fffd}'));
    }

    #[test]
    fn the_memory_controller_chooses_the_hierarchy() {
        let hybrid = b"9:name=systemd:/s\n4:cpu,memory:/v1/a:b c\n0::/unified\n";
        assert_eq!(memory_cgroup(hybrid), Some(&b"/v1/a:b c"[..]));
        assert_eq!(memory_cgroup(b"1:name=memory:/no\n0::/u\n"), Some(&b"/u"[..]));
        assert_eq!(memory_cgroup(b"0::/gone (deleted)\n"), Some(&b"/gone"[..]));
        assert_eq!(memory_cgroup(b"0:x:/u\n::\n\xff\n"), None);
        assert_eq!(memory_cgroup(b""), None);
    }

    #[test]
    fn reads_this_process() {
        let tgid = std::process::id();
        let identity = read(tgid).unwrap();
        assert_eq!(identity.key.tgid, tgid);
        assert_eq!(identity.key.start_ns % 10_000_000, 0);
        let uptime_ns = super::super::clock::boot_ns();
        assert!(identity.key.start_ns <= uptime_ns);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(identity.exe.as_deref(), exe.to_str());
        assert!(identity.cmdline.is_some() && identity.php.is_none());
        let growth = memory(tgid).unwrap();
        assert_eq!(growth.key(), identity.key);
        assert!(growth.anon_bytes > 0 && growth.file_bytes > 0 && growth.minor_faults > 0);
        assert!(growth.page_table_bytes > 0 && growth.data_bytes > 0);
        let adj = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        assert_eq!(growth.oom_score_adj.to_string(), adj.trim());
        assert!(list().unwrap().contains(&tgid));
        assert_eq!(read(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(memory(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
