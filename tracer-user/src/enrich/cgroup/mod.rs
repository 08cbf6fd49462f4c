//! The memory cgroup hierarchy, v1 or v2: where it is mounted, and which folder belongs to which
//! path. [`files`] reads one cgroup, [`mounts`] reads mountinfo.

mod files;
mod mounts;

use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::file;

/// Which interface the memory controller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// One hierarchy per controller; also where v2 is mounted beside it without memory (hybrid).
    V1,
    /// The unified hierarchy.
    V2,
}

/// The mounted hierarchy of the memory controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hierarchy {
    /// v1 or v2.
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The path, as /proc/TGID/cgroup tells it, of the cgroup that the mount shows as its top;
    /// `/` but for containers without a cgroup namespace.
    pub root: String,
}

impl Hierarchy {
    /// Finds the hierarchy in this process's mount namespace. Not found when none is mounted.
    pub fn detect() -> io::Result<Self> {
        Self::among(&fs::read("/proc/self/mountinfo")?)
    }

    /// The best hierarchy of a mountinfo whose mount is not hidden below another one.
    fn among(mountinfo: &[u8]) -> io::Result<Self> {
        mounts::candidates(mountinfo)
            .into_iter()
            .find(|hierarchy| hierarchy.mount.join("cgroup.procs").exists())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, mounts::NotMounted))
    }

    /// Folder of a cgroup. Not found for paths that the mount does not show.
    pub fn folder(&self, path: &str) -> io::Result<PathBuf> {
        let below = if self.root == "/" { Some(path) } else { path.strip_prefix(&*self.root) };
        let below = below.filter(|below| below.is_empty() || below.starts_with('/'));
        let relative = Path::new(below.ok_or(io::ErrorKind::NotFound)?.trim_start_matches('/'));
        if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(self.mount.join(relative))
    }

    /// Id of a cgroup, the inode number of its folder.
    pub fn id(&self, path: &str) -> io::Result<u64> {
        Ok(fs::symlink_metadata(self.folder(path)?)?.ino())
    }

    /// Ids and paths of all cgroups, parents first, at most `max`; links are not followed, and
    /// names that are not UTF-8 are left out. Folders that vanish meanwhile are passed over.
    pub fn walk(&self, max: usize) -> Vec<(u64, Arc<str>)> {
        let mut found = Vec::new();
        if let (Ok(id), true) = (self.id(&self.root), max > 0) {
            found.push((id, Arc::from(&*self.root)));
        }
        let mut at = 0;
        while at < found.len() {
            let parent = Arc::clone(&found[at].1);
            at += 1;
            let Ok(entries) = self.folder(&parent).and_then(fs::read_dir) else { continue };
            for entry in entries.flatten() {
                if found.len() >= max {
                    return found;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && let Some(name) = entry.file_name().to_str()
                {
                    let path = format!("{}/{name}", parent.trim_end_matches('/'));
                    found.push((entry.ino(), path.into()));
                }
            }
        }
        found
    }

    /// Whether the memory controller is in use in this hierarchy.
    pub fn controls_memory(&self) -> io::Result<bool> {
        if self.version == Version::V1 {
            return Ok(self.mount.join("memory.usage_in_bytes").exists());
        }
        let mut buffer = [0; 1024];
        let controllers = file::read(self.mount.join("cgroup.controllers"), &mut buffer)?;
        Ok(controllers.split(u8::is_ascii_whitespace).any(|name| name == b"memory"))
    }
}

/// A path and all above it up to `/`, nearest first.
pub fn ancestry(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| match path.rsplit_once('/') {
        Some(("", "")) | None => None,
        Some(("", _)) => Some("/"),
        Some((parent, _)) => Some(parent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(mount: &Path, root: &str) -> Hierarchy {
        Hierarchy { version: Version::V2, mount: mount.to_owned(), root: root.to_owned() }
    }

    #[test]
    fn paths_stay_below_the_mount() {
        let whole = hierarchy(Path::new("/m"), "/");
        assert_eq!(whole.folder("/").unwrap(), Path::new("/m"));
        assert_eq!(whole.folder("/a/b c").unwrap(), Path::new("/m/a/b c"));
        let part = hierarchy(Path::new("/m"), "/docker/x");
        assert_eq!(part.folder("/docker/x").unwrap(), Path::new("/m"));
        assert_eq!(part.folder("/docker/x/y").unwrap(), Path::new("/m/y"));
        let above = hierarchy(Path::new("/m"), "/..");
        assert_eq!(above.folder("/../other").unwrap(), Path::new("/m/other"));
        for (hierarchy, path) in [
            (&whole, "/../etc"),
            (&whole, "/a/../../etc"),
            (&whole, "relative"),
            (&part, "/docker/xy"),
            (&part, "/docker/x/../y"),
            (&part, "/"),
        ] {
            assert_eq!(
                hierarchy.folder(path).unwrap_err().kind(),
                io::ErrorKind::NotFound,
                "{path}"
            );
        }
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let above = |path| ancestry(path).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(above("/a/b/c"), ["/a/b/c", "/a/b", "/a", "/"]);
        assert_eq!(above("/"), ["/"]);
        assert_eq!(above(""), [""]);
        assert_eq!(above("/../x"), ["/../x", "/..", "/"]);
    }

    #[test]
    fn the_walk_is_breadth_first_bounded_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/deep/er", "b", "c"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("c/link")).unwrap();
        let top = hierarchy(folder.path(), "/docker/x");
        let found = top.walk(100);
        let mut paths: Vec<_> = found.iter().map(|(_, path)| &**path).collect();
        assert_eq!(paths[0], "/docker/x");
        paths[1..4].sort_unstable();
        let below = ["/docker/x/a", "/docker/x/b", "/docker/x/c", "/docker/x/a/deep"];
        assert_eq!(paths[1..5], below);
        assert_eq!(paths[5..], ["/docker/x/a/deep/er"]);
        for (id, path) in &found {
            assert_eq!(top.id(path).unwrap(), *id);
        }
        assert_eq!(top.walk(3), found[..3]);
        assert!(top.walk(0).is_empty());
    }

    #[test]
    fn a_hidden_mount_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        let mountinfo = format!(
            "1 1 0:1 / /nonexistent/memory rw - cgroup cgroup rw,memory\n\
             2 1 0:2 / {} rw - cgroup2 cgroup2 rw\n",
            folder.path().display()
        );
        let found = Hierarchy::among(mountinfo.as_bytes()).unwrap();
        assert_eq!((found.version, &*found.mount), (Version::V2, folder.path()));
        let nothing = Hierarchy::among(b"1 1 0:1 / / rw - ext4 /dev/vda rw\n").unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::NotFound);
    }
}
