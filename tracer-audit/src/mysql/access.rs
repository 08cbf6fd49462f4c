//! A login of root without limits: who gets it gets all memory that the server can take, and all data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::option_file::{self, What};
use super::reader::Given;
use super::server::Server;
use crate::origin::{Notes, Origin};
use crate::report::{Change, Finding, Severity, Subject};
use crate::root::Root;

/// Groups that a client reads.
const CLIENT_GROUPS: [&str; 7] = [
    "client",
    "client-mariadb",
    "client-server",
    "mariadb-client",
    "mysql",
    "mysqladmin",
    "mysqldump",
];

/// Most home folders that are looked into.
const MAX_HOMES: usize = 200;

/// A file that lets somebody in as root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The line.
    pub at: Origin,
    /// What it does.
    pub how: How,
}

/// How a file lets somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A client's file that has `user=root` with an empty password.
    EmptyPassword,
    /// One that has `user=root` and no password, and is not root's own: the socket would let root in, but
    /// nobody else.
    NoPassword,
    /// SQL that a server runs at its start, and that gives root an empty password.
    InitEmpties,
    /// SQL that lets root come from everywhere.
    InitOpens,
}

/// Looks into option files of clients and the servers' `init_file`. Debian's /etc/mysql/debian.cnf is read by
/// nobody but its own scripts, as root: it is left out.
pub fn logins(root: &Root, servers: &[Server], notes: &mut Notes) -> Vec<Login> {
    let mut logins = Vec::new();
    for server in servers {
        let mut files: BTreeMap<&Arc<Path>, Vec<&Given>> = BTreeMap::new();
        for given in &server.reading.given {
            files.entry(&given.at.file).or_default().push(given);
        }
        for given in files.values() {
            let given = given.iter();
            let lines = given.map(|given| (&*given.group, given.option.as_str(), given.at.clone()));
            logins.extend(client(lines, false));
        }
        if let Some(path) = server.settings.text("init-file") {
            logins.extend(init_file(root, &Path::new("/").join(path), notes));
        }
    }
    for home in homes(root) {
        let path = home.join(".my.cnf");
        let Ok(bytes) = root.read(&path) else { continue };
        let file: Arc<Path> = Arc::from(path);
        let mut group = String::new();
        let mut lines = Vec::new();
        for entry in option_file::parse(&bytes) {
            match entry.what {
                What::Group(name) => group = name,
                What::Option(option) => {
                    lines.push((group.clone(), option, Origin::new(&file, entry.line)));
                }
                _ => {}
            }
        }
        let lines = lines.iter().map(|(group, option, at)| (&**group, &**option, at.clone()));
        logins.extend(client(lines, home == Path::new("/root")));
    }
    logins.sort_by(|a, b| a.at.cmp(&b.at));
    logins.dedup();
    logins
}

/// What the options of one file come to for a client, the last of each kind counting.
fn client<'a>(
    lines: impl Iterator<Item = (&'a str, &'a str, Origin)>,
    roots_own: bool,
) -> Option<Login> {
    let (mut user, mut password) = (None, None);
    for (group, option, at) in lines {
        if !CLIENT_GROUPS.iter().any(|name| name.eq_ignore_ascii_case(group)) {
            continue;
        }
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match name.to_ascii_lowercase().replace('-', "_").trim_start_matches("loose_") {
            "user" => user = Some((value.unwrap_or_default(), at)),
            // Without a value the client asks for it.
            "password" => password = Some((value.is_none_or(|value| !value.is_empty()), at)),
            "skip_password" => password = Some((false, at)),
            _ => {}
        }
    }
    let (_, at) = user.filter(|(user, _)| *user == "root")?;
    match password {
        Some((true, _)) => None,
        Some((false, at)) => Some(Login { at, how: How::EmptyPassword }),
        None => (!roots_own).then_some(Login { at, how: How::NoPassword }),
    }
}

fn init_file(root: &Root, path: &Path, notes: &mut Notes) -> Vec<Login> {
    let text = match root.text(path) {
        Ok(text) => text.to_ascii_lowercase(),
        Err(error) => {
            notes.unread(&error);
            return Vec::new();
        }
    };
    let file: Arc<Path> = Arc::from(path);
    let mut logins = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.replace(['"', '`'], "'");
        let takes_away = |line: &str| {
            ["#", "-", "drop", "revoke", "delete"].iter().any(|start| line.starts_with(start))
        };
        if !line.contains("root") || takes_away(line.trim_start()) {
            continue;
        }
        let at = Origin::new(&file, number);
        if ["identified by ''", "password('')", "authentication_string=''"]
            .iter()
            .any(|empty| line.contains(empty))
        {
            logins.push(Login { at, how: How::InitEmpties });
        } else if line.contains("'root'@'%'") || line.contains("root@'%'") {
            logins.push(Login { at, how: How::InitOpens });
        }
    }
    logins
}

fn homes(root: &Root) -> Vec<PathBuf> {
    let passwd = root.text(Path::new("/etc/passwd")).unwrap_or_default();
    let homes = passwd.lines().filter_map(|line| line.split(':').nth(5)).map(PathBuf::from);
    let mut homes: BTreeSet<PathBuf> =
        homes.filter(|home| home.is_absolute()).take(MAX_HOMES).collect();
    homes.insert("/root".into());
    homes.into_iter().collect()
}

impl Login {
    /// What is wrong with it.
    pub fn finding(&self) -> Finding {
        let (kind, severity, what) = match self.how {
            How::EmptyPassword => (
                "mysql_root_without_password",
                Severity::Warning,
                "logs clients in as root with an empty password: it works only where root has none",
            ),
            How::NoPassword => (
                "mysql_client_is_root",
                Severity::Info,
                "logs clients in as root without a password: others than root get in only where root \
                 has none",
            ),
            How::InitEmpties => (
                "mysql_root_without_password",
                Severity::Warning,
                "takes root's password away at every start of the server",
            ),
            How::InitOpens => (
                "mysql_root_from_everywhere",
                Severity::Warning,
                "lets root in from every host at every start of the server",
            ),
        };
        let mut finding = Finding::new(
            kind,
            severity,
            Subject::Mysql,
            "root",
            format!("{} {what}", self.at),
            WHY,
        );
        finding.at = Some(self.at.clone());
        finding
    }
}

const WHY: &str = "Any process of the host that is taken over reads and deletes all data, and no limit of \
    connections or memory holds for root; mariadb-secure-installation closes it.";

/// What `server` itself lets in.
pub fn judge(server: &Server) -> Vec<Finding> {
    let address = server.listens_on();
    let mut findings = Vec::new();
    if let Some(set) = server.settings.on("skip-grant-tables") {
        let (severity, from) = match &address {
            Some(address) => {
                (Severity::Critical, format!("from every host that reaches {address}"))
            }
            None => (Severity::Warning, "from every process of the host".to_owned()),
        };
        let mut finding = Finding::new(
            "mysql_skip_grant_tables",
            severity,
            Subject::Mysql,
            &server.name,
            format!("{} asks nobody for a password: everybody is root, {from}", server.name),
            WHY,
        );
        finding.at = set.at.clone();
        finding.change = set.at.as_ref().and_then(|at| {
            let from = server.line_at(at)?;
            Some(Change::replace(at.clone(), from, format!("#{from}")))
        });
        findings.push(finding);
    } else if let Some(address) = &address {
        let set = server.settings.texts.get("bind-address");
        let mut finding = Finding::new(
            "mysql_listens",
            Severity::Info,
            Subject::Mysql,
            &server.name,
            format!("{} listens on {address}: other hosts may reach it", server.name),
            "Where only programs of this host use it, bind-address=127.0.0.1 keeps others out.",
        );
        finding.at = set.and_then(|set| set.at.clone());
        findings.push(finding);
    }
    let accounts = server.answer.iter().flat_map(|answer| &answer.roots);
    for account in accounts {
        let local = matches!(account.host.as_str(), "localhost" | "127.0.0.1" | "::1");
        // No host is every host.
        let wild = account.host.is_empty() || account.host.contains(['%', '_']);
        let host: String = account.host.chars().filter(|c| !c.is_control()).take(60).collect();
        let (kind, severity, what) = match (account.open, local, &address) {
            (true, false, Some(_)) => {
                ("mysql_root_without_password", Severity::Critical, "has no password")
            }
            (true, ..) => ("mysql_root_without_password", Severity::Warning, "has no password"),
            (false, false, Some(_)) if wild => {
                ("mysql_root_from_everywhere", Severity::Warning, "may come from other hosts")
            }
            _ => continue,
        };
        let mut finding = Finding::new(
            kind,
            severity,
            Subject::Mysql,
            &server.name,
            format!("root@{host} of {} {what}", server.name),
            WHY,
        );
        finding.at = address
            .as_ref()
            .filter(|_| !local)
            .and_then(|_| server.settings.texts.get("bind-address")?.at.clone());
        findings.push(finding);
    }
    findings
}
