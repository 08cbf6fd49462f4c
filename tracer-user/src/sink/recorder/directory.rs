//! The state directory: made for its owner and the group `adm`, refused when others could plant files in
//! it. Files are made anew, never opened where somebody else put one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown,
};
use std::path::{Path, PathBuf};

use crate::text::printable;

/// Group that may read what is recorded: those who read logs.
const GROUP: &str = "adm";
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// Bits that let others than the owner make files.
const OTHERS_WRITE: u32 = 0o022;

/// The recorder cannot begin.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RecorderError {
    #[error("recorder.directory: cannot {action} {}: {source}", shown(path))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("recorder.directory: {} is no directory", shown(path))]
    NoDirectory { path: PathBuf },
    #[error(
        "recorder.directory: {} belongs to user {owner}, not to user {user} who records; \
         `chown {user}` it, or choose another directory",
        shown(path)
    )]
    Owner { path: PathBuf, owner: u32, user: u32 },
    #[error(
        "recorder.directory: others may write to {} (mode {mode:04o}); `chmod go-w` it, or choose \
         another directory",
        shown(path)
    )]
    Writable { path: PathBuf, mode: u32 },
    #[error(
        "another rampage (process {pid}) works in {}; stop it, or set recorder.directory to another folder",
        shown(directory)
    )]
    Taken { pid: String, directory: PathBuf },
    #[error("the recorder cannot begin: {0}")]
    Start(#[source] io::Error),
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// The directory, and who owns what is made in it.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
    user: u32,
    group: Option<u32>,
}

impl Directory {
    /// Makes it where it is not there, and checks it where it is.
    pub fn open(root: &Path) -> Result<Self, RecorderError> {
        let user = user().map_err(RecorderError::Start)?;
        let group = (user == 0).then(group).flatten();
        let directory = Self { root: root.to_owned(), user, group };
        directory.make()?;
        Ok(directory)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where segments are.
    pub fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    /// Where incidents are.
    pub fn incidents(&self) -> PathBuf {
        self.root.join("incidents")
    }

    /// Makes what is missing of it. True = something was.
    pub fn make(&self) -> Result<bool, RecorderError> {
        let mut is_new = false;
        for path in [self.root.clone(), self.segments(), self.incidents()] {
            if !path.exists() {
                is_new = true;
                self.make_folder(&path, true).map_err(|source| RecorderError::Io {
                    action: "make",
                    path: path.clone(),
                    source,
                })?;
            }
            self.check(&path)?;
        }
        Ok(is_new)
    }

    /// Makes a folder; `parents` too, if that is asked for. An existing one is an error.
    pub fn make_folder(&self, path: &Path, parents: bool) -> io::Result<()> {
        if parents && let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(0o700).create(path)?;
        if let Some(group) = self.group {
            or_not_allowed(lchown(path, None, Some(group)))?;
        }
        fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))?;
        if let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
        Ok(())
    }

    /// Makes a file that is not there yet.
    pub fn make_file(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path)?;
        if let Some(group) = self.group {
            or_not_allowed(fchown(&file, None, Some(group)))?;
        }
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        Ok(file)
    }

    /// Puts `bytes` in place of a file, whole or not at all, and on the disk.
    pub fn replace_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let next = path.with_extension("next");
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.make_file(&next)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_data()?;
        fs::rename(&next, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    fn check(&self, path: &Path) -> Result<(), RecorderError> {
        // An administrator may have put the whole elsewhere by a link; nothing within is one.
        let metadata =
            if *path == self.root { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let metadata = metadata.map_err(|source| RecorderError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let path = path.to_owned();
        if !metadata.is_dir() {
            return Err(RecorderError::NoDirectory { path });
        }
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != self.user {
            return Err(RecorderError::Owner { path, owner, user: self.user });
        }
        if mode & OTHERS_WRITE != 0 {
            return Err(RecorderError::Writable { path, mode });
        }
        Ok(())
    }
}

/// Makes this process, while it has one thread, a member of the group, so that it can give its files to it
/// without the privilege to give files to anybody. Without CAP_SETGID nothing changes.
pub fn join_group() {
    let Some(group) = group() else { return };
    let joined = rustix::process::getgroups().and_then(|mut groups| {
        groups.push(rustix::process::Gid::from_raw(group));
        rustix::thread::set_thread_groups(&groups)
    });
    if let Err(error) = joined {
        tracing::debug!("not in group {GROUP}: {error}");
    }
}

/// Who is in no position to give files to the group keeps them.
fn or_not_allowed(given: io::Result<()>) -> io::Result<()> {
    match given {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// Waits until the names in a folder are on the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The user that this process acts as: owner of what it makes.
fn user() -> io::Result<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved, of the file system.
    let effective = line.and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    effective.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Id of the group in /etc/group; None = there is none.
fn group() -> Option<u32> {
    let text = fs::read_to_string("/etc/group").ok()?;
    let mut fields = text.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| (fields.next()? == GROUP).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_new_directory_and_its_files_are_for_owner_and_group() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        let directory = Directory::open(&root).unwrap();
        assert!(!directory.make().unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        for path in [root.clone(), directory.segments(), directory.incidents()] {
            assert_eq!(mode(&path), 0o750);
            let group = fs::metadata(&path).unwrap().gid();
            assert_eq!(group, directory.group.unwrap_or(group));
        }
        let file = root.join("f");
        directory.make_file(&file).unwrap();
        assert_eq!(mode(&file), 0o640);
        directory.replace_file(&file, b"new").unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o640, b"new".to_vec()));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 3);
    }

    #[test]
    fn what_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("open");
        Directory::open(&root).unwrap();
        fs::set_permissions(root.join("segments"), Permissions::from_mode(0o770)).unwrap();
        let error = Directory::open(&root).unwrap_err();
        assert!(matches!(error, RecorderError::Writable { mode: 0o770, .. }), "{error}");
        fs::remove_dir(root.join("segments")).unwrap();
        symlink("/tmp", root.join("segments")).unwrap();
        let error = Directory::open(&root).unwrap_err();
        assert!(matches!(error, RecorderError::NoDirectory { .. }), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Directory::open(&file).is_err());
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "kept").unwrap();
        let planted = folder.path().join("planted");
        symlink(&target, &planted).unwrap();
        assert!(directory.make_file(&planted).is_err());
        symlink(&target, planted.with_extension("next")).unwrap();
        directory.replace_file(&planted, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert!(!planted.is_symlink());
    }
}
