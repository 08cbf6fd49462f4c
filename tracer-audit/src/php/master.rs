//! Running masters of php-fpm: which file they read, when, and who their workers are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ini::files::Environment;
use crate::origin::Notes;
use crate::processes::{self, Process};
use crate::root::Root;

/// A master and its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The master.
    pub tgid: u32,
    /// Start, seconds since 1970; zero where it is not known.
    pub started_unix_s: u64,
    /// Its program.
    pub binary: Option<PathBuf>,
    /// Its php-fpm.conf; None where its title does not tell.
    pub conf: Option<PathBuf>,
    /// What it was started with, where that can be read.
    pub environment: Environment,
    /// Arguments that change which php.ini is read.
    pub options: Options,
    /// Workers by pool.
    pub workers: BTreeMap<String, Vec<Worker>>,
}

/// Of a command line that is not hidden by a title.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-c`: a file or folder.
    pub ini: Option<PathBuf>,
    /// `-n`: no php.ini.
    pub no_ini: bool,
    /// `-d name=value`, in order.
    pub defines: Vec<(String, String)>,
}

/// A worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The process.
    pub tgid: u32,
    /// Start, seconds since 1970.
    pub started_unix_s: u64,
    /// Anonymous and swapped memory, bytes.
    pub held_bytes: u64,
}

/// All masters among `processes`. One in a container reads the container's files, not these: it is only said.
pub fn all(root: &Root, processes: &[Process], notes: &mut Notes) -> Vec<Master> {
    let mut masters = Vec::new();
    for process in processes.iter().filter(|process| is_master(process, processes)) {
        if processes::is_contained(root, process) {
            notes.say(format!(
                "php-fpm {tgid} runs in a container: its files are audited with --root /proc/{tgid}/root",
                tgid = process.tgid
            ));
            continue;
        }
        masters.push(master(root, process, processes));
    }
    masters
}

fn is_fpm(process: &Process) -> bool {
    let title = process.args.first().is_some_and(|title| title.starts_with("php-fpm: "));
    let name = |path: &Path| path.file_name().is_some_and(is_fpm_name);
    title || process.exe.as_deref().is_some_and(name)
}

fn is_fpm_name(name: &std::ffi::OsStr) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix("php-fpm"));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

fn is_master(process: &Process, processes: &[Process]) -> bool {
    if !is_fpm(process) {
        return false;
    }
    let title = process.args.first().map_or("", String::as_str);
    if title.starts_with("php-fpm: ") {
        return title.starts_with("php-fpm: master process");
    }
    // Without a title a worker looks like its master, and has it for its parent.
    !processes.iter().any(|other| other.tgid == process.ppid && is_fpm(other))
}

fn master(root: &Root, process: &Process, processes: &[Process]) -> Master {
    let folder = PathBuf::from(format!("/proc/{}", process.tgid));
    let here = root.link(&folder.join("cwd")).unwrap_or_else(|_| PathBuf::from("/"));
    let (conf, options) = arguments(&process.args);
    let mut workers: BTreeMap<String, Vec<Worker>> = BTreeMap::new();
    for worker in processes.iter().filter(|worker| worker.ppid == process.tgid) {
        let title = worker.args.first().map_or("", String::as_str);
        if let Some(pool) = title.strip_prefix("php-fpm: pool ") {
            workers.entry(pool.trim_end().to_owned()).or_default().push(Worker {
                tgid: worker.tgid,
                started_unix_s: worker.started_unix_s,
                held_bytes: worker.held_bytes(),
            });
        }
    }
    Master {
        tgid: process.tgid,
        started_unix_s: process.started_unix_s,
        binary: process.exe.clone(),
        conf: conf.map(|conf| here.join(conf)),
        environment: root.read(&folder.join("environ")).ok().map(|text| environment(&text)),
        options: Options { ini: options.ini.map(|ini| here.join(ini)), ..options },
        workers,
    }
}

fn environment(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The file in `php-fpm: master process (FILE)`, or of `-y FILE`; and what else matters.
fn arguments(args: &[String]) -> (Option<PathBuf>, Options) {
    let mut options = Options::default();
    let title = args.first().map_or("", String::as_str);
    if let Some(rest) = title.strip_prefix("php-fpm: master process (") {
        return (rest.trim_end().strip_suffix(')').map(PathBuf::from), options);
    }
    let mut conf = None;
    let mut args = args.iter().skip(1).map(String::as_str);
    while let Some(arg) = args.next() {
        let mut value = |short: &str, long: &str| {
            let long_value = arg.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
            if let Some(value) = long_value {
                return Some(value.to_owned());
            }
            if arg == short || arg == long {
                return args.next().map(str::to_owned);
            }
            arg.strip_prefix(short).filter(|_| !arg.starts_with("--")).map(str::to_owned)
        };
        if let Some(path) = value("-y", "--fpm-config") {
            conf = Some(PathBuf::from(path));
        } else if let Some(path) = value("-c", "--php-ini") {
            options.ini = Some(PathBuf::from(path));
        } else if let Some(define) = value("-d", "--define") {
            let (name, text) = define.split_once('=').unwrap_or((&define, "1"));
            options.defines.push((name.to_owned(), text.trim_matches('"').to_owned()));
        } else if arg == "-n" || arg == "--no-php-ini" {
            options.no_ini = true;
        }
    }
    (conf, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn titles_and_arguments_name_the_file() {
        let title = vec!["php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)".to_owned()];
        let conf = Some(PathBuf::from("/etc/php/8.2/fpm/php-fpm.conf"));
        assert_eq!(arguments(&title), (conf, Options::default()));
        let (conf, options) =
            arguments(&args("php-fpm8.2 -F -y/a.conf --php-ini=/b -d memory_limit=1G -n"));
        assert_eq!(conf, Some(PathBuf::from("/a.conf")));
        assert_eq!(options.ini, Some(PathBuf::from("/b")));
        assert_eq!(options.defines, [("memory_limit".to_owned(), "1G".to_owned())]);
        assert!(options.no_ini);
        assert_eq!(arguments(&[]), (None, Options::default()));
    }

    #[test]
    fn workers_belong_to_their_master() {
        let process = |tgid, ppid, title: &str| Process {
            tgid,
            ppid,
            args: vec![title.to_owned()],
            anon_bytes: 5,
            ..Process::default()
        };
        let processes = [
            process(1, 0, "php-fpm: master process (/a.conf)"),
            process(2, 1, "php-fpm: pool www   "),
            process(3, 1, "php-fpm: pool api"),
            process(4, 9, "php-fpm: pool www"),
            process(5, 0, "nginx: master process"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        let masters = all(&root, &processes, &mut Notes::default());
        assert_eq!(masters.len(), 1);
        let pools: Vec<_> =
            masters[0].workers.iter().map(|(pool, of)| (pool.as_str(), of.len())).collect();
        assert_eq!(pools, [("api", 1), ("www", 1)]);
    }

    #[test]
    fn a_master_in_a_container_is_only_said() {
        let process = Process {
            tgid: 7,
            args: vec!["php-fpm: master process (/usr/local/etc/php-fpm.conf)".to_owned()],
            cgroup: "/system.slice/docker-12.scope".to_owned(),
            ..Process::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let mut notes = Notes::default();
        let root = Root::new(folder.path()).unwrap();
        assert!(all(&root, &[process], &mut notes).is_empty());
        assert!(notes.finish()[0].text.contains("/proc/7/root"));
    }
}
