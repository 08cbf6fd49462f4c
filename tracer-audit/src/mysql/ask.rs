//! Asks a running server for what is in force, over its local socket, where peer authentication lets root in.
//!
//! The client of the server's own package is run, for at most [`DEADLINE`] for all servers: without option files, so
//! that it asks nobody else, and without LOAD DATA LOCAL, so that who answers at the socket gets no file. It is
//! run only when nobody but root can have put it there.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::installed::{Flavour, Version};

/// Longest time that all servers get for their answers.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// Most bytes of an answer: what a pipe holds.
const MAX_BYTES: u64 = 64 << 10;

const QUESTIONS: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', \
    'innodb_buffer_pool_size', 'max_connections', 'bind_address', 'skip_networking'); \
    SELECT 'global_priv', Host, Priv FROM mysql.global_priv WHERE User = 'root' LIMIT 50; \
    SELECT 'user', Host, plugin, LENGTH(authentication_string), account_locked FROM mysql.user \
    WHERE User = 'root' LIMIT 50";

/// What a server said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `10.11.19-MariaDB-0+deb12u1`.
    pub version: Option<String>,
    /// The buffer pool, bytes.
    pub pool_bytes: Option<u64>,
    /// How many clients it lets in.
    pub max_connections: Option<u64>,
    /// Whether it listens on no network at all.
    pub skip_networking: Option<bool>,
    /// Where it listens.
    pub bind_address: Option<String>,
    /// Every account of root.
    pub roots: Vec<Account>,
}

impl Answer {
    /// Whose server it is, and of which version: `10.11.19-MariaDB-0+deb12u1`, `8.0.36`.
    pub fn flavour_and_version(&self) -> Option<(Flavour, Option<Version>)> {
        let text = self.version.as_deref()?;
        let flavour = if text.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
        Some((flavour, Some(Version::parse(text)?)))
    }
}

/// An account of root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// From where it may come: `localhost`, `%`.
    pub host: String,
    /// Whether no password is asked for.
    pub open: bool,
}

/// Why a server was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// None that only root can have put there.
    #[error("there is no client beside the server that belongs to root alone")]
    NoClient,
    /// It could not be run.
    #[error("{}: {source}", .path.display())]
    Run {
        /// The client.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It was ended.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
    /// It does not let root in, or nobody is there.
    #[error("root is not let in without a password")]
    Refused,
}

/// Asks the server of the program `server` at `socket`, until `until` at the latest.
///
/// # Errors
///
/// See [`AskError`].
pub fn ask(server: &Path, socket: &Path, until: Instant) -> Result<Answer, AskError> {
    if Instant::now() >= until {
        return Err(AskError::Late);
    }
    let client = client(server).ok_or(AskError::NoClient)?;
    let failed = |source| AskError::Run { path: client.clone(), source };
    let mut socket_flag = std::ffi::OsString::from("--socket=");
    socket_flag.push(socket);
    let child = Command::new(&client)
        .arg("--no-defaults")
        .arg(socket_flag)
        .args(["--user=root", "--batch", "--raw", "--skip-column-names", "--quick", "--force"])
        .args(["--local-infile=0", "--connect-timeout=1", "-e", QUESTIONS])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let answer = parse(&output(child, until).map_err(failed)?.ok_or(AskError::Late)?);
    if answer == Answer::default() { Err(AskError::Refused) } else { Ok(answer) }
}

/// All that `child` writes; None where it did not end in time, and was ended.
fn output(mut child: Child, deadline: Instant) -> std::io::Result<Option<String>> {
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            other => {
                child.kill()?;
                child.wait()?;
                return other.map(|_| None);
            }
        }
    }
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_BYTES).read_to_end(&mut bytes)?;
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The client beside the server.
fn client(server: &Path) -> Option<PathBuf> {
    let folder = server.parent()?;
    let folders = [folder.to_path_buf(), folder.parent()?.join("bin")];
    let names =
        folders.iter().flat_map(|folder| ["mariadb", "mysql"].map(|name| folder.join(name)));
    names.filter_map(|path| path.canonicalize().ok()).find(|path| belongs_to_root(path))
}

/// Whether only root can change the file, or put another one in its place.
fn belongs_to_root(path: &Path) -> bool {
    path.ancestors().all(|part| {
        part.metadata().is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
    })
}

fn parse(text: &str) -> Answer {
    let mut answer = Answer::default();
    let mut users = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["version", value] => answer.version = Some((*value).to_owned()),
            ["innodb_buffer_pool_size", value] => answer.pool_bytes = value.parse().ok(),
            ["max_connections", value] => answer.max_connections = value.parse().ok(),
            ["skip_networking", value] => answer.skip_networking = Some(*value == "ON"),
            ["bind_address", value] => answer.bind_address = Some((*value).to_owned()),
            ["global_priv", host, rights] => {
                if let Some(open) = is_open(rights) {
                    answer.roots.push(Account { host: (*host).to_owned(), open });
                }
            }
            ["user", host, plugin, length, "N"] => {
                let open = asks_for_password(plugin) && *length == "0";
                users.push(Account { host: (*host).to_owned(), open });
            }
            _ => {}
        }
    }
    // MariaDB has both, and in the second one only the first of an account's ways in.
    if answer.roots.is_empty() {
        answer.roots = users;
    }
    answer
}

/// What MariaDB keeps of an account (sql/sql_acl.cc: User_table_json).
#[derive(Debug, Deserialize)]
struct Rights {
    #[serde(default)]
    account_locked: bool,
    #[serde(flatten)]
    first: Way,
    auth_or: Option<Vec<Way>>,
}

/// A way in. Without a plugin it is the one that stands outside the list.
#[derive(Debug, Deserialize)]
struct Way {
    plugin: Option<String>,
    authentication_string: Option<String>,
}

impl Way {
    fn is_open(&self) -> bool {
        asks_for_password(self.plugin.as_deref().unwrap_or_default())
            && self.authentication_string.as_deref().unwrap_or_default().is_empty()
    }
}

/// Whether one of its ways in asks for nothing; None for an account that is locked, or of another form.
fn is_open(rights: &str) -> Option<bool> {
    let rights: Rights = serde_json::from_str(rights).ok()?;
    if rights.account_locked {
        return None;
    }
    let first = rights.first.is_open();
    Some(match &rights.auth_or {
        None => first,
        Some(ways) => ways.iter().any(|way| match way.plugin {
            None => first,
            Some(_) => way.is_open(),
        }),
    })
}

/// Plugins that let everybody in when their password is empty.
fn asks_for_password(plugin: &str) -> bool {
    matches!(
        plugin,
        "" | "mysql_native_password"
            | "mysql_old_password"
            | "caching_sha2_password"
            | "sha256_password"
            | "ed25519"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_root_needs_the_socket() {
        let answer = parse(
            "innodb_buffer_pool_size\t134217728\nmax_connections\t151\nskip_networking\tOFF\n\
             bind_address\t127.0.0.1\nversion\t10.11.19-MariaDB\n\
             global_priv\tlocalhost\t{\"access\":18446744073709551615,\
             \"plugin\":\"mysql_native_password\",\"authentication_string\":\"invalid\",\
             \"auth_or\":[{},{\"plugin\":\"unix_socket\"}]}\n\
             user\tlocalhost\tmysql_native_password\t7\tN\n",
        );
        assert_eq!(answer.pool_bytes, Some(128 << 20));
        let version = Some(Version::new(10, 11));
        assert_eq!(answer.flavour_and_version(), Some((Flavour::Mariadb, version)));
        assert_eq!(answer.skip_networking, Some(false));
        assert_eq!(answer.roots, [Account { host: "localhost".to_owned(), open: false }]);
    }

    #[test]
    fn an_empty_password_is_seen_in_every_form() {
        assert_eq!(is_open(r#"{"access":1}"#), Some(true));
        assert_eq!(
            is_open(r#"{"plugin":"mysql_native_password","authentication_string":""}"#),
            Some(true)
        );
        assert_eq!(is_open(r#"{"plugin":"unix_socket","authentication_string":""}"#), Some(false));
        assert_eq!(
            is_open(r#"{"authentication_string":"*AB","plugin":"mysql_native_password"}"#),
            Some(false)
        );
        assert_eq!(
            is_open(
                r#"{"plugin":"mysql_native_password","auth_or":[{"plugin":"unix_socket"},{}]}"#
            ),
            Some(true)
        );
        assert_eq!(is_open(r#"{"account_locked":true}"#), None);
        assert_eq!(is_open("nonsense"), None);
        let mysql =
            parse("user\t%\tcaching_sha2_password\t0\tN\nuser\tx\tcaching_sha2_password\t70\tN\n");
        assert_eq!(mysql.roots[0], Account { host: "%".to_owned(), open: true });
        assert!(!mysql.roots[1].open);
    }

    #[test]
    fn a_client_that_hangs_is_ended() {
        let child = Command::new("sleep").arg("60").stdout(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        let deadline = started + Duration::from_millis(50);
        assert_eq!(output(child, deadline).unwrap(), None);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn only_what_belongs_to_root_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mariadb");
        std::fs::write(&path, "").unwrap();
        // The folder of temporary files is everybody's.
        assert!(!belongs_to_root(&path));
        assert!(belongs_to_root(Path::new("/usr/bin")));
        assert!(client(&folder.path().join("mariadbd")).is_none());
    }
}
