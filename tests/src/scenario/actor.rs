//! Actors as they run: a hog, a shell line, a php-fpm, a server. Each ends when dropped.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::server::Server;
use super::spec::{FpmSpec, Program};
use crate::cgroup::MemoryCgroup;
use crate::hog::Hog;
use crate::php::{Manager, PhpFpm, Setup};

/// A running actor.
#[derive(Debug)]
pub enum Actor {
    /// A hog.
    Hog(Hog),
    /// A shell line.
    Shell(Line),
    /// A php-fpm.
    Fpm(PhpFpm),
    /// MariaDB or Redis.
    Server(Server),
}

impl Actor {
    /// Starts one in `cgroup`; `environment` is for shell lines.
    pub fn start(
        program: &Program,
        cgroup: &MemoryCgroup,
        environment: &[(String, String)],
    ) -> Result<Self> {
        Ok(match program {
            Program::Hog(words) => Self::Hog(Hog::spawn(cgroup, words)?),
            Program::Shell(text) => Self::Shell(Line::start(text, Some(cgroup), environment)?),
            Program::Fpm(fpm) => Self::Fpm(PhpFpm::start_as(cgroup, &setup(fpm))?),
            Program::Mariadb { buffer_pool_mib } => {
                Self::Server(Server::mariadb(cgroup, *buffer_pool_mib)?)
            }
            Program::Redis {} => Self::Server(Server::redis(cgroup)?),
        })
    }

    /// Its first process.
    pub fn tgid(&self) -> u32 {
        match self {
            Self::Hog(hog) => hog.pid(),
            Self::Shell(line) => line.child.id(),
            Self::Fpm(fpm) => fpm.master(),
            Self::Server(server) => server.tgid(),
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> Option<PathBuf> {
        match self {
            Self::Fpm(fpm) => Some(fpm.socket()),
            Self::Server(server) => Some(server.socket()),
            Self::Hog(_) | Self::Shell(_) => None,
        }
    }

    /// Ends the `wait` of a hog.
    pub fn go(&mut self) -> Result<()> {
        match self {
            Self::Hog(hog) => hog.go(),
            _ => bail!("only a hog waits for its go"),
        }
    }

    /// It as a php-fpm.
    pub fn fpm(&self) -> Result<&PhpFpm> {
        match self {
            Self::Fpm(fpm) => Ok(fpm),
            _ => bail!("it is no php-fpm"),
        }
    }

    /// Waits for the end of a hog that has ended, so that its tgid is free.
    pub fn reap(&mut self) -> Result<()> {
        match self {
            Self::Hog(hog) => hog.wait(std::time::Duration::from_secs(5)).map(drop),
            _ => bail!("only a hog is reaped"),
        }
    }
}

/// A line for `sh`, in a process group of its own; killed when dropped.
#[derive(Debug)]
pub struct Line {
    child: Child,
}

impl Line {
    /// Starts it.
    pub fn start(
        text: &str,
        cgroup: Option<&MemoryCgroup>,
        environment: &[(String, String)],
    ) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", text]).envs(environment.iter().cloned()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(cgroup) = cgroup {
            cgroup.confine(&mut command)?;
        }
        Ok(Self { child: command.spawn().with_context(|| format!("sh -c {text}"))? })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // SAFETY: kill has no memory effects; the leader is unreaped, so that the group is its own.
        unsafe { libc::kill(-self.child.id().cast_signed(), libc::SIGKILL) };
        self.child.wait().ok();
    }
}

fn setup(fpm: &FpmSpec) -> Setup {
    let manager =
        if fpm.dynamic { Manager::Dynamic(fpm.workers) } else { Manager::Static(fpm.workers) };
    let mut setup = Setup::system(manager);
    if let Some(mib) = fpm.memory_limit_mib {
        setup.memory_limit_mib = mib;
    }
    setup.terminate_after_s = fpm.terminate_after_s;
    setup
}
