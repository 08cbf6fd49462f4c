//! `rampage doctor`: what this host can be traced with, what is lost, and what to do about it.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::cli;
use crate::event::Hook;
use crate::kernel::Unsupported;
use crate::kernel::facts::{CAPABILITIES, Fact, Facts, OWN_PID_NAMESPACE, Psi, TRACEPOINTS};
use crate::kernel::load::{self, Kernel, LoadOptions, LoadedProgram};
use crate::text::printable;

const MOUNT_TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing";
const BE_ROOT: &str = "run as root";

/// Prints facts and hooks.
pub fn execute(args: &cli::Doctor) -> anyhow::Result<()> {
    let mut facts = Facts::probe();
    let tracing = Tracing::probe(&args.forbid);
    if tracing.refused.is_none() {
        facts.fentry = Some(tracing.hooks.iter().any(|hook| hook.mechanism == "fentry"));
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        render_json(&facts, &tracing, &mut out)
    } else {
        render(&facts, &tracing, &mut out)
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// What can be attached here.
#[derive(Debug, Default)]
pub struct Tracing {
    /// Each hook: attached when the programs could be loaded, else as planned.
    pub hooks: Vec<Hook>,
    /// The programs that the kernel took.
    pub programs: Vec<LoadedProgram>,
    /// Why nothing could be loaded, and what to do about it.
    pub refused: Option<Unsupported>,
}

impl Tracing {
    /// Loads and attaches everything for a moment; where that is refused, says what the plan is.
    fn probe(forbid: &[String]) -> Self {
        let options = LoadOptions {
            ring_bytes: 1 << 20,
            step_bytes: None,
            forbid: forbid.to_vec(),
            verbose: 0,
        };
        match Kernel::load(&options) {
            Ok(kernel) => {
                Self { hooks: kernel.hooks.clone(), programs: kernel.programs(), refused: None }
            }
            Err(refused) => {
                Self { hooks: load::planned(forbid), programs: Vec::new(), refused: Some(refused) }
            }
        }
    }
}

/// One object on one line.
pub fn render_json(facts: &Facts, tracing: &Tracing, out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        facts: &'a Facts,
        hooks: &'a [Hook],
        programs: &'a [LoadedProgram],
        refused: Option<Refused<'a>>,
    }
    #[derive(Serialize)]
    struct Refused<'a> {
        reason: &'a str,
        remedy: &'a str,
    }
    let refused =
        tracing.refused.as_ref().map(|Unsupported { reason, remedy }| Refused { reason, remedy });
    let Tracing { hooks, programs, .. } = tracing;
    serde_json::to_writer(&mut *out, &Report { facts, hooks, programs, refused })?;
    writeln!(out)
}

/// Two tables: the host, then the hooks. A remedy stands below the line that it is for.
pub fn render(facts: &Facts, tracing: &Tracing, out: &mut impl Write) -> io::Result<()> {
    let Tracing { hooks, refused, .. } = tracing;
    let rows = rows(facts);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    writeln!(out, "HOST")?;
    for row in &rows {
        writeln!(out, "{:width$}  {}", row.name, printable(&row.value))?;
        if let Some(remedy) = row.remedy {
            writeln!(out, "{:width$}  -> {remedy}", "")?;
        }
    }
    if let Some(Unsupported { reason, remedy }) = refused {
        writeln!(out)?;
        writeln!(out, "Nothing could be loaded: {}", printable(reason))?;
        writeln!(out, "  -> {}", printable(remedy))?;
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
    let lines = || std::iter::once(&heads).chain(hooks.iter());
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
            !facts.is_in_own_pid_namespace(),
            OWN_PID_NAMESPACE,
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

#[cfg(test)]
mod tests;
