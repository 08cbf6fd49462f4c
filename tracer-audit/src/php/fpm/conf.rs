//! Reads php-fpm.conf and its includes as php-fpm does: line by line, each line a text of its own, so that
//! no value goes over two lines; an include is read where it stands. A pool's section may stand twice, in any
//! file: both are one pool, and the later value of a directive wins.
//!
//! php-fpm stops at its first error. Here the line is passed over, so that the rest can be judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directive::{self, Value, ValueError};
use crate::bound::{Bound, short};
use crate::origin::{Notes, Origin, Set};
use crate::php::Version;
use crate::php::ini::files::{Outside, variable};
use crate::php::ini::{End, Reader, Statement, parse};
use crate::root::Root;

/// php-fpm gives up at the sixth file that is open at a time.
const MAX_DEPTH: usize = 5;

/// The newest version whose directives are all known here.
const NEWEST: Version = Version::new(8, 3);

/// Most files that are read for one php-fpm.conf.
const MAX_FILES: usize = 1000;

/// Most pools, values of a pool, lines and errors that are kept: far more than anybody writes, and little
/// enough for a hostile file.
const MAX_POOLS: usize = 500;
const MAX_VALUES: usize = 2000;
const MAX_LINES: usize = 50_000;
const MAX_REFUSED: usize = 100;

/// A directive of a pool or before one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What was read.
    pub value: Value,
    /// Where it stands.
    pub at: Origin,
}

/// `php_value[key] = value` and its kin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhpValue {
    /// In brackets.
    pub key: String,
    /// The value; `1` or `0` of a flag.
    pub value: String,
    /// Whether scripts may not change it.
    pub admin: bool,
    /// Where it stands.
    pub at: Origin,
}

/// A pool as it stands in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPool {
    /// As in its first section.
    pub name: String,
    /// Its sections, in order.
    pub sections: Vec<Origin>,
    /// Directives by name, the last of each.
    pub values: BTreeMap<&'static str, Directive>,
    /// In order; of one key the first counts.
    pub php: Vec<PhpValue>,
}

impl RawPool {
    /// A number; None where it is not set.
    pub fn number(&self, name: &str) -> Option<Set<i32>> {
        number(&self.values, name)
    }

    /// A text; None where it is not set.
    pub fn text(&self, name: &str) -> Option<Set<String>> {
        text(&self.values, name)
    }
}

type Values = BTreeMap<&'static str, Directive>;

fn number(values: &Values, name: &str) -> Option<Set<i32>> {
    let directive = values.get(name)?;
    match directive.value {
        Value::Number(number) => Some(Set::at(number, directive.at.clone())),
        _ => None,
    }
}

fn text(values: &Values, name: &str) -> Option<Set<String>> {
    let directive = values.get(name)?;
    match &directive.value {
        Value::Text(text) => Some(Set::at(text.clone(), directive.at.clone())),
        _ => None,
    }
}

/// Why php-fpm does not start with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No statement of its language.
    #[error("it cannot be parsed")]
    Syntax,
    /// A name without `=`; a `#` starts no comment.
    #[error("{key} has no value")]
    NoValue {
        /// The name.
        key: String,
    },
    /// No such directive here.
    #[error("there is no directive {key} {place}")]
    Unknown {
        /// The name.
        key: String,
        /// `in a pool` or `before a pool`.
        place: &'static str,
    },
    /// A bad value.
    #[error("{key} cannot be {text:?}: {source}")]
    Value {
        /// The directive.
        key: String,
        /// Its value.
        text: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// `php_value` and the like before a pool or without a key.
    #[error("{key}[] belongs into a pool and needs a key")]
    Element {
        /// The name.
        key: String,
    },
    /// Two on one line.
    #[error("there are two includes on one line")]
    TwoIncludes,
    /// More than five open at a time: a circle, as a rule.
    #[error("the includes go deeper than five files")]
    TooDeep,
    /// An include, or php-fpm.conf itself.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: String,
    },
    /// What only shows when all is read.
    #[error(transparent)]
    Check(#[from] super::check::CheckError),
}

/// Where values come from that are not in the files.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What a relative include is below.
    pub prefix: &'a Path,
    /// Values of php.ini, which `${name}` can stand for.
    pub ini: &'a BTreeMap<String, Set<String>>,
    /// The PHP that reads it, and the master's environment.
    pub outside: Outside<'a>,
}

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// Before the first pool, and in `[global]`.
    pub global: BTreeMap<&'static str, Directive>,
    /// In the order of their first sections.
    pub pools: Vec<RawPool>,
    /// What php-fpm refuses, in order; it would stop at the first.
    pub refused: Vec<(Origin, Refused)>,
    /// What was read, in order.
    pub files: Vec<Arc<Path>>,
    /// Patterns of the includes.
    pub includes: Vec<Set<PathBuf>>,
    /// Whether lines were passed over because of a variable that is not known.
    pub unknown: bool,
    /// The text of each line that says something.
    pub lines: BTreeMap<Origin, String>,
}

impl Conf {
    /// Reads the file `path`.
    pub fn read(root: &Root, path: &Path, source: &Source<'_>, notes: &mut Notes) -> Self {
        let mut conf = Self::default();
        let mut state =
            State { root, source, notes, pool: None, depth: 0, bound: Bound::new(MAX_FILES) };
        let at = Origin::whole(path);
        conf.load(path, at, &mut state);
        // What is missing may stand in a line that was passed over.
        if !conf.unknown {
            let failed = super::check::check(&conf, root, source.prefix, path);
            conf.refused.extend(failed.into_iter().map(|(at, error)| (at, error.into())));
        }
        conf
    }

    /// A number before the pools.
    pub fn number(&self, name: &str) -> Option<Set<i32>> {
        number(&self.global, name)
    }

    /// A text before the pools.
    pub fn text(&self, name: &str) -> Option<Set<String>> {
        text(&self.global, name)
    }

    fn refuse(&mut self, at: Origin, why: Refused) {
        if self.refused.len() < MAX_REFUSED {
            self.refused.push((at, why));
        }
    }

    fn load(&mut self, path: &Path, from: Origin, state: &mut State<'_>) {
        if state.depth == MAX_DEPTH {
            self.refuse(from, Refused::TooDeep);
            // Each line of a circle would be followed anew.
            state.bound.full = true;
            return;
        }
        let text = match state.root.read(path) {
            Ok(text) => text,
            Err(error) => {
                state.notes.unread(&error);
                if error.is_for_all() {
                    let path = path.display().to_string();
                    self.refuse(from, Refused::Unreadable { path });
                }
                return;
            }
        };
        if !state.bound.takes(text.len(), &from, state.notes) {
            return;
        }
        let file: Arc<Path> = path.into();
        self.files.push(file.clone());
        state.depth += 1;
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1_u32..) {
            if state.bound.full {
                break;
            }
            self.line(line, Origin::new(&file, number), state);
        }
        state.depth -= 1;
    }

    fn line(&mut self, text: &[u8], at: Origin, state: &mut State<'_>) {
        // To php-fpm a NUL ends the line.
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        if text.iter().all(|byte| byte.is_ascii_whitespace()) {
            return;
        }
        let mut whole = text.to_vec();
        whole.push(b'\n');
        let mut reader =
            LineReader { conf: self, state, at: &at, include: None, said: false, unknown: false };
        let end = parse(&whole, &mut reader);
        let (include, said) = (reader.include.take(), reader.said);
        if said && self.lines.len() < MAX_LINES {
            let text = String::from_utf8_lossy(text).trim_end().to_owned();
            self.lines.insert(at.clone(), text);
        }
        if end != End::Whole {
            self.refuse(at, Refused::Syntax);
            return;
        }
        if let Some(pattern) = include {
            self.include(&pattern, at, state);
        }
    }

    fn include(&mut self, pattern: &str, at: Origin, state: &mut State<'_>) {
        let path = below(state.source.prefix, pattern);
        self.includes.push(Set::at(path.clone(), at.clone()));
        let found = match state.root.glob(&path) {
            Ok(found) => found,
            Err(error) => {
                state.notes.unread(&error);
                return;
            }
        };
        for file in found {
            if !state.bound.full && !is_folder(state.root, &file) {
                self.load(&file, at.clone(), state);
            }
        }
    }
}

/// `path`, which is below `prefix` unless it is absolute.
pub fn below(prefix: &Path, path: &str) -> PathBuf {
    // Not join(): php-fpm puts a slash between the two whatever they are.
    if path.starts_with('/') { PathBuf::from(path) } else { prefix.join(path) }
}

/// Whether there is a folder at `path`.
pub fn is_folder(root: &Root, path: &Path) -> bool {
    root.stat(path).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
    })
}

struct State<'a> {
    root: &'a Root,
    source: &'a Source<'a>,
    notes: &'a mut Notes,
    /// Of [`Conf::pools`].
    pool: Option<usize>,
    depth: usize,
    bound: Bound,
}

struct LineReader<'a, 's, 'o> {
    conf: &'a mut Conf,
    state: &'a mut State<'s>,
    at: &'o Origin,
    include: Option<String>,
    /// Whether the line had a statement.
    said: bool,
    /// Whether the statement that is read has a variable that is not known.
    unknown: bool,
}

impl Reader for LineReader<'_, '_, '_> {
    fn has_fallbacks(&self) -> bool {
        self.state.source.outside.has_fallbacks()
    }

    fn variable(&mut self, name: &str, fallback: Option<&str>, _line: u32) -> String {
        let (source, at) = (self.state.source, self.at.clone());
        let environment = source.outside.environment;
        let known = variable((name, fallback), source.ini, environment, at, self.state.notes);
        self.unknown |= known.is_none();
        known.unwrap_or_default()
    }

    fn statement(&mut self, _line: u32, statement: Statement) -> bool {
        self.said = true;
        if std::mem::take(&mut self.unknown) {
            self.conf.unknown = true;
            return true;
        }
        let result = match statement {
            Statement::Section(name) => {
                self.section(name);
                Ok(())
            }
            Statement::Entry { key, value: None } => Err(Refused::NoValue { key: short(&key) }),
            Statement::Entry { key, value: Some(value) } => self.entry(key, value),
            Statement::Element { key, offset, value } => self.element(key, offset, value),
        };
        if let Err(refused) = result {
            self.conf.refuse(self.at.clone(), refused);
        }
        true
    }
}

impl LineReader<'_, '_, '_> {
    fn section(&mut self, name: String) {
        // No process would show more of it, either.
        let name = if name.len() > 255 { short(&name) } else { name };
        if name.eq_ignore_ascii_case("global") {
            self.state.pool = None;
            return;
        }
        let pools = &mut self.conf.pools;
        let known = pools.iter().position(|pool| pool.name.eq_ignore_ascii_case(&name));
        if known.is_none() && pools.len() == MAX_POOLS {
            self.state.bound.stop(self.at, "500 pools", self.state.notes);
            return;
        }
        let index = known.unwrap_or_else(|| {
            pools.push(RawPool {
                name,
                sections: Vec::new(),
                values: BTreeMap::new(),
                php: Vec::new(),
            });
            pools.len() - 1
        });
        if pools[index].sections.len() < MAX_VALUES {
            pools[index].sections.push(self.at.clone());
        }
        self.state.pool = Some(index);
    }

    fn entry(&mut self, key: String, text: String) -> Result<(), Refused> {
        if key == "include" {
            if self.include.is_some() {
                return Err(Refused::TwoIncludes);
            }
            self.include = Some(text);
            return Ok(());
        }
        let in_pool = self.state.pool.is_some();
        let Some((name, kind)) = directive::find(&key, in_pool, self.state.source.outside.version)
        else {
            if self.state.source.outside.version.is_none_or(|version| version > NEWEST) {
                let text =
                    format!("{} is no directive up to PHP {NEWEST}: passed over", short(&key));
                self.state.notes.at(self.at.clone(), text);
                return Ok(());
            }
            let place = if in_pool { "in a pool" } else { "before a pool" };
            return Err(Refused::Unknown { key: short(&key), place });
        };
        let pool = self.state.pool.and_then(|index| self.conf.pools.get_mut(index));
        let value = directive::value(kind, &text, pool.as_ref().map(|pool| pool.name.as_str()))
            .map_err(|source| Refused::Value { key: short(&key), text: short(&text), source })?;
        let directive = Directive { value, at: self.at.clone() };
        match pool {
            Some(pool) => pool.values.insert(name, directive),
            None => self.conf.global.insert(name, directive),
        };
        Ok(())
    }

    fn element(&mut self, key: String, offset: String, text: String) -> Result<(), Refused> {
        if key == "access.suppress_path" {
            let fits = offset.is_empty() && text.starts_with('/') && self.state.pool.is_some();
            return if fits { Ok(()) } else { Err(Refused::Element { key: short(&key) }) };
        }
        let pool = self.state.pool.and_then(|index| self.conf.pools.get_mut(index));
        let Some(pool) = pool.filter(|_| !offset.is_empty()) else {
            return Err(Refused::Element { key: short(&key) });
        };
        let (admin, is_flag) = match key.as_str() {
            "php_value" => (false, false),
            "php_admin_value" => (true, false),
            "php_flag" => (false, true),
            "php_admin_flag" => (true, true),
            "env" if !text.is_empty() => return Ok(()),
            "env" => {
                let source = ValueError::Name;
                return Err(Refused::Value { key: short(&key), text: short(&text), source });
            }
            _ => return Err(Refused::Unknown { key: short(&key), place: "in a pool" }),
        };
        let value = if is_flag {
            directive::flag(&text).map(|on| if on { "1" } else { "0" }.to_owned())
        } else {
            directive::expanded(&text, Some(&pool.name))
        };
        let value = value.map_err(|source| Refused::Value {
            key: short(&key),
            text: short(&text),
            source,
        })?;
        if pool.php.len() == MAX_VALUES {
            self.state
                .notes
                .at(self.at.clone(), "not read: the pool has more than 2000 PHP values");
            return Ok(());
        }
        pool.php.push(PhpValue { key: offset, value, admin, at: self.at.clone() });
        Ok(())
    }
}
