//! Which packages are installed, by dpkg's own list: versions of servers that no program tells without being run.

use std::path::Path;

use crate::origin::Notes;
use crate::root::Root;

/// dpkg's list below `root`; empty on a system without dpkg.
pub fn list(root: &Root, notes: &mut Notes) -> String {
    root.text(Path::new("/var/lib/dpkg/status")).unwrap_or_else(|error| {
        notes.unread(&error);
        String::new()
    })
}

/// Names and versions of the installed packages of a list. The version is without its epoch: `10.11.19-0+deb12u1`.
pub fn installed(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let (mut name, mut installed) = ("", false);
    list.lines().filter_map(move |line| {
        if let Some(package) = line.strip_prefix("Package: ") {
            (name, installed) = (package.trim(), false);
        } else if let Some(state) = line.strip_prefix("Status: ") {
            installed = state.ends_with(" ok installed");
        } else if let Some(version) = line.strip_prefix("Version: ")
            && installed
        {
            return Some((name, version.split_once(':').map_or(version, |(_, rest)| rest)));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let list = "Package: a\nStatus: install ok installed\nVersion: 1:2.3-4\n\n\
            Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: c\nStatus: hold ok installed\nDescription: x\n Package: d\nVersion: 5\n\nVersion: 6\n";
        assert_eq!(installed(list).take(2).collect::<Vec<_>>(), [("a", "2.3-4"), ("c", "5")]);
    }
}
