//! Asks a running redis what is in force, over its unix socket or the loopback: INFO and CONFIG GET, nothing that
//! changes anything. How long it may take and say is bounded.
//!
//! The password of its own file is sent only to a process whose user may read that file anyhow. Who answers must be
//! the process itself: at its address there may be another one by now.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Longest time that all instances get for their answers.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// Longest time that one of them gets.
const PATIENCE: Duration = Duration::from_millis(300);

/// Most bytes of all answers of one: INFO of its server takes two thousand.
const MAX_BYTES: u64 = 64 << 10;

/// Most parts of an answer: name and value of what CONFIG GET finds.
const MAX_PARTS: usize = 64;

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `maxmemory`, bytes; zero is no limit.
    pub maxmemory_bytes: u64,
    /// `maxmemory-policy`.
    pub policy: String,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Socket(PathBuf),
    /// A port of this host.
    Port(SocketAddr),
}

/// Why it was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or says anything in time.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It wants a password, which is not known, or not to be sent.
    #[error("it asks for a password")]
    Password,
    /// CONFIG or INFO has another name, or this user may not use it.
    #[error("it refuses CONFIG GET or INFO")]
    Refused,
    /// Another process listens there.
    #[error("another process answers there")]
    Other,
}

impl Address {
    /// The loopback's port `port` for a redis that is bound to `host`; None where it is bound to a network only.
    pub fn port(host: &str, port: u16) -> Option<Self> {
        // `-` before it: not to have the address is no error.
        let host = host.strip_prefix('-').unwrap_or(host);
        let ip = match host {
            "*" | "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => match host.parse::<IpAddr>().ok()? {
                ip if ip.is_loopback() => ip,
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
                _ => return None,
            },
        };
        (port > 0).then(|| Self::Port(SocketAddr::new(ip, port)))
    }

    fn connect(&self, until: Instant) -> io::Result<Timed> {
        let stream = match self {
            Self::Socket(path) => Stream::Socket(connect(path)?),
            Self::Port(address) => {
                Stream::Port(TcpStream::connect_timeout(address, remaining(until)?)?)
            }
        };
        Ok(Timed { stream, until })
    }
}

/// Like [`UnixStream::connect`], but a server that takes nobody in any more is an error at once.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Asks the process `tgid` at `address`, until `until` at the latest.
///
/// # Errors
///
/// See [`AskError`].
pub fn ask(
    address: &Address,
    tgid: u32,
    password: Option<&str>,
    until: Instant,
) -> Result<Answer, AskError> {
    let mut stream = address.connect(until.min(Instant::now() + PATIENCE))?;
    let login = password.map(|password| ["AUTH", password]);
    let mut text = Vec::new();
    login.iter().for_each(|words| command(&mut text, words));
    command(&mut text, &["INFO", "server"]);
    command(&mut text, &["CONFIG", "GET", "maxmemory*"]);
    stream.write_all(&text)?;
    let mut answers = BufReader::new(stream).take(MAX_BYTES);
    if login.is_some() {
        // What is wrong with it the next answer says.
        reply(&mut answers, 0)?;
    }
    let process = format!("process_id:{tgid}");
    match reply(&mut answers, 0)? {
        Reply::Text(info) if info.lines().any(|line| line == process) => {}
        Reply::Text(_) => return Err(AskError::Other),
        other => return Err(other.error()),
    }
    let pairs = match reply(&mut answers, 0)? {
        Reply::List(pairs) => pairs,
        other => return Err(other.error()),
    };
    let value = |name: &str| {
        pairs.chunks_exact(2).find_map(|pair| match pair {
            [Reply::Text(key), Reply::Text(value)] if key == name => Some(value.as_str()),
            _ => None,
        })
    };
    // Only what can be the name of one, as it is shown.
    let is_name = |name: &&str| {
        name.len() < 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let policy = value("maxmemory-policy").filter(is_name).map(str::to_owned);
    let limit = value("maxmemory").and_then(|value| value.parse().ok());
    limit.zip(policy).map_or(Err(AskError::Refused), |(maxmemory_bytes, policy)| {
        Ok(Answer { maxmemory_bytes, policy })
    })
}

fn command(text: &mut Vec<u8>, words: &[&str]) {
    text.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        text.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Error(String),
    List(Vec<Reply>),
    Nothing,
}

impl Reply {
    fn error(self) -> AskError {
        match self {
            Self::Error(text) if text.starts_with("NOAUTH") || text.starts_with("WRONGPASS") => {
                AskError::Password
            }
            _ => AskError::Refused,
        }
    }
}

/// One answer, as RESP2 writes it. Lists do not hold lists.
fn reply(from: &mut impl BufRead, depth: u32) -> io::Result<Reply> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "this is no answer of a redis");
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\r\n").ok_or_else(broken)?;
    let line = String::from_utf8_lossy(line);
    let (kind, rest) = line.split_at_checked(1).ok_or_else(broken)?;
    let size = || rest.parse::<i64>().map_err(|_| broken());
    match kind {
        "+" | ":" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        "$" => {
            let Ok(size) = u64::try_from(size()?) else { return Ok(Reply::Nothing) };
            if size > MAX_BYTES {
                return Err(broken());
            }
            let mut bytes = Vec::new();
            Read::take(from, size + 2).read_to_end(&mut bytes)?;
            let text = bytes.strip_suffix(b"\r\n").filter(|text| text.len() as u64 == size);
            Ok(Reply::Text(String::from_utf8_lossy(text.ok_or_else(broken)?).into_owned()))
        }
        "*" if depth == 0 => {
            let Ok(parts) = usize::try_from(size()?) else { return Ok(Reply::Nothing) };
            if parts > MAX_PARTS {
                return Err(broken());
            }
            Ok(Reply::List((0..parts).map(|_| reply(from, 1)).collect::<io::Result<_>>()?))
        }
        _ => Err(broken()),
    }
}

enum Stream {
    Socket(UnixStream),
    Port(TcpStream),
}

/// A stream whose every step is over in time.
struct Timed {
    stream: Stream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let time = Some(remaining(self.until)?);
        let read = match &mut self.stream {
            Stream::Socket(stream) => {
                stream.set_read_timeout(time)?;
                stream.read(buffer)
            }
            Stream::Port(stream) => {
                stream.set_read_timeout(time)?;
                stream.read(buffer)
            }
        };
        read.map_err(|error| if error.kind() == io::ErrorKind::WouldBlock { late() } else { error })
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let time = Some(remaining(self.until)?);
        match &mut self.stream {
            Stream::Socket(stream) => {
                stream.set_write_timeout(time)?;
                stream.write(bytes)
            }
            Stream::Port(stream) => {
                stream.set_write_timeout(time)?;
                stream.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn remaining(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What a server that says `text` to everything has answered to `tgid` 7, and what it was told.
    fn told(text: &'static [u8], password: Option<&str>) -> (Result<Answer, AskError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 1000];
            let size = stream.read(&mut question).unwrap();
            stream.write_all(text).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            String::from_utf8_lossy(&question[..size]).into_owned()
        });
        let answer = ask(&Address::Socket(path), 7, password, Instant::now() + DEADLINE);
        (answer, server.join().unwrap())
    }

    const INFO: &str = "$14\r\nprocess_id:7\r\n\r\n";

    #[test]
    fn what_is_in_force_is_read() {
        let text = b"+OK\r\n$14\r\nprocess_id:7\r\n\r\n*6\r\n$9\r\nmaxmemory\r\n$3\r\n100\r\n\
            $16\r\nmaxmemory-policy\r\n$11\r\nallkeys-lru\r\n$17\r\nmaxmemory-samples\r\n$1\r\n5\r\n";
        let (answer, question) = told(text, Some("a b"));
        let expected = Answer { maxmemory_bytes: 100, policy: "allkeys-lru".to_owned() };
        assert_eq!(answer.unwrap(), expected);
        assert_eq!(
            question,
            "*2\r\n$4\r\nAUTH\r\n$3\r\na b\r\n*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n\
             *3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$10\r\nmaxmemory*\r\n"
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let error = |text: &'static [u8]| told(text, None).0.unwrap_err().to_string();
        assert_eq!(error(b"-NOAUTH Authentication required.\r\n"), "it asks for a password");
        assert_eq!(error(b"-ERR unknown command\r\n"), AskError::Refused.to_string());
        assert_eq!(error(b"$14\r\nprocess_id:8\r\n\r\n"), AskError::Other.to_string());
        for text in [
            &b"nonsense\r\n"[..],
            b"\r\n",
            b"+OK",
            b"$99999999999\r\n",
            b"$x\r\n",
            b"$5\r\nab\r\n",
            b"*1\r\n*1\r\n+x\r\n",
            b"*65\r\n",
            b"\xff\xff\r\n",
        ] {
            let (answer, _) = told(text, None);
            assert!(matches!(answer, Err(AskError::Io(_) | AskError::Refused)), "{answer:?}");
        }
        let text = format!("{INFO}*4\r\n+maxmemory\r\n+x\r\n+maxmemory-policy\r\n+noeviction\r\n");
        assert!(matches!(told(text.leak().as_bytes(), None).0, Err(AskError::Refused)));
    }

    #[test]
    fn who_says_nothing_is_waited_for_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let started = Instant::now();
        let ask = |until| ask(&Address::Socket(path.clone()), 7, None, until).unwrap_err();
        assert!(matches!(ask(started + DEADLINE), AskError::Io(_)));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(matches!(ask(started), AskError::Io(_)));
    }

    #[test]
    fn only_this_host_is_asked() {
        let port = |host: &str| Address::port(host, 6379);
        let local = Address::Port("127.0.0.1:6379".parse().unwrap());
        for host in ["*", "0.0.0.0", "127.0.0.1", "localhost"] {
            assert_eq!(port(host), Some(local.clone()), "{host}");
        }
        assert_eq!(port("-::1"), Some(Address::Port("[::1]:6379".parse().unwrap())));
        assert_eq!(port("::"), port("::1"));
        assert_eq!((port("10.0.0.1"), port("a.b"), Address::port("*", 0)), (None, None, None));
    }
}
