//! What the options of all files and of the command line come to: the values that count, and those that they
//! overrode.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::installed::{Flavour, Version};
use super::options::{self, Unresolved};
use super::reader::Given;
use super::variables::{self, VARIABLES, Variable};
use crate::origin::{Notes, Origin, Set};

/// The version whose options are all known: only of it can be said that it refuses one.
const LISTED: Version = Version { major: 10, minor: 11 };

/// Most lines without an option that are spoken of.
const MAX_UNKNOWN: usize = 100;

/// Options that are no numbers, and that the audit looks at.
const TEXTS: [&str; 10] = [
    "bind-address",
    "datadir",
    "init-file",
    "log-error",
    "plugin-load",
    "plugin-load-add",
    "port",
    "skip-grant-tables",
    "skip-networking",
    "socket",
];

/// A value that somebody gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What the server makes of it.
    pub value: u64,
    /// The option as it is given.
    pub option: String,
    /// Its line; None for the command line.
    pub at: Option<Origin>,
}

/// The settings of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of each variable that was given, all that was said, the one that counts last.
    pub numbers: BTreeMap<&'static str, Vec<Said>>,
    /// Of each other option what counts: None for an option without a value.
    pub texts: BTreeMap<&'static str, Set<Option<String>>>,
    /// `innodb_dedicated_server` of MySQL: the pool follows the memory.
    pub dedicated: bool,
    /// Why the server refuses to start: the first thing.
    pub refused: Option<(Option<Origin>, String)>,
    flavour: Option<Flavour>,
    version: Option<Version>,
    /// Lines that name no option.
    unknown: Vec<(Origin, String)>,
}

impl Settings {
    /// Takes the options of files that belong to `groups`, then `args`, without the server's name.
    pub fn new(
        (flavour, version): (Flavour, Option<Version>),
        given: &[Given],
        groups: &[String],
        args: &[String],
        notes: &mut Notes,
    ) -> Self {
        let mut settings = Self { flavour: Some(flavour), version, ..Self::default() };
        for given in given {
            if groups.iter().any(|group| group.eq_ignore_ascii_case(&given.group)) {
                settings.take(&given.option, Some(&given.at));
            }
        }
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(option) = arg.strip_prefix("--") else { continue };
            if option.is_empty() {
                break;
            }
            let alone = settings
                .resolve(option)
                .is_ok_and(|found| found.needs_value && found.value.is_none());
            match alone.then(|| args.next()).flatten() {
                Some(value) => settings.take(&format!("{option}={value}"), None),
                None => settings.take(option, None),
            }
        }
        settings.say_unknown(notes);
        settings
    }

    /// Takes a variable that the server itself keeps, and that counts more than what was given before.
    pub fn persist(&mut self, name: &str, value: &str, at: &Origin) {
        self.take(&format!("{name}={value}"), Some(at));
    }

    /// The value in the files and arguments, or the server's default.
    pub fn number(&self, name: &str) -> Set<u64> {
        match self.said(name).last() {
            Some(Said { value, at, .. }) => Set { value: *value, at: at.clone() },
            None => {
                let flavour = self.flavour.unwrap_or(Flavour::Mariadb);
                let default =
                    variables::find(name).map_or(0, |found| found.default(flavour, self.version));
                Set::default_of(default)
            }
        }
    }

    /// All that was said of a variable, the one that counts last.
    pub fn said(&self, name: &str) -> &[Said] {
        self.numbers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether an option without a value, or with a boolean one, is on; and where that stands.
    pub fn on(&self, name: &str) -> Option<&Set<Option<String>>> {
        self.texts.get(name).filter(|set| options::is_on(set.value.as_deref()))
    }

    /// The value of an option that is no number.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name)?.value.as_deref()
    }

    /// The data folder, below which other paths are; as Debian and the makers build it in where nobody says it.
    pub fn data_folder(&self) -> PathBuf {
        Path::new("/").join(self.text("datadir").unwrap_or("/var/lib/mysql"))
    }

    fn resolve<'a>(&self, option: &'a str) -> Result<options::Resolved<'a>, Unresolved> {
        options::resolve(option, self.is_listed())
    }

    fn is_listed(&self) -> bool {
        self.flavour == Some(Flavour::Mariadb) && self.version == Some(LISTED)
    }

    fn take(&mut self, option: &str, at: Option<&Origin>) {
        if self.flavour == Some(Flavour::Mysql) && is_dedicated(option) {
            let value = option.split_once('=').map(|(_, value)| value);
            self.dedicated = options::is_on(value);
            return;
        }
        let found = match self.resolve(option) {
            Ok(found) => found,
            Err(Unresolved::Unknown { loose: true }) => return,
            Err(error) => return self.unresolved(option, at, error),
        };
        if found.needs_value && found.value.is_none() {
            return self.refuse(at, format!("option {} needs a value", found.name));
        }
        if let Some(variable) = variables::find(found.name) {
            self.number_given(variable, &found, option, at);
        } else if let Some(name) = TEXTS.iter().find(|name| **name == found.name) {
            let value = found.value.map(str::to_owned);
            self.texts.insert(name, Set { value, at: at.cloned() });
        }
    }

    fn number_given(
        &mut self,
        variable: &'static Variable,
        found: &options::Resolved<'_>,
        option: &str,
        at: Option<&Origin>,
    ) {
        let value = match variables::number(found.value.unwrap_or_default()) {
            Ok(number) => variable.bounded(number),
            // The value is lost all the same.
            Err(_) if found.loose => 0,
            Err(error) => {
                return self.refuse(at, format!("{}: {error}", found.name.replace('-', "_")));
            }
        };
        // What a session may set at most, or another cache.
        if found.maximum || names_a_cache(option) {
            return;
        }
        let said = Said { value, option: option.to_owned(), at: at.cloned() };
        self.numbers.entry(variable.name).or_default().push(said);
    }

    fn unresolved(&mut self, option: &str, at: Option<&Origin>, error: Unresolved) {
        let Some(at) = at.filter(|_| self.is_listed() && self.unknown.len() < MAX_UNKNOWN) else {
            return;
        };
        let name: String = option.split('=').next().unwrap_or_default().chars().take(80).collect();
        let text = match error {
            Unresolved::Ambiguous => format!(
                "{name:?} is the beginning of several options: MariaDB 10.11 does not start with it"
            ),
            Unresolved::Unknown { .. } => format!(
                "{name:?} is no option of MariaDB 10.11: without a plugin that has it, it does not start"
            ),
        };
        self.unknown.push((at.clone(), text));
    }

    /// What is unknown is said where no plugin is loaded: it would bring options of its own.
    fn say_unknown(&mut self, notes: &mut Notes) {
        let unknown = std::mem::take(&mut self.unknown);
        if !["plugin-load", "plugin-load-add"].iter().any(|name| self.texts.contains_key(name)) {
            unknown.into_iter().for_each(|(at, text)| notes.at(at, text));
        }
    }

    fn refuse(&mut self, at: Option<&Origin>, why: String) {
        self.refused.get_or_insert((at.cloned(), why));
    }
}

/// The names of all variables that are numbers.
pub fn numbers() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|variable| variable.name)
}

/// A key cache with a name is another one than the server's own.
fn names_a_cache(option: &str) -> bool {
    let name = option.split('=').next().unwrap_or_default();
    name.split_once('.').is_some_and(|(cache, rest)| {
        rest.to_ascii_lowercase().starts_with("key") && !cache.eq_ignore_ascii_case("default")
    })
}

fn is_dedicated(option: &str) -> bool {
    let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase().replace('-', "_");
    name.strip_prefix("loose_").unwrap_or(&name) == "innodb_dedicated_server"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn settings(lines: &[(&str, &str)], args: &[&str]) -> (Settings, usize) {
        let file: Arc<Path> = Arc::from(Path::new("/etc/my.cnf"));
        let given: Vec<Given> = (1..)
            .zip(lines)
            .map(|(line, (group, option))| Given {
                group: Arc::from(*group),
                option: (*option).to_owned(),
                text: (*option).to_owned(),
                at: Origin::new(&file, line),
            })
            .collect();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let groups = ["mysqld".to_owned(), "server".to_owned()];
        let mut notes = Notes::default();
        let version = (Flavour::Mariadb, Some(LISTED));
        let settings = Settings::new(version, &given, &groups, &args, &mut notes);
        (settings, notes.finish().len())
    }

    #[test]
    fn the_last_of_its_groups_counts_and_then_the_arguments() {
        let lines = [
            ("mysqld", "innodb_buffer_pool_size=2G"),
            ("MYSQLD", "innodb-buffer-pool-size=512M"),
            ("mysql", "innodb_buffer_pool_size=1G"),
        ];
        let (found, notes) = settings(&lines, &[]);
        assert_eq!(found.number(variables::POOL).value, 512 << 20);
        assert_eq!(found.said(variables::POOL).len(), 2);
        assert_eq!(notes, 0);
        let (found, _) =
            settings(&lines, &["--max_connections", "20", "--innodb-buffer-pool-size=1G"]);
        let pool = found.number(variables::POOL);
        assert_eq!((pool.value, pool.at), (1 << 30, None));
        assert_eq!(found.number(variables::CONNECTIONS).value, 20);
    }

    #[test]
    fn what_is_not_given_is_the_default() {
        let (found, _) = settings(&[], &[]);
        assert_eq!(found.number(variables::POOL), Set::default_of(128 << 20));
        assert!(found.on("skip-grant-tables").is_none());
    }

    #[test]
    fn what_the_server_refuses_is_said() {
        let (found, _) = settings(&[("mysqld", "sort_buffer_size=2X")], &[]);
        let (at, why) = found.refused.unwrap();
        assert_eq!(at.unwrap().to_string(), "/etc/my.cnf:1");
        assert!(why.contains("\"2X\""), "{why}");
        assert!(settings(&[("mysqld", "max_connections")], &[]).0.refused.is_some());
        assert_eq!(settings(&[("mysqld", "no_such_thing=1")], &[]).1, 1);
        assert_eq!(settings(&[("mysqld", "loose-no_such_thing=1")], &[]).1, 0);
        let plugin = [("mysqld", "x_y=1"), ("mysqld", "plugin_load_add=x")];
        assert_eq!(settings(&plugin, &[]).1, 0);
    }

    #[test]
    fn other_caches_and_maxima_are_no_values() {
        let (found, _) = settings(
            &[
                ("mysqld", "hot.key_buffer_size=1G"),
                ("mysqld", "maximum-sort_buffer_size=1G"),
                ("mysqld", "skip-networking"),
                ("mysqld", "loose-sort_buffer_size=x"),
            ],
            &[],
        );
        assert_eq!(found.number("key-buffer-size").value, 128 << 20);
        assert_eq!(found.number("sort-buffer-size").value, 0);
        assert!(found.on("skip-networking").is_some());
    }
}
