//! What a redis may take of the memory, and whether it fits.

use std::path::Path;

use super::in_force;
use super::instance::Instance;
use crate::Context;
use crate::budget::{Budget, Demand};
use crate::origin::Origin;
use crate::processes::Process;
use crate::report::{Change, Finding, Severity, Subject};
use crate::size::human;

const MIB: u64 = 1 << 20;

/// What a redis has without data: 10 MiB resident of Debian's 7.0, measured; twice that with its clients.
const BASE_BYTES: u64 = 20 * MIB;

/// A file's time is cut down to seconds, and a server reads for a moment after its start.
const SLACK_S: u64 = 2;

/// What `instance` takes.
pub fn demand(instance: &Instance) -> Demand {
    let observed = instance.process.as_ref().map(Process::held_bytes);
    let limit = instance.limit_bytes();
    let reserved = limit.saturating_add(BASE_BYTES).max(observed.unwrap_or(0));
    let forks = instance.forks();
    let (worst_bytes, how) = match (limit, forks) {
        (0, _) if instance.answer.is_none() && !instance.is_known() => {
            (None, "its configuration is not known".to_owned())
        }
        (0, _) if instance.config.refused.is_some() => {
            (None, "its configuration is refused".to_owned())
        }
        (0, _) => (None, "no maxmemory: nothing bounds it".to_owned()),
        (limit, true) => (
            Some(limit.saturating_mul(2).saturating_add(BASE_BYTES)),
            format!("{} of data, and as much again while a snapshot is written", human(limit)),
        ),
        (limit, false) => {
            (Some(limit.saturating_add(BASE_BYTES)), format!("{} of data", human(limit)))
        }
    };
    Demand {
        subject: Subject::Redis,
        name: instance.name.clone(),
        reserved_bytes: reserved,
        worst_bytes,
        observed_bytes: observed,
        how,
        at: instance.at(),
    }
}

/// What a redis in a container takes, of which no file is read.
pub fn contained(process: &Process) -> Demand {
    Demand {
        subject: Subject::Redis,
        name: format!("redis in a container (process {})", process.tgid),
        reserved_bytes: process.held_bytes(),
        worst_bytes: None,
        observed_bytes: Some(process.held_bytes()),
        how: "its configuration is in the container, and not read".to_owned(),
        at: None,
    }
}

/// The `maxmemory` that fits into what the budget leaves to redis, bytes, whole MiB: a copy of the process
/// takes as much again at worst, where it is made.
pub fn fitting_maxmemory(instance: &Instance, budget: &Budget) -> u64 {
    let room = budget.room_for_bytes(Subject::Redis).saturating_sub(BASE_BYTES);
    let share = if instance.forks() { room / 2 } else { room };
    (share - share % MIB).max(MIB)
}

/// All findings about `instance`.
pub fn judge(instance: &Instance, overcommit: Option<u64>, context: &Context<'_>) -> Vec<Finding> {
    if let Some(finding) = refused(instance) {
        return vec![finding];
    }
    // What is not known may well have a limit, and never save.
    if instance.answer.is_none() && !instance.is_known() {
        return changed(instance).into_iter().collect();
    }
    let mut findings = in_force::judge(instance);
    if findings.is_empty() {
        findings.extend(changed(instance));
    }
    if instance.limit_bytes() > 0 {
        findings.extend(too_large(instance, context).or_else(|| copy(instance, context)));
        findings.extend(policy(instance));
    } else if instance.config.maxmemory().value == 0 {
        findings.extend(unbounded(instance, context));
    }
    if instance.is_known() {
        findings.extend(fork(instance, overcommit, context));
        findings.extend(buffers(instance));
    }
    findings
}

pub(super) fn finding(
    instance: &Instance,
    (kind, severity): (&'static str, Severity),
    summary: String,
    why: impl Into<String>,
) -> Finding {
    let mut finding = Finding::new(kind, severity, Subject::Redis, &instance.name, summary, why);
    finding.at = instance.at();
    finding
}

fn refused(instance: &Instance) -> Option<Finding> {
    let (at, why) = instance.config.refused.clone()?;
    let summary = format!("{} will not start again: {why}", instance.name);
    let mut finding = finding(
        instance,
        ("redis_does_not_start", Severity::Warning),
        summary,
        "After the next kill or reboot it stays down, and what needs it fails.",
    );
    finding.at = at;
    Some(finding)
}

/// As Debian has it: worth knowing, and a danger once it holds much.
fn unbounded(instance: &Instance, context: &Context<'_>) -> Option<Finding> {
    let held = instance.process.as_ref().map_or(0, Process::held_bytes);
    let budget = context.budget;
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    let large = memory > 0 && held > memory / 2;
    let held_now = if held > 0 { format!("; it holds {} now", human(held)) } else { String::new() };
    let mut finding = finding(
        instance,
        ("redis_unbounded", if large { Severity::Warning } else { Severity::Info }),
        format!("{} has no maxmemory: nothing bounds it{held_now}", instance.name),
        "It grows with its data until the kernel kills something; with a limit it drops old keys or refuses new \
         ones.",
    );
    if memory > 0 {
        // Room for as much again as there is, and no more than a share of a host that has other work.
        let limit = held.saturating_mul(2).max(memory / 16).div_ceil(64 * MIB);
        let fitting = fitting_maxmemory(instance, budget);
        // Less than it holds would at once refuse, or drop, what is there.
        let limit = limit.saturating_mul(64 * MIB).min(fitting).max(held);
        finding.change = change(instance, limit);
    }
    finding.figures = [("held_bytes", held)].into();
    Some(finding)
}

fn too_large(instance: &Instance, context: &Context<'_>) -> Option<Finding> {
    let budget = context.budget;
    let limit = instance.limit_bytes();
    let needs = limit.saturating_add(BASE_BYTES);
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    let room = budget.room_for_bytes(Subject::Redis);
    // A small one is not what takes the memory, however much the others reserve.
    if budget.total_bytes == 0 || needs <= room || needs <= memory / 4 {
        return None;
    }
    let severity = if needs > memory { Severity::Critical } else { Severity::Warning };
    let mut finding = finding(
        instance,
        ("redis_maxmemory_too_large", severity),
        format!(
            "{} may hold {} of data, but {} are left to it",
            instance.name,
            human(limit),
            human(room)
        ),
        "It fills its maxmemory before it drops a key; then the kernel swaps, and kills the largest process.",
    );
    finding.excess_bytes = needs - room;
    let fitting = fitting_maxmemory(instance, budget);
    let held = instance.process.as_ref().map_or(0, Process::held_bytes);
    if held > fitting {
        let held = human(held);
        finding
            .why
            .push_str(&format!(" It holds {held} now: what is beyond a limit has to go first."));
    }
    finding.change = change(instance, fitting);
    finding.figures =
        [("maxmemory_bytes", limit), ("room_bytes", room), ("fitting_maxmemory_bytes", fitting)]
            .into();
    Some(finding)
}

/// Every page that is written during a snapshot exists twice.
fn copy(instance: &Instance, context: &Context<'_>) -> Option<Finding> {
    let budget = context.budget;
    let limit = instance.limit_bytes();
    let worst = limit.saturating_mul(2).saturating_add(BASE_BYTES);
    let memory = budget.total_bytes.saturating_sub(budget.system_bytes);
    if budget.total_bytes == 0 || !instance.is_known() || !instance.forks() || worst <= memory {
        return None;
    }
    let mut finding = finding(
        instance,
        ("redis_snapshot_too_large", Severity::Warning),
        format!(
            "{} may take {} while it writes a snapshot of {}, but there are {}",
            instance.name,
            human(worst),
            human(limit),
            human(memory)
        ),
        "A snapshot is written by a copy of the process: each page that changes meanwhile exists twice.",
    );
    finding.excess_bytes = worst - memory;
    finding.others = snapshots(instance);
    finding.change = change(instance, fitting_maxmemory(instance, budget));
    finding.figures =
        [("maxmemory_bytes", limit), ("worst_bytes", worst), ("memory_bytes", memory)].into();
    Some(finding)
}

fn policy(instance: &Instance) -> Option<Finding> {
    let set = instance.config.values.get("maxmemory-policy");
    let configured = set.map_or("noeviction", |set| set.value.as_str());
    let policy = instance.answer.as_ref().map_or(configured, |answer| answer.policy.as_str());
    let (what, why) = if policy == "noeviction" {
        (
            "refuses to write when its maxmemory is full",
            "That keeps all data, as for queues and sessions it must; of a cache it makes an outage: there \
             maxmemory-policy allkeys-lru drops what is oldest.",
        )
    } else if policy.starts_with("volatile-") {
        (
            "drops only keys that expire when its maxmemory is full",
            "Once keys without an expiry fill it, it refuses to write, as without a policy.",
        )
    } else {
        return None;
    };
    let mut finding = finding(
        instance,
        ("redis_eviction", Severity::Info),
        format!("{} {what} (maxmemory-policy {policy})", instance.name),
        why,
    );
    finding.at = set.and_then(|set| set.at.clone()).or(finding.at);
    Some(finding)
}

/// Mode 1 lets every copy be made, mode 0 refuses only the absurd, mode 2 counts a copy in full.
fn fork(instance: &Instance, overcommit: Option<u64>, context: &Context<'_>) -> Option<Finding> {
    let mode = overcommit.filter(|mode| *mode != 1)?;
    let held = instance.process.as_ref().map_or(0, Process::held_bytes);
    let data = held.max(instance.limit_bytes());
    let total = context.budget.total_bytes;
    // A small one is copied whatever the mode.
    if !instance.forks() || total == 0 || data < total / 4 {
        return None;
    }
    let strict = mode == 2 && data > total / 2;
    let mut finding = finding(
        instance,
        ("redis_fork_may_fail", if strict { Severity::Warning } else { Severity::Info }),
        format!(
            "{} may fail to write snapshots of {}: vm.overcommit_memory is {mode}",
            instance.name,
            human(data)
        ),
        "A snapshot needs a copy of the process, which the kernel may refuse; then redis refuses to write \
         (stop-writes-on-bgsave-error).",
    );
    finding.others = snapshots(instance);
    finding.change =
        Some(Change::add(Path::new("/etc/sysctl.d/redis.conf"), None, "vm.overcommit_memory = 1"));
    finding.figures = [("data_bytes", data)].into();
    Some(finding)
}

/// Output that clients do not fetch is in no maxmemory when it is a replica's.
fn buffers(instance: &Instance) -> Vec<Finding> {
    let given = instance.config.buffers.iter();
    given
        .filter(|(class, set)| {
            **class != "normal" && set.value.hard_bytes == 0 && set.value.soft_bytes == 0
        })
        .map(|(class, set)| {
            let mut finding = finding(
                instance,
                ("redis_output_unbounded", Severity::Info),
                format!(
                    "{} keeps what {class} clients do not fetch without a limit",
                    instance.name
                ),
                "A client that is slow or hangs makes it grow; the default cuts such clients off.",
            );
            finding.at = set.at.clone();
            finding.change = set.at.clone().and_then(|at| {
                let limit = if *class == "replica" { "256mb 64mb 60" } else { "32mb 8mb 60" };
                // A line may set several classes.
                let from = instance.config.lines.get(*class)?;
                let alone = from.split_whitespace().count() == 5;
                let line = format!("client-output-buffer-limit {class} {limit}");
                alone.then(|| Change::replace(at, from, line))
            });
            finding
        })
        .collect()
}

/// Files that were written after the start.
pub(super) fn changed_files(instance: &Instance) -> Vec<Origin> {
    let started = instance.process.as_ref().map_or(0, |process| process.started_unix_s);
    let later = |(_, written): &&(_, u64)| *written > started.saturating_add(SLACK_S);
    let files = instance.config.files.iter().filter(|_| started > 0).filter(later);
    files.map(|(file, _)| Origin::whole(file.clone())).collect()
}

fn changed(instance: &Instance) -> Option<Finding> {
    let files = changed_files(instance);
    let first = files.first()?;
    let mut finding = finding(
        instance,
        ("redis_changed_since_start", Severity::Info),
        format!("{first} changed after {} had started", instance.name),
        "What it says now counts only after a restart, if it was not set in the running redis as well.",
    );
    finding.at = Some(first.clone());
    finding.others = files[1..].to_vec();
    Some(finding)
}

fn snapshots(instance: &Instance) -> Vec<Origin> {
    let save = instance.config.save.as_ref().and_then(|set| set.at.clone());
    let append = instance.config.values.get("appendonly").and_then(|set| set.at.clone());
    save.into_iter().chain(append).collect()
}

/// The line with which `instance` has `bytes`, as whole MiB, as its maxmemory. None where its file is not known, or
/// its arguments count more.
pub(super) fn change(instance: &Instance, bytes: u64) -> Option<Change> {
    let line = format!("maxmemory {}mb", bytes.div_ceil(MIB));
    let config = &instance.config;
    if let Some(set) = config.values.get("maxmemory") {
        return Some(Change::replace(set.at.clone()?, config.lines.get("maxmemory")?, line));
    }
    let file = instance.file.clone().filter(|_| instance.is_known())?;
    Some(Change::add(file, None, line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{one, tree};
    use crate::{Observed, Report, audit};

    /// On a host of a GiB, with a redis of this file that holds `kib`.
    fn report(text: &str, kib: u64) -> Report {
        let status = format!("VmRSS: {kib} kB\nRssAnon: {kib} kB\nVmSwap: {kib} kB\n");
        let (_folder, root) = tree(&[
            ("etc/redis/redis.conf", text),
            ("proc/meminfo", "MemTotal: 1048576 kB\n"),
            ("proc/stat", "btime 18446744073709551615\n"),
            ("proc/7/stat", "7 (redis-server) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n"),
            ("proc/7/cmdline", "redis-server *:6379\0"),
            ("proc/7/status", &status),
        ]);
        audit(&root, &Observed::default())
    }

    #[test]
    fn no_limit_is_proposed_that_is_full_at_once() {
        let report = report("", 400_000);
        let found = one(&report.findings, "redis_unbounded");
        assert_eq!(found.change.as_ref().unwrap().to, "maxmemory 782mb");
        let report = self::report("maxmemory 4gb\n", 400_000);
        let found = one(&report.findings, "redis_maxmemory_too_large");
        assert!(found.why.contains("It holds 781 MiB now"), "{}", found.why);
    }

    #[test]
    fn of_a_file_that_only_redis_can_read_nothing_is_said() {
        let report = report(&"#\n".repeat(3 << 20), 100);
        let own = report.findings.iter().find(|found| found.subject == Subject::Redis);
        assert_eq!(own, None);
        let notes: String = report.notes.iter().map(|note| format!("{}\n", note.text)).collect();
        assert!(notes.contains("/etc/redis/redis.conf is larger than 4 MiB"), "{notes}");
        let demand = report.budget.demands.iter().find(|one| one.subject == Subject::Redis);
        assert_eq!(demand.unwrap().how, "its configuration is not known");
    }

    #[test]
    fn numbers_of_a_hostile_proc_are_no_overflow() {
        for text in ["", "maxmemory 18446744073709551615\n", "maxmemory 1mb\n"] {
            let report = report(text, u64::MAX);
            assert!(report.findings.iter().any(|found| found.subject == Subject::Redis));
        }
    }
}
