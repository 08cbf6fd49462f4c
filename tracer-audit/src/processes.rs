//! The running processes, as /proc of the audited file system tells. A trace of what is in force, against
//! what the files say. Another user's process hides its executable and its arguments' owner: what could not
//! be read is empty, and said once.

use std::path::{Path, PathBuf};

use crate::origin::Notes;
use crate::root::Root;

/// Ticks of a second in /proc/PID/stat: USER_HZ, 100 on every architecture that has PHP.
const TICKS: u64 = 100;

/// A process, without kernel threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Of the thread group.
    pub tgid: u32,
    /// Of the parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Name, at most 15 bytes.
    pub comm: String,
    /// The executable; None where it may not be seen. ` (deleted)` is taken off.
    pub exe: Option<PathBuf>,
    /// Arguments, the name first. Some servers write a title here.
    pub args: Vec<String>,
    /// Start, seconds since 1970; zero where the host's start is not known.
    pub started_unix_s: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Anonymous part of it, bytes.
    pub anon_bytes: u64,
    /// Swapped out, bytes.
    pub swap_bytes: u64,
    /// Path of its memory cgroup (v2: of its only one).
    pub cgroup: String,
    /// What the kernel compares when it looks for a victim.
    pub oom_score: u64,
    /// What was added to it, from -1000 to 1000.
    pub oom_score_adj: i32,
}

impl Process {
    /// What it can not give back without swap, bytes.
    pub fn held_bytes(&self) -> u64 {
        self.anon_bytes.saturating_add(self.swap_bytes)
    }
}

/// All processes that can be seen, by tgid; none where the file system has no /proc.
pub fn read(root: &Root, notes: &mut Notes) -> Vec<Process> {
    let names = match root.list(Path::new("/proc")) {
        Ok(names) => names,
        Err(error) => {
            notes.unread(&error);
            return Vec::new();
        }
    };
    let boot_unix_s = boot_unix_s(root);
    let mut unseen = 0;
    let mut found: Vec<Process> = names
        .iter()
        .filter_map(|folder| {
            let tgid = folder.file_name()?.to_str()?.parse().ok()?;
            let process = process(root, folder, tgid, boot_unix_s)?;
            unseen += u64::from(process.exe.is_none());
            // A kernel thread has no memory, and so no arguments.
            (process.rss_bytes > 0 || !process.args.is_empty()).then_some(process)
        })
        .collect();
    if unseen > 0 && root.is_host() && !rustix::process::geteuid().is_root() {
        notes.say("not root: executables, limits in force and sockets of other users' processes are not seen");
    }
    found.sort_by_key(|process| process.tgid);
    found
}

/// Whether the process runs in a container, so that its files are not those of this file system: it has process
/// ids of its own, or its cgroup is a container engine's. Where the first process is an engine's as well, the file
/// system is the container's.
pub fn is_contained(root: &Root, process: &Process) -> bool {
    let status = format!("/proc/{}/status", process.tgid);
    let status = root.text(Path::new(&status)).unwrap_or_default();
    let of_first = || root.text(Path::new("/proc/1/cgroup")).unwrap_or_default();
    field(&status, "NSpid").is_some_and(|ids| ids.split_whitespace().count() > 1)
        || is_of_engine(&process.cgroup) && !is_of_engine(&memory_cgroup(&of_first()))
}

fn is_of_engine(cgroup: &str) -> bool {
    ["docker", "containerd", "kubepods", "libpod", "crio-", "/lxc"]
        .iter()
        .any(|name| cgroup.contains(name))
}

fn process(root: &Root, folder: &Path, tgid: u32, boot_unix_s: u64) -> Option<Process> {
    let text = |name: &str| root.text(&folder.join(name)).ok();
    // The name stands in brackets, and may itself hold brackets and blanks.
    let stat = text("stat")?;
    let (head, rest) = stat.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let start_ticks: u64 = fields.get(19)?.parse().ok()?;
    let status = text("status").unwrap_or_default();
    let cmdline = root.read(&folder.join("cmdline")).unwrap_or_default();
    Some(Process {
        tgid,
        ppid: fields.get(1)?.parse().ok()?,
        uid: field(&status, "Uid").and_then(first).unwrap_or(0) as u32,
        comm,
        exe: root.link(&folder.join("exe")).ok().map(without_deleted),
        args: arguments(&cmdline),
        started_unix_s: if boot_unix_s == 0 {
            0
        } else {
            boot_unix_s.saturating_add(start_ticks / TICKS)
        },
        rss_bytes: kib(&status, "VmRSS"),
        anon_bytes: kib(&status, "RssAnon"),
        swap_bytes: kib(&status, "VmSwap"),
        cgroup: memory_cgroup(&text("cgroup").unwrap_or_default()),
        oom_score: text("oom_score").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        oom_score_adj: text("oom_score_adj").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    })
}

fn arguments(cmdline: &[u8]) -> Vec<String> {
    let end = cmdline.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    let parts = cmdline[..end].split(|&byte| byte == 0);
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn without_deleted(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(text) => PathBuf::from(text),
        None => path,
    }
}

/// The line of the v1 controller, else that of v2.
pub(crate) fn memory_cgroup(text: &str) -> String {
    let mut unified = "";
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.split(',').any(|name| name == "memory") {
            return path.to_owned();
        }
        if number == "0" {
            unified = path;
        }
    }
    unified.to_owned()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn first(value: &str) -> Option<u64> {
    value.split_whitespace().next()?.parse().ok()
}

fn kib(status: &str, name: &str) -> u64 {
    field(status, name).and_then(first).unwrap_or(0).saturating_mul(1024)
}

fn boot_unix_s(root: &Root) -> u64 {
    let stat = root.text(Path::new("/proc/stat")).unwrap_or_default();
    stat.lines().find_map(|line| first(line.strip_prefix("btime ")?)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_it_is() {
        let root = Root::new(Path::new("/")).unwrap();
        let all = read(&root, &mut Notes::default());
        let own = all.iter().find(|process| process.tgid == std::process::id()).unwrap();
        assert_eq!(own.exe, std::env::current_exe().ok());
        assert_eq!(own.args, std::env::args().collect::<Vec<_>>());
        assert!(own.rss_bytes >= own.anon_bytes && own.anon_bytes > 0, "{own:?}");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(own.started_unix_s <= now + 1 && own.started_unix_s + 3600 > now, "{own:?}");
        assert!(!all.iter().any(|process| process.comm == "kthreadd"));
    }

    #[test]
    fn names_may_hold_brackets() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("proc/7");
        std::fs::create_dir_all(&own).unwrap();
        let stat = "7 (a) S (b)) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 250 0 0\n";
        std::fs::write(own.join("stat"), stat).unwrap();
        std::fs::write(own.join("cmdline"), b"php-fpm: pool www\0\0\0").unwrap();
        std::fs::write(own.join("status"), "Uid:\t33\t33\nVmRSS:\t  100 kB\nRssAnon: 60 kB\n")
            .unwrap();
        std::fs::write(own.join("cgroup"), "3:cpu,cpuacct:/x\n2:memory:/a:b\n0::/y\n").unwrap();
        std::fs::write(folder.path().join("proc/stat"), "btime 1000\n").unwrap();
        let all = read(&Root::new(folder.path()).unwrap(), &mut Notes::default());
        assert_eq!(
            all,
            [Process {
                tgid: 7,
                ppid: 3,
                uid: 33,
                comm: "a) S (b)".to_owned(),
                args: vec!["php-fpm: pool www".to_owned()],
                started_unix_s: 1002,
                rss_bytes: 100 << 10,
                anon_bytes: 60 << 10,
                cgroup: "/a:b".to_owned(),
                ..Process::default()
            }]
        );
    }

    #[test]
    fn a_container_is_known_from_outside_and_is_none_inside() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let docker = "/system.slice/docker-12.scope".to_owned();
        let engine = Process { tgid: 7, cgroup: docker, ..Process::default() };
        let other = Process { tgid: 8, ..Process::default() };
        put("1/cgroup", "0::/init.scope\n");
        put("8/status", "NSpid:\t8\n");
        assert!(is_contained(&root, &engine) && !is_contained(&root, &other));
        put("8/status", "NSpid:\t8\t1\n");
        assert!(is_contained(&root, &other));
        // The audit runs in the container, or has its file system for root.
        put("1/cgroup", "0::/system.slice/docker-12.scope\n");
        assert!(!is_contained(&root, &engine));
    }

    #[test]
    fn a_system_without_proc_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&Root::new(folder.path()).unwrap(), &mut Notes::default()), []);
        assert_eq!(memory_cgroup("0::/system.slice/a.service\n"), "/system.slice/a.service");
        assert_eq!(memory_cgroup("nonsense"), "");
    }
}
