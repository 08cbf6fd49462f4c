//! A php-fpm that runs: its workers must have the limits that the audit names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use audit::php::fpm::{Conf, Source};
use audit::php::ini::files::{Ini, Outside};
use audit::php::ini::quantity;
use audit::php::{How, Pool, SetBy, Site, Version};
use audit::{Notes, Root};

const VERSION: Version = Version::new(8, 2);

/// A php-fpm of its own in a private folder; ended when dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Not KILL: its worker would outlive it.
        let tgid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(tgid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn start(conf: &Path) -> Running {
    let child = Command::new("/usr/sbin/php-fpm8.2")
        .args(["-n", "-R", "-F", "-y", conf.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("this test needs the Debian package php8.2-fpm");
    Running(child)
}

/// What the script answers through FastCGI, without the headers.
fn request(socket: &Path, script: &Path) -> String {
    use std::io::{Read as _, Write as _};
    let record = |kind: u8, body: &[u8]| {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[1, kind, 0, 1, len[0], len[1], 0, 0], body].concat()
    };
    let mut parameters = Vec::new();
    for (name, value) in [("SCRIPT_FILENAME", script.to_str().unwrap()), ("REQUEST_METHOD", "GET")]
    {
        parameters.extend([name.len() as u8, value.len() as u8]);
        parameters.extend([name.as_bytes(), value.as_bytes()].concat());
    }
    let begin = record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    let whole = [begin, record(4, &parameters), record(4, &[]), record(5, &[])].concat();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut stream = loop {
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) if std::time::Instant::now() > until => panic!("{error}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    stream.write_all(&whole).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let body = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}")).1;
    body.split('\n').next().unwrap().to_owned()
}

/// What a worker of `folder`/php-fpm.conf, which listens on `folder`/www.sock, has for memory_limit, and what it
/// has after it tried to raise it to 777M.
fn ask(folder: &Path) -> (String, String) {
    // A worker of another user has to reach the script.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder, open).unwrap();
    let script = folder.join("limit.php");
    let body = "<?php echo ini_get('memory_limit'), ' '; ini_set('memory_limit', '777M'); \
                echo ini_get('memory_limit'), \"\\n\";";
    fs::write(&script, body).unwrap();
    let conf = folder.join("php-fpm.conf");
    let running = start(&conf);
    let answer = request(&folder.join("www.sock"), &script);
    drop(running);
    let (limit, raised) = answer.trim().split_once(' ').unwrap();
    (limit.to_owned(), raised.to_owned())
}

/// php-fpm.conf with what every case needs; `body` follows.
fn private(folder: &Path, body: &str) -> String {
    let folder = folder.display();
    format!("[global]\ndaemonize = no\nerror_log = {folder}/error.log\n{body}")
        .replace("@DIR@", &folder.to_string())
}

const WWW: &str = "[www]\nuser = nobody\ngroup = nogroup\nlisten = @DIR@/www.sock\npm = static\n";

#[test]
fn a_worker_has_the_limit_that_the_audit_names() {
    let cases = [
        "",
        "php_value[memory_limit] = 100M",
        "php_admin_value[memory_limit] = 100M",
        "php_value[memory_limit] = 100M\nphp_value[memory_limit] = 200M",
        "php_admin_value[memory_limit] = 100M\nphp_admin_value[memory_limit] = 200M",
        "php_admin_value[memory_limit] = 100M\nphp_value[memory_limit] = 200M",
        "php_admin_value[memory_limit] = 8192M\n[www]\nphp_admin_value[memory_limit] = 200M",
        "php_value[memory_limit] = 8192M\n[WWW]\nphp_admin_value[memory_limit] = 200M",
        "php_admin_value[memory_limit] = 128MB\nphp_admin_value[memory_limit] = 200M",
        "php_admin_value[Memory_Limit] = 200M",
        "php_value[memory_limit] = 1M",
        "php_value[memory_limit] = 0x10M",
    ];
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let text = private(folder.path(), &format!("{WWW}pm.max_children = 1\n{case}\n"));
        let path = folder.path().join("php-fpm.conf");
        fs::write(&path, text).unwrap();
        let (limit, raised) = ask(folder.path());
        let root = Root::new(Path::new("/")).unwrap();
        let (environment, nothing) = (Some(BTreeMap::new()), BTreeMap::new());
        let source = Source {
            prefix: Path::new("/usr"),
            ini: &nothing,
            outside: Outside { version: Some(VERSION), environment: &environment },
        };
        let conf = Conf::read(&root, &path, &source, &mut Notes::default());
        let pool = Pool::new(&conf.pools[0], &conf, &Ini::default(), Some(VERSION));
        let theirs = quantity::parse(&limit, Some(VERSION)).limit();
        assert_eq!(pool.limit_bytes(), theirs, "{case}: {limit}");
        let pinned = pool.memory.set_by == SetBy::PhpAdminValue;
        assert_eq!(pinned, raised != "777M", "{case}: {raised}");
    }
}

#[test]
fn drop_in_files_override_a_pool() {
    let folder = tempfile::tempdir().unwrap();
    // The audited file system has the pools where php-fpm has them, too.
    let pools = folder.path().join("etc/php/8.2/fpm/pool.d");
    fs::create_dir_all(&pools).unwrap();
    let pool = format!("{WWW}pm.max_children = 20\nphp_admin_value[memory_limit] = 8192M\n");
    fs::write(pools.join("zz-www.conf"), pool.replace("@DIR@", folder.path().to_str().unwrap()))
        .unwrap();
    fs::write(pools.join("00.conf"), "; nothing\n").unwrap();
    let audited = "include = /etc/php/8.2/fpm/pool.d/*.conf\n";
    fs::write(folder.path().join("etc/php/8.2/fpm/php-fpm.conf"), audited).unwrap();
    let root = Root::new(folder.path()).unwrap();
    let facts = audit::php::read(&root, &[], &mut Notes::default());
    assert_eq!(facts.sites[0].pools[0].limit_bytes(), Some(8 << 30));

    let files = facts.sites[0].drop_in(&facts.sites[0].pools[0]).unwrap();
    for (path, text) in [
        (&files.first, "[www]\nphp_admin_value[memory_limit] = 512M\n"),
        (&files.last, "[www]\npm.max_children = 3\n"),
    ] {
        assert_eq!(path.parent(), Some(Path::new("/etc/php/8.2/fpm/pool.d")));
        fs::write(root.outside(path), text).unwrap();
    }
    let facts = audit::php::read(&root, &[], &mut Notes::default());
    let after = &facts.sites[0].pools[0];
    assert_eq!((after.limit_bytes(), after.max_children.value), (Some(512 << 20), 3));
    assert_eq!(facts.sites[0].refused, []);
    // They are not counted among the files that they must come before and after.
    assert_eq!(facts.sites[0].drop_in(after), Some(files));

    let text = private(folder.path(), "include = @DIR@/etc/php/8.2/fpm/pool.d/*.conf\n");
    fs::write(folder.path().join("php-fpm.conf"), text).unwrap();
    let (limit, raised) = ask(folder.path());
    assert_eq!((limit.as_str(), raised.as_str()), ("512M", "512M"));
    let conf = folder.path().join("php-fpm.conf");
    let arguments = ["-n", "-R", "-tt", "-y", conf.to_str().unwrap()];
    let output = Command::new("/usr/sbin/php-fpm8.2").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("pm.max_children = 3"), "{said}");
}

/// The site of a running php-fpm with this file.
fn running_site(conf: &Path) -> Site {
    let root = Root::new(Path::new("/")).unwrap();
    let mut notes = Notes::default();
    let processes = audit::processes::read(&root, &mut notes);
    let facts = audit::php::read(&root, &processes, &mut notes);
    let site = facts.sites.into_iter().find(|site| site.conf == conf);
    site.unwrap_or_else(|| panic!("no site: {:?}", notes.finish()))
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_change_is_in_force_after_a_reload() {
    use rustix::process::{Pid, Signal, kill_process};
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("php-fpm.conf");
    let text = private(folder.path(), &format!("pid = @DIR@/fpm.pid\n{WWW}pm.max_children = 2\n"));
    fs::write(&conf, &text).unwrap();
    let running = start(&conf);
    let tgid = Pid::from_child(&running.0);
    let pid_file = folder.path().join("fpm.pid");
    wait_for("php-fpm", || pid_file.exists() && running_site(&conf).pools[0].running.len() == 2);
    let site = running_site(&conf);
    assert!(site.has_master(running.0.id()) && site.counts);
    assert_eq!(site.version, Some(VERSION));
    assert_eq!(site.changed, []);

    // Times of files and processes are compared by the second.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    fs::write(&conf, text.replace("max_children = 2", "max_children = 3")).unwrap();
    let site = running_site(&conf);
    assert_eq!(site.changed.len(), 1, "{:?}", site.changed);
    assert!(site.changed[0].how == How::Written && *site.changed[0].file == *conf);

    std::thread::sleep(std::time::Duration::from_millis(1100));
    kill_process(tgid, Signal::USR2).unwrap();
    wait_for("the reload", || running_site(&conf).pools[0].running.len() == 3);
    assert_eq!(running_site(&conf).changed, []);
    assert!(running_site(&conf).has_master(running.0.id()), "a reload keeps the process");
}
