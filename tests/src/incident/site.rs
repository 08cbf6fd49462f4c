//! The servers of the site, started by hand. Who keeps them does what Debian's units ask systemd for: MariaDB
//! is started again five seconds after a kill, Redis at once, php-fpm and nginx never.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::http;
use super::place::{self, Place};
use super::tree::Tree;
use crate::cgroup::MemoryCgroup;
use crate::clock;

const SOON: Duration = Duration::from_secs(30);
/// Pages at the same time, more than there are workers.
const WARM_UP: usize = 60;
/// Root has no password.
const DATABASE: &str = "
ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING '';
CREATE DATABASE shop;
CREATE USER shop@localhost IDENTIFIED BY '';
GRANT ALL ON shop.* TO shop@localhost;
USE shop;
CREATE TABLE article (id INT PRIMARY KEY, name VARCHAR(80), price DECIMAL(8, 2), description TEXT);
INSERT INTO article SELECT seq, CONCAT('Article ', seq), seq / 7, REPEAT(CONCAT('words of ', seq, ' '), 100)
    FROM seq_1_to_2200;
";

/// How a server is started, and whether again.
#[derive(Clone, Copy, Debug)]
struct Unit {
    name: &'static str,
    user: Option<&'static str>,
    command: &'static [&'static str],
    /// Restart= and RestartSec=.
    restart_after: Option<Duration>,
}

const MARIADB: Unit = Unit {
    name: "mariadb",
    user: Some("mysql"),
    command: &["mariadbd"],
    restart_after: Some(Duration::from_secs(5)),
};
const REDIS: Unit = Unit {
    name: "redis",
    user: Some("redis"),
    command: &["redis-server", "/etc/redis/redis.conf"],
    restart_after: Some(Duration::from_millis(100)),
};
const PHP: Unit = Unit {
    name: "php-fpm",
    user: None,
    command: &["php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf"],
    restart_after: None,
};
const NGINX: Unit = Unit {
    name: "nginx",
    user: None,
    command: &["nginx", "-g", "daemon off;"],
    restart_after: None,
};

/// Something that became of a server.
#[derive(Clone, Debug)]
pub struct Incidence {
    /// When it was noticed, CLOCK_BOOTTIME ns.
    pub at_ns: u64,
    /// One sentence.
    pub what: String,
}

/// The running site; everything in it is killed when it is dropped.
#[derive(Debug)]
pub struct Site {
    place: Arc<Place>,
    socket: PathBuf,
    log: PathBuf,
    is_over: Arc<AtomicBool>,
    incidences: Arc<Mutex<Vec<Incidence>>>,
    keeper: Option<JoinHandle<()>>,
}

impl Site {
    /// Starts all servers on the files of `tree` and waits until a page comes. The first time the database is
    /// made.
    pub fn start(tree: &Tree) -> Result<Self> {
        let place = Arc::new(Place::new(tree)?);
        let has = |database: &str| tree.at("/var/lib/mysql").join(database).exists();
        let is_new = !has("shop");
        if !has("mysql") {
            make_database(&place)?;
        }
        let mut running =
            vec![Running::start(&place, tree, MARIADB)?, Running::start(&place, tree, REDIS)?];
        clock::wait_for("MariaDB to serve", SOON, || Ok(sql(&place, "SELECT 1").ok()))?;
        if is_new {
            sql(&place, DATABASE)?;
        }
        running.push(Running::start(&place, tree, PHP)?);
        running.push(Running::start(&place, tree, NGINX)?);
        let socket = tree.at("/run/nginx.sock");
        let serves = clock::wait_for("a page", SOON, || {
            let answer = http::get(&socket, "/", Duration::from_secs(5));
            Ok(answer.ok().filter(|answer| answer.status == 200))
        });
        let log = tree.at("/var/log/php8.2-fpm.log");
        serves.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        warm_up(&socket);
        let (is_over, incidences) = (Arc::default(), Arc::default());
        let keeper = Keeper {
            place: Arc::clone(&place),
            running,
            is_over: Arc::clone(&is_over),
            incidences: Arc::clone(&incidences),
        };
        let keeper = thread::spawn(move || keeper.keep());
        Ok(Self { place, socket, log, is_over, incidences, keeper: Some(keeper) })
    }

    /// Where it runs.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &MemoryCgroup {
        self.place.cgroup()
    }

    /// Where nginx listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What PHP said, for messages.
    pub fn php_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What became of its servers so far.
    pub fn incidences(&self) -> Vec<Incidence> {
        self.incidences.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all servers in order, so that MariaDB leaves nothing to repair.
    pub fn stop(mut self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        match self.keeper.take().map(JoinHandle::join) {
            Some(Err(_)) => bail!("who keeps the servers panicked"),
            _ => Ok(()),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            keeper.join().ok();
        }
    }
}

#[derive(Debug)]
struct Running {
    unit: Unit,
    log: PathBuf,
    /// nsenter, whose only child is the server, and which ends as that does.
    child: Option<Child>,
    /// When to start it again.
    again: Option<Instant>,
}

impl Running {
    fn start(place: &Place, tree: &Tree, unit: Unit) -> Result<Self> {
        let log = tree.at(&format!("/var/log/{}.stderr", unit.name));
        let mut running = Self { unit, log, child: None, again: None };
        running.spawn(place)?;
        Ok(running)
    }

    fn spawn(&mut self, place: &Place) -> Result<()> {
        let mut words = Vec::new();
        if let Some(user) = self.unit.user {
            words.extend(["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"]);
        }
        words.extend(self.unit.command);
        let mut command = place.command(words[0])?;
        let log = File::options().create(true).append(true).open(&self.log)?;
        command.args(&words[1..]).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.unit.name))?);
        self.again = None;
        Ok(())
    }

    fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        for server in place::children(child.id()).unwrap_or_default() {
            // SAFETY: kill has no memory effects; the server is unreaped as long as nsenter waits for it.
            unsafe { libc::kill(server.cast_signed(), libc::SIGTERM) };
        }
        let ended = clock::wait_for("its end", Duration::from_secs(10), || Ok(child.try_wait()?));
        if ended.is_err() {
            eprintln!("{} does not end by SIGTERM", self.unit.name);
            child.kill().ok();
            child.wait().ok();
        }
    }
}

struct Keeper {
    place: Arc<Place>,
    running: Vec<Running>,
    is_over: Arc<AtomicBool>,
    incidences: Arc<Mutex<Vec<Incidence>>>,
}

impl Keeper {
    fn keep(mut self) {
        while !self.is_over.load(Ordering::Relaxed) {
            for server in &mut self.running {
                if let Some(what) = look(server, &self.place) {
                    let incidence = Incidence { at_ns: clock::boot_ns(), what };
                    self.incidences.lock().unwrap_or_else(PoisonError::into_inner).push(incidence);
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
        // nginx first, MariaDB last.
        for server in self.running.iter_mut().rev() {
            server.end();
        }
    }
}

/// What became of a server since the last look.
fn look(server: &mut Running, place: &Place) -> Option<String> {
    let name = server.unit.name;
    if let Some(status) = server.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
        server.child = None;
        server.again = server.unit.restart_after.map(|after| Instant::now() + after);
        return Some(format!("{name} is gone ({status})"));
    }
    if server.again.is_some_and(|time| time <= Instant::now()) {
        return Some(match server.spawn(place) {
            Ok(()) => format!("{name} is started again"),
            Err(error) => format!("{name} cannot be started again: {error:#}"),
        });
    }
    None
}

/// Lets all workers answer once, as those of a site that is up for a day have.
fn warm_up(socket: &Path) {
    thread::scope(|scope| {
        for _ in 0..WARM_UP {
            scope.spawn(|| http::get(socket, "/", SOON));
        }
    });
}

fn make_database(place: &Place) -> Result<()> {
    let mut command = place.command("mariadb-install-db")?;
    command.args(["--user=mysql", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    let done = command.output().context("mariadb-install-db")?;
    check("mariadb-install-db", done.status, &done.stderr)
}

fn sql(place: &Place, statements: &str) -> Result<()> {
    let mut command = place.command("mariadb")?;
    command.args(["--user=root", "--batch"]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut client = command.spawn().context("starting mariadb")?;
    let mut stdin = client.stdin.take().context("mariadb has no input")?;
    stdin.write_all(statements.as_bytes())?;
    drop(stdin);
    let done = client.wait_with_output()?;
    check("mariadb", done.status, &done.stderr)
}

fn check(program: &str, status: ExitStatus, stderr: &[u8]) -> Result<()> {
    ensure!(status.success(), "{program}: {status}: {}", String::from_utf8_lossy(stderr));
    Ok(())
}
