//! What is said of servers in small file systems: where it may not be said, and what is in force.

use std::fs;
use std::path::Path;

use super::ask::{Account, Answer};
use super::installed::{Flavour, Version};
use super::server::{self, Server};
use super::variables::POOL;
use super::{access, in_force};
use crate::origin::{Notes, Origin};
use crate::processes::Process;
use crate::report::{Finding, Report, Severity};
use crate::root::Root;
use crate::test::{one, to, tree};
use crate::{Budget, Context, Observed, audit};

const STATUS: &str =
    "Package: mariadb-server\nStatus: install ok installed\nVersion: 1:10.11.19-0+deb12u1\n";
const MEMINFO: &str = "MemTotal: 2097152 kB\n";

fn system<'a>(files: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let stock = [("var/lib/dpkg/status", STATUS), ("proc/meminfo", MEMINFO)];
    stock.iter().chain(files).copied().collect()
}

fn report(files: &[(&str, &str)]) -> Report {
    let (_folder, root) = tree(&system(files));
    audit(&root, &Observed::default())
}

fn mysql(report: &Report) -> Vec<&'static str> {
    let kinds = report.findings.iter().map(|finding| finding.kind);
    kinds.filter(|kind| kind.starts_with("mysql") && *kind != "mysql_listens").collect()
}

fn others(finding: &Finding) -> Vec<String> {
    finding.others.iter().map(ToString::to_string).collect()
}

const STAT: &str = "812 (mariadbd) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n";
const CAPPED: &str = "[mysqld]\ninnodb_buffer_pool_size=512M\nlog_error=/var/log/mysql/error.log\n";
const LOG: &str = "2025-09-17 13:31:01 0 [Note] InnoDB: Initializing buffer pool, total size = 2.000GiB, chunk size = 32MiB\n\
    2025-09-22 02:13:22 0 [Note] InnoDB: innodb_buffer_pool_size_max=8388608m, innodb_buffer_pool_size=128m\n";

#[test]
fn the_log_tells_what_is_in_force() {
    let log = ("var/log/mysql/error.log", LOG);
    let files = [("etc/my.cnf", CAPPED), log];
    let running = [
        files[0],
        files[1],
        ("proc/stat", "btime 1000000000\n"),
        ("proc/812/stat", STAT),
        ("proc/812/cmdline", "/usr/sbin/mariadbd\0"),
        ("proc/812/status", "VmRSS: 100 kB\n"),
        ("proc/812/maps", "7f0000000000-7f0010000000 rw-p 00000000 00:00 0 \n"),
    ];
    let found = report(&running);
    let found = one(&found.findings, "mysql_not_in_force");
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(
        found.summary,
        "MariaDB runs with a buffer pool of 128 MiB, but 512 MiB are configured"
    );
    assert_eq!(
        found.why,
        "/etc/my.cnf changed after the server had started: it counts after a restart."
    );
    assert_eq!(found.at.as_ref().unwrap().to_string(), "/etc/my.cnf:2");
    assert_eq!(others(found), ["/var/log/mysql/error.log:2", "/etc/my.cnf"]);

    // A log that this process has not written says nothing of it; what it has mapped does.
    let (folder, root) = tree(&system(&running));
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(900_000_000);
    let file = fs::File::open(folder.path().join(log.0)).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(old)).unwrap();
    let found = audit(&root, &Observed::default());
    let found = one(&found.findings, "mysql_not_in_force");
    assert!(found.summary.contains("at most 256 MiB"), "{}", found.summary);

    // In a backup nothing runs; where others do, its next start brings it in.
    let init = ("proc/1/stat", "1 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n");
    let stopped = [files[0], files[1], init, ("proc/1/cmdline", "/sbin/init\0")];
    for (files, severity) in [(&files[..], Severity::Warning), (&stopped, Severity::Info)] {
        let found = report(files);
        let found = one(&found.findings, "mysql_not_in_force");
        assert_eq!(found.severity, severity);
        assert!(found.summary.starts_with("MariaDB last started with"), "{}", found.summary);
        assert_eq!(found.why, "The files count when it starts again.");
    }
    let same = CAPPED.replace("512M", "128M");
    assert_eq!(mysql(&report(&[("etc/my.cnf", &same), log])), [""; 0]);
}

/// The server of these files, as if it ran.
fn server(root: &Root) -> Server {
    let (mut servers, _) = server::find(root, &[], &mut Notes::default());
    Server { process: Some(Process::default()), ..servers.remove(0) }
}

fn judged(server: &Server, root: &Root) -> Vec<Finding> {
    let (facts, _) = crate::read(root);
    let (budget, observed) = (Budget::default(), Observed::default());
    in_force::judge(server, &Context { facts: &facts, budget: &budget, observed: &observed })
}

#[test]
fn only_what_a_server_rounds_is_in_force_as_configured() {
    const GIB: u64 = 1 << 30;
    let differs = |configured: &str, in_force: u64, flavour| {
        let text = format!("[mysqld]\ninnodb_buffer_pool_size={configured}\n");
        let (_folder, root) = tree(&system(&[("etc/my.cnf", &text)]));
        let answer =
            Answer { pool_bytes: Some(in_force), max_connections: Some(151), ..Answer::default() };
        let server = Server { answer: Some(answer), flavour, ..server(&root) };
        !judged(&server, &root).is_empty()
    };
    assert!(!differs("1G", GIB, Flavour::Mariadb));
    assert!(!differs("1100M", 1152 << 20, Flavour::Mariadb));
    assert!(differs("128M", GIB - 1, Flavour::Mariadb));
    assert!(differs("128M", GIB - 1, Flavour::Mysql));
    assert!(!differs("9G", 16 * GIB, Flavour::Mysql));
    assert!(differs("9G", 16 * GIB, Flavour::Mariadb));
    assert!(differs("2G", 128 << 20, Flavour::Mysql));
}

#[test]
fn what_is_not_known_is_not_said_to_be_dead_or_missing() {
    let dead = ("etc/mysql/conf.d/own.cnf", "[mysqld]\ninnodb_buffer_pool_size=1G\n");
    let (folder, root) = tree(&system(&[dead]));
    let main = folder.path().join("etc/mysql/my.cnf");
    let kinds = || {
        let report = audit(&root, &Observed::default());
        (mysql(&report), report.notes.iter().any(|note| note.text.contains("my.cnf")))
    };
    assert_eq!(kinds(), (vec!["mysql_file_never_read"], false));
    fs::File::create(&main).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(kinds(), (vec![], true));
    fs::remove_file(&main).unwrap();
    fs::create_dir(&main).unwrap();
    assert_eq!(kinds(), (vec!["mysql_file_never_read"], true));
}

#[test]
fn a_buffer_is_blamed_for_what_it_takes() {
    let large = report(&[("etc/my.cnf", "[mysqld]\nkey_buffer_size=10G\nmax_connections=100\n")]);
    let found = one(&large.findings, "mysql_buffer_too_large");
    assert_eq!(found.at.as_ref().unwrap().to_string(), "/etc/my.cnf:2");
    assert_eq!(mysql(&large), ["mysql_buffer_too_large"]);
    let change = to(found);
    let (place, line) = change.split_once(' ').unwrap();
    assert_eq!(place, "/etc/my.cnf:2");
    assert_eq!(
        mysql(&report(&[("etc/my.cnf", &format!("[mysqld]\n{line}\n"))])),
        [""; 0],
        "{line}"
    );
}

#[test]
fn no_file_is_proposed_where_none_decides() {
    let (_folder, root) =
        tree(&system(&[("etc/my.cnf", "[mysqld]\n!includedir /etc/d\n"), ("etc/d/~a.cnf", "")]));
    let mut server = server(&root);
    let change = |server: &Server| super::memory::change(server, POOL, "1G").map(|one| one.to);
    assert_eq!(change(&server).as_deref(), Some("innodb_buffer_pool_size=1G"));
    assert!(server.drop_in().unwrap().as_path() > Path::new("/etc/d/~a.cnf"));
    assert!(!server.outranks_drop_in(POOL));
    server.settings.persist("innodb_buffer_pool_size", "5", &Origin::whole(Path::new("/x")));
    assert_eq!(change(&server), None);
    assert!(server.outranks_drop_in(POOL));
}

#[test]
fn what_a_running_server_tells_counts_more_than_packages() {
    let told = |text: &str| {
        let answer = Answer { version: Some(text.to_owned()), ..Answer::default() };
        answer.flavour_and_version()
    };
    assert_eq!(told("8.0.36-0ubuntu1"), Some((Flavour::Mysql, Some(Version::new(8, 0)))));
    assert_eq!(told("11.4.5-MariaDB"), Some((Flavour::Mariadb, Some(Version::new(11, 4)))));
    assert_eq!(told("x"), None);
}

#[test]
fn an_account_without_a_host_comes_from_everywhere() {
    let (_folder, root) = tree(&system(&[("etc/my.cnf", "[mysqld]\nbind-address=*\n")]));
    let said = |host: &str, open| {
        let roots = vec![Account { host: host.to_owned(), open }];
        let answer = Answer { roots, ..Answer::default() };
        let findings = access::judge(&Server { answer: Some(answer), ..server(&root) });
        findings
            .into_iter()
            .find(|one| one.kind != "mysql_listens")
            .map(|one| (one.kind, one.severity))
    };
    let without = "mysql_root_without_password";
    assert_eq!(said("", true), Some((without, Severity::Critical)));
    assert_eq!(said("localhost", true), Some((without, Severity::Warning)));
    assert_eq!(said("", false), Some(("mysql_root_from_everywhere", Severity::Warning)));
    assert_eq!(said("localhost", false), None);
}

#[test]
fn what_takes_root_away_opens_nothing() {
    let init = ("etc/my.cnf", "[mysqld]\nbind-address=127.0.0.1\ninit_file=/init.sql\n");
    let kinds = |sql| mysql(&report(&[init, ("init.sql", sql)])).concat();
    assert_eq!(kinds("DROP USER IF EXISTS 'root'@'%';\n"), "");
    assert_eq!(kinds("CREATE USER 'root'@'%' IDENTIFIED BY 'x';\n"), "mysql_root_from_everywhere");
}
