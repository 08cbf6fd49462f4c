//! The socket that the courier serves the metrics on. The tracer binds it, so that a taken port stops
//! the start instead of being noticed by nobody, and so that it outlives the courier.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::settings::{self, Endpoint, Metrics};

/// Connections that the kernel keeps until they are taken.
const BACKLOG: i32 = 64;

/// Why the address cannot be had, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The setting itself.
    #[error("metrics.listen: {0}")]
    Setting(#[from] settings::ListenError),
    /// Somebody listens there.
    #[error(
        "metrics.listen = \"{0}\": somebody else listens there; stop that, or choose another one"
    )]
    Taken(String),
    /// There is something else at the path.
    #[error("metrics.listen: {0} is no socket; remove it, or choose another path")]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on metrics.listen = \"{listen}\": {source}")]
    Refused {
        /// The setting.
        listen: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// A bound socket. The file of a unix socket goes with it.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: Option<PathBuf>,
}

impl Listener {
    /// Binds what the settings say; None = nothing is to be served.
    pub fn bind(metrics: &Metrics) -> Result<Option<Self>, ListenError> {
        let listen = &metrics.listen;
        match metrics.endpoint()? {
            None => Ok(None),
            Some(Endpoint::Unix(path)) => unix(&path, listen).map(Some),
            Some(Endpoint::Tcp(address)) => {
                let socket = TcpListener::bind(address).map_err(|error| refused(listen, error))?;
                Ok(Some(Self { fd: socket.into(), path: None }))
            }
        }
    }

    /// One for another process.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

fn unix(path: &Path, listen: &str) -> Result<Listener, ListenError> {
    let fail = |error: io::Error| refused(listen, error);
    make_room(path, listen)?;
    let address = SocketAddrUnix::new(path).map_err(|error| fail(error.into()))?;
    let flags = SocketFlags::CLOEXEC;
    let fd = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| fail(error.into()))?;
    net::bind(&fd, &address).map_err(|error| fail(error.into()))?;
    let listener = Listener { fd, path: Some(path.to_owned()) };
    // Before anybody can connect.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(fail)?;
    net::listen(&listener.fd, BACKLOG).map_err(|error| fail(error.into()))?;
    Ok(listener)
}

/// Removes the socket that a process before left behind; one that somebody listens on stays.
fn make_room(path: &Path, listen: &str) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(listen, error)),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NoSocket(path.to_owned())),
        Ok(_) => match knock(path) {
            // EAGAIN: there is a listener, and more wait for it than it wants to wait.
            Ok(()) | Err(Errno::AGAIN) => Err(ListenError::Taken(listen.to_owned())),
            Err(Errno::CONNREFUSED) => {
                fs::remove_file(path).map_err(|error| refused(listen, error))
            }
            Err(error) => Err(refused(listen, error.into())),
        },
    }
}

/// Connects and goes away, without waiting.
fn knock(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)
}

fn refused(listen: &str, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(listen.to_owned()),
        _ => ListenError::Refused { listen: listen.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn bind(listen: &str) -> Result<Option<Listener>, ListenError> {
        Listener::bind(&Metrics { listen: listen.to_owned(), ..Metrics::default() })
    }

    #[test]
    fn only_what_the_file_says_in_so_many_words_can_be_reached_from_outside() {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let remote = format!("0.0.0.0:{}", free());
        let refused = bind(&remote).unwrap_err();
        assert!(matches!(refused, ListenError::Setting(settings::ListenError::Remote { .. })));
        let allowed = Metrics { listen: remote, allow_remote: true, ..Metrics::default() };
        assert!(Listener::bind(&allowed).unwrap().is_some());
        for local in ["127.0.0.1", "localhost"] {
            assert!(bind(&format!("{local}:{}", free())).unwrap().is_some(), "{local}");
        }
        assert!(bind("").unwrap().is_none());
    }

    #[test]
    fn a_taken_port_says_so() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(&first.local_addr().unwrap().to_string()).unwrap_err();
        assert!(matches!(error, ListenError::Taken(_)), "{error}");
        assert!(error.to_string().contains("choose another"));
    }

    #[test]
    fn an_old_socket_makes_room_and_a_living_one_or_a_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        let listen = format!("unix:{}", path.display());
        let living = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&listen), Err(ListenError::Taken(_))));
        drop(living);
        let bound = bind(&listen).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(bound);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&listen), Err(ListenError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let nowhere = bind("unix:/nonexistent/m.sock").unwrap_err();
        assert!(matches!(nowhere, ListenError::Refused { .. }));
    }
}
