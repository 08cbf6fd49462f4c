//! PHP's own programs on the same files: they must say what the audit says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod case;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use audit::php::fpm::directive::{Manager, Value};
use audit::php::fpm::{Conf, Source};
use audit::php::ini::files::{Ini, Outside, Places};
use audit::php::ini::{End, Reader, Statement, parse};
use audit::php::{Version, ini_memory};
use audit::{Notes, Root};
use case::unpack;

const VERSION: Version = Version::new(8, 2);

fn corpus(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/php").join(folder)
}

fn run(program: &str, package: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("PHP_INI_SCAN_DIR", "").env("LC_ALL", "C");
    command.output().unwrap_or_else(|error| {
        panic!("{program}: {error}; this test needs the Debian package {package}")
    })
}

fn both(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Keys whose values are compared, in a pool.
const KEYS: [&str; 13] = [
    "listen",
    "listen.backlog",
    "pm",
    "pm.max_children",
    "pm.start_servers",
    "pm.min_spare_servers",
    "pm.max_spare_servers",
    "pm.process_idle_timeout",
    "pm.max_requests",
    "request_terminate_timeout",
    "request_slowlog_timeout",
    "clear_env",
    "rlimit_core",
];

/// What php-fpm says of a configuration: None where it refuses it; else `pool key = value`.
fn php_fpm(folder: &Path) -> (Option<Vec<String>>, String) {
    let conf = folder.join("php-fpm.conf");
    let output = run(
        "/usr/sbin/php-fpm8.2",
        "php8.2-fpm",
        &["-n", "-R", "-tt", "-y", conf.to_str().unwrap()],
    );
    let text = both(&output);
    if !output.status.success() {
        return (None, text);
    }
    let mut pool = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some((_, line)) = line.split_once("NOTICE: ") else {
            continue;
        };
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            pool = name.to_owned();
        } else if let Some((key, value)) = line.trim_start().split_once(" = ") {
            let php = key.starts_with("php_");
            let wanted = if pool == "global" { key == "process.max" } else { KEYS.contains(&key) };
            if php || wanted {
                lines.push(format!("{pool} {key} = {value}"));
            }
        }
    }
    lines.sort();
    (Some(lines), text)
}

/// The same, as the audit reads it.
fn audited(folder: &Path) -> (Option<Vec<String>>, String) {
    let root = Root::new(Path::new("/")).unwrap();
    let environment = Some(std::env::vars().collect());
    let nothing = BTreeMap::new();
    let source = Source {
        prefix: Path::new("/usr"),
        ini: &nothing,
        outside: Outside { version: Some(VERSION), environment: &environment },
    };
    let mut notes = Notes::default();
    let conf = Conf::read(&root, &folder.join("php-fpm.conf"), &source, &mut notes);
    let why = format!("{:?} {:?}", conf.refused, notes.finish());
    if !conf.refused.is_empty() {
        return (None, why);
    }
    let mut lines = Vec::new();
    let max = conf.number("process.max").map_or(0, |set| set.value);
    lines.push(format!("global process.max = {max}"));
    for pool in &conf.pools {
        let manager = match pool.values["pm"].value {
            Value::Manager(manager) => manager,
            _ => unreachable!("pm is always a manager"),
        };
        for key in KEYS {
            let default = match key {
                "listen.backlog" => "-1",
                "pm.process_idle_timeout" => "10",
                "clear_env" => "yes",
                "request_terminate_timeout" | "request_slowlog_timeout" => "0s",
                "listen" => "undefined",
                _ => "0",
            };
            let seconds = default == "0s";
            let mut value = match pool.values.get(key).map(|directive| &directive.value) {
                None => default.to_owned(),
                Some(Value::Number(number)) if seconds => format!("{number}s"),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Flag(flag)) => if *flag { "yes" } else { "no" }.to_owned(),
                Some(Value::Text(text)) => text.clone(),
                Some(Value::Manager(manager)) => format!("{manager:?}").to_lowercase(),
            };
            let number = |key: &str| pool.number(key).map_or(0, |set| set.value);
            if key == "pm.start_servers" && manager == Manager::Dynamic && number(key) <= 0 {
                let (least, most) =
                    (number("pm.min_spare_servers"), number("pm.max_spare_servers"));
                value = (least + (most - least) / 2).to_string();
            }
            if manager == Manager::Ondemand && key.ends_with("_servers") {
                value = "0".to_owned();
            }
            lines.push(format!("{} {key} = {value}", pool.name));
        }
        for php in &pool.php {
            let kind = if php.admin { "php_admin_value" } else { "php_value" };
            lines.push(format!("{} {kind}[{}] = {}", pool.name, php.key, php.value));
        }
    }
    lines.sort();
    (Some(lines), why)
}

/// Whether php-fpm takes the case.
fn compare(name: &str, case: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    unpack(case, folder.path());
    let (theirs, said) = php_fpm(folder.path());
    let (ours, why) = audited(folder.path());
    assert_eq!(ours, theirs, "{name}:\n{case}\nphp-fpm says:\n{said}\nthe audit says:\n{why}");
    ours.is_some()
}

#[test]
fn written_configurations_are_read_as_php_fpm_does() {
    let (mut count, mut taken) = (0, 0);
    for entry in fs::read_dir(corpus("fpm")).unwrap() {
        let path = entry.unwrap().path();
        taken +=
            u32::from(compare(&path.display().to_string(), &fs::read_to_string(&path).unwrap()));
        count += 1;
    }
    assert!(count >= 100 && taken >= 40, "only {count} cases, {taken} taken");
}

const DIRECTIVES: [&str; 22] = [
    "pm = static",
    "pm = dynamic",
    "pm = ondemand",
    "pm.max_children = N",
    "pm.start_servers = N",
    "pm.min_spare_servers = N",
    "pm.max_spare_servers = N",
    "pm.max_requests = N",
    "pm.process_idle_timeout = Nm",
    "request_terminate_timeout = N",
    "request_terminate_timeout = Ns ; c",
    "php_value[memory_limit] = NM",
    "php_admin_value[memory_limit] = \"NM\"",
    "php_flag[display_errors] = on",
    "env[A] = N",
    "listen.backlog = N",
    "clear_env = no",
    "\tpm.max_requests\t=\tN",
    "PM.MAX_REQUESTS=N",
    "",
    "; pm.max_children = N",
    "rlimit_core = unlimited",
];

/// Lines that make php-fpm refuse the file, or that look so.
const ODD: [&str; 10] = [
    "# x",
    "nonsense = 1",
    "pm.max_children = x",
    "pm.max_requests = 'N'",
    "pm.max_requests = N|1",
    "pm.max_requests = (N",
    "php_value[] = 1",
    "on",
    "pm.max_requests = N = N",
    "catch_workers_output",
];

#[test]
fn made_configurations_are_read_as_php_fpm_does() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut taken = 0;
    for round in 0..120 {
        let mut case = "=== php-fpm.conf\nerror_log = @DIR@/error.log\n".to_owned();
        if rng.bool() {
            case += "process.max = 7\n";
        }
        let pools = rng.usize(1..4);
        let mut text = String::new();
        for pool in 0..pools {
            let name = ["www", "api", "WWW", "shop"][rng.usize(..4)];
            writeln!(text, "[{name}]\nlisten = @DIR@/{pool}.sock\nuser = nobody").unwrap();
            writeln!(text, "pm = static\npm.max_children = {}", rng.u32(1..30)).unwrap();
            text += "pm.min_spare_servers = 1\npm.max_spare_servers = 2\n";
            for _ in 0..rng.usize(..7) {
                let odd = rng.usize(..40) == 0;
                let line = if odd { rng.choice(ODD) } else { rng.choice(DIRECTIVES) };
                let line = line.unwrap().replace('N', &rng.u32(..40).to_string());
                text += &line;
                text += "\n";
            }
            if rng.usize(..3) == 0 {
                let file = format!("part{pool}");
                case += &format!("include = @DIR@/{file}\n");
                case = case.replace(
                    "=== php-fpm.conf\n",
                    &format!("=== {file}\n{text}=== php-fpm.conf\n"),
                );
                text.clear();
            }
        }
        case += &text;
        taken += u32::from(compare(&format!("seed {seed} round {round}"), &case));
    }
    assert!(taken >= 20, "seed {seed}: php-fpm takes only {taken} of 120");
}

#[test]
fn memory_limit_is_what_php_makes_of_it() {
    let values = fs::read_to_string(corpus("ini/memory_limit.values")).unwrap();
    assert!(values.lines().count() >= 90);
    for value in values.lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("php.ini");
        fs::write(&file, format!("precision = 9\nmemory_limit = {value}\nprecision = 11\n"))
            .unwrap();
        let path = file.to_str().unwrap();

        let info = both(&run("/usr/sbin/php-fpm8.2", "php8.2-fpm", &["-c", path, "-i"]));
        let line = |key: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" => "));
            line.unwrap().rsplit_once(" => ").unwrap().1.to_owned()
        };
        // One byte more than any limit that may be there.
        let grow = "$a = str_repeat('x', 1 << 50);";
        let out = both(&run("php8.2", "php8.2-cli", &["-c", path, "-r", grow]));
        let allowed = out
            .split_once("Allowed memory size of ")
            .map(|(_, rest)| rest.split_once(' ').unwrap().0.parse::<u64>().unwrap());

        let ini = read(std::slice::from_ref(&file), &[]);
        let memory = ini_memory(&ini, Some(VERSION));
        let taken = memory.limit_bytes.at.is_some();
        let text = if taken { ini.get("memory_limit").unwrap().value.as_str() } else { "128M" };
        assert_eq!(
            text.trim_end(),
            line("memory_limit").trim_end(),
            "memory_limit = {value}: {out}"
        );
        assert_eq!(memory.limit_bytes.value, allowed, "memory_limit = {value}: {out}");
        assert_eq!(
            ini.get("precision").unwrap().value,
            line("precision"),
            "memory_limit = {value}"
        );
    }
}

fn read(main: &[PathBuf], scan: &[PathBuf]) -> Ini {
    let root = Root::new(Path::new("/")).unwrap();
    let places = Places { main: main.to_vec(), scan: scan.to_vec() };
    let environment = Some(std::env::vars().collect());
    Ini::read(&root, &places, Some(VERSION), &environment, &mut Notes::default())
}

#[test]
fn conf_d_comes_after_php_ini_in_the_order_of_names() {
    let cases: [&[(&str, &str)]; 10] = [
        &[("php.ini", "[PATH=]\nmemory_limit=64M")],
        &[("php.ini", "[host=/]\nmemory_limit=64M"), ("d/a.ini", "precision=5")],
        &[("php.ini", "[PATH=/x]\n[PATH]\nmemory_limit=64M\n[HOSTS]\nprecision=5")],
        &[("php.ini", "[PATH]\nmemory_limit=64M\n[path/x]\n[y]\nprecision=5")],
        &[("php.ini", "memory_limit=64M"), ("d/10-a.ini", "memory_limit=65M")],
        &[("d/9.ini", "memory_limit=64M"), ("d/10.ini", "memory_limit=65M")],
        &[("d/b.ini", "memory_limit=64M"), ("d/B.ini", "memory_limit=65M"), ("d/a.ini.bak", "x")],
        &[("php-fpm-fcgi.ini", "memory_limit=64M"), ("php.ini", "memory_limit=65M")],
        &[
            ("php.ini", "[PATH=/x]\nmemory_limit=64M"),
            ("d/a.ini", "[x]\nmemory_limit=66M\n[host=h]\nmemory_limit=1G"),
        ],
        &[
            ("php.ini", "[PHP]\nprecision=64\nmemory_limit=${precision}M"),
            ("d/.a.ini", "precision=5\n("),
        ],
    ];
    for files in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let output = Command::new("/usr/sbin/php-fpm8.2")
            .args(["-c", folder.path().to_str().unwrap(), "-i"])
            .env("PHP_INI_SCAN_DIR", folder.path().join("d"))
            .output()
            .expect("this test needs the Debian package php8.2-fpm");
        let info = both(&output);
        let places = ["php-fpm-fcgi.ini", "php.ini"].map(|name| folder.path().join(name));
        let ini = read(&places, &[folder.path().join("d")]);
        for key in ["memory_limit", "precision"] {
            let line = info.lines().find(|line| line.starts_with(&format!("{key} =>"))).unwrap();
            let theirs = line.rsplit_once(" => ").unwrap().1;
            let default = if key == "precision" { "14" } else { "128M" };
            let ours = ini.get(key).map_or(default, |set| &set.value);
            assert_eq!(ours, theirs, "{key} of {files:?}");
        }
    }
}

/// What parse_ini_string() of PHP makes of each text, in the same form as [`Flat`].
const PHP: &str = r#"
function out($path, $value) {
    if (is_array($value)) { foreach ($value as $key => $inner) out($path . "\x01" . $key, $inner); }
    else echo bin2hex($path), "=", bin2hex($value), "\n";
}
foreach (explode("\x02", file_get_contents($argv[1])) as $text) {
    $all = @parse_ini_string($text, true, INI_SCANNER_NORMAL);
    if ($all === false) echo "ERROR\n"; else foreach ($all as $key => $value) out($key, $value);
    echo "--\n";
}
"#;

/// A text as one map, as PHP would make it.
#[derive(Default)]
struct Flat {
    section: Option<String>,
    values: BTreeMap<String, String>,
}

impl Reader for Flat {
    // The PHP beside it is 8.2.
    fn has_fallbacks(&self) -> bool {
        false
    }

    fn variable(&mut self, name: &str, _fallback: Option<&str>, _line: u32) -> String {
        std::env::var(name).unwrap_or_default()
    }

    fn statement(&mut self, _line: u32, statement: Statement) -> bool {
        let (key, value) = match statement {
            Statement::Section(name) => {
                self.section = Some(name);
                return true;
            }
            Statement::Entry { value: None, .. } => return true,
            Statement::Entry { key, value: Some(value) } => (key, value),
            Statement::Element { key, offset, value } => {
                let offset = if offset.is_empty() { "0".to_owned() } else { offset };
                (format!("{key}\u{1}{offset}"), value)
            }
        };
        let path = match &self.section {
            Some(section) => format!("{section}\u{1}{key}"),
            None => key,
        };
        self.values.insert(path, value);
        true
    }
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

#[test]
fn the_ini_language_is_phps() {
    const PARTS: [&str; 44] = [
        "x", "y z", " ", "\t", "\"", "\"q\"", "'r'", "\\", "$", "${HOME}", "${", "}", "{", "=",
        ";", "#", "|", "&", "^", "~", "!", "(", ")", "[", "]", "on", "off", "none", "NULL", "yes",
        "E_ALL", "12", "-3", "1.5M", ".", ",", ":", "/", "\n", "\r\n", "128M", "\\\"", "\\$", "@",
    ];
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    // An empty pair of apostrophes ends the value, and its second half begins a name.
    const PAIRS: [&str; 10] = [
        "''xyz",
        "'' ''",
        "'''x'",
        "x''y z",
        "''=1",
        "'';c",
        "''''",
        "''\"q\"",
        "''|1",
        "x'' 'y' z",
    ];
    let mut texts: Vec<String> = PAIRS.iter().map(|value| format!("a={value}\nzz=1\n")).collect();
    for _ in 0..4000 {
        let mut value =
            || -> String { (0..rng.usize(..5)).map(|_| PARTS[rng.usize(..PARTS.len())]).collect() };
        let text = match texts.len() % 5 {
            0 | 1 => format!("a={}\nzz=1", value()),
            2 => format!("[{}]\na={}\n", value(), value()),
            3 => format!("a[{}]={}\nzz=1\n", value(), value()),
            _ => format!("{}={}\n", value(), value()),
        };
        // PHP reads beyond the text for the fellow of an apostrophe: what it finds is chance.
        if text.matches('\'').count() % 2 == 0 && !text.contains("''") {
            texts.push(text);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("texts");
    fs::write(&file, texts.join("\u{2}")).unwrap();
    let output = run("php8.2", "php8.2-cli", &["-n", "-r", PHP, "--", file.to_str().unwrap()]);
    let output = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = output.split("--\n").collect();
    assert_eq!(answers.len(), texts.len() + 1);
    let mut wrong = Vec::new();
    for (text, answer) in texts.iter().zip(answers) {
        let mut flat = Flat::default();
        let end = parse(text.as_bytes(), &mut flat);
        let mut ours: Vec<String> = flat
            .values
            .iter()
            .map(|(path, value)| format!("{}={}\n", hex(path), hex(value)))
            .collect();
        ours.sort();
        if end != End::Whole {
            ours = vec!["ERROR\n".to_owned()];
        }
        let mut theirs: Vec<String> = answer.split_inclusive('\n').map(str::to_owned).collect();
        theirs.sort();
        if ours != theirs {
            wrong.push(format!("{text:?}: {:?}, but PHP has {theirs:?}", flat.values));
        }
    }
    assert!(
        wrong.is_empty(),
        "seed {seed}, {} of {}:\n{}",
        wrong.len(),
        texts.len(),
        wrong.join("\n")
    );
}
