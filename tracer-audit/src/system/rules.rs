//! Swap, the kernel's settings of memory, programs that kill, and how full the memory is.

use std::path::Path;

use super::earlyoom::EarlyOom;
use super::others::{Kind, kind};
use super::{THP, pressure, sysctl};
use crate::Context;
use crate::origin::Origin;
use crate::report::{Change, Finding, Severity, Subject};
use crate::size::human;
use crate::units::Service;

/// Swap that is used beyond this, per cent, is nearly full.
const SWAP_FULL: u64 = 80;
/// Memory that is used beyond this, per cent, is nearly full.
const MEMORY_FULL: u64 = 85;
/// The file that proposals for the kernel's settings are added to; it sorts behind 99-sysctl.conf.
const SYSCTL_FILE: &str = "/etc/sysctl.d/99-zz-rampage.conf";
/// Names of processes that a killer should spare, and the one that it should take.
const DATABASES: [&str; 3] = ["mariadbd", "mysqld", "redis-server"];
const WORKER: &str = "php-fpm8.3";

/// Judges the host.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(swap(context));
    found.extend(memory_full(context));
    found.extend(swappiness(context));
    found.extend(panic_on_oom(context));
    found.extend(kill_allocating(context));
    found.extend(strict_overcommit(context));
    found.extend(not_in_force(context));
    found.extend(huge_pages(context));
    found.extend(
        context.facts.system.killers.earlyoom.as_ref().map(|killer| earlyoom(context, killer)),
    );
    found.extend(oomd(context));
    if context.facts.system.killers.nohang {
        found.push(system(
            "system_nohang",
            Severity::Info,
            "nohang",
            "nohang runs: it ends processes before the kernel does",
            "Whom it ends is up to its own configuration, which is not read here.",
        ));
    }
    found
}

fn system(
    kind: &'static str,
    severity: Severity,
    name: &str,
    summary: impl Into<String>,
    why: &str,
) -> Finding {
    Finding::new(kind, severity, Subject::System, name, summary, why)
}

fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole.max(1))) as u64
}

fn meminfo() -> Origin {
    Origin::whole(Path::new("/proc/meminfo"))
}

fn swap(context: &Context<'_>) -> Option<Finding> {
    let machine = &context.facts.machine;
    if machine.total_bytes == 0 {
        return None;
    }
    let total = machine.swap_total_bytes;
    if total == 0 {
        let mut finding = system(
            "system_no_swap",
            pressure::in_proportion(context),
            "swap",
            "there is no swap",
            "The kernel kills at once when memory is gone: nothing slows the way there, and nothing is seen.",
        );
        finding.at = Some(meminfo());
        return Some(finding);
    }
    let used = total.saturating_sub(machine.swap_free_bytes);
    let share = percent(used, total);
    if share <= SWAP_FULL {
        return None;
    }
    let mut finding = system(
        "system_swap_nearly_full",
        Severity::Warning,
        "swap",
        format!("swap is {share} % full: {} of {}", human(used), human(total)),
        "What still grows has nowhere to go: the next burst ends in kills, and until then every page waits.",
    );
    finding.at = Some(Origin { line: machine.swap_free_line, ..meminfo() });
    finding.figures.insert("swap_used_bytes", used);
    finding.figures.insert("swap_total_bytes", total);
    Some(finding)
}

fn memory_full(context: &Context<'_>) -> Option<Finding> {
    let machine = &context.facts.machine;
    let total = machine.total_bytes;
    if total == 0 || machine.available_bytes == 0 {
        return None;
    }
    let used = total.saturating_sub(machine.available_bytes);
    let share = percent(used, total);
    if share <= MEMORY_FULL {
        return None;
    }
    let mut largest: Vec<_> = context.facts.processes.iter().collect();
    largest.sort_by_key(|process| std::cmp::Reverse(process.held_bytes()));
    let named: Vec<String> = largest
        .iter()
        .take(3)
        .map(|process| {
            format!("{} (pid {}) {}", process.comm, process.tgid, human(process.held_bytes()))
        })
        .collect();
    let most = match named.is_empty() {
        true => String::new(),
        false => format!("; most hold {}", named.join(", ")),
    };
    let mut finding = system(
        "system_memory_nearly_full",
        Severity::Warning,
        "memory",
        format!(
            "{share} % of the memory is used: {} are left of {}{most}",
            human(machine.available_bytes),
            human(total)
        ),
        "What is left is less than one burst takes.",
    );
    finding.at = Some(meminfo());
    finding.figures.insert("memory_available_bytes", machine.available_bytes);
    finding.figures.insert("memory_total_bytes", total);
    Some(finding)
}

/// The value that counts of `key`, and the place that decides it.
fn setting(context: &Context<'_>, key: &str) -> Option<(i64, Origin)> {
    let sysctl = context.facts.system.sysctls.get(key)?;
    let value = sysctl.value()?;
    Some((value, sysctl.place().unwrap_or_else(|| Origin::whole(sysctl::file(key)))))
}

/// Changes the line that sets it, or adds one.
fn set(context: &Context<'_>, key: &str, at: &Origin, to: i64) -> Change {
    let to = format!("{key} = {to}");
    let sysctl = context.facts.system.sysctls.get(key);
    match sysctl.and_then(|sysctl| sysctl.line.as_ref()).filter(|_| at.line.is_some()) {
        Some(from) => Change::replace(at.clone(), from, to),
        None => Change::add(Path::new(SYSCTL_FILE), None, to),
    }
}

fn swappiness(context: &Context<'_>) -> Option<Finding> {
    let (value, at) = setting(context, "vm.swappiness")?;
    if context.facts.machine.swap_total_bytes == 0 || (1..=100).contains(&value) {
        return None;
    }
    let (summary, why) = if value < 1 {
        (
            "vm.swappiness is 0: swap is used only when nearly nothing else is left".to_owned(),
            "What nobody touches stays in memory, and the kernel kills earlier than it would have to.",
        )
    } else {
        (
            format!(
                "vm.swappiness is {value}: the kernel would rather swap than drop cached files"
            ),
            "That is meant for swap in compressed memory; on a disk every request waits for it.",
        )
    };
    let mut finding = system("system_swappiness", Severity::Info, "vm.swappiness", summary, why);
    finding.change = Some(set(context, "vm.swappiness", &at, 10));
    finding.at = Some(at);
    finding.figures.insert("swappiness", u64::try_from(value).unwrap_or(0));
    Some(finding)
}

fn panic_on_oom(context: &Context<'_>) -> Option<Finding> {
    let (value, at) = setting(context, "vm.panic_on_oom").filter(|(value, _)| *value != 0)?;
    let reboots = setting(context, "kernel.panic").is_some_and(|(seconds, _)| seconds != 0);
    let then = if reboots {
        "the host restarts"
    } else {
        "the host stands still until somebody restarts it"
    };
    let mut finding = system(
        "system_panic_on_oom",
        Severity::Warning,
        "vm.panic_on_oom",
        format!("vm.panic_on_oom is {value}: out of memory, {then}"),
        "One request too large then costs the whole host instead of one worker.",
    );
    finding.change = Some(set(context, "vm.panic_on_oom", &at, 0));
    finding.at = Some(at);
    Some(finding)
}

fn kill_allocating(context: &Context<'_>) -> Option<Finding> {
    let (value, at) =
        setting(context, "vm.oom_kill_allocating_task").filter(|(value, _)| *value != 0)?;
    let mut finding = system(
        "system_kills_whoever_asks",
        Severity::Warning,
        "vm.oom_kill_allocating_task",
        format!(
            "vm.oom_kill_allocating_task is {value}: the kernel kills whoever asks for memory, not the largest"
        ),
        "That may be the database, any number of times, while the worker that took the memory lives on.",
    );
    finding.change = Some(set(context, "vm.oom_kill_allocating_task", &at, 0));
    finding.at = Some(at);
    Some(finding)
}

fn strict_overcommit(context: &Context<'_>) -> Option<Finding> {
    let (_, at) = setting(context, "vm.overcommit_memory").filter(|(value, _)| *value == 2)?;
    let system_facts = &context.facts.system;
    let (limit, promised) = (system_facts.commit_limit_bytes, system_facts.committed_bytes);
    let near = limit > 0 && percent(promised, limit) >= 90;
    let how = match limit {
        0 => "vm.overcommit_memory is 2: the kernel promises only what it has".to_owned(),
        _ => format!(
            "vm.overcommit_memory is 2: {} of at most {} are promised",
            human(promised),
            human(limit)
        ),
    };
    let mut finding = system(
        "system_strict_overcommit",
        if near { Severity::Warning } else { Severity::Info },
        "vm.overcommit_memory",
        how,
        "At the limit no memory is given and no process is made: workers and databases fail, nobody is killed.",
    );
    finding.change = near.then(|| set(context, "vm.overcommit_memory", &at, 0));
    finding.at = Some(at);
    finding.figures.insert("commit_limit_bytes", limit);
    finding.figures.insert("committed_bytes", promised);
    Some(finding)
}

/// What the next boot would change.
fn not_in_force(context: &Context<'_>) -> Vec<Finding> {
    let sysctls = context.facts.system.sysctls.iter();
    sysctls
        .filter_map(|(key, sysctl)| {
            let configured = sysctl.configured.as_ref()?;
            let (wanted, in_force) = (configured.value.parse::<i64>().ok()?, sysctl.in_force?);
            if wanted == in_force {
                return None;
            }
            let mut finding = system(
                "system_sysctl_not_in_force",
                Severity::Info,
                key,
                format!("{key} is {in_force}, but the next boot sets {wanted}"),
                "Today's behaviour ends with the next boot; `sysctl --system` brings the change now.",
            );
            finding.at = configured.at.clone();
            Some(finding)
        })
        .collect()
}

fn huge_pages(context: &Context<'_>) -> Option<Finding> {
    let used = context.facts.units.used();
    let mut redis = used.filter(|unit| unit.service == Service::Redis);
    let mode = context.facts.system.thp.as_deref().filter(|mode| *mode == "always")?;
    let unit = redis.next()?;
    let mut finding = system(
        "system_huge_pages",
        Severity::Info,
        "transparent_hugepage",
        format!(
            "transparent huge pages are `{mode}`: a snapshot of {} copies 2 MiB for each page written",
            unit.name
        ),
        "While Redis saves, its memory grows by more than it would have to; `madvise` avoids that.",
    );
    finding.at = Some(Origin::whole(Path::new(THP)));
    Some(finding)
}

fn earlyoom(context: &Context<'_>, killer: &EarlyOom) -> Finding {
    let worker = context.facts.processes.iter().find(|process| kind(process) == Kind::Php);
    let worker = worker.map_or(WORKER, |process| process.comm.as_str());
    let preferred: Vec<&str> = DATABASES.into_iter().filter(|name| killer.prefers(name)).collect();
    let spares_php = killer.avoids(worker) && !DATABASES.iter().any(|name| killer.avoids(name));
    let machine = &context.facts.machine;
    let memory = killer.memory_percent(machine.total_bytes);
    let swap = killer.swap_percent(machine.swap_total_bytes);
    // Without swap only memory counts.
    let when = match machine.swap_total_bytes {
        0 => format!("below {memory:.3} % of memory"),
        _ => format!("below {memory:.3} % of memory and {swap:.3} % of swap"),
    };
    let when = when.replace(".000 %", " %");
    let (severity, summary) = if killer.refused {
        (Severity::Warning, "earlyoom does not start: it refuses its options".to_owned())
    } else if killer.dry_run {
        (Severity::Info, format!("earlyoom only tells what it would end {when} (--dryrun)"))
    } else if !preferred.is_empty() {
        let names = preferred.join(", ");
        (Severity::Warning, format!("{when} earlyoom ends {names} first: its --prefer says so"))
    } else if spares_php {
        (
            Severity::Warning,
            format!("{when} earlyoom spares PHP and may end the database: see its --avoid"),
        )
    } else {
        (
            Severity::Info,
            format!("earlyoom runs: {when} it ends the process with the highest oom_score"),
        )
    };
    let mut finding = system(
        "system_earlyoom",
        severity,
        "earlyoom",
        summary,
        "It acts before the kernel and before most limits: no OOM kill is logged, the process just ends.",
    );
    if severity == Severity::Warning
        && let (Some(at), Some(from)) = (&killer.at, &killer.line)
    {
        // What it did not take would be refused again.
        let kept = if killer.refused { "-r 3600".to_owned() } else { killer.others.join(" ") };
        let to = format!(
            "EARLYOOM_ARGS=\"{kept}{}--prefer '^php-fpm' --avoid '^({})$'\"",
            if kept.is_empty() { "" } else { " " },
            DATABASES.join("|")
        );
        finding.change = Some(Change::replace(at.clone(), from.clone(), to));
    }
    finding.at = killer.at.clone();
    finding
}

fn oomd(context: &Context<'_>) -> Vec<Finding> {
    let Some(oomd) = &context.facts.system.killers.oomd else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, key, at) in &oomd.watched {
        let own = context.facts.units.used().find(|unit| unit.name == *name);
        // The distribution's own choice is told, somebody's choice on a database is a warning.
        let database =
            own.is_some_and(|unit| matches!(unit.service, Service::Mysql | Service::Redis));
        let swap = *key == "ManagedOOMSwap";
        let when = match (swap, &oomd.swap_used_limit) {
            (true, Some(limit)) => format!("once {} of swap are used", limit.value),
            (true, None) => "once 90 % of swap are used".to_owned(),
            (false, _) => "when work in it waits long for memory".to_owned(),
        };
        let whom =
            if name.ends_with(".slice") { "one whole service below it" } else { "all of it" };
        let mut finding = system(
            "system_oomd",
            if database { Severity::Warning } else { Severity::Info },
            name,
            format!("systemd-oomd watches {name} and kills {whom} {when}"),
            "It kills cgroups, not processes: all workers of a pool, or the database, at once.",
        );
        finding.change =
            own.filter(|_| database).map(|unit| unit.change(key, at.as_ref(), "Service", "auto"));
        finding.at = at.clone();
        found.push(finding);
    }
    found
}
