//! The kernel's settings of memory: what boot sets (systemd-sysctl of 252: `sysctl.d` of five folders, by file
//! name, a later line wins; /etc/sysctl.conf only through a link there) and what is in force in proc/sys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;

use crate::origin::{Notes, Origin, Set};
use crate::root::Root;
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
        (key, Sysctl { configured: options.get(&key.replace('.', "/")), in_force })
    };
    KEYS.into_iter().map(read).collect()
}

/// Assignments in the order of their last change; a key without a value is kept from patterns.
#[derive(Clone, Debug, Default)]
pub struct Options {
    list: Vec<(String, Option<Set<String>>)>,
}

impl Options {
    /// Reads all folders.
    pub fn read(root: &Root, notes: &mut Notes) -> Self {
        let mut options = Self::default();
        for path in load::by_name(root, "sysctl.d", notes) {
            match root.text(&path) {
                Ok(text) => options.take(&shown(root, &path), &text, notes),
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
            let value = value.map(|value| Set::at(value.trim_matches(WHITESPACE).to_owned(), at));
            let same = |value: &Option<Set<String>>| value.as_ref().map(|set| set.value.clone());
            // The same again is no change, and keeps its rank.
            if let Some(place) = self.list.iter().position(|(other, _)| *other == key) {
                if same(&self.list[place].1) == same(&value) {
                    continue;
                }
                self.list.remove(place);
            }
            if self.list.len() < crate::root::MAX_NAMES {
                self.list.push((key, value));
            }
        }
    }

    /// What `key` (with slashes) is set to: a pattern sets only what no line names.
    pub fn get(&self, key: &str) -> Option<Set<String>> {
        if let Some((_, value)) = self.list.iter().find(|(other, _)| other == key) {
            return value.clone();
        }
        let patterns = self.list.iter().filter(|(other, _)| other.contains(['*', '?', '[']));
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        patterns
            .filter(|(other, _)| {
                Pattern::new(other).is_ok_and(|pattern| pattern.matches_with(key, options))
            })
            .filter_map(|(_, value)| value.clone())
            .next_back()
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
        let set = options.get(key)?;
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
        let sysctl = Sysctl { configured, in_force: Some(60) };
        assert_eq!((sysctl.value(), sysctl.place()), (Some(60), None));
        let sysctl = Sysctl { in_force: None, ..sysctl };
        assert_eq!(sysctl.value(), Some(10));
        assert!(sysctl.place().is_some());
    }
}
