//! Apache's and nginx's own programs on the same files: they must say what the audit says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod case;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use audit::web::apache::mpm::Mpm;
use audit::web::{apache, nginx};
use audit::{Notes, Observed, Root, Severity};
use case::unpack;

fn corpus(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/web").join(folder);
    let entries = fs::read_dir(folder).unwrap();
    let read = |path: PathBuf| (path.display().to_string(), fs::read_to_string(&path).unwrap());
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

/// Whether the program took the file, and what it said.
fn run(program: &str, package: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.output().unwrap_or_else(|error| {
        panic!("{program}: {error}; this test needs the Debian package {package}")
    });
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// What only makes the case run anywhere.
const PRIVATE: [&str; 5] = ["ServerRoot", "DefaultRuntimeDir", "PidFile", "ErrorLog", "Listen"];

fn is_private(line: &str) -> bool {
    PRIVATE.iter().any(|name| line.starts_with(name))
}

/// The number that Apache corrects MaxRequestWorkers to, last.
fn corrected(said: &str) -> Option<u32> {
    let line = said
        .lines()
        .rfind(|line| line.contains("MaxRequestWorkers of") && line.contains("creasing"))?;
    let rest = line.rsplit_once("creasing")?.1;
    let digits = rest.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn compare_apache(name: &str, case: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    unpack(case, folder.path());
    let conf = folder.path().join("apache2.conf");
    let arguments = ["-t", "-D", "DUMP_CONFIG", "-f", conf.to_str().unwrap()];
    let (taken, said) = run("apache2", "apache2", &arguments);

    let root = Root::new(Path::new("/")).unwrap();
    let config = apache::read::Config::read(&root, &conf, &BTreeMap::new(), &mut Notes::default());
    let about = format!("{name}\n{case}\nApache says:\n{said}\nthe audit: {:?}", config.refused);
    assert_eq!(config.refused.is_none(), taken, "{about}");
    if !taken {
        return false;
    }
    let theirs: Vec<String> = said
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#') && line != "Syntax OK")
        .filter(|line| !line.starts_with("AH0") && !line.starts_with('[') && !is_private(line))
        .collect();
    let mut ours = Vec::new();
    for item in &config.items {
        let mut line = item.name.clone();
        if !item.args.is_empty() {
            write!(line, " {}", item.args).unwrap();
        }
        if line.starts_with('<') {
            line.push('>');
        }
        if !is_private(&line) {
            ours.push(line);
        }
    }
    // Names are written as Apache knows them.
    let lower = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| line.to_ascii_lowercase()).collect()
    };
    assert_eq!(lower(&ours), lower(&theirs), "{about}");
    let mpm = Mpm::of(&config).unwrap();
    let asked = config.last(&["MaxRequestWorkers", "MaxClients"]);
    let asked = asked.map(|found| found.args.trim_matches('"').parse::<u32>().unwrap_or(u32::MAX));
    if let Some(number) = corrected(&said) {
        assert_eq!(mpm.workers.value, number, "{about}");
    } else if let Some(asked) = asked.filter(|&asked| asked != u32::MAX) {
        assert_eq!(mpm.workers.value, asked, "{about}");
    }
    true
}

#[test]
fn written_apache_configurations_are_read_as_apache_does() {
    let cases = corpus("apache");
    let taken = cases.iter().filter(|(name, case)| compare_apache(name, case)).count();
    assert!(cases.len() >= 60 && taken >= 40, "{taken} of {}", cases.len());
}

#[test]
fn made_apache_configurations_are_read_as_apache_does() {
    const LINES: [&str; 16] = [
        "MaxRequestWorkers %",
        "ServerLimit %",
        "ThreadsPerChild %",
        "ThreadLimit %",
        "Define A %",
        "UnDefine A",
        "MaxRequestWorkers ${A}",
        "<IfDefine A>",
        "<IfModule !event.c>",
        "<IfModule mpm_event_module>",
        "<VirtualHost *:80>\nServerName s%\n</VirtualHost>",
        "END",
        "END",
        "# x \\",
        "  ThreadsPerChild \\\n  \"%\"  ",
        "IncludeOptional none*",
    ];
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let base =
        corpus("apache").into_iter().find(|(name, _)| name.ends_with("/default.case")).unwrap().1;
    let mut taken = 0;
    for round in 0..40 {
        let mut case = base.clone();
        if rng.usize(..3) == 0 {
            case = case.replace("event", ["prefork", "worker"][rng.usize(..2)]);
        }
        let prefork = case.contains("prefork");
        let mut open: Vec<String> = Vec::new();
        for _ in 0..rng.usize(..14) {
            let line = rng.choice(LINES).unwrap().replace('%', &rng.u32(1..300).to_string());
            if prefork && line.contains("Thread") {
                continue;
            }
            match line.as_str() {
                "END" => case += &open.pop().unwrap_or_default(),
                line => {
                    if let Some(name) = line.strip_prefix("<If") {
                        open.push(format!("</If{}>\n", name.split(' ').next().unwrap()));
                    }
                    case += &format!("{line}\n");
                }
            }
        }
        // One in five stays open.
        if rng.usize(..5) > 0 {
            case.extend(open.drain(..).rev());
        }
        taken += u32::from(compare_apache(&format!("seed {seed} round {round}"), &case));
    }
    assert!(taken >= 8, "seed {seed}: {taken} taken");
}

#[test]
fn includes_go_as_deep_as_apaches() {
    let base =
        corpus("apache").into_iter().find(|(name, _)| name.ends_with("/default.case")).unwrap().1;
    for (depth, expected) in [(21, true), (128, true), (129, false)] {
        let mut case = base.clone();
        for number in 1..=depth {
            case += &format!("Include part{number}\n=== part{number}\n");
        }
        case += "MaxRequestWorkers 50\n";
        assert_eq!(compare_apache(&format!("{depth} deep"), &case), expected);
    }
}

fn compare_nginx(name: &str, case: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    unpack(case, folder.path());
    let conf = folder.path().join("nginx.conf");
    let log = folder.path().join("error.log");
    let arguments = ["-T", "-c", conf.to_str().unwrap(), "-e", log.to_str().unwrap()];
    let (taken, said) = run("nginx", "nginx-light", &arguments);
    let root = Root::new(Path::new("/")).unwrap();
    let config = nginx::read::Config::read(&root, &conf, &mut Notes::default());
    let about = format!("{name}\n{case}\nnginx says:\n{said}\nthe audit: {:?}", config.refused);
    assert_eq!(config.refused.is_none(), taken, "{about}");
    let mut theirs: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("# configuration file ")?.strip_suffix(':'))
        .collect();
    let mut ours: Vec<&str> = config.files.iter().map(|file| file.to_str().unwrap()).collect();
    theirs.sort();
    ours.sort();
    ours.dedup();
    assert!(!taken || ours == theirs, "{ours:?} {about}");
    taken
}

#[test]
fn nginx_configurations_are_read_as_nginx_does() {
    let cases = corpus("nginx");
    let taken = cases.iter().filter(|(name, case)| compare_nginx(name, case)).count();
    assert!(cases.len() >= 40 && taken >= 20, "{taken} of {}", cases.len());
}

#[test]
fn words_are_as_long_as_in_nginx() {
    let mut taken = 0;
    for length in 4090..4100 {
        let long = "x".repeat(length);
        for line in [
            format!("env {long};"),
            format!("env \n{long} ;"),
            format!("env \"{long}\";"),
            format!("env '{long}'\n;"),
            format!("#{long}"),
            format!("#{long}\n\n"),
            format!("env{}a;", " ".repeat(length)),
        ] {
            let case = format!(
                "=== nginx.conf\npid @DIR@/pid;\nerror_log @DIR@/error.log;\n{line}\nevents {{}}\n"
            );
            taken += u32::from(compare_nginx(&format!("{length}: {}", &line[..9]), &case));
        }
    }
    assert!(taken > 20, "{taken}");
}

#[test]
fn damaged_nginx_configurations_are_refused_where_nginx_does() {
    const PARTS: [&str; 14] =
        [";", "{", "}", "\"", "'", "\\", "#", " ", "\n", "$", "${", "return 200", "x", ";\n"];
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let base = "=== nginx.conf\npid @DIR@/pid;\nerror_log @DIR@/error.log;\nevents {}\nhttp { access_log off; \
                server { listen 127.0.0.1:8098; ";
    for round in 0..60 {
        let text: String = (0..rng.usize(..4)).map(|_| PARTS[rng.usize(..PARTS.len())]).collect();
        // A text is a valid value, so that nginx only looks at the syntax.
        let case = format!("{base}add_header a \"b\"; return 200 a{text};\n}} }}\n");
        let folder = tempfile::tempdir().unwrap();
        unpack(&case, folder.path());
        let conf = folder.path().join("nginx.conf");
        let log = folder.path().join("error.log");
        let arguments = ["-t", "-c", conf.to_str().unwrap(), "-e", log.to_str().unwrap()];
        let (taken, said) = run("nginx", "nginx-light", &arguments);
        let root = Root::new(Path::new("/")).unwrap();
        let config = nginx::read::Config::read(&root, &conf, &mut Notes::default());
        let syntax = ["unexpected", "too long"].iter().any(|word| said.contains(word));
        let about = format!("seed {seed} round {round}\n{case}\n{said}\n{:?}", config.refused);
        // What nginx refuses for what it means is not the audit's to refuse.
        if taken {
            assert!(config.refused.is_none(), "{about}");
        } else if syntax {
            assert!(config.refused.is_some(), "{about}");
        }
    }
}

#[test]
fn debians_own_configurations_are_no_more_than_info() {
    for memory_kib in [0, 1 << 20, 2 << 20, 16 << 20] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        for name in ["php", "apache2", "nginx"] {
            let source = Path::new("/etc").join(name);
            assert!(
                source.exists(),
                "this test needs php8.2-fpm, apache2, libapache2-mod-php8.2, nginx-light"
            );
            let status =
                Command::new("cp").arg("-a").arg(&source).arg(folder.path().join("etc")).status();
            assert!(status.unwrap().success());
        }
        if memory_kib > 0 {
            fs::create_dir(folder.path().join("proc")).unwrap();
            fs::write(folder.path().join("proc/meminfo"), format!("MemTotal: {memory_kib} kB\n"))
                .unwrap();
        }
        let report = audit::audit(&Root::new(folder.path()).unwrap(), &Observed::default());
        assert!(report.worst() <= Some(Severity::Info), "{memory_kib} KiB: {:#?}", report.findings);
        let names: Vec<&str> =
            report.budget.demands.iter().map(|demand| demand.name.as_str()).collect();
        for name in ["www", "apache2 with mod_php", "nginx"] {
            assert!(names.contains(&name), "{names:?}");
        }
    }
}
