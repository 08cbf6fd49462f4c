//! Which program is attached where: a pure function from what the kernel has to a list of hooks,
//! each with its rungs from best to worst and what is lost when none holds. To add a hook, add a
//! program to `tracer-ebpf` and a line to [`HOOKS`].

use std::collections::BTreeSet;

use super::btf::Btf;
use super::offsets;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// BTF tracepoint: typed arguments that may be read directly.
    TpBtf,
    /// Entry of a kernel function, through BTF.
    Fentry,
    /// Raw tracepoint: the same arguments, read through a helper.
    RawTracepoint,
    /// Entry of a kernel function, through a breakpoint.
    Kprobe,
    /// Task iterator.
    Iterator,
}

impl Mechanism {
    /// As users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Fentry => "fentry",
            Self::RawTracepoint => "raw_tracepoint",
            Self::Kprobe => "kprobe",
            Self::Iterator => "iterator",
        }
    }
}

/// What of the kernel the plan rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Tracepoints of [`HOOKS`] that the kernel has.
    pub tracepoints: BTreeSet<String>,
    /// Functions of [`HOOKS`] that the kernel's BTF names.
    pub functions: BTreeSet<String>,
    /// kprobes can be made.
    pub kprobes: bool,
    /// oom:mark_victim carries the task, not only its thread id.
    pub mark_carries_task: bool,
    /// Mechanisms that the user forbids.
    pub forbidden: Vec<String>,
}

impl Abilities {
    /// Those of a kernel with these types, on a host where kprobes can be made or not.
    pub fn of(btf: &Btf, kprobes: bool, forbidden: &[String]) -> Self {
        let targets = || HOOKS.iter().map(|hook| hook.1);
        Self {
            tracepoints: targets()
                .filter(|target| btf.tracepoint(target).is_some())
                .map(str::to_owned)
                .collect(),
            functions: targets()
                .filter(|target| btf.has_function(target))
                .map(str::to_owned)
                .collect(),
            kprobes,
            mark_carries_task: offsets::mark_carries_task(btf),
            forbidden: forbidden.to_vec(),
        }
    }
}

/// One thing to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Subsystem.
    pub subsystem: &'static str,
    /// Tracepoint, function, or iterator target.
    pub target: &'static str,
    /// What to try, best first: mechanism and program.
    pub rungs: Vec<(Mechanism, &'static str)>,
    /// What is lost without it.
    pub lost: &'static str,
    /// Tracing makes no sense without it.
    pub needed: bool,
}

/// A hook as it could be at best: subsystem, target, rungs, what is lost without it, needed.
type Hook = (&'static str, &'static str, &'static [(Mechanism, &'static str)], &'static str, bool);

use Mechanism::{Fentry, Iterator, Kprobe, RawTracepoint, TpBtf};

/// Everything that can be attached.
pub const HOOKS: &[Hook] = &[
    (
        "oom",
        "mark_victim",
        &[(TpBtf, "mark_victim"), (RawTracepoint, "mark_victim_raw")],
        "OOM kills are not seen, no verdicts",
        true,
    ),
    (
        "oom",
        "oom_kill_process",
        &[(Fentry, "oom_kill"), (Kprobe, "oom_kill_kprobe")],
        "the limit that was hit is found from the counters, not from the kernel's own word",
        false,
    ),
    (
        "growth",
        "rss_stat",
        &[(TpBtf, "rss_stat"), (RawTracepoint, "rss_stat_raw")],
        "growth is seen once a second only",
        false,
    ),
    (
        "reclaim",
        "mm_vmscan_direct_reclaim_begin",
        &[(TpBtf, "direct_begin"), (RawTracepoint, "direct_begin_raw")],
        "stalls of a short host are not timed",
        false,
    ),
    (
        "reclaim",
        "mm_vmscan_direct_reclaim_end",
        &[(TpBtf, "direct_end"), (RawTracepoint, "direct_end_raw")],
        "stalls of a short host are not timed",
        false,
    ),
    (
        "reclaim",
        "mm_vmscan_memcg_reclaim_begin",
        &[(TpBtf, "memcg_begin"), (RawTracepoint, "memcg_begin_raw")],
        "stalls at a cgroup's limit are not timed",
        false,
    ),
    (
        "reclaim",
        "mm_vmscan_memcg_reclaim_end",
        &[(TpBtf, "memcg_end"), (RawTracepoint, "memcg_end_raw")],
        "stalls at a cgroup's limit are not timed",
        false,
    ),
    (
        "cgroup",
        "cgroup_mkdir",
        &[(TpBtf, "cgroup_mkdir"), (RawTracepoint, "cgroup_mkdir_raw")],
        "new cgroups are found late",
        false,
    ),
    (
        "cgroup",
        "cgroup_rmdir",
        &[(TpBtf, "cgroup_rmdir"), (RawTracepoint, "cgroup_rmdir_raw")],
        "removed cgroups are not reported",
        false,
    ),
    (
        "cgroup",
        "cgroup_attach_task",
        &[(TpBtf, "attach_task"), (RawTracepoint, "attach_task_raw")],
        "processes that move between cgroups are found late",
        false,
    ),
    (
        "lifecycle",
        "sched_process_fork",
        &[(TpBtf, "process_fork"), (RawTracepoint, "process_fork_raw")],
        "processes that live less than a second are not seen",
        false,
    ),
    (
        "lifecycle",
        "sched_process_exec",
        &[(TpBtf, "process_exec"), (RawTracepoint, "process_exec_raw")],
        "new names of processes are found late",
        false,
    ),
    (
        "lifecycle",
        "sched_process_exit",
        &[(TpBtf, "process_exit"), (RawTracepoint, "process_exit_raw")],
        "exits are not seen, ended processes stay",
        true,
    ),
    (
        "signals",
        "signal_generate",
        &[(TpBtf, "signal_generate"), (RawTracepoint, "signal_generate_raw")],
        "who sent SIGKILL or SIGTERM is not known",
        false,
    ),
    (
        "sweep",
        "task",
        &[(Iterator, "sweep")],
        "processes are read from /proc each interval, which costs more",
        false,
    ),
];

/// Whether a type of the kernel is what a program of [`HOOKS`] is attached to.
pub(super) fn is_target(name: &str) -> bool {
    HOOKS.iter().any(|hook| {
        name == hook.1
            || name.strip_prefix("btf_trace_").is_some_and(|name| name == hook.1)
            || name.strip_prefix("bpf_iter_").is_some_and(|name| name == hook.1)
    })
}

/// The plan for a kernel.
pub fn plan(abilities: &Abilities) -> Vec<Planned> {
    HOOKS
        .iter()
        .map(|&(subsystem, target, rungs, lost, needed)| Planned {
            subsystem,
            target,
            rungs: rungs
                .iter()
                .filter(|(mechanism, _)| possible(abilities, *mechanism, target))
                .map(|&(mechanism, program)| (mechanism, variant(abilities, program)))
                .collect(),
            lost,
            needed,
        })
        .collect()
}

fn possible(abilities: &Abilities, mechanism: Mechanism, target: &str) -> bool {
    if abilities.forbidden.iter().any(|name| name == mechanism.name()) {
        return false;
    }
    match mechanism {
        TpBtf | RawTracepoint => abilities.tracepoints.contains(target),
        Fentry => abilities.functions.contains(target),
        Kprobe => abilities.kprobes && abilities.functions.contains(target),
        Iterator => true,
    }
}

/// The program for the layout that the running kernel's tracepoint has.
fn variant(abilities: &Abilities, program: &'static str) -> &'static str {
    match program {
        "mark_victim" if !abilities.mark_carries_task => "mark_victim_tid",
        "mark_victim_raw" if !abilities.mark_carries_task => "mark_victim_tid_raw",
        _ => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Abilities {
        Abilities {
            tracepoints: HOOKS.iter().map(|hook| hook.1.to_owned()).collect(),
            functions: ["oom_kill_process".to_owned()].into(),
            kprobes: true,
            mark_carries_task: true,
            forbidden: Vec::new(),
        }
    }

    fn rungs(abilities: &Abilities, target: &str) -> Vec<(Mechanism, &'static str)> {
        plan(abilities).into_iter().find(|planned| planned.target == target).unwrap().rungs
    }

    #[test]
    fn a_full_kernel_gets_every_rung_best_first() {
        assert_eq!(
            rungs(&full(), "rss_stat"),
            [(TpBtf, "rss_stat"), (RawTracepoint, "rss_stat_raw")]
        );
        assert_eq!(
            rungs(&full(), "oom_kill_process"),
            [(Fentry, "oom_kill"), (Kprobe, "oom_kill_kprobe")]
        );
        assert!(plan(&full()).iter().all(|planned| !planned.rungs.is_empty()));
    }

    #[test]
    fn without_the_task_in_the_mark_the_other_program_is_used() {
        let old = Abilities { mark_carries_task: false, ..full() };
        assert_eq!(
            rungs(&old, "mark_victim"),
            [(TpBtf, "mark_victim_tid"), (RawTracepoint, "mark_victim_tid_raw")]
        );
    }

    #[test]
    fn what_is_missing_or_forbidden_is_left_out() {
        let mut less = full();
        less.kprobes = false;
        less.tracepoints.remove("mm_vmscan_memcg_reclaim_begin");
        less.forbidden = vec!["tp_btf".to_owned(), "fentry".to_owned()];
        assert_eq!(rungs(&less, "rss_stat"), [(RawTracepoint, "rss_stat_raw")]);
        assert_eq!(rungs(&less, "oom_kill_process"), []);
        assert_eq!(rungs(&less, "mm_vmscan_memcg_reclaim_begin"), []);
    }
}
