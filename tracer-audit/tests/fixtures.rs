//! Three whole systems below tests/fixtures: the incident's host, the same one mended, and Debian's packages as
//! they are installed.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::path::{Path, PathBuf};

use audit::{Finding, Observed, Report, Root, Severity};

fn fixture(name: &str) -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    audit::audit(&Root::new(&folder).unwrap(), &Observed::default())
}

fn show(report: &Report) -> String {
    let line = |finding: &Finding| {
        let at = finding.at.as_ref().map_or(String::new(), |at| format!(" ({at})"));
        format!("{:?} {}: {}{at}\n", finding.severity, finding.kind, finding.summary)
    };
    let notes = report.notes.iter().map(|note| format!("note: {}\n", note.text));
    report.findings.iter().map(line).chain(notes).collect()
}

/// A finding of the incident: kind, name, file and line of the cause, the change.
type Expected = (&'static str, &'static str, &'static str, Option<u32>, &'static str);

const CAPPED: &str = "/etc/mysql/mariadb.conf.d/99-performance.cnf:2";
const LIMIT: &str = "/etc/php/8.3/fpm/pool.d/www.conf:12";

/// A cause of the incident: kind, severity, the line of the cause, other lines.
type Cause = (&'static str, Severity, &'static str, &'static [&'static str]);

#[test]
fn the_incident_lacks_what_would_have_held_it() {
    let report = fixture("incident");
    let drop_in =
        |unit: &str| PathBuf::from(format!("/etc/systemd/system/{unit}.d/50-rampage.conf"));
    let php = "/usr/lib/systemd/system/php8.3-fpm.service";
    let nginx = "/usr/lib/systemd/system/nginx.service";
    let expected: [Expected; 4] = [
        ("unit_unbounded", "php8.3-fpm.service", php, Some(5), "MemoryMax="),
        ("unit_not_restarted", "php8.3-fpm.service", php, Some(5), "Restart=on-failure"),
        ("unit_stops_with_a_worker", "php8.3-fpm.service", php, Some(5), "OOMPolicy=continue"),
        ("unit_not_restarted", "nginx.service", nginx, Some(6), "Restart=on-failure"),
    ];
    for (kind, name, file, line, change) in expected {
        let finding = report
            .findings
            .iter()
            .find(|finding| finding.kind == kind && finding.name == name)
            .unwrap_or_else(|| panic!("{kind} of {name}:\n{}", show(&report)));
        let at = finding.at.as_ref().unwrap();
        assert_eq!((&*at.file, at.line), (Path::new(file), line), "{kind} of {name}");
        let to = finding.change.as_ref().unwrap();
        assert!(to.to.starts_with(change), "{kind} of {name}: {to:?}");
        assert_eq!(*to.at.file, drop_in(name), "{kind} of {name}");
        assert_eq!(to.section.as_deref(), Some("Service"));
    }
    let (critical, warning) = (Severity::Critical, Severity::Warning);
    // Kind, severity, the line that is the cause, other lines that take part.
    let causes: [Cause; 7] = [
        ("php_pool_too_large", critical, LIMIT, &["/etc/php/8.3/fpm/pool.d/www.conf:8"]),
        (
            "mysql_file_never_read",
            warning,
            "/etc/mysql/mysql.conf.d/performance.cnf:2",
            &[CAPPED, "/etc/mysql/my.cnf:3", "/etc/mysql/my.cnf:4"],
        ),
        ("mysql_not_in_force", warning, CAPPED, &["/var/log/mysql/error.log:6"]),
        ("system_swap_nearly_full", warning, "/proc/meminfo:5", &[]),
        ("php_no_terminate_timeout", warning, "/etc/php/8.3/fpm/pool.d/www.conf:1", &[]),
        ("mysql_root_without_password", warning, "/root/.my.cnf:4", &[]),
        ("system_slow_watch", Severity::Info, "/etc/cron.d/memory-monitor:1", &[]),
    ];
    for (kind, severity, place, others) in causes {
        let mut found = report.findings.iter().filter(|finding| finding.kind == kind);
        let finding = found.next().unwrap_or_else(|| panic!("{kind}:\n{}", show(&report)));
        assert_eq!(found.next(), None, "{kind}");
        let at = finding.at.as_ref().map(ToString::to_string);
        assert_eq!((finding.severity, at.as_deref()), (severity, Some(place)), "{kind}");
        let found: Vec<String> = finding.others.iter().map(ToString::to_string).collect();
        for other in others {
            assert!(found.iter().any(|found| found == other), "{kind}: {found:?}");
        }
    }
    let said = |kind: &str| {
        let finding = report.findings.iter().find(|finding| finding.kind == kind);
        finding.map(|finding| finding.summary.as_str()).unwrap_or_default()
    };
    assert!(said("php_pool_too_large").contains("160 GiB: 20 workers of 8 GiB"));
    assert!(said("mysql_file_never_read").contains("is 512 MiB, not the 2 GiB"));
    assert_eq!(
        said("mysql_not_in_force"),
        "MariaDB runs with a buffer pool of 128 MiB, but 512 MiB are configured"
    );
    assert_eq!(said("system_swap_nearly_full"), "swap is 82 % full: 3.3 GiB of 4.0 GiB");
    assert!(said("system_memory_nearly_full").contains("% of the memory is used"));
    let of_units = report.findings.iter().filter(|finding| finding.kind.starts_with("unit_"));
    assert!(of_units.clone().filter(|one| one.severity == Severity::Warning).count() >= 4);
}

#[test]
fn what_is_mended_needs_nothing() {
    let report = fixture("healthy");
    assert!(report.worst() <= Some(Severity::Info), "{}", show(&report));
    let mended = |finding: &&Finding| finding.kind.starts_with("unit_");
    assert_eq!(report.findings.iter().find(mended), None, "{}", show(&report));
}

#[test]
fn debian_as_it_is_installed_needs_nothing() {
    let report = fixture("debian");
    assert!(report.worst() <= Some(Severity::Info), "{}", show(&report));
    let missing = ["php8.2-fpm.service", "nginx.service"];
    for name in missing {
        let told =
            |finding: &&Finding| finding.kind == "unit_not_restarted" && finding.name == name;
        assert!(report.findings.iter().any(|finding| told(&finding)), "{}", show(&report));
    }
}
