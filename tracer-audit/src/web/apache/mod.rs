//! Apache: its configuration as the server would read it, and how many requests it works on at a time.

pub mod mpm;
pub mod read;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::origin::{Notes, Origin, Set};
use crate::php::Version;
use crate::php::ini::quantity;
use crate::processes::{self, Process};
use crate::root::Root;
use crate::web::socket::Socket;
use mpm::Mpm;
use read::{Config, Refused};
use words::word;

/// Debian's main file.
const MAIN: &str = "/etc/apache2/apache2.conf";

/// An Apache.
#[derive(Clone, Debug)]
pub struct Apache {
    /// The main file.
    pub conf: PathBuf,
    /// How it works on requests; None where no module for it is loaded, and the server does not start.
    pub mpm: Option<Mpm>,
    /// The version of mod_php; the inner one is None where its file does not tell.
    pub php: Option<Option<Version>>,
    /// `php_value memory_limit` and its kin outside of sections, which comes before php.ini, bytes; the inner None
    /// is no limit.
    pub php_limit: Option<Set<Option<u64>>>,
    /// Those of sections, bytes; None is no limit.
    pub php_limits: Vec<Set<Option<u64>>>,
    /// Where requests for PHP-FPM go.
    pub sockets: Vec<(Socket, Origin)>,
    /// What the server refuses.
    pub refused: Option<(Origin, Refused)>,
    /// The text of lines that findings propose to change.
    pub lines: BTreeMap<Origin, String>,
    /// Its processes now.
    pub running: Vec<u32>,
    /// Anonymous and swapped memory of them, bytes.
    pub held_bytes: u64,
}

/// Debian's Apache, if it is there.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Option<Apache> {
    let conf = Path::new(MAIN);
    if !root.exists(conf) {
        return None;
    }
    let own: Vec<&Process> = processes
        .iter()
        .filter(|process| process.comm == "apache2" && !processes::is_contained(root, process))
        .collect();
    let config = Config::read(root, conf, &envvars(root), notes);
    let mut sockets: BTreeMap<Socket, Origin> = BTreeMap::new();
    for directive in config.directives() {
        let name = directive.name.to_ascii_lowercase();
        let passes = ["sethandler", "proxypass", "proxypassmatch", "balancermember", "addhandler"];
        if passes.contains(&name.as_str())
            && let Some(socket) = Socket::of_apache(&directive.args)
        {
            sockets.entry(socket).or_insert(directive.at.clone());
        }
    }
    let version = config.modules.iter().find_map(|(module, file)| {
        let library = Path::new(file).file_name()?.to_str()?;
        let php = module == "php_module" || module == "php7_module";
        let version = library.strip_prefix("libphp").and_then(|rest| rest.strip_suffix(".so"));
        php.then(|| version.and_then(Version::dotted))
    });
    let mut php_limit = None;
    let mut php_limits = Vec::new();
    for directive in config.directives() {
        let name = directive.name.to_ascii_lowercase();
        let (key, value) = word(&directive.args);
        if (name == "php_value" || name == "php_admin_value") && key == "memory_limit" {
            let limit = quantity::parse(&word(value).0, version.flatten()).limit();
            let limit = Set::at(limit, directive.at.clone());
            match directive.depth {
                0 => php_limit = Some(limit),
                _ => php_limits.push(limit),
            }
        }
    }
    Some(Apache {
        conf: conf.to_path_buf(),
        mpm: Mpm::of(&config),
        php: version,
        php_limit,
        php_limits,
        sockets: sockets.into_iter().collect(),
        refused: config.refused.clone(),
        running: own.iter().map(|process| process.tgid).collect(),
        held_bytes: own.iter().map(|process| process.held_bytes()).sum(),
        lines: config.lines,
    })
}

/// What Debian's envvars exports: lines such as `export APACHE_RUN_DIR=/var/run/apache2$SUFFIX`, where the
/// suffix of the first instance is empty.
fn envvars(root: &Root) -> BTreeMap<String, String> {
    let text = root.text(Path::new("/etc/apache2/envvars")).unwrap_or_default();
    let mut variables = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim_start();
        let assigned = line.strip_prefix("export ").unwrap_or(line);
        if let Some((name, value)) = assigned.split_once('=')
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            let value = value.split_whitespace().next().unwrap_or_default();
            let value =
                value.trim_matches(['"', '\'']).replace("${SUFFIX}", "").replace("$SUFFIX", "");
            variables.insert(name.to_owned(), value);
        }
    }
    variables
}
