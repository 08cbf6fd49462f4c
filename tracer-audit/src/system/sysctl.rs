//! The kernel's settings of memory: what boot sets (systemd-sysctl of 252: `sysctl.d` of five folders, by file
//! name, a later line wins; /etc/sysctl.conf only through a link there) and what is in force in proc/sys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;

use crate::bound::Bound;
use crate::origin::{Notes, Origin, Set};
use crate::root::{Root, is_pattern};
use crate::units::lines::WHITESPACE;
use crate::units::load;

/// Those that are asked for.
pub const KEYS: [&str; 8] = [
    "vm.swappiness",
    "vm.overcommit_memory",
    "vm.overcommit_ratio",
    "vm.overcommit_kbytes",
    "vm.panic_on_oom",
    "vm.oom_kill_allocating_task",
    "vm.min_free_kbytes",
    "kernel.panic",
];

/// One setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctl {
    /// What boot sets, and where.
    pub configured: Option<Set<String>>,
    /// The line as it stands there; None where it is a pattern, which sets others, too.
    pub line: Option<String>,
    /// What proc/sys says.
    pub in_force: Option<i64>,
}

impl Sysctl {
    /// What counts now; where the kernel cannot be asked, what boot sets.
    pub fn value(&self) -> Option<i64> {
        self.in_force.or_else(|| self.configured.as_ref()?.value.parse().ok())
    }

    /// The line that sets the value in force, if a line does.
    pub fn place(&self) -> Option<Origin> {
        let configured = self.configured.as_ref()?;
        let same = configured.value.parse().ok() == self.value();
        configured.at.clone().filter(|_| same)
    }
}

/// The file of proc/sys.
pub fn file(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

/// All of [`KEYS`].
pub fn read(root: &Root, notes: &mut Notes) -> BTreeMap<&'static str, Sysctl> {
    let options = Options::read(root, notes);
    let read = |key: &'static str| {
        let in_force = root.text(&file(key)).ok().and_then(|text| text.trim().parse().ok());
        let found = options.get(&key.replace('.', "/"));
        let line = found.as_ref().filter(|found| !found.is_pattern).map(|found| found.text.clone());
        (key, Sysctl { configured: found.map(|found| found.set), line, in_force })
    };
    KEYS.into_iter().map(read).collect()
}

/// Assignments by key, ranked by their last change; a key without a value is kept from patterns.
#[derive(Clone, Debug, Default)]
pub struct Options {
    keys: BTreeMap<String, (usize, Option<Assigned>)>,
    changes: usize,
}

/// A value, and the line that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The value.
    pub set: Set<String>,
    /// The line.
    pub text: String,
    /// Whether the line's key is a pattern.
    pub is_pattern: bool,
}

impl Options {
    /// Reads all folders.
    pub fn read(root: &Root, notes: &mut Notes) -> Self {
        let mut options = Self::default();
        let mut bound = Bound::new(load::MAX_FILES);
        for path in load::by_name(root, "sysctl.d", notes) {
            match root.text(&path) {
                Ok(text) if bound.takes(text.len(), &Origin::whole(path.as_path()), notes) => {
                    options.take(&shown(root, &path), &text, notes);
                }
                Ok(_) => break,
                Err(error) => notes.unread(&error),
            }
        }
        options
    }

    /// Takes the lines of a file.
    pub fn take(&mut self, file: &Arc<Path>, text: &str, notes: &mut Notes) {
        for (index, line) in text.split(['\n', '\0']).enumerate() {
            let line = line.trim_matches(WHITESPACE);
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let at = Origin::new(file, u32::try_from(index + 1).unwrap_or(u32::MAX));
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key.trim_matches(WHITESPACE), Some(value)),
                None if line.starts_with('-') => (line, None),
                None => {
                    notes.at(at, "systemd-sysctl passes this line over: it is no assignment");
                    continue;
                }
            };
            let key = normal(key.strip_prefix('-').unwrap_or(key));
            let value = value.map(|value| Assigned {
                set: Set::at(value.trim_matches(WHITESPACE).to_owned(), at),
                text: line.to_owned(),
                is_pattern: is_pattern(&key),
            });
            let same = |one: &Option<Assigned>, other: &Option<Assigned>| match (one, other) {
                (Some(one), Some(other)) => one.set.value == other.set.value,
                (one, other) => one.is_none() && other.is_none(),
            };
            // The same again is no change, and keeps its rank.
            if self.keys.get(&key).is_some_and(|(_, known)| same(known, &value)) {
                continue;
            }
            self.changes += 1;
            self.keys.insert(key, (self.changes, value));
        }
    }

    /// What `key` (with slashes) is set to: a pattern sets only what no line names.
    pub fn get(&self, key: &str) -> Option<Assigned> {
        if let Some((_, value)) = self.keys.get(key) {
            return value.clone();
        }
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        let matches = |pattern: &str| {
            Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_with(key, options))
        };
        let patterns = self.keys.iter().filter(|(other, _)| is_pattern(other));
        let set =
            patterns.filter_map(|(other, (rank, value))| Some((other, rank, value.as_ref()?)));
        let last = set.filter(|(other, ..)| matches(other)).max_by_key(|(_, rank, _)| **rank);
        last.map(|(_, _, value)| value.clone())
    }
}

/// The file behind Debian's link, which is the one that people know.
fn shown(root: &Root, path: &Path) -> Arc<Path> {
    let known = Path::new("/etc/sysctl.conf");
    let is_link = path.file_name().is_some_and(|name| name == "99-sysctl.conf")
        && root.link(path).is_ok_and(|target| target.ends_with("sysctl.conf"));
    Arc::from(if is_link { known } else { path })
}

/// With slashes: where the first separator is a dot, dots and slashes change places.
fn normal(key: &str) -> String {
    let key = if key.find('.').is_some_and(|dot| key.find('/').is_none_or(|slash| dot < slash)) {
        let swap = |letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        key.chars().map(swap).collect()
    } else {
        key.to_owned()
    };
    let parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        let mut options = Options::default();
        options.take(&Arc::from(Path::new("/etc/sysctl.d/a.conf")), text, &mut Notes::default());
        options
    }

    fn value(options: &Options, key: &str) -> Option<(String, u32)> {
        let set = options.get(key)?.set;
        Some((set.value, set.at?.line?))
    }

    #[test]
    fn the_last_line_wins_and_patterns_give_way() {
        let options = options(
            "# no\n; no\nvm.swappiness = 10\n-vm/swappiness=20\nvm.over*=1\nvm.overcommit_ratio=50\n\
             -vm.overcommit_kbytes\nnonsense\nnet.ipv4.conf.a/b.x=1\n",
        );
        assert_eq!(value(&options, "vm/swappiness"), Some(("20".to_owned(), 4)));
        assert_eq!(value(&options, "vm/overcommit_memory"), Some(("1".to_owned(), 5)));
        assert_eq!(value(&options, "vm/overcommit_ratio"), Some(("50".to_owned(), 6)));
        assert_eq!(value(&options, "vm/overcommit_kbytes"), None);
        assert_eq!(value(&options, "net/ipv4/conf/a.b/x"), Some(("1".to_owned(), 9)));
    }

    #[test]
    fn in_force_comes_before_the_files() {
        let at = Origin::new(&Arc::from(Path::new("/etc/sysctl.d/a.conf")), 1);
        let configured = Some(Set::at("10".to_owned(), at));
        let sysctl = Sysctl { configured, line: None, in_force: Some(60) };
        assert_eq!((sysctl.value(), sysctl.place()), (Some(60), None));
        let sysctl = Sysctl { in_force: None, ..sysctl };
        assert_eq!(sysctl.value(), Some(10));
        assert!(sysctl.place().is_some());
    }
}
