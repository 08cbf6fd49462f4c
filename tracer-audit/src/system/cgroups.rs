//! Limits of memory cgroups in force, of both versions, from sys/fs/cgroup.

use std::path::{Path, PathBuf};

use crate::root::Root;

/// At and above this v1 has no limit: the largest number of whole pages.
const V1_UNLIMITED: u64 = i64::MAX as u64 / 65_536 * 65_536;

/// What bounds a cgroup and those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The cgroup, from the root of the hierarchy.
    pub cgroup: String,
    /// The file that says so.
    pub file: PathBuf,
    /// The bound, bytes.
    pub bytes: u64,
}

/// The bound of the cgroup `path` itself: None where there is no such cgroup, `Some(None)` where it has none.
pub fn own_bytes(root: &Root, path: &str) -> Option<Option<u64>> {
    read(root, path).map(|(_, bytes)| bytes)
}

/// The tightest bound on the way from the root of the hierarchy to `path`.
pub fn tightest(root: &Root, path: &str) -> Option<Limit> {
    let mut best: Option<Limit> = None;
    let mut cgroup = String::new();
    for part in std::iter::once("").chain(path.split('/').filter(|part| !part.is_empty())) {
        // A namespace's view of what is outside of it: those files are not to be seen.
        if part == ".." {
            return None;
        }
        if !part.is_empty() {
            cgroup.push('/');
            cgroup.push_str(part);
        }
        let Some((file, Some(bytes))) = read(root, &cgroup) else {
            continue;
        };
        if best.as_ref().is_none_or(|best| bytes < best.bytes) {
            let cgroup = if cgroup.is_empty() { "/".to_owned() } else { cgroup.clone() };
            best = Some(Limit { cgroup, file, bytes });
        }
    }
    best
}

/// Whether memory is a controller of its own hierarchy, where a unit's kills are told to nobody.
pub fn is_v1(root: &Root) -> bool {
    root.exists(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
}

fn read(root: &Root, path: &str) -> Option<(PathBuf, Option<u64>)> {
    let inside = path.trim_start_matches('/');
    let v2 = Path::new("/sys/fs/cgroup").join(inside).join("memory.max");
    if let Ok(text) = root.text(&v2) {
        return Some((v2, text.trim().parse().ok()));
    }
    let v1 = Path::new("/sys/fs/cgroup/memory").join(inside).join("memory.limit_in_bytes");
    let bytes: u64 = root.text(&v1).ok()?.trim().parse().ok()?;
    Some((v1, Some(bytes).filter(|&bytes| bytes < V1_UNLIMITED)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join("sys/fs/cgroup").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::new(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn the_tightest_of_the_path_counts() {
        let (_folder, root) = root(&[
            ("a.slice/memory.max", "4096\n"),
            ("a.slice/b.service/memory.max", "8192\n"),
            ("a.slice/b.service/c/memory.max", "max\n"),
        ]);
        let tightest = tightest(&root, "/a.slice/b.service/c").unwrap();
        assert_eq!((tightest.cgroup.as_str(), tightest.bytes), ("/a.slice", 4096));
        assert_eq!(own_bytes(&root, "/a.slice/b.service/c"), Some(None));
        assert_eq!(own_bytes(&root, "/a.slice/none"), None);
        assert_eq!(super::tightest(&root, "/../a.slice"), None);
        assert!(!is_v1(&root));
    }

    #[test]
    fn the_older_version_has_a_number_for_none() {
        let (_folder, root) = root(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a/memory.limit_in_bytes", "4096\n"),
        ]);
        assert_eq!(own_bytes(&root, "/"), Some(None));
        assert_eq!(tightest(&root, "/a").map(|limit| limit.bytes), Some(4096));
        assert!(is_v1(&root));
    }
}
