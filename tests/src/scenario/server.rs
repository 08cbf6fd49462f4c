//! MariaDB and Redis with private configuration, socket and data, no network port.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cgroup::MemoryCgroup;
use crate::clock;

const SOON: Duration = Duration::from_secs(30);

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// mariadbd with an empty database.
    pub fn mariadb(cgroup: &MemoryCgroup, buffer_pool_mib: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rampage-mariadb-").tempdir()?;
        let data = folder.path().join("data");
        let install = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--skip-test-db"])
            .args(["--auth-root-authentication-method=normal", "--skip-name-resolve"])
            .arg(format!("--datadir={}", data.display()))
            .stdin(Stdio::null())
            .output()
            .context("mariadb-install-db")?;
        let said = String::from_utf8_lossy(&install.stderr);
        ensure!(install.status.success(), "mariadb-install-db: {}: {said}", install.status);
        let mut command = Command::new("/usr/sbin/mariadbd");
        command.args(["--no-defaults", "--user=root", "--skip-networking"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=8M"]);
        command.arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", folder.path().join("socket").display()));
        command.arg(format!("--pid-file={}", folder.path().join("pid").display()));
        command.arg(format!("--innodb-buffer-pool-size={buffer_pool_mib}M"));
        Self::start(command, cgroup, folder)
    }

    /// redis-server that saves only when it is told.
    pub fn redis(cgroup: &MemoryCgroup) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rampage-redis-").tempdir()?;
        let mut command = Command::new("/usr/bin/redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(folder.path());
        command.arg("--unixsocket").arg(folder.path().join("socket"));
        Self::start(command, cgroup, folder)
    }

    fn start(
        mut command: Command,
        cgroup: &MemoryCgroup,
        folder: tempfile::TempDir,
    ) -> Result<Self> {
        let log = fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        cgroup.confine(&mut command)?;
        let child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
        let mut server = Self { child, folder };
        let socket = server.socket();
        let serves = clock::wait_for("the server's socket", SOON, || {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended: {status}");
            }
            Ok(std::os::unix::net::UnixStream::connect(&socket).ok())
        });
        serves.with_context(|| {
            fs::read_to_string(server.folder.path().join("log")).unwrap_or_default()
        })?;
        Ok(server)
    }

    /// Its process.
    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
