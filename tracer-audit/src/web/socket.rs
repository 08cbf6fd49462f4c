//! Where a web server hands requests to PHP-FPM, and whether a pool listens there.

/// An address as one side writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// A path.
    Unix(String),
    /// A TCP port; the host is not compared, since a pool may listen on all.
    Port(u16),
}

impl Socket {
    /// `listen` of a pool: a path, `9000`, `127.0.0.1:9000` or `[::]:9000`.
    pub fn of_pool(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Some(Self::unix(text));
        }
        let port = text.rsplit_once(':').map_or(text, |(_, port)| port);
        port.parse().ok().map(Self::Port)
    }

    /// nginx's fastcgi_pass, or a server of an upstream.
    pub fn of_nginx(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Self::unix(path.trim_end_matches(':'))),
            None => {
                let (host, port) = text.rsplit_once(':')?;
                (!host.is_empty()).then(|| port.parse().ok().map(Self::Port))?
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
        let port = host.rsplit_once(':').map_or("8000", |(_, port)| port);
        port.parse().ok().map(Self::Port)
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
        assert_eq!(Socket::of_nginx("php"), None);
        assert_eq!(Socket::of_apache("proxy:unix:/x|http://localhost"), None);
        assert_eq!(Socket::of_pool("x"), None);
    }
}
