//! nginx: its configuration as the server would read it, and how many requests it passes on.

pub mod read;
mod words;

use std::path::{Path, PathBuf};

use crate::origin::{Notes, Origin, Set};
use crate::processes::{self, Process};
use crate::root::Root;
use crate::web::socket::Socket;
use read::{Config, Directive, Refused};

const MAIN: &str = "/etc/nginx/nginx.conf";

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
        .filter(|process| process.comm == "nginx" && !processes::is_contained(root, process))
        .collect();
    let stat = root.text(Path::new("/proc/stat")).unwrap_or_default();
    let cpu = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let cpus = stat.lines().filter(cpu).count() as u32;
    let find = |name: &str, block: &str| {
        let wanted = |directive: &&Directive| directive.name == name && &*directive.block == block;
        config.directives.iter().rev().find(wanted)
    };
    let number = |found: &Directive| {
        let number: u64 = found.args.first()?.parse().ok()?;
        Some(u32::try_from(number).unwrap_or(u32::MAX))
    };
    let processes = match find("worker_processes", "") {
        Some(found) => Set::at(number(found), found.at.clone()),
        None => Set::default_of(Some(1)),
    };
    let connections = match find("worker_connections", "events") {
        Some(found) => Set::at(number(found).unwrap_or(512), found.at.clone()),
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
