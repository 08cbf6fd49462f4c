//! Starts the courier, with its end of the connection at [`LINK_FD`] and the socket of the metrics at
//! [`LISTEN_FD`], and ends it.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};

use super::listen::Listener;

/// The connection to the tracer, in the courier.
pub const LINK_FD: RawFd = 3;

/// The socket of the metrics, in the courier; there only when [`LISTEN_VARIABLE`] is set.
pub const LISTEN_FD: RawFd = 4;

/// Tells the courier that there is a socket at [`LISTEN_FD`].
pub const LISTEN_VARIABLE: &str = "RAMPAGE_COURIER_LISTEN";

const PROGRAM: &str = "rampage-courier";
const PROGRAM_VARIABLE: &str = "RAMPAGE_COURIER";
const INSTALLED: &str = "/usr/lib/rampage/rampage-courier";

/// Why there is no courier.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is missing or cannot be run.
    #[error(
        "cannot start {path}: {source}; install it there or beside rampage, or name it in {PROGRAM_VARIABLE}"
    )]
    Program {
        /// Where it was looked for last.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No connection could be made.
    #[error("cannot make a connection to the courier: {0}")]
    Link(#[from] io::Error),
}

/// A courier that was started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Process id.
    pub fn tgid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end, at most this long; then it is killed.
    pub fn end(mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended; then it leaves no zombie.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        let _ = self.0.kill();
        // It may hang in the kernel while the host thrashes: that is not waited for.
        let until = Instant::now() + Duration::from_millis(20);
        while Instant::now() < until && !self.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Where the courier is: `RAMPAGE_COURIER`, else beside this program, else where the package puts it.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(PROGRAM_VARIABLE) {
        return named.into();
    }
    std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(PROGRAM)))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| INSTALLED.into())
}

/// Starts `program`. Returns it with this end of the connection, which does not block.
pub fn spawn(
    program: &PathBuf,
    listener: Option<&Listener>,
) -> Result<(Running, UnixStream), SpawnError> {
    let (own, theirs) = UnixStream::pair()?;
    own.set_nonblocking(true)?;
    let mut passed = vec![FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: LINK_FD }];
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_remove(LISTEN_VARIABLE);
    if let Some(listener) = listener {
        passed.push(FdMapping { parent_fd: listener.duplicate()?, child_fd: LISTEN_FD });
        command.env(LISTEN_VARIABLE, "1");
    }
    command.fd_mappings(passed).map_err(io::Error::other)?;
    let child =
        command.spawn().map_err(|source| SpawnError::Program { path: program.clone(), source })?;
    Ok((Running(child), own))
}
