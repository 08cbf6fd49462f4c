//! Drop-in files: made anew, or replacing what an earlier plan wrote; what anybody else wrote is left alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The first line of each file, by which it is known again.
const MARK: &str = "Written by `rampage audit --emit`; delete this file to undo it.";

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// Somebody else's file stands there.
    #[error("{} is there and was not written by rampage: it is left alone", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Emitted {
    /// The files, as paths of the host.
    pub files: Vec<PathBuf>,
}

/// A section of a file: `[www]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Section(String);

impl Section {
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Of a file without sections.
    pub fn none() -> Self {
        Self(String::new())
    }
}

/// Files to write, with their sections and lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(BTreeMap<PathBuf, BTreeMap<Section, Vec<String>>>);

impl Files {
    /// One more line; of two for the same key the first one holds. What could break out of its line is not written: names of pools come from files.
    pub fn line(&mut self, file: PathBuf, section: Section, line: &str) {
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        if !is_plain(&section.0) || section.0.contains(']') || !is_plain(line) {
            return;
        }
        let lines = self.0.entry(file).or_default().entry(section).or_default();
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        if !lines.iter().any(|known| key(known) == key(line)) {
            lines.push(line.to_owned());
        }
    }

    /// What makes the services read them.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        let has = |part: &str| self.0.keys().any(|path| path.to_string_lossy().contains(part));
        if has("/systemd/") {
            commands.push("systemctl daemon-reload".to_owned());
        }
        for path in self.0.keys() {
            let text = path.to_string_lossy();
            let php = text.strip_prefix("/etc/php/").and_then(|rest| rest.split('/').next());
            let restart = match php {
                Some(version) => {
                    format!("php-fpm{version} -t && systemctl restart php{version}-fpm")
                }
                None if text.contains("mysql") || text.contains("my.cnf") => {
                    "systemctl restart mariadb".to_owned()
                }
                None => continue,
            };
            commands.push(restart);
        }
        commands
    }

    /// Writes each below `folder`.
    pub fn write(&self, folder: &Path) -> Result<Emitted, EmitError> {
        let targets: Vec<(PathBuf, String)> = self
            .0
            .iter()
            .map(|(path, sections)| {
                let comment = if path.extension().is_some_and(|end| end == "conf")
                    && path.to_string_lossy().contains("/php")
                {
                    ';'
                } else {
                    '#'
                };
                let inside = path.strip_prefix("/").unwrap_or(path);
                (folder.join(inside), text(comment, sections))
            })
            .collect();
        // All or nothing, as far as others are concerned.
        for (path, _) in &targets {
            if !is_ours(path)? {
                return Err(EmitError::Foreign { path: path.clone() });
            }
        }
        let mut emitted = Emitted::default();
        for (path, text) in targets {
            put(&path, text.as_bytes())
                .map_err(|source| EmitError::Io { path: path.clone(), source })?;
            emitted.files.push(path);
        }
        Ok(emitted)
    }
}

fn text(comment: char, sections: &BTreeMap<Section, Vec<String>>) -> String {
    let mut text = format!("{comment} {MARK}\n");
    for (section, lines) in sections {
        if !section.0.is_empty() {
            text.push_str(&format!("\n[{}]\n", section.0));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Whether nothing is there, or what an earlier plan wrote. A link is somebody's.
fn is_ours(path: &Path) -> Result<bool, EmitError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(EmitError::Io { path: path.to_owned(), source }),
        Ok(found) if !found.is_file() || found.len() > 1 << 20 => Ok(false),
        Ok(_) => {
            let text =
                fs::read(path).map_err(|source| EmitError::Io { path: path.to_owned(), source })?;
            Ok(String::from_utf8_lossy(&text)
                .lines()
                .next()
                .is_some_and(|line| line.ends_with(MARK)))
        }
    }
}

/// Puts `bytes` in place as a whole, or not at all.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".rampage-new");
    let next = folder.join(name);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o644).open(&next)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    let placed = written.and_then(|()| fs::rename(&next, path));
    if placed.is_err() {
        let _ = fs::remove_file(&next);
    }
    placed
}
