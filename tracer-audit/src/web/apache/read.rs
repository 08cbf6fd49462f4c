//! Reads Apache's files: continued lines, variables, sections that count only with a module or a define, and
//! includes where they stand (server/core.c, config.c and util.c of 2.4).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::words::{lines, negated, version, word};
use crate::bound::short;
use crate::origin::{Notes, Origin};
use crate::php::fpm::conf::is_folder;
use crate::root::{Root, is_pattern};
use crate::web::include::{Entry, Includes};

/// Deepest include, and deepest folder of one: AP_MAX_INCLUDE_DEPTH, AP_MAX_INCLUDE_DIR_DEPTH.
const MAX_DEPTH: usize = 128;

/// Most files.
const MAX_FILES: usize = 5000;

/// Most bytes of lines with variables in them, resolved: a few lines can double a value again and again.
const MAX_RESOLVED_BYTES: usize = 16 << 20;

/// Directives whose lines findings propose to change.
const CHANGED: [&str; 4] = ["maxrequestworkers", "maxclients", "php_value", "php_admin_value"];

/// Modules that are always there in Debian's build, by the names that `<IfModule>` knows.
const BUILT_IN: [&str; 16] = [
    "core.c",
    "core_module",
    "mod_so.c",
    "so_module",
    "mod_watchdog.c",
    "watchdog_module",
    "http_core.c",
    "http_module",
    "mod_log_config.c",
    "log_config_module",
    "mod_logio.c",
    "logio_module",
    "mod_version.c",
    "version_module",
    "mod_unixd.c",
    "unixd_module",
];

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// As written; `<Name` opens and `</Name` closes a section.
    pub name: String,
    /// What follows, variables resolved; of a section up to its `>`.
    pub args: String,
    /// Where.
    pub at: Origin,
    /// How many sections it stands in.
    pub depth: usize,
}

/// Why Apache does not start with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `<Name` without `>`.
    #[error("<{name}> has no closing >")]
    NoBracket {
        /// The section.
        name: String,
    },
    /// A section without what it needs.
    #[error("<{name}> needs an argument")]
    NoArgument {
        /// The section.
        name: String,
    },
    /// A section that is open at the end.
    #[error("<{name}> is not closed")]
    NotClosed {
        /// The section.
        name: String,
    },
    /// An end without a beginning.
    #[error("</{name}> closes nothing")]
    NotOpen {
        /// The section.
        name: String,
    },
    /// The end of another section.
    #[error("</{name}> stands where </{open}> should")]
    Crossed {
        /// What stands there.
        name: String,
        /// What is open.
        open: String,
    },
    /// An include that is not optional.
    #[error("{pattern} matches no file")]
    NoFile {
        /// The file or pattern.
        pattern: String,
    },
    /// A circle, as a rule.
    #[error("the includes go deeper than {MAX_DEPTH} files")]
    TooDeep,
}

/// The whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// In order, up to an error.
    pub items: Vec<Directive>,
    /// Loaded modules by name, with the library's file.
    pub modules: BTreeMap<String, String>,
    /// The first error; nothing is read behind it.
    pub refused: Option<(Origin, Refused)>,
    /// What was read, in order.
    pub files: Vec<Arc<Path>>,
    /// The text of the lines that findings propose to change.
    pub lines: BTreeMap<Origin, String>,
}

impl Config {
    /// Reads `conf`, whose folder is the server's root unless it says otherwise.
    pub fn read(
        root: &Root,
        conf: &Path,
        environment: &BTreeMap<String, String>,
        notes: &mut Notes,
    ) -> Self {
        let names = BUILT_IN.iter().map(|&name| name.to_owned()).collect();
        let mut reader = Reader {
            config: Self::default(),
            root,
            notes,
            environment,
            server_root: conf.parent().unwrap_or(Path::new("/")).to_path_buf(),
            defines: BTreeSet::new(),
            variables: BTreeMap::new(),
            resolved_bytes: 0,
            names,
            sections: 0,
            includes: Includes::new(root, MAX_FILES, MAX_DEPTH),
        };
        let result = reader.file(conf, &Origin::whole(conf), false);
        let mut config = reader.config;
        config.files = reader.includes.into_files();
        config.refused = result.err();
        config
    }

    /// All that is no section.
    pub fn directives(&self) -> impl Iterator<Item = &Directive> {
        self.items.iter().filter(|item| !item.name.starts_with('<'))
    }

    /// The last directive of these names outside of sections.
    pub fn last(&self, names: &[&str]) -> Option<&Directive> {
        let wanted = |item: &&Directive| {
            item.depth == 0 && names.iter().any(|name| item.name.eq_ignore_ascii_case(name))
        };
        self.items.iter().rev().find(wanted)
    }
}

type Failed = (Origin, Refused);

struct Reader<'a> {
    config: Config,
    root: &'a Root,
    notes: &'a mut Notes,
    environment: &'a BTreeMap<String, String>,
    server_root: PathBuf,
    defines: BTreeSet<String>,
    /// The values of those that have one.
    variables: BTreeMap<String, String>,
    /// Of lines with variables in them, so far.
    resolved_bytes: usize,
    /// By which `<IfModule>` knows what is loaded.
    names: BTreeSet<String>,
    /// Open ones that are in the tree.
    sections: usize,
    includes: Includes<'a>,
}

/// A section that is open in a file.
struct Open {
    name: String,
    at: Origin,
    /// Not part of the tree: its content stands for itself.
    transparent: bool,
    /// Its content does not count.
    soaked: bool,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, from: &Origin, optional: bool) -> Result<(), Failed> {
        let (file, text) = match self.includes.enter(path, from, self.notes) {
            Entry::File(file, text) => (file, text),
            Entry::Missing if optional => return Ok(()),
            Entry::Missing | Entry::NoFile | Entry::Null => {
                let pattern = short(&path.display().to_string());
                return Err((from.clone(), Refused::NoFile { pattern }));
            }
            Entry::Unread => return Ok(()),
            Entry::TooDeep => return Err((from.clone(), Refused::TooDeep)),
        };
        let mut open: Vec<Open> = Vec::new();
        for (number, line) in lines(&text) {
            if self.includes.is_full() {
                break;
            }
            self.line(&line, Origin::new(&file, number), &mut open)?;
        }
        self.includes.leave();
        // Apache does not miss the end of an `<IfModule>` that holds.
        let unclosed = open.into_iter().find(|section| section.soaked || !section.transparent);
        match unclosed {
            Some(section) if !self.includes.is_full() => {
                Err((section.at, Refused::NotClosed { name: short(&section.name) }))
            }
            _ => Ok(()),
        }
    }

    fn line(&mut self, raw: &str, at: Origin, open: &mut Vec<Open>) -> Result<(), Failed> {
        if raw.is_empty() || raw.starts_with('#') {
            return Ok(());
        }
        let soaked = open.last().is_some_and(|section| section.soaked);
        let line = if soaked { Some(raw.to_owned()) } else { self.resolved(raw, &at) };
        let Some(line) = line else {
            return Ok(());
        };
        if let Some(section) = line.strip_prefix("</") {
            return self.close(section, at, open);
        }
        if let Some(section) = line.strip_prefix('<') {
            return self.open(section, at, open, soaked);
        }
        if soaked {
            return Ok(());
        }
        let (name, args) = word(&line);
        self.directive(&name, args, at, raw)
    }

    fn close(&mut self, section: &str, at: Origin, open: &mut Vec<Open>) -> Result<(), Failed> {
        let (name, _) = section.split_once('>').unwrap_or((section, ""));
        let name = name.trim().to_owned();
        let Some(last) = open.pop() else {
            return Err((at, Refused::NotOpen { name: short(&name) }));
        };
        if !last.name.eq_ignore_ascii_case(&name) {
            return Err((at, Refused::Crossed { name: short(&name), open: short(&last.name) }));
        }
        if !last.transparent && !last.soaked {
            self.sections -= 1;
            self.push(format!("</{}", last.name), String::new(), at);
        }
        Ok(())
    }

    fn open(
        &mut self,
        section: &str,
        at: Origin,
        open: &mut Vec<Open>,
        soaked: bool,
    ) -> Result<(), Failed> {
        let end = section.find(|letter: char| letter.is_whitespace() || letter == '>');
        let (name, rest) = section.split_at(end.unwrap_or(section.len()));
        let name = name.to_owned();
        let closing = rest.rfind('>');
        if soaked {
            open.push(Open { name, at, transparent: true, soaked: true });
            return Ok(());
        }
        let Some(closing) = closing else {
            return Err((at, Refused::NoBracket { name: short(&name) }));
        };
        let args = rest[..closing].trim();
        let holds = match name.to_ascii_lowercase().as_str() {
            "ifmodule" => Some(negated(args, |name| self.names.contains(name))),
            "ifdefine" => Some(negated(args, |name| self.defines.contains(name))),
            "iffile" => Some(negated(args, |path| self.root.exists(&self.below(path)))),
            "ifdirective" => Some(negated(args, |name| self.knows(name))),
            "ifversion" => Some(version(args)),
            "ifsection" => Some(false),
            _ => None,
        };
        if holds.is_some() && args.trim_start_matches('!').is_empty() {
            return Err((at, Refused::NoArgument { name }));
        }
        if holds.is_none() {
            self.push(format!("<{name}"), args.to_owned(), at.clone());
            self.sections += 1;
        }
        let transparent = holds.is_some();
        open.push(Open { name, at, transparent, soaked: holds == Some(false) });
        Ok(())
    }

    fn directive(&mut self, name: &str, args: &str, at: Origin, raw: &str) -> Result<(), Failed> {
        let (first, rest) = word(args);
        match name.to_ascii_lowercase().as_str() {
            "include" => return self.include(&first, at, false),
            "includeoptional" => return self.include(&first, at, true),
            "define" => {
                if !rest.is_empty() {
                    self.variables.insert(first.clone(), word(rest).0);
                }
                self.defines.insert(first);
            }
            "undefine" => {
                self.variables.remove(&first);
                self.defines.remove(&first);
            }
            "serverroot" => self.server_root = PathBuf::from(first),
            "loadmodule" => self.load(&first, word(rest).0),
            lower => {
                if CHANGED.contains(&lower) {
                    self.config.lines.insert(at.clone(), raw.to_owned());
                }
                self.push(name.to_owned(), args.to_owned(), at);
            }
        }
        Ok(())
    }

    fn push(&mut self, name: String, args: String, at: Origin) {
        if self.includes.keeps(self.config.items.len(), &at, self.notes) {
            self.config.items.push(Directive { name, args, at, depth: self.sections });
        }
    }

    /// `<IfModule>` knows a module by its symbol and by the name of its source.
    fn load(&mut self, symbol: &str, file: String) {
        let stem = Path::new(&file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let source = match stem {
            _ if symbol == "php_module" => "mod_php.c".to_owned(),
            _ if symbol == "php7_module" => "mod_php7.c".to_owned(),
            "mod_mpm_prefork" => "prefork.c".to_owned(),
            "mod_mpm_worker" => "worker.c".to_owned(),
            "mod_mpm_event" => "event.c".to_owned(),
            stem => format!("{stem}.c"),
        };
        self.names.extend([symbol.to_owned(), source]);
        self.config.modules.entry(symbol.to_owned()).or_insert(file);
    }

    /// Whether a loaded module has the directive, of those that bear on memory; of others it is not known.
    fn knows(&self, directive: &str) -> bool {
        let loaded = |module: &str| self.names.contains(module);
        match directive.to_ascii_lowercase().as_str() {
            "maxrequestworkers"
            | "maxclients"
            | "serverlimit"
            | "startservers"
            | "maxconnectionsperchild" => true,
            "threadsperchild" | "threadlimit" => {
                loaded("mpm_event_module") || loaded("mpm_worker_module")
            }
            "maxspareservers" | "minspareservers" => loaded("mpm_prefork_module"),
            "php_value" | "php_admin_value" => loaded("php_module") || loaded("php7_module"),
            _ => false,
        }
    }

    fn below(&self, path: &str) -> PathBuf {
        self.server_root.join(path)
    }

    fn include(&mut self, pattern: &str, at: Origin, optional: bool) -> Result<(), Failed> {
        let path = self.below(pattern);
        if !is_pattern(pattern) {
            return self.tree(&path, &at, optional, 0);
        }
        let Some(found) = self.includes.matches(&path, &at, self.notes) else {
            return Ok(());
        };
        if found.is_empty() && !optional {
            return Err((at, Refused::NoFile { pattern: short(pattern) }));
        }
        found.iter().try_for_each(|file| self.tree(file, &at, optional, 0))
    }

    /// A file, or all files of a folder and of those in it.
    fn tree(
        &mut self,
        path: &Path,
        at: &Origin,
        optional: bool,
        depth: usize,
    ) -> Result<(), Failed> {
        if !is_folder(self.root, path) {
            return self.file(path, at, optional);
        }
        if depth == MAX_DEPTH {
            return Err((at.clone(), Refused::TooDeep));
        }
        let names = self.includes.list(path, at, self.notes);
        names.iter().try_for_each(|name| {
            if self.includes.is_full() { Ok(()) } else { self.tree(name, at, optional, depth + 1) }
        })
    }

    /// `${name}`, from a Define or the environment; an unknown one stays. None where it becomes too much.
    fn resolved(&mut self, line: &str, at: &Origin) -> Option<String> {
        let mut out = String::new();
        let mut rest = line;
        while let Some(start) = rest.find("${") {
            let Some(len) = rest[start..].find('}') else {
                break;
            };
            let name = &rest[start + 2..start + len];
            out.push_str(&rest[..start]);
            match self.variables.get(name).or_else(|| self.environment.get(name)) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[start..=start + len]),
            }
            if self.resolved_bytes + out.len() > MAX_RESOLVED_BYTES {
                let many = format!("{} MiB of resolved variables", MAX_RESOLVED_BYTES >> 20);
                self.includes.stop(at, &many, self.notes);
                return None;
            }
            rest = &rest[start + len + 1..];
        }
        // What follows the last variable is no longer than its file.
        self.resolved_bytes += out.len();
        out.push_str(rest);
        Some(out)
    }
}
