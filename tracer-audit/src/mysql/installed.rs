//! Which server is installed, MariaDB or MySQL, and of which version; and which groups it reads for that.

use std::path::{Path, PathBuf};

use crate::dpkg;
use crate::origin::Notes;
use crate::root::Root;

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// MariaDB.
    Mariadb,
    /// MySQL, or Percona's.
    Mysql,
}

impl Flavour {
    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mariadb => "MariaDB",
            Self::Mysql => "MySQL",
        }
    }
}

/// A version as far as groups and defaults depend on it: `10.11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// `10`.
    pub major: u16,
    /// `11`.
    pub minor: u16,
}

impl Version {
    /// `major.minor`.
    pub fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// From `10.11.19-0+deb12u1`, or `8.0.36`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        Some(Self::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// A server that could be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whose it is.
    pub flavour: Flavour,
    /// Its version; None where no package manager tells it.
    pub version: Option<Version>,
    /// Its program; None where only the package manager knows it.
    pub program: Option<PathBuf>,
}

const PROGRAMS: [&str; 7] = [
    "/usr/sbin/mariadbd",
    "/usr/libexec/mariadbd",
    "/usr/bin/mariadbd",
    "/usr/sbin/mysqld",
    "/usr/libexec/mysqld",
    "/usr/local/mysql/bin/mysqld",
    "/usr/local/sbin/mysqld",
];

/// What only MariaDB brings along.
const MARIADB_SIGNS: [&str; 3] =
    ["/usr/bin/mariadb", "/usr/share/mariadb", "/etc/mysql/mariadb.cnf"];

/// The server below `root`, by dpkg's list and by its program; None where there is none.
pub fn find(root: &Root, notes: &mut Notes) -> Option<Installed> {
    let program = PROGRAMS.iter().map(PathBuf::from).find(|path| root.exists(path));
    let list = dpkg::list(root, notes);
    if let Some((flavour, version)) = package(&list) {
        return Some(Installed { flavour, version, program });
    }
    let program = program?;
    let mariadb = program.ends_with("mariadbd")
        || MARIADB_SIGNS.iter().any(|path| root.exists(Path::new(path)));
    let flavour = if mariadb { Flavour::Mariadb } else { Flavour::Mysql };
    Some(Installed { flavour, version: None, program: Some(program) })
}

/// The groups that a server reads, of those of its version.
pub fn groups(flavour: Flavour, version: Option<Version>, suffix: Option<&str>) -> Vec<String> {
    let names: &[&str] = match flavour {
        Flavour::Mariadb => &[
            "mysqld",
            "server",
            "mysqld-",
            "mariadb",
            "mariadb-",
            "mariadbd",
            "mariadbd-",
            "client-server",
            "galera",
        ],
        Flavour::Mysql => &["mysqld", "server", "mysqld-"],
    };
    let mut groups: Vec<String> = names
        .iter()
        .filter_map(|name| match (name.ends_with('-'), version) {
            (false, _) => Some((*name).to_owned()),
            (true, Some(Version { major, minor })) => Some(format!("{name}{major}.{minor}")),
            (true, None) => None,
        })
        .collect();
    if let Some(suffix) = suffix {
        let more: Vec<String> = groups.iter().map(|name| format!("{name}{suffix}")).collect();
        groups.extend(more);
    }
    groups
}

fn package(list: &str) -> Option<(Flavour, Option<Version>)> {
    dpkg::installed(list)
        .find_map(|(name, version)| Some((flavour(name)?, Version::parse(version))))
}

fn flavour(package: &str) -> Option<Flavour> {
    let of = |name: &str| {
        package.strip_prefix(name).is_some_and(|rest| {
            let rest = rest.strip_prefix("-core").unwrap_or(rest);
            rest.is_empty() || rest.strip_prefix('-').is_some_and(|v| Version::parse(v).is_some())
        })
    };
    if of("mariadb-server") {
        Some(Flavour::Mariadb)
    } else if of("mysql-server") || of("mysql-community-server") || of("percona-server-server") {
        Some(Flavour::Mysql)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_tell_the_version() {
        let status = |name: &str, state: &str, version: &str| {
            format!("Package: {name}\nStatus: {state}\nVersion: {version}\n\n")
        };
        let found = |text: &str| package(text);
        let mariadb = status("mariadb-server-core", "install ok installed", "1:10.11.19-0+deb12u1");
        assert_eq!(found(&mariadb), Some((Flavour::Mariadb, Some(Version::new(10, 11)))));
        let mysql = status("mysql-server-core-8.0", "hold ok installed", "8.0.36-0ubuntu0.22.04.1");
        assert_eq!(found(&mysql), Some((Flavour::Mysql, Some(Version::new(8, 0)))));
        let old = status("mariadb-server-10.5", "deinstall ok config-files", "1:10.5.1");
        assert_eq!(found(&old), None);
        assert_eq!(found(&status("mysql-server-tools", "install ok installed", "1.0")), None);
        assert_eq!(found(&(old + &mariadb)), Some((Flavour::Mariadb, Some(Version::new(10, 11)))));
    }

    #[test]
    fn groups_are_those_of_the_version() {
        assert_eq!(
            groups(Flavour::Mariadb, Some(Version::new(10, 11)), None).join(" "),
            "mysqld server mysqld-10.11 mariadb mariadb-10.11 mariadbd mariadbd-10.11 \
             client-server galera"
        );
        assert_eq!(
            groups(Flavour::Mysql, None, Some(".1")).join(" "),
            "mysqld server mysqld.1 server.1"
        );
    }

    #[test]
    fn a_program_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        assert_eq!(find(&root, &mut Notes::default()), None);
        std::fs::create_dir_all(folder.path().join("usr/sbin")).unwrap();
        std::fs::write(folder.path().join("usr/sbin/mysqld"), "").unwrap();
        let found = find(&root, &mut Notes::default()).unwrap();
        assert_eq!((found.flavour, found.version), (Flavour::Mysql, None));
    }
}
