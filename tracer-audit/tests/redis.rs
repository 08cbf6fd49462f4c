//! A real redis-server and the audit read the same redis.conf: `CONFIG GET` of every directive, and the line
//! that is refused.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corpus;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit::redis::config::Config;
use audit::redis::directives::{self, Kind};
use audit::{Notes, Root};
use corpus::{Case, cases};

const GENERATED: u64 = 120;

/// What a server changes by itself: by its limit of open files, or by the order of its own names.
const OF_THE_SERVER: [&str; 2] = ["maxclients", "unixsocket"];

/// Ends what it has started.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn arguments(case: &Case) -> Vec<String> {
    let folder = case.folder().to_str().unwrap();
    let socket = format!("{folder}/s");
    let list = ["--port", "0", "--unixsocket", &socket, "--dir", folder, "--daemonize", "no"];
    list.map(str::to_owned).to_vec()
}

/// What the server with `more` arguments says of its configuration; what it says as it ends, if it does.
fn ask(case: &Case, more: &[String]) -> Result<BTreeMap<String, String>, String> {
    // Whatever a file asks for, it is not taken from the host.
    let limited = "ulimit -v 4000000; exec redis-server \"$@\"";
    let child = Command::new("sh")
        .args(["-c", limited, "sh", case.main().to_str().unwrap()])
        .args(arguments(case))
        .args(more)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let socket = case.folder().join("s");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = server.0.try_wait().unwrap() {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut server.0.stderr.take().unwrap(), &mut text).unwrap();
            assert_ne!(status.code(), Some(127), "this test needs Debian's package redis-server");
            return Err(text);
        }
        let asked = Command::new("redis-cli")
            .arg("-s")
            .arg(&socket)
            .args(["config", "get", "*"])
            .output()
            .expect("this test needs Debian's package redis-tools");
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        if socket.exists() && lines.len() > 100 {
            let pairs = lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
            return Ok(pairs.collect());
        }
        assert!(Instant::now() < deadline, "{case}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn compare(case: &Case) {
    compare_with(case, &[]);
}

fn compare_with(case: &Case, more: &[String]) {
    let root = Root::new(Path::new("/")).unwrap();
    let mut notes = Notes::default();
    let args = [&arguments(case), more].concat();
    let config = Config::read(&root, Some(&case.main()), &args, true, &mut notes);
    match ask(case, more) {
        Err(text) => {
            let Some((at, why)) = &config.refused else { panic!("{case}\n{text}") };
            // What it says of a file that is missing goes elsewhere, and a joined text has one count of lines.
            let line =
                text.lines().find_map(|line| line.split_once("at line ")?.1.parse::<u32>().ok());
            if let (Some(line), Some(at), false) = (line, at, case.text().contains('*')) {
                assert_eq!(Some(line), at.line, "{case}\n{why}\n{text}");
            }
        }
        Ok(values) => {
            assert_eq!(config.refused, None, "{case}");
            let compared = directives::all().iter().filter(|directive| {
                !matches!(directive.kind, Kind::Text | Kind::Words)
                    || matches!(directive.name, "save" | "client-output-buffer-limit")
            });
            let mut count = 0;
            for directive in compared {
                let name = directive.name;
                let Some(value) = values.get(name).filter(|_| !OF_THE_SERVER.contains(&name))
                else {
                    continue;
                };
                assert_eq!(config.get(name).as_ref(), Some(value), "{name}\n{case}");
                count += 1;
            }
            assert!(count > 100, "{count}");
        }
    }
}

const MEMORY: [&str; 9] = [
    "maxmemory",
    "maxmemory",
    "MAXMEMORY",
    "maxmemory-clients",
    "repl-backlog-size",
    "auto-aof-rewrite-min-size",
    "hash-max-ziplist-value",
    "active-defrag-ignore-bytes",
    "stream-node-max-bytes",
];

fn line(rng: &mut fastrand::Rng) -> String {
    let number = match rng.u8(0..4) {
        0 => rng.u64(..),
        1 => rng.u64(1..100_000_000),
        _ => rng.u64(1..2000),
    };
    // What is refused is rare, or hardly a file would be accepted as a whole.
    let unit = match rng.u8(0..60) {
        0 => *rng.choice(["t", "%", "gbb", " gb"].iter()).unwrap(),
        1..40 => *rng.choice(["k", "kb", "m", "MB", "g", "Gb", "b"].iter()).unwrap(),
        _ => "",
    };
    let value = format!("{number}{unit}");
    let value = match rng.u8(0..8) {
        0 => format!("\"{value}\""),
        1 => format!("'{value}'  "),
        2 => format!("\"\\x{:02x}{}\"", value.as_bytes()[0], &value[1..]),
        _ => value,
    };
    let small = rng.u16(1..5000);
    let yes = if rng.bool() { "yes" } else { "NO" };
    match rng.u8(0..12) {
        0 => format!("save {small} {}", rng.u8(..)),
        1 => format!("save \"{small} 1 {small} 2\""),
        2 => {
            let class = rng.choice(["normal", "slave", "replica", "pubsub"].iter()).unwrap();
            format!("client-output-buffer-limit {class} {small}mb {small}kb {small}")
        }
        3 => format!("appendonly {yes}"),
        4 => format!(
            "maxmemory-policy {}",
            rng.choice(["allkeys-lru", "Volatile-TTL"].iter()).unwrap()
        ),
        5 => format!("  timeout {small} \r"),
        6 => format!("slave-priority {small}"),
        7 => format!("# maxmemory {value}"),
        _ => format!("{} {value}", rng.choice(MEMORY.iter()).unwrap()),
    }
}

fn generated(seed: u64) -> Case {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let mut lines = |files: &mut String| {
        for _ in 0..rng.usize(1..9) {
            writeln!(files, "{}", line(rng)).unwrap();
        }
    };
    let (mut main, mut a, mut b, mut c) = Default::default();
    for text in [&mut main, &mut a, &mut b, &mut c] {
        lines(text);
    }
    main.push_str("include @DIR@/conf.d/*.conf\n");
    lines(&mut main);
    main.push_str("include @DIR@/c.conf\n");
    lines(&mut main);
    let files = [("redis.conf", main), ("conf.d/a.conf", a), ("conf.d/b.conf", b), ("c.conf", c)];
    Case::new(format!("seed {seed}"), &files.map(|(path, text)| (path.to_owned(), text)))
}

#[test]
fn hand_written_files_are_read_as_by_redis() {
    let cases = cases("redis");
    assert!(cases.len() >= 60, "{}", cases.len());
    cases.iter().for_each(compare);
}

#[test]
fn arguments_are_read_as_by_redis() {
    let text = "save 900 1\nmaxmemory 1gb\n".to_owned();
    for more in [
        &["--save"][..],
        &["--save", "--maxmemory", "2gb"],
        &["--save", ""],
        &["--save", "60", "5"],
        &["--save", "60 5", "--SAVE", "70 5"],
        &["--maxmemory 3gb"],
        &["--maxmemory", "--1"],
        &["--maxmemory", "4gb", "--maxmemory-policy", "allkeys-lru"],
        &["--port"],
    ] {
        let more: Vec<String> = more.iter().map(|arg| (*arg).to_owned()).collect();
        let case = Case::new(format!("{more:?}"), &[("redis.conf".to_owned(), text.clone())]);
        compare_with(&case, &more);
    }
}

#[test]
fn generated_files_are_read_as_by_redis() {
    let first = fastrand::u64(..1 << 40);
    (first..first + GENERATED).for_each(|seed| compare(&generated(seed)));
}
