//! Whole configurations, from files to findings.

use std::fs;

use crate::observed::{self, Observed};
use crate::{Finding, Report, Root, Severity, audit};

const GIB: u64 = 1 << 30;

const MAIN: &str = "[global]\npid = /run/php-fpm.pid\ninclude=/etc/php/8.2/fpm/pool.d/*.conf\n";

const STOCK: &str = "[www]\nuser = www-data\nlisten = /run/php.sock\npm = dynamic\n\
    pm.max_children = 5\npm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 3\n";

/// The report on a file system with `memory` bytes and Debian's php-fpm.conf besides `files`.
fn report(memory: u64, files: &[(&str, &str)], observed: &Observed) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let meminfo = format!("MemTotal: {} kB\n", memory / 1024);
    let mut all = vec![
        ("proc/meminfo", meminfo.as_str()),
        ("etc/php/8.2/fpm/php-fpm.conf", MAIN),
        ("etc/php/8.2/fpm/php.ini", "[PHP]\nmemory_limit = 128M\n"),
    ];
    all.extend_from_slice(files);
    for (path, text) in all {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    audit(&Root::new(folder.path()).unwrap(), observed)
}

fn pools(memory: u64, pools: &[&str]) -> Report {
    let names: Vec<String> =
        (0..pools.len()).map(|number| format!("etc/php/8.2/fpm/pool.d/{number}.conf")).collect();
    let files: Vec<(&str, &str)> =
        names.iter().map(String::as_str).zip(pools.iter().copied()).collect();
    report(memory, &files, &Observed::default())
}

fn find<'a>(report: &'a Report, kind: &str) -> &'a Finding {
    let found = report.findings.iter().find(|finding| finding.kind == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {:#?}", report.findings))
}

fn has(report: &Report, kind: &str) -> bool {
    report.findings.iter().any(|finding| finding.kind == kind)
}

#[test]
fn the_incident_is_critical_with_file_line_and_remedy() {
    let pool =
        STOCK.replace("children = 5", "children = 20") + "php_admin_value[memory_limit] = 8192M\n";
    let report = pools(16 * GIB, &[&pool]);
    let finding = find(&report, "php_pool_too_large");
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(
        finding.summary,
        "pool www may use 160 GiB: 20 workers of 8 GiB, but 14.4 GiB are left to PHP; 1 of them fits"
    );
    let at = finding.at.as_ref().unwrap();
    assert_eq!(at.to_string(), "/etc/php/8.2/fpm/pool.d/0.conf:9");
    assert_eq!(finding.others[0].to_string(), "/etc/php/8.2/fpm/pool.d/0.conf:5");
    let change = finding.change.as_ref().unwrap();
    assert_eq!(change.from.as_deref(), Some("php_admin_value[memory_limit] = 8192M"));
    assert_eq!(change.to, "php_admin_value[memory_limit] = 512M");
    assert_eq!(
        finding.excess_bytes,
        finding.figures["worst_bytes"] - finding.figures["room_bytes"]
    );
    // A request without end is worth a warning here.
    assert_eq!(find(&report, "php_no_terminate_timeout").severity, Severity::Warning);
    assert_eq!(report.budget.demands[0].worst_bytes, Some(160 * GIB));
}

#[test]
fn debians_own_is_no_more_than_info() {
    for memory in [GIB, 2 * GIB, 64 * GIB] {
        let report = pools(memory, &[STOCK]);
        assert!(report.worst() <= Some(Severity::Info), "{:#?}", report.findings);
    }
    let unknown = pools(0, &[STOCK]);
    assert!(unknown.worst() <= Some(Severity::Info), "{:#?}", unknown.findings);
}

#[test]
fn a_change_that_is_proposed_is_enough() {
    for (children, limit) in [(20, "8192M"), (50, "256M"), (200, "128M"), (3, "4G"), (40, "1G")] {
        let pool = STOCK.replace("children = 5", &format!("children = {children}"))
            + &format!("php_admin_value[memory_limit] = {limit}\n");
        for memory in [GIB, 4 * GIB, 16 * GIB] {
            let mut text = pool.clone();
            // Where both are far too large, the limit comes first and the workers after it.
            for _ in 0..2 {
                let report = pools(memory, &[&text]);
                let large = |finding: &&Finding| finding.kind == "php_pool_too_large";
                if let Some(finding) = report.findings.iter().find(large) {
                    let change = finding.change.as_ref().unwrap();
                    let fixed = text.replace(change.from.as_ref().unwrap(), &change.to);
                    assert_ne!(fixed, text);
                    text = fixed;
                }
            }
            let report = pools(memory, &[&text]);
            assert!(!has(&report, "php_pool_too_large"), "{text} {:#?}", report.findings);
            assert!(!has(&report, "php_configuration_refused"), "{:#?}", report.findings);
        }
    }
}

#[test]
fn without_a_limit_one_worker_is_enough() {
    let pool = STOCK.to_owned() + "php_value[memory_limit] = -1\n";
    let report = pools(16 * GIB, &[&pool]);
    let finding = find(&report, "php_memory_unlimited");
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.change.as_ref().unwrap().to, "php_admin_value[memory_limit] = 512M");
    assert_eq!(report.budget.demands[0].worst_bytes, None);
    let unknown = pools(0, &[&pool]);
    assert_eq!(find(&unknown, "php_memory_unlimited").severity, Severity::Critical);
}

#[test]
fn pools_add_up() {
    let pool = |name: &str| {
        format!("[{name}]\nlisten = /run/{name}\npm = static\npm.max_children = 10\n")
            + "php_admin_value[memory_limit] = 256M\n"
    };
    let (a, b) = (pool("a"), pool("b"));
    let report = pools(4 * GIB, &[&a, &b]);
    let finding = find(&report, "php_pools_too_large");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.summary.starts_with("2 pools of PHP may together use 5 GiB, but 3.6 GiB"));
    let main = MAIN.replace("[global]\n", "[global]\nprocess.max = 12\n");
    let files = [
        ("etc/php/8.2/fpm/php-fpm.conf", main.as_str()),
        ("etc/php/8.2/fpm/pool.d/a.conf", a.as_str()),
        ("etc/php/8.2/fpm/pool.d/b.conf", b.as_str()),
    ];
    let bounded = super::tests::report(4 * GIB, &files, &Observed::default());
    assert!(!has(&bounded, "php_pools_too_large"), "{:#?}", bounded.findings);
    let worst: u64 = bounded.budget.demands.iter().filter_map(|demand| demand.worst_bytes).sum();
    assert_eq!(worst, 3 * GIB);
}

#[test]
fn a_trace_replaces_the_limits() {
    let pool = STOCK.replace("children = 5", "children = 40");
    let mut seen = observed::Pool {
        name: "www".to_owned(),
        workers: 40,
        p50_bytes: 30 << 20,
        p95_bytes: 45 << 20,
        largest_bytes: 120 << 20,
        leak_bytes_per_request: None,
    };
    let audit = |seen: &observed::Pool| {
        let observed = Observed { pools: vec![seen.clone()], ..Observed::default() };
        report(4 * GIB, &[("etc/php/8.2/fpm/pool.d/www.conf", &pool)], &observed)
    };
    assert!(has(&pools(4 * GIB, &[&pool]), "php_pool_too_large"));
    assert!(!has(&audit(&seen), "php_pool_too_large"));
    // A calm trace does not make a limit good.
    let high = pool.clone() + "php_admin_value[memory_limit] = 8192M\n";
    let observed = Observed { pools: vec![seen.clone()], ..Observed::default() };
    let calm = report(4 * GIB, &[("etc/php/8.2/fpm/pool.d/www.conf", &high)], &observed);
    let finding = find(&calm, "php_memory_limit_high");
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(finding.change.as_ref().unwrap().to, "php_admin_value[memory_limit] = 256M");
    seen.p95_bytes = 100 << 20;
    assert_eq!(find(&audit(&seen), "php_pool_too_large").severity, Severity::Critical);
    seen.leak_bytes_per_request = Some(100 << 10);
    let report = audit(&seen);
    let leak = find(&report, "php_leak_unbounded");
    assert_eq!(leak.change.as_ref().unwrap().to, "pm.max_requests = 350");
    assert_eq!(leak.figures["gain_bytes"], 350 * (100 << 10));
}

#[test]
fn lines_without_effect_are_named() {
    let pool = STOCK.to_owned()
        + "php_admin_value[memory_limit] = 256M\nphp_admin_value[memory_limit] = 64M\n";
    let report = pools(16 * GIB, &[&pool]);
    let finding = find(&report, "php_memory_limit_set_twice");
    assert_eq!(finding.at.as_ref().unwrap().line, Some(10));
    assert_eq!(finding.figures["limit_bytes"], 256 << 20);

    let odd = pools(16 * GIB, &[&(STOCK.to_owned() + "php_value[memory_limit] = 256MB\n")]);
    let finding = find(&odd, "php_memory_limit_odd");
    assert!(finding.summary.contains("stays with 128 MiB"), "{}", finding.summary);

    let refused = pools(16 * GIB, &[&(STOCK.to_owned() + "pm.max_childs = 256\n")]);
    let finding = find(&refused, "php_configuration_refused");
    assert_eq!(finding.at.as_ref().unwrap().line, Some(9));
    assert!(finding.summary.contains("pm.max_childs"), "{}", finding.summary);
}

/// Files of /proc of a master that started `age_s` ago, with one worker.
fn running(age_s: u64) -> Vec<(&'static str, String)> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let stat = |tgid: u32, ppid: u32| {
        format!("{tgid} (php-fpm8.2) S {ppid} 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n")
    };
    vec![
        ("proc/stat", format!("btime {}\n", now - age_s)),
        ("proc/7/stat", stat(7, 1)),
        ("proc/7/cmdline", "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)\0".to_owned()),
        ("proc/8/stat", stat(8, 7)),
        ("proc/8/cmdline", "php-fpm: pool www\0\0".to_owned()),
        ("proc/8/status", "VmRSS: 9 kB\nRssAnon: 2048 kB\nVmSwap: 1024 kB\n".to_owned()),
    ]
}

#[test]
fn what_runs_is_held_against_the_files() {
    let proc = running(1000);
    let mut files: Vec<(&str, &str)> =
        proc.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let pool = STOCK.to_owned() + "php_admin_value[memory_limit] = 512M\n";
    files.push(("etc/php/8.2/fpm/pool.d/www.conf", &pool));
    let worker = observed::Worker {
        tgid: 8,
        master_tgid: 7,
        pool: "www".to_owned(),
        limit_bytes: Some(8 * GIB),
    };
    let observed = Observed { workers: vec![worker], ..Observed::default() };
    let report = report(16 * GIB, &files, &observed);
    let finding = find(&report, "php_limit_not_in_force");
    assert_eq!(
        finding.summary,
        "pool www runs with memory_limit 8 GiB, but its files say memory_limit 512 MiB"
    );
    let changed = find(&report, "php_configuration_not_in_force");
    assert_eq!(changed.severity, Severity::Warning);
    // The limit that is in force decides.
    let large = find(&report, "php_pool_too_large");
    assert!(
        large.summary.contains("40 GiB: 5 workers of 8 GiB, by the limit in force, but 14.4 GiB")
    );
    assert!(large.summary.ends_with("a reload brings the 512 MiB of the files"));
    assert_eq!(large.change, None);
    assert_eq!(report.budget.demands[0].observed_bytes, Some(3 << 20));

    let fresh = running(0);
    let mut files: Vec<(&str, &str)> =
        fresh.iter().map(|(path, text)| (*path, text.as_str())).collect();
    files.push(("etc/php/8.2/fpm/pool.d/www.conf", STOCK));
    let report = super::tests::report(16 * GIB, &files, &Observed::default());
    assert!(report.worst() <= Some(Severity::Info), "{:#?}", report.findings);
}

#[test]
fn what_is_not_installed_is_not_counted() {
    let files = [
        ("usr/sbin/php-fpm8.3", ""),
        ("etc/php/8.2/fpm/pool.d/www.conf", STOCK),
        ("etc/php/8.3/fpm/php-fpm.conf", "include=/etc/php/8.3/fpm/pool.d/*.conf\n"),
        ("etc/php/8.3/fpm/pool.d/www.conf", STOCK),
    ];
    let report = report(GIB, &files, &Observed::default());
    assert_eq!(report.budget.demands.len(), 1);
    assert!(report.notes.iter().any(|note| note.text.contains("php-fpm8.2 is not installed")));
}

#[test]
fn a_folder_of_a_thousand_includes_ends() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("etc/php/8.2/fpm/pool.d");
    fs::create_dir_all(&dir).unwrap();
    fs::write(folder.path().join("etc/php/8.2/fpm/php-fpm.conf"), MAIN.repeat(20)).unwrap();
    for number in 0..1200 {
        fs::write(dir.join(format!("{number}.conf")), "[www]\npm.max_children = 5\n").unwrap();
    }
    let report = audit(&Root::new(folder.path()).unwrap(), &Observed::default());
    assert!(report.notes.iter().any(|note| note.text.contains("more than 1000 files")));
}

#[test]
fn a_script_that_raised_its_limit_is_found() {
    let proc = running(0);
    let mut files: Vec<(&str, &str)> =
        proc.iter().map(|(path, text)| (*path, text.as_str())).collect();
    files.push(("etc/php/8.2/fpm/pool.d/www.conf", STOCK));
    let worker = |tgid, limit_bytes| observed::Worker {
        tgid,
        master_tgid: 7,
        pool: "www".to_owned(),
        limit_bytes,
    };
    let workers = vec![worker(8, Some(128 << 20)), worker(9, Some(2 * GIB))];
    let observed = Observed { workers, ..Observed::default() };
    let report = report(16 * GIB, &files, &observed);
    let finding = find(&report, "php_limit_raised_by_script");
    assert_eq!(finding.severity, Severity::Info);
    assert!(finding.summary.starts_with("worker 9 of pool www runs with a memory_limit of 2 GiB"));
    assert!(!has(&report, "php_limit_not_in_force"));
}

#[test]
fn what_all_workers_raised_is_no_older_file() {
    let proc = running(0);
    let mut files: Vec<(&str, &str)> =
        proc.iter().map(|(path, text)| (*path, text.as_str())).collect();
    files.push(("etc/php/8.2/fpm/pool.d/www.conf", STOCK));
    let worker = |tgid| observed::Worker {
        tgid,
        master_tgid: 7,
        pool: "www".to_owned(),
        limit_bytes: Some(8 * GIB),
    };
    let observed = Observed { workers: vec![worker(8), worker(9)], ..Observed::default() };
    let report = report(16 * GIB, &files, &observed);
    let finding = find(&report, "php_limit_raised_by_script");
    assert_eq!((finding.figures["workers"], finding.severity), (2, Severity::Info));
    assert!(finding.summary.contains("8 GiB, while its files say 128 MiB, and 1 more"));
    assert!(!has(&report, "php_limit_not_in_force") && !has(&report, "php_pool_too_large"));
    assert_eq!(report.budget.demands[0].worst_bytes, Some(640 << 20));
}

#[test]
fn a_pool_without_workers_takes_nothing() {
    let pool = "[www]\nlisten = /run/www\npm = static\nphp_admin_value[memory_limit] = -1\n";
    let report = pools(16 * GIB, &[pool]);
    assert!(has(&report, "php_configuration_refused") && !has(&report, "php_memory_unlimited"));
    assert_eq!(report.budget.demands[0].worst_bytes, Some(0));
}

#[test]
fn the_pool_that_takes_more_than_its_part_is_changed() {
    let small = "[small]\nlisten = /run/small\npm = static\npm.max_children = 100\n\
        php_admin_value[memory_limit] = 64M\n";
    let large = "[large]\nlisten = /run/large\npm = static\npm.max_children = 10\n\
        php_admin_value[memory_limit] = 512M\n";
    let report = pools(11 * GIB, &[small, large]);
    let finding = find(&report, "php_pools_too_large");
    assert_eq!(finding.name, "large");
    let change = finding.change.as_ref().unwrap();
    assert_eq!(change.to, "pm.max_children = 7");
    let fixed = large.replace(change.from.as_ref().unwrap(), &change.to);
    assert!(!has(&pools(11 * GIB, &[small, &fixed]), "php_pools_too_large"));
}

#[test]
fn a_variable_may_have_a_value_for_want_of_one() {
    let with = |version: &str, environment: Option<&str>, ini: &str| {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let fpm = format!("etc/php/{version}/fpm");
        put(&format!("{fpm}/php-fpm.conf"), STOCK);
        put(&format!("{fpm}/php.ini"), ini);
        if let Some(environment) = environment {
            put("proc/7/stat", "7 (php-fpm) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n");
            let title = format!("php-fpm: master process (/{fpm}/php-fpm.conf)\0");
            put("proc/7/cmdline", &title);
            put("proc/7/environ", environment);
        }
        let report = audit(&Root::new(folder.path()).unwrap(), &Observed::default());
        report.budget.demands[0].worst_bytes.unwrap() >> 20
    };
    let worst = |version: &str, environment: Option<&str>| {
        with(version, environment, "memory_limit = ${PHP_MEMORY:-512M}\n")
    };
    assert_eq!(worst("8.3", Some("PHP_MEMORY=64M\0")), 5 * 64);
    assert_eq!(worst("8.3", Some("A=b\0")), 5 * 512);
    assert_eq!(worst("8.3", None), 5 * 512);
    // Before, the name of a variable might have a colon in it.
    assert_eq!(worst("8.2", Some("A=b\0")), 5 * 128);
    assert_eq!(worst("8.2", Some("PHP_MEMORY:-512M=256M\0")), 5 * 256);
    let nested = "x = \"${A:-b}c\"\nmemory_limit = ${PHP_MEMORY:-${MORE:-\"2\"'5'}6${NONE:-M}}\n";
    assert_eq!(with("8.4", Some("A=b\0"), nested), 5 * 256);
    assert_eq!(with("8.4", Some("MORE=7\0"), nested), 5 * 76);
    assert_eq!(with("8.4", Some("PHP_MEMORY=64M\0"), nested), 5 * 64);
}

#[test]
fn there_may_be_a_limit_of_limits() {
    let report = |version: &str| {
        let conf = format!("etc/php/{version}/fpm/php-fpm.conf");
        let ini = format!("etc/php/{version}/fpm/php.ini");
        let pool = STOCK.to_owned() + "php_admin_value[memory_limit] = -1\n";
        let files = [
            (conf.as_str(), pool.as_str()),
            (ini.as_str(), "memory_limit = 64M\nmax_memory_limit = 256M\n"),
            ("usr/sbin/php-fpm8.5", ""),
            ("usr/sbin/php-fpm8.4", ""),
        ];
        report(16 * GIB, &files, &Observed::default())
    };
    assert_eq!(report("8.5").budget.demands[0].worst_bytes, Some(5 * (256 << 20)));
    assert!(!has(&report("8.5"), "php_memory_unlimited"));
    assert!(has(&report("8.4"), "php_memory_unlimited"));
}

#[test]
fn images_keep_their_files_elsewhere() {
    let files = [
        ("usr/local/etc/php-fpm.conf", "[global]\ninclude=etc/php-fpm.d/*.conf\n"),
        ("usr/local/etc/php-fpm.d/www.conf", STOCK),
        (
            "usr/local/etc/php-fpm.d/zz-docker.conf",
            "[global]\ndaemonize = no\n[www]\nlisten = 9000\npm.max_requests = ${N}\n",
        ),
        ("usr/local/etc/php/conf.d/memory.ini", "memory_limit = ${PHP_MEMORY}\n"),
        ("usr/local/sbin/php-fpm", ""),
        ("usr/sbin/other", ""),
    ];
    let report = report(16 * GIB, &files, &Observed::default());
    let budget = &report.budget.demands[0];
    assert_eq!((budget.name.as_str(), budget.worst_bytes), ("www", Some(640 << 20)));
    let said = |text: &str| report.notes.iter().any(|note| note.text.contains(text));
    assert!(said("${PHP_MEMORY} comes from the environment"), "{:?}", report.notes);
    assert!(report.worst() <= Some(Severity::Info), "{:#?}", report.findings);
}

#[test]
fn what_is_no_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let fpm = folder.path().join("etc/php/8.2/fpm");
    fs::create_dir_all(fpm.join("pool.d/folder.conf")).unwrap();
    fs::create_dir_all(fpm.join("php.ini")).unwrap();
    fs::write(fpm.join("php-fpm.conf"), MAIN).unwrap();
    fs::write(fpm.join("pool.d/www.conf"), STOCK).unwrap();
    fs::File::create(fpm.join("pool.d/huge.conf")).unwrap().set_len(100 << 20).unwrap();
    let audited = audit(&Root::new(folder.path()).unwrap(), &Observed::default());
    let said = |text: &str| audited.notes.iter().any(|note| note.text.contains(text));
    assert!(said("php.ini is no regular file") && said("huge.conf is larger than"));
    assert!(!has(&audited, "php_configuration_refused"), "{:#?}", audited.findings);

    fs::remove_file(fpm.join("php-fpm.conf")).unwrap();
    fs::create_dir(fpm.join("php-fpm.conf")).unwrap();
    let audited = audit(&Root::new(folder.path()).unwrap(), &Observed::default());
    let refused = find(&audited, "php_configuration_refused");
    assert!(refused.summary.contains("cannot be read"), "{}", refused.summary);
}
