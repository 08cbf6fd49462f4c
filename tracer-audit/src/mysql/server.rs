//! Every server: those that run, and the one that is installed where none runs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::ask::{self, Answer};
use super::installed::{self, Flavour, Installed, Version};
use super::reader::{self, Given, Reading, Sources};
use super::recorded::{self, Recorded};
use super::settings::Settings;
use super::variables::{CONNECTIONS, POOL};
use super::{mapped, persisted};
use crate::drop_in;
use crate::origin::{Notes, Origin};
use crate::processes::{self, Process};
use crate::root::Root;

/// Most servers that are looked at: a name is all that makes a process one.
const MAX_SERVERS: usize = 32;

/// A server with all that is known of it.
#[derive(Clone, Debug)]
pub struct Server {
    /// `MariaDB`, with the process's id where several run.
    pub name: String,
    /// Whose it is.
    pub flavour: Flavour,
    /// Its version as far as groups and defaults depend on it.
    pub version: Option<Version>,
    /// The process; None where it does not run.
    pub process: Option<Process>,
    /// The groups that it reads.
    pub groups: Vec<String>,
    /// What its files say.
    pub reading: Reading,
    /// What files and arguments come to.
    pub settings: Settings,
    /// What it answered; None where it was not asked, or did not answer.
    pub answer: Option<Answer>,
    /// What it wrote into its log as it last started; where it did not answer.
    pub recorded: Option<Recorded>,
    /// What it has mapped at most for its pool, bytes; where it runs, and may be looked at.
    pub mapped_bytes: Option<u64>,
}

impl Server {
    /// The buffer pool of files and arguments, and where it stands.
    pub fn pool(&self) -> crate::Set<u64> {
        self.settings.number(POOL)
    }

    /// How many clients files and arguments admit, and where that stands.
    pub fn max_connections(&self) -> crate::Set<u64> {
        self.settings.number(CONNECTIONS)
    }

    /// Where it can be reached from other hosts, by its answer, else by files and arguments.
    pub fn listens_on(&self) -> Option<String> {
        let answered = self.answer.as_ref();
        let silent = answered.and_then(|answer| answer.skip_networking);
        if silent.unwrap_or_else(|| self.is_silent()) {
            return None;
        }
        let addresses = answered
            .and_then(|answer| answer.bind_address.clone())
            .or_else(|| self.settings.text("bind-address").map(str::to_owned))
            .filter(|address| !address.is_empty())
            .unwrap_or_else(|| "*".to_owned());
        let is_local = |address: &str| {
            let address = address.trim();
            address.eq_ignore_ascii_case("localhost")
                || address == "::1"
                || address.starts_with("127.")
        };
        (!addresses.split(',').all(is_local)).then_some(addresses)
    }

    /// Whether it listens on no network. MySQL 8 does not when it asks nobody for a password (manual, 7.1.7).
    fn is_silent(&self) -> bool {
        let modern = self.version.is_none_or(|version| version >= Version::new(8, 0));
        let open = self.flavour == Flavour::Mysql
            && modern
            && self.settings.on("skip-grant-tables").is_some();
        open || self.settings.on("skip-networking").is_some()
    }

    /// The file to make so that what it says counts: in the folder that is read last, behind all files that
    /// are there. None where no folder is included. See [`Self::outranks_drop_in`].
    pub fn drop_in(&self) -> Option<PathBuf> {
        let folder = &self.reading.folders.last()?.path;
        let files = self.reading.files.iter().map(|(file, _)| file);
        Some(drop_in::behind(folder, files, ".cnf"))
    }

    /// Whether what is said of the variable `name` counts more than [`Self::drop_in`]: it stands on the command
    /// line, the server keeps it itself, or its file is read later.
    pub fn outranks_drop_in(&self, name: &str) -> bool {
        let Some(last) = self.settings.said(name).last() else { return false };
        let line = |at: &Origin| self.reading.given.iter().rposition(|given| given.at == *at);
        let end = self.reading.folders.last().map_or(0, |folder| folder.end);
        last.at.as_ref().and_then(line).is_none_or(|line| line >= end)
    }

    /// The line at `at` of an option file, without the blanks around it.
    pub fn line_at(&self, at: &Origin) -> Option<&str> {
        self.reading.given.iter().find(|given| given.at == *at).map(|given| given.text.as_str())
    }

    /// Whether it reads the group `group`.
    pub fn reads(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own.eq_ignore_ascii_case(group))
    }
}

/// Looks for servers; also the processes of those that run in a container, whose files are not looked at.
pub fn find(root: &Root, running: &[Process], notes: &mut Notes) -> (Vec<Server>, Vec<Process>) {
    let installed = installed::find(root, notes);
    let (mut own, mut contained) = (Vec::new(), Vec::new());
    for process in running.iter().filter(|process| is_server(process)) {
        if processes::is_contained(root, process) {
            notes.say(format!(
                "process {} ({}) runs in a container: its option files are not read",
                process.tgid, process.comm
            ));
            contained.push(process.clone());
        } else {
            own.push(process);
        }
    }
    if own.len() > MAX_SERVERS {
        notes.say(format!("{} database servers run: {MAX_SERVERS} are looked at", own.len()));
        own.truncate(MAX_SERVERS);
    }
    let until = Instant::now() + ask::DEADLINE;
    let mut servers: Vec<Server> = own
        .iter()
        .map(|process| running_server(root, process, installed.as_ref(), until, notes))
        .collect();
    if servers.len() > 1 {
        for server in &mut servers {
            let tgid = server.process.as_ref().map_or(0, |process| process.tgid);
            server.name = format!("{} (process {tgid})", server.name);
        }
    }
    if servers.is_empty()
        && let Some(installed) = installed
    {
        servers.push(installed_server(root, &installed, notes));
    }
    if let Some(server) = servers.first().filter(|_| !root.is_host()) {
        notes.say(format!(
            "{} keeps its accounts in its tables: whether root has a password is not seen in an \
             unpacked file system",
            server.flavour.name()
        ));
    }
    (servers, contained)
}

fn is_server(process: &Process) -> bool {
    let named = |name: &str| matches!(name, "mariadbd" | "mysqld");
    match &process.exe {
        Some(exe) => exe.file_name().and_then(|name| name.to_str()).is_some_and(named),
        None => named(&process.comm),
    }
}

fn installed_server(root: &Root, installed: &Installed, notes: &mut Notes) -> Server {
    let sources = Sources {
        home: home(root, |fields| fields.first() == Some(&"mysql")),
        ..Sources::default()
    };
    let mut server = read(root, (installed.flavour, installed.version), sources, &[], notes);
    server.recorded = recorded::read(root, &server.settings, notes);
    server
}

fn running_server(
    root: &Root,
    process: &Process,
    installed: Option<&Installed>,
    until: Instant,
    notes: &mut Notes,
) -> Server {
    let by_name = process.exe.as_deref().is_some_and(|exe| exe.ends_with("mariadbd"))
        || process.comm == "mariadbd";
    let flavour = match installed {
        _ if by_name => Flavour::Mariadb,
        Some(installed) => installed.flavour,
        None => Flavour::Mysql,
    };
    let version =
        installed.filter(|found| found.flavour == flavour).and_then(|found| found.version);
    let sources = sources(root, process);
    let mut own_notes = Notes::default();
    let mut server = read(root, (flavour, version), sources.clone(), &process.args, &mut own_notes);
    if root.is_host() && rustix::process::geteuid().is_root() {
        server.answer = answer(root, process, &server, until, notes);
    }
    // A server that is not the package manager's tells its version, and so its groups, itself.
    if let Some(told) = server.answer.as_ref().and_then(Answer::flavour_and_version)
        && told != (flavour, version)
    {
        let answer = server.answer.take();
        own_notes = Notes::default();
        server = read(root, told, sources, &process.args, &mut own_notes);
        server.answer = answer;
    }
    notes.take(own_notes);
    if server.answer.is_none() {
        server.recorded = recorded::read(root, &server.settings, notes);
    }
    server.mapped_bytes = mapped::writable_bytes(root, process.tgid);
    server.process = Some(process.clone());
    note_unreadable(root, &server, process.uid, notes);
    server
}

/// Files that the server's user may not read, and that it passes over for that without a word, if it was started as
/// that user: systemd does so.
fn note_unreadable(root: &Root, server: &Server, uid: u32, notes: &mut Notes) {
    for (file, _) in server.reading.files.iter().filter(|_| uid != 0) {
        let Ok(stat) = root.stat(file) else { continue };
        // Its groups are not known: a file that a group may read is not spoken of.
        if stat.st_mode & 0o044 == 0 && stat.st_uid != uid {
            notes.at(
                Origin::whole(file.clone()),
                format!(
                    "only its owner may read it: {} reads it only where it is started as root",
                    server.name
                ),
            );
        }
    }
}

fn answer(
    root: &Root,
    process: &Process,
    server: &Server,
    until: Instant,
    notes: &mut Notes,
) -> Option<Answer> {
    let program = process.exe.as_deref()?;
    let given =
        server.settings.text("socket").map(|socket| server.settings.data_folder().join(socket));
    // What Debian, the makers and others build in.
    let built_in = ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"]
        .map(PathBuf::from);
    let socket = match given {
        Some(socket) => socket,
        None => built_in.into_iter().find(|socket| root.exists(socket))?,
    };
    match ask::ask(program, &socket, until) {
        Ok(answer) => Some(answer),
        Err(error) => {
            notes.say(format!(
                "{} at {}: what is in force, and whether root has a password, is not known: {error}",
                server.name,
                socket.display()
            ));
            None
        }
    }
}

fn read(
    root: &Root,
    (flavour, version): (Flavour, Option<Version>),
    mut sources: Sources,
    args: &[String],
    notes: &mut Notes,
) -> Server {
    sources.first_dot = flavour == Flavour::Mysql;
    let used = sources.of_args(args);
    let groups = installed::groups(flavour, version, sources.group_suffix.as_deref());
    let reading = reader::read(root, &sources, notes);
    let versioned = |group: &str| {
        let digits = group.rsplit_once('-').map_or("", |(_, version)| version);
        digits.starts_with(|c: char| c.is_ascii_digit())
    };
    let unsure = reading.given.iter().find(|given| version.is_none() && versioned(&given.group));
    if let Some(Given { group, at, .. }) = unsure {
        let text = format!("the server's version is not known: the group [{group}] is passed over");
        notes.at(at.clone(), text);
    }
    let rest = args.get(used..).unwrap_or_default();
    let mut settings = Settings::new((flavour, version), &reading.given, &groups, rest, notes);
    if flavour == Flavour::Mysql {
        persisted(root, &mut settings, notes);
    }
    Server {
        name: flavour.name().to_owned(),
        flavour,
        version,
        process: None,
        groups,
        reading,
        settings,
        answer: None,
        recorded: None,
        mapped_bytes: None,
    }
}

fn persisted(root: &Root, settings: &mut Settings, notes: &mut Notes) {
    let path = settings.data_folder().join(persisted::FILE);
    let found = persisted::read(root, &path, notes);
    let at = Origin::whole(path);
    for (name, value) in found {
        settings.persist(&name, &value, &at);
    }
}

/// What the environment of a running server says; its user's home folder where it may not be seen.
fn sources(root: &Root, process: &Process) -> Sources {
    let path = format!("/proc/{}/environ", process.tgid);
    let environment = root.text(Path::new(&path)).unwrap_or_default();
    let value = |name: &str| {
        let mut pairs = environment.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let uid = process.uid.to_string();
    Sources {
        group_suffix: value("MARIADB_GROUP_SUFFIX").or_else(|| value("MYSQL_GROUP_SUFFIX")),
        server_home: value("MARIADB_HOME").or_else(|| value("MYSQL_HOME")).map(PathBuf::from),
        home: value("HOME")
            .map(PathBuf::from)
            .or_else(|| home(root, |fields| fields.get(2) == Some(&uid.as_str()))),
        ..Sources::default()
    }
}

fn home(root: &Root, is_user: impl Fn(&[&str]) -> bool) -> Option<PathBuf> {
    let passwd = root.text(Path::new("/etc/passwd")).ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        is_user(&fields).then(|| fields.get(5).map(PathBuf::from)).flatten()
    })
}
