//! Facts from made-up hosts, and from this one.

use super::*;
use std::os::unix::fs::symlink;

fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn a_full_host() {
    let root = host(&[
        ("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n"),
        ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
        ("proc/sys/kernel/kptr_restrict", "1\n"),
        ("proc/meminfo", "MemTotal: 10 kB\nMemAvailable: 5 kB\nSwapTotal: 3 kB\n"),
        ("proc/pressure/memory", "some avg10=0.00\n"),
        ("proc/self/status", "Name:\tx\nCapEff:\t000000c000004020\n"),
        ("sys/kernel/btf/vmlinux", "12345"),
        ("sys/kernel/tracing/README", ""),
        ("sys/kernel/tracing/kprobe_events", ""),
        ("sys/kernel/tracing/events/sched/sched_process_exit/format", ""),
        ("sys/kernel/tracing/events/oom/mark_victim/format", ""),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
    ]);
    fs::create_dir_all(root.path().join("proc/self/ns")).unwrap();
    symlink("pid:[4026531836]", root.path().join("proc/self/ns/pid")).unwrap();
    symlink("user:[4026532000]", root.path().join("proc/self/ns/user")).unwrap();
    let facts = Facts::below(root.path());
    assert_eq!(facts.kernel.known().unwrap(), "6.1.0-30-amd64");
    assert_eq!(facts.btf_bytes, Fact::Known(5));
    assert_eq!(facts.tracefs, Fact::Known(Some(root.path().join("sys/kernel/tracing"))));
    assert_eq!(facts.has_tracepoint("oom/mark_victim"), Some(true));
    assert_eq!(facts.has_tracepoint("kmem/rss_stat"), Some(false));
    assert_eq!((facts.kprobes.clone(), facts.fentry), (Fact::Known(true), None));
    assert_eq!(
        (facts.psi.clone(), facts.swap_bytes.clone()),
        (Fact::Known(Psi::Present), Fact::Known(3072))
    );
    assert_eq!(facts.thp.known().unwrap(), "madvise");
    assert_eq!(facts.lockdown.known().unwrap(), "integrity");
    let held = vec!["CAP_BPF", "CAP_PERFMON", "CAP_KILL", "CAP_IPC_LOCK"];
    assert_eq!(facts.capabilities, Fact::Known(held));
    assert!(facts.has_capability("CAP_BPF") && !facts.has_capability("CAP_SYS_ADMIN"));
    assert_eq!(facts.unprivileged_bpf_disabled, Fact::Known(2));
    assert_eq!(facts.kptr_restrict, Fact::Known(1));
    assert_eq!(facts.initial_pid_namespace, Fact::Known(true));
    assert_eq!(facts.initial_user_namespace, Fact::Known(false));
}

#[test]
fn a_bare_host_says_what_it_lacks_and_why() {
    let root =
        host(&[("proc/cmdline", "quiet psi=0 panic=1\n"), ("proc/self/status", "Name: x\n")]);
    let facts = Facts::below(root.path());
    assert_eq!(facts.btf_bytes, Fact::Known(0));
    assert_eq!(facts.tracefs, Fact::Known(None));
    assert_eq!(facts.tracepoints, Fact::unknown("tracefs is not mounted"));
    assert_eq!(facts.has_tracepoint("oom/mark_victim"), None);
    assert_eq!(facts.kprobes, Fact::Known(false));
    assert_eq!(facts.psi, Fact::Known(Psi::Disabled));
    assert_eq!(facts.thp.known().unwrap(), "never");
    assert_eq!(facts.lockdown, Fact::unknown("securityfs is not mounted"));
    assert_eq!(facts.capabilities, Fact::unknown("/proc/self/status has no CapEff"));
    let missing = io::Error::from_raw_os_error(libc::ENOENT);
    assert_eq!(facts.swap_bytes, Fact::unknown(&missing));
    assert_eq!(facts.initial_pid_namespace, Fact::unknown(&missing));
    assert_eq!(psi(host(&[]).path()), Fact::Known(Psi::Absent));
}

#[test]
fn odd_contents_are_unknown() {
    let root = host(&[
        ("proc/sys/kernel/kptr_restrict", "much\n"),
        ("proc/meminfo", "\u{0}\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise\n"),
        ("sys/kernel/security/lsm", "capability"),
    ]);
    let facts = Facts::below(root.path());
    assert!(facts.kptr_restrict.known().is_none() && facts.swap_bytes.known().is_none());
    assert_eq!(facts.thp, Fact::unknown("nothing is chosen"));
    assert_eq!(facts.lockdown.known().unwrap(), "none");
}

#[test]
fn unknown_facts_say_so_in_json() {
    let json = serde_json::to_value(Facts::default()).unwrap();
    assert_eq!(json["kernel"]["unknown"], "not looked for");
    assert_eq!(json["fentry"], serde_json::Value::Null);
    assert_eq!(serde_json::to_value(Fact::Known(3)).unwrap(), 3);
}

#[test]
fn this_host() {
    let facts = Facts::probe();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(facts.kernel.known().unwrap(), release.trim());
    assert!(!facts.arch.is_empty());
    assert!(facts.capabilities.known().is_some());
    let btf = fs::metadata("/sys/kernel/btf/vmlinux").map_or(0, |file| file.len());
    assert_eq!(facts.btf_bytes, Fact::Known(btf));
    assert!(serde_json::to_string(&facts).is_ok());
}
