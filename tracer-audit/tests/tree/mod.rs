//! A file system to audit, in a folder of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use audit::Root;

/// The folder; it goes with it.
pub struct Tree {
    pub folder: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etc/systemd/system", "run/systemd", "usr/local/lib", "usr/lib/systemd/system"]
        {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        symlink("usr/lib", folder.path().join("lib")).unwrap();
        Self { folder }
    }

    pub fn put(&self, path: &str, text: &[u8]) {
        let path = self.folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        let path = self.folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub fn root(&self) -> Root {
        Root::new(self.folder.path()).unwrap()
    }

    /// Runs the shell's `script`, which finds the folder in `$1`, in namespaces of its own, where it may mount.
    pub fn apart(&self, script: &str) -> Output {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(self.folder.path())
            .output()
            .expect("unshare of Debian's util-linux")
    }

    /// A link, where there is nothing yet.
    pub fn link_once(&self, path: &str, target: &str) {
        if fs::symlink_metadata(self.folder.path().join(&path[1..])).is_err() {
            self.link(path, target);
        }
    }
}
