//! Every redis: those that run, each with its file, and the files of those that do not.
//!
//! A running redis writes a title over its arguments, `redis-server 127.0.0.1:6379`: its file is found by the
//! port, among those where distributions have them. Where the arguments are still there, they name it.

use std::path::{Path, PathBuf};

use super::config::Config;
use crate::dpkg;
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
}

impl Instance {
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
        let last = self.config.files.iter().map(|(file, _)| file);
        let last = last.filter(|file| file.parent() == Some(Path::new(pattern))).max();
        let last = last.and_then(|file| file.file_name()?.to_str()).unwrap_or_default();
        let set = self.config.values.get(directive).and_then(|set| set.at.as_ref());
        let behind = set.is_some_and(|at| at.file == include.at.file && at.line > include.at.line);
        let name = if last <= "zz-rampage.conf" {
            "zz-rampage.conf".to_owned()
        } else {
            format!("zz{last}")
        };
        (!behind).then(|| Path::new(pattern).join(name))
    }

    /// The line that decides how much it may take: `maxmemory`, else the file.
    pub fn at(&self) -> Option<Origin> {
        self.config.maxmemory().at.or_else(|| Some(Origin::whole(self.file.clone()?)))
    }
}

/// Looks for them; also the processes of those that run in a container, whose files are not looked at.
pub fn find(root: &Root, running: &[Process], notes: &mut Notes) -> (Vec<Instance>, Vec<Process>) {
    let known = is_listed(root, notes);
    let (contained, own): (Vec<&Process>, Vec<&Process>) = running
        .iter()
        .filter(|process| is_server(process))
        .partition(|process| processes::is_contained(root, process));
    let mut files: Vec<PathBuf> = FILES
        .iter()
        .flat_map(|pattern| root.glob(Path::new(pattern)).unwrap_or_default())
        .collect();
    files.sort();
    files.dedup();
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
        for process in own {
            instances.push(of_process(root, process, &read, known, notes));
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
    Instance { name: "redis".to_owned(), file, process, config, hidden_args }
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
            "{title} (process {}) hides its arguments, and no redis.conf has its address: its limits are not known",
            process.tgid
        ));
        return instance(None, Some(process.clone()), Config::default(), true);
    }
    let rest = process.args.get(1..).unwrap_or_default();
    let (file, rest) = match rest.split_first() {
        Some((file, rest)) if !file.starts_with('-') => (Some(Path::new("/").join(file)), rest),
        _ => (None, rest),
    };
    let config = Config::read(root, file.as_deref(), rest, known, notes);
    instance(file, Some(process.clone()), config, false)
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
        let plain = find(&["redis-server", "/etc/redis/redis.conf", "--maxmemory", "1mb"]);
        assert_eq!((plain.config.maxmemory().value, plain.hidden_args), (1 << 20, false));
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
        assert_eq!(drop_in("include /etc/redis/conf.d/a.conf\n"), None);
        assert_eq!(drop_in("port 1\n"), None);
    }
}
