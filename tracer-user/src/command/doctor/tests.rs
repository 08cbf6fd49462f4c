//! Golden output of the doctor for made-up hosts.

use super::*;
use crate::enrich::cgroup::{Hierarchy, Version};
use crate::kernel::facts::MemoryController;

fn hook(name: &str, mechanism: &str, state: &str, reason: &str) -> Hook {
    Hook {
        name: name.to_owned(),
        mechanism: mechanism.to_owned(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    }
}

fn full() -> Facts {
    let controller = MemoryController {
        hierarchy: Hierarchy {
            version: Version::V2,
            mount: "/sys/fs/cgroup".into(),
            root: "/".to_owned(),
        },
        enabled: Fact::Known(true),
    };
    Facts {
        kernel: Fact::Known("6.12.9".to_owned()),
        arch: "x86_64".to_owned(),
        btf_bytes: Fact::Known(5 << 20),
        tracefs: Fact::Known(Some("/sys/kernel/tracing".into())),
        tracepoints: Fact::Known(TRACEPOINTS.to_vec()),
        kprobes: Fact::Known(true),
        fentry: Some(true),
        memory_controller: Fact::Known(controller),
        psi: Fact::Known(Psi::Present),
        swap_bytes: Fact::Known(0),
        thp: Fact::Known("madvise".to_owned()),
        capabilities: Fact::Known(CAPABILITIES.iter().map(|pair| pair.0).collect()),
        unprivileged_bpf_disabled: Fact::Known(2),
        lockdown: Fact::Known("none".to_owned()),
        kptr_restrict: Fact::Known(0),
        initial_pid_namespace: Fact::Known(true),
        initial_user_namespace: Fact::Known(true),
    }
}

fn printed(facts: &Facts, hooks: &[Hook]) -> String {
    let mut out = Vec::new();
    let tracing = Tracing { hooks: hooks.to_vec(), ..Tracing::default() };
    render(facts, &tracing, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_host_with_everything() {
    let hooks = [
        hook("oom", "tp_btf", "planned", ""),
        hook("growth", "tracepoint", "degraded", "no BTF: sizes come each second"),
    ];
    let golden = "\
HOST
kernel            6.12.9 (x86_64)
BTF               /sys/kernel/btf/vmlinux, 5.0 MiB
tracefs           /sys/kernel/tracing
tracepoints       all 14
kprobes           yes
fentry            yes
memory cgroups    v2 at /sys/fs/cgroup
PSI               present
swap              none
huge pages        madvise
capabilities      all 7
unprivileged BPF  disabled
lockdown          none
kptr_restrict     0
pid namespace     initial
user namespace    initial

HOOK    MECHANISM   STATE     WHY, AND WHAT IS LOST
oom     tp_btf      planned
growth  tracepoint  degraded  no BTF: sizes come each second
";
    assert_eq!(printed(&full(), &hooks), golden);
}

#[test]
fn a_poor_host_gets_remedies() {
    let mut facts = Facts {
        kernel: Fact::Known("5.10\u{1b}[2J".to_owned()),
        btf_bytes: Fact::Known(0),
        tracefs: Fact::Known(None),
        tracepoints: Fact::Unknown { unknown: "tracefs is not mounted".to_owned() },
        kprobes: Fact::Known(false),
        fentry: None,
        memory_controller: Fact::default(),
        psi: Fact::Known(Psi::Disabled),
        swap_bytes: Fact::Known(512 << 20),
        capabilities: Fact::Known(vec!["CAP_KILL"]),
        lockdown: Fact::Known("confidentiality".to_owned()),
        initial_pid_namespace: Fact::Known(false),
        initial_user_namespace: Fact::Known(false),
        ..full()
    };
    let golden = "\
HOST
kernel            5.10\\x1b[2J (x86_64)
BTF               none
                  -> use a kernel built with CONFIG_DEBUG_INFO_BTF=y
tracefs           not mounted
                  -> mount -t tracefs tracefs /sys/kernel/tracing
tracepoints       unknown: tracefs is not mounted
kprobes           no
fentry            not tried
memory cgroups    unknown: not looked for
                  -> mount -t cgroup2 cgroup2 /sys/fs/cgroup
PSI               switched off
                  -> boot with psi=1
swap              512.0 MiB
huge pages        madvise
capabilities      CAP_KILL; lacking: CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_SYS_RESOURCE CAP_SYS_PTRACE CAP_IPC_LOCK
                  -> run as root, or with CAP_BPF and CAP_PERFMON
unprivileged BPF  disabled
lockdown          confidentiality
                  -> BPF may not read kernel memory: lower lockdown to integrity
kptr_restrict     0
pid namespace     not the initial one
                  -> runs in a pid namespace of its own: processes outside of it are seen by the kernel programs, but their command lines, executables and PHP requests are not; start the container with --pid=host (Kubernetes: hostPID: true)
user namespace    not the initial one
                  -> run in the initial user namespace: BPF asks for privileges there
";
    assert_eq!(printed(&facts, &[]), golden);
    facts.tracepoints = Fact::Known(TRACEPOINTS[1..].to_vec());
    assert!(printed(&facts, &[]).contains("13 of 14; missing: oom/mark_victim\n"));
}

#[test]
fn json_is_one_object() {
    let mut out = Vec::new();
    let sweep = LoadedProgram {
        name: "sweep".to_owned(),
        verified_instructions: None,
        translated_instructions: Some(312),
    };
    let hooks = vec![hook("oom", "tp_btf", "planned", "")];
    let tracing = Tracing { hooks, programs: vec![sweep], refused: None };
    render_json(&full(), &tracing, &mut out).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["facts"]["memory_controller"]["hierarchy"]["version"], "v2");
    assert_eq!(json["facts"]["swap_bytes"], 0);
    assert_eq!(json["hooks"][0]["mechanism"], "tp_btf");
    assert_eq!(json["programs"][0]["name"], "sweep");
    assert_eq!(json["programs"][0]["translated_instructions"], 312);
    assert!(json["programs"][0]["verified_instructions"].is_null());
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[test]
fn a_refusal_is_said_with_its_remedy() {
    let refused =
        Unsupported { reason: "no\x1b[2J privilege".to_owned(), remedy: "be root".to_owned() };
    let tracing = Tracing { refused: Some(refused), ..Tracing::default() };
    let mut out = Vec::new();
    render(&full(), &tracing, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("Nothing could be loaded: no\\x1b[2J privilege\n  -> be root\n"),
        "{text}"
    );
    let mut out = Vec::new();
    render_json(&full(), &tracing, &mut out).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["refused"]["remedy"], "be root");
}
