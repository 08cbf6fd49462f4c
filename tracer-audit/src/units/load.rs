//! Units and the manager's defaults, read from their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lines;
use super::search::{Files, Names, is_masked};
use super::settings::{Defaults, Settings};
use crate::bound::Bound;
use crate::origin::{Notes, Origin};
use crate::root::Root;

/// Most files of one kind of configuration.
pub const MAX_FILES: usize = 1000;

/// Folders of configuration, the first wins.
pub const CONFIG_FOLDERS: [&str; 5] = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"];

/// A unit, and what its files set.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Its names and files.
    pub files: Files,
    /// What they set.
    pub settings: Settings,
}

/// The unit `name`; None where there is none, or where systemd would not load it (that is a note).
pub fn unit(
    root: &Root,
    names: &Names,
    defaults: &Defaults,
    name: &str,
    notes: &mut Notes,
) -> Option<Loaded> {
    let files = names.files(root, name)?;
    let own = if name.ends_with(".slice") { "Slice" } else { "Service" };
    let sections = ["Unit", own, "Install"];
    let mut settings = Settings::new(defaults);
    if let Some(path) = &files.fragment {
        let bytes = names.bytes(root, path, notes)?;
        let file: Arc<Path> = path.as_path().into();
        let parsed = lines::parse(&bytes, &sections);
        if let Some((line, why)) = parsed.refused {
            let at = Origin::new(&file, line);
            notes.at(at, format!("systemd does not load {}: {why}", files.name));
            return None;
        }
        settings.apply(&file, &parsed, own);
    }
    for path in files.drop_ins.iter().filter(|path| !is_masked(root, path)) {
        let Some(bytes) = names.bytes(root, path, notes) else {
            continue;
        };
        let file: Arc<Path> = path.as_path().into();
        let parsed = lines::parse(&bytes, &sections);
        if let Some((line, why)) = parsed.refused {
            let at = Origin::new(&file, line);
            notes.at(at, format!("systemd reads this drop-in no further: {why}"));
        }
        settings.apply(&file, &parsed, own);
    }
    settings.finish();
    Some(Loaded { files, settings })
}

/// What /etc/systemd/system.conf and its drop-ins say.
pub fn defaults(root: &Root, notes: &mut Notes) -> Defaults {
    let mut defaults = Defaults::default();
    for (file, bytes) in config(root, "systemd/system.conf", notes) {
        let parsed = lines::parse(&bytes, &["Manager"]);
        if let Some((line, why)) = parsed.refused {
            notes
                .at(Origin::new(&file, line), format!("systemd reads this file no further: {why}"));
        }
        defaults.apply(&file, &parsed);
    }
    defaults
}

/// The main file `name` and its drop-ins, in the order in which systemd's programs read them.
pub fn config(root: &Root, name: &str, notes: &mut Notes) -> Vec<(Arc<Path>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut bound = Bound::new(MAX_FILES);
    let mut read = |path: &Path, notes: &mut Notes| match root.read(path) {
        Ok(bytes) => {
            if bound.takes(bytes.len(), &Origin::whole(path), notes) {
                found.push((Arc::from(path), bytes));
            }
            true
        }
        Err(error) => {
            notes.unread(&error);
            false
        }
    };
    for folder in CONFIG_FOLDERS {
        if read(&Path::new(folder).join(name), notes) {
            break;
        }
    }
    for path in by_name(root, &format!("{name}.d"), notes) {
        read(&path, notes);
    }
    found
}

/// The `.conf` files of the folder `name` below all [`CONFIG_FOLDERS`], by file name; of two with the same
/// name the first folder's counts.
pub fn by_name(root: &Root, name: &str, notes: &mut Notes) -> Vec<PathBuf> {
    let mut found = std::collections::BTreeMap::new();
    for folder in CONFIG_FOLDERS {
        let paths = root.list(&Path::new(folder).join(name));
        for path in paths.map_err(|error| notes.unread(&error)).unwrap_or_default() {
            let Some(own) = path.file_name().and_then(|own| own.to_str()) else {
                continue;
            };
            if own.ends_with(".conf") && !own.starts_with('.') {
                found.entry(own.to_owned()).or_insert(path);
            }
        }
    }
    found.into_values().filter(|path| !is_masked(root, path)).collect()
}
