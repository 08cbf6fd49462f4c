//! Which files make up a unit: the search path, aliases, templates, masks and drop-ins, as systemd 252 finds
//! them (src/shared/unit-file.c, dropin.c, src/basic/conf-files.c). Owns no content of files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::bound::Bound;
use crate::origin::{Notes, Origin};
use crate::root::Root;

/// Where the system's manager looks for units, first come first served: `systemd-analyze unit-paths`.
pub const UNIT_PATHS: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// How often a link from alias to alias is followed.
const FOLLOW_MAX: usize = 8;

/// Most drop-ins and links that are kept of all units together; a host has some hundreds.
const MAX_PATHS: usize = 20_000;

/// Most other names of a unit, and most drop-ins of one.
const MAX_OF_UNIT: usize = 50;

/// The types of unit that are looked for.
const TYPES: [&str; 2] = ["service", "slice"];

/// The files of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The name that it goes by: that of its file, with the instance.
    pub name: String,
    /// Its other names, sorted.
    pub aliases: Vec<String>,
    /// The unit file; None where it is masked.
    pub fragment: Option<PathBuf>,
    /// Drop-ins in the order in which they are read.
    pub drop_ins: Vec<PathBuf>,
}

/// All names of units in the search path.
#[derive(Debug)]
pub struct Names {
    map: BTreeMap<String, Target>,
    /// The names that lead to a file.
    by_file: BTreeMap<PathBuf, Vec<String>>,
    /// Folders of drop-ins that exist.
    folders: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// Links in folders of wanted and required units: what is started at boot.
    wanted: Vec<String>,
    /// Drop-ins and links so far.
    paths: usize,
    /// What was read of units so far: one file may be a drop-in of each of them.
    read: RefCell<Bound>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    File(PathBuf),
    Alias(String),
}

impl Names {
    /// Reads the folders of the search path.
    pub fn read(root: &Root, notes: &mut Notes) -> Self {
        let mut names = Self {
            map: BTreeMap::new(),
            by_file: BTreeMap::new(),
            folders: BTreeMap::new(),
            wanted: Vec::new(),
            paths: 0,
            read: RefCell::new(Bound::new(MAX_PATHS)),
        };
        // One folder under two names goes by the longer one.
        let merged = root.link(Path::new("/lib")).is_ok();
        for folder in UNIT_PATHS {
            let folder = Path::new(folder);
            if merged && folder.starts_with("/lib") {
                continue;
            }
            match root.list(folder) {
                Ok(paths) => {
                    paths.into_iter().for_each(|path| names.take(root, folder, path, notes))
                }
                Err(error) => notes.unread(&error),
            }
        }
        names.wanted.sort();
        names.wanted.dedup();
        let mut by_file: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for name in names.map.keys() {
            if let Some(path) = names.resolve(name) {
                by_file.entry(path.to_path_buf()).or_default().push(name.clone());
            }
        }
        names.by_file = by_file;
        names
    }

    /// The bytes of a file of a unit; None where they are not read, which is said.
    pub fn bytes(&self, root: &Root, path: &Path, notes: &mut Notes) -> Option<Vec<u8>> {
        let bytes = root.read(path).map_err(|error| notes.unread(&error)).ok()?;
        let takes = self.read.borrow_mut().takes(bytes.len(), &Origin::whole(path), notes);
        takes.then_some(bytes)
    }

    /// The names, aliases among them.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// What another unit wants or requires through a link: what starts at boot, instances among them.
    pub fn wanted(&self) -> &[String] {
        &self.wanted
    }

    fn take(&mut self, root: &Root, folder: &Path, path: PathBuf, notes: &mut Notes) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            return;
        };
        if name.ends_with(".d") {
            match root.list(&path) {
                Ok(files) if self.has_room(files.len(), notes) => {
                    self.folders.insert(path, files);
                }
                Ok(_) => {}
                Err(error) => notes.unread(&error),
            }
            return;
        }
        if name.ends_with(".wants") || name.ends_with(".requires") {
            let links = root.list(&path).unwrap_or_default();
            if !self.has_room(links.len(), notes) {
                return;
            }
            let links =
                links.iter().filter_map(|link| Some(link.file_name()?.to_str()?.to_owned()));
            self.wanted.extend(links);
            return;
        }
        if !is_unit_name(&name) || self.map.contains_key(&name) {
            return;
        }
        let target = match root.link(&path) {
            Ok(link) => {
                let target = lexical(&folder.join(link));
                if !UNIT_PATHS.iter().any(|folder| target.starts_with(folder)) {
                    Target::File(target)
                } else {
                    let Some(other) = target.file_name().and_then(|name| name.to_str()) else {
                        return;
                    };
                    // A link to its own name in another folder says nothing.
                    if other == name || !may_alias(&name, other) {
                        return;
                    }
                    Target::Alias(other.to_owned())
                }
            }
            Err(_) => Target::File(path),
        };
        self.map.insert(name, target);
    }

    fn has_room(&mut self, count: usize, notes: &mut Notes) -> bool {
        self.paths = self.paths.saturating_add(count);
        let room = self.paths <= MAX_PATHS;
        if !room {
            notes.say(format!(
                "there are more than {MAX_PATHS} drop-ins of units: the rest is not read"
            ));
        }
        room
    }

    /// The files of the unit `name`; None where there is no such unit.
    pub fn files(&self, root: &Root, name: &str) -> Option<Files> {
        let path = self.resolve(name).or_else(|| self.resolve(&template_of(name)?))?.to_path_buf();
        let instance = instance_of(name);
        let own = path.file_name()?.to_str()?;
        let own = match instance {
            Some(instance) if is_template(own) => with_instance(own, instance)?,
            _ => own.to_owned(),
        };
        // A unit that is linked from outside of the search path goes by the name that was asked for.
        let main = if is_unit_name(&own) { own } else { name.to_owned() };
        let mut aliases: Vec<String> = self
            .by_file
            .get(&path)
            .into_iter()
            .flatten()
            .filter_map(|other| match instance {
                Some(instance) if is_template(other) => with_instance(other, instance),
                Some(instance) if instance_of(other) != Some(instance) => None,
                _ => Some(other.clone()),
            })
            .chain([name.to_owned()])
            .filter(|other| *other != main)
            .collect();
        aliases.sort();
        aliases.dedup();
        aliases.truncate(MAX_OF_UNIT);
        let drop_ins = self.drop_ins(&main, &aliases);
        let fragment = (!is_masked(root, &path)).then_some(path);
        Some(Files { name: main, aliases, fragment, drop_ins })
    }

    /// The file that `name` leads to.
    fn resolve(&self, name: &str) -> Option<&Path> {
        let mut target = self.map.get(name)?;
        for _ in 0..FOLLOW_MAX {
            match target {
                Target::File(path) => return Some(path),
                Target::Alias(other) => {
                    target = self.map.get(other).or_else(|| self.map.get(&template_of(other)?))?;
                }
            }
        }
        None
    }

    /// The drop-ins of a unit in the order of their file names; of two with the same, the one counts that is
    /// in the more specific folder.
    fn drop_ins(&self, name: &str, aliases: &[String]) -> Vec<PathBuf> {
        let mut by_name = BTreeMap::new();
        let mut take = |path: &str, own: &str| {
            let folder = Path::new(path).join(format!("{own}.d"));
            for path in self.folders.get(&folder).into_iter().flatten() {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if name.ends_with(".conf") && !name.starts_with('.') {
                    by_name.entry(name.to_owned()).or_insert_with(|| path.clone());
                }
            }
        };
        for own in [name].into_iter().chain(aliases.iter().map(String::as_str)) {
            let mut stems = Vec::new();
            from_specific(own, &mut stems);
            for path in UNIT_PATHS {
                stems.iter().for_each(|stem| take(path, stem));
            }
        }
        if let Some((_, kind)) = name.rsplit_once('.') {
            UNIT_PATHS.iter().for_each(|path| take(path, kind));
        }
        by_name.into_values().take(MAX_OF_UNIT).collect()
    }
}

/// Whose drop-ins count for `name`, each once: `a-b@i.service`, then its template, then `a-@i.service` and so on.
fn from_specific(name: &str, names: &mut Vec<String>) {
    if names.iter().any(|known| known == name) {
        return;
    }
    names.push(name.to_owned());
    if let Some(template) = template_of(name) {
        from_specific(&template, names);
    }
    if let Some(shorter) = shortened(name) {
        from_specific(&shorter, names);
    }
}

/// The name with its prefix cut off after the last dash but a trailing one.
fn shortened(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (prefix, instance) = match stem.split_once('@') {
        Some((prefix, instance)) => (prefix, Some(instance)),
        None => (stem, None),
    };
    // One trailing dash is taken off, not more.
    let whole = prefix.strip_suffix('-').unwrap_or(prefix);
    let end = whole.rfind('-').filter(|&end| end > 0)?;
    let short = &whole[..=end];
    Some(match instance.filter(|instance| !instance.is_empty()) {
        Some(instance) => format!("{short}@{instance}.{kind}"),
        None => format!("{short}.{kind}"),
    })
}

/// Whether systemd takes `name` for the name of a unit of a type that is looked for.
pub fn is_unit_name(name: &str) -> bool {
    let Some((stem, kind)) = name.rsplit_once('.') else {
        return false;
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    TYPES.contains(&kind)
        && name.len() < 256
        && !stem.is_empty()
        && !stem.starts_with('@')
        && stem.bytes().all(allowed)
}

/// Whether a link of the name `from` to a unit `to` is an alias.
fn may_alias(from: &str, to: &str) -> bool {
    let kind = |name: &str| name.rsplit_once('.').map(|(_, kind)| kind.to_owned());
    if !is_unit_name(to) || kind(from) != kind(to) || from.ends_with(".slice") {
        return false;
    }
    match (instance_of(from), instance_of(to)) {
        (Some(own), Some(other)) => own == other,
        (Some(_), None) => is_template(to),
        (None, Some(_)) => false,
        (None, None) => is_template(from) == is_template(to),
    }
}

/// Whether it is the file of a template: `name@.service`.
pub fn is_template(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(stem, _)| stem.ends_with('@') && stem.find('@') == Some(stem.len() - 1))
}

/// What stands between `@` and the type; None for a plain unit and for a template.
pub fn instance_of(name: &str) -> Option<&str> {
    let (_, instance) = name.rsplit_once('.')?.0.split_once('@')?;
    Some(instance).filter(|instance| !instance.is_empty())
}

/// The template of an instance.
fn template_of(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    instance_of(name)?;
    Some(format!("{}@.{kind}", stem.split_once('@')?.0))
}

fn with_instance(template: &str, instance: &str) -> Option<String> {
    let (stem, kind) = template.rsplit_once('.')?;
    Some(format!(
        "{}{instance}.{kind}",
        stem.split_once('@').map(|(prefix, _)| format!("{prefix}@"))?
    ))
}

/// A link to /dev/null, or an empty file: what has a lower rank and the same name is taken away.
pub fn is_masked(root: &Root, path: &Path) -> bool {
    let null = Path::new("/dev/null");
    path == null
        || root.link(path).is_ok_and(|target| lexical(&target) == null)
        || root.stat(path).is_ok_and(|stat| stat.st_size == 0)
}

/// `path` without `.` and `..`.
fn lexical(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(part) => whole.push(part),
            Component::ParentDir => drop(whole.pop()),
            _ => {}
        }
    }
    whole
}
