//! Where a value stands, and what could not be read or was passed over.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::root::ReadError;

/// Most notes that are kept; a file may be nothing but errors.
const MAX_NOTES: usize = 200;

/// A line of a file. The path is the one inside the audited file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Origin {
    /// Absolute.
    pub file: Arc<Path>,
    /// From 1; None for the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl Origin {
    /// The line `line`, from 1.
    pub fn new(file: &Arc<Path>, line: u32) -> Self {
        Self { file: file.clone(), line: Some(line) }
    }

    /// The file as a whole.
    pub fn whole(file: impl Into<Arc<Path>>) -> Self {
        Self { file: file.into(), line: None }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file.display()),
            None => write!(f, "{}", self.file.display()),
        }
    }
}

/// A value and where it was set; None is the program's own default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Set<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Origin>,
}

impl<T> Set<T> {
    /// A value of a file.
    pub fn at(value: T, at: Origin) -> Self {
        Self { value, at: Some(at) }
    }

    /// What the program does when nobody says anything.
    pub fn default_of(value: T) -> Self {
        Self { value, at: None }
    }
}

/// Something that was not seen or not understood: what follows may lack it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Where; None where it is no file's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Origin>,
    /// One plain sentence, without the place.
    pub text: String,
}

/// All notes of an audit, bounded, each once.
#[derive(Debug, Default)]
pub struct Notes {
    list: Vec<Note>,
    dropped: u64,
}

impl Notes {
    /// Something at a place.
    pub fn at(&mut self, at: Origin, text: impl Into<String>) {
        self.push(Note { at: Some(at), text: text.into() });
    }

    /// Something that is no file's.
    pub fn say(&mut self, text: impl Into<String>) {
        self.push(Note { at: None, text: text.into() });
    }

    /// A file or folder that could not be read; nothing where there is none.
    pub fn unread(&mut self, error: &ReadError) {
        if !error.is_missing() {
            self.push(Note { at: None, text: error.to_string() });
        }
    }

    /// Those of `other`, behind the own.
    pub fn take(&mut self, other: Self) {
        other.list.into_iter().for_each(|note| self.push(note));
        self.dropped += other.dropped;
    }

    /// The notes in the order they came, the last of them about those that were too many.
    pub fn finish(mut self) -> Vec<Note> {
        if self.dropped > 0 {
            let text = format!("{} more notes are left out", self.dropped);
            self.list.push(Note { at: None, text });
        }
        self.list
    }

    fn push(&mut self, note: Note) {
        if self.list.contains(&note) {
            return;
        }
        if self.list.len() < MAX_NOTES {
            self.list.push(note);
        } else {
            self.dropped += 1;
        }
    }
}

impl From<PathBuf> for Origin {
    fn from(path: PathBuf) -> Self {
        Self::whole(path)
    }
}
