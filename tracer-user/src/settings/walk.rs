//! Reads a TOML file against the known keys: every value gets its line, every problem is noted, and
//! what is good comes out as one JSON value.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Fault, Problem};
use super::shape::{self, Bounds, Choice, Key, Shape};
use super::value::quoted;
use super::{Size, Span};

/// Problems that are told of; the rest is counted.
const MOST_PROBLEMS: usize = 100;
/// Names farther from each other than this part of their length are not alike.
const ALIKE: usize = 3;
/// Longer names are not compared.
const MOST_NAME: usize = 64;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Tables, keys and elements (`pool[0].name`), and the line of each, from 1.
    pub lines: BTreeMap<String, u32>,
    pub problems: Vec<Problem>,
    /// Beyond those that are kept.
    untold: usize,
    path: Arc<PathBuf>,
}

impl Found {
    pub fn new(path: Arc<PathBuf>) -> Self {
        Self { path, ..Self::default() }
    }

    pub fn note(&mut self, line: u32, key: &str, fault: Fault) {
        if self.problems.len() < MOST_PROBLEMS {
            let (path, key) = (Arc::clone(&self.path), key.to_owned());
            self.problems.push(Problem { path, line, key, fault });
        } else {
            self.untold += 1;
        }
    }

    /// The line of a key, or of the nearest table around it.
    pub fn line(&self, mut path: &str) -> u32 {
        loop {
            match self.lines.get(path) {
                Some(line) => return *line,
                None => match path.rfind(['.', '[']) {
                    Some(at) => path = &path[..at],
                    None => return 1,
                },
            }
        }
    }

    /// All problems in the order of their lines; empty = none.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        if self.untold > 0 {
            let line = self.problems.last().map_or(1, |last| last.line);
            let (path, fault) = (self.path, Fault::More { count: self.untold });
            self.problems.push(Problem { path, line, key: String::new(), fault });
        }
        self.problems
    }
}

/// Where lines begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect())
    }

    /// The line of a byte, from 1.
    pub fn at(&self, byte: usize) -> u32 {
        u32::try_from(self.0.partition_point(|begin| *begin <= byte)).unwrap_or(u32::MAX)
    }

    /// The text of a line.
    pub fn text<'a>(&self, text: &'a str, line: u32) -> &'a str {
        let at = line as usize;
        let begin = at.checked_sub(1).and_then(|at| self.0.get(at)).copied().unwrap_or(text.len());
        let end = self.0.get(at).copied().unwrap_or(text.len());
        text.get(begin..end).unwrap_or_default()
    }
}

/// Reads the values of a file.
pub(super) struct Walk<'a> {
    pub lines: &'a Lines,
    pub found: &'a mut Found,
}

impl Walk<'_> {
    fn at(&self, span: &Range<usize>) -> u32 {
        self.lines.at(span.start)
    }

    /// The good part of a table; None = a key is missing that it must have, or has no good value.
    pub fn table(
        &mut self,
        path: &str,
        line: u32,
        table: &DeTable<'_>,
        keys: &'static [Key],
    ) -> Option<Map<String, Value>> {
        let mut out = Map::new();
        let mut is_whole = true;
        for (name, value) in table {
            let line = self.at(&name.span());
            let name = name.get_ref();
            let Some(key) = keys.iter().find(|key| *key.name == **name) else {
                let hint = hint(name, keys);
                self.found.note(line, &join(&plain(path), name), Fault::UnknownKey { hint });
                continue;
            };
            let path = join(path, name);
            match self.value(&path, line, value, key) {
                Some(value) => {
                    self.found.lines.insert(path, line);
                    out.insert(key.name.to_owned(), value);
                }
                None => is_whole &= !key.is_required,
            }
        }
        for key in keys.iter().filter(|key| key.is_required) {
            if !table.contains_key(key.name) {
                let example = key.example.as_ref().map(Value::to_string).unwrap_or_default();
                let wanted = format!("write {} = {example}, for example", key.name);
                self.found.note(line, key.path, Fault::Missing { wanted });
                is_whole = false;
            }
        }
        is_whole.then_some(out)
    }

    fn value(
        &mut self,
        path: &str,
        line: u32,
        value: &Spanned<DeValue<'_>>,
        key: &'static Key,
    ) -> Option<Value> {
        match (&key.shape, value.get_ref()) {
            (Shape::Table(keys), DeValue::Table(table)) => {
                // What is good in it is taken, even if something is not.
                Some(Value::Object(self.table(path, line, table, keys).unwrap_or_default()))
            }
            (Shape::Tables { keys, most }, DeValue::Array(all)) => {
                self.count(line, key, all.len(), *most);
                let mut out = Vec::new();
                for one in all.iter().take(*most) {
                    let line = self.at(&one.span());
                    let DeValue::Table(table) = one.get_ref() else {
                        self.wrong_type(line, key, one.get_ref());
                        continue;
                    };
                    let path = format!("{path}[{}]", out.len());
                    self.found.lines.insert(path.clone(), line);
                    out.extend(self.table(&path, line, table, keys).map(Value::Object));
                }
                Some(Value::Array(out))
            }
            (Shape::Texts { least, most, choices }, DeValue::Array(all)) => {
                self.count(line, key, all.len(), *most);
                if all.len() < *least {
                    let wanted = format!("a list of at least {least}");
                    self.found.note(line, key.path, Fault::OutOfRange { wanted });
                    return None;
                }
                let mut out = Vec::new();
                for one in all.iter().take(*most) {
                    let line = self.at(&one.span());
                    let DeValue::String(text) = one.get_ref() else {
                        self.wrong_type(line, key, one.get_ref());
                        continue;
                    };
                    let is_good = self.text(line, key, text, 0, shape::MOST_TEXT)
                        && (choices.is_empty() || self.choice(line, key, text, choices));
                    out.extend(is_good.then(|| Value::from(&**text)));
                }
                Some(Value::Array(out))
            }
            (Shape::Map { most }, DeValue::Table(all)) => {
                self.count(line, key, all.len(), *most);
                let mut out = Map::new();
                for (name, one) in all.iter().take(*most) {
                    let line = self.at(&name.span());
                    let DeValue::String(text) = one.get_ref() else {
                        self.wrong_type(line, key, one.get_ref());
                        continue;
                    };
                    if self.text(line, key, text, 0, shape::MOST_TEXT) {
                        self.found.lines.insert(join(path, name.get_ref()), line);
                        out.insert(name.get_ref().to_string(), Value::from(&**text));
                    }
                }
                Some(Value::Object(out))
            }
            (Shape::Flag, DeValue::Boolean(flag)) => Some(Value::Bool(*flag)),
            (Shape::Number { most }, DeValue::Integer(number)) => {
                let digits = number.as_str().replace('_', "");
                match u64::from_str_radix(&digits, number.radix()) {
                    Ok(number) if number <= *most => Some(Value::from(number)),
                    _ => {
                        let wanted = format!("a whole number from 0 to {most}");
                        self.found.note(line, key.path, Fault::OutOfRange { wanted });
                        None
                    }
                }
            }
            (shape, DeValue::String(text)) => self.written(line, key, shape, text),
            (_, other) => {
                self.wrong_type(line, key, other);
                None
            }
        }
    }

    /// What is written as a text.
    fn written(&mut self, line: u32, key: &Key, shape: &Shape, text: &str) -> Option<Value> {
        let is_good = match shape {
            Shape::Text { least, most } => self.text(line, key, text, *least, *most),
            Shape::Choice(choices) => self.choice(line, key, text, choices),
            Shape::Size(bounds) => self.bounded(line, key, text, bounds),
            Shape::Span(bounds) => self.bounded(line, key, text, bounds),
            _ => {
                self.wrong_type(line, key, &DeValue::String(text.into()));
                false
            }
        };
        is_good.then(|| Value::from(text))
    }

    fn text(&mut self, line: u32, key: &Key, text: &str, least: usize, most: usize) -> bool {
        let length = text.chars().count();
        let fault = if text.contains(char::is_control) {
            Fault::ControlCharacter
        } else if !(least..=most).contains(&length) {
            Fault::OutOfRange { wanted: format!("a text of {least} to {most} characters") }
        } else {
            return true;
        };
        self.found.note(line, key.path, fault);
        false
    }

    fn choice(&mut self, line: u32, key: &Key, text: &str, choices: &[Choice]) -> bool {
        if choices.iter().any(|choice| choice.word == text) {
            return true;
        }
        let words = || choices.iter().map(|choice| choice.word.as_str());
        let hint = match nearest(text, words()) {
            Some(word) => format!("; did you mean \"{word}\"?"),
            None => String::new(),
        };
        let choices = words().collect::<Vec<_>>().join(", ");
        let given = text.to_owned();
        self.found.note(line, key.path, Fault::NoChoice { given, choices, hint });
        false
    }

    fn bounded<T>(&mut self, line: u32, key: &Key, text: &str, bounds: &Bounds<T>) -> bool
    where
        T: std::str::FromStr<Err = super::ValueError> + Ord + Default + Copy + std::fmt::Display,
    {
        let fault = match text.parse::<T>() {
            Ok(value) if bounds.holds(value) => return true,
            Ok(_) => Fault::OutOfRange { wanted: bounds.words() },
            Err(error) => error.into(),
        };
        self.found.note(line, key.path, fault);
        false
    }

    fn count(&mut self, line: u32, key: &Key, count: usize, most: usize) {
        if count > most {
            self.found.note(line, key.path, Fault::TooMany { count, most });
        }
    }

    fn wrong_type(&mut self, line: u32, key: &Key, found: &DeValue<'_>) {
        let number = match found {
            DeValue::Integer(number) => number.as_str().parse::<u64>().ok(),
            _ => None,
        };
        let hint = match (&key.shape, found) {
            (Shape::Size(_), _) => {
                let size =
                    number.map_or_else(|| "64MiB".to_owned(), |n| Size::bytes(n).to_string());
                format!(": write {} = \"{size}\", in quotes", key.name)
            }
            (Shape::Span(_), _) => {
                let time = number.filter(|n| *n < 1 << 40).map(Span::from_secs);
                let time = time.map_or_else(|| "30s".to_owned(), |time| time.to_string());
                format!(": write {} = \"{time}\", in quotes", key.name)
            }
            (Shape::Tables { .. }, DeValue::Table(_)) => format!(": write [[{}]]", key.path),
            (Shape::Table(_), DeValue::Array(_)) => format!(": write [{}]", key.path),
            (Shape::Flag, DeValue::String(_)) => ": leave the quotes out".to_owned(),
            (Shape::Number { .. }, DeValue::String(text)) if text.parse::<u64>().is_ok() => {
                ": leave the quotes out".to_owned()
            }
            (Shape::Texts { .. }, DeValue::String(text)) => {
                format!(": write [\"{}\"]", quoted(text))
            }
            _ => String::new(),
        };
        let wanted = key.shape.words();
        self.found.note(line, key.path, Fault::WrongType { wanted, found: type_of(found), hint });
    }
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number without quotes",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time of day",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A path without the numbers of elements.
fn plain(path: &str) -> String {
    let parts = path.split('[').enumerate();
    let rest =
        |part: &str| part.split_once(']').map_or_else(String::new, |(_, rest)| rest.to_owned());
    parts.map(|(at, part)| if at == 0 { part.to_owned() } else { rest(part) }).collect()
}

/// What else may be meant by a key that there is not.
fn hint(name: &str, keys: &'static [Key]) -> String {
    if let Some(near) = nearest(name, keys.iter().map(|key| key.name)) {
        return format!("; did you mean `{near}`?");
    }
    let elsewhere = shape::all(shape::root()).find(|key| key.name == name);
    match elsewhere.and_then(|key| key.path.rsplit_once('.')) {
        Some((table, _)) => format!(" here; it belongs below [{table}]"),
        None => "; `rampage config sample` shows all keys".to_owned(),
    }
}

/// The name that is most like this one, if one is.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MOST_NAME {
        return None;
    }
    let name = name.to_lowercase().replace('-', "_");
    let distance = |other: &&str| strsim::damerau_levenshtein(&name, other);
    let is_near = |(distance, other): &(usize, &str)| {
        *distance <= (name.len().max(other.len()) / ALIKE).max(1)
    };
    names.map(|other| (distance(&other), other)).filter(is_near).min().map(|(_, other)| other)
}
