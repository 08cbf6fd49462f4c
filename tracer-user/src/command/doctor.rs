//! `rampage doctor`: what this host can be traced with, what is lost, and what to do about it.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::cli;
use crate::event::Hook;
use crate::kernel::facts::{CAPABILITIES, Fact, Facts, Psi, TRACEPOINTS};

const MOUNT_TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing";
const BE_ROOT: &str = "run as root";

/// Prints facts and hooks.
pub fn execute(args: &cli::Doctor) -> anyhow::Result<()> {
    let facts = Facts::probe();
    let hooks = hooks(&facts);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        render_json(&facts, &hooks, &mut out)
    } else {
        render(&facts, &hooks, &mut out)
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// What the facts allow.
fn hooks(_facts: &Facts) -> Vec<Hook> {
    Vec::new()
}

/// One object on one line.
pub fn render_json(facts: &Facts, hooks: &[Hook], out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        facts: &'a Facts,
        hooks: &'a [Hook],
    }
    serde_json::to_writer(&mut *out, &Report { facts, hooks })?;
    writeln!(out)
}

/// Two tables: the host, then the hooks. A remedy stands below the line that it is for.
pub fn render(facts: &Facts, hooks: &[Hook], out: &mut impl Write) -> io::Result<()> {
    let rows = rows(facts);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    writeln!(out, "HOST")?;
    for row in &rows {
        writeln!(out, "{:width$}  {}", row.name, printable(&row.value))?;
        if let Some(remedy) = row.remedy {
            writeln!(out, "{:width$}  -> {remedy}", "")?;
        }
    }
    if hooks.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let heads = Hook {
        name: "HOOK".to_owned(),
        mechanism: "MECHANISM".to_owned(),
        state: "STATE".to_owned(),
        reason: "WHY, AND WHAT IS LOST".to_owned(),
    };
    let lines = || std::iter::once(&heads).chain(hooks);
    let widest = |field: fn(&Hook) -> &str| {
        lines().map(|hook| printable(field(hook)).chars().count()).max().unwrap_or(0)
    };
    let name = widest(|hook| &hook.name);
    let mechanism = widest(|hook| &hook.mechanism);
    let state = widest(|hook| &hook.state);
    for hook in lines() {
        let line = format!(
            "{:name$}  {:mechanism$}  {:state$}  {}",
            printable(&hook.name),
            printable(&hook.mechanism),
            printable(&hook.state),
            printable(&hook.reason)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// One line of the host's table.
struct Row {
    name: &'static str,
    value: String,
    remedy: Option<&'static str>,
}

impl Row {
    /// The remedy is shown where the fact is not as it should be.
    fn new(name: &'static str, value: String, fine: bool, remedy: &'static str) -> Self {
        Self { name, value, remedy: (!fine && !remedy.is_empty()).then_some(remedy) }
    }
}

fn rows(facts: &Facts) -> Vec<Row> {
    let kernel = format!("{} ({})", said(&facts.kernel, String::clone), facts.arch);
    vec![
        Row::new("kernel", kernel, true, ""),
        btf(facts),
        Row::new(
            "tracefs",
            said(&facts.tracefs, |place| match place {
                Some(folder) => folder.display().to_string(),
                None => "not mounted".to_owned(),
            }),
            facts.tracefs.known().is_none_or(Option::is_some),
            MOUNT_TRACEFS,
        ),
        tracepoints(facts),
        Row::new("kprobes", said(&facts.kprobes, yes_no), true, ""),
        Row::new(
            "fentry",
            facts.fentry.as_ref().map_or_else(|| "not tried".to_owned(), yes_no),
            true,
            "",
        ),
        memory_controller(facts),
        Row::new(
            "PSI",
            said(&facts.psi, |psi| {
                match psi {
                    Psi::Present => "present",
                    Psi::Disabled => "switched off",
                    Psi::Absent => "not in this kernel, or off by default",
                }
                .to_owned()
            }),
            facts.psi.known() == Some(&Psi::Present),
            "boot with psi=1",
        ),
        Row::new(
            "swap",
            said(
                &facts.swap_bytes,
                |bytes| if *bytes == 0 { "none".to_owned() } else { mib(*bytes) },
            ),
            true,
            "",
        ),
        Row::new("huge pages", said(&facts.thp, String::clone), true, ""),
        capabilities(facts),
        Row::new(
            "unprivileged BPF",
            said(&facts.unprivileged_bpf_disabled, |level| {
                if *level == 0 { "allowed" } else { "disabled" }.to_owned()
            }),
            true,
            "",
        ),
        Row::new(
            "lockdown",
            said(&facts.lockdown, String::clone),
            facts.lockdown.known().is_none_or(|level| level != "confidentiality"),
            "BPF may not read kernel memory: lower lockdown to integrity",
        ),
        Row::new("kptr_restrict", said(&facts.kptr_restrict, ToString::to_string), true, ""),
        Row::new(
            "pid namespace",
            said(&facts.initial_pid_namespace, initial),
            facts.initial_pid_namespace.known() != Some(&false),
            "run on the host, or with its pid namespace (docker run --pid=host)",
        ),
        Row::new(
            "user namespace",
            said(&facts.initial_user_namespace, initial),
            facts.initial_user_namespace.known() != Some(&false),
            "run in the initial user namespace: BPF asks for privileges there",
        ),
    ]
}

fn btf(facts: &Facts) -> Row {
    let there = facts.btf_bytes.known().is_none_or(|bytes| *bytes > 0);
    let value = said(&facts.btf_bytes, |bytes| {
        if *bytes > 0 {
            format!("/sys/kernel/btf/vmlinux, {}", mib(*bytes))
        } else {
            "none".to_owned()
        }
    });
    Row::new("BTF", value, there, "use a kernel built with CONFIG_DEBUG_INFO_BTF=y")
}

fn tracepoints(facts: &Facts) -> Row {
    let value = said(&facts.tracepoints, |found| {
        let missing: Vec<_> =
            TRACEPOINTS.into_iter().filter(|name| !found.contains(name)).collect();
        if missing.is_empty() {
            format!("all {}", TRACEPOINTS.len())
        } else {
            format!("{} of {}; missing: {}", found.len(), TRACEPOINTS.len(), missing.join(", "))
        }
    });
    let unmounted = facts.tracefs.known() == Some(&None);
    Row::new("tracepoints", value, facts.tracepoints.known().is_some() || unmounted, BE_ROOT)
}

fn memory_controller(facts: &Facts) -> Row {
    let value = said(&facts.memory_controller, |controller| {
        let state = match &controller.enabled {
            Fact::Known(true) => String::new(),
            Fact::Known(false) => ", memory controller off".to_owned(),
            Fact::Unknown { unknown } => format!(", memory controller unknown: {unknown}"),
        };
        format!(
            "{} at {}{state}",
            controller.hierarchy.version,
            controller.hierarchy.mount.display()
        )
    });
    match &facts.memory_controller {
        Fact::Known(controller) => Row::new(
            "memory cgroups",
            value,
            controller.enabled.known() != Some(&false),
            "boot without cgroup_disable=memory (or with cgroup_enable=memory)",
        ),
        Fact::Unknown { .. } => {
            Row::new("memory cgroups", value, false, "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        }
    }
}

fn capabilities(facts: &Facts) -> Row {
    let may_trace = facts.has_capability("CAP_SYS_ADMIN")
        || (facts.has_capability("CAP_BPF") && facts.has_capability("CAP_PERFMON"));
    let value = said(&facts.capabilities, |held| {
        let lacking: Vec<_> = CAPABILITIES
            .into_iter()
            .map(|pair| pair.0)
            .filter(|name| !held.contains(name))
            .collect();
        match (held.is_empty(), lacking.is_empty()) {
            (true, _) => "none of those that matter".to_owned(),
            (_, true) => format!("all {}", CAPABILITIES.len()),
            _ => format!("{}; lacking: {}", held.join(" "), lacking.join(" ")),
        }
    });
    Row::new("capabilities", value, may_trace, "run as root, or with CAP_BPF and CAP_PERFMON")
}

fn said<T>(fact: &Fact<T>, say: impl FnOnce(&T) -> String) -> String {
    match fact {
        Fact::Known(fact) => say(fact),
        Fact::Unknown { unknown } => format!("unknown: {unknown}"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "a way to say a fact, see `said`")]
fn yes_no(yes: &bool) -> String {
    if *yes { "yes" } else { "no" }.to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "a way to say a fact, see `said`")]
fn initial(initial: &bool) -> String {
    if *initial { "initial" } else { "not the initial one" }.to_owned()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Paths and reasons hold names that others chose: control characters are escaped.
fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
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
        render(facts, hooks, &mut out).unwrap();
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
kernel            5.10\\u{1b}[2J (x86_64)
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
                  -> run on the host, or with its pid namespace (docker run --pid=host)
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
        render_json(&full(), &[hook("oom", "tp_btf", "planned", "")], &mut out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["facts"]["memory_controller"]["hierarchy"]["version"], "v2");
        assert_eq!(json["facts"]["swap_bytes"], 0);
        assert_eq!(json["hooks"][0]["mechanism"], "tp_btf");
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
