//! The state directory belongs to one instance at a time: who is there says so with a lock on a file in
//! it, which ends with the process, however that ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::text::printable;

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct Instance {
    _lock: File,
}

/// Why the state directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Somebody else is there.
    #[error(
        "another rampage (process {pid}) works in {}; stop it, or set recorder.directory to another folder",
        printable(&directory.to_string_lossy())
    )]
    Taken {
        /// Of the other one, as it says; `unknown` when it does not.
        pid: String,
        /// Whose it is.
        directory: PathBuf,
    },
    /// The directory cannot be made, or the lock cannot be opened.
    #[error("cannot use {}: {source}", printable(&path.to_string_lossy()))]
    Unusable {
        /// What was tried.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Instance {
    /// Makes the directory where it is missing, and locks it.
    pub fn claim(directory: &Path) -> Result<Self, InstanceError> {
        let unusable =
            |path: &Path, source| InstanceError::Unusable { path: path.to_owned(), source };
        let made = DirBuilder::new().recursive(true).mode(0o750).create(directory);
        made.map_err(|source| unusable(directory, source))?;
        let path = directory.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o640);
        options.custom_flags(libc::O_NOFOLLOW);
        let mut lock = options.open(&path).map_err(|source| unusable(&path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(InstanceError::Taken {
                    pid: said_pid(&lock),
                    directory: directory.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(&path, source)),
        }
        let said = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = said {
            // A full disk is no reason not to serve: the lock holds all the same.
            tracing::debug!("the process id is not in {}: {error}", path.display());
        }
        Ok(Self { _lock: lock })
    }
}

/// What the holder of the lock wrote.
fn said_pid(lock: &File) -> String {
    let mut text = String::new();
    let read = lock.take(16).read_to_string(&mut text);
    let pid = text.trim();
    match read {
        Ok(_) if !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => pid.to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_second_one_is_refused_with_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("new/state");
        let first = Instance::claim(&directory).unwrap();
        let error = Instance::claim(&directory).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Instance::claim(&directory).unwrap();
    }

    #[test]
    fn a_lock_that_is_not_ours_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        symlink(&precious, folder.path().join("lock")).unwrap();
        let error = Instance::claim(folder.path()).unwrap_err();
        assert!(matches!(error, InstanceError::Unusable { .. }), "{error}");
        assert_eq!(fs::read_to_string(precious).unwrap(), "kept");
    }

    #[test]
    fn junk_in_the_lock_is_no_pid() {
        let folder = tempfile::tempdir().unwrap();
        let held = Instance::claim(folder.path()).unwrap();
        fs::write(folder.path().join("lock"), "\x1b[31m12").unwrap();
        let error = Instance::claim(folder.path()).unwrap_err().to_string();
        assert!(error.contains("(process unknown)"), "{error}");
        drop(held);
    }
}
