//! Reads nginx's files: directives with the block that they stand in, and includes where they stand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::words::{End, Words};
use crate::bound::{Bound, short};
use crate::origin::{Notes, Origin};
use crate::root::Root;
use crate::web::socket::Socket;

/// Deepest include; nginx itself stops when it has no file descriptors left.
const MAX_DEPTH: usize = 50;

/// Deepest nesting of blocks.
const MAX_BLOCKS: usize = 200;

/// Most files.
const MAX_FILES: usize = 5000;

/// Most directives that are kept.
const MAX_DIRECTIVES: usize = 50_000;

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
            bound: Bound::new(MAX_FILES),
        };
        let result = reader.file(conf, &Origin::whole(conf));
        let mut config = reader.config;
        config.refused = result.err();
        config
    }

    /// Each fastcgi_pass, through upstreams.
    pub fn sockets(&self) -> Vec<(Socket, Origin)> {
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
    bound: Bound,
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
        if !self.bound.takes(text.len(), from, self.notes) {
            return Ok(());
        }
        let file: Arc<Path> = path.into();
        self.config.files.push(file.clone());
        self.depth += 1;
        let outer = self.blocks.len();
        let mut words = Words::new(&text);
        while !self.bound.full {
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
                return Err((at, Refused::Value { name, text: short(&text) }));
            }
        }
        if block {
            if self.blocks.len() == MAX_BLOCKS {
                return Err((at, Refused::TooDeep));
            }
            self.blocks.push((name.clone(), args.first().cloned().unwrap_or_default()));
        }
        if self.config.directives.len() == MAX_DIRECTIVES {
            self.bound.stop(&at, "50000 directives", self.notes);
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
            if self.bound.full {
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
