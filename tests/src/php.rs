//! A private php-fpm with one pool `www` (the system's 8.2, or another one in a tree of its own), its whole process tree inside a memory cgroup: own
//! configuration, own socket, own scripts, no network port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cgroup::MemoryCgroup;
use crate::clock;
use crate::debian_php::{self, Release};
use crate::fastcgi::{FastCgiError, Request, Response};

/// The program.
pub const BINARY: &str = "/usr/sbin/php-fpm8.2";
/// Classes that each normal request loads, so that opcache has something to hold.
const CLASSES: usize = 40;

/// How the pool keeps its workers.
#[derive(Clone, Copy, Debug)]
pub enum Manager {
    /// Always this many.
    Static(u32),
    /// From 1 spare worker up to this many.
    Dynamic(u32),
}

/// What is started, and how.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// None = the system's 8.2.
    pub release: Option<Release>,
    /// Workers.
    pub manager: Manager,
    /// Whether opcache is on.
    pub opcache: bool,
    /// PHP's own limit.
    pub memory_limit_mib: u32,
    /// In a pid namespace, as in a container: inside, its processes have other ids.
    pub pid_namespace: bool,
    /// The system's program is copied, so that no other process runs the same file.
    pub copied: bool,
    /// request_terminate_timeout, s; 0 = none.
    pub terminate_after_s: u32,
}

impl Setup {
    /// The system's, with opcache and a limit that is out of reach.
    pub fn system(manager: Manager) -> Self {
        Self {
            release: None,
            manager,
            opcache: true,
            memory_limit_mib: 8192,
            pid_namespace: false,
            copied: false,
            terminate_after_s: 0,
        }
    }
}

/// A running php-fpm; killed when dropped (before its cgroup).
#[derive(Debug)]
pub struct PhpFpm {
    master: Child,
    folder: tempfile::TempDir,
    inside: PathBuf,
    /// Its parent is what was started.
    is_wrapped: bool,
}

impl PhpFpm {
    /// Starts the system's in `cgroup` and waits until it serves.
    pub fn start(cgroup: &MemoryCgroup, manager: Manager) -> Result<Self> {
        Self::start_as(cgroup, &Setup::system(manager))
    }

    /// Starts it in `cgroup` and waits until it serves.
    pub fn start_as(cgroup: &MemoryCgroup, setup: &Setup) -> Result<Self> {
        let tree = setup.release.as_ref().map(debian_php::tree).transpose()?;
        let program = match &setup.release {
            Some(release) => format!("/usr/sbin/php-fpm{}", release.php),
            None => BINARY.to_owned(),
        };
        ensure!(
            tree.is_some() || Path::new(BINARY).exists(),
            "{BINARY} is missing: `cargo xtask setup` installs php8.2-fpm"
        );
        let mut folder = tempfile::Builder::new();
        folder.prefix("rampage-php-");
        let folder = match &tree {
            Some(tree) => folder.tempdir_in(tree.join("tmp"))?,
            None => folder.tempdir()?,
        };
        // As the processes see it.
        let inside = match &tree {
            Some(tree) => Path::new("/").join(folder.path().strip_prefix(tree)?),
            None => folder.path().to_owned(),
        };
        write_docroot(folder.path())?;
        fs::write(folder.path().join("fpm.conf"), config(&inside, setup))?;
        let log = fs::File::create(folder.path().join("stderr.log"))?;
        let mut command = match &tree {
            Some(tree) => {
                let mut command = Command::new("chroot");
                command.arg(tree).arg(&program).arg("-n");
                if let Some(path) = opcache(tree)? {
                    command.arg("-d").arg(format!("zend_extension={path}"));
                }
                command
            }
            None if setup.copied => {
                let copy = folder.path().join("php-fpm8.2");
                fs::copy(&program, &copy)?;
                Command::new(copy)
            }
            None if setup.pid_namespace => {
                let mut command = Command::new("unshare");
                command.args(["--pid", "--fork", "--kill-child", "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]);
        command.arg(inside.join("fpm.conf"));
        command.arg("-d").arg(format!("opcache.enable={}", u8::from(setup.opcache)));
        command.args(["-d", "opcache.memory_consumption=128"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        cgroup.confine(&mut command)?;
        let master = command.spawn().with_context(|| format!("starting {program}"))?;
        let mut fpm = Self { master, folder, inside, is_wrapped: setup.pid_namespace };
        let serves = clock::wait_for("php-fpm to serve", Duration::from_secs(10), || {
            if let Some(status) = fpm.master.try_wait()? {
                anyhow::bail!("php-fpm ended: {status}");
            }
            Ok(fpm.get("ping.php", "").ok())
        });
        serves.with_context(|| fpm.log())?;
        Ok(fpm)
    }

    /// Process id of the master.
    pub fn master(&self) -> u32 {
        let started = self.master.id();
        match self.is_wrapped.then(|| children(started)) {
            Some(Ok(children)) => children.first().copied().unwrap_or(started),
            _ => started,
        }
    }

    /// Process ids of the workers that live now.
    pub fn workers(&self) -> Result<Vec<u32>> {
        children(self.master())
    }

    /// The pool's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("www.sock")
    }

    /// Absolute path of a script, as php-fpm sees it.
    pub fn script(&self, name: &str) -> PathBuf {
        self.inside.join("docroot").join(name)
    }

    /// Sends a request for any URI, which a script answers.
    pub fn ask(&self, method: &str, uri: &[u8], script: &str) -> Result<Request, FastCgiError> {
        Request::send_as(&self.socket(), method, uri, &self.script(script).to_string_lossy())
    }

    /// Sends such a request, and returns with the worker that has begun to answer it.
    pub fn ask_for_worker(&self, method: &str, uri: &[u8], script: &str) -> Result<(Request, u32)> {
        let mut request = self.ask(method, uri, script)?;
        request.set_timeout(Duration::from_secs(20))?;
        loop {
            let goes_on = request.read()?;
            let response = Response::split(&request.output, Vec::new());
            if let Some(worker) = response.header("X-Worker") {
                return Ok((request, worker.parse()?));
            }
            ensure!(goes_on, "{script} ended: {:?}", request.output);
        }
    }

    /// Sends a request.
    pub fn send(&self, script: &str, query: &str) -> Result<Request, FastCgiError> {
        Request::send(&self.socket(), &self.script(script), query)
    }

    /// Sends a request and waits, at most 10 s between two parts of it, for the whole answer.
    pub fn get(&self, script: &str, query: &str) -> Result<Response, FastCgiError> {
        let request = self.send(script, query)?;
        request.set_timeout(clock::patient(Duration::from_secs(10)))?;
        request.finish()
    }

    /// Starts `leak.php` at `rate` MiB/s and returns with the worker that runs it.
    pub fn leak(&self, rate: u32) -> Result<(Request, u32)> {
        let mut request = self.send("leak.php", &format!("rate={rate}"))?;
        request.set_timeout(clock::patient(Duration::from_secs(120)))?;
        loop {
            ensure!(request.read()?, "leak.php ended: {:?}", request.output);
            let response = Response::split(&request.output, Vec::new());
            if let Some(worker) = response.header("X-Worker") {
                return Ok((request, worker.parse()?));
            }
        }
    }

    /// What php-fpm logged, for messages.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("php-fpm says: {}{}", read("fpm.log"), read("stderr.log"))
    }
}

impl Drop for PhpFpm {
    fn drop(&mut self) {
        let workers = self.workers().unwrap_or_default();
        // SIGTERM lets the master end and reap its workers; what is left after that is killed.
        // SAFETY: kill has no memory effects; the master is unreaped, its pid is its own.
        unsafe { libc::kill(self.master.id().cast_signed(), libc::SIGTERM) };
        let ended = clock::wait_for("php-fpm's end", Duration::from_secs(3), || {
            Ok(self.master.try_wait()?)
        });
        if ended.is_ok() {
            return;
        }
        self.master.kill().ok();
        self.master.wait().ok();
        for worker in workers {
            // SAFETY: kill has no memory effects; the workers were children of our master a moment
            // ago, and its death leaves them running.
            unsafe { libc::kill(worker.cast_signed(), libc::SIGKILL) };
        }
    }
}

fn children(parent: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    text.split_whitespace().map(|pid| pid.parse().context("pid")).collect()
}

/// Where opcache is in a tree; None = it is built in (8.5), or not there.
fn opcache(tree: &Path) -> Result<Option<String>> {
    for entry in fs::read_dir(tree.join("usr/lib/php"))? {
        let path = entry?.path().join("opcache.so");
        if path.exists() {
            return Ok(Some(format!("/{}", path.strip_prefix(tree)?.display())));
        }
    }
    Ok(None)
}

fn config(folder: &Path, setup: &Setup) -> String {
    let folder = folder.display();
    let (memory_limit_mib, terminate_after_s) = (setup.memory_limit_mib, setup.terminate_after_s);
    let workers = match setup.manager {
        Manager::Static(count) => format!("pm = static\npm.max_children = {count}"),
        Manager::Dynamic(count) => format!(
            "pm = dynamic\npm.max_children = {count}\npm.start_servers = 1\n\
             pm.min_spare_servers = 1\npm.max_spare_servers = {count}"
        ),
    };
    format!(
        "[global]\nerror_log = {folder}/fpm.log\n\n[www]\nuser = root\ngroup = root\n\
         listen = {folder}/www.sock\n{workers}\nclear_env = yes\n\
         request_terminate_timeout = {terminate_after_s}\n\
         php_admin_value[memory_limit] = {memory_limit_mib}M\nphp_admin_value[max_execution_time] = 0\n\
         php_admin_value[output_buffering] = 0\n"
    )
}

fn write_docroot(folder: &Path) -> Result<()> {
    let docroot = folder.join("docroot");
    fs::create_dir_all(docroot.join("lib"))?;
    fs::create_dir_all(docroot.join("more"))?;
    for (name, text) in [
        ("ping.php", include_str!("../php/ping.php")),
        ("normal.php", include_str!("../php/normal.php")),
        ("leak.php", include_str!("../php/leak.php")),
        ("function.php", include_str!("../php/look/function.php")),
        ("generator.php", include_str!("../php/look/generator.php")),
        ("recursion.php", include_str!("../php/look/recursion.php")),
        ("include.php", include_str!("../php/look/include.php")),
        ("preg_replace.php", include_str!("../php/look/preg_replace.php")),
        ("fiber.php", include_str!("../php/look/fiber.php")),
        ("index.php", include_str!("../php/look/index.php")),
        ("load.php", include_str!("../php/look/load.php")),
        ("turns.php", include_str!("../php/look/turns.php")),
        ("shutdown.php", include_str!("../php/look/shutdown.php")),
        ("flame.php", include_str!("../php/look/flame.php")),
        ("waits.php", include_str!("../php/look/waits.php")),
        ("hold.php", include_str!("../php/pool/hold.php")),
        ("slow_leak.php", include_str!("../php/pool/slow_leak.php")),
        ("shared.php", include_str!("../php/pool/shared.php")),
        ("import.php", include_str!("../php/pool/import.php")),
        ("grow.php", include_str!("../php/pool/grow.php")),
        ("artisan", include_str!("../php/look/artisan")),
        ("more/announce.php", include_str!("../php/look/more/announce.php")),
        ("more/included.php", include_str!("../php/look/more/included.php")),
        ("more/Export.php", include_str!("../php/look/more/Export.php")),
    ] {
        fs::write(docroot.join(name), text)?;
    }
    for number in 0..CLASSES {
        let methods: String = (0..60)
            .map(|method| {
                format!(
                    "    public function m{method}(array $row): string\n    {{\n        return \
                     sprintf('%05d %s', $row['id'] + {method}, strrev($row['name']));\n    }}\n"
                )
            })
            .collect();
        let class = format!("<?php\nfinal class C{number}\n{{\n{methods}}}\n");
        fs::write(docroot.join(format!("lib/C{number}.php")), class)?;
    }
    Ok(())
}
