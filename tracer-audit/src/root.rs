//! The file system that is audited: the host's own, or an unpacked one below a folder.
//!
//! Every path is resolved inside it, symbolic links included, so that an unpacked system cannot lead the
//! audit to files of the host. Every read is bounded, nothing but a regular file is opened, and nothing
//! blocks: a FIFO, a device or a file of 100 MB is an error with its path. Owns no format.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Largest file that is read, bytes: fifty times a stock php.ini.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// Most names of a folder, and most files of one pattern.
pub const MAX_NAMES: usize = 10_000;

/// Deepest pattern, in folders.
const MAX_DEPTH: usize = 32;

/// How often a path is looked up anew because names changed meanwhile.
const MAX_TRIES: u32 = 128;

/// A file or folder that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("{} does not exist", .path.display())]
    Missing {
        /// As asked for.
        path: PathBuf,
    },
    /// A folder, FIFO, socket or device.
    #[error("{} is no regular file", .path.display())]
    NotAFile {
        /// As asked for.
        path: PathBuf,
    },
    /// More than [`MAX_FILE_BYTES`].
    #[error("{} is larger than {} MiB: not read", .path.display(), MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// As asked for.
        path: PathBuf,
    },
    /// More than [`MAX_NAMES`].
    #[error("{} has more than {MAX_NAMES} files: none is read", .path.display())]
    TooMany {
        /// The folder, or the pattern.
        path: PathBuf,
    },
    /// No shell pattern.
    #[error("{} is no valid pattern: {source}", .path.display())]
    Pattern {
        /// As asked for.
        path: PathBuf,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// Anything else: no permission, a circle of links.
    #[error("{}: {source}", .path.display())]
    Io {
        /// As asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ReadError {
    /// Whether there is just nothing: no reason for a note where the file is optional.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether it is as unreadable to every program: there is none, or it is no file. What this user may not
    /// read, or what is too large to be read here, may well be read by another.
    pub fn is_for_all(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NotAFile { .. })
    }

    fn new(path: &Path, errno: Errno) -> Self {
        let path = path.to_path_buf();
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing { path },
            Errno::NXIO | Errno::ISDIR => Self::NotAFile { path },
            _ => Self::Io { path, source: errno.into() },
        }
    }
}

/// A file system to audit.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    path: PathBuf,
    is_host: bool,
}

impl Root {
    /// The file system below `path`.
    ///
    /// # Errors
    ///
    /// `path` is no folder, or may not be opened.
    pub fn new(path: &Path) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| ReadError::new(path, errno))?;
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let own = rustix::fs::fstat(&folder).map_err(|errno| ReadError::new(path, errno))?;
        let hosts = rustix::fs::stat("/").map_err(|errno| ReadError::new(path, errno))?;
        let path = std::path::absolute(path)
            .map_err(|source| ReadError::Io { path: path.to_path_buf(), source })?;
        Ok(Self { folder, path, is_host: identity(own) == identity(hosts) })
    }

    /// Whether this is the running host, whose sockets and processes belong to the files. By what the folder
    /// is, not by its path: /proc/PID/root of a container is a link that reads `/`.
    pub fn is_host(&self) -> bool {
        self.is_host
    }

    /// Where the file `path` of this file system is for a program of the host. Links are not followed: for
    /// showing, and for handing to another program when [`Self::is_host`].
    pub fn outside(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// All bytes of the regular file `path`, an absolute path inside this file system.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| ReadError::new(path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ReadError::NotAFile { path: path.to_path_buf() });
        }
        let mut bytes = Vec::new();
        // Files of /proc have no size: the bound is on what is read.
        File::from(file)
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| ReadError::Io { path: path.to_path_buf(), source })?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(ReadError::TooLarge { path: path.to_path_buf() });
        }
        Ok(bytes)
    }

    /// Like [`Self::read`], as text; invalid UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn text(&self, path: &Path) -> Result<String, ReadError> {
        let bytes = self.read(path)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Where the symbolic link `path` leads, as it stands in the link.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]; also that it is no link.
    pub fn link(&self, path: &Path) -> Result<PathBuf, ReadError> {
        let link = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, c"", Vec::new())
            .map_err(|errno| ReadError::new(path, errno))?;
        use std::os::unix::ffi::OsStringExt;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
    }

    /// What `path` is, links followed, without opening it.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn stat(&self, path: &Path) -> Result<rustix::fs::Stat, ReadError> {
        let file = self.open(path, OFlags::PATH)?;
        rustix::fs::statat(&file, c"", AtFlags::EMPTY_PATH)
            .map_err(|errno| ReadError::new(path, errno))
    }

    /// Whether there is something at `path`, links followed.
    pub fn exists(&self, path: &Path) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// The names in the folder `path`, sorted by bytes, as whole paths.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn list(&self, path: &Path) -> Result<Vec<PathBuf>, ReadError> {
        use std::os::unix::ffi::OsStrExt;
        let fail = |errno| ReadError::new(path, errno);
        let folder = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(path.join(OsStr::from_bytes(name)));
            }
            if names.len() > MAX_NAMES {
                return Err(ReadError::TooMany { path: path.to_path_buf() });
            }
        }
        names.sort();
        Ok(names)
    }

    /// What exists of the shell pattern `pattern`, an absolute path, as glob(3) finds it: sorted, `*` and
    /// `?` match no `/` and no leading dot. Folders that may not be read hold nothing.
    ///
    /// # Errors
    ///
    /// [`ReadError::Pattern`], [`ReadError::TooMany`].
    pub fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let too_many = || ReadError::TooMany { path: pattern.to_path_buf() };
        let mut found = vec![PathBuf::from("/")];
        for (depth, part) in pattern.components().enumerate() {
            let part = match part {
                Component::Normal(part) => part,
                Component::ParentDir => OsStr::new(".."),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            };
            if depth > MAX_DEPTH {
                return Err(too_many());
            }
            let text = part.to_string_lossy();
            if !is_pattern(&text) {
                found.iter_mut().for_each(|path| path.push(part));
                found.retain(|path| self.exists(path));
                continue;
            }
            let matches = Pattern::new(&plain(&text))
                .map_err(|source| ReadError::Pattern { path: pattern.to_path_buf(), source })?;
            let options =
                MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
            let mut next = Vec::new();
            for folder in &found {
                for path in self.list(folder).unwrap_or_default() {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    if matches.matches_with(&name, options) {
                        next.push(path);
                    }
                }
                if next.len() > MAX_NAMES {
                    return Err(too_many());
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Links are followed inside this file system only, and never the magic ones of /proc.
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, ReadError> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        // A `..` on the way is refused with EAGAIN while anything anywhere is renamed (openat2(2)).
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.folder, inside, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < MAX_TRIES => tries += 1,
                opened => return opened.map_err(|errno| ReadError::new(path, errno)),
            }
        }
    }
}

/// Whether a name, or a part of one, is a pattern for [`Root::glob`].
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// A part of a pattern of glob(3) as the crate writes it: `**` is no more than `*`, and `[^a]` is `[!a]`.
fn plain(part: &str) -> String {
    let mut plain = part.replace("[^", "[!");
    while plain.contains("**") {
        plain = plain.replace("**", "*");
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/php")).unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "note"] {
            fs::write(folder.path().join("etc/php").join(name), name).unwrap();
        }
        let root = Root::new(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn links_stay_inside() {
        let (folder, root) = root();
        symlink("/etc/php/a.conf", folder.path().join("absolute")).unwrap();
        symlink("../../../etc/passwd", folder.path().join("upwards")).unwrap();
        symlink("circle", folder.path().join("circle")).unwrap();
        assert_eq!(root.text(Path::new("/absolute")).unwrap(), "a.conf");
        assert!(root.read(Path::new("/upwards")).unwrap_err().is_missing());
        assert!(matches!(root.read(Path::new("/circle")), Err(ReadError::Io { .. })));
        assert_eq!(root.link(Path::new("/upwards")).unwrap(), Path::new("../../../etc/passwd"));
    }

    #[test]
    fn the_host_is_known_by_what_its_folder_is() {
        let (folder, root) = root();
        assert!(!root.is_host());
        for path in ["/", "/proc/self/root", "/.."] {
            assert!(Root::new(Path::new(path)).unwrap().is_host(), "{path}");
        }
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(!Root::new(&link).unwrap().is_host());
    }

    #[test]
    fn renames_elsewhere_hide_no_file() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (folder, root) = root();
        symlink("../php/a.conf", folder.path().join("etc/php/upwards")).unwrap();
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        fs::write(&here, "").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(&here, &there).unwrap();
                    fs::rename(&there, &here).unwrap();
                }
            });
            let lost = (0..20_000).filter_map(|_| root.stat(Path::new("/etc/php/upwards")).err());
            let lost: Vec<_> = lost.collect();
            done.store(true, Ordering::Relaxed);
            assert!(lost.is_empty(), "{} times: {:?}", lost.len(), lost[0]);
        });
    }

    #[test]
    fn only_files_of_a_bearable_size_are_read() {
        let (folder, root) = root();
        let huge = fs::File::create(folder.path().join("huge")).unwrap();
        huge.set_len(100 << 20).unwrap();
        rustix::fs::mknodat(&root.folder, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        assert!(matches!(root.read(Path::new("/huge")), Err(ReadError::TooLarge { .. })));
        assert!(matches!(root.read(Path::new("/fifo")), Err(ReadError::NotAFile { .. })));
        assert!(matches!(root.read(Path::new("/etc/php")), Err(ReadError::NotAFile { .. })));
        assert!(root.read(Path::new("/etc/none")).unwrap_err().is_missing());
        assert!(root.read(Path::new("/etc/php/note/below")).unwrap_err().is_missing());
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        let (_folder, root) = root();
        let found = |pattern: &str| root.glob(Path::new(pattern)).unwrap();
        assert_eq!(
            found("/etc/*/*.conf"),
            [PathBuf::from("/etc/php/a.conf"), PathBuf::from("/etc/php/b.conf")]
        );
        assert_eq!(found("/etc/php/note"), [PathBuf::from("/etc/php/note")]);
        assert_eq!(found("/etc/**/**.conf").len(), 2);
        assert_eq!(found("/etc/php/../*/a.conf"), [PathBuf::from("/etc/php/../php/a.conf")]);
        assert_eq!(found("/etc/php/[^b].conf"), [PathBuf::from("/etc/php/a.conf")]);
        assert!(found("/etc/php/none").is_empty());
        assert!(matches!(root.glob(Path::new("/etc/[")), Err(ReadError::Pattern { .. })));
    }

    #[test]
    fn names_are_sorted() {
        let (_folder, root) = root();
        let names = root.list(Path::new("/etc/php")).unwrap();
        assert!(names.is_sorted());
        assert_eq!(names.len(), 4);
        assert!(root.list(Path::new("/etc/php/note")).is_err());
        assert!(Root::new(Path::new("/nowhere")).unwrap_err().is_missing());
    }
}
