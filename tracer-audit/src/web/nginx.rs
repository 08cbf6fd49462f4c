//! nginx: its configuration as the server would read it, and how many requests it passes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::origin::{Notes, Origin, Set};
use crate::php::in_container;
use crate::processes::Process;
use crate::root::Root;
use crate::web::socket::Socket;

const MAIN: &str = "/etc/nginx/nginx.conf";

/// Deepest include; nginx itself stops when it has no file descriptors left.
const MAX_DEPTH: usize = 50;

/// Deepest nesting of blocks.
const MAX_BLOCKS: usize = 200;

/// Most files.
const MAX_FILES: usize = 5000;

/// Most bytes of them together.
const MAX_BYTES: usize = 16 << 20;

/// Most directives that are kept.
const MAX_DIRECTIVES: usize = 50_000;

/// An nginx.
#[derive(Clone, Debug)]
pub struct Nginx {
    /// The main file.
    pub conf: PathBuf,
    /// worker_processes; None is `auto`, one for each CPU.
    pub processes: Set<Option<u32>>,
    /// CPUs of the host; None where they are not known.
    pub cpus: Option<u32>,
    /// worker_connections.
    pub connections: Set<u32>,
    /// Where requests for PHP-FPM go.
    pub sockets: Vec<(Socket, Origin)>,
    /// What the server refuses.
    pub refused: Option<(Origin, Refused)>,
    /// Its processes now.
    pub running: Vec<u32>,
    /// Anonymous and swapped memory of them, bytes.
    pub held_bytes: u64,
}

impl Nginx {
    /// Worker processes; `auto` without known CPUs is taken as one.
    pub fn worker_processes(&self) -> u32 {
        self.processes.value.or(self.cpus).unwrap_or(1)
    }

    /// Requests that it can have at PHP at a time: each takes a connection to the client and one to PHP.
    pub fn passes(&self) -> u64 {
        u64::from(self.worker_processes()) * u64::from(self.connections.value) / 2
    }
}

/// Debian's nginx, if it is there.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Option<Nginx> {
    let conf = Path::new(MAIN);
    if !root.exists(conf) {
        return None;
    }
    let config = Config::read(root, conf, notes);
    let own: Vec<&Process> = processes
        .iter()
        .filter(|process| process.comm == "nginx" && !in_container(&process.cgroup))
        .collect();
    let stat = root.text(Path::new("/proc/stat")).unwrap_or_default();
    let cpu = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let cpus = stat.lines().filter(cpu).count() as u32;
    let find = |name: &str, block: &str| {
        let wanted = |directive: &&Directive| directive.name == name && directive.block == block;
        config.directives.iter().rev().find(wanted)
    };
    let processes = match find("worker_processes", "") {
        Some(found) => {
            let number = found.args.first().and_then(|text| text.parse().ok());
            Set::at(number, found.at.clone())
        }
        None => Set::default_of(Some(1)),
    };
    let connections = match find("worker_connections", "events") {
        Some(found) => {
            let number = found.args.first().and_then(|text| text.parse().ok());
            Set::at(number.unwrap_or(512), found.at.clone())
        }
        None => Set::default_of(512),
    };
    Some(Nginx {
        conf: conf.to_path_buf(),
        processes,
        cpus: (cpus > 0).then_some(cpus),
        connections,
        sockets: config.sockets(),
        refused: config.refused,
        running: own.iter().map(|process| process.tgid).collect(),
        held_bytes: own.iter().map(|process| process.held_bytes()).sum(),
    })
}

/// A directive, or the head of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// First word.
    pub name: String,
    /// The others.
    pub args: Vec<String>,
    /// Name of the innermost block around it; empty outside of all.
    pub block: String,
    /// First argument of that block.
    pub block_arg: String,
    /// Where.
    pub at: Origin,
}

/// Why nginx does not start with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something that cannot stand there.
    #[error("unexpected {what:?}")]
    Unexpected {
        /// A character.
        what: char,
    },
    /// The file ends in the middle.
    #[error("the file ends before a ; or }}")]
    End,
    /// An include that is no pattern.
    #[error("{path} cannot be read")]
    NoFile {
        /// The file.
        path: String,
    },
    /// Twice where once is allowed.
    #[error("{name} is set twice")]
    Twice {
        /// The directive.
        name: String,
    },
    /// No number.
    #[error("{name} cannot be {text:?}")]
    Value {
        /// The directive.
        name: String,
        /// Its value.
        text: String,
    },
    /// A circle, as a rule.
    #[error("the includes or blocks are nested too deep")]
    TooDeep,
}

/// The whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// In order, up to an error.
    pub directives: Vec<Directive>,
    /// The first error; nothing is read behind it.
    pub refused: Option<(Origin, Refused)>,
    /// What was read, in order.
    pub files: Vec<Arc<Path>>,
}

impl Config {
    /// Reads `conf`; includes are relative to its folder.
    pub fn read(root: &Root, conf: &Path, notes: &mut Notes) -> Self {
        let folder = conf.parent().unwrap_or(Path::new("/")).to_path_buf();
        let blocks = Vec::new();
        let mut reader = Reader {
            config: Self::default(),
            root,
            notes,
            folder,
            blocks,
            depth: 0,
            bytes: 0,
            full: false,
        };
        let result = reader.file(conf, &Origin::whole(conf));
        let mut config = reader.config;
        config.refused = result.err();
        config
    }

    /// Each fastcgi_pass, through upstreams.
    fn sockets(&self) -> Vec<(Socket, Origin)> {
        let of = |name| self.directives.iter().filter(move |directive| directive.name == name);
        let mut upstreams: BTreeMap<&str, Vec<&Directive>> = BTreeMap::new();
        for server in of("server").filter(|server| server.block == "upstream") {
            upstreams.entry(&server.block_arg).or_default().push(server);
        }
        let mut sockets: BTreeMap<Socket, Origin> = BTreeMap::new();
        for pass in of("fastcgi_pass") {
            let Some(target) = pass.args.first() else {
                continue;
            };
            // The servers of an upstream stand for themselves, once.
            match upstreams.remove(target.as_str()) {
                Some(servers) => {
                    for server in servers {
                        let socket = server.args.first().and_then(|text| Socket::of_nginx(text));
                        socket.map(|socket| sockets.entry(socket).or_insert(server.at.clone()));
                    }
                }
                None => {
                    let socket = Socket::of_nginx(target);
                    socket.map(|socket| sockets.entry(socket).or_insert(pass.at.clone()));
                }
            }
        }
        sockets.into_iter().collect()
    }
}

type Failed = (Origin, Refused);

struct Reader<'a> {
    config: Config,
    root: &'a Root,
    notes: &'a mut Notes,
    folder: PathBuf,
    /// Names and first arguments of the open blocks.
    blocks: Vec<(String, String)>,
    depth: usize,
    bytes: usize,
    full: bool,
}

/// What ended a directive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Semicolon,
    BlockOpens,
    BlockCloses,
    File,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, from: &Origin) -> Result<(), Failed> {
        let text = match self.root.read(path) {
            Ok(text) => text,
            Err(error) => {
                self.notes.unread(&error);
                let path = path.display().to_string();
                let refused = error.is_for_all().then(|| (from.clone(), Refused::NoFile { path }));
                return refused.map_or(Ok(()), Err);
            }
        };
        if self.depth == MAX_DEPTH {
            return Err((from.clone(), Refused::TooDeep));
        }
        self.bytes += text.len();
        if self.config.files.len() == MAX_FILES || self.bytes > MAX_BYTES {
            if !self.full {
                self.notes
                    .at(from.clone(), "not read on: more than 5000 files, or 16 MiB, are included");
            }
            self.full = true;
            return Ok(());
        }
        let file: Arc<Path> = path.into();
        self.config.files.push(file.clone());
        self.depth += 1;
        let outer = self.blocks.len();
        let mut words = Words { text: &text, at: 0, line: 1 };
        while !self.full {
            let (args, line, end) = match words.directive() {
                Ok(found) => found,
                Err(refused) => return Err((Origin::new(&file, words.line), refused)),
            };
            let at = Origin::new(&file, line);
            match end {
                End::File if self.blocks.len() > outer => return Err((at, Refused::End)),
                End::File => break,
                End::BlockCloses if self.blocks.len() == outer => {
                    return Err((at, Refused::Unexpected { what: '}' }));
                }
                End::BlockCloses => drop(self.blocks.pop()),
                End::Semicolon | End::BlockOpens => {
                    let lua = end == End::BlockOpens && args[0].ends_with("_by_lua_block");
                    let block = end == End::BlockOpens && !lua;
                    self.directive(args, at.clone(), block)?;
                    if lua && !words.skip_block() {
                        return Err((at, Refused::End));
                    }
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn directive(&mut self, mut args: Vec<String>, at: Origin, block: bool) -> Result<(), Failed> {
        let name = args.remove(0);
        if name == "include" && !block && args.len() == 1 {
            return self.include(&args[0], &at);
        }
        let (around, around_arg) = self.blocks.last().cloned().unwrap_or_default();
        let counted = match (name.as_str(), around.as_str()) {
            ("worker_processes", "") => args.first().map(String::as_str) != Some("auto"),
            ("worker_connections", "events") => true,
            _ => false,
        };
        let once = counted || name == "worker_processes" && around.is_empty();
        let twice = |old: &Directive| old.name == name && old.block == around;
        if once && self.config.directives.iter().any(twice) {
            return Err((at, Refused::Twice { name }));
        }
        if counted {
            let text = args.first().cloned().unwrap_or_default();
            let number =
                text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok();
            if !number || args.len() != 1 {
                return Err((at, Refused::Value { name, text }));
            }
        }
        if block {
            if self.blocks.len() == MAX_BLOCKS {
                return Err((at, Refused::TooDeep));
            }
            self.blocks.push((name.clone(), args.first().cloned().unwrap_or_default()));
        }
        if self.config.directives.len() == MAX_DIRECTIVES {
            self.notes.at(at, "not read on: there are more than 50000 directives");
            self.full = true;
            return Ok(());
        }
        self.config.directives.push(Directive {
            name,
            args,
            block: around,
            block_arg: around_arg,
            at,
        });
        Ok(())
    }

    fn include(&mut self, pattern: &str, at: &Origin) -> Result<(), Failed> {
        let path = self.folder.join(pattern);
        if !pattern.contains(['*', '?', '[']) {
            return self.file(&path, at);
        }
        let found = self.root.glob(&path).unwrap_or_default();
        for file in found {
            if self.full {
                break;
            }
            // A link that leads out of an unpacked file system is not nginx's to refuse.
            if self.root.exists(&file) {
                self.file(&file, at)?;
            } else {
                self.notes.at(Origin::whole(file), "the link leads nowhere: not read");
            }
        }
        Ok(())
    }
}

/// Cuts a text into words.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl Words<'_> {
    fn bump(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }

    /// The words of the next directive, the line of the first, and what ended it.
    fn directive(&mut self) -> Result<(Vec<String>, u32, End), Refused> {
        let mut words: Vec<String> = Vec::new();
        let mut first = self.line;
        loop {
            let line = self.line;
            let Some(byte) = self.bump() else {
                return if words.is_empty() {
                    Ok((words, line, End::File))
                } else {
                    Err(Refused::End)
                };
            };
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'#' => {
                    while self.text.get(self.at).is_some_and(|&byte| byte != b'\n') {
                        self.at += 1;
                    }
                    continue;
                }
                b';' | b'{' if words.is_empty() => {
                    return Err(Refused::Unexpected { what: byte.into() });
                }
                b';' => return Ok((words, first, End::Semicolon)),
                b'{' => return Ok((words, first, End::BlockOpens)),
                b'}' if words.is_empty() => return Ok((words, line, End::BlockCloses)),
                b'}' => return Err(Refused::Unexpected { what: '}' }),
                _ => {}
            }
            if words.is_empty() {
                first = line;
            }
            self.at -= 1;
            let word = match byte {
                b'"' | b'\'' => self.quoted(byte)?,
                _ => self.plain()?,
            };
            words.push(word);
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, Refused> {
        self.at += 1;
        let mut word = Vec::new();
        loop {
            match self.bump().ok_or(Refused::End)? {
                b'\\' => {
                    let next = self.bump().ok_or(Refused::End)?;
                    escape(next, &mut word);
                }
                byte if byte == quote => break,
                byte => word.push(byte),
            }
        }
        // A blank, or what ends the directive, has to follow.
        match self.text.get(self.at) {
            None => Err(Refused::End),
            Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(text(word)),
            Some(&other) => Err(Refused::Unexpected { what: other.into() }),
        }
    }

    fn plain(&mut self) -> Result<String, Refused> {
        let mut word = Vec::new();
        let mut variable = false;
        loop {
            let byte = *self.text.get(self.at).ok_or(Refused::End)?;
            let opens = byte == b'{' && !variable;
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';') || opens {
                return Ok(text(word));
            }
            self.bump();
            variable = byte == b'$';
            if byte == b'\\' {
                let next = self.bump().ok_or(Refused::End)?;
                escape(next, &mut word);
            } else {
                word.push(byte);
            }
        }
    }

    /// Goes behind the `}` of a block of another language, whose `{` was read. False where there is none.
    fn skip_block(&mut self) -> bool {
        let mut depth = 1;
        while let Some(byte) = self.bump() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return true;
            }
        }
        false
    }
}

fn escape(byte: u8, word: &mut Vec<u8>) {
    match byte {
        b'"' | b'\'' | b'\\' => word.push(byte),
        b't' => word.push(b'\t'),
        b'r' => word.push(b'\r'),
        b'n' => word.push(b'\n'),
        other => word.extend([b'\\', other]),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
