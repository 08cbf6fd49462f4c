//! The rules on small systems.

use super::*;
use crate::budget::Budget;
use crate::report::{Severity, Subject};
use crate::test::{files, one, to, tree as unpacked};
use crate::{Machine, Observed};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A host of 16 GiB with swap that is half used.
const MACHINE: Machine = Machine {
    total_bytes: 16 * GIB,
    available_bytes: 8 * GIB,
    swap_total_bytes: 4 * GIB,
    swap_free_bytes: 2 * GIB,
    swap_free_line: None,
};

fn process(tgid: u32, comm: &str, held_bytes: u64, oom_score: u64) -> Process {
    let args = vec![comm.to_owned()];
    Process {
        tgid,
        comm: comm.to_owned(),
        args,
        anon_bytes: held_bytes,
        oom_score,
        ..Process::default()
    }
}

fn demand(subject: Subject, name: &str, worst_bytes: u64) -> Demand {
    Demand {
        subject,
        name: name.to_owned(),
        reserved_bytes: 0,
        worst_bytes: Some(worst_bytes),
        observed_bytes: None,
        how: String::new(),
        at: None,
    }
}

/// What is said of a host with the files of `tree` (`-- PATH`, then lines).
fn judged(
    text: &str,
    machine: Machine,
    processes: Vec<Process>,
    demands: Vec<Demand>,
    observed: &Observed,
) -> (Vec<Finding>, Vec<Demand>) {
    let (_folder, root) = unpacked(&files(text));
    let mut notes = Notes::default();
    let php = crate::php::read(&root, &processes, &mut notes);
    let facts = crate::Facts {
        machine,
        units: crate::units::read(&root, &processes, &mut notes),
        system: read(&root, &processes, &mut notes),
        processes,
        php,
        mysql: Default::default(),
        redis: Default::default(),
        web: Default::default(),
    };
    assert_eq!(notes.finish(), []);
    let budget = Budget::new(machine.total_bytes, demands);
    let context = Context { facts: &facts, budget: &budget, observed };
    (judge(&context), super::demands(&context))
}

fn of_files(tree: &str) -> Vec<Finding> {
    judged(tree, MACHINE, Vec::new(), Vec::new(), &Observed::default()).0
}

#[test]
fn a_calm_host_says_nothing() {
    assert_eq!(of_files(""), []);
    let nothing = judged("", Machine::default(), Vec::new(), Vec::new(), &Observed::default());
    assert_eq!(nothing.0, []);
}

#[test]
fn swap_is_judged_in_proportion() {
    let none = Machine { swap_total_bytes: 0, swap_free_bytes: 0, ..MACHINE };
    let calm = judged("", none, Vec::new(), Vec::new(), &Observed::default()).0;
    assert_eq!(one(&calm, "system_no_swap").severity, Severity::Info);
    let pools = vec![demand(Subject::Php, "www", 160 * GIB)];
    let tight = judged("", none, Vec::new(), pools, &Observed::default()).0;
    assert_eq!(one(&tight, "system_no_swap").severity, Severity::Warning);
    let full = Machine { swap_free_bytes: 700 * MIB, ..MACHINE };
    let full = judged("", full, Vec::new(), Vec::new(), &Observed::default()).0;
    assert_eq!(
        one(&full, "system_swap_nearly_full").summary,
        "swap is 82 % full: 3.3 GiB of 4 GiB"
    );
}

#[test]
fn what_the_kernel_does_out_of_memory_is_told_with_its_line() {
    let tree = "-- etc/sysctl.d/50-a.conf\nvm.panic_on_oom = 1\nvm.oom_kill_allocating_task=1\n\
                vm.overcommit_memory=0\n\
                -- proc/sys/vm/panic_on_oom\n1\n-- proc/sys/vm/oom_kill_allocating_task\n1\n\
                -- proc/sys/vm/overcommit_memory\n2\n-- proc/sys/kernel/panic\n0\n\
                -- proc/sys/vm/swappiness\n0\n\
                -- proc/meminfo\nMemTotal: 16777216 kB\nCommitLimit: 1000 kB\nCommitted_AS: 950 kB\n";
    let found = of_files(tree);
    let panic = one(&found, "system_panic_on_oom");
    assert!(panic.summary.ends_with("stands still until somebody restarts it"), "{panic:?}");
    assert_eq!(to(panic), "/etc/sysctl.d/50-a.conf:1 vm.panic_on_oom = 0");
    assert_eq!(one(&found, "system_kills_whoever_asks").at.as_ref().unwrap().line, Some(2));
    let strict = one(&found, "system_strict_overcommit");
    assert_eq!(strict.severity, Severity::Warning);
    assert_eq!(to(strict), "/etc/sysctl.d/99-zz-rampage.conf vm.overcommit_memory = 0");
    let later = one(&found, "system_sysctl_not_in_force");
    assert_eq!(later.summary, "vm.overcommit_memory is 2, but the next boot sets 0");
    assert_eq!(one(&found, "system_swappiness").severity, Severity::Info);
}

#[test]
fn a_full_memory_names_the_largest() {
    let machine = Machine { available_bytes: GIB, ..MACHINE };
    let processes = vec![process(2, "b", GIB, 0), process(3, "php-fpm8.3", 9 * GIB, 0)];
    let (found, demands) = judged("", machine, processes, Vec::new(), &Observed::default());
    assert_eq!(
        one(&found, "system_memory_nearly_full").summary,
        "93 % of the memory is used: 1 GiB are left of 16 GiB; most hold php-fpm8.3 (pid 3) 9 GiB, b (pid 2) 1 GiB"
    );
    // PHP is counted by its pools.
    assert_eq!(demands.len(), 1);
    assert_eq!((demands[0].name.as_str(), demands[0].reserved_bytes), ("b", GIB));
}

#[test]
fn processes_of_one_name_count_together() {
    let many = (1..=3).map(|tgid| process(tgid, "claude", 400 * MIB, 0)).collect();
    let (_, demands) = judged("", MACHINE, many, Vec::new(), &Observed::default());
    assert_eq!(demands.len(), 1);
    assert_eq!(demands[0].how, "3 processes hold 1.2 GiB now, and nothing bounds them");
}

#[test]
fn a_database_that_pays_for_php_is_a_warning() {
    let mut processes = vec![process(2, "mariadbd", 2 * GIB, 750)];
    processes.extend((3..23).map(|tgid| process(tgid, "php-fpm8.3", 300 * MIB, 690)));
    let (found, _) = judged("", MACHINE, processes.clone(), Vec::new(), &Observed::default());
    let victim = one(&found, "system_next_victim");
    assert_eq!(victim.severity, Severity::Warning);
    assert_eq!(
        victim.summary,
        "out of memory, the kernel would kill mariadbd (pid 2, 2 GiB), although PHP holds 5.9 GiB"
    );
    let worker = processes.iter_mut().find(|process| process.tgid == 5).unwrap();
    worker.oom_score = 760;
    let (found, _) = judged("", MACHINE, processes, Vec::new(), &Observed::default());
    assert_eq!(one(&found, "system_next_victim").severity, Severity::Info);
}

#[test]
fn nobody_stands_out_among_equals() {
    let processes = vec![process(2, "a", MIB, 666), process(3, "b", MIB, 666)];
    assert_eq!(judged("", MACHINE, processes, Vec::new(), &Observed::default()).0, []);
}

#[test]
fn a_killer_that_prefers_the_database_is_a_warning() {
    let wanted = "-- etc/systemd/system/multi-user.target.wants/earlyoom.service\n\n";
    let stock = of_files(&format!("{wanted}-- etc/default/earlyoom\nEARLYOOM_ARGS=\"-r 3600\"\n"));
    let stock = one(&stock, "system_earlyoom");
    assert_eq!(stock.severity, Severity::Info);
    assert_eq!(stock.at.as_ref().unwrap().line, Some(1));
    for (arguments, expected) in [
        ("--prefer '(mysqld|mariadbd)'", Severity::Warning),
        ("--avoid '^php-fpm'", Severity::Warning),
        ("--avoid '^(php-fpm.*|mariadbd)$'", Severity::Info),
        ("--dryrun --prefer mariadbd", Severity::Info),
        ("--prefer '^php-fpm'", Severity::Info),
    ] {
        let tree =
            format!("{wanted}-- etc/default/earlyoom\n# x\nEARLYOOM_ARGS=\"-m 5 {arguments}\"\n");
        let found = of_files(&tree);
        let finding = one(&found, "system_earlyoom");
        assert_eq!(finding.severity, expected, "{arguments}");
        assert!(finding.summary.contains("below 5 % of memory"), "{}", finding.summary);
        assert_eq!(finding.at.as_ref().unwrap().line, Some(2));
        if expected == Severity::Warning {
            let mended = "EARLYOOM_ARGS=\"-m 5 --prefer '^php-fpm' --avoid";
            assert!(to(finding).contains(mended), "{}", to(finding));
        }
    }
    assert_eq!(of_files("-- etc/default/earlyoom\nEARLYOOM_ARGS=\"--prefer mariadbd\"\n"), []);
}

#[test]
fn oomd_on_a_database_is_a_warning() {
    let tree = "-- etc/systemd/system/multi-user.target.wants/systemd-oomd.service\n\n\
                -- etc/systemd/system/multi-user.target.wants/mariadb.service\n\n\
                -- etc/systemd/oomd.conf\n[OOM]\nSwapUsedLimit=80%\n\
                -- usr/lib/systemd/system/mariadb.service\n[Service]\nRestart=always\n\
                -- etc/systemd/system/mariadb.service.d/a.conf\n[Service]\nManagedOOMSwap=kill\n";
    let found = of_files(tree);
    let oomd = one(&found, "system_oomd");
    assert_eq!(oomd.severity, Severity::Warning);
    assert_eq!(
        oomd.summary,
        "systemd-oomd watches mariadb.service and kills all of it once 80% of swap are used"
    );
    assert_eq!(to(oomd), "/etc/systemd/system/mariadb.service.d/a.conf:2 ManagedOOMSwap=auto");
}

/// A master of `conf` in `cgroup`, and a worker of its pool www.
fn pool(tgid: u32, conf: &str, cgroup: &str) -> [Process; 2] {
    let named = |tgid, ppid, title: &str| Process {
        ppid,
        args: vec![title.to_owned()],
        cgroup: cgroup.to_owned(),
        ..process(tgid, "php-fpm8.3", MIB, 0)
    };
    [
        named(tgid, 1, &format!("php-fpm: master process ({conf})")),
        named(tgid + 1, tgid, "php-fpm: pool www"),
    ]
}

/// Two sites with a pool www each, of 2 and of 64 GiB.
const SITES: &str = "-- etc/php/8.3/fpm/php-fpm.conf\n[www]\nlisten = 9000\npm = static\n\
    pm.max_children = 4\nphp_admin_value[memory_limit] = 512M\n\
    -- etc/php/8.2/fpm/php-fpm.conf\n[www]\nlisten = 9001\npm = static\n\
    pm.max_children = 4\nphp_admin_value[memory_limit] = 16G\n";

#[test]
fn a_pool_may_be_too_large_for_its_cgroup() {
    let one_gib = "-- sys/fs/cgroup/sites/memory.max\n1073741824\n\
                   -- sys/fs/cgroup/sites/x/memory.max\nmax\n";
    let small = "/etc/php/8.3/fpm/php-fpm.conf";
    let judged_in = |limits: &str, cgroup: &str| {
        let mut processes = pool(7, small, cgroup).to_vec();
        processes.extend(pool(17, "/etc/php/8.2/fpm/php-fpm.conf", "/system.slice"));
        judged(&format!("{SITES}{limits}"), MACHINE, processes, Vec::new(), &Observed::default()).0
    };
    let found = judged_in(one_gib, "/sites/x");
    let finding = one(&found, "container_pool_too_large");
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(
        finding.summary,
        "the pools of php-fpm (pid 7) may use 2 GiB, but /sites may use 1 GiB"
    );
    assert_eq!(finding.excess_bytes, GIB);
    assert_eq!(finding.at.as_ref().unwrap().to_string(), "/sys/fs/cgroup/sites/memory.max");
    let v1 = "-- sys/fs/cgroup/memory/memory.limit_in_bytes\n9223372036854771712\n\
              -- sys/fs/cgroup/memory/system.slice/php8.3-fpm.service/memory.limit_in_bytes\n1073741824\n";
    let found = judged_in(v1, "/system.slice/php8.3-fpm.service");
    assert_eq!(one(&found, "container_pool_too_large").severity, Severity::Info);
    let enough = "-- sys/fs/cgroup/sites/memory.max\n2147483648\n";
    let too_large =
        |found: &[Finding]| found.iter().any(|finding| finding.kind == "container_pool_too_large");
    assert!(!too_large(&judged_in(enough, "/sites/x")));
    // What a container of another file system runs is not what these files say.
    let docker = one_gib.replace("/sites", "/docker");
    let processes = pool(7, small, "/docker/x").to_vec();
    let tree = format!("{SITES}{docker}");
    let (_folder, root) = unpacked(&files(&tree));
    assert_eq!(containers::read(&root, &processes), []);
}

#[test]
fn a_line_that_is_changed_is_the_one_that_stands_there() {
    let tree = "-- etc/sysctl.d/50-a.conf\n-vm/panic_on_oom=1\nvm.oom_kill*=1\n\
                -- proc/sys/vm/panic_on_oom\n1\n-- proc/sys/vm/oom_kill_allocating_task\n1\n";
    let found = of_files(tree);
    let change = one(&found, "system_panic_on_oom").change.as_ref().unwrap();
    assert_eq!(change.from.as_deref(), Some("-vm/panic_on_oom=1"));
    let pattern = to(one(&found, "system_kills_whoever_asks"));
    assert_eq!(pattern, "/etc/sysctl.d/99-zz-rampage.conf vm.oom_kill_allocating_task = 0");
}
