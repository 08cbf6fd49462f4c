//! The plan on each kernel recorded in `tests/kernels/`, against what was attached there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use tracer_ebpf::offsets::ABSENT;

use super::btf::{Argument, Btf};
use super::offsets::{self, Global};
use super::plan::{Abilities, Mechanism, Planned, plan};
use crate::event::Hook;

const NAMES: [&str; 6] = ["5.10", "5.10.223", "6.1", "6.12", "6.12-arm64", "newest"];

/// What of a record the tests need.
#[derive(Deserialize)]
struct Support {
    facts: Facts,
    hooks: Vec<Hook>,
    lower_hooks: Vec<Hook>,
    programs: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Facts {
    kprobes: bool,
}

/// All records; reading one takes a while.
static KERNELS: LazyLock<[Recorded; 6]> = LazyLock::new(|| NAMES.map(Recorded::read));

struct Recorded {
    name: &'static str,
    btf: Btf,
    abilities: Abilities,
    globals: Vec<Global>,
    support: Support,
}

impl Recorded {
    fn read(name: &'static str) -> Self {
        let folder = kernels().join(name);
        let types = zstd::decode_all(fs::File::open(folder.join("btf.zst")).unwrap()).unwrap();
        let text = fs::read(folder.join("support.json")).unwrap();
        let btf = Btf::parse(types, &folder).unwrap();
        let support: Support = serde_json::from_slice(&text).unwrap();
        let abilities = Abilities::of(&btf, support.facts.kprobes, &[]);
        let globals = offsets::resolve(&btf).unwrap();
        Self { name, btf, abilities, globals, support }
    }

    fn abilities(&self, forbidden: &[&str]) -> Abilities {
        let forbidden = forbidden.iter().map(|&name| name.to_owned()).collect();
        Abilities { forbidden, ..self.abilities.clone() }
    }

    fn global(&self, name: &str) -> u32 {
        self.globals.iter().find(|(global, _)| *global == name).unwrap().1
    }

    /// What of the record the plan does not account for.
    fn complaints(&self, plan: &[Planned], hooks: &[Hook]) -> Vec<String> {
        let names: Vec<_> = plan
            .iter()
            .map(|planned| format!("{}/{}", planned.subsystem, planned.target))
            .collect();
        let recorded: Vec<_> = hooks.iter().map(|hook| hook.name.clone()).collect();
        if names != recorded {
            return vec![format!("{}: {recorded:?} is recorded", self.name)];
        }
        let complaint = |(planned, hook): (&Planned, &Hook)| {
            let why = self.disagreement(planned, hook)?;
            Some(format!("{}: {why}: {hook:?} of {:?}", self.name, planned.rungs))
        };
        plan.iter().zip(hooks).filter_map(complaint).collect()
    }

    fn disagreement(&self, planned: &Planned, hook: &Hook) -> Option<&'static str> {
        let at = planned.rungs.iter().position(|(rung, _)| rung.name() == hook.mechanism);
        let expected = match at {
            Some(0) => "attached",
            Some(_) => "degraded",
            None if hook.mechanism != "none" => return Some("not planned"),
            None => "missing",
        };
        if hook.state != expected {
            return Some("another state");
        }
        let tried = at.unwrap_or(planned.rungs.len());
        let refused = |&(rung, _): &(Mechanism, _)| {
            let said = format!("{}: ", rung.name());
            hook.reason.contains(&said)
        };
        if !planned.rungs[..tried].iter().all(refused) {
            return Some("a better rung is passed over without a word");
        }
        match at {
            Some(0) if !hook.reason.is_empty() => Some("a needless reason"),
            Some(at) if !self.support.programs.contains_key(planned.rungs[at].1) => {
                Some("another program")
            }
            None if !hook.reason.starts_with(planned.lost) => Some("the loss is not said"),
            _ => None,
        }
    }
}

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kernels")
}

fn rungs(plan: &[Planned], target: &str) -> Vec<(Mechanism, &'static str)> {
    plan.iter().find(|planned| planned.target == target).unwrap().rungs.clone()
}

#[test]
fn each_record_is_of_the_planned() {
    for kernel in &*KERNELS {
        let best = plan(&kernel.abilities(&[]));
        assert_eq!(kernel.complaints(&best, &kernel.support.hooks), Vec::<String>::new());
        let lower = plan(&kernel.abilities(&["tp_btf", "fentry"]));
        assert_eq!(kernel.complaints(&lower, &kernel.support.lower_hooks), Vec::<String>::new());
    }
}

fn is_before_6_2(name: &str) -> bool {
    name.starts_with("5.10") || name == "6.1"
}

#[test]
fn every_record_is_tested() {
    let mut found: Vec<_> = fs::read_dir(kernels())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}

#[test]
fn a_wrong_plan_is_found_out() {
    for kernel in &*KERNELS {
        let name = kernel.name;
        let complaints = |change: fn(&mut Abilities)| {
            let mut abilities = kernel.abilities(&[]);
            change(&mut abilities);
            kernel.complaints(&plan(&abilities), &kernel.support.hooks).len()
        };
        assert_eq!(complaints(|_| {}), 0);
        assert_eq!(complaints(|wrong| wrong.mark_carries_task ^= true), 1, "{name}");
        assert_eq!(complaints(|wrong| wrong.functions.clear()), 1, "{name}");
        assert_eq!(complaints(|wrong| drop(wrong.tracepoints.pop_first())), 1, "{name}");
        assert_eq!(complaints(|wrong| wrong.forbidden.push("raw_tracepoint".into())), {
            // There the counters are hooked by raw tracepoint alone.
            usize::from(is_before_6_2(name))
        });
        assert!(complaints(|wrong| wrong.forbidden.push("tp_btf".into())) > 10, "{name}");
    }
}

#[test]
fn every_kernel_has_every_hook() {
    for kernel in &*KERNELS {
        let name = kernel.name;
        let abilities = kernel.abilities(&[]);
        let tracepoints = abilities.tracepoints.iter().map(String::as_str).collect::<Vec<_>>();
        let expected = [
            "cgroup_attach_task",
            "cgroup_mkdir",
            "cgroup_rmdir",
            "mark_victim",
            "mm_vmscan_direct_reclaim_begin",
            "mm_vmscan_direct_reclaim_end",
            "mm_vmscan_memcg_reclaim_begin",
            "mm_vmscan_memcg_reclaim_end",
            "rss_stat",
            "sched_process_exec",
            "sched_process_exit",
            "sched_process_fork",
            "signal_generate",
        ];
        assert_eq!(tracepoints, expected, "{name}");
        assert!(abilities.functions.contains("oom_kill_process"), "{name}");
        assert_eq!(
            rungs(&plan(&abilities), "oom_kill_process"),
            [(Mechanism::Fentry, "oom_kill"), (Mechanism::Kprobe, "oom_kill_kprobe")],
            "{name}"
        );
    }
}

#[test]
fn the_mark_names_a_thread_only_before_it_was_extended() {
    for kernel in &*KERNELS {
        let name = kernel.name;
        let (program, argument) = if name == "5.10.223" {
            ("mark_victim_tid", Argument::Scalar)
        } else {
            ("mark_victim", Argument::Struct("task_struct".to_owned()))
        };
        assert_eq!(rungs(&plan(&kernel.abilities(&[])), "mark_victim")[0].1, program, "{name}");
        assert_eq!(kernel.btf.tracepoint("mark_victim").unwrap()[0], argument, "{name}");
    }
}

#[test]
fn the_counters_are_per_cpu_from_6_2() {
    for kernel in &*KERNELS {
        let name = kernel.name;
        let base = kernel.global("MM_RSS_STAT");
        let layout = [
            kernel.global("RSS_STRIDE"),
            kernel.global("RSS_COUNT"),
            kernel.global("ANON_AT") - base,
            kernel.global("SWAP_AT") - base,
        ];
        // struct percpu_counter: a raw spinlock, the count at 8, a list's head, the pointer.
        let expected = if is_before_6_2(name) { [8, 0, 8, 16] } else { [40, 8, 48, 88] };
        assert_eq!(layout, expected, "{name}");
    }
}

#[test]
fn exits_carry_group_dead_from_6_16() {
    for kernel in &*KERNELS {
        let name = kernel.name;
        let expected = u32::from(name == "newest");
        assert_eq!(kernel.global("EXIT_HAS_GROUP_DEAD"), expected, "{name}");
    }
}

#[test]
fn no_field_is_missing_on_any() {
    for kernel in &*KERNELS {
        let name = kernel.name;
        for (global, value) in &kernel.globals {
            assert_ne!(*value, ABSENT, "{name}: {global}");
        }
        // The memory controller stands behind cpuset, cpu, cpuacct and io.
        assert_eq!(kernel.global("MEMORY_SUBSYS"), 4 * 8, "{name}");
        assert_eq!(kernel.btf.size("task_struct").map(|size| size > 4096), Some(true), "{name}");
    }
}
