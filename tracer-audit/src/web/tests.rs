//! Whole configurations, from files to findings.

use std::collections::BTreeMap;
use std::path::Path;

use super::apache::read::Config;
use crate::observed::Observed;
use crate::test::tree;
use crate::{Finding, Notes, Report, Severity, Subject, audit};

const GIB: u64 = 1 << 30;

const APACHE: &str = "LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so\n\
    LoadModule php_module /usr/lib/apache2/modules/libphp8.2.so\nIncludeOptional mods-enabled/*.conf\n\
    IncludeOptional sites-enabled/*.conf\n";

const PREFORK: &str = "# prefork\nMaxRequestWorkers 150\n";

const POOL: &str = "[www]\nlisten = /run/php/php8.2-fpm.sock\npm = static\npm.max_children = 5\n";

fn report(memory: u64, files: &[(&str, &str)]) -> Report {
    let meminfo = format!("MemTotal: {} kB\n", memory / 1024);
    let mut all = vec![("proc/meminfo", meminfo.as_str())];
    all.extend_from_slice(files);
    let (_folder, root) = tree(&all);
    audit(&root, &Observed::default())
}

fn find<'a>(report: &'a Report, kind: &str) -> &'a Finding {
    let found = report.findings.iter().find(|finding| finding.kind == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {:#?}", report.findings))
}

fn mod_php(memory: u64, prefork: &str, ini: &str, site: &str) -> Report {
    report(
        memory,
        &[
            ("etc/apache2/apache2.conf", APACHE),
            ("etc/apache2/mods-enabled/mpm_prefork.conf", prefork),
            ("etc/apache2/sites-enabled/site.conf", site),
            ("etc/php/8.2/apache2/php.ini", ini),
        ],
    )
}

#[test]
fn mod_php_as_it_comes_is_worth_knowing_only() {
    let report = mod_php(2 * GIB, PREFORK, "memory_limit = 128M\n", "");
    let finding = find(&report, "web_mod_php_too_large");
    assert_eq!(finding.severity, Severity::Info);
    assert!(finding.summary.contains("18.8 GiB: 150 workers of 128 MiB"), "{}", finding.summary);
    let change = finding.change.as_ref().unwrap();
    assert_eq!(change.from.as_deref(), Some("MaxRequestWorkers 150"));
    assert_eq!(change.to, format!("MaxRequestWorkers {}", finding.figures["workers_that_fit"]));
    assert_eq!(change.at.to_string(), "/etc/apache2/mods-enabled/mpm_prefork.conf:2");
    let report = mod_php(64 * GIB, PREFORK, "memory_limit = 128M\n", "");
    let mut findings = report.findings.iter();
    assert_eq!(findings.find(|finding| finding.subject == Subject::Web), None);
}

#[test]
fn mod_php_changed_for_the_worse_is_more() {
    let ini = "[PHP]\nmemory_limit = 256M ; more\n";
    let report = mod_php(16 * GIB, PREFORK, ini, "");
    let finding = find(&report, "web_mod_php_too_large");
    assert_eq!(finding.severity, Severity::Warning);
    let change = finding.change.as_ref().unwrap();
    assert_eq!(change.from.as_deref(), Some("memory_limit = 256M ; more"));
    assert_eq!(change.to, "memory_limit = 128M");
    let report = mod_php(16 * GIB, PREFORK, "memory_limit = 2G\n", "");
    assert_eq!(find(&report, "web_mod_php_too_large").severity, Severity::Critical);
    let report = mod_php(16 * GIB, PREFORK, "memory_limit = -1\n", "");
    assert_eq!(find(&report, "web_mod_php_unlimited").severity, Severity::Critical);
    assert_eq!(report.budget.demands[0].worst_bytes, None);
}

#[test]
fn a_site_may_have_another_limit() {
    let site = "<VirtualHost *:80>\n php_admin_value memory_limit 4G\n</VirtualHost>\n";
    let report = mod_php(16 * GIB, PREFORK, "memory_limit = 128M\n", site);
    let finding = find(&report, "web_mod_php_too_large");
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.others[0].to_string(), "/etc/apache2/sites-enabled/site.conf:2");
    let change = finding.change.as_ref().unwrap();
    assert_eq!(change.at, finding.others[0]);
    assert_eq!(change.from.as_deref(), Some("php_admin_value memory_limit 4G"));
    assert_eq!(change.to, "php_admin_value memory_limit 128M");
}

#[test]
fn the_server_s_own_limit_comes_before_php_ini() {
    let own = "php_value \"memory_limit\" \"64M\"\n";
    let report = mod_php(8 * GIB, PREFORK, "memory_limit = 4G\n", own);
    let finding = find(&report, "web_mod_php_too_large");
    assert!(finding.summary.contains("9.4 GiB: 150 workers of 64 MiB"), "{}", finding.summary);
}

fn fpm(files: &[(&str, &str)], pool: &str) -> Report {
    let main = "include=/etc/php/8.2/fpm/pool.d/*.conf\n";
    let mut all =
        vec![("etc/php/8.2/fpm/php-fpm.conf", main), ("etc/php/8.2/fpm/pool.d/www.conf", pool)];
    all.extend_from_slice(files);
    report(2 * GIB, &all)
}

const NGINX: &str = "worker_processes 4;\nevents { worker_connections 768; }\nhttp {\n \
    upstream php { server unix:/var/run/php/php8.2-fpm.sock; }\n server { location / {\n  \
    fastcgi_pass php;\n } }\n}\n";

#[test]
fn nginx_admits_more_than_the_pool_takes() {
    let report = fpm(&[("etc/nginx/nginx.conf", NGINX)], POOL);
    let finding = find(&report, "web_admits_more_than_php");
    assert_eq!(finding.severity, Severity::Info);
    assert_eq!(finding.figures["requests"], 1536);
    assert_eq!(finding.at.as_ref().unwrap().to_string(), "/etc/nginx/nginx.conf:4");
    let short = POOL.to_owned() + "listen.backlog = 2\n";
    let report = fpm(&[("etc/nginx/nginx.conf", NGINX)], &short);
    let finding = find(&report, "web_admits_more_than_php");
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(finding.figures["backlog"], 2);
    let elsewhere = NGINX.replace("php8.2-fpm.sock", "other.sock");
    let report = fpm(&[("etc/nginx/nginx.conf", &elsewhere)], POOL);
    assert!(!report.findings.iter().any(|finding| finding.kind == "web_admits_more_than_php"));
}

#[test]
fn apache_passes_to_a_pool() {
    let conf = "LoadModule mpm_event_module modules/mod_mpm_event.so\nMaxRequestWorkers 100\n\
        <FilesMatch \"\\.php$\">\nSetHandler \"proxy:unix:/run/php/php8.2-fpm.sock|fcgi://localhost\"\n\
        </FilesMatch>\n";
    let report = fpm(&[("etc/apache2/apache2.conf", conf)], POOL);
    let finding = find(&report, "web_admits_more_than_php");
    assert_eq!(finding.figures["requests"], 100);
    assert_eq!(finding.at.as_ref().unwrap().to_string(), "/etc/apache2/apache2.conf:4");
}

#[test]
fn what_is_refused_is_said_with_its_line() {
    let report = report(GIB, &[("etc/nginx/nginx.conf", "events {\nworker_connections 5\n}\n")]);
    let finding = find(&report, "web_configuration_refused");
    assert_eq!(finding.at.as_ref().unwrap().to_string(), "/etc/nginx/nginx.conf:3");
    assert_eq!(finding.summary, "nginx refuses its configuration: unexpected '}'");
}

#[test]
fn a_pool_of_another_host_is_not_this_one_s() {
    let nginx = NGINX.replace("unix:/var/run/php/php8.2-fpm.sock", "10.0.0.9:9000");
    let pool = POOL.replace("/run/php/php8.2-fpm.sock", "9000");
    let report = fpm(&[("etc/nginx/nginx.conf", &nginx)], &pool);
    assert!(!report.findings.iter().any(|finding| finding.kind == "web_admits_more_than_php"));
}

#[test]
fn values_that_double_themselves_end() {
    let mut conf = "Define A0 aaaaaaaaaaaaaaaa\n".to_owned();
    for number in 1..60 {
        conf += &format!("Define A{number} ${{A{0}}}${{A{0}}}\n", number - 1);
    }
    let report = report(GIB, &[("etc/apache2/apache2.conf", &conf)]);
    let said = report.notes.iter().find(|note| note.text.contains("of resolved variables"));
    assert_eq!(said.unwrap().at.as_ref().unwrap().file.to_str(), Some("/etc/apache2/apache2.conf"));
}

#[test]
fn folders_that_hold_themselves_end() {
    let (folder, root) = tree(&[
        ("etc/apache2/apache2.conf", "Include conf\n"),
        ("etc/apache2/conf/a", "MaxRequestWorkers 9\n"),
    ]);
    for name in ["x", "y"] {
        let link = folder.path().join("etc/apache2/conf").join(name);
        std::os::unix::fs::symlink(".", link).unwrap();
    }
    let conf = Path::new("/etc/apache2/apache2.conf");
    let config = Config::read(&root, conf, &BTreeMap::new(), &mut Notes::default());
    assert!((40..=5000).contains(&config.files.len()), "{}", config.files.len());
}
