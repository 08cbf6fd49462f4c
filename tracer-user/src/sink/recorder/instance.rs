//! The state directory belongs to one instance at a time: who is there says so with a lock on a file in
//! it, which ends with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::directory::{Directory, RecorderError};

/// For the number of a process that does not say its own.
const UNKNOWN: &str = "unknown";

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct Instance {
    _lock: File,
}

impl Instance {
    /// Makes the directory where it is missing, and locks it.
    pub fn claim(directory: &Path) -> Result<Self, RecorderError> {
        Self::claim_in(&Directory::open(directory)?)
    }

    /// Locks it unless this process has it locked; None = it has. Who removes the directory removes the lock, too,
    /// and then anybody could begin here.
    pub(super) fn keep(directory: &Directory) -> Result<Option<Self>, RecorderError> {
        match Self::claim_in(directory) {
            // Who had no room for its number is taken for this process: nothing is known of another one.
            Err(RecorderError::Taken { pid, .. })
                if pid == UNKNOWN || pid == std::process::id().to_string() =>
            {
                Ok(None)
            }
            claimed => claimed.map(Some),
        }
    }

    fn claim_in(directory: &Directory) -> Result<Self, RecorderError> {
        let path = directory.root().join("lock");
        let unusable = |source| RecorderError::Io { action: "lock", path: path.clone(), source };
        let mut lock = match directory.make_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(&path),
            made => made,
        }
        .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(RecorderError::Taken {
                    pid: said_pid(&path),
                    directory: directory.root().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let said = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = said {
            // A full disk is no reason not to serve: the lock holds all the same.
            tracing::debug!("the process id is not in {}: {error}", path.display());
        }
        Ok(Self { _lock: lock })
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// What the holder of the lock wrote.
fn said_pid(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|lock| lock.take(16).read_to_string(&mut text));
    let pid = text.trim();
    match read {
        Ok(_) if !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => pid.to_owned(),
        _ => UNKNOWN.to_owned(),
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
        assert!(matches!(error, RecorderError::Io { .. }), "{error}");
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
