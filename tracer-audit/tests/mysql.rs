//! MariaDB's own programs and the audit read the same option files: `my_print_defaults`, `mariadbd
//! --print-defaults` and the values of `mariadbd --verbose --help`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use audit::mysql::installed::{Flavour, Version, groups};
use audit::mysql::reader::{self, Reading, Sources};
use audit::mysql::settings::{self, Settings};
use audit::{Note, Notes, Root};
use corpus::{Case, cases};

/// What a server says of its surroundings, or of a cache that is too small or too large to be made.
const NO_MATTER: [&str; 3] = ["Out of memory", "WSREP", "Plugin 'Aria'"];

/// A server is started for each of these, to ask for its values.
const SERVERS: u64 = 30;

/// And these are only read.
const READS: u64 = 150;

const VERSION: (Flavour, Option<Version>) =
    (Flavour::Mariadb, Some(Version { major: 10, minor: 11 }));

fn run(program: &str, args: &[&str]) -> Output {
    let found =
        Command::new(program).args(args).env_clear().env("PATH", "/usr/bin:/usr/sbin").output();
    found.unwrap_or_else(|error| {
        panic!("{program}: {error}; this test needs Debian's package mariadb-server")
    })
}

fn read(file: &Path) -> (Reading, Settings, Vec<Note>) {
    let root = Root::new(Path::new("/")).unwrap();
    let mut notes = Notes::default();
    let sources = Sources { file: Some(file.to_path_buf()), ..Sources::default() };
    let reading = reader::read(&root, &sources, &mut notes);
    let groups = groups(VERSION.0, VERSION.1, None);
    let settings = Settings::new(VERSION, &reading.given, &groups, &[], &mut notes);
    (reading, settings, notes.finish())
}

/// The options of the server's groups, as its arguments.
fn options(reading: &Reading) -> Vec<String> {
    let groups = groups(VERSION.0, VERSION.1, None);
    let given = reading
        .given
        .iter()
        .filter(|given| groups.iter().any(|group| group.eq_ignore_ascii_case(&given.group)));
    given.map(|given| format!("--{}", given.option)).collect()
}

/// What the programs print of the file's options; None where they refuse the file.
fn same_options(case: &Case) {
    let file = case.main();
    let (reading, _, _) = read(&file);
    let flag = format!("--defaults-file={}", file.display());
    let printed = run("my_print_defaults", &[&flag, "--mysqld"]);
    let refused = String::from_utf8_lossy(&printed.stderr).contains("Fatal error");
    assert_eq!(reading.refused.is_some(), refused, "{case}\n{reading:?}");
    if !refused {
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        let own: String = options(&reading).iter().map(|option| format!("{option}\n")).collect();
        assert_eq!(own, printed, "{case}");
    }
}

/// The same as the server itself says it, all in one line.
fn same_arguments(case: &Case) {
    let file = case.main();
    let (reading, _, _) = read(&file);
    if reading.refused.is_some() {
        return;
    }
    let flag = format!("--defaults-file={}", file.display());
    let printed = run("mariadbd", &[&flag, "--print-defaults"]);
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    let (_, printed) = printed.split_once('\n').unwrap();
    let own: String = options(&reading).iter().map(|option| format!("{option} ")).collect();
    assert_eq!(own, printed.strip_suffix('\n').unwrap(), "{case}");
}

fn same_values(case: &Case) {
    let file = case.main();
    let (reading, settings, notes) = read(&file);
    if reading.refused.is_some() {
        return;
    }
    let flag = format!("--defaults-file={}", file.display());
    // It makes its caches before it prints their sizes.
    let limited = "ulimit -v 4000000; exec mariadbd \"$1\" --verbose --help";
    let help = run("sh", &["-c", limited, "sh", &flag]);
    let all = String::from_utf8_lossy(&help.stderr).into_owned();
    let errors: Vec<&str> =
        all.lines().filter(|line| !NO_MATTER.iter().any(|text| line.contains(text))).collect();
    let errors = errors.join("\n");
    let refuses = errors.contains("[ERROR]") || errors.contains("ambiguous");
    let refused =
        settings.refused.is_some() || notes.iter().any(|note| note.text.contains("does not start"));
    if case.text().contains("loose") {
        assert!(refuses || !refused, "{case}\n{errors}");
    } else {
        assert_eq!(refused, refuses, "{case}\n{settings:?}\n{notes:?}\n{errors}");
    }
    if refused {
        return;
    }
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let values: BTreeMap<&str, &str> = help
        .lines()
        .filter_map(|line| Some((line.split_once(' ')?.0, line.split_once(' ')?.1.trim())))
        .collect();
    for name in settings::numbers() {
        // Without Aria it shows nothing of the other engines.
        if !values.contains_key(name) && all.contains("Plugin 'Aria'") {
            continue;
        }
        let own = settings.number(name).value.to_string();
        assert_eq!(Some(&own.as_str()), values.get(name), "{name}\n{case}");
    }
    for name in ["skip-networking", "skip-grant-tables"] {
        let own = if settings.on(name).is_some() { "TRUE" } else { "FALSE" };
        assert_eq!(Some(&own), values.get(name), "{name}\n{case}");
    }
}

const NAMES: [&str; 23] = [
    "innodb_buffer_pool_size",
    "innodb-buffer-pool-size",
    "INNODB_Buffer_Pool_Size",
    "loose-innodb_buffer_pool_size",
    "loose_enable-sort_buffer_size",
    "innodb_log_buffer_size",
    "key_buffer_size",
    "aria_pagecache_buffer_size",
    "query_cache_size",
    "max_connections",
    "sort_buffer_size",
    "join-buffer-size",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "net_buffer_length",
    "max_allowed_packet",
    "binlog_cache_size",
    "tmp_table_size",
    "tmp-memory-table-size",
    "max_heap_table_size",
    "maximum-join_buffer_size",
    "skip-sort_buffer_size",
    "init_connect",
];

const GROUPS: [&str; 10] = [
    "mysqld",
    "server",
    "mariadb",
    "mariadb-10.11",
    "mysqld-10.11",
    "galera",
    "client",
    "mysqld-8.0",
    "MYSQLD ",
    "client-server",
];

fn value(rng: &mut fastrand::Rng, name: &str) -> String {
    if name.contains("connections") {
        return rng.u32(1..3000).to_string();
    }
    let number = match rng.u8(0..6) {
        0 => rng.u64(0..100),
        1 => rng.u64(0..100_000_000),
        2 => rng.u64(..),
        _ => rng.u64(1..4096),
    };
    // What nobody accepts is rare, or hardly a file would be accepted as a whole.
    let suffix = match rng.u8(0..40) {
        0 => *rng.choice(["x", "%", ".5G", " K", "B"].iter()).unwrap(),
        1 => "Mb",
        2..20 => *rng.choice(["K", "M", "k", "m", "G", "g", "T", "P", "E"].iter()).unwrap(),
        _ => "",
    };
    match rng.u8(0..8) {
        0 => format!("\"{number}{suffix}\""),
        1 => format!("'{number}{suffix}' # {number}"),
        2 => format!("{number}{suffix}  "),
        3 => format!("{number}{suffix}# x"),
        _ => format!("{number}{suffix}"),
    }
}

fn lines(rng: &mut fastrand::Rng, text: &mut String) {
    for _ in 0..rng.usize(1..8) {
        match rng.u8(0..12) {
            0 => text.push_str(&format!("[{}]\n", rng.choice(GROUPS.iter()).unwrap())),
            1 => text.push_str("\n  # nothing\n"),
            2 => text.push_str("init_connect='a \\' # b'\t\n"),
            _ => {
                let name = rng.choice(NAMES.iter()).unwrap();
                let space = rng.choice(["", " ", "\t "].iter()).unwrap();
                let value = value(rng, name);
                text.push_str(&format!("{space}{name}{space}={space}{value}\n"));
            }
        }
    }
}

fn generated(seed: u64) -> Case {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let mut files = Vec::new();
    let mut main = String::from("[mysqld]\n");
    lines(rng, &mut main);
    for name in ["conf.d", "more.d"] {
        for file in 0..rng.usize(0..3) {
            let suffix = rng.choice([".cnf", ".cnf", ".x.cnf", ".conf"].iter()).unwrap();
            let mut text = format!("[{}]\n", rng.choice(GROUPS.iter()).unwrap());
            lines(rng, &mut text);
            files.push((format!("{name}/{}{file}{suffix}", rng.alphabetic()), text));
        }
        if files.iter().any(|(path, _)| path.starts_with(name)) {
            main.push_str(&format!(
                "!includedir @DIR@/{name}{}\n",
                rng.choice(["", "/"].iter()).unwrap()
            ));
        }
        lines(rng, &mut main);
    }
    files.insert(0, ("my.cnf".to_owned(), main));
    Case::new(format!("seed {seed}"), &files)
}

/// Of an environment: name and value.
type Variable = (&'static str, &'static str);

/// What a program says of where it looks.
fn says(program: &str, args: &[&str], environment: &[Variable], after: &str) -> Vec<String> {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/bin:/usr/sbin");
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("{text}"));
    rest.lines().next().unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn files_and_groups_are_looked_for_as_by_mariadb() {
    let cases: [(&[Variable], &[&str]); 5] = [
        (&[], &[]),
        (&[("MYSQL_HOME", "/x/")], &["--defaults-extra-file=/etc/hosts"]),
        (&[("MYSQL_HOME", "/etc")], &[]),
        (&[("MARIADB_HOME", "/etc/mysql/"), ("MYSQL_HOME", "/y")], &[]),
        (&[], &["--defaults-file=/etc/hosts", "--defaults-group-suffix=.1"]),
    ];
    for (environment, args) in cases {
        let own_args: Vec<String> =
            ["mariadbd"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let value =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let mut sources = Sources {
            server_home: value("MARIADB_HOME").or_else(|| value("MYSQL_HOME")).map(Into::into),
            home: Some("/home".into()),
            ..Sources::default()
        };
        sources.of_args(&own_args);
        let files = sources.files();
        let own: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let help: Vec<&str> = args.iter().chain(&["--help"]).copied().collect();
        let said = says("my_print_defaults", &help, environment, "in the given order:\n");
        let said: Vec<String> = said.iter().map(|path| path.replace("~/", "/home/")).collect();
        assert_eq!(own, said, "{environment:?} {args:?}");
    }
    for suffix in [None, Some(".1")] {
        let flag = suffix.map(|suffix| format!("--defaults-group-suffix={suffix}"));
        let mut args: Vec<&str> = vec!["--defaults-file=/dev/null"];
        args.extend(flag.as_deref());
        args.extend(["--verbose", "--help"]);
        let said = says("mariadbd", &args, &[], "The following groups are read:");
        assert_eq!(groups(VERSION.0, VERSION.1, suffix), said);
    }
}

#[test]
fn hand_written_files_are_read_as_by_mariadb() {
    let cases = cases("mysql");
    assert!(cases.len() >= 50, "{}", cases.len());
    for case in &cases {
        same_options(case);
        same_arguments(case);
        same_values(case);
    }
}

#[test]
fn generated_files_are_read_as_by_mariadb() {
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + SERVERS {
        let case = generated(seed);
        same_options(&case);
        same_values(&case);
    }
    for seed in first + SERVERS..first + SERVERS + READS {
        same_options(&generated(seed));
    }
}
