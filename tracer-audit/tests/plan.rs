//! The plan for the host of the incident: it adds up, and once its files are in place the audit finds nothing
//! that would exhaust the memory.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::fs;
use std::path::{Path, PathBuf};

use audit::observed::Pool;
use audit::plan::{EmitError, Emitted};
use audit::{Observed, Plan, Report, Root, Severity, Subject};

/// A copy of a fixture, that can be written to.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    copy_into(&from, folder.path());
    folder
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_into(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn plan(folder: &Path) -> (Report, Plan) {
    plan_with(folder, &Observed::default())
}

fn plan_with(folder: &Path, observed: &Observed) -> (Report, Plan) {
    let root = Root::new(folder).unwrap();
    let (facts, notes) = audit::read(&root);
    let report = audit::judge(&facts, observed, notes);
    let plan = Plan::new(&facts, &report, observed);
    (report, plan)
}

/// Writes the plan for `system` below `folder`.
fn emit(plan: &Plan, system: &Path, folder: &Path) -> Result<Emitted, EmitError> {
    plan.emit(&Root::new(system).unwrap(), folder)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn it_adds_up_and_once_applied_nothing_exhausts_the_memory() {
    let folder = copy("incident");
    let (before, plan) = self::plan(folder.path());
    assert_eq!(before.worst(), Some(Severity::Critical));
    let sum: u64 = plan.rows.iter().map(|row| row.proposed_bytes).sum();
    assert_eq!(sum, plan.total_bytes);
    let pool = plan.proposals.iter().find(|one| one.key == "innodb_buffer_pool_size").unwrap();
    assert_eq!(pool.to, "2G", "as was meant");
    assert!(plan.proposals.iter().any(|one| one.key == "memory_limit"), "{:?}", plan.proposals);

    let unit = plan.proposals.iter().find(|one| one.key == "MemoryMax").unwrap();
    let limit = format!("\nMemoryMax={}\n", unit.to);

    let present = files(folder.path());
    let emitted = emit(&plan, folder.path(), folder.path()).unwrap();
    let mut expected: Vec<PathBuf> = present.iter().chain(&emitted.files).cloned().collect();
    expected.sort();
    assert_eq!(files(folder.path()), expected, "only its own files are new");
    let text =
        fs::read_to_string(folder.path().join(unit.file.strip_prefix("/").unwrap())).unwrap();
    assert!(text.contains(&limit) && text.matches("MemoryMax").count() == 1, "{text}");
    assert!(text.contains("\nOOMPolicy=continue\n"), "{text}");

    let (after, again) = self::plan(folder.path());
    let critical: Vec<_> =
        after.findings.iter().filter(|one| one.severity == Severity::Critical).collect();
    let of_memory = critical.iter().filter(|one| one.subject != Subject::Mysql);
    assert_eq!(of_memory.count(), 0, "{critical:#?}");
    let twice = after.findings.iter().find(|one| one.kind == "php_memory_limit_set_twice");
    assert_eq!(twice.map(|one| one.severity), Some(Severity::Info), "its own line is no mistake");
    let php = after.budget.worst_bytes(Subject::Php).unwrap();
    assert!(php <= after.budget.room_for_bytes(Subject::Php), "{:#?}", after.budget);
    assert!(again.proposals.is_empty(), "{:#?}", again.proposals);
    // What it wrote itself it may write again.
    emit(&plan, folder.path(), folder.path()).unwrap();
}

#[test]
fn a_file_of_somebody_else_is_left_alone_and_nothing_is_written() {
    let folder = copy("incident");
    let (_, plan) = plan(folder.path());
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join(plan.proposals[0].file.strip_prefix("/").unwrap());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "; mine\n").unwrap();
    let error = emit(&plan, folder.path(), target.path()).unwrap_err();
    assert!(matches!(error, EmitError::Foreign { .. }), "{error}");
    assert_eq!(files(target.path()), std::slice::from_ref(&file));
    assert_eq!(fs::read_to_string(&file).unwrap(), "; mine\n");
}

#[test]
fn a_host_on_which_all_fits_has_nothing_to_change() {
    let folder = copy("healthy");
    let (_, plan) = plan(folder.path());
    assert!(plan.proposals.is_empty(), "{:#?}", plan.proposals);
    let sum: u64 = plan.rows.iter().map(|row| row.proposed_bytes).sum();
    assert_eq!(sum, plan.total_bytes);
}

#[test]
fn workers_that_were_seen_to_be_small_may_stay() {
    let folder = copy("incident");
    let meminfo = "MemTotal: 4194304 kB\nMemAvailable: 3145728 kB\n";
    fs::write(folder.path().join("proc/meminfo"), meminfo).unwrap();
    let seen = Pool {
        name: "www".to_owned(),
        workers: 20,
        p50_bytes: 5 << 20,
        p95_bytes: 5 << 20,
        largest_bytes: 6 << 20,
        leak_bytes_per_request: None,
    };
    let with_trace = Observed { pools: vec![seen], ..Observed::default() };
    let workers = |observed: &Observed| {
        let (_, plan) = plan_with(folder.path(), observed);
        let proposal = plan.proposals.into_iter().find(|one| one.key == "pm.max_children");
        proposal.map_or(20, |proposal| proposal.to.parse::<u32>().unwrap())
    };
    assert!(workers(&Observed::default()) < 20, "128 MiB each do not fit");
    assert_eq!(workers(&with_trace), 20);
}

#[test]
fn without_known_memory_nothing_is_planned() {
    let folder = copy("incident");
    fs::remove_file(folder.path().join("proc/meminfo")).unwrap();
    let (_, plan) = plan(folder.path());
    assert!(plan.proposals.is_empty() && plan.rows.is_empty());
    assert!(plan.remarks[0].contains("meminfo"), "{:?}", plan.remarks);
    let target = tempfile::tempdir().unwrap();
    assert!(emit(&plan, folder.path(), target.path()).unwrap().files.is_empty());
}

/// Writes a file of a system.
fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A system with 16 GiB and nothing but these.
fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n");
    files.iter().for_each(|(path, text)| put(folder.path(), path, text));
    folder
}

/// A pool of `workers`, each of which may take `limit`.
fn pool(name: &str, workers: u32, limit: &str) -> String {
    format!(
        "[{name}]\nuser = www-data\nlisten = /run/{name}.sock\npm = static\n\
         pm.max_children = {workers}\nphp_admin_value[memory_limit] = {limit}\n"
    )
}

fn sum(plan: &Plan) -> u64 {
    plan.rows.iter().map(|row| row.proposed_bytes).sum()
}

#[test]
fn two_versions_with_a_pool_of_one_name_are_two_services() {
    let www = pool("www", 20, "8192M");
    let folder = system(&[
        ("etc/php/8.2/fpm/php-fpm.conf", "include = /etc/php/8.2/fpm/pool.d/*.conf\n"),
        ("etc/php/8.2/fpm/pool.d/www.conf", &www),
        ("etc/php/8.3/fpm/php-fpm.conf", "include = /etc/php/8.3/fpm/pool.d/*.conf\n"),
        ("etc/php/8.3/fpm/pool.d/www.conf", &www),
    ]);
    let (_, plan) = plan(folder.path());
    assert_eq!(sum(&plan), plan.total_bytes);
    let rows: Vec<&str> = plan.rows.iter().map(|row| row.name.as_str()).collect();
    assert!(rows.contains(&"www (PHP 8.2)") && rows.contains(&"www (PHP 8.3)"), "{rows:?}");
    assert_eq!(plan.remarks, [""; 0]);
    // Each is asked and restarted once, whatever the number of its files.
    let restart = |version: &str| {
        format!("/usr/sbin/php-fpm{version} -t && systemctl restart php{version}-fpm")
    };
    assert_eq!(plan.commands, [restart("8.2"), restart("8.3")]);
    emit(&plan, folder.path(), folder.path()).unwrap();
    let (after, again) = self::plan(folder.path());
    assert!(again.proposals.is_empty(), "{:#?}", again.proposals);
    assert!(after.findings.iter().all(|one| one.kind != "php_pools_too_large"), "{after:#?}");
}

#[test]
fn a_second_plan_keeps_what_the_first_has_set() {
    let folder = system(&[
        ("etc/php/8.3/fpm/php-fpm.conf", "include = /etc/php/8.3/fpm/pool.d/*.conf\n"),
        ("etc/php/8.3/fpm/pool.d/www.conf", &pool("www", 20, "8192M")),
    ]);
    let (_, first) = plan(folder.path());
    emit(&first, folder.path(), folder.path()).unwrap();
    put(folder.path(), "etc/php/8.3/fpm/pool.d/shop.conf", &pool("shop", 4, "8192M"));
    let (_, second) = plan(folder.path());
    let names: Vec<&str> = second.proposals.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["shop"], "{:#?}", second.proposals);
    // Elsewhere, to be copied over the first one's.
    let target = tempfile::tempdir().unwrap();
    emit(&second, folder.path(), target.path()).unwrap();
    let text = "etc/php/8.3/fpm/pool.d/00-rampage.conf";
    let text = fs::read_to_string(target.path().join(text)).unwrap();
    let limit =
        |pool: &str, mib: u32| format!("[{pool}]\nphp_admin_value[memory_limit] = {mib}M\n");
    assert!(text.contains(&limit("www", 512)) && text.contains(&limit("shop", 512)), "{text}");
}

#[test]
fn an_absurd_neighbour_costs_a_pool_nothing() {
    let folder = system(&[
        ("etc/php/8.3/fpm/php-fpm.conf", "include = /etc/php/8.3/fpm/pool.d/*.conf\n"),
        ("etc/php/8.3/fpm/pool.d/shop.conf", &pool("shop", 5, "128M")),
        ("etc/php/8.3/fpm/pool.d/www.conf", &pool("www", 20, "8192M")),
    ]);
    let (_, plan) = plan(folder.path());
    let names: Vec<&str> = plan.proposals.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["www"], "{:#?}", plan.proposals);
    assert_eq!(sum(&plan), plan.total_bytes);
}

#[test]
fn what_fits_is_left_as_it_is() {
    let status = "Package: mariadb-server\nStatus: install ok installed\nVersion: 1:10.11.6-0\n\n\
                  Package: redis-server\nStatus: install ok installed\nVersion: 5:7.0.15-1\n";
    let folder = system(&[
        ("var/lib/dpkg/status", status),
        ("etc/mysql/my.cnf", "!includedir /etc/mysql/mariadb.conf.d/\n"),
        ("etc/mysql/mariadb.conf.d/50-own.cnf", "[mysqld]\ninnodb_buffer_pool_size = 8G\n"),
        ("etc/redis/redis.conf", "maxmemory 3gb\n"),
        ("etc/php/8.3/fpm/php-fpm.conf", &pool("www", 5, "128M")),
    ]);
    let (report, plan) = plan(folder.path());
    assert_eq!(report.budget.demands.len(), 3, "{:#?}", report.budget);
    assert!(plan.proposals.is_empty() && plan.remarks.is_empty(), "{plan:#?}");
    assert_eq!(sum(&plan), plan.total_bytes);
    // Where PHP needs it, the others give way.
    put(folder.path(), "etc/php/8.3/fpm/php-fpm.conf", &pool("www", 20, "8192M"));
    let (_, plan) = self::plan(folder.path());
    let pool = plan.proposals.iter().find(|one| one.key == "innodb_buffer_pool_size");
    assert_eq!(pool.map(|one| one.to.as_str()), Some("4G"));
    assert!(plan.remarks.iter().any(|remark| remark.contains("maxmemory 1024mb")), "{plan:#?}");
}

#[test]
fn a_redis_is_never_given_less_than_it_holds() {
    let folder = system(&[
        ("etc/redis/redis.conf", "maxmemory 6gb\n"),
        ("etc/php/8.3/fpm/php-fpm.conf", &pool("www", 20, "8192M")),
        ("proc/9/stat", "9 (redis-server) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n"),
        ("proc/9/status", "VmRSS: 3145728 kB\nRssAnon: 3145728 kB\n"),
        ("proc/9/cmdline", "redis-server\0/etc/redis/redis.conf\0"),
    ]);
    let (_, plan) = plan(folder.path());
    assert!(plan.remarks.iter().any(|remark| remark.contains("maxmemory 3072mb")), "{plan:#?}");
}

#[test]
fn a_pool_beside_the_folder_is_only_remarked() {
    let conf = "include = /etc/php/8.3/fpm/pool.d/*.conf\n".to_owned() + &pool("www", 20, "8192M");
    let folder = system(&[("etc/php/8.3/fpm/php-fpm.conf", &conf)]);
    let (_, plan) = plan(folder.path());
    assert!(plan.proposals.is_empty(), "{:#?}", plan.proposals);
    let said = "set pm.max_children = 20 and php_admin_value[memory_limit] = 512M in its section at \
                /etc/php/8.3/fpm/php-fpm.conf:2";
    assert!(plan.remarks[0].contains(said), "{:?}", plan.remarks);
}

#[test]
fn a_name_that_php_fpm_would_read_otherwise_is_not_written() {
    let shop = pool("\"a;b\"", 20, "8192M");
    let folder = system(&[
        ("etc/php/8.3/fpm/php-fpm.conf", "include = /etc/php/8.3/fpm/pool.d/*.conf\n"),
        ("etc/php/8.3/fpm/pool.d/shop.conf", &shop),
    ]);
    let (_, plan) = plan(folder.path());
    assert!(plan.rows.iter().any(|row| row.name == "a;b"), "{:?}", plan.rows);
    assert!(plan.proposals.is_empty() && plan.remarks[0].starts_with("pool a;b: "), "{plan:#?}");
    assert!(emit(&plan, folder.path(), folder.path()).unwrap().files.is_empty());
}

#[test]
fn nothing_is_written_outside_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    let www = pool("www", 20, "8192M");
    let folder = system(&[
        ("etc/php/8.3/fpm/php-fpm.conf", "include = /srv/up/../../pools/*.conf\n"),
        ("pools/www.conf", &www),
        ("srv/up/x", ""),
    ]);
    let (_, plan) = plan(folder.path());
    let target = tempfile::tempdir().unwrap();
    let inner = target.path().join("a/b");
    // A link that leads out, and dots that lead out.
    fs::create_dir_all(inner.join("srv")).unwrap();
    std::os::unix::fs::symlink(outside.path(), inner.join("srv/up")).unwrap();
    let _ = emit(&plan, folder.path(), &inner);
    assert!(files(outside.path()).is_empty());
    assert_eq!(files(target.path()), [inner.join("srv/up")]);

    // A file of php-fpm is one to php-fpm, wherever it stands.
    let emitted = emit(&plan, folder.path(), folder.path()).unwrap();
    assert!(emitted.files.iter().all(|file| file.starts_with(folder.path())), "{emitted:?}");
    let text = fs::read_to_string(folder.path().join("pools/00-rampage.conf")).unwrap();
    assert!(text.starts_with("; Written by"), "{text}");
    let (after, _) = self::plan(folder.path());
    assert!(after.worst() < Some(Severity::Critical), "{:#?}", after.findings);
}
