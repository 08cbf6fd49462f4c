//! When a master read its files, and which of them changed since.

use std::path::Path;
use std::sync::Arc;

use super::master::Master;
use crate::root::Root;

/// A file that changed after it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The file.
    pub file: Arc<Path>,
    /// When, seconds since 1970.
    pub unix_s: u64,
    /// Whether its text was written anew; else only its owner, mode or name may have changed.
    pub written: bool,
}

/// Those of `files` that changed since `master` read them. A reload keeps the process and its start: it shows
/// in the PID file, which is written anew, and in that all workers are young.
pub fn changed(
    root: &Root,
    master: &Master,
    pid_file: Option<&Path>,
    files: &[Arc<Path>],
) -> Vec<Changed> {
    if master.started_unix_s == 0 {
        return Vec::new();
    }
    let pid_written = pid_file.and_then(|path| {
        let own = root.text(path).ok()?.trim().parse() == Ok(master.tgid);
        let stat = own.then(|| root.stat(path).ok())??;
        u64::try_from(stat.st_mtime).ok()
    });
    let workers = master.workers.values().flatten();
    let oldest_worker = workers.map(|worker| worker.started_unix_s).min();
    let loaded = pid_written.unwrap_or(0).max(master.started_unix_s);
    let later = |file: &Arc<Path>| {
        let stat = root.stat(file).ok()?;
        let mtime = u64::try_from(stat.st_mtime).ok()?;
        let ctime = u64::try_from(stat.st_ctime).ok()?;
        let unix_s = mtime.max(ctime);
        // The start is known to a tick, the boot to a second.
        let after = unix_s > loaded + 1;
        let surely = pid_written.is_some() || oldest_worker.is_some_and(|oldest| oldest < unix_s);
        (after && surely).then(|| Changed {
            file: file.clone(),
            unix_s,
            written: mtime > loaded + 1,
        })
    };
    files.iter().filter_map(later).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::php::Worker;

    #[test]
    fn a_reload_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        fs::write(folder.path().join("conf"), "").unwrap();
        let now = root.stat(Path::new("/conf")).unwrap().st_mtime as u64;
        let worker = Worker { tgid: 2, started_unix_s: now - 50, held_bytes: 0 };
        let mut master = Master {
            tgid: 1,
            started_unix_s: now - 100,
            binary: None,
            conf: None,
            environment: None,
            options: Default::default(),
            workers: BTreeMap::from([("www".to_owned(), vec![worker])]),
        };
        let files: [Arc<Path>; 1] = [Path::new("/conf").into()];
        let found = |master: &Master, pid: Option<&str>| {
            changed(&root, master, pid.map(Path::new), &files).len()
        };
        assert_eq!(found(&master, None), 1);
        // The PID file of this very moment: it was loaded after the change.
        fs::write(folder.path().join("pid"), "1\n").unwrap();
        assert_eq!(found(&master, Some("/pid")), 0);
        fs::write(folder.path().join("pid"), "99\n").unwrap();
        assert_eq!(found(&master, Some("/pid")), 1);
        // All workers are younger than the file: a reload cannot be excluded.
        master.workers.values_mut().flatten().for_each(|worker| worker.started_unix_s = now + 5);
        assert_eq!(found(&master, None), 0);
        master.started_unix_s = now + 5;
        assert_eq!(found(&master, None), 0);
    }
}
