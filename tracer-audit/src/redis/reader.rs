//! Reading redis.conf as redis does: joined files, includes, quotes, and the first thing that is wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{BufferLimit, Config, Include};
use super::directives::{self, Kind};
use super::line::{quoted, words};
use super::lines::{Lines, MAX_LINES};
use crate::bound::{Bound, short};
use crate::origin::{Notes, Origin, Set};
use crate::root::{Root, is_pattern};

/// Deepest include that is followed: redis itself has no bound, and dies of a circle.
const MAX_DEPTH: u32 = 16;

/// Most files that are read for one server.
const MAX_FILES: usize = 1000;

impl Config {
    /// Reads `file`, then `args`: those after the file's name, without redis-server's own.
    ///
    /// `known`: whether the version is the one of the list of directives; of others neither names nor values
    /// are refused.
    pub fn read(
        root: &Root,
        file: Option<&Path>,
        args: &[String],
        known: bool,
        notes: &mut Notes,
    ) -> Self {
        let mut reader = Reader {
            root,
            notes,
            known,
            config: Self::default(),
            folder: PathBuf::from("/"),
            text: String::new(),
            adds: true,
            saved: false,
            bound: Bound::new(MAX_FILES),
            lines_left: MAX_LINES,
            open: Vec::new(),
        };
        let ended = match file {
            Some(file) => reader.load(&[file.to_path_buf()], None, 0),
            None => Ok(()),
        };
        let _ = ended.and_then(|()| reader.arguments(args)).and_then(|()| reader.whole());
        reader.config.partial |= reader.bound.full;
        reader.config
    }
}

/// Reading ended before its end: redis does not start, or the audit reads no more.
struct Ended;

struct Reader<'a> {
    root: &'a Root,
    notes: &'a mut Notes,
    known: bool,
    config: Config,
    folder: PathBuf,
    /// The line that is being read.
    text: String,
    /// Whether a `save` is added to those before it.
    adds: bool,
    /// Whether one took the place of the defaults.
    saved: bool,
    bound: Bound,
    lines_left: usize,
    /// The files whose `include` is being followed, each included by the one before it.
    open: Vec<Arc<Path>>,
}

impl Reader<'_> {
    /// Reads `paths` as one text, as redis does with what a pattern finds.
    fn load(&mut self, paths: &[PathBuf], from: Option<&Origin>, depth: u32) -> Result<(), Ended> {
        let mut lines = Lines::default();
        for path in paths {
            let at = from.cloned().unwrap_or_else(|| Origin::whole(path.clone()));
            if self.open.iter().any(|open| **open == **path) {
                let why = format!("{} includes itself: redis never starts", path.display());
                return self.refuse(Some(&at), why);
            }
            if depth > MAX_DEPTH {
                self.bound.stop(&at, &format!("{MAX_DEPTH} includes in each other"), self.notes);
                return Err(Ended);
            }
            let bytes = match self.root.read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.is_missing() => {
                    return self.refuse(Some(&at), format!("{} does not exist", path.display()));
                }
                // Redis opens even a folder as a file, and finds nothing in it.
                Err(error) => {
                    self.notes.unread(&error);
                    self.config.partial |= !error.is_for_all();
                    continue;
                }
            };
            if !self.bound.takes(bytes.len(), &at, self.notes) {
                return Err(Ended);
            }
            let file: Arc<Path> = Arc::from(path.as_path());
            let written = self.root.stat(path).map_or(0, |stat| stat.st_mtime);
            self.config.files.push((file.clone(), u64::try_from(written).unwrap_or(0)));
            lines.push(&bytes, &file);
        }
        self.adds = true;
        for (line, at) in lines.finish() {
            self.line(&line, Some(&at), depth)?;
        }
        // Redis takes the end of an include for the end of all files: from there on each `save` counts alone.
        if depth > 0 {
            self.adds = false;
        }
        Ok(())
    }

    /// `--name value …`, as redis puts them behind the file.
    fn arguments(&mut self, args: &[String]) -> Result<(), Ended> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut value_follows = false;
        for (place, arg) in args.iter().enumerate() {
            if let Some(option) = arg.strip_prefix("--").filter(|_| !value_follows) {
                let mut line = [option.as_bytes(), b" "].concat();
                value_follows = words(arg.as_bytes()).is_some_and(|words| words.len() == 1);
                // Alone it says that nothing is saved.
                if option.eq_ignore_ascii_case("save")
                    && args.get(place + 1).is_none_or(|next| next.starts_with("--"))
                {
                    line.extend(b"\"\"");
                    value_follows = false;
                }
                lines.push(line);
            } else if arg != "-" {
                value_follows = false;
                let mut line = lines.pop().unwrap_or_default();
                line.extend(quoted(arg.as_bytes()));
                lines.push(line);
            }
        }
        for line in lines {
            self.line(&line, None, 0)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], at: Option<&Origin>, depth: u32) -> Result<(), Ended> {
        if self.lines_left == 0 {
            let at = at.cloned().unwrap_or_else(|| Origin::whole(self.folder.clone()));
            self.bound.stop(&at, &format!("{MAX_LINES} lines"), self.notes);
            return Err(Ended);
        }
        self.lines_left -= 1;
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let start = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
        let end = line.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        let line = &line[start..end];
        if line.is_empty() || line[0] == b'#' {
            return Ok(());
        }
        let Some(words) = words(line) else {
            return self.refuse(at, "a quote is not closed, or not followed by a blank".to_owned());
        };
        let words: Vec<String> =
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let Some((name, rest)) = words.split_first() else { return Ok(()) };
        self.text = String::from_utf8_lossy(line).into_owned();
        let name = name.to_ascii_lowercase();
        if let Some(directive) = directives::find(&name) {
            return self.directive(directive, rest, at);
        }
        match (name.as_str(), rest) {
            ("include", [path]) => self.include(path, at, depth),
            ("rename-command", [_, _]) => Ok(()),
            ("user" | "loadmodule", [_, ..]) => Ok(()),
            ("sentinel", []) => Ok(()),
            (
                "list-max-ziplist-entries" | "list-max-ziplist-value" | "lua-replicate-commands",
                [_],
            ) => Ok(()),
            // Of a module.
            (name, [_, ..]) if name.contains('.') => Ok(()),
            (name, _) if self.known => {
                let name = short(name);
                self.refuse(
                    at,
                    format!("{name:?} is no directive, or has the wrong number of words"),
                )
            }
            _ => Ok(()),
        }
    }

    fn include(&mut self, path: &str, at: Option<&Origin>, depth: u32) -> Result<(), Ended> {
        let path = self.folder.join(path);
        let before = self.open.len();
        if let Some(at) = at {
            self.config.includes.push(Include { path: path.clone(), at: at.clone() });
            self.open.push(at.file.clone());
        }
        let pattern = is_pattern(&path.to_string_lossy());
        let paths = if pattern { self.root.glob(&path) } else { Ok(vec![path]) };
        let done = match paths {
            Ok(paths) => self.load(&paths, at, depth + 1),
            Err(error) => {
                self.notes.unread(&error);
                self.config.partial = true;
                Ok(())
            }
        };
        self.open.truncate(before);
        done
    }

    fn directive(
        &mut self,
        directive: &'static directives::Directive,
        rest: &[String],
        at: Option<&Origin>,
    ) -> Result<(), Ended> {
        if directive.kind == Kind::Words {
            // One word may hold all of them.
            let inner = match rest {
                [one] if !one.is_empty() => Some(words(one.as_bytes()).unwrap_or_default()),
                _ => None,
            };
            let rest = inner.map_or_else(
                || rest.to_vec(),
                |words| {
                    words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
                },
            );
            return self.list(directive.name, &rest, at);
        }
        let [word] = rest else {
            return if self.known {
                self.refuse(at, format!("{} takes one word, not {}", directive.name, rest.len()))
            } else {
                Ok(())
            };
        };
        if directive.name == "dir" {
            self.folder.push(word);
        }
        match directive.kind.value(word) {
            Ok(value) => {
                self.config.values.insert(directive.name, Set { value, at: at.cloned() });
                self.config.lines.insert(directive.name, self.text.clone());
                Ok(())
            }
            Err(_) if !self.known => Ok(()),
            Err(error) => self.refuse(at, format!("{}: {error}", directive.name)),
        }
    }

    fn list(
        &mut self,
        name: &'static str,
        rest: &[String],
        at: Option<&Origin>,
    ) -> Result<(), Ended> {
        let taken = match name {
            "save" => self.save(rest, at),
            "client-output-buffer-limit" => self.buffers(rest, at),
            _ => {
                self.config.values.insert(name, Set { value: rest.join(" "), at: at.cloned() });
                Some(())
            }
        };
        match taken {
            Some(()) => Ok(()),
            None if self.known => self.refuse(at, format!("{name} has wrong words")),
            None => Ok(()),
        }
    }

    /// The first line takes the place of the defaults, others are added.
    fn save(&mut self, rest: &[String], at: Option<&Origin>) -> Option<()> {
        let clear = matches!(rest, [empty] if empty.is_empty());
        let rest = if clear { &[] } else { rest };
        if !rest.len().is_multiple_of(2) {
            return None;
        }
        let kept = !clear && self.adds && self.saved;
        self.saved |= self.adds;
        let mut points = match self.config.save.take().filter(|_| kept) {
            Some(save) => save.value,
            None => Vec::new(),
        };
        for pair in rest.chunks_exact(2) {
            let (seconds, changes) =
                (directives::decimal(&pair[0])?, directives::decimal(&pair[1])?);
            if seconds < 1 || changes < 0 {
                return None;
            }
            // As redis keeps it.
            #[expect(clippy::cast_possible_truncation, reason = "redis cuts it as well")]
            points.push((seconds, changes as i32));
        }
        self.config.save = Some(Set { value: points, at: at.cloned() });
        Some(())
    }

    fn buffers(&mut self, rest: &[String], at: Option<&Origin>) -> Option<()> {
        if !rest.len().is_multiple_of(4) {
            return None;
        }
        let mut found = Vec::new();
        for words in rest.chunks_exact(4) {
            let class = match words[0].to_ascii_lowercase().as_str() {
                "normal" => "normal",
                "slave" | "replica" => "replica",
                "pubsub" => "pubsub",
                _ => return None,
            };
            #[expect(clippy::cast_possible_truncation, reason = "redis cuts it as well")]
            let soft_s = directives::decimal(&words[3])? as i32;
            let limit = BufferLimit {
                hard_bytes: directives::memory(&words[1])?,
                soft_bytes: directives::memory(&words[2])?,
                soft_s,
            };
            if soft_s < 0 {
                return None;
            }
            found.push((class, limit));
        }
        for (class, value) in found {
            self.config.buffers.insert(class, Set { value, at: at.cloned() });
            self.config.lines.insert(class, self.text.clone());
        }
        Some(())
    }

    /// What no line is wrong by itself.
    fn whole(&mut self) -> Result<(), Ended> {
        let replica = self.config.values.get("replicaof");
        let at = replica.and_then(|set| set.at.clone());
        let follows = replica.is_some_and(|set| !set.value.eq_ignore_ascii_case("no one"));
        if self.known && follows && self.config.on("cluster-enabled") {
            return self.refuse(at.as_ref(), "replicaof is not allowed in a cluster".to_owned());
        }
        Ok(())
    }

    fn refuse(&mut self, at: Option<&Origin>, why: String) -> Result<(), Ended> {
        self.config.refused = Some((at.cloned(), why));
        Err(Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::tree;
    use std::fs;

    fn read(files: &[(&str, &str)], args: &[&str]) -> (Config, usize) {
        let (_folder, root) = tree(files);
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut notes = Notes::default();
        let config = Config::read(&root, Some(Path::new("/redis.conf")), &args, true, &mut notes);
        (config, notes.finish().len())
    }

    fn at(config: &Config) -> String {
        config.refused.as_ref().unwrap().0.as_ref().unwrap().to_string()
    }

    #[test]
    fn the_last_line_counts_and_then_the_arguments() {
        let text = "maxmemory 1gb\nMaxMemory 2gb\n# maxmemory 3gb\nsave 900 1\nsave 60 5\n";
        let (config, _) = read(&[("redis.conf", text)], &[]);
        assert_eq!(config.maxmemory().value, 2 << 30);
        assert_eq!(config.maxmemory().at.unwrap().to_string(), "/redis.conf:2");
        assert_eq!(config.get("save").as_deref(), Some("900 1 60 5"));
        let (config, _) = read(&[("redis.conf", text)], &["--maxmemory", "3gb", "--save", ""]);
        assert_eq!((config.maxmemory().value, config.maxmemory().at), (3 << 30, None));
        assert_eq!(config.get("save").as_deref(), Some(""));
        assert!(config.refused.is_none());
        for args in [&["--save"][..], &["--SAVE", "--port", "1"]] {
            assert_eq!(read(&[("redis.conf", text)], args).0.get("save").as_deref(), Some(""));
        }
    }

    #[test]
    fn includes_stand_for_their_lines() {
        let files: &[(&str, &str)] = &[
            ("redis.conf", "dir /etc\ninclude conf.d/*.conf\nport 1\ninclude /none*.conf\n"),
            ("etc/conf.d/b.conf", "maxmemory 2gb\nport 7"),
            ("etc/conf.d/a.conf", "maxmemory 1gb"),
        ];
        let (config, _) = read(files, &[]);
        // The one file has no last line end: redis sees `maxmemory 1gbmaxmemory 2gb`.
        assert_eq!(at(&config), "/etc/conf.d/a.conf:1");
        let files = [files[0], files[1], ("etc/conf.d/a.conf", "maxmemory 1gb\n")];
        let (config, _) = read(&files, &[]);
        assert_eq!(config.maxmemory().value, 2 << 30);
        assert_eq!(config.get("port").as_deref(), Some("1"));
        assert_eq!(config.includes.len(), 2);
    }

    #[test]
    fn behind_an_include_each_save_counts_alone() {
        let save = |text: &str, args: &[&str]| {
            let files = [("redis.conf", text), ("a.conf", "save 2 2\nsave 3 3\n")];
            read(&files, args).0.get("save").unwrap_or_default()
        };
        assert_eq!(save("save 1 1\ninclude /a.conf\n", &[]), "1 1 2 2 3 3");
        assert_eq!(save("include /a.conf\nsave 4 4\nsave 5 5\n", &[]), "5 5");
        assert_eq!(save("save 1 1\n", &["--save", "6", "6"]), "1 1 6 6");
        assert_eq!(save("include /a.conf\n", &["--save", "6 6"]), "6 6");
    }

    #[test]
    fn what_redis_refuses_is_said_with_its_line() {
        for text in [
            "\nmaxmemory 1t\n",
            "\nmaxmemory\n",
            "\nmaxmemory 1 2\n",
            "\nno-such 1\n",
            "\nsave 900\n",
            "\nsave \"900 x\"\n",
            "\nclient-output-buffer-limit normal 1 2\n",
            "\nclient-output-buffer-limit master 0 0 0\n",
            "\nbind \"127.0.0.1\n",
            "\ninclude /none\n",
            "\ninclude /redis.conf\n",
            "\ninclude /*.conf\n",
        ] {
            let (config, _) = read(&[("redis.conf", text)], &[]);
            assert_eq!(at(&config), "/redis.conf:2", "{}", text);
        }
    }

    #[test]
    fn fans_of_includes_end() {
        let fan = "include /redis.conf\n".repeat(1000);
        let (config, notes) = read(&[("redis.conf", &fan)], &[]);
        assert!(config.refused.is_some() && notes == 0);
        for many in [60_000, 500_000] {
            let (config, notes) = read(&[("redis.conf", &"port 1\n".repeat(many))], &[]);
            assert!(config.refused.is_none() && config.partial && notes == 1);
        }
        // Thousands of files, each of them once: redis takes its time, and starts.
        let names: Vec<String> = (0..1100).map(|number| format!("d/{number}.conf")).collect();
        let mut files = vec![("redis.conf", "include /d/*.conf\n")];
        files.extend(names.iter().map(|name| (name.as_str(), "port 1\n")));
        let (config, notes) = read(&files, &[]);
        assert!(config.refused.is_none() && config.partial && notes == 1);
    }

    #[test]
    fn what_is_included_twice_is_no_circle() {
        let files: &[(&str, &str)] = &[
            ("redis.conf", "include /d/*.conf\ninclude /d/b.conf\n"),
            ("d/a.conf", "include /d/b.conf\n"),
            ("d/b.conf", "port 7\n"),
        ];
        let (config, notes) = read(files, &[]);
        assert_eq!((config.refused.clone(), config.partial, notes), (None, false, 0));
        assert_eq!(config.get("port").as_deref(), Some("7"));
    }

    #[test]
    fn what_only_redis_can_read_is_noted() {
        let (folder, root) =
            tree(&[("d/z.conf", "port 7\n"), ("redis.conf", "include /d/*.conf\nhz 9\n")]);
        fs::create_dir(folder.path().join("d/folder.conf")).unwrap();
        let read = || {
            let mut notes = Notes::default();
            let config = Config::read(&root, Some(Path::new("/redis.conf")), &[], true, &mut notes);
            assert_eq!((config.refused.clone(), notes.finish().len()), (None, 1));
            assert_eq!(config.get("hz").as_deref(), Some("9"));
            config
        };
        let config = read();
        assert_eq!((config.get("port").as_deref(), config.partial), (Some("7"), false));
        fs::remove_dir(folder.path().join("d/folder.conf")).unwrap();
        let large = fs::File::create(folder.path().join("d/z.conf")).unwrap();
        large.set_len(100 << 20).unwrap();
        assert!(read().partial);
    }

    #[test]
    fn defaults_are_those_of_redis() {
        let (config, _) = read(&[("redis.conf", "")], &[]);
        assert_eq!(config.get("save").as_deref(), Some("3600 1 300 100 60 10000"));
        assert_eq!(
            config.get("client-output-buffer-limit").as_deref(),
            Some("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60")
        );
        assert_eq!(config.get("maxmemory-policy").as_deref(), Some("noeviction"));
        assert_eq!(config.get("nothing"), None);
    }
}
