//! Where a web server hands requests to PHP-FPM, and whether a pool listens there.

/// An address as one side writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// A path.
    Unix(String),
    /// A TCP port of this host: one that is listened on at all addresses, or at the loopback's.
    Port(u16),
    /// Any other address and port, which need not be this host's.
    Other(String, u16),
}

impl Socket {
    /// `listen` of a pool: a path, `9000`, `127.0.0.1:9000` or `[::]:9000`.
    pub fn of_pool(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Some(Self::unix(text));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        Self::tcp(host, port)
    }

    /// nginx's fastcgi_pass, or a server of an upstream.
    pub fn of_nginx(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Self::unix(path.trim_end_matches(':'))),
            None => {
                let (host, port) = text.rsplit_once(':')?;
                (!host.is_empty()).then(|| Self::tcp(host, port))?
            }
        }
    }

    /// A handler or target of Apache: `proxy:unix:/run/php.sock|fcgi://localhost` or `fcgi://127.0.0.1:9000/`.
    pub fn of_apache(args: &str) -> Option<Self> {
        if let Some((_, rest)) = args.split_once("unix:")
            && let Some((path, target)) = rest.split_once('|')
        {
            return target.starts_with("fcgi:").then(|| Self::unix(path));
        }
        let (_, rest) = args.split_once("fcgi://")?;
        let end =
            rest.find(|letter: char| matches!(letter, '/' | '"' | '\'') || letter.is_whitespace());
        let host = &rest[..end.unwrap_or(rest.len())];
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "8000"));
        Self::tcp(host, port)
    }

    fn tcp(host: &str, port: &str) -> Option<Self> {
        let port = port.parse().ok()?;
        let all = ["", "*", "0.0.0.0", "[::]", "localhost", "[::1]"];
        Some(match all.contains(&host) || host.starts_with("127.") {
            true => Self::Port(port),
            false => Self::Other(host.to_owned(), port),
        })
    }

    fn unix(path: &str) -> Self {
        // Debian's /var/run is a link to /run.
        match path.strip_prefix("/var/run/") {
            Some(rest) => Self::Unix(format!("/run/{rest}")),
            None => Self::Unix(path.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Socket;

    #[test]
    fn both_sides_meet() {
        let pool = |text| Socket::of_pool(text).unwrap();
        assert_eq!(pool("/run/php.sock"), Socket::of_nginx("unix:/var/run/php.sock").unwrap());
        assert_eq!(
            pool("/var/run/php.sock"),
            Socket::of_apache("\"proxy:unix:/run/php.sock|fcgi://localhost\"").unwrap()
        );
        assert_eq!(pool("9000"), Socket::of_nginx("127.0.0.1:9000").unwrap());
        assert_eq!(
            pool("[::1]:9000"),
            Socket::of_apache("^/(.*) fcgi://localhost:9000/www/$1").unwrap()
        );
        assert_eq!(pool("9000"), Socket::of_apache("fcgi://localhost:9000").unwrap());
        assert_eq!(pool("10.0.0.5:9000"), Socket::of_nginx("10.0.0.5:9000").unwrap());
        assert_ne!(pool("9000"), Socket::of_nginx("php.example.com:9000").unwrap());
        assert_eq!(pool("8000"), Socket::of_apache("fcgi://[::1]:8000/").unwrap());
        assert_eq!(Socket::of_nginx("php"), None);
        assert_eq!(Socket::of_apache("proxy:unix:/x|http://localhost"), None);
        assert_eq!(Socket::of_pool("x"), None);
    }
}
