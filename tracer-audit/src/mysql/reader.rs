//! Which option files a server reads, and in which order (mysys/my_default.c of MariaDB 10.11, MySQL 8 alike):
//! /etc, /etc/mysql, $MARIADB_HOME or $MYSQL_HOME, --defaults-extra-file, the home folder; includes where they
//! stand. Knows nothing of what the options mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::option_file::{self, MAX_LINES, What};
use crate::bound::Bound;
use crate::origin::{Notes, Origin};
use crate::root::{ReadError, Root};

/// Deepest include that a server follows.
const MAX_DEPTH: u32 = 10;

/// Most files that are read for one server, includes counted each time: files that include each other are
/// read again and again by the server, up to its depth.
const MAX_FILES: usize = 1000;

/// Where a server looks for its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// `--no-defaults`.
    pub nothing: bool,
    /// `--defaults-file`: only this one.
    pub file: Option<PathBuf>,
    /// `--defaults-extra-file`: before the one of the home folder.
    pub extra_file: Option<PathBuf>,
    /// `--defaults-group-suffix`, or $MARIADB_GROUP_SUFFIX: groups with this suffix are read as well.
    pub group_suffix: Option<String>,
    /// $MARIADB_HOME, else $MYSQL_HOME.
    pub server_home: Option<PathBuf>,
    /// The home folder of the server's user.
    pub home: Option<PathBuf>,
    /// Whether it is MySQL, which takes a file's suffix from its first dot; MariaDB from the last.
    pub first_dot: bool,
}

impl Sources {
    /// From the arguments of a server, the name first; also how many of them are no options of the server
    /// itself, the name included.
    pub fn of_args(&mut self, args: &[String]) -> usize {
        let mut used = 1.min(args.len());
        if args.get(1).is_some_and(|arg| arg == "--no-defaults") {
            self.nothing = true;
            return 2;
        }
        for arg in args.iter().skip(1) {
            if let (None, Some(path)) = (&self.file, arg.strip_prefix("--defaults-file=")) {
                self.file = Some(path.into());
            } else if let (None, Some(path)) =
                (&self.extra_file, arg.strip_prefix("--defaults-extra-file="))
            {
                self.extra_file = Some(path.into());
            } else if let Some(suffix) = arg.strip_prefix("--defaults-group-suffix=") {
                self.group_suffix = Some(suffix.to_owned());
            } else {
                break;
            }
            used += 1;
        }
        used
    }

    /// The files that are read first hand, in their order, whether they exist or not.
    pub fn files(&self) -> Vec<PathBuf> {
        if self.nothing {
            return Vec::new();
        }
        if let Some(file) = &self.file {
            return vec![absolute(file)];
        }
        let mut files: Vec<PathBuf> = Vec::new();
        // A folder that comes again counts where it comes last.
        let mut push = |path: PathBuf| {
            files.retain(|other| *other != path);
            files.push(path);
        };
        push("/etc/my.cnf".into());
        push("/etc/mysql/my.cnf".into());
        if let Some(home) = &self.server_home {
            push(absolute(home).join("my.cnf"));
        }
        if let Some(extra) = &self.extra_file {
            push(absolute(extra));
        }
        if let Some(home) = &self.home {
            push(absolute(home).join(".my.cnf"));
        }
        files
    }
}

/// Servers run in `/`, where systemd starts them.
fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// An option of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its group.
    pub group: Arc<str>,
    /// `name` or `name=value`, without dashes.
    pub option: String,
    /// The line itself, without the blanks around it.
    pub text: String,
    /// Where it stands.
    pub at: Origin,
}

/// An included folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// As it is included.
    pub path: Arc<Path>,
    /// The directive.
    pub at: Origin,
    /// How many options are read up to its end.
    pub end: usize,
    /// When a file was last made in it or taken away, seconds since 1970.
    pub written_unix_s: u64,
}

/// All that a server reads.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// All options of all groups, in the order in which they count: the last one wins.
    pub given: Vec<Given>,
    /// The files, each once, as they are first read, and when each was last written, seconds since 1970.
    pub files: Vec<(Arc<Path>, u64)>,
    /// The included folders, in the order in which they are last read.
    pub folders: Vec<Folder>,
    /// Files that the server passes over because everybody may write them.
    pub world_writable: Vec<Arc<Path>>,
    /// Whether it lacks what the server itself may read: this user may not, or it is too large.
    pub partial: bool,
    /// Why the server refuses to start, and where.
    pub refused: Option<(Origin, String)>,
}

/// Reads the option files of `sources`.
pub fn read(root: &Root, sources: &Sources, notes: &mut Notes) -> Reading {
    let mut reader = Reader {
        root,
        notes,
        first_dot: sources.first_dot,
        reading: Reading::default(),
        bound: Bound::new(MAX_FILES),
        lines_left: MAX_LINES,
        deep: false,
        parsed: BTreeMap::new(),
    };
    for path in sources.files() {
        let needed = sources.file.is_some()
            || sources.extra_file.as_ref().is_some_and(|extra| absolute(extra) == path);
        match reader.file(&path, None, 0) {
            Outcome::Read => {}
            Outcome::Missing if needed => {
                reader.refuse(Origin::whole(path), "a file that its arguments name is missing");
                break;
            }
            Outcome::Missing => {}
            Outcome::Broken => break,
        }
    }
    reader.reading.partial |= reader.bound.full;
    reader.reading
}

enum Outcome {
    Read,
    Missing,
    Broken,
}

/// A file and its lines.
type Parsed = (Arc<Path>, Arc<[option_file::Entry]>);

struct Reader<'a> {
    root: &'a Root,
    notes: &'a mut Notes,
    first_dot: bool,
    reading: Reading,
    bound: Bound,
    lines_left: usize,
    deep: bool,
    parsed: BTreeMap<PathBuf, Parsed>,
}

impl Reader<'_> {
    /// Reads a file; only what is broken in a file of the first hand stops the server.
    fn file(&mut self, path: &Path, from: Option<&Origin>, depth: u32) -> Outcome {
        if self.bound.full {
            return Outcome::Read;
        }
        let ((file, entries), bytes) = match self.parse(path) {
            Ok(found) => found,
            Err(outcome) => return outcome,
        };
        let from = from.cloned().unwrap_or_else(|| Origin::whole(path));
        if !self.bound.takes(bytes, &from, self.notes) {
            return Outcome::Read;
        }
        let mut group: Arc<str> = Arc::from("");
        for entry in entries.iter() {
            let at = Origin::new(&file, entry.line);
            match self.lines_left.checked_sub(1) {
                Some(left) => self.lines_left = left,
                None => self.bound.stop(&at, &format!("{MAX_LINES} lines"), self.notes),
            }
            if self.bound.full {
                break;
            }
            match &entry.what {
                What::Group(name) => group = Arc::from(name.as_str()),
                What::Option(option) => {
                    let (group, option, text) = (group.clone(), option.clone(), entry.text.clone());
                    self.reading.given.push(Given { group, option, text, at });
                }
                What::Include(_) | What::Folder(_) if depth >= MAX_DEPTH => self.too_deep(at),
                What::Include(path) => {
                    self.file(&absolute(path), Some(&at), depth + 1);
                }
                What::Folder(folder) => {
                    if !self.folder(&absolute(folder), &at, depth) {
                        let why = format!("the folder {} does not exist", folder.display());
                        return self.broken(at, why, depth);
                    }
                }
                What::Broken(fault) => return self.broken(at, fault.to_string(), depth),
            }
        }
        Outcome::Read
    }

    /// False where the server finds no such folder.
    fn folder(&mut self, folder: &Path, at: &Origin, depth: u32) -> bool {
        let paths = match self.root.list(folder) {
            Ok(paths) => paths,
            Err(error @ (ReadError::Missing { .. } | ReadError::NotAFile { .. })) => {
                self.notes.at(at.clone(), error.to_string());
                return false;
            }
            Err(error) => {
                self.notes.at(at.clone(), error.to_string());
                self.reading.partial = true;
                return true;
            }
        };
        for path in paths {
            if is_option_file(&path, self.first_dot) {
                self.file(&path, Some(at), depth + 1);
            }
        }
        self.reading.folders.retain(|known| *known.path != *folder);
        let written = self.root.stat(folder).map_or(0, |stat| stat.st_mtime);
        self.reading.folders.push(Folder {
            path: Arc::from(folder),
            at: at.clone(),
            end: self.reading.given.len(),
            written_unix_s: u64::try_from(written).unwrap_or(0),
        });
        true
    }

    fn broken(&mut self, at: Origin, why: String, depth: u32) -> Outcome {
        if depth == 0 {
            self.refuse(at, why);
        } else {
            self.notes.at(at, format!("the server reads the file up to here: {why}"));
        }
        Outcome::Broken
    }

    /// Once: a circle comes here thousands of times.
    fn too_deep(&mut self, at: Origin) {
        if !std::mem::replace(&mut self.deep, true) {
            let text = format!("the server passes over includes below the {MAX_DEPTH}th");
            self.notes.at(at, text);
        }
    }

    fn refuse(&mut self, at: Origin, why: impl Into<String>) {
        self.reading.refused.get_or_insert((at, why.into()));
    }

    /// Its lines, and how many bytes were read for them; what becomes of the file where there are none to read.
    fn parse(&mut self, path: &Path) -> Result<(Parsed, usize), Outcome> {
        if let Some(known) = self.parsed.get(path) {
            return Ok((known.clone(), 0));
        }
        let stat = self.root.stat(path).map_err(|error| self.unread(&error))?;
        let file: Arc<Path> = Arc::from(path);
        if stat.st_mode & 0o170002 == 0o100002 {
            if !self.reading.world_writable.contains(&file) {
                self.reading.world_writable.push(file.clone());
            }
            return Ok(((file, Arc::from([])), 0));
        }
        let bytes = self.root.read(path).map_err(|error| self.unread(&error))?;
        self.reading.files.push((file.clone(), u64::try_from(stat.st_mtime).unwrap_or(0)));
        let parsed = (file, Arc::from(option_file::parse(&bytes)));
        self.parsed.insert(path.to_path_buf(), parsed.clone());
        Ok((parsed, bytes.len()))
    }

    /// The server opens even a folder as a file, and finds nothing in it.
    fn unread(&mut self, error: &ReadError) -> Outcome {
        self.notes.unread(error);
        self.reading.partial |= !error.is_for_all();
        if error.is_missing() { Outcome::Missing } else { Outcome::Read }
    }
}

/// Whether `!includedir` takes the file.
pub fn is_option_file(path: &Path, first_dot: bool) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if first_dot {
        name.split_once('.').is_some_and(|(_, suffix)| suffix == "cnf")
    } else {
        name.ends_with(".cnf")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::tree;
    use std::fs;

    fn options(reading: &Reading) -> Vec<&str> {
        reading.given.iter().map(|given| given.option.as_str()).collect()
    }

    #[test]
    fn folders_are_read_where_they_are_included_in_the_order_of_names() {
        let (_folder, root) = tree(&[
            ("etc/mysql/my.cnf", "[a]\nfirst\n!includedir /etc/mysql/conf.d/\nlast\n"),
            ("etc/mysql/conf.d/b.cnf", "[a]\nb\n"),
            ("etc/mysql/conf.d/a.x.cnf", "[a]\na\n"),
            ("etc/mysql/conf.d/c.cnf.disabled", "[a]\nno\n"),
            ("etc/my.cnf", "[a]\nzero\n"),
            ("root/.my.cnf", "[a]\nhome\n"),
        ]);
        let mut notes = Notes::default();
        let sources = Sources { home: Some("/root".into()), ..Sources::default() };
        let reading = read(&root, &sources, &mut notes);
        assert_eq!(options(&reading), ["zero", "first", "a", "b", "last", "home"]);
        let sources = Sources { first_dot: true, ..Sources::default() };
        assert_eq!(options(&read(&root, &sources, &mut notes)), ["zero", "first", "b", "last"]);
        assert_eq!(reading.folders.len(), 1);
        assert_eq!(reading.folders[0].at.to_string(), "/etc/mysql/my.cnf:3");
        assert_eq!(reading.folders[0].end, 4);
        assert!(reading.refused.is_none());
    }

    #[test]
    fn arguments_change_the_sources() {
        let args: Vec<String> =
            ["mariadbd", "--defaults-file=/a", "--defaults-group-suffix=.1", "--port=1"]
                .map(str::to_owned)
                .to_vec();
        let mut sources = Sources::default();
        assert_eq!(sources.of_args(&args), 3);
        assert_eq!(sources.files(), [PathBuf::from("/a")]);
        assert_eq!(sources.group_suffix.as_deref(), Some(".1"));
        let mut sources = Sources::default();
        assert_eq!(sources.of_args(&["d".to_owned(), "--no-defaults".to_owned()]), 2);
        assert!(sources.files().is_empty());
        let sources = Sources {
            server_home: Some("/etc".into()),
            extra_file: Some("x".into()),
            ..Sources::default()
        };
        assert_eq!(
            sources.files(),
            [PathBuf::from("/etc/mysql/my.cnf"), "/etc/my.cnf".into(), "/x".into()]
        );
    }

    #[test]
    fn what_is_broken_is_refused_only_at_first_hand() {
        let (_folder, root) = tree(&[
            ("etc/my.cnf", "[a]\n!include /b.cnf\nc\n!includedir /none\nd\n"),
            ("b.cnf", "[a]\nb\n[x\ny\n"),
        ]);
        let mut notes = Notes::default();
        let reading = read(&root, &Sources::default(), &mut notes);
        assert_eq!(options(&reading), ["b", "c"]);
        assert_eq!(reading.refused.unwrap().0.to_string(), "/etc/my.cnf:4");
        assert_eq!(notes.finish()[0].at.as_ref().unwrap().to_string(), "/b.cnf:3");
        let file = Sources { file: Some("/none.cnf".into()), ..Sources::default() };
        assert!(read(&root, &file, &mut Notes::default()).refused.is_some());
    }

    #[test]
    fn circles_and_thousandfold_includes_end() {
        let includes = "!include /etc/my.cnf\n".repeat(1000);
        let (_folder, root) = tree(&[("etc/my.cnf", &format!("[a]\n{includes}b\n"))]);
        let mut notes = Notes::default();
        read(&root, &Sources::default(), &mut notes);
        let notes = notes.finish();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].text.contains("below the 10th"), "{notes:?}");
        assert!(notes[1].text.contains("not read on"), "{notes:?}");
    }

    #[test]
    fn what_only_the_server_can_read_is_neither_missing_nor_all() {
        let (folder, root) = tree(&[("etc/my.cnf", "[a]\nb\n!include /large.cnf\nc\n")]);
        fs::File::create(folder.path().join("large.cnf")).unwrap().set_len(100 << 20).unwrap();
        fs::create_dir(folder.path().join("folder.cnf")).unwrap();
        let read = |file: Option<&str>| {
            let sources = Sources { file: file.map(Into::into), ..Sources::default() };
            let mut notes = Notes::default();
            let reading = read(&root, &sources, &mut notes);
            assert_eq!((reading.refused.clone(), notes.finish().len()), (None, 1));
            reading
        };
        assert_eq!(options(&read(None)), ["b", "c"]);
        assert!(read(None).partial && read(Some("/large.cnf")).partial);
        assert!(!read(Some("/folder.cnf")).partial);
    }

    #[test]
    fn what_everybody_may_write_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, root) = tree(&[("etc/my.cnf", "[a]\nb\n")]);
        let path = folder.path().join("etc/my.cnf");
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        let reading = read(&root, &Sources::default(), &mut Notes::default());
        assert!(reading.given.is_empty());
        assert_eq!(reading.world_writable.len(), 1);
    }
}
