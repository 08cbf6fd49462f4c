//! The way into a web server's files, one for Apache and nginx: what a pattern names, what can be read of it,
//! how deep and how much. Owns no syntax.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bound::Bound;
use crate::origin::{Notes, Origin};
use crate::root::{ReadError, Root, is_pattern};

/// What takes a file's place so that it says nothing; any other device is no file.
const NULL: &str = "/dev/null";

/// Most directives that are kept.
const MAX_DIRECTIVES: usize = 50_000;

/// What became of a file that is to be read.
#[derive(Debug)]
pub enum Entry {
    /// Its name and bytes; [`Includes::leave`] follows.
    File(Arc<Path>, Vec<u8>),
    /// There is none.
    Missing,
    /// A FIFO, a device, or where no folder may be, a folder.
    NoFile,
    /// A link to /dev/null: an empty file for nginx, no file for Apache.
    Null,
    /// It is not read here, which is said; the server may well read it.
    Unread,
    /// A circle, as a rule.
    TooDeep,
}

/// The files of a server, while they are read.
#[derive(Debug)]
pub struct Includes<'a> {
    root: &'a Root,
    bound: Bound,
    most_depth: usize,
    depth: usize,
    files: Vec<Arc<Path>>,
}

impl<'a> Includes<'a> {
    /// At most `most_files` files, folders and patterns of `root`, and at most `most_depth` includes inside of each other.
    pub fn new(root: &'a Root, most_files: usize, most_depth: usize) -> Self {
        Self { root, bound: Bound::new(most_files), most_depth, depth: 0, files: Vec::new() }
    }

    /// Opens `path`, named at `from`.
    pub fn enter(&mut self, path: &Path, from: &Origin, notes: &mut Notes) -> Entry {
        if self.depth > self.most_depth {
            return Entry::TooDeep;
        }
        let text = match self.root.read(path) {
            Ok(text) => text,
            Err(_) if path == Path::new(NULL) => Vec::new(),
            Err(_) if self.root.link(path).is_ok_and(|target| target == Path::new(NULL)) => {
                self.files.push(path.into());
                return Entry::Null;
            }
            // Its host may have what an unpacked file system lacks.
            Err(error)
                if error.is_missing() && !self.root.is_host() && self.root.link(path).is_ok() =>
            {
                notes.at(Origin::whole(path), "the link leads nowhere: not read");
                return Entry::Unread;
            }
            Err(error) => {
                notes.unread(&error);
                return match error {
                    ReadError::Missing { .. } => Entry::Missing,
                    ReadError::NotAFile { .. } => Entry::NoFile,
                    _ => Entry::Unread,
                };
            }
        };
        if !self.bound.takes(text.len(), from, notes) {
            return Entry::Unread;
        }
        let file: Arc<Path> = path.into();
        self.files.push(file.clone());
        self.depth += 1;
        Entry::File(file, text)
    }

    /// At the end of a file that was entered.
    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    /// What `pattern`, an absolute path at `from`, names, in order; None where that is not known, which is said.
    pub fn matches(
        &mut self,
        pattern: &Path,
        from: &Origin,
        notes: &mut Notes,
    ) -> Option<Vec<PathBuf>> {
        if !self.bound.takes(0, from, notes) {
            return None;
        }
        let found = self.root.glob(pattern).and_then(|found| match found.is_empty() {
            // A folder that may not be read looks empty to a pattern.
            true => match self.root.list(&fixed(pattern)) {
                Err(error) if !error.is_for_all() => Err(error),
                _ => Ok(found),
            },
            false => Ok(found),
        });
        found.map_err(|error| notes.unread(&error)).ok()
    }

    /// What is in the folder `path`, named at `from`, in order. Links can make a few folders look like many.
    pub fn list(&mut self, path: &Path, from: &Origin, notes: &mut Notes) -> Vec<PathBuf> {
        if !self.bound.takes(0, from, notes) {
            return Vec::new();
        }
        self.root.list(path).map_err(|error| notes.unread(&error)).unwrap_or_default()
    }

    /// Whether one more directive is kept beside `kept` others. The first that is not is said.
    pub fn keeps(&mut self, kept: usize, at: &Origin, notes: &mut Notes) -> bool {
        if kept == MAX_DIRECTIVES {
            self.stop(at, &format!("{MAX_DIRECTIVES} directives"), notes);
        }
        !self.is_full()
    }

    /// Nothing more is read, because there is more than `many`.
    pub fn stop(&mut self, at: &Origin, many: &str, notes: &mut Notes) {
        self.bound.stop(at, many, notes);
    }

    /// Whether nothing more is read.
    pub fn is_full(&self) -> bool {
        self.bound.full
    }

    /// What was read, in order.
    pub fn into_files(self) -> Vec<Arc<Path>> {
        self.files
    }
}

/// The folder in front of the first part that is a pattern.
fn fixed(pattern: &Path) -> PathBuf {
    pattern.iter().take_while(|part| !is_pattern(&part.to_string_lossy())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::test::tree;

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let (folder, root) = tree(&[("etc/a.conf", "a"), ("etc/sub/b", "b")]);
        symlink("/dev/null", folder.path().join("etc/masked.conf")).unwrap();
        symlink("/opt/elsewhere", folder.path().join("etc/away.conf")).unwrap();
        let mut includes = Includes::new(&root, 10, 1);
        let mut notes = Notes::default();
        let from = Origin::whole(Path::new("/main"));
        let mut enter = |path: &str, notes: &mut Notes| {
            let entry = includes.enter(Path::new(path), &from, notes);
            if let Entry::File(..) = entry {
                includes.leave();
            }
            entry
        };
        assert!(matches!(enter("/etc/a.conf", &mut notes), Entry::File(_, text) if text == b"a"));
        assert!(matches!(enter("/dev/null", &mut notes), Entry::File(_, text) if text.is_empty()));
        assert!(matches!(enter("/etc/masked.conf", &mut notes), Entry::Null));
        assert!(matches!(enter("/etc/none", &mut notes), Entry::Missing));
        assert_eq!(std::mem::take(&mut notes).finish(), []);
        assert!(matches!(enter("/etc/sub", &mut notes), Entry::NoFile));
        assert!(matches!(enter("/etc/away.conf", &mut notes), Entry::Unread));
        assert_eq!(notes.finish().len(), 2);
    }

    #[test]
    fn patterns_that_cannot_be_followed_are_not_empty() {
        let (folder, root) = tree(&[("etc/b.conf", ""), ("etc/a.conf", "")]);
        let from = Origin::whole(Path::new("/main"));
        let mut includes = Includes::new(&root, 10, 1);
        let mut notes = Notes::default();
        let found = includes.matches(Path::new("/etc/*.conf"), &from, &mut notes).unwrap();
        assert_eq!(found, [Path::new("/etc/a.conf"), Path::new("/etc/b.conf")]);
        for pattern in ["/etc/*.x", "/none/*", "/etc/a.conf/*"] {
            let found = includes.matches(Path::new(pattern), &from, &mut notes);
            assert_eq!(found, Some(Vec::new()), "{pattern}");
        }
        assert_eq!(std::mem::take(&mut notes).finish(), []);
        let many = folder.path().join("many");
        fs::create_dir(&many).unwrap();
        for number in 0..=crate::root::MAX_NAMES {
            fs::write(many.join(number.to_string()), "").unwrap();
        }
        assert_eq!(includes.matches(Path::new("/many/*"), &from, &mut notes), None);
        assert_eq!(notes.finish().len(), 1);
    }

    #[test]
    fn depth_files_and_directives_are_bounded() {
        let (_folder, root) = tree(&[("a", "a")]);
        let mut notes = Notes::default();
        let from = Origin::whole(Path::new("/main"));
        let mut includes = Includes::new(&root, 3, 1);
        let mut enter =
            |includes: &mut Includes<'_>| includes.enter(Path::new("/a"), &from, &mut notes);
        assert!(matches!(enter(&mut includes), Entry::File(..)));
        assert!(matches!(enter(&mut includes), Entry::File(..)));
        assert!(matches!(enter(&mut includes), Entry::TooDeep));
        includes.leave();
        assert!(matches!(enter(&mut includes), Entry::File(..)));
        includes.leave();
        assert!(matches!(enter(&mut includes), Entry::Unread));
        assert!(includes.is_full());
        assert_eq!(includes.into_files().len(), 3);
        let mut includes = Includes::new(&root, 3, 1);
        assert!(includes.keeps(MAX_DIRECTIVES - 1, &from, &mut notes));
        assert!(!includes.keeps(MAX_DIRECTIVES, &from, &mut notes));
        assert_eq!(notes.finish().len(), 2);
    }
}
