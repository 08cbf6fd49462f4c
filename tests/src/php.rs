//! A private php-fpm 8.2 with one pool `www`, its whole process tree inside a memory cgroup: own
//! configuration, own socket, own scripts, no network port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cgroup::MemoryCgroup;
use crate::clock;
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

/// A running php-fpm; killed when dropped (before its cgroup).
#[derive(Debug)]
pub struct PhpFpm {
    master: Child,
    folder: tempfile::TempDir,
}

impl PhpFpm {
    /// Starts it in `cgroup` and waits until it serves.
    pub fn start(cgroup: &MemoryCgroup, manager: Manager) -> Result<Self> {
        ensure!(
            Path::new(BINARY).exists(),
            "{BINARY} is missing: `cargo xtask setup` installs php8.2-fpm"
        );
        let folder = tempfile::Builder::new().prefix("rampage-php-").tempdir()?;
        write_docroot(folder.path())?;
        fs::write(folder.path().join("fpm.conf"), config(folder.path(), manager))?;
        let log = fs::File::create(folder.path().join("stderr.log"))?;
        let mut command = Command::new(BINARY);
        command.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]);
        command.arg(folder.path().join("fpm.conf"));
        command.args(["-d", "opcache.enable=1", "-d", "opcache.memory_consumption=64"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        cgroup.confine(&mut command)?;
        let master = command.spawn().with_context(|| format!("starting {BINARY}"))?;
        let mut fpm = Self { master, folder };
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
        self.master.id()
    }

    /// Process ids of the workers that live now.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let master = self.master();
        let path = format!("/proc/{master}/task/{master}/children");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        text.split_whitespace().map(|pid| pid.parse().context("pid")).collect()
    }

    /// The pool's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("www.sock")
    }

    /// Absolute path of a script.
    pub fn script(&self, name: &str) -> PathBuf {
        self.folder.path().join("docroot").join(name)
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

fn config(folder: &Path, manager: Manager) -> String {
    let folder = folder.display();
    let workers = match manager {
        Manager::Static(count) => format!("pm = static\npm.max_children = {count}"),
        Manager::Dynamic(count) => format!(
            "pm = dynamic\npm.max_children = {count}\npm.start_servers = 1\n\
             pm.min_spare_servers = 1\npm.max_spare_servers = {count}"
        ),
    };
    format!(
        "[global]\nerror_log = {folder}/fpm.log\n\n[www]\nuser = root\ngroup = root\n\
         listen = {folder}/www.sock\n{workers}\nclear_env = yes\n\
         php_admin_value[memory_limit] = 8192M\nphp_admin_value[max_execution_time] = 0\n\
         php_admin_value[output_buffering] = 0\n"
    )
}

fn write_docroot(folder: &Path) -> Result<()> {
    let docroot = folder.join("docroot");
    fs::create_dir_all(docroot.join("lib"))?;
    for (name, text) in [
        ("ping.php", include_str!("../php/ping.php")),
        ("normal.php", include_str!("../php/normal.php")),
        ("leak.php", include_str!("../php/leak.php")),
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
