//! Reads the settings file. Whatever is in it, the outcome is settings or problems, each with its line.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use toml::de::DeTable;

use super::problem::{Fault, Problem, SettingsError};
use super::walk::{Found, Lines, Walk};
use super::{DEFAULT_PATH, Settings, Size, Span, check, shape};
use crate::text::printable;

/// Largest file, bytes: some thousand lines. A larger one of nothing but errors would take more memory
/// than the tracer may have.
pub(super) const MOST_BYTES: u64 = 256 << 10;

/// Settings, and where they come from.
#[derive(Debug)]
pub struct Loaded {
    /// Those in force.
    pub settings: Settings,
    /// The file; None = there is none, and everything is as by default.
    pub file: Option<PathBuf>,
    /// What is allowed, and yet hardly meant.
    pub warnings: Vec<Problem>,
    lines: BTreeMap<String, u32>,
    path: Arc<PathBuf>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file does not have it.
    Default,
    /// A line of the file, from 1.
    Line(u32),
}

/// Reads a file; without one that of [`DEFAULT_PATH`], which need not exist.
pub fn load(path: Option<&Path>) -> Result<Loaded, SettingsError> {
    let read = read(path.unwrap_or(Path::new(DEFAULT_PATH)));
    match (path, read) {
        (None, Err(SettingsError::Missing { .. })) => Ok(Loaded {
            settings: Settings::default(),
            file: None,
            warnings: Vec::new(),
            lines: BTreeMap::new(),
            path: Arc::default(),
        }),
        (_, read) => parse(path.unwrap_or(Path::new(DEFAULT_PATH)), &read?),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let fail = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => SettingsError::Missing { path: path.to_owned() },
        _ => SettingsError::Read { path: path.to_owned(), source },
    };
    // A pipe must not be waited for.
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = options.map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(SettingsError::NoFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(SettingsError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// What `bytes`, the content of the file `path`, say. All problems are told at once.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Loaded, SettingsError> {
    let path = Arc::new(path.to_owned());
    let mut found = Found::new(Arc::clone(&path));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            found.note(u32::try_from(line).unwrap_or(u32::MAX), "", Fault::NotUtf8);
            return Err(SettingsError::Invalid { problems: found.into_problems() });
        }
    };
    let settings = settings(text, &mut found);
    let mut warnings = Found::new(Arc::clone(&path));
    if let Some(settings) = &settings {
        check::settings(settings, &mut found, &mut warnings);
    }
    let lines = std::mem::take(&mut found.lines);
    match (settings, found.into_problems()) {
        (Some(settings), problems) if problems.is_empty() => Ok(Loaded {
            settings,
            file: Some(path.to_path_buf()),
            warnings: warnings.into_problems(),
            lines,
            path,
        }),
        (_, problems) => Err(SettingsError::Invalid { problems }),
    }
}

/// What could be read, and in `found` what could not.
fn settings(text: &str, found: &mut Found) -> Option<Settings> {
    let lines = Lines::of(text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mut broken: Vec<u32> = Vec::new();
    for error in &errors {
        let line = error.span().map_or(1, |span| lines.at(span.start));
        if broken.last() != Some(&line) {
            broken.push(line);
            let message = printable(&error.message().replace('\n', ", ")).into_owned();
            let hint = quotes(lines.text(text, line));
            found.note(line, "", Fault::Syntax { message, hint });
        }
    }
    drop(errors);
    let syntax = found.problems.len();
    let mut walk = Walk { lines: &lines, found };
    let table = walk.table("", 1, tree.get_ref(), shape::root()).unwrap_or_default();
    // Where a table's header cannot be read, its keys seem to belong to another one.
    let is_header = |line: &&u32| lines.text(text, **line).trim_start().starts_with('[');
    let astray = broken.iter().filter(is_header).min().copied().unwrap_or(u32::MAX);
    let mut at = 0;
    found.problems.retain(|problem| {
        at += 1;
        at <= syntax || (problem.line < astray && !broken.contains(&problem.line))
    });
    match serde_json::from_value(Value::Object(table)) {
        Ok(settings) => Some(settings),
        Err(_) => {
            found.note(1, "", Fault::Unreadable);
            None
        }
    }
}

/// A hint when a line has a value that wants quotes. The value may be a secret: it is repeated only
/// when it is a size or a time.
fn quotes(line: &str) -> String {
    let Some((key, value)) = line.split_once('=') else { return String::new() };
    let value = value.split('#').next().unwrap_or_default().trim();
    let is_bare = value.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == '.');
    if !is_bare {
        return String::new();
    }
    let is_plain = value.parse::<Size>().is_ok() || value.parse::<Span>().is_ok();
    let value = if is_plain { value } else { "…" };
    format!("; values other than numbers, true and false need quotes: {} = \"{value}\"", {
        super::value::quoted(key.trim())
    })
}

impl Loaded {
    /// Where a value comes from: `watch.step`, `alerts.webhook[0].url`.
    pub fn origin(&self, path: &str) -> Origin {
        self.lines.get(path).map_or(Origin::Default, |line| Origin::Line(*line))
    }

    /// Warnings that depend on this host: its memory cgroups are looked up.
    pub fn host_warnings(&self) -> Vec<Problem> {
        let mut found = self.noting();
        check::host(&self.settings, &mut found);
        found.into_problems()
    }

    /// Rules for pools that match none of `pools`, the names of all that were seen for a while.
    pub fn unmatched_pools<'a>(&self, pools: impl IntoIterator<Item = &'a str>) -> Vec<Problem> {
        let mut found = self.noting();
        check::pools(&self.settings, pools, &mut found);
        found.into_problems()
    }

    fn noting(&self) -> Found {
        let mut found = Found::new(Arc::clone(&self.path));
        found.lines.clone_from(&self.lines);
        found
    }
}
