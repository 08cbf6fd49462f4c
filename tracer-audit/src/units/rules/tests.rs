//! The rules on small trees.

use std::path::Path;

use super::*;
use crate::budget::{Budget, Demand};
use crate::origin::Notes;
use crate::test::{files, one, to, tree};
use crate::{Facts, Machine, Observed, Process};

const GIB: u64 = 1 << 30;

fn demand(subject: Subject, reserved_bytes: u64, worst_bytes: u64) -> Demand {
    Demand {
        subject,
        name: "www".to_owned(),
        reserved_bytes,
        worst_bytes: Some(worst_bytes),
        observed_bytes: None,
        how: String::new(),
        at: None,
    }
}

/// A host of 16 GiB with the files of a tree (`-- PATH`, then lines), all units started at boot.
fn judged(text: &str, demands: Vec<Demand>, processes: Vec<Process>) -> Vec<Finding> {
    let mut all = files(text);
    let unit = |path: &&str| path.ends_with(".service");
    let wants: Vec<String> = all
        .iter()
        .map(|(path, _)| *path)
        .filter(unit)
        .filter_map(|path| path.rsplit_once('/'))
        .map(|(_, name)| format!("etc/systemd/system/multi-user.target.wants/{name}"))
        .collect();
    all.extend(wants.iter().map(|path| (path.as_str(), "")));
    let (_folder, root) = tree(&all);
    let mut notes = Notes::default();
    let facts = Facts {
        machine: Machine { total_bytes: 16 * GIB, ..Machine::default() },
        units: crate::units::read(&root, &processes, &mut notes),
        processes,
        php: Default::default(),
        mysql: Default::default(),
        redis: Default::default(),
        web: Default::default(),
        system: Default::default(),
    };
    assert_eq!(notes.finish(), []);
    let budget = Budget::new(16 * GIB, demands);
    let observed = Observed::default();
    judge(&Context { facts: &facts, budget: &budget, observed: &observed })
}

const V1: &str = "-- sys/fs/cgroup/memory/memory.limit_in_bytes\n9223372036854771712\n";
const PHP: &str = "-- usr/lib/systemd/system/php8.3-fpm.service\n[Service]\nExecStart=/bin/true\n";
const MARIADB: &str =
    "-- usr/lib/systemd/system/mariadb.service\n[Service]\nRestart=on-abnormal\nRestartSec=5s\n";

#[test]
fn a_stock_unit_is_a_warning_only_where_memory_runs_out() {
    let stock = format!("{PHP}{MARIADB}");
    let calm = judged(&stock, vec![demand(Subject::Php, GIB, 2 * GIB)], Vec::new());
    assert!(calm.iter().all(|finding| finding.severity == Severity::Info), "{calm:#?}");
    let demands =
        vec![demand(Subject::Php, GIB, 160 * GIB), demand(Subject::Mysql, 3 * GIB, 4 * GIB)];
    let found = judged(&stock, demands, Vec::new());
    let drop_in = "/etc/systemd/system/php8.3-fpm.service.d/50-rampage.conf";
    let unbounded = one(&found, "unit_unbounded");
    assert_eq!(unbounded.severity, Severity::Warning);
    assert_eq!(
        unbounded.summary,
        "php8.3-fpm.service has no MemoryMax: nothing stops its workers before they take 160 GiB"
    );
    // 16 GiB less 1.6 for the system and 3 for the database, in whole 64 MiB.
    assert_eq!(to(unbounded), format!("{drop_in} MemoryMax=11648M"));
    assert_eq!(unbounded.at.as_ref().unwrap().line, Some(1));
    assert_eq!(to(one(&found, "unit_not_restarted")), format!("{drop_in} Restart=on-failure"));
    let stops = one(&found, "unit_stops_with_a_worker");
    assert_eq!(to(stops), format!("{drop_in} OOMPolicy=continue"));
    assert_eq!(one(&found, "unit_unprotected").name, "mariadb.service");
}

#[test]
fn the_administrators_own_line_is_changed() {
    let own = "-- etc/systemd/system/php8.3-fpm.service.d/override.conf\n[Service]\nRestart=no\n\
               OOMPolicy=kill\nMemoryMax=32G\nOOMScoreAdjust=-500\n\
               -- etc/systemd/system/mariadb.service.d/a.conf\n[Service]\nMemoryMax=1G\n";
    let demands =
        vec![demand(Subject::Php, GIB, 2 * GIB), demand(Subject::Mysql, 2 * GIB, 4 * GIB)];
    let found = judged(&format!("{PHP}{MARIADB}{own}"), demands, Vec::new());
    let file = "/etc/systemd/system/php8.3-fpm.service.d/override.conf";
    assert_eq!(to(one(&found, "unit_not_restarted")), format!("{file}:2 Restart=on-failure"));
    assert_eq!(to(one(&found, "unit_stops_with_a_worker")), format!("{file}:3 OOMPolicy=continue"));
    assert_eq!(one(&found, "unit_limit_above_memory").at.as_ref().unwrap().line, Some(4));
    assert_eq!(one(&found, "unit_dies_before_php").severity, Severity::Warning);
    let small = one(&found, "unit_limit_too_small");
    assert_eq!(small.summary, "mariadb.service may take 1 GiB, but needs 2 GiB");
    assert_eq!(to(small), "/etc/systemd/system/mariadb.service.d/a.conf:2 MemoryMax=2560M");
    assert!(!found.iter().any(|finding| finding.kind == "unit_unbounded"));
}

#[test]
fn lines_without_effect_are_told_with_what_was_meant() {
    let own = "-- etc/systemd/system/mariadb.service.d/a.conf\n[Service]\nMemoryMax=8GB\n\
               StartLimitIntervalSec=60\nStartLimitBurst=3\n";
    let found = judged(&format!("{MARIADB}{own}"), Vec::new(), Vec::new());
    let lost: Vec<String> = found
        .iter()
        .filter(|finding| finding.kind == "unit_line_without_effect")
        .map(|finding| {
            let section = finding.change.as_ref().unwrap().section.clone();
            format!("{} {}", to(finding), section.unwrap_or_default())
        })
        .collect();
    let file = "/etc/systemd/system/mariadb.service.d/a.conf";
    assert_eq!(
        lost,
        [format!("{file}:2 MemoryMax=8G "), format!("{file}:3 StartLimitIntervalSec=60 Unit")]
    );
    // Three starts of five seconds are more than ten.
    assert!(!found.iter().any(|finding| finding.kind == "unit_start_limit"));
}

#[test]
fn starts_may_be_used_up() {
    let own = "-- etc/systemd/system/mariadb.service.d/a.conf\n[Unit]\nStartLimitIntervalSec=60\n\
               [Service]\nRestartSec=5\n";
    let found = judged(&format!("{MARIADB}{own}"), Vec::new(), Vec::new());
    let limit = one(&found, "unit_start_limit");
    assert_eq!(
        limit.summary,
        "mariadb.service stays down after 5 starts within 60 s: it is started again after 5 s"
    );
    assert_eq!(to(limit), "/etc/systemd/system/mariadb.service.d/a.conf:4 RestartSec=13s");
    assert_eq!(limit.at.as_ref().unwrap().line, Some(2));
    let found =
        judged(&format!("{MARIADB}{}", own.replace("=60", "=infinity")), Vec::new(), Vec::new());
    let limit = one(&found, "unit_start_limit");
    assert!(limit.summary.contains("after 5 starts in its life:"), "{}", limit.summary);
    assert!(to(limit).ends_with("a.conf:2 StartLimitIntervalSec=0"), "{}", to(limit));
}

#[test]
fn a_limit_that_is_not_in_force_is_told() {
    let process = Process {
        tgid: 7,
        comm: "mariadbd".to_owned(),
        cgroup: "/system.slice/mariadb.service".to_owned(),
        oom_score_adj: 5,
        ..Process::default()
    };
    let own = "-- sys/fs/cgroup/system.slice/mariadb.service/memory.max\nmax\n\
               -- etc/systemd/system/mariadb.service.d/a.conf\n[Service]\nMemoryMax=8G\n";
    let found = judged(&format!("{MARIADB}{PHP}{own}"), Vec::new(), vec![process]);
    let limit = one(&found, "unit_limit_not_in_force");
    assert_eq!(limit.summary, "the files give mariadb.service 8 GiB, but no limit is in force");
    assert_eq!(limit.severity, Severity::Warning);
    assert_eq!(
        limit.at.as_ref().unwrap().file.as_ref(),
        Path::new("/etc/systemd/system/mariadb.service.d/a.conf")
    );
    assert!(one(&found, "unit_dies_before_php").summary.contains("(oom_score_adj 5)"));
}

#[test]
fn an_unused_unit_is_nobodys_business() {
    let text =
        format!("{PHP}-- etc/systemd/system/php8.3-fpm.service.d/a.conf\n[Service]\nMemoryMax=x\n");
    let (_folder, root) = tree(&files(&text));
    let facts = crate::units::read(&root, &[], &mut Notes::default());
    assert_eq!(facts.units.len(), 1);
    assert_eq!(facts.used().count(), 0);
}

#[test]
fn workers_without_a_limit_can_take_all_memory() {
    let tree = format!("{PHP}-- usr/lib/systemd/system/apache2.service\n[Service]\n");
    let unlimited = |subject, name: &str| Demand {
        name: name.to_owned(),
        worst_bytes: None,
        ..demand(subject, GIB, 0)
    };
    let demands = vec![
        demand(Subject::Php, GIB, 2 * GIB),
        unlimited(Subject::Php, "raw"),
        unlimited(Subject::Web, "apache2 with mod_php"),
        Demand { name: "nginx".to_owned(), ..demand(Subject::Web, 0, GIB) },
    ];
    let found = judged(&tree, demands, Vec::new());
    let of = |name: &str| {
        let own = |one: &&Finding| one.kind == "unit_unbounded" && one.name == name;
        found.iter().find(own).unwrap_or_else(|| panic!("{found:#?}"))
    };
    for name in ["php8.3-fpm.service", "apache2.service"] {
        assert_eq!(of(name).severity, Severity::Warning);
        assert!(of(name).summary.ends_with("its workers can take all memory"), "{:?}", of(name));
    }
}

#[test]
fn of_two_units_neither_takes_what_both_take() {
    let two = format!("{PHP}{}", PHP.replace("8.3", "8.2"));
    let found = judged(&two, vec![demand(Subject::Php, GIB, 2 * GIB)], Vec::new());
    let told: Vec<_> = found.iter().filter(|one| one.kind == "unit_unbounded").collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|one| !one.summary.contains("GiB")), "{told:#?}");
}

#[test]
fn another_server_s_need_is_not_this_one_s() {
    let nginx = "-- etc/systemd/system/nginx.service\n[Service]\nMemoryMax=64M\n";
    let demands = vec![
        Demand { name: "nginx".to_owned(), ..demand(Subject::Web, 40 << 20, GIB) },
        Demand { name: "apache2".to_owned(), ..demand(Subject::Web, 160 << 20, GIB) },
    ];
    let found = judged(nginx, demands, Vec::new());
    assert!(!found.iter().any(|one| one.kind == "unit_limit_too_small"), "{found:#?}");
}

#[test]
fn on_abort_starts_again_what_systemd_did_not_hear_of() {
    let unit = "-- usr/lib/systemd/system/mariadb.service\n[Service]\nRestart=on-abort\n";
    one(&judged(unit, Vec::new(), Vec::new()), "unit_not_restarted");
    let found = judged(&format!("{unit}{V1}"), Vec::new(), Vec::new());
    assert!(!found.iter().any(|one| one.kind == "unit_not_restarted"), "{found:#?}");
}

#[test]
fn php_that_is_spared_more_than_any_database_can_be_is_changed() {
    let own = "-- etc/systemd/system/php8.3-fpm.service.d/a.conf\n[Service]\nOOMScoreAdjust=-950\n\
               -- etc/systemd/system/mariadb.service.d/a.conf\n[Service]\nOOMScoreAdjust=50\n";
    let found = judged(&format!("{PHP}{MARIADB}{own}"), Vec::new(), Vec::new());
    let order = to(one(&found, "unit_dies_before_php"));
    assert_eq!(order, "/etc/systemd/system/php8.3-fpm.service.d/a.conf:2 OOMScoreAdjust=150");
}

#[test]
fn what_cgroup_v1_does_not_have_bounds_nothing() {
    let unit = format!("{PHP}MemoryHigh=1G\n");
    let unbounded = |text: &str| {
        let found = judged(text, Vec::new(), Vec::new());
        found.iter().any(|one| one.kind == "unit_unbounded")
    };
    assert!(!unbounded(&unit) && unbounded(&format!("{unit}{V1}")));
}
