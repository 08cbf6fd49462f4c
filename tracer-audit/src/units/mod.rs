//! systemd's units of PHP-FPM, databases and web servers: what bounds them, what starts them again, and what
//! takes them down. A unit that is neither started at boot nor running is read, but not judged.

#[cfg(test)]
mod fuzz;
pub mod lines;
pub mod load;
mod rules;
pub mod search;
pub mod settings;
pub mod values;

use std::path::{Path, PathBuf};

use crate::budget::Demand;
use crate::origin::{Notes, Origin};
use crate::processes::Process;
use crate::report::{Change, Finding, Subject};
use crate::root::Root;
use crate::system::cgroups;
use crate::{Context, Machine};
use search::{Names, instance_of, is_template};
use settings::{Defaults, Settings};

/// The page of every architecture that Debian has servers for; systemd rounds a share of the memory to it.
const PAGE_BYTES: u64 = 4096;

/// Most units that are read: a host with more pools than this has them in other ways.
const MAX_UNITS: usize = 500;

/// The file that a proposal is written to, below a unit's folder of drop-ins.
pub const DROP_IN: &str = "50-rampage.conf";

/// What a unit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// PHP-FPM.
    Php,
    /// MariaDB or MySQL.
    Mysql,
    /// Redis or Valkey.
    Redis,
    /// nginx.
    Nginx,
    /// Apache.
    Apache,
    /// rampage itself.
    Rampage,
}

impl Service {
    /// Known by the unit's name without instance.
    pub fn of(unit: &str) -> Option<Self> {
        let stem = unit.strip_suffix(".service")?;
        let stem = stem.split_once('@').map_or(stem, |(stem, _)| stem);
        Some(match stem {
            "mariadb" | "mysql" | "mysqld" => Self::Mysql,
            "redis" | "redis-server" | "valkey" | "valkey-server" => Self::Redis,
            "nginx" => Self::Nginx,
            "apache2" | "httpd" => Self::Apache,
            "rampage" => Self::Rampage,
            // php8.3-fpm, php-fpm, php83-php-fpm, plesk-php83-fpm
            _ if stem.contains("php") && stem.ends_with("fpm") => Self::Php,
            _ => return None,
        })
    }

    /// Whose demands it carries.
    pub fn subject(self) -> Subject {
        match self {
            Self::Php => Subject::Php,
            Self::Mysql => Subject::Mysql,
            Self::Redis => Subject::Redis,
            Self::Nginx | Self::Apache => Subject::Web,
            Self::Rampage => Subject::System,
        }
    }
}

/// A service's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// `php8.3-fpm.service`, with the instance.
    pub name: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// What it runs.
    pub service: Service,
    /// Its unit file.
    pub path: PathBuf,
    /// Its drop-ins in the order in which they are read.
    pub drop_ins: Vec<PathBuf>,
    /// What these set, and where.
    pub settings: Settings,
    /// MemoryMax, bytes; None where there is none.
    pub memory_max_bytes: Option<u64>,
    /// MemoryHigh, bytes; None where there is none.
    pub memory_high_bytes: Option<u64>,
    /// The tightest MemoryMax of the slices that it is in, bytes, and the slice.
    pub slice_max: Option<(String, u64)>,
    /// Whether it is started at boot.
    pub enabled: bool,
    /// Its processes.
    pub tgids: Vec<u32>,
    /// oom_score_adj of its first process; None where none runs.
    pub running_oom_score_adj: Option<i32>,
    /// The limit of its cgroup, bytes: None where the cgroup is not there, `Some(None)` without a limit.
    pub in_force_bytes: Option<Option<u64>>,
}

impl Unit {
    /// Where its drop-ins are written.
    pub fn drop_in_folder(&self) -> PathBuf {
        Path::new("/etc/systemd/system").join(format!("{}.d", self.name))
    }

    /// Whether it is started at boot, or runs.
    pub fn is_used(&self) -> bool {
        self.enabled || !self.tgids.is_empty()
    }

    /// Where a setting that is not set would stand: the head of `[Service]`.
    pub fn place(&self) -> Origin {
        self.settings.header.clone().unwrap_or_else(|| self.path.clone().into())
    }

    /// How to set `key`, now decided at `at`: the administrator's own line is changed, anything else gets a
    /// drop-in.
    pub fn change(&self, key: &str, at: Option<&Origin>, section: &str, value: &str) -> Change {
        let to = format!("{key}={value}");
        match (at.filter(|at| at.file.starts_with("/etc/systemd")), self.settings.texts.get(key)) {
            (Some(at), Some(from)) => Change::replace(at.clone(), from.clone(), to),
            _ => Change::add(self.drop_in_folder().join(DROP_IN), Some(section), to),
        }
    }

    /// oom_score_adj of its processes, or what they would get.
    pub fn oom_score_adj(&self) -> i32 {
        self.running_oom_score_adj.unwrap_or(self.settings.oom_score_adjust.value)
    }
}

/// What the files and processes say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Units of known services, by name.
    pub units: Vec<Unit>,
    /// Whether systemd is what starts them: else its files mean nothing.
    pub managed: bool,
    /// Whether memory is a cgroup v1 hierarchy, where systemd hears of no kill.
    pub cgroup_v1: bool,
    /// What the manager says for all units.
    pub defaults: Defaults,
}

impl Facts {
    /// Those that are judged.
    pub fn used(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().filter(|unit| self.managed && unit.is_used())
    }
}

/// Reads them.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Facts {
    let names = Names::read(root, notes);
    let defaults = load::defaults(root, notes);
    let total_bytes = Machine::read(root, &mut Notes::default()).total_bytes;
    let mut units: Vec<Unit> = Vec::new();
    let known = known(&names, processes);
    if known.len() > MAX_UNITS {
        notes.say(format!("there are {} units of services: {MAX_UNITS} are read", known.len()));
    }
    for name in known.into_iter().take(MAX_UNITS) {
        let Some(loaded) = load::unit(root, &names, &defaults, &name, notes) else {
            continue;
        };
        let files = loaded.files;
        let (Some(service), Some(path)) = (Service::of(&files.name), files.fragment) else {
            continue;
        };
        if units.iter().any(|unit| unit.name == files.name) {
            continue;
        }
        let settings = loaded.settings;
        let own: Vec<&Process> =
            processes.iter().filter(|process| is_of(process, &files.name)).collect();
        let enabled = std::iter::once(&files.name)
            .chain(&files.aliases)
            .any(|name| names.wanted().binary_search(name).is_ok());
        units.push(Unit {
            service,
            path,
            memory_max_bytes: settings.memory_max.value.bytes(total_bytes, PAGE_BYTES),
            memory_high_bytes: settings.memory_high.value.bytes(total_bytes, PAGE_BYTES),
            slice_max: slice_max(
                root,
                &names,
                &defaults,
                &files.name,
                &settings,
                total_bytes,
                notes,
            ),
            enabled,
            tgids: own.iter().map(|process| process.tgid).collect(),
            running_oom_score_adj: own.first().map(|process| process.oom_score_adj),
            in_force_bytes: cgroups::own_bytes(root, &cgroup_of(&own, &files.name)),
            name: files.name,
            aliases: files.aliases,
            drop_ins: files.drop_ins,
            settings,
        });
    }
    units.sort_by(|a, b| a.name.cmp(&b.name));
    let managed = is_managed(root);
    if !managed && units.iter().any(Unit::is_used) {
        notes.say("systemd does not run here: its units are not judged");
    }
    Facts { units, managed, cgroup_v1: cgroups::is_v1(root), defaults }
}

/// Whether systemd starts what its files say. Of a file system that does not run, that is taken for granted.
pub fn is_managed(root: &Root) -> bool {
    !root.is_host() || root.exists(Path::new("/run/systemd/system"))
}

/// What each of them takes at worst: nothing of its own, the services say it.
pub fn demands(_context: &Context<'_>) -> Vec<Demand> {
    Vec::new()
}

/// What is wrong.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    rules::judge(context)
}

/// Names of units of known services: plain ones, and instances that are started at boot or run.
fn known(names: &Names, processes: &[Process]) -> Vec<String> {
    let running = processes.iter().flat_map(|process| process.cgroup.split('/'));
    let mut known: Vec<String> = names
        .all()
        .chain(names.wanted().iter().map(String::as_str))
        .chain(running)
        .filter(|name| Service::of(name).is_some() && !is_template(name))
        .map(str::to_owned)
        .collect();
    known.sort();
    known.dedup();
    known
}

/// Whether it runs in the unit's cgroup. What a container of the same name inside runs is not the host's: on
/// the way to a unit there are slices only.
fn is_of(process: &Process, unit: &str) -> bool {
    let mut parts = process.cgroup.split('/').filter(|part| !part.is_empty());
    parts.find(|part| !part.ends_with(".slice")) == Some(unit)
}

/// The cgroup of its processes, or where systemd would put it.
fn cgroup_of(own: &[&Process], unit: &str) -> String {
    let running = own.first().map(|process| {
        let parts = process.cgroup.split('/').filter(|part| !part.is_empty());
        let slices: Vec<&str> = parts.take_while(|part| part.ends_with(".slice")).collect();
        slices.join("/")
    });
    let slices = running.unwrap_or_else(|| slice_path(&default_slice(unit)));
    format!("/{slices}/{unit}")
}

/// The slice of a unit.
pub fn slice_of(unit: &str, settings: &Settings) -> String {
    match &settings.slice {
        Some(slice) => specifiers(&slice.value, unit),
        None => default_slice(unit),
    }
}

/// Where a unit is put that says nothing: instances share a slice.
fn default_slice(unit: &str) -> String {
    match unit.split_once('@') {
        Some((prefix, _)) if instance_of(unit).is_some() => {
            format!("system-{}.slice", prefix.replace('-', "\\x2d"))
        }
        _ => "system.slice".to_owned(),
    }
}

/// `a-b.slice` is inside `a.slice`; the one at the root, `-.slice`, is around all and has no limit.
fn slices(slice: &str) -> Vec<String> {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    if stem == "-" {
        return Vec::new();
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.map(|end| format!("{}.slice", &stem[..end])).collect()
}

fn slice_path(slice: &str) -> String {
    slices(slice).join("/")
}

/// The tightest limit of the slices around a unit.
fn slice_max(
    root: &Root,
    names: &Names,
    defaults: &Defaults,
    unit: &str,
    settings: &Settings,
    total_bytes: u64,
    notes: &mut Notes,
) -> Option<(String, u64)> {
    let around = slices(&slice_of(unit, settings));
    // A name may have any number of dashes; systemd goes no deeper either.
    let limits = around.iter().take(16).filter_map(|slice| {
        let loaded = load::unit(root, names, defaults, slice, notes)?;
        Some((slice.clone(), loaded.settings.memory_max.value.bytes(total_bytes, PAGE_BYTES)?))
    });
    limits.min_by_key(|&(_, bytes)| bytes)
}

/// `%i`, `%p`, `%n`, `%N`, `%j` and `%%` of a unit's name; others stay as they are.
fn specifiers(text: &str, unit: &str) -> String {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    let prefix = stem.split_once('@').map_or(stem, |(prefix, _)| prefix);
    let mut whole = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            whole.push(letter);
            continue;
        }
        match letters.next() {
            Some('i') => whole.push_str(instance_of(unit).unwrap_or("")),
            Some('p') => whole.push_str(prefix),
            Some('n') => whole.push_str(unit),
            Some('N') => whole.push_str(stem),
            Some('j') => whole.push_str(prefix.rsplit('-').next().unwrap_or(prefix)),
            Some('%') => whole.push('%'),
            Some(other) => whole.extend(['%', other]),
            None => whole.push('%'),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_their_names() {
        for (name, expected) in [
            ("php8.3-fpm.service", Some(Service::Php)),
            ("php83-php-fpm.service", Some(Service::Php)),
            ("php-fpm@blue.service", Some(Service::Php)),
            ("mariadb@one.service", Some(Service::Mysql)),
            ("redis-server@a.service", Some(Service::Redis)),
            ("httpd.service", Some(Service::Apache)),
            ("phpsessionclean.service", None),
            ("mariadb.socket", None),
            ("redis-sentinel.service", None),
        ] {
            assert_eq!(Service::of(name), expected, "{name}");
        }
    }

    #[test]
    fn slices_are_nested_by_their_dashes() {
        assert_eq!(slices("a-b-c.slice"), ["a.slice", "a-b.slice", "a-b-c.slice"]);
        assert_eq!(slices("-.slice"), [""; 0]);
        assert_eq!(slice_path(&default_slice("nginx.service")), "system.slice");
        assert_eq!(default_slice("redis-server@a.service"), "system-redis\\x2dserver.slice");
        assert_eq!(specifiers("web-%i%%-%p-%j.slice%", "a-b@c.service"), "web-c%-a-b-b.slice%");
    }

    #[test]
    fn instances_are_units_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("usr/lib/systemd/system/redis-server@.service", "[Service]\nSlice=%p-%i.slice\n");
        put("usr/lib/systemd/system/redis-server@.service.d/a.conf", "[Service]\nMemoryMax=50%\n");
        put("etc/systemd/system/redis-server@one.service.d/b.conf", "[Service]\nMemoryHigh=1G\n");
        put("etc/systemd/system/multi-user.target.wants/redis-server@one.service", "");
        put("etc/systemd/system/redis-server.slice", "[Slice]\nMemoryMax=2G\n");
        put("etc/systemd/system/redis.slice", "[Slice]\nMemoryMax=3G\n");
        put("proc/meminfo", "MemTotal: 8388608 kB\n");
        put("sys/fs/cgroup/redis.slice/x.slice/redis-server@two.service/memory.max", "8192\n");
        let process = |tgid, cgroup: &str| Process {
            tgid,
            cgroup: cgroup.to_owned(),
            oom_score_adj: 7,
            ..Process::default()
        };
        let processes = [
            process(7, "/redis.slice/x.slice/redis-server@two.service/below"),
            process(8, "/machine.slice/a.scope/system.slice/redis-server@two.service"),
        ];
        let root = Root::new(folder.path()).unwrap();
        let mut notes = Notes::default();
        let facts = read(&root, &processes, &mut notes);
        assert_eq!(notes.finish(), []);
        let [one, two] = &facts.units[..] else { panic!("{facts:?}") };
        assert_eq!((one.name.as_str(), one.enabled), ("redis-server@one.service", true));
        assert_eq!((one.memory_max_bytes, one.memory_high_bytes), (Some(4 << 30), Some(1 << 30)));
        assert_eq!(one.slice_max, Some(("redis-server.slice".to_owned(), 2 << 30)));
        let folder = "/etc/systemd/system/redis-server@one.service.d";
        assert_eq!(one.drop_in_folder(), Path::new(folder));
        assert_eq!((one.in_force_bytes, one.running_oom_score_adj), (None, None));
        assert_eq!((two.tgids.as_slice(), two.enabled, two.is_used()), (&[7][..], false, true));
        assert_eq!((two.in_force_bytes, two.oom_score_adj()), (Some(Some(8192)), 7));
        assert_eq!(two.memory_high_bytes, None);
    }

    #[test]
    fn thousands_of_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let units = folder.path().join("etc/systemd/system");
        let drop_ins = units.join("php8.0000-fpm.service.d");
        std::fs::create_dir_all(&drop_ins).unwrap();
        for number in 0..=MAX_UNITS {
            let name = format!("php8.{number:04}-fpm.service");
            std::fs::write(units.join(name), "[Service]\n").unwrap();
            std::fs::write(drop_ins.join(format!("{number:04}.conf")), "[Service]\n").unwrap();
        }
        let mut notes = Notes::default();
        let facts = read(&Root::new(folder.path()).unwrap(), &[], &mut notes);
        assert_eq!(facts.units.len(), MAX_UNITS);
        assert_eq!(facts.units[0].drop_ins.len(), 50);
        assert_eq!(notes.finish().len(), 1);
    }

    /// One file of 3 MiB under many names.
    #[test]
    fn a_file_that_is_everywhere_is_not_read_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: String| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        // No parser goes behind the first line.
        let text = format!("[Service\n#{}", "x".repeat(3 << 20));
        std::fs::write(put("big".to_owned()), text).unwrap();
        let link = |path: String| std::os::unix::fs::symlink("/big", put(path)).unwrap();
        for number in 10..30 {
            let unit = format!("etc/systemd/system/php8.{number}-fpm.service");
            std::fs::write(put(unit), "[Service]\n").unwrap();
            link(format!("etc/systemd/system.conf.d/{number}.conf"));
            link(format!("etc/sysctl.d/{number}.conf"));
            link(format!("etc/cron.d/{number}"));
        }
        link("etc/systemd/system/service.d/a.conf".to_owned());
        let root = Root::new(folder.path()).unwrap();
        let not_read = |notes: Notes| {
            let notes = notes.finish();
            notes.iter().filter(|note| note.text.starts_with("not read on:")).count()
        };
        let mut notes = Notes::default();
        assert!((1..20).contains(&read(&root, &[], &mut notes).units.len()));
        assert_eq!(not_read(notes), 2);
        let mut notes = Notes::default();
        assert!((1..20).contains(&load::config(&root, "systemd/system.conf", &mut notes).len()));
        crate::system::read(&root, &[], &mut notes);
        assert_eq!(not_read(notes), 3);
    }
}
