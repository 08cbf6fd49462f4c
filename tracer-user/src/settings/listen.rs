//! Where the metrics are served: `metrics.listen`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Metrics;
use super::value::quoted;

/// Longest path of a socket: `sun_path` with its NUL.
const MOST_PATH_BYTES: usize = 107;

/// Where the metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why `metrics.listen` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ListenError {
    #[error(
        "`{}` is no address: write \"127.0.0.1:9754\", \"[::1]:9754\", \
         \"unix:/run/rampage/metrics.sock\", or \"\" for nowhere",
        quoted(text)
    )]
    NoAddress { text: String },
    #[error(
        "names are not looked up: write an address for `{}`, such as \"127.0.0.1:9754\"",
        quoted(text)
    )]
    HostName { text: String },
    #[error("needs a port from 1 to 65535, such as \"127.0.0.1:9754\"")]
    NoPort,
    #[error("the path of a socket must be whole and at most {MOST_PATH_BYTES} bytes long")]
    SocketPath,
    #[error(
        "other hosts can reach {address}, without encryption and password: write allow_remote = true \
         if that is meant, or \"127.0.0.1:{}\"",
        address.port()
    )]
    Remote { address: SocketAddr },
}

impl Metrics {
    /// Where to listen; None = nowhere. An address that other hosts can reach is an error unless it is
    /// allowed.
    pub fn endpoint(&self) -> Result<Option<Endpoint>, ListenError> {
        let text = self.listen.as_str();
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let is_whole = Path::new(path).file_name().is_some() && path.starts_with('/');
            return match is_whole && path.len() <= MOST_PATH_BYTES {
                true => Ok(Some(Endpoint::Unix(path.into()))),
                false => Err(ListenError::SocketPath),
            };
        }
        let address = address(text)?;
        if address.port() == 0 {
            return Err(ListenError::NoPort);
        }
        if !self.allow_remote && !address.ip().to_canonical().is_loopback() {
            return Err(ListenError::Remote { address });
        }
        Ok(Some(Endpoint::Tcp(address)))
    }
}

fn address(text: &str) -> Result<SocketAddr, ListenError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text.trim_matches(['[', ']']);
    if bare.parse::<IpAddr>().is_ok() || bare == "localhost" {
        return Err(ListenError::NoPort);
    }
    match text.rsplit_once(':') {
        Some(("localhost", port)) => match port.parse() {
            Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
            Err(_) => Err(ListenError::NoPort),
        },
        Some((host, _)) if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) => {
            Err(ListenError::NoPort)
        }
        Some((host, port)) if is_host_name(host) && port.parse::<u16>().is_ok() => {
            Err(ListenError::HostName { text: text.to_owned() })
        }
        _ => Err(ListenError::NoAddress { text: text.to_owned() }),
    }
}

fn is_host_name(text: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    text.chars().all(is_fit) && text.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(listen: &str, allow_remote: bool) -> Result<Option<Endpoint>, ListenError> {
        Metrics { listen: listen.to_owned(), allow_remote, ..Metrics::default() }.endpoint()
    }

    #[test]
    fn only_this_host_unless_it_is_said_in_so_many_words() {
        for text in ["127.0.0.1:9754", "127.8.9.1:1", "[::1]:9754", "[::ffff:127.0.0.1]:9754"] {
            let address = text.parse().unwrap();
            assert_eq!(endpoint(text, false), Ok(Some(Endpoint::Tcp(address))), "{text}");
        }
        let local = Endpoint::Tcp(([127, 0, 0, 1], 80).into());
        assert_eq!(endpoint("localhost:80", false), Ok(Some(local)));
        for text in ["0.0.0.0:9754", "[::]:9754", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let address = text.parse().unwrap();
            assert_eq!(endpoint(text, false), Err(ListenError::Remote { address }), "{text}");
            assert_eq!(endpoint(text, true), Ok(Some(Endpoint::Tcp(address))), "{text}");
        }
    }

    #[test]
    fn sockets_have_a_whole_path() {
        let path = "/run/rampage/metrics.sock";
        let unix = Endpoint::Unix(path.into());
        assert_eq!(endpoint(&format!("unix:{path}"), false), Ok(Some(unix)));
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["unix:", "unix:metrics.sock", "unix:/", "unix:/a/..", &long] {
            assert_eq!(endpoint(text, false), Err(ListenError::SocketPath), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        assert_eq!(endpoint("", false), Ok(None));
        let bad = ["127.0.0.1", "[::1]", "::1", "localhost", "localhost:x", "127.0.0.1:0"];
        for text in bad.into_iter().chain(["127.0.0.1:65536", "127.0.0.1:"]) {
            assert_eq!(endpoint(text, true), Err(ListenError::NoPort), "{text}");
        }
        for text in ["metrics.example.org:80", "localhost.:80"] {
            assert!(matches!(endpoint(text, true), Err(ListenError::HostName { .. })), "{text}");
        }
        for text in [":9754", "9754", "http://127.0.0.1:1", "a b:1", "[::1", "tcp:1:2", "\0:1"] {
            assert!(matches!(endpoint(text, true), Err(ListenError::NoAddress { .. })), "{text}");
        }
    }
}
