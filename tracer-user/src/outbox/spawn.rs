//! Starts the courier, with its end of the connection at [`LINK_FD`] and the socket of the metrics at
//! [`LISTEN_FD`], and ends it.
//!
//! A thread of its own starts it ([`Launcher`]): to start a program is over only when its first pages are
//! there, which a disk that thrashes gives when it likes. The thread stays, because the courier ends with the
//! thread that started it (PR_SET_PDEATHSIG).

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use tokio::sync::oneshot;

/// The connection to the tracer, in the courier.
pub const LINK_FD: RawFd = 3;

/// The socket of the metrics, in the courier; there only when [`LISTEN_VARIABLE`] is set.
pub const LISTEN_FD: RawFd = 4;

/// Tells the courier that there is a socket at [`LISTEN_FD`].
pub const LISTEN_VARIABLE: &str = "RAMPAGE_COURIER_LISTEN";

const PROGRAM: &str = "rampage-courier";
const PROGRAM_VARIABLE: &str = "RAMPAGE_COURIER";
const INSTALLED: &str = "/usr/lib/rampage/rampage-courier";
/// Of the launcher: what fork and exec of the standard library need, without optimisation.
const STACK_BYTES: usize = 128 << 10;

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
    /// The thread that starts it is gone.
    #[error("nothing can start the courier any more")]
    Nobody,
    /// No connection could be made.
    #[error("cannot make a connection to the courier: {0}")]
    Link(#[from] io::Error),
}

/// A courier that was started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl SpawnError {
    /// Whether another attempt may succeed without anybody doing anything: memory or processes were short.
    pub fn is_passing(&self) -> bool {
        let source = match self {
            Self::Program { source, .. } | Self::Link(source) => source,
            Self::Nobody => return false,
        };
        matches!(source.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM | libc::ENFILE))
    }
}

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

/// What is to be started.
#[derive(Debug)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// Its socket of the metrics.
    pub listener: Option<OwnedFd>,
}

/// A courier, with this end of the connection, which does not block.
pub type Started = Result<(Running, UnixStream), SpawnError>;

/// Starts couriers, one after the other.
#[derive(Debug)]
pub struct Launcher {
    orders: mpsc::Sender<(Start, oneshot::Sender<Started>)>,
}

impl Launcher {
    /// Starts the thread.
    pub fn new() -> io::Result<Self> {
        let (orders, heard) = mpsc::channel::<(Start, oneshot::Sender<Started>)>();
        let thread = thread::Builder::new().name("launcher".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            for (start, answer) in heard {
                // One that nobody waits for any more ends here.
                drop(answer.send(spawn(start)));
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a courier; the answer comes when it runs.
    pub fn start(&self, start: Start) -> oneshot::Receiver<Started> {
        let (answer, answered) = oneshot::channel();
        // Without the thread the answer is dropped, and says so.
        drop(self.orders.send((start, answer)));
        answered
    }
}

/// Starts a program.
pub fn spawn(start: Start) -> Started {
    let Start { program, listener } = start;
    let (own, theirs) = UnixStream::pair()?;
    own.set_nonblocking(true)?;
    let mut passed = vec![FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: LINK_FD }];
    let mut command = Command::new(&program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_remove(LISTEN_VARIABLE);
    if let Some(listener) = listener {
        passed.push(FdMapping { parent_fd: listener, child_fd: LISTEN_FD });
        command.env(LISTEN_VARIABLE, "1");
    }
    command.fd_mappings(passed).map_err(io::Error::other)?;
    let child = command.spawn().map_err(|source| SpawnError::Program { path: program, source })?;
    Ok((Running(child), own))
}
