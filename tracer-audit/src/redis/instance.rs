//! Every redis: those that run, each with its file, and the files of those that do not.
//!
//! A running redis writes a title over its arguments, `redis-server 127.0.0.1:6379`: its file is found by the
//! port, among those where distributions have them. Where the arguments are still there, they name it. On the host
//! itself a running one is asked what is in force.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::ask::{self, Address, Answer};
use super::config::Config;
use crate::bound::short;
use crate::dpkg;
use crate::drop_in;
use crate::origin::{Notes, Origin};
use crate::processes::{self, Process};
use crate::root::Root;

/// Where distributions have them; redis-server@.service of Debian has one for each instance.
const FILES: [&str; 5] = [
    "/etc/redis/redis.conf",
    "/etc/redis/redis-*.conf",
    "/etc/redis.conf",
    "/etc/valkey/valkey.conf",
    "/etc/valkey.conf",
];

/// Programs of a redis.
const PROGRAMS: [&str; 5] = [
    "/usr/bin/redis-server",
    "/usr/local/bin/redis-server",
    "/usr/sbin/redis-server",
    "/usr/bin/valkey-server",
    "/usr/local/bin/valkey-server",
];

/// Most of them that are looked at, and most files: a name is all that makes a process one.
const MAX_INSTANCES: usize = 100;

/// A redis.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `redis`, with its port where there are several.
    pub name: String,
    /// Its file; None where none is known.
    pub file: Option<PathBuf>,
    /// The process; None where it does not run.
    pub process: Option<Process>,
    /// What file and arguments come to. Of a running redis whose title hides its arguments they are not in
    /// it.
    pub config: Config,
    /// Whether arguments may say more than is known.
    pub hidden_args: bool,
    /// What it answered; None where it was not asked, or did not answer.
    pub answer: Option<Answer>,
}

impl Instance {
    /// Whether all that its file says is known.
    pub fn is_known(&self) -> bool {
        (self.file.is_some() || !self.hidden_args) && !self.config.partial
    }

    /// The `maxmemory` that is in force, else the one of file and arguments, bytes; zero is no limit.
    pub fn limit_bytes(&self) -> u64 {
        let answered = self.answer.as_ref().map(|answer| answer.maxmemory_bytes);
        answered.unwrap_or_else(|| self.config.maxmemory().value)
    }

    /// Whether the whole data set is written now and then by a copy of the process: by `save` or by
    /// `appendonly`, whose file is written anew.
    pub fn forks(&self) -> bool {
        !self.config.save().is_empty() || self.config.on("appendonly")
    }

    /// A file that counts when it is made, without touching one that is there: only where the configuration
    /// includes a pattern behind all other lines that set `directive`. Redis reads no folder by itself; without
    /// it either the line `include /etc/redis/redis.conf.d/*.conf` is added at the end of its file by hand, or
    /// a systemd drop-in repeats its ExecStart with `--directive value` at the end.
    pub fn drop_in(&self, directive: &str) -> Option<PathBuf> {
        let include = self.config.includes.last()?;
        let pattern =
            include.path.to_str()?.strip_suffix("*.conf").filter(|path| path.ends_with('/'))?;
        let set = self.config.values.get(directive).and_then(|set| set.at.as_ref());
        let behind = set.is_some_and(|at| at.file == include.at.file && at.line > include.at.line);
        let files = self.config.files.iter().map(|(file, _)| file);
        (!behind).then(|| drop_in::behind(Path::new(pattern), files, ".conf"))
    }

    /// The line that decides how much it may take: `maxmemory`, else the file.
    pub fn at(&self) -> Option<Origin> {
        self.config.maxmemory().at.or_else(|| Some(Origin::whole(self.file.clone()?)))
    }
}

/// Looks for them; also the processes of those that run in a container, whose files are not looked at.
pub fn find(root: &Root, running: &[Process], notes: &mut Notes) -> (Vec<Instance>, Vec<Process>) {
    let known = is_listed(root, notes);
    let (contained, mut own): (Vec<&Process>, Vec<&Process>) = running
        .iter()
        .filter(|process| is_server(process))
        .partition(|process| processes::is_contained(root, process));
    let mut files: Vec<PathBuf> = FILES
        .iter()
        .flat_map(|pattern| root.glob(Path::new(pattern)).unwrap_or_default())
        .collect();
    files.sort();
    files.dedup();
    if own.len().max(files.len()) > MAX_INSTANCES {
        notes.say(format!("there are more than {MAX_INSTANCES} redis: the rest is not looked at"));
        own.truncate(MAX_INSTANCES);
        files.truncate(MAX_INSTANCES);
    }
    let mut instances = Vec::new();
    if own.is_empty() {
        if contained.is_empty()
            && !PROGRAMS.iter().any(|path| root.exists(Path::new(path)))
            && !known
        {
            files.clear();
        }
        for file in files {
            let config = Config::read(root, Some(&file), &[], known, notes);
            instances.push(instance(Some(file), None, config, false));
        }
    } else {
        let read: Vec<(PathBuf, Config)> = files
            .into_iter()
            .map(|file| {
                let config = Config::read(root, Some(&file), &[], known, notes);
                (file, config)
            })
            .collect();
        let until = Instant::now() + ask::DEADLINE;
        for process in own {
            let mut instance = of_process(root, process, &read, known, notes);
            if root.is_host() {
                instance.answer = answer(root, &instance, process, until, notes);
            }
            instances.push(instance);
        }
    }
    if instances.len() > 1 {
        for instance in &mut instances {
            let port = instance.config.get("port").unwrap_or_default();
            instance.name = match &instance.process {
                Some(process) => format!("redis (process {})", process.tgid),
                None => format!("redis (port {port})"),
            };
        }
    }
    (instances, contained.into_iter().cloned().collect())
}

fn instance(
    file: Option<PathBuf>,
    process: Option<Process>,
    config: Config,
    hidden_args: bool,
) -> Instance {
    Instance { name: "redis".to_owned(), file, process, config, hidden_args, answer: None }
}

fn of_process(
    root: &Root,
    process: &Process,
    read: &[(PathBuf, Config)],
    known: bool,
    notes: &mut Notes,
) -> Instance {
    let title = process.args.first().map_or("", String::as_str);
    if let Some(address) = titled(&process.args) {
        let port = address.rsplit_once(':').map(|(_, port)| port);
        let fits = |config: &Config| match port {
            // What could not be read may have another than the default.
            Some(_) if config.partial && !config.values.contains_key("port") => false,
            Some(port) => {
                config.get("port").as_deref() == Some(port)
                    || config.get("tls-port").as_deref() == Some(port)
            }
            None => config.values.get("unixsocket").is_some_and(|set| set.value == address),
        };
        if let Some((file, config)) = read.iter().find(|(_, config)| fits(config)) {
            return instance(Some(file.clone()), Some(process.clone()), config.clone(), true);
        }
        notes.say(format!(
            "{} (process {}) hides its arguments, and no redis.conf that can be read has its address: what it is told is \
             not known",
            short(title),
            process.tgid
        ));
        return instance(None, Some(process.clone()), Config::default(), true);
    }
    let rest = process.args.get(1..).unwrap_or_default();
    let (file, rest) = match rest.split_first() {
        Some((file, rest)) if !file.starts_with('-') => (Some(PathBuf::from(file)), rest),
        _ => (None, rest),
    };
    // It has left the folder in which it was started.
    if let Some(file) = file.as_ref().filter(|file| file.is_relative()) {
        notes.say(format!(
            "redis (process {}) was started with {}, in which folder is not known: what it is told is not known",
            process.tgid,
            short(&file.to_string_lossy())
        ));
        return instance(None, Some(process.clone()), Config::default(), true);
    }
    let config = Config::read(root, file.as_deref(), rest, known, notes);
    instance(file, Some(process.clone()), config, false)
}

fn answer(
    root: &Root,
    instance: &Instance,
    process: &Process,
    until: Instant,
    notes: &mut Notes,
) -> Option<Answer> {
    let asked = addresses(root, instance, process)
        .into_iter()
        .map(|address| ask::ask(&address, process.tgid, password(root, instance, process), until));
    let mut why = None;
    for answer in asked {
        match answer {
            Ok(answer) => return Some(answer),
            Err(error) => why = Some(error.to_string()),
        }
    }
    notes.say(format!(
        "what is in force in redis (process {}) is not known: {}",
        process.tgid,
        why.as_deref().unwrap_or("it has no unix socket and no port of the loopback without TLS")
    ));
    None
}

/// Where it can be asked on this host: by its file, else by its title.
fn addresses(root: &Root, instance: &Instance, process: &Process) -> Vec<Address> {
    let config = &instance.config;
    let titled = titled(&process.args);
    let text = |name: &str| config.values.get(name).map(|set| set.value.as_str());
    let socket = text("unixsocket").or(titled.filter(|address| address.starts_with('/')));
    let socket = socket.map(Path::new).filter(|path| path.is_absolute() && root.exists(path));
    let mut found: Vec<Address> =
        socket.map(|path| Address::Socket(path.to_path_buf())).into_iter().collect();
    let (hosts, port) = match titled.and_then(|address| address.rsplit_once(':')) {
        Some((host, port)) if !instance.is_known() => (host, port.to_owned()),
        _ if instance.is_known() => {
            (text("bind").unwrap_or("*"), config.get("port").unwrap_or_default())
        }
        _ => return found,
    };
    let port = port.parse().unwrap_or(0);
    found.extend(hosts.split_whitespace().find_map(|host| Address::port(host, port)));
    found
}

/// The password of its file, where its user may read that file anyhow: who only calls itself redis learns nothing.
fn password<'a>(root: &Root, instance: &'a Instance, process: &Process) -> Option<&'a str> {
    let set = instance.config.values.get("requirepass").filter(|set| !set.value.is_empty())?;
    let may_read = set.at.as_ref().is_none_or(|at| {
        let stat = root.stat(&at.file);
        stat.is_ok_and(|stat| stat.st_uid == process.uid || stat.st_mode & 0o004 != 0)
    });
    (may_read || process.uid == 0).then_some(&*set.value)
}

/// The address of a title: `/usr/bin/redis-server 127.0.0.1:6379`, one argument.
fn titled(args: &[String]) -> Option<&str> {
    let [title] = args else { return None };
    let (program, rest) = title.split_once(' ')?;
    let named = program.ends_with("redis-server") || program.ends_with("valkey-server");
    named.then(|| rest.split(' ').next()).flatten().filter(|address| !address.is_empty())
}

fn is_server(process: &Process) -> bool {
    let named = |name: &str| matches!(name, "redis-server" | "valkey-server" | "redis-check-rdb");
    let exe = process.exe.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    // Debian's redis-server is a link to redis-check-rdb.
    named(&process.comm) && exe.is_none_or(named)
}

/// Whether redis is 7.0, whose directives are all known.
fn is_listed(root: &Root, notes: &mut Notes) -> bool {
    let list = dpkg::list(root, notes);
    let redis = |name: &str| matches!(name, "redis-server" | "redis-tools");
    let found = dpkg::installed(&list).find(|(name, _)| redis(name));
    found.is_some_and(|(_, version)| version.starts_with("7.0."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::tree as root;
    use std::os::unix::fs::PermissionsExt;

    const STATUS: &str =
        "Package: redis-server\nStatus: install ok installed\nVersion: 5:7.0.15-1\n";

    fn process(args: &[&str]) -> Process {
        Process {
            tgid: 7,
            comm: "redis-server".to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Process::default()
        }
    }

    #[test]
    fn a_title_is_followed_to_its_file() {
        let (_folder, root) = root(&[
            ("var/lib/dpkg/status", STATUS),
            ("etc/redis/redis.conf", "port 6379\n"),
            ("etc/redis/redis-b.conf", "port 7000\nmaxmemory 1gb\n"),
        ]);
        let find = |args: &[&str]| {
            let (mut found, _) = find(&root, &[process(args)], &mut Notes::default());
            assert_eq!(found.len(), 1);
            found.remove(0)
        };
        let titled = find(&["/usr/bin/redis-server 0.0.0.0:7000 [cluster]"]);
        assert_eq!(titled.config.maxmemory().value, 1 << 30);
        assert!(titled.hidden_args);
        assert!(find(&["redis-server *:1"]).file.is_none());
        assert!(!find(&["redis-server", "redis.conf"]).is_known());
        let plain = find(&["redis-server", "/etc/redis/redis.conf", "--maxmemory", "1mb"]);
        assert_eq!((plain.config.maxmemory().value, plain.hidden_args), (1 << 20, false));
    }

    #[test]
    fn it_is_asked_on_this_host_only() {
        let (_folder, root) =
            root(&[("s", ""), ("redis.conf", "bind 10.0.0.1 -::1\nport 7\nunixsocket /s\n")]);
        let of = |process: &Process| {
            addresses(&root, &of_process(&root, process, &[], true, &mut Notes::default()), process)
        };
        let port = |text: &str| Address::Port(text.parse().unwrap());
        let socket = Address::Socket("/s".into());
        let known = of(&process(&["redis-server", "/redis.conf"]));
        assert_eq!(known, [socket.clone(), port("[::1]:7")]);
        assert_eq!(of(&process(&["redis-server *:8"])), [port("127.0.0.1:8")]);
        assert_eq!(of(&process(&["redis-server 10.0.0.1:8"])), []);
        assert_eq!(of(&process(&["redis-server /s"])), [socket]);
        assert_eq!(of(&process(&["redis-server"])), [port("127.0.0.1:6379")]);
        assert_eq!(of(&process(&["redis-server", "--port", "0"])), []);
    }

    #[test]
    fn a_password_goes_only_to_who_may_read_it() {
        let (folder, root) = root(&[("redis.conf", "requirepass x\n")]);
        let file = folder.path().join("redis.conf");
        let own = rustix::process::geteuid().as_raw();
        let sent = |mode, uid| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let process = Process { uid, ..process(&["redis-server", "/redis.conf"]) };
            let instance = of_process(&root, &process, &[], true, &mut Notes::default());
            password(&root, &instance, &process).is_some()
        };
        assert!(sent(0o600, own) && sent(0o604, own + 1) && sent(0o600, 0));
        assert!(!sent(0o640, own + 1));
    }

    #[test]
    fn without_a_process_files_count_where_redis_is_installed() {
        let (_folder, installed) =
            root(&[("var/lib/dpkg/status", STATUS), ("etc/redis/redis.conf", "maxmemory 1t\n")]);
        let (found, _) = find(&installed, &[], &mut Notes::default());
        assert_eq!(found[0].name, "redis");
        assert!(found[0].config.refused.is_some());
        let (_folder, left) = root(&[("etc/redis/redis.conf", "port 1\n")]);
        assert!(find(&left, &[], &mut Notes::default()).0.is_empty());
    }

    #[test]
    fn a_drop_in_needs_a_pattern_behind_everything() {
        let drop_in = |text: &str| {
            let (_folder, root) = root(&[
                ("var/lib/dpkg/status", STATUS),
                ("etc/redis/redis.conf", text),
                ("etc/redis/conf.d/a.conf", "port 1\n"),
            ]);
            find(&root, &[], &mut Notes::default()).0[0].drop_in("maxmemory")
        };
        let path = Some(PathBuf::from("/etc/redis/conf.d/zz-rampage.conf"));
        assert_eq!(drop_in("maxmemory 1gb\ninclude /etc/redis/conf.d/*.conf\n"), path);
        assert_eq!(drop_in("include /etc/redis/conf.d/*.conf\nmaxmemory 1gb\n"), None);
        let (_folder, root) = root(&[
            ("var/lib/dpkg/status", STATUS),
            ("etc/redis/redis.conf", "include /etc/redis/conf.d/*.conf\n"),
            ("etc/redis/conf.d/~a.conf", "port 1\n"),
        ]);
        let behind = find(&root, &[], &mut Notes::default()).0[0].drop_in("maxmemory").unwrap();
        assert!(behind.as_path() > Path::new("/etc/redis/conf.d/~a.conf"), "{}", behind.display());
        assert_eq!(drop_in("include /etc/redis/conf.d/a.conf\n"), None);
        assert_eq!(drop_in("port 1\n"), None);
    }
}
