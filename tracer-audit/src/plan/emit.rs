//! Drop-in files: made anew, or in the place of what an earlier plan wrote, of which they keep what they do not set
//! otherwise; what anybody else wrote is left alone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::root::Root;

/// The first line of each file, by which it is known again.
const MARK: &str = "Written by `rampage audit --emit`; delete this file to undo it.";

/// What a plan sets in files of more than one value: nothing else of an earlier one is kept.
const KEYS: [&str; 13] = [
    "ManagedOOMMemoryPressure",
    "ManagedOOMSwap",
    "MemoryMax",
    "OOMPolicy",
    "OOMScoreAdjust",
    "Restart",
    "RestartSec",
    "StartLimitIntervalSec",
    "php_admin_value[memory_limit]",
    "pm.max_children",
    "pm.max_spare_servers",
    "pm.min_spare_servers",
    "pm.start_servers",
];

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

    /// Of a pool; None where php-fpm would read the name otherwise when it stands in brackets as it is.
    pub fn of_pool(name: &str) -> Option<Self> {
        let is_plain = |letter: char| !letter.is_control() && !"$;\"'\\]".contains(letter);
        name.chars().all(is_plain).then(|| Self(name.to_owned()))
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
    /// One more line; of two for the same key the first one holds.
    pub fn line(&mut self, file: PathBuf, section: Section, line: &str) {
        let lines = self.0.entry(file).or_default().entry(section).or_default();
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        if !lines.iter().any(|known| key(known) == key(line)) {
            lines.push(line.to_owned());
        }
    }

    /// Whether one of them is a unit's.
    pub fn has_unit(&self) -> bool {
        self.0.keys().any(|path| path.starts_with("/etc/systemd"))
    }

    /// Writes each below `folder`, with what an earlier plan for `root` has set and this one leaves as it is.
    pub fn write(&self, root: &Root, folder: &Path) -> Result<Emitted, EmitError> {
        let mut files = self.clone();
        for path in self.0.keys() {
            let earlier = root.text(path).unwrap_or_default();
            for (section, line) in lines(&earlier) {
                files.line(path.clone(), section, line);
            }
        }
        files.put(folder)
    }

    fn put(&self, folder: &Path) -> Result<Emitted, EmitError> {
        let target = Target::new(folder)?;
        // All or nothing, as far as others are concerned.
        for path in self.0.keys() {
            let shown = target.shown(path);
            let is_ours = target.is_ours(path);
            if !is_ours.map_err(|source| EmitError::Io { path: shown.clone(), source })? {
                return Err(EmitError::Foreign { path: shown });
            }
        }
        let mut emitted = Emitted::default();
        for (path, sections) in &self.0 {
            let shown = target.shown(path);
            let put = target.put(path, text(sections).as_bytes());
            put.map_err(|source| EmitError::Io { path: shown.clone(), source })?;
            emitted.files.push(shown);
        }
        Ok(emitted)
    }
}

/// The lines of a file that an earlier plan wrote; none of anybody else's.
fn lines(text: &str) -> Vec<(Section, &str)> {
    let mut rest = text.lines();
    if !rest.next().is_some_and(is_mark) {
        return Vec::new();
    }
    let mut section = None;
    let mut found = Vec::new();
    for line in rest {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = Section::of_pool(name);
        } else if let (Some(section), Some((key, value))) = (&section, line.split_once('='))
            && KEYS.contains(&key.trim())
            && value.trim().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            found.push((section.clone(), line));
        }
    }
    found
}

fn is_mark(line: &str) -> bool {
    line.ends_with(MARK)
}

/// Comments begin with a semicolon wherever there are sections: for php-fpm nothing else does.
fn text(sections: &BTreeMap<Section, Vec<String>>) -> String {
    let comment = if sections.keys().any(|section| section.0.is_empty()) { '#' } else { ';' };
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

/// The folder that files are written below. Links are followed inside of it only: it may be somebody's unpacked
/// file system.
struct Target<'a> {
    folder: OwnedFd,
    path: &'a Path,
}

impl<'a> Target<'a> {
    fn new(path: &'a Path) -> Result<Self, EmitError> {
        let fail = |source| EmitError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(fail)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty());
        Ok(Self { folder: folder.map_err(|errno| fail(errno.into()))?, path })
    }

    /// The absolute path `path` as the host has it.
    fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(inside(path))
    }

    fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), resolve)
    }

    /// The folder `path`, which is made where there is none.
    fn make(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT);
        };
        rustix::fs::mkdirat(self.make(parent)?, name, Mode::from_raw_mode(0o755))?;
        self.open(path)
    }

    /// Whether nothing is at `path`, or what an earlier plan wrote. A link is somebody's.
    fn is_ours(&self, path: &Path) -> io::Result<bool> {
        let (parent, name) = parts(path)?;
        let folder = match self.open(parent) {
            Err(Errno::NOENT) => return Ok(true),
            opened => opened?,
        };
        let found = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(true),
            found => found?,
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&folder, name, flags, Mode::empty())?);
        let mut first = Vec::new();
        file.take(1 << 10).read_to_end(&mut first)?;
        let first = String::from_utf8_lossy(&first);
        Ok(first.lines().next().is_some_and(is_mark))
    }

    /// Puts `bytes` in place as a whole, or not at all.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (parent, name) = parts(path)?;
        let folder = self.make(parent)?;
        let mut next = name.to_owned();
        next.push(".rampage-new");
        match rustix::fs::unlinkat(&folder, &next, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &next, flags, Mode::from_raw_mode(0o644))?;
        let mut file = File::from(file);
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        let placed =
            written.and_then(|()| Ok(rustix::fs::renameat(&folder, &next, &folder, name)?));
        if placed.is_err() {
            let _ = rustix::fs::unlinkat(&folder, &next, AtFlags::empty());
        }
        placed
    }
}

fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn parts(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let path = inside(path);
    path.parent().zip(path.file_name()).ok_or_else(|| Errno::INVAL.into())
}
