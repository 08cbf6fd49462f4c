//! php.ini and the files of conf.d, in the order in which PHP reads them: the last one wins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::parser::{End, Reader, Statement, parse};
use crate::bound::short;
use crate::origin::{Notes, Origin, Set};
use crate::php::Version;
use crate::root::Root;

/// Most bytes of all files together.
const MAX_BYTES: usize = 16 << 20;

/// Most files of a scan folder.
const MAX_FILES: usize = 500;

/// Most values that are kept; a stock php.ini sets 70.
const MAX_VALUES: usize = 20_000;

/// Most sections with a limit of their own.
const MAX_SPECIAL: usize = 100;

/// Names and values of a process's environment; None where they are not known.
pub type Environment = Option<BTreeMap<String, String>>;

/// Where one PHP finds its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The first of these that exists is php.ini.
    pub main: Vec<PathBuf>,
    /// Folders whose `*.ini` come after it.
    pub scan: Vec<PathBuf>,
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ini {
    /// Value by name, as it stands there, of those for all scripts.
    pub values: BTreeMap<String, Set<String>>,
    /// `memory_limit` in `[PATH=…]` and `[HOST=…]`, which holds for some scripts only, with the section.
    pub special: Vec<(String, Set<String>)>,
    /// The line at each origin of a value, for a proposal.
    pub lines: BTreeMap<Origin, String>,
    /// What was read, in order.
    pub files: Vec<Arc<Path>>,
}

impl Ini {
    /// Reads the files of `places` as a PHP of `version` with `environment` does.
    pub fn read(
        root: &Root,
        places: &Places,
        version: Option<Version>,
        environment: &Environment,
        notes: &mut Notes,
    ) -> Self {
        let mut ini = Self::default();
        let outside = Outside { version, environment };
        let mut bytes = 0;
        for path in list(root, places, notes) {
            let text = match root.read(&path) {
                Ok(text) => text,
                Err(error) => {
                    notes.unread(&error);
                    continue;
                }
            };
            bytes += text.len();
            if bytes > MAX_BYTES {
                notes.at(
                    Origin::whole(path),
                    format!(
                        "not read: the ini files are larger than {} MiB together",
                        MAX_BYTES >> 20
                    ),
                );
                break;
            }
            let file: Arc<Path> = path.into();
            ini.files.push(file.clone());
            ini.add(&text, &file, outside, notes);
        }
        ini
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Set<String>> {
        self.values.get(name)
    }

    fn add(&mut self, text: &[u8], file: &Arc<Path>, outside: Outside<'_>, notes: &mut Notes) {
        let mut reader =
            FileReader { ini: self, file, outside, notes, special: None, unknown: false };
        let end = parse(text, &mut reader);
        if let End::Syntax { line } = end {
            notes.at(
                Origin::new(file, line),
                "PHP finds a syntax error here, and passes over this line and the rest of the file",
            );
        }
        let origins: Vec<Origin> = self
            .values
            .get("memory_limit")
            .into_iter()
            .chain(self.special.iter().map(|(_, set)| set))
            .filter_map(|set| set.at.clone())
            .filter(|at| at.file == *file)
            .collect();
        for at in origins {
            let line = at.line.map_or(0, |line| line.saturating_sub(1)) as usize;
            if let Some(line) = text.split(|&byte| byte == b'\n').nth(line) {
                self.lines.insert(at, String::from_utf8_lossy(line).trim_end().to_owned());
            }
        }
    }
}

fn list(root: &Root, places: &Places, notes: &mut Notes) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    files.extend(places.main.iter().find(|path| root.exists(path)).cloned());
    for folder in &places.scan {
        match root.list(folder) {
            Ok(names) => {
                let ini = |path: &PathBuf| {
                    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                    name.ends_with(b".ini")
                };
                let mut names = names.into_iter().filter(ini);
                files.extend(names.by_ref().take(MAX_FILES));
                if let Some(next) = names.next() {
                    let text =
                        format!("not read on: the folder has more than {MAX_FILES} ini files");
                    notes.at(Origin::whole(next), text);
                }
            }
            Err(error) => notes.unread(&error),
        }
    }
    files
}

/// What the value of a variable depends on beside the files.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a> {
    /// Which PHP reads them.
    pub version: Option<Version>,
    /// Its environment.
    pub environment: &'a Environment,
}

impl Outside<'_> {
    /// Whether a variable may have a fallback.
    pub fn has_fallbacks(&self) -> bool {
        self.version.is_none_or(|version| version >= Version::new(8, 3))
    }
}

/// What `${name}` stands for: a value that was set before, else the environment, else the fallback. None where that
/// is not known, which is said.
pub fn variable(
    (name, fallback): (&str, Option<&str>),
    values: &BTreeMap<String, Set<String>>,
    environment: &Environment,
    at: Origin,
    notes: &mut Notes,
) -> Option<String> {
    if let Some(set) = values.get(name) {
        return Some(set.value.clone());
    }
    if let Some(environment) = environment {
        let set = environment.get(name).map(String::as_str);
        return Some(set.or(fallback).unwrap_or_default().to_owned());
    }
    let then = match fallback {
        Some(fallback) => format!("{} is taken", short(fallback)),
        None => "the line is passed over".to_owned(),
    };
    let name = short(name);
    notes
        .at(at, format!("${{{name}}} comes from the environment, which is not known here: {then}"));
    fallback.map(str::to_owned)
}

struct FileReader<'a> {
    ini: &'a mut Ini,
    file: &'a Arc<Path>,
    outside: Outside<'a>,
    notes: &'a mut Notes,
    /// The last section for some scripts only.
    special: Option<String>,
    /// Whether the statement that is read has a variable that is not known.
    unknown: bool,
}

impl Reader for FileReader<'_> {
    fn has_fallbacks(&self) -> bool {
        self.outside.has_fallbacks()
    }

    fn variable(&mut self, name: &str, fallback: Option<&str>, line: u32) -> String {
        let (at, environment) = (Origin::new(self.file, line), self.outside.environment);
        let known = variable((name, fallback), &self.ini.values, environment, at, self.notes);
        self.unknown |= known.is_none();
        known.unwrap_or_default()
    }

    fn statement(&mut self, line: u32, statement: Statement) -> bool {
        if std::mem::take(&mut self.unknown) {
            return true;
        }
        match statement {
            // PHP never goes back: a section of another name does not end one for some scripts.
            Statement::Section(name) => {
                if is_special(&name) {
                    self.special = Some(short(&name));
                }
            }
            Statement::Entry { key, value: Some(value) } => {
                let set = Set::at(value, Origin::new(self.file, line));
                match &self.special {
                    None if self.ini.values.len() < MAX_VALUES || key == "memory_limit" => {
                        self.ini.values.insert(key, set);
                    }
                    Some(section)
                        if key == "memory_limit" && self.ini.special.len() < MAX_SPECIAL =>
                    {
                        self.ini.special.push((section.clone(), set));
                    }
                    None | Some(_) => {}
                }
            }
            Statement::Entry { value: None, .. } | Statement::Element { .. } => {}
        }
        true
    }
}

/// Whether the values of a section hold for one folder or host only.
fn is_special(section: &str) -> bool {
    section.split_at_checked(4).is_some_and(|(start, rest)| {
        let names = ["PATH", "HOST"];
        !rest.is_empty() && names.iter().any(|name| start.eq_ignore_ascii_case(name))
    })
}
