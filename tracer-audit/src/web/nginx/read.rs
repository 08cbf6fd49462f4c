//! Reads nginx's files: directives with the block that they stand in, and includes where they stand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::words::{End, Words};
use crate::bound::short;
use crate::origin::{Notes, Origin};
use crate::root::{Root, is_pattern};
use crate::web::include::{Entry, Includes};
use crate::web::socket::Socket;

/// Deepest include; nginx itself stops when it has no file descriptors left.
const MAX_DEPTH: usize = 50;

/// Deepest nesting of blocks.
const MAX_BLOCKS: usize = 200;

/// Most files.
const MAX_FILES: usize = 5000;

/// A directive, or the head of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// First word.
    pub name: String,
    /// The others, as far as they are kept.
    pub args: Vec<String>,
    /// Name of the innermost block around it; empty outside of all.
    pub block: Arc<str>,
    /// First argument of that block.
    pub block_arg: Arc<str>,
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
    /// A word or comment that does not fit into nginx's buffer.
    #[error("a word or comment is longer than 4095 bytes")]
    TooLong,
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
        let mut reader = Reader {
            config: Self::default(),
            notes,
            folder,
            blocks: Vec::new(),
            includes: Includes::new(root, MAX_FILES, MAX_DEPTH),
        };
        let result = reader.file(conf, &Origin::whole(conf));
        let mut config = reader.config;
        config.files = reader.includes.into_files();
        config.refused = result.err();
        config
    }

    /// Each fastcgi_pass, through upstreams.
    pub fn sockets(&self) -> Vec<(Socket, Origin)> {
        let of = |name| self.directives.iter().filter(move |directive| directive.name == name);
        let mut upstreams: BTreeMap<&str, Vec<&Directive>> = BTreeMap::new();
        for server in of("server").filter(|server| &*server.block == "upstream") {
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
    notes: &'a mut Notes,
    folder: PathBuf,
    /// Names and first arguments of the open blocks.
    blocks: Vec<(Arc<str>, Arc<str>)>,
    includes: Includes<'a>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, from: &Origin) -> Result<(), Failed> {
        let (file, text) = match self.includes.enter(path, from, self.notes) {
            Entry::File(file, text) => (file, text),
            Entry::Missing | Entry::NoFile => {
                let path = short(&path.display().to_string());
                return Err((from.clone(), Refused::NoFile { path }));
            }
            Entry::Null | Entry::Unread => return Ok(()),
            Entry::TooDeep => return Err((from.clone(), Refused::TooDeep)),
        };
        let outer = self.blocks.len();
        let mut words = Words::new(&text);
        while !self.includes.is_full() {
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
        self.includes.leave();
        Ok(())
    }

    fn directive(&mut self, mut args: Vec<String>, at: Origin, block: bool) -> Result<(), Failed> {
        let name = args.remove(0);
        if name == "include" && !block && args.len() == 1 {
            return self.include(&args[0], &at);
        }
        let outside = || (Arc::from(""), Arc::from(""));
        let (around, around_arg) = self.blocks.last().cloned().unwrap_or_else(outside);
        let counted = match (name.as_str(), &*around) {
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
                text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok();
            if !number || args.len() != 1 {
                return Err((at, Refused::Value { name, text: short(&text) }));
            }
        }
        if block {
            if self.blocks.len() == MAX_BLOCKS {
                return Err((at, Refused::TooDeep));
            }
            let arg = args.first().map_or("", String::as_str);
            self.blocks.push((Arc::from(name.as_str()), Arc::from(arg)));
        }
        if self.includes.keeps(self.config.directives.len(), &at, self.notes) {
            self.config.directives.push(Directive {
                name,
                args,
                block: around,
                block_arg: around_arg,
                at,
            });
        }
        Ok(())
    }

    fn include(&mut self, pattern: &str, at: &Origin) -> Result<(), Failed> {
        let path = self.folder.join(pattern);
        if !is_pattern(pattern) {
            return self.file(&path, at);
        }
        for file in self.includes.matches(&path, at, self.notes).unwrap_or_default() {
            if self.includes.is_full() {
                break;
            }
            self.file(&file, at)?;
        }
        Ok(())
    }
}
