//! Configurations of a few files each, for the tests that run a program beside the audit.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A configuration in a folder of its own.
pub struct Case {
    name: String,
    folder: tempfile::TempDir,
    files: Vec<(String, String)>,
}

impl Case {
    /// Writes `files`, paths and texts, the first of them the one to start with; `@DIR@` becomes the folder.
    pub fn new(name: String, files: &[(String, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let files: Vec<_> =
            files.iter().map(|(path, text)| (path.clone(), text.replace("@DIR@", place))).collect();
        for (path, text) in &files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { name, folder, files }
    }

    /// The file to start with.
    pub fn main(&self) -> PathBuf {
        self.folder.path().join(&self.files[0].0)
    }

    /// All texts.
    pub fn text(&self) -> String {
        self.files.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} in {}", self.name, self.folder().display())?;
        for (path, text) in &self.files {
            write!(f, "==> {path}\n{text}")?;
        }
        Ok(())
    }
}

/// The cases of `corpus/<subject>/cases.txt`: `=== name` begins one, `==> path` a file of it.
pub fn cases(subject: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(subject);
    let text = fs::read_to_string(path.join("cases.txt")).unwrap();
    let mut cases = Vec::new();
    for case in text.split("=== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let files: Vec<(String, String)> = rest
            .split("==> ")
            .skip(1)
            .map(|file| {
                let (path, text) = file.split_once('\n').unwrap();
                (path.to_owned(), text.to_owned())
            })
            .collect();
        cases.push(Case::new(name.to_owned(), &files));
    }
    cases
}
