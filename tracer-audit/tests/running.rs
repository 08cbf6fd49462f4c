//! Servers that run: what is in force, against what their files say by now.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit::mysql::server::Server;
use audit::{Notes, Root, mysql, processes, redis};

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
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < deadline, "nobody listens at {}", socket.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn options(folder: &Path, pool: &str) -> String {
    let folder = folder.display();
    format!(
        "[mysqld]\nsocket={folder}/s\ndatadir={folder}/data\nskip-networking\n\
         innodb_buffer_pool_size={pool}\n"
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

#[test]
fn a_running_redis_is_found_by_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let file = folder.path().join("redis.conf");
    let text =
        format!("port 0\nunixsocket {place}/s\ndir {place}\nset-proc-title no\nmaxmemory 1gb\n");
    fs::write(&file, text).unwrap();
    let server = Command::new("redis-server")
        .arg(&file)
        .args(["--maxmemory-policy", "allkeys-lru"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let running = Running(server.expect("this test needs Debian's package redis-server"));
    until(&folder.path().join("s"));
    let root = Root::new(Path::new("/")).unwrap();
    let mut notes = Notes::default();
    let all = processes::read(&root, &mut notes);
    let facts = redis::read(&root, &all, &mut notes);
    let own = facts.instances.iter().find(|instance| {
        instance.process.as_ref().is_some_and(|process| process.tgid == running.0.id())
    });
    let own = own.unwrap_or_else(|| panic!("{notes:?}"));
    assert_eq!(own.file.as_deref(), Some(&*file));
    assert_eq!(own.config.maxmemory().value, 1 << 30);
    assert_eq!(own.config.get("maxmemory-policy").as_deref(), Some("allkeys-lru"));
}
