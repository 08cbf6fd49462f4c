//! When a master read its files, and which of them changed since.

use std::path::Path;
use std::sync::Arc;

use super::master::Master;
use crate::root::Root;

/// A file or folder that changed after it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The file or folder.
    pub file: Arc<Path>,
    /// When, seconds since 1970.
    pub unix_s: u64,
    /// What happened to it.
    pub how: How,
}

/// How a file or folder changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its text was written anew.
    Written,
    /// Its owner, mode or name may have changed, or an older text was put in its place.
    Moved,
    /// Files came or went in this folder.
    Filled,
}

/// Those of `files` and `folders` that changed since `master` read them. A reload keeps the process and its start:
/// it shows in the PID file, which is written anew, and in that all workers are young.
pub fn changed(
    root: &Root,
    master: &Master,
    pid_file: Option<&Path>,
    files: &[Arc<Path>],
    folders: &[Arc<Path>],
) -> Vec<Changed> {
    if master.started_unix_s == 0 {
        return Vec::new();
    }
    // Modification, and any change at all.
    let times = |path: &Path| {
        let stat = root.stat(path).ok()?;
        Some((u64::try_from(stat.st_mtime).ok()?, u64::try_from(stat.st_ctime).ok()?))
    };
    let pid_written = pid_file.and_then(|path| {
        let own = root.text(path).ok()?.trim().parse() == Ok(master.tgid);
        Some(own.then(|| times(path))??.0)
    });
    let workers = master.workers.values().flatten();
    let oldest_worker = workers.map(|worker| worker.started_unix_s).min();
    let loaded = pid_written.unwrap_or(0).max(master.started_unix_s);
    // The start is known to a tick, the boot to a second.
    let is_later = |unix_s: u64| {
        let surely = pid_written.is_some() || oldest_worker.is_some_and(|oldest| oldest < unix_s);
        unix_s > loaded + 1 && surely
    };
    let of_file = |file: &Arc<Path>| {
        let (mtime, ctime) = times(file)?;
        let how = if mtime > loaded + 1 { How::Written } else { How::Moved };
        Some(Changed { file: file.clone(), unix_s: mtime.max(ctime), how })
    };
    let of_folder = |folder: &Arc<Path>| {
        Some(Changed { file: folder.clone(), unix_s: times(folder)?.0, how: How::Filled })
    };
    let all = files.iter().filter_map(of_file).chain(folders.iter().filter_map(of_folder));
    all.filter(|changed| is_later(changed.unix_s)).collect()
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
            changed(&root, master, pid.map(Path::new), &files, &[]).len()
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

    #[test]
    fn a_file_that_went_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        let pools = folder.path().join("pool.d");
        fs::create_dir(&pools).unwrap();
        let now = root.stat(Path::new("/pool.d")).unwrap().st_mtime as u64;
        fs::write(folder.path().join("pid"), "1\n").unwrap();
        let ago = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
        fs::File::open(folder.path().join("pid")).unwrap().set_modified(ago).unwrap();
        let master = Master {
            tgid: 1,
            started_unix_s: now - 200,
            binary: None,
            conf: None,
            environment: None,
            options: Default::default(),
            workers: BTreeMap::new(),
        };
        let folders: [Arc<Path>; 1] = [Path::new("/pool.d").into()];
        let found = || changed(&root, &master, Some(Path::new("/pid")), &[], &folders);
        fs::write(pools.join("www.conf"), "").unwrap();
        assert_eq!(found().iter().map(|one| one.how).collect::<Vec<_>>(), [How::Filled]);
        fs::File::open(&pools).unwrap().set_modified(ago).unwrap();
        assert_eq!(found(), []);
        fs::rename(pools.join("www.conf"), pools.join("www.conf.disabled")).unwrap();
        assert_eq!(found().len(), 1);
    }
}
