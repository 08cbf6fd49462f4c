//! What this host offers: facts, gathered without any privilege and without judging them. What
//! they mean for the hooks is decided by [`super::plan`].

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::enrich::cgroup::Hierarchy;
use crate::enrich::{file, host, status};

/// Inode numbers of the initial namespaces (PROC_PID_INIT_INO, PROC_USER_INIT_INO;
/// include/linux/proc_ns.h).
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;

/// What is said where [`Facts::is_in_own_pid_namespace`].
pub const OWN_PID_NAMESPACE: &str = "runs in a pid namespace of its own: processes outside of it are seen by \
    the kernel programs, but their command lines, executables and PHP requests are not; start the container \
    with --pid=host (Kubernetes: hostPID: true)";

/// Tracepoints that the hooks may use.
pub const TRACEPOINTS: [&str; 14] = [
    "oom/mark_victim",
    "kmem/rss_stat",
    "vmscan/mm_vmscan_direct_reclaim_begin",
    "vmscan/mm_vmscan_direct_reclaim_end",
    "vmscan/mm_vmscan_memcg_reclaim_begin",
    "vmscan/mm_vmscan_memcg_reclaim_end",
    "sched/sched_process_exec",
    "sched/sched_process_fork",
    "sched/sched_process_exit",
    "signal/signal_generate",
    "cgroup/cgroup_mkdir",
    "cgroup/cgroup_rmdir",
    "cgroup/cgroup_attach_task",
    "exceptions/page_fault_user",
];

/// Capabilities that tracing and acting need, by their bit (capabilities(7)).
pub const CAPABILITIES: [(&str, u32); 7] = [
    ("CAP_BPF", 39),
    ("CAP_PERFMON", 38),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_KILL", 5),
    ("CAP_IPC_LOCK", 14),
];

/// A fact, or why it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Fact<T> {
    /// It is so.
    Known(T),
    /// It could not be found out.
    Unknown {
        /// Why.
        unknown: String,
    },
}

impl<T> Fact<T> {
    /// The fact, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(fact) => Some(fact),
            Self::Unknown { .. } => None,
        }
    }

    fn unknown(why: impl fmt::Display) -> Self {
        Self::Unknown { unknown: why.to_string() }
    }
}

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Self::unknown("not looked for")
    }
}

impl<T> From<io::Result<T>> for Fact<T> {
    fn from(result: io::Result<T>) -> Self {
        match result {
            Ok(fact) => Self::Known(fact),
            Err(error) => Self::unknown(error),
        }
    }
}

/// PSI of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Psi {
    /// It can be read.
    Present,
    /// The kernel has it, and it is switched off (psi=0, or off by default).
    Disabled,
    /// The kernel has none.
    Absent,
}

/// The memory controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryController {
    /// Version, mount and top of its hierarchy.
    pub hierarchy: Hierarchy,
    /// It is switched on there.
    pub enabled: Fact<bool>,
}

/// Facts of a host. [`Facts::default`] knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: Fact<String>,
    /// `uname -m`.
    pub arch: String,
    /// Bytes of /sys/kernel/btf/vmlinux; 0 = the kernel has no BTF.
    pub btf_bytes: Fact<u64>,
    /// Where tracefs is mounted; null = nowhere.
    pub tracefs: Fact<Option<PathBuf>>,
    /// Those of [`TRACEPOINTS`] that exist.
    pub tracepoints: Fact<Vec<&'static str>>,
    /// The kernel has kprobes.
    pub kprobes: Fact<bool>,
    /// BPF trampolines (fentry) work; null = not tried, which needs privilege.
    pub fentry: Option<bool>,
    /// The memory controller's hierarchy.
    pub memory_controller: Fact<MemoryController>,
    /// PSI of the host.
    pub psi: Fact<Psi>,
    /// SwapTotal.
    pub swap_bytes: Fact<u64>,
    /// Transparent huge pages: always, madvise or never.
    pub thp: Fact<String>,
    /// Those of [`CAPABILITIES`] that are effective.
    pub capabilities: Fact<Vec<&'static str>>,
    /// kernel.unprivileged_bpf_disabled: 0 to 2.
    pub unprivileged_bpf_disabled: Fact<u64>,
    /// Lockdown: none, integrity or confidentiality.
    pub lockdown: Fact<String>,
    /// kernel.kptr_restrict: 0 to 2.
    pub kptr_restrict: Fact<u64>,
    /// This process is in the initial pid namespace, whose tgids the kernel reports.
    pub initial_pid_namespace: Fact<bool>,
    /// This process is in the initial user namespace, where BPF privileges are asked for.
    pub initial_user_namespace: Fact<bool>,
}

/// [`OWN_PID_NAMESPACE`] where it is so, for a service to say at its start. Costs one readlink.
pub fn pid_namespace_notice() -> Option<&'static str> {
    let initial = is_initial(Path::new("/"), "pid", INITIAL_PID_NS);
    (initial.known() == Some(&false)).then_some(OWN_PID_NAMESPACE)
}

/// Whether this process is in the initial namespace of a kind, which has this inode on every kernel.
fn is_initial(root: &Path, kind: &str, inode: u64) -> Fact<bool> {
    let link = fs::read_link(root.join("proc/self/ns").join(kind));
    link.map(|link| link.to_string_lossy() == format!("{kind}:[{inode}]")).into()
}

impl Facts {
    /// Looks at this host. Takes a few milliseconds.
    pub fn probe() -> Self {
        let mut facts = Self::below(Path::new("/"));
        facts.arch = host::machine();
        facts.memory_controller = Hierarchy::detect().map(memory_controller).into();
        facts
    }

    /// The capability is effective; false when that is not known.
    pub fn has_capability(&self, name: &str) -> bool {
        self.capabilities.known().is_some_and(|held| held.contains(&name))
    }

    /// The tracepoint (`oom/mark_victim`) exists; None = not known.
    pub fn has_tracepoint(&self, name: &str) -> Option<bool> {
        self.tracepoints.known().map(|found| found.contains(&name))
    }

    /// This process is certainly not in the initial pid namespace: /proc shows other ids than the kernel
    /// reports, and only some of the processes.
    pub fn is_in_own_pid_namespace(&self) -> bool {
        self.initial_pid_namespace.known() == Some(&false)
    }

    /// What the files below `root` tell.
    fn below(root: &Path) -> Self {
        let word = |path: &str| file::read_word(root.join(path));
        let level = |path| match word(path) {
            Ok(text) => match text.parse() {
                Ok(level) => Fact::Known(level),
                Err(error) => Fact::unknown(error),
            },
            Err(error) => Fact::unknown(error),
        };
        let tracefs = tracefs(root);
        let mut buffer = [0; file::BUFFER_BYTES];
        let capabilities = match file::read_lines(root.join("proc/self/status"), &mut buffer) {
            Ok(bytes) => match status::effective_capabilities(bytes) {
                Some(bits) => Fact::Known(capability_names(bits)),
                None => Fact::unknown("/proc/self/status has no CapEff"),
            },
            Err(error) => Fact::unknown(error),
        };
        let swap_bytes = file::read_lines(root.join("proc/meminfo"), &mut buffer)
            .and_then(|bytes| Ok(host::MemInfo::parse(bytes)?.swap_total_bytes));
        Self {
            kernel: word("proc/sys/kernel/osrelease").into(),
            arch: String::new(),
            btf_bytes: absent_as(
                fs::metadata(root.join("sys/kernel/btf/vmlinux")).map(|m| m.len()),
                0,
            ),
            tracepoints: tracepoints(&tracefs),
            kprobes: kprobes(root, &tracefs),
            tracefs,
            fentry: None,
            memory_controller: Fact::default(),
            psi: psi(root),
            swap_bytes: swap_bytes.into(),
            thp: chosen(word("sys/kernel/mm/transparent_hugepage/enabled"), "never"),
            capabilities,
            unprivileged_bpf_disabled: level("proc/sys/kernel/unprivileged_bpf_disabled"),
            lockdown: lockdown(root),
            kptr_restrict: level("proc/sys/kernel/kptr_restrict"),
            initial_pid_namespace: is_initial(root, "pid", INITIAL_PID_NS),
            initial_user_namespace: is_initial(root, "user", INITIAL_USER_NS),
        }
    }
}

fn memory_controller(hierarchy: Hierarchy) -> MemoryController {
    MemoryController { enabled: hierarchy.controls_memory().into(), hierarchy }
}

/// A file that is not there means this value, and any other trouble is unknown.
fn absent_as<T>(result: io::Result<T>, absent: T) -> Fact<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Fact::Known(absent),
        result => result.into(),
    }
}

/// The mount point in sysfs is open to all until tracefs, which is not, is mounted on it. Below
/// debugfs nothing can be told without privilege.
fn tracefs(root: &Path) -> Fact<Option<PathBuf>> {
    const SYSFS_MOUNT: &str = "sys/kernel/tracing";
    let mut hidden = None;
    for place in [SYSFS_MOUNT, "sys/kernel/debug/tracing"] {
        let folder = root.join(place);
        match fs::symlink_metadata(folder.join("README")) {
            Ok(_) => return Fact::Known(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && place == SYSFS_MOUNT =>
            {
                return Fact::Known(Some(folder));
            }
            Err(error) => hidden = hidden.or(Some(format!("{}: {error}", folder.display()))),
        }
    }
    hidden.map_or(Fact::Known(None), Fact::unknown)
}

fn tracepoints(tracefs: &Fact<Option<PathBuf>>) -> Fact<Vec<&'static str>> {
    let events = match tracefs {
        Fact::Known(Some(folder)) => folder.join("events"),
        Fact::Known(None) => return Fact::unknown("tracefs is not mounted"),
        Fact::Unknown { unknown } => return Fact::unknown(unknown),
    };
    match fs::metadata(events.join("sched")) {
        Ok(_) => {
            Fact::Known(TRACEPOINTS.into_iter().filter(|name| events.join(name).exists()).collect())
        }
        Err(error) => Fact::unknown(format!("{}: {error}", events.display())),
    }
}

/// Since 4.17 the kprobe PMU is there whenever kprobe events are; all may see it.
fn kprobes(root: &Path, tracefs: &Fact<Option<PathBuf>>) -> Fact<bool> {
    let devices = root.join("sys/bus/event_source/devices");
    if devices.is_dir() {
        return Fact::Known(devices.join("kprobe").exists());
    }
    match tracefs {
        Fact::Known(Some(folder)) => {
            absent_as(fs::symlink_metadata(folder.join("kprobe_events")).map(|_| true), false)
        }
        Fact::Known(None) => Fact::unknown("no perf events, and tracefs is not mounted"),
        Fact::Unknown { unknown } => Fact::unknown(unknown),
    }
}

fn psi(root: &Path) -> Fact<Psi> {
    match file::read_word(root.join("proc/pressure/memory")) {
        Ok(_) => Fact::Known(Psi::Present),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Fact::Known(Psi::Disabled),
        // Where it is off the folder is missing too (5.2); only the command line tells.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut buffer = [0; file::BUFFER_BYTES];
            let off = file::read(root.join("proc/cmdline"), &mut buffer)
                .is_ok_and(|line| line.split(u8::is_ascii_whitespace).any(|word| word == b"psi=0"));
            Fact::Known(if off { Psi::Disabled } else { Psi::Absent })
        }
        Err(error) => Fact::unknown(error),
    }
}

/// securityfs that is not mounted, or a kernel without lockdown.
fn lockdown(root: &Path) -> Fact<String> {
    let security = root.join("sys/kernel/security");
    match file::read_word(security.join("lockdown")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::read_dir(&security).is_ok_and(|mut entries| entries.next().is_some()) {
                Fact::Known("none".to_owned())
            } else {
                Fact::unknown("securityfs is not mounted")
            }
        }
        word => chosen(word, "none"),
    }
}

/// The word in brackets: `always [madvise] never`.
fn chosen(line: io::Result<String>, absent: &str) -> Fact<String> {
    match absent_as(line, format!("[{absent}]")) {
        Fact::Known(line) => {
            match line.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
                Some((word, _)) => Fact::Known(word.to_owned()),
                None => Fact::unknown("nothing is chosen"),
            }
        }
        unknown @ Fact::Unknown { .. } => unknown,
    }
}

pub(super) fn capability_names(bits: u64) -> Vec<&'static str> {
    CAPABILITIES.into_iter().filter(|(_, bit)| bits >> bit & 1 == 1).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests;
