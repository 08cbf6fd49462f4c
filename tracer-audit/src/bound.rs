//! How much of a program's files is read, so that no circle of includes and no huge tree of files can keep the
//! audit busy or fill its memory.

use crate::origin::{Notes, Origin};

/// Most bytes of all files of one program.
const MAX_BYTES: usize = 16 << 20;

/// Most letters of a name or value that a sentence repeats.
const MAX_LETTERS: usize = 80;

/// `text`, cut to what fits into a sentence.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What was read so far.
#[derive(Debug)]
pub struct Bound {
    most_files: usize,
    files: usize,
    bytes: usize,
    /// Nothing more is read.
    pub full: bool,
}

impl Bound {
    /// At most `most_files` files.
    pub fn new(most_files: usize) -> Self {
        Self { most_files, files: 0, bytes: 0, full: false }
    }

    /// Whether one more file of `bytes`, named at `at`, is read. The first that is not is said.
    pub fn takes(&mut self, bytes: usize, at: &Origin, notes: &mut Notes) -> bool {
        self.files += 1;
        self.bytes += bytes;
        if self.files > self.most_files || self.bytes > MAX_BYTES {
            let many = format!("{} files, or {} MiB", self.most_files, MAX_BYTES >> 20);
            self.stop(at, &many, notes);
        }
        !self.full
    }

    /// Nothing more is read, because there is more than `many`.
    pub fn stop(&mut self, at: &Origin, many: &str, notes: &mut Notes) {
        if !self.full {
            notes.at(at.clone(), format!("not read on: there are more than {many}"));
        }
        self.full = true;
    }
}
