//! What the audit says of MariaDB and redis: on Debian's stock files, on those of an outage, and of servers that
//! run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use audit::{Finding, Observed, Report, Root, Severity, Subject};

const STATUS: &str = "\
Package: mariadb-server
Status: install ok installed
Version: 1:10.11.19-0+deb12u1

Package: redis-server
Status: install ok installed
Version: 5:7.0.15-1~deb12u10
";

const MARIADB: &str = "\
[client-server]
# Port or socket location where to connect
# port = 3306
socket = /run/mysqld/mysqld.sock

# Import all .cnf files from configuration directory
!includedir /etc/mysql/conf.d/
!includedir /etc/mysql/mariadb.conf.d/
";

const SERVER: &str = "\
[server]
[mysqld]
pid-file                = /run/mysqld/mysqld.pid
basedir                 = /usr
#key_buffer_size        = 128M
bind-address            = 127.0.0.1
expire_logs_days        = 10
character-set-server  = utf8mb4
collation-server      = utf8mb4_general_ci
#innodb_buffer_pool_size = 8G
[embedded]
[mariadb]
[mariadb-10.11]
";

const DEBIAN_CNF: &str =
    "[client]\nhost     = localhost\nuser     = root\n[mysql_upgrade]\nuser     = root\n";

const REDIS: &str = "\
bind 127.0.0.1 -::1
port 6379
daemonize yes
dir /var/lib/redis
client-output-buffer-limit normal 0 0 0
client-output-buffer-limit replica 256mb 64mb 60
client-output-buffer-limit pubsub 32mb 8mb 60
";

const KIB_A_GIB: u64 = 1 << 20;

/// Debian's files, and `files` on top of them, on a host of `gib` GiB.
fn audit(gib: u64, files: &[(&str, &str)]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let memory = format!("MemTotal: {} kB\n", gib * KIB_A_GIB);
    let stock = [
        ("proc/meminfo", memory.as_str()),
        ("proc/sys/vm/overcommit_memory", "0\n"),
        ("var/lib/dpkg/status", STATUS),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmysql:x:1:1::/nonexistent:/bin/false\n"),
        ("etc/mysql/mariadb.cnf", MARIADB),
        ("etc/mysql/debian.cnf", DEBIAN_CNF),
        ("etc/mysql/conf.d/mysql.cnf", "[mysql]\n"),
        ("etc/mysql/mariadb.conf.d/50-server.cnf", SERVER),
        ("etc/mysql/mariadb.conf.d/50-mysqld_safe.cnf", "[mysqld_safe]\nnice = 0\n"),
        ("etc/redis/redis.conf", REDIS),
    ];
    for (path, text) in stock.iter().chain(files) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir_all(folder.path().join("etc/alternatives")).unwrap();
    let link = |target: &str, path: &str| {
        std::os::unix::fs::symlink(target, folder.path().join(path)).unwrap();
    };
    link("/etc/mysql/mariadb.cnf", "etc/alternatives/my.cnf");
    link("/etc/alternatives/my.cnf", "etc/mysql/my.cnf");
    audit::audit(&Root::new(folder.path()).unwrap(), &Observed::default())
}

/// Those of databases.
fn findings(report: &Report) -> Vec<&Finding> {
    let own = |finding: &&Finding| matches!(finding.subject, Subject::Mysql | Subject::Redis);
    report.findings.iter().filter(own).collect()
}

fn kinds(report: &Report) -> Vec<&str> {
    findings(report).iter().map(|finding| finding.kind).collect()
}

fn the<'a>(report: &'a Report, kind: &str) -> &'a Finding {
    let mut own = report.findings.iter().filter(|finding| finding.kind == kind);
    let found = own.next().unwrap_or_else(|| panic!("{kind}: {:#?}", report.findings));
    assert!(own.next().is_none(), "{kind} twice: {:#?}", report.findings);
    found
}

fn place(finding: &Finding) -> String {
    finding.at.as_ref().unwrap().to_string()
}

fn line(finding: &Finding) -> (String, String) {
    let change = finding.change.as_ref().unwrap();
    (change.at.to_string(), change.to.clone())
}

const CAPPED: (&str, &str) =
    ("etc/mysql/mariadb.conf.d/99-performance.cnf", "[mysqld]\ninnodb_buffer_pool_size = 512M\n");
const DEAD: (&str, &str) =
    ("etc/mysql/mysql.conf.d/performance.cnf", "[mysqld]\n\ninnodb_buffer_pool_size = 2G\n");

/// A drop-in of MariaDB.
fn with(gib: u64, options: &str) -> Report {
    audit(gib, &[("etc/mysql/mariadb.conf.d/60-own.cnf", &format!("[mysqld]\n{options}\n"))])
}

/// Debian's redis.conf and more lines.
fn with_redis(gib: u64, lines: &str) -> Report {
    audit(gib, &[("etc/redis/redis.conf", &format!("{REDIS}{lines}\n"))])
}

#[test]
fn debians_files_are_worth_no_warning() {
    for gib in [0, 1, 16] {
        let report = audit(gib, &[]);
        assert_eq!(kinds(&report), ["redis_unbounded"]);
        assert_eq!(the(&report, "redis_unbounded").severity, Severity::Info);
    }
}

#[test]
fn small_healthy_settings_are_worth_no_warning() {
    let report = audit(
        2,
        &[
            (
                "etc/mysql/mariadb.conf.d/60-own.cnf",
                "[mysqld]\ninnodb_buffer_pool_size=512M\nmax_connections=60\ntmp_table_size=32M\n\
                 max_heap_table_size=32M\nkey_buffer_size=16M\nsort_buffer_size=1M\n",
            ),
            (
                "etc/redis/redis.conf",
                "maxmemory 128mb\nmaxmemory-policy allkeys-lru\nsave 900 1\nappendonly yes\n",
            ),
            ("root/.my.cnf", "[client]\nuser=root\npassword='x#y'\n"),
        ],
    );
    assert_eq!(kinds(&report), [""; 0]);
}

#[test]
fn a_dead_file_explains_the_default() {
    let report = audit(16, &[CAPPED, DEAD]);
    let found = the(&report, "mysql_file_never_read");
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(place(found), "/etc/mysql/mysql.conf.d/performance.cnf:3");
    assert_eq!(found.others[0].to_string(), "/etc/mysql/mariadb.conf.d/99-performance.cnf:2");
    assert_eq!(found.figures["pool_bytes"], 512 << 20);
    assert_eq!(found.figures["unread_pool_bytes"], 2 << 30);
    assert_eq!(found.figures["default_pool_bytes"], 128 << 20);
    let place_of_cap = "/etc/mysql/mariadb.conf.d/99-performance.cnf:2".to_owned();
    assert_eq!(line(found), (place_of_cap, "innodb_buffer_pool_size = 2G".to_owned()));
    let from = found.change.as_ref().unwrap().from.as_deref();
    assert_eq!(from, Some("innodb_buffer_pool_size = 512M"));

    // As it was after the one file was put aside.
    let report =
        audit(16, &[("etc/mysql/mariadb.conf.d/99-performance.cnf.disabled", CAPPED.1), DEAD]);
    let found = the(&report, "mysql_file_never_read");
    let riddle = "is 128 MiB, not the 2 GiB of /etc/mysql/mysql.conf.d/performance.cnf: that file is never read";
    assert!(found.summary.ends_with(riddle), "{}", found.summary);
    assert_eq!(place(found), "/etc/mysql/mysql.conf.d/performance.cnf:3");
    let drop_in = "/etc/mysql/mariadb.conf.d/zz-rampage.cnf".to_owned();
    assert_eq!(line(found), (drop_in, "innodb_buffer_pool_size=2G".to_owned()));
    assert_eq!(kinds(&report).len(), 2);

    // The same value is no riddle, and what does not fit is not proposed.
    let same = ("etc/mysql/mysql.conf.d/performance.cnf", CAPPED.1);
    assert_eq!(kinds(&audit(16, &[CAPPED, same])), ["redis_unbounded"]);
    let found = audit(1, &[DEAD]);
    let (_, to) = line(the(&found, "mysql_file_never_read"));
    assert!(to.ends_with('M'), "{to}");
}

#[test]
fn a_folder_that_is_included_by_another_name_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc/mysql");
    fs::create_dir_all(etc.join("conf.d")).unwrap();
    fs::create_dir_all(folder.path().join("var/lib/dpkg")).unwrap();
    fs::write(folder.path().join("var/lib/dpkg/status"), STATUS).unwrap();
    fs::write(etc.join("my.cnf"), "!includedir /etc/mysql/own\n").unwrap();
    fs::write(etc.join("conf.d/a.cnf"), "[mysqld]\ninnodb_buffer_pool_size=1G\n").unwrap();
    let audit = || audit::audit(&Root::new(folder.path()).unwrap(), &Observed::default());
    std::os::unix::fs::symlink("conf.d", etc.join("own")).unwrap();
    assert_eq!(kinds(&audit()), ["mysql_listens"]);
    fs::write(etc.join("my.cnf"), "[mysqld]\nbind-address=127.0.0.1\n").unwrap();
    assert_eq!(kinds(&audit()), ["mysql_file_never_read"]);
}

#[test]
fn without_a_version_its_groups_are_passed_over() {
    let own = ("etc/mysql/conf.d/own.cnf", "[mariadb-10.11]\ninnodb_buffer_pool_size=60G\n");
    let files = [("var/lib/dpkg/status", ""), ("usr/sbin/mariadbd", ""), own];
    let report = audit(4, &files);
    let note = report.notes.iter().find(|note| note.text.contains("version is not known")).unwrap();
    assert_eq!(note.at.as_ref().unwrap().to_string(), "/etc/mysql/conf.d/own.cnf:2");
    assert!(!kinds(&report).iter().any(|kind| kind.starts_with("mysql")), "{:?}", kinds(&report));
}

#[test]
fn a_wrong_suffix_and_a_wrong_group_are_seen() {
    let report =
        audit(16, &[("etc/mysql/conf.d/own.conf", "[mysqld]\ninnodb_buffer_pool_size=1G\n")]);
    assert!(the(&report, "mysql_file_never_read").why.contains(".cnf"));
    let report =
        audit(16, &[("etc/mysql/conf.d/own.cnf", "[mysql]\ninnodb_buffer_pool_size=1G\n")]);
    let found = the(&report, "mysql_group_not_read");
    assert_eq!(
        (found.severity, place(found)),
        (Severity::Warning, "/etc/mysql/conf.d/own.cnf:2".to_owned())
    );
    let report =
        audit(16, &[("etc/mysql/conf.d/own.cnf", "[mariadb-10.5]\ninnodb_buffer_pool_size=1G\n")]);
    assert_eq!(the(&report, "mysql_group_not_read").severity, Severity::Info);
}

#[test]
fn the_file_that_wins_is_named() {
    let report = audit(
        16,
        &[
            CAPPED,
            ("etc/mysql/mariadb.conf.d/60-own.cnf", "[mysqld]\ninnodb_buffer_pool_size=4G\n"),
        ],
    );
    let found = the(&report, "mysql_option_conflict");
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(place(found), "/etc/mysql/mariadb.conf.d/99-performance.cnf:2");
    assert_eq!(found.others[0].to_string(), "/etc/mysql/mariadb.conf.d/60-own.cnf:2");
    assert_eq!(line(found).1, "innodb_buffer_pool_size = 4G");
    let report = with(16, "max_connections=50\nmax_connections=60");
    assert_eq!(the(&report, "mysql_option_conflict").severity, Severity::Info);
}

#[test]
fn a_pool_that_does_not_fit_is_critical() {
    let report = with(4, "innodb_buffer_pool_size=6G");
    let found = the(&report, "mysql_pool_too_large");
    assert_eq!(found.severity, Severity::Critical);
    assert_eq!(place(found), "/etc/mysql/mariadb.conf.d/60-own.cnf:2");
    assert!(found.excess_bytes > 2 << 30, "{found:?}");
    let (_, to) = line(found);
    // And what is proposed fits.
    let report = with(4, &to);
    assert_eq!(kinds(&report), ["redis_unbounded"], "{to}");
    // Without a known memory nothing can be too large.
    assert_eq!(kinds(&with(0, "innodb_buffer_pool_size=600G")), ["redis_unbounded"]);
}

#[test]
fn connections_that_do_not_fit_are_a_warning() {
    let report = with(4, "max_connections=2000\nsort_buffer_size=16M");
    let found = the(&report, "mysql_connections_exceed_memory");
    assert_eq!(found.severity, Severity::Warning);
    assert!(found.summary.contains("upper bound"), "{}", found.summary);
    let (_, to) = line(found);
    let report = with(4, &format!("sort_buffer_size=16M\n{to}"));
    assert_eq!(kinds(&report), ["redis_unbounded"], "{to}");
}

#[test]
fn what_keeps_a_server_from_starting_is_said() {
    let report = with(4, "innodb_buffer_pool_size=2.5G");
    let found = the(&report, "mysql_does_not_start");
    assert_eq!(place(found), "/etc/mysql/mariadb.conf.d/60-own.cnf:2");
    let report = audit(4, &[("etc/my.cnf", "innodb_buffer_pool_size=1G\n")]);
    assert_eq!(place(the(&report, "mysql_does_not_start")), "/etc/my.cnf:1");
    let report = with_redis(4, "maxmemory 1t");
    let found = the(&report, "redis_does_not_start");
    assert_eq!(place(found), "/etc/redis/redis.conf:8");
}

#[test]
fn a_login_of_root_without_limits_is_seen_in_files() {
    let report = with(4, "skip-grant-tables");
    let found = the(&report, "mysql_skip_grant_tables");
    assert_eq!(
        (found.severity, place(found).as_str()),
        (Severity::Warning, "/etc/mysql/mariadb.conf.d/60-own.cnf:2")
    );
    let report = with(4, "skip-grant-tables\nbind-address=0.0.0.0");
    assert_eq!(the(&report, "mysql_skip_grant_tables").severity, Severity::Critical);
    let report = with(4, "skip-grant-tables\nbind-address=0.0.0.0\nskip-networking");
    assert_eq!(the(&report, "mysql_skip_grant_tables").severity, Severity::Warning);
    assert_eq!(the(&with(4, "bind-address=*"), "mysql_listens").severity, Severity::Info);

    let client = |path, text| audit(4, &[(path, text)]);
    let report = client("root/.my.cnf", "[client]\nuser=root\npassword=\n");
    let found = the(&report, "mysql_root_without_password");
    assert_eq!((found.severity, place(found).as_str()), (Severity::Warning, "/root/.my.cnf:3"));
    let report = client("etc/mysql/conf.d/client.cnf", "[client]\nuser = root\n");
    assert_eq!(place(the(&report, "mysql_client_is_root")), "/etc/mysql/conf.d/client.cnf:2");
    assert_eq!(kinds(&client("root/.my.cnf", "[client]\nuser=root\n")), ["redis_unbounded"]);

    let report = audit(
        4,
        &[
            ("etc/mysql/init.sql", "SELECT 1;\nALTER USER root@localhost IDENTIFIED BY '';\n"),
            ("etc/mysql/conf.d/init.cnf", "[mysqld]\ninit_file=/etc/mysql/init.sql\n"),
        ],
    );
    assert_eq!(place(the(&report, "mysql_root_without_password")), "/etc/mysql/init.sql:2");
}

#[test]
fn redis_is_measured_against_the_memory() {
    let report = with_redis(2, "maxmemory 4gb");
    let found = the(&report, "redis_maxmemory_too_large");
    assert_eq!(
        (found.severity, place(found).as_str()),
        (Severity::Critical, "/etc/redis/redis.conf:8")
    );
    assert_eq!(found.change.as_ref().unwrap().from.as_deref(), Some("maxmemory 4gb"));
    let (_, to) = line(found);
    assert_eq!(
        kinds(&with_redis(2, &format!("{to}\nmaxmemory-policy allkeys-lru"))),
        ["redis_fork_may_fail"]
    );

    let report = with_redis(2, "maxmemory 1200mb\nmaxmemory-policy allkeys-lfu");
    assert_eq!(the(&report, "redis_snapshot_too_large").severity, Severity::Warning);
    let report = with_redis(2, "maxmemory 1200mb\nmaxmemory-policy allkeys-lfu\nsave \"\"");
    assert_eq!(kinds(&report), [""; 0]);
    let report = with_redis(
        2,
        "maxmemory 100mb\nmaxmemory-policy volatile-lru\nclient-output-buffer-limit pubsub 0 0 0",
    );
    assert_eq!(kinds(&report), ["redis_eviction", "redis_output_unbounded"]);
    assert_eq!(place(the(&report, "redis_eviction")), "/etc/redis/redis.conf:9");
}

/// Files of /proc of a process, by its id: its status, its arguments and its mappings.
fn process(
    tgid: u32,
    comm: &str,
    status: &str,
    cmdline: &str,
    maps: &str,
) -> Vec<(String, String)> {
    let stat = format!("{tgid} ({comm}) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n");
    let file = |name: &str, text: &str| (format!("proc/{tgid}/{name}"), text.to_owned());
    vec![
        file("stat", &stat),
        file("status", status),
        file("cmdline", cmdline),
        file("maps", maps),
        // Ages ago.
        ("proc/stat".to_owned(), "btime 1000000000\n".to_owned()),
    ]
}

fn on_top<'a>(
    files: &'a [(String, String)],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let files = files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    files.chain(more.iter().copied()).collect()
}

#[test]
fn a_pool_that_is_not_in_force_is_seen_from_outside() {
    let maps = "7f0000000000-7f0012c00000 rw-p 00000000 00:00 0 \n";
    let status = "Uid:\t1\t1\nVmRSS:\t 300000 kB\nRssAnon:\t 200000 kB\n";
    let running = process(812, "mariadbd", status, "/usr/sbin/mariadbd\0", maps);
    let own = ("etc/mysql/mariadb.conf.d/60-own.cnf", "[mysqld]\ninnodb_buffer_pool_size=2G\n");
    let report = audit(16, &on_top(&running, &[own]));
    let found = the(&report, "mysql_not_in_force");
    assert_eq!((found.severity, place(found)), (Severity::Warning, format!("/{}:2", own.0)));
    assert_eq!(found.figures["pool_bytes"], 300 << 20);
    assert_eq!(found.figures["configured_pool_bytes"], 2 << 30);
    assert!(found.summary.contains("at most 300 MiB"), "{}", found.summary);
    assert!(found.why.contains("restart"), "{}", found.why);
    let demand = report.budget.demands.iter().find(|demand| demand.subject == Subject::Mysql);
    assert_eq!(demand.unwrap().observed_bytes, Some(200_000 << 10));

    // What could be in force is not said to be otherwise; that the files are younger is worth knowing.
    let report = audit(16, &on_top(&running, &[]));
    assert_eq!(the(&report, "mysql_changed_since_start").severity, Severity::Info);
    // The command line counts more than a file.
    let args = "/usr/sbin/mariadbd\0--innodb-buffer-pool-size=100M\0";
    let running = process(812, "mariadbd", status, args, maps);
    let report = audit(16, &on_top(&running, &[own]));
    let found = the(&report, "mysql_option_conflict");
    assert!(found.summary.contains("the command line"), "{}", found.summary);
    assert_eq!(place(found), format!("/{}:2", own.0));
}

#[test]
fn a_file_that_only_its_owner_may_read_is_noted() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let status = "Uid:\t4000000\t4000000\nVmRSS:\t 30 kB\n";
    let running = process(812, "mariadbd", status, "mariadbd\0", "");
    let own = ("etc/my.cnf", "[mysqld]\nbind-address=127.0.0.1\n");
    for (path, text) in on_top(&running, &[own, ("var/lib/dpkg/status", STATUS)]) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let noted = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.path().join(own.0), mode).unwrap();
        let report = audit::audit(&Root::new(folder.path()).unwrap(), &Observed::default());
        report.notes.iter().any(|note| note.text.contains("only its owner may read it"))
    };
    assert!(noted(0o600) && !noted(0o644) && !noted(0o640));
    fs::set_permissions(folder.path().join(own.0), fs::Permissions::from_mode(0o666)).unwrap();
    let report = audit::audit(&Root::new(folder.path()).unwrap(), &Observed::default());
    assert_eq!(the(&report, "mysql_file_ignored").severity, Severity::Warning);
}

#[test]
fn mysql_reads_its_own_groups_and_what_it_keeps() {
    let status =
        "Package: mysql-server-8.0\nStatus: install ok installed\nVersion: 8.0.36-0ubuntu1\n";
    let options = "[mysqld]\ninnodb_buffer_pool_size=1G\n[mariadb]\ninnodb_buffer_pool_size=60G\n\
        [mysqld-8.0]\ninnodb_buffer_pool_size=2G\n";
    let kept = r#"{"Version": 2, "mysql_dynamic_variables": {"innodb_buffer_pool_size": {"Value": "33554432"}}}"#;
    let files = [("var/lib/dpkg/status", status), ("etc/mysql/conf.d/own.cnf", options)];
    let report = audit(4, &files);
    let found = the(&report, "mysql_option_conflict");
    assert_eq!(
        (found.severity, place(found).as_str()),
        (Severity::Info, "/etc/mysql/conf.d/own.cnf:6")
    );
    let report =
        audit(4, &on_top(&[("var/lib/mysql/mysqld-auto.cnf".to_owned(), kept.to_owned())], &files));
    let found = the(&report, "mysql_option_conflict");
    assert_eq!(
        (found.severity, place(found).as_str()),
        (Severity::Warning, "/var/lib/mysql/mysqld-auto.cnf")
    );
}

#[test]
fn a_server_in_a_container_has_other_files() {
    let status = "Uid:\t1\t1\nNSpid:\t812\t1\nVmRSS:\t 300000 kB\nRssAnon:\t 200000 kB\n";
    let running = process(812, "mysqld", status, "mysqld\0", "");
    let report = audit(16, &on_top(&running, &[DEAD]));
    let demands = report.budget.demands.iter();
    let contained: Vec<_> = demands.filter(|demand| demand.name.contains("container")).collect();
    assert_eq!(contained.len(), 1);
    assert_eq!(contained[0].reserved_bytes, 200_000 << 10);
    assert!(report.notes.iter().any(|note| note.text.contains("container")), "{:?}", report.notes);
}

#[test]
fn a_large_redis_without_a_limit_is_a_warning() {
    let status = "VmRSS:\t 900000 kB\nRssAnon:\t 800000 kB\n";
    let title = "/usr/bin/redis-server 127.0.0.1:6379\0";
    let running = process(813, "redis-server", status, title, "");
    let report = audit(1, &on_top(&running, &[]));
    let found = the(&report, "redis_unbounded");
    assert_eq!(
        (found.severity, place(found).as_str()),
        (Severity::Warning, "/etc/redis/redis.conf")
    );
    assert_eq!(the(&audit(16, &on_top(&running, &[])), "redis_unbounded").severity, Severity::Info);
}

#[test]
fn figures_end_in_a_unit_and_sentences_in_nothing() {
    let all = [
        with(4, "innodb_buffer_pool_size=6G"),
        with(4, "max_connections=2000\nsort_buffer_size=16M"),
        audit(16, &[CAPPED, DEAD]),
        with_redis(2, "maxmemory 4gb"),
    ];
    for finding in all.iter().flat_map(findings) {
        assert!(!finding.summary.ends_with('.') && finding.why.ends_with('.'), "{finding:?}");
        for name in finding.figures.keys() {
            assert!(name.ends_with("_bytes") || name.contains("connections"), "{name}");
        }
    }
}
