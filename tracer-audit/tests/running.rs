//! Servers that run: what is in force, against what their files say by now.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit::mysql::recorded;
use audit::mysql::server::Server;
use audit::redis::instance::Instance;
use audit::{Finding, Notes, Observed, Root, Severity, mysql, processes, redis};

/// Ends what it has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mariadb(folder: &Path) -> Running {
    let data = folder.join("data");
    let mut install = Command::new("mariadb-install-db");
    install.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
    install.args(["--auth-root-authentication-method=socket", "--skip-test-db"]);
    if is_root() {
        install.arg("--user=root");
    }
    let output = install.output().expect("this test needs Debian's package mariadb-server");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(folder.join("my.cnf"), options(folder, "64M")).unwrap();
    let mut server = Command::new("mariadbd");
    server.arg(format!("--defaults-file={}", folder.join("my.cnf").display()));
    if is_root() {
        server.arg("--user=root");
    }
    let log = fs::File::create(folder.join("log")).unwrap();
    let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    let server = Running(server.expect("this test needs Debian's package mariadb-server"));
    until(&folder.join("s"));
    server
}

fn until(socket: &Path) {
    let listens = || std::os::unix::net::UnixStream::connect(socket).is_ok();
    wait(listens, &format!("nobody listens at {}", socket.display()));
}

fn wait(ready: impl Fn() -> bool, why: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "{why}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn options(folder: &Path, pool: &str) -> String {
    let folder = folder.display();
    format!(
        "[mysqld]\nsocket={folder}/s\ndatadir={folder}/data\nskip-networking\n\
         log_error={folder}/error.log\ninnodb_buffer_pool_size={pool}\n"
    )
}

fn sql(folder: &Path, statement: &str) {
    let status = Command::new("mariadb")
        .args(["--no-defaults", "--user=root", "-e", statement])
        .arg(format!("--socket={}", folder.join("s").display()))
        .status()
        .unwrap();
    assert!(status.success(), "{statement}");
}

fn look(tgid: u32) -> Server {
    let root = Root::new(Path::new("/")).unwrap();
    let mut notes = Notes::default();
    let running = processes::read(&root, &mut notes);
    let facts = mysql::read(&root, &running, &mut notes);
    let own = facts
        .servers
        .into_iter()
        .find(|server| server.process.as_ref().is_some_and(|process| process.tgid == tgid));
    own.unwrap_or_else(|| panic!("{notes:?}"))
}

#[test]
fn a_running_mariadb_is_asked_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let running = mariadb(folder.path());
    let tgid = running.0.id();

    let server = look(tgid);
    assert_eq!(server.pool().value, 64 << 20);
    let root = Root::new(Path::new("/")).unwrap();
    let written = recorded::read(&root, &server.settings, &mut Notes::default());
    assert_eq!(written.unwrap().pool_bytes, 64 << 20, "what it wrote into its log");
    assert_eq!(server.listens_on(), None);
    let mapped = server.mapped_bytes.unwrap();
    assert!((64 << 20..2 << 30).contains(&mapped), "{mapped}");
    if is_root() {
        let answer = server.answer.as_ref().unwrap();
        assert_eq!(answer.pool_bytes, Some(64 << 20));
        assert_eq!(answer.max_connections, Some(151));
        assert!(
            !answer.roots.is_empty() && answer.roots.iter().all(|root| !root.open),
            "{answer:?}"
        );
        sql(folder.path(), "CREATE USER root@'%' IDENTIFIED BY ''");
        let answer = look(tgid).answer.unwrap();
        assert!(answer.roots.iter().any(|root| root.open && root.host == "%"), "{answer:?}");
    }

    // What is written now is not in force, and no answer is needed to see that.
    fs::write(folder.path().join("my.cnf"), options(folder.path(), "16G")).unwrap();
    let server = look(tgid);
    assert_eq!(server.pool().value, 16 << 30);
    assert!(server.mapped_bytes.unwrap() < 16 << 30);
}

/// A redis with `text` in its file, and `args`, in `folder`.
fn redis(folder: &Path, text: &str, args: &[&str]) -> Running {
    let file = folder.join("redis.conf");
    fs::write(&file, format!("dir {}\n{text}", folder.display())).unwrap();
    let server = Command::new("redis-server")
        .arg(&file)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    Running(server.expect("this test needs Debian's package redis-server"))
}

/// What is known of it, and what is noted of it.
fn look_at_redis(running: &Running) -> (Instance, String) {
    let root = Root::new(Path::new("/")).unwrap();
    let mut notes = Notes::default();
    let all = processes::read(&root, &mut notes);
    let facts = redis::read(&root, &all, &mut notes);
    let tgid = running.0.id();
    let own = facts
        .instances
        .into_iter()
        .find(|instance| instance.process.as_ref().is_some_and(|process| process.tgid == tgid));
    let process = format!("(process {tgid})");
    let notes = notes.finish().into_iter().filter(|note| note.text.contains(&process));
    (own.unwrap(), notes.map(|note| note.text).collect())
}

#[test]
fn a_running_redis_is_found_by_its_arguments_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let text = format!(
        "port 0\nunixsocket {}\nset-proc-title no\nrequirepass \"a b\"\nmaxmemory 1gb\n",
        socket.display()
    );
    let running = redis(folder.path(), &text, &["--maxmemory-policy", "allkeys-lru"]);
    until(&socket);
    let file = folder.path().join("redis.conf");
    let (own, notes) = look_at_redis(&running);
    assert_eq!(notes, "");
    assert_eq!(own.file.as_deref(), Some(&*file));
    assert_eq!(own.config.maxmemory().value, 1 << 30);
    assert_eq!(own.config.get("maxmemory-policy").as_deref(), Some("allkeys-lru"));
    let answer = own.answer.unwrap();
    assert_eq!((answer.maxmemory_bytes, answer.policy.as_str()), (1 << 30, "allkeys-lru"));

    let said = || {
        let report = audit::audit(&Root::new(Path::new("/")).unwrap(), &Observed::default());
        let of_file = |one: &Finding| one.at.as_ref().is_some_and(|at| *at.file == *file);
        let findings = report.findings.into_iter();
        let found = findings.filter(|one| one.kind == "redis_not_in_force" && of_file(one));
        found.map(|one| (one.severity, one.at.unwrap().line, one.summary)).collect::<Vec<_>>()
    };
    assert_eq!(said(), []);
    let set = Command::new("redis-cli")
        .arg("-s")
        .arg(&socket)
        .args(["-a", "a b", "--no-auth-warning", "config", "set", "maxmemory", "0"])
        .output()
        .expect("this test needs Debian's package redis-tools");
    assert_eq!(String::from_utf8_lossy(&set.stdout), "OK\n");
    let said = said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((said[0].0, said[0].1), (Severity::Warning, Some(6)));
    let text = "runs without a maxmemory, but 1 GiB are configured";
    assert!(said[0].2.ends_with(text), "{said:?}");
}

#[test]
fn a_redis_whose_file_is_not_known_tells_its_limit_over_the_loopback() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |more: &str| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let text = format!("bind 127.0.0.1\nport {port}\nunixsocket {}\n{more}", socket.display());
        let running = redis(folder.path(), &text, &[]);
        until(&socket);
        let title = format!("127.0.0.1:{port}");
        let cmdline = format!("/proc/{}/cmdline", running.0.id());
        wait(|| fs::read_to_string(&cmdline).unwrap().contains(&title), "it has no title");
        let (own, notes) = look_at_redis(&running);
        assert_eq!(own.file, None, "its title hides it");
        (own.answer.map(|answer| answer.maxmemory_bytes), notes)
    };
    let (limit, notes) = start("maxmemory 77mb\n");
    assert_eq!(limit, Some(77 << 20), "{notes}");
    let (limit, notes) = start("rename-command CONFIG \"\"\n");
    assert!(limit.is_none() && notes.contains("it refuses CONFIG GET"), "{notes}");
    let (limit, notes) = start("requirepass x\n");
    assert!(limit.is_none() && notes.contains("it asks for a password"), "{notes}");
}
