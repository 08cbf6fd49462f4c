//! Files that are right, files that are wrong, and files that are anything.

use std::path::Path;

use super::*;
use crate::event::{FindingKind, Severity};
use crate::settings::{WatchSource, show, show_json};

fn loaded(text: &str) -> Loaded {
    parse(Path::new("r.toml"), text.as_bytes()).unwrap_or_else(|error| panic!("{error:#?}"))
}

/// The lines of all problems.
fn wrong(text: &str) -> Vec<String> {
    parse(Path::new("r.toml"), text.as_bytes()).unwrap_err().lines()
}

/// The only problem.
fn one(text: &str) -> String {
    let lines = wrong(text);
    assert_eq!(lines.len(), 1, "{text}: {lines:#?}");
    lines[0].clone()
}

#[test]
fn an_empty_file_is_as_by_default() {
    for text in ["", "\n\n", "# only a comment", "[watch]\n[recorder]\n", "\u{feff}"] {
        let loaded = loaded(text);
        assert_eq!((loaded.settings.clone(), loaded.given()), (Settings::default(), 0), "{text:?}");
    }
}

#[test]
fn what_stands_there_is_in_force_and_its_line_is_known() {
    let loaded = loaded(
        "[watch]\r\nsource = 'live'\nstep = \"1M\"\nphp = true\n[recorder]\nmax_incidents = 0x10\n\
         [[pool]]\nname = \"a*\"\n[[pool]]\nhorizon = \"90s\"\nname = \"b\"\nignore = [\"leak\"]\n\
         [alerts]\nmin_severity = \"critical\"\n[[alerts.webhook]]\nname = \"ops\"\n\
         url = \"https://ops/x\"\nheaders.Authorization = \"Bearer x\"\n",
    );
    let settings = &loaded.settings;
    assert_eq!(settings.watch.source, WatchSource::Live);
    assert_eq!(settings.watch.step.get(), 1 << 20);
    assert!(settings.watch.php);
    assert_eq!(settings.recorder.max_incidents, 16);
    assert_eq!(settings.pool[1].ignore, [FindingKind::Leak]);
    assert_eq!(settings.alerts.min_severity, Severity::Critical);
    assert_eq!(settings.alerts.webhook[0].headers["Authorization"], "Bearer x");
    assert_eq!(loaded.given(), 12);
    let line = |path: &str| loaded.origin(path);
    assert_eq!(line("watch.source"), Origin::Line(2));
    assert_eq!(line("watch.interval"), Origin::Default);
    assert_eq!(line("pool[0].name"), Origin::Line(8));
    assert_eq!(line("pool[1].name"), Origin::Line(11));
    assert_eq!(line("alerts.webhook[0].url"), Origin::Line(17));
    assert_eq!(line("alerts.webhook[0].timeout"), Origin::Default);
}

#[test]
fn keys_that_there_are_not() {
    assert_eq!(
        one("[watch]\nstepp = \"1M\""),
        "r.toml:2: watch.stepp: there is no such key; did you mean `step`?"
    );
    assert_eq!(one("\n[wacth]\n"), "r.toml:2: wacth: there is no such key; did you mean `watch`?");
    assert_eq!(
        one("[watch]\nhorizon = \"1m\""),
        "r.toml:2: watch.horizon: there is no such key here; it belongs below [findings]"
    );
    assert_eq!(
        one("[alerts]\n[[alerts.otlp]]\nname = 'a'\nendpoint = 'http://a'\n\"a\\u001b[2J\" = 1"),
        "r.toml:5: alerts.otlp.a\\x1b[2J: there is no such key; `rampage config sample` shows all keys"
    );
    let long = format!("{} = 1", "x".repeat(60_000));
    assert!(one(&long).len() < 300, "{}", one(&long));
}

#[test]
fn wrong_types_say_what_to_write() {
    let says = |text: &str, words: &str| {
        let line = one(text);
        assert!(line.contains(words), "{text}: {line}");
    };
    says(
        "[watch]\nstep = 67108864",
        "r.toml:2: watch.step: must be a size, and is a number without quotes: write step = \"64MiB\"",
    );
    says(
        "[watch]\nstep = 64MiB",
        "r.toml:2: texts, sizes and times need quotes: write step = \"64MiB\"",
    );
    says("[watch]\nstep = \"64MB\"", "sizes are powers of 1024: write \"64MiB\"");
    says("[watch]\nstep = \"-1\"", "`-1` is no size");
    says("[watch]\nstep = -1", "write step = \"64MiB\", in quotes");
    says("[watch]\ninterval = 5", "write interval = \"5s\", in quotes");
    says("[watch]\ninterval = \"5\"", "write \"5s\"");
    says("[watch]\ncomm = php", "texts, sizes and times need quotes: write comm = \"…\"");
    says("[watch]\nphp = \"true\"", "leave the quotes out");
    says("[watch]\nphp = 1", "must be true or false, and is a number");
    says(
        "[watch]\nsource = true",
        "must be \"auto\" or \"live\" or \"procfs\", and is true or false",
    );
    says(
        "[watch]\nsource = 'Live'",
        "`Live` is none of auto, live, procfs; did you mean \"live\"?",
    );
    says("watch = 1", "must be a table");
    says("[[watch]]", "must be a table, and is a list: write [watch]");
    says("[pool]\nname = 'x'", "must be a list of tables, and is a table: write [[pool]]");
    says("pool = [1]", "must be a list of tables, and is a number");
    says("[metrics]\ntop_processes = \"20\"", "leave the quotes out");
    says("[metrics]\ntop_processes = 2.5", "must be a whole number, and is a number");
    says("[metrics]\ntop_processes = 99999999999999999999", "a whole number from 0 to 200");
    says("[[pool]]\nname = 'x'\nignore = 'leak'", "write [\"leak\"]");
    says("[[pool]]\nname = 'x'\nignore = ['leek']", "did you mean \"leak\"?");
    says("[findings]\nhorizon = 1979-05-27", "is a date");
    says("[[pool]]\nignore = ['leak']", "r.toml:1: pool.name: is missing: write name = \"www*\"");
}

#[test]
fn bounds_are_kept() {
    let says = |text: &str, words: &str| {
        let line = one(text);
        assert!(line.contains(words), "{text}: {line}");
    };
    says("[watch]\nstep = '63K'", "must be 64KiB to 1GiB, or 0");
    says("[watch]\ninterval = '99ms'", "must be 100ms to 1m");
    says("[findings]\nhorizon = '0s'", "must be 1s to 30d");
    says("[recorder]\nsegment_size = '1K'", "must be 64KiB to 1GiB");
    says("[recorder]\nsync = '0'", "must be 100ms to 1m");
    says("[metrics]\nmax_pools = 201", "a whole number from 0 to 200");
    says("[metrics]\nmax_pools = -1", "a whole number from 0 to 200");
    says("[watch]\ncomm = \"\\u0000\"", "control characters");
    says("[recorder]\ndirectory = \"/a\\u0000b\"", "control characters");
    says("[[pool]]\nname = ''", "a text of 1 to 200 characters");
    says(&"[[pool]]\nname = 'a'\n".repeat(201), "has 201 entries; at most 200");
    let hooks: String = (0..17)
        .map(|at| format!("[[alerts.webhook]]\nname = 'n{at}'\nurl = 'http://a'\n"))
        .collect();
    says(&hooks, "alerts.webhook: has 17 entries; at most 16");
    says("[[alerts.command]]\nname = 'a'\nrun = []", "a list of at least 1");
    loaded("[watch]\nstep = '0'\n[metrics]\ntop_processes = 0\nlisten = ''\n");
}

#[test]
fn values_fit_what_they_are_for_and_each_other() {
    let says = |text: &str, words: &str| {
        let line = one(text);
        assert!(line.contains(words), "{text}: {line}");
    };
    says(
        "[watch]\ncgroup = '/a/../b'",
        "r.toml:2: watch.cgroup: must be the path of a memory cgroup",
    );
    says("[watch]\ncomm = 'php('", "r.toml:2: watch.comm: unclosed group");
    says("[watch]\ncomm = '(\\w{1000}){1000}'", "watch.comm: ");
    says("[recorder]\ndirectory = 'var/lib'", "the whole path of a folder");
    says("[recorder]\ndirectory = '/'", "the whole path of a folder");
    says(
        "[recorder]\nmax_size = '1M'",
        "r.toml:2: recorder.max_size: 16MiB for one segment is more than max_size, 1MiB",
    );
    says(
        "[recorder]\nmax_size = '1M'\nsegment_size = '2M'",
        "r.toml:3: recorder.segment_size: 2MiB",
    );
    says("[metrics]\nlisten = '0.0.0.0:9754'", "write allow_remote = true");
    loaded("[metrics]\nlisten = '0.0.0.0:9754'\nallow_remote = true");
    says("[metrics]\nlisten = 'metrics.example.org:80'", "names are not looked up");

    let hook = |rest: &str| format!("[[alerts.webhook]]\nname = 'ops'\n{rest}");
    loaded(&hook("url = 'https://user.example.org:8443/a?b=c'"));
    loaded(&hook("url = 'https://10.0.0.25:8443/a'"));
    for url in ["ftp://a", "a", "http://", "http:///a", "https://a:b", "http://a b", "http://a:0"] {
        says(&hook(&format!("url = '{url}'")), "r.toml:3: alerts.webhook.url: must be an address");
    }
    for host in ["10.0.0.256", "a.1", "1.2.3", "0x7f000001", "a.2."] {
        says(&hook(&format!("url = 'https://{host}/a'")), "alerts.webhook.url: must be an address");
    }
    says(&hook("url = 'https://me:s3cr3t@a/'"), "send them by `headers`");
    let headers = |headers: &str| hook(&format!("url = 'http://a'\nheaders = {{ {headers} }}"));
    says(&headers("'a b' = 'x'"), "r.toml:4: alerts.webhook.headers: `a b` is no name of a header");
    says(&headers("A = 'é'"), "visible characters");
    says(&headers("Host = 'a'"), "header Host is set by rampage itself");
    says(
        &hook("url = 'http://a'\n[[alerts.webhook]]\nname = 'ops'\nurl = 'http://b'"),
        "r.toml:5: alerts.webhook.name: line 2 has that name already",
    );
    says("[[alerts.webhook]]\nname = 'a b'\nurl = 'http://a'", "letters, digits");
    says("[[alerts.command]]\nname = 'a'\nrun = ['page']", "the whole path of a program");
    let otlp = |rest: &str| format!("[[alerts.otlp]]\nname = 'a'\n{rest}");
    says(&otlp("endpoint = 'http://a:4317/v1'"), "takes gRPC at its root");
    says(&otlp("endpoint = 'http://a:4318/?x'\nprotocol = 'http'"), "without `?`");
    says(&otlp("endpoint = 'http://a'\nmetrics_interval = '10ms'"), "1s to 1d, or 0");
    loaded(&otlp("endpoint = 'http://[::1]:4318/v1'\nprotocol = 'http'\nmetrics_interval = '0s'"));
}

#[test]
fn all_problems_are_told_at_once_in_order() {
    let lines = wrong(
        "[metrics]\nlisten = '1.2.3.4:5'\ntop = 1\n[watch]\nstep = 64MiB\nintervall = '1s'\n\
         [recorder]\nsync = '1h'\n[[alerts.command]]\nrun = 'x'\n",
    );
    let at: Vec<_> = lines.iter().map(|line| line.split(':').nth(1).unwrap()).collect();
    assert_eq!(at, ["2", "3", "5", "6", "8", "9", "10"], "{lines:#?}");
    let many = "x = 1\n".replace('x', "[watch]\nx")
        + &(0..500).map(|n| format!("y{n} = 1\n")).collect::<String>();
    let lines = wrong(&many);
    assert_eq!(lines.len(), 101);
    assert!(lines[100].ends_with("401 more lines are wrong"), "{}", lines[100]);
}

#[test]
fn a_header_that_cannot_be_read_takes_no_blame_for_its_keys() {
    let lines = wrong("[metrics]\ntop = 1\n[watch\nstep = '1M'\ncomm = 'x'\n");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("r.toml:2: metrics.top: "), "{lines:#?}");
    assert!(lines[1].starts_with("r.toml:3: "), "{lines:#?}");
}

#[test]
fn secrets_are_in_no_message() {
    let text = "[[alerts.webhook]]\nname = 'ops'\nurl = 'ftp://s3cr3t'\n\
                headers = { 'a b' = 's3cr3t', B = 'é s3cr3t', C = 1 }\n\
                [[alerts.otlp]]\nname = 'a'\nendpoint = 'http://u:s3cr3t@h'\nheaders.A = s3cr3t\n\
                [[alerts.otlp]]\nname = 'b'\nendpoint = 'http://h/s3cr3t'\n";
    let lines = wrong(text);
    assert_eq!(lines.len(), 7, "{lines:#?}");
    assert!(!lines.concat().contains("s3cr3t"), "{lines:#?}");
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let warnings = |text: &str| -> Vec<String> {
        loaded(text).warnings.iter().map(ToString::to_string).collect()
    };
    let rules = |names: &[&str]| -> String {
        names.iter().map(|name| format!("[[pool]]\nname = '{name}'\n")).collect()
    };
    assert_eq!(warnings(&rules(&["a*", "ab", "*", "b*", "c"])).len(), 3);
    assert_eq!(
        warnings(&rules(&["ab", "a*", "a*b"])),
        ["r.toml:5: pool: never holds: the rule of line 3 comes first and matches the same pools"]
    );
    assert_eq!(
        warnings("[[pool]]\nname = 'a'\nignore = ['pressure']"),
        ["r.toml:3: pool.ignore: `pressure` is never about a pool: it is made all the same"]
    );
    assert_eq!(warnings("[recorder]\nmax_age = '1m'").len(), 1);
}

#[test]
fn rules_and_cgroups_that_match_nothing_are_warnings() {
    let loaded = loaded(
        "[watch]\ncgroup = '/no/such/cgroup'\n[[pool]]\nname = 'www*'\n[[pool]]\nname = 'www2'\n\
         [[pool]]\nname = 'batch'\n",
    );
    let lines = |problems: Vec<Problem>| -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lines(loaded.unmatched_pools(["www", "www2"])),
        [
            "r.toml:6: pool.name: no pool `www2` has been seen so far: the rule does nothing",
            "r.toml:8: pool.name: no pool `batch` has been seen so far: the rule does nothing"
        ]
    );
    assert_eq!(lines(loaded.unmatched_pools(["www", "batch"])).len(), 1);
    let told = lines(loaded.host_warnings());
    assert!(
        told[0].starts_with("r.toml:2: watch.cgroup: there is no memory cgroup /no/such/cgroup")
    );
    assert!(super::tests::loaded("").host_warnings().is_empty());
}

#[test]
fn bytes_that_are_no_text_have_a_line() {
    let lines = parse(Path::new("a\nb"), b"[watch]\n\ncomm = \"\xff\"").unwrap_err().lines();
    assert_eq!(lines, ["a\\nb:3: this is no text in UTF-8"]);
    assert!(one("[watch]\ncomm = \"\0\"").starts_with("r.toml:2: "));
}

#[test]
fn depth_and_size_are_bounded() {
    for text in [
        "[".repeat(60_000),
        "a = [".repeat(12_000),
        "a = {".repeat(12_000),
        format!("{}a = 1", "a.".repeat(30_000)),
        format!("[{}a]", "a.".repeat(30_000)),
        "=\n".repeat(30_000),
        "[[pool]]\n".repeat(7_000),
        "\"\"\"\n".repeat(15_000),
    ] {
        let lines = wrong(&text);
        assert!(lines.len() <= 201 && lines.iter().all(|line| line.len() < 1000), "{lines:#?}");
    }
}

#[test]
fn only_a_regular_file_of_bounded_size_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let fails = |path: &Path| load(Some(path)).unwrap_err();
    assert!(matches!(fails(&path("none")), SettingsError::Missing { .. }));
    assert!(matches!(fails(folder.path()), SettingsError::NoFile { .. }));
    let made = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
    assert!(made.success());
    assert!(matches!(fails(&path("fifo")), SettingsError::NoFile { .. }));
    assert!(matches!(fails(Path::new("/dev/zero")), SettingsError::NoFile { .. }));
    assert!(matches!(fails(&path("none/none\0")), SettingsError::Read { .. }));
    let most = usize::try_from(MOST_BYTES).unwrap();
    std::fs::write(path("large"), "#".repeat(most + 1)).unwrap();
    assert!(matches!(fails(&path("large")), SettingsError::TooLarge { .. }));
    std::fs::write(path("large"), "#".repeat(most)).unwrap();
    assert_eq!(load(Some(&path("large"))).unwrap().settings, Settings::default());
    if !Path::new(DEFAULT_PATH).exists() {
        assert!(load(None).unwrap().file.is_none());
    }
}

#[test]
fn what_is_shown_is_read_again_and_says_where_it_comes_from() {
    let loaded = loaded(
        "watch.comm = \"\\\\.\\\"\u{202e}é\"\n[[pool]]\nname = \"a\"\nhorizon = \"90s\"\n\
         [[alerts.command]]\nname = \"p\"\nrun = [\"/bin/p\", \"a b\"]\n",
    );
    let shown = show(&loaded);
    let again = super::tests::loaded(&shown);
    assert_eq!(again.settings, loaded.settings, "{shown}");
    assert!(!shown.contains('\u{202e}'), "{shown}");
    let line = |begin: &str| shown.lines().find(|line| line.starts_with(begin)).unwrap();
    assert!(line("comm = ").ends_with(" # r.toml:1"), "{shown}");
    assert!(line("horizon = \"90s\"").ends_with(" # r.toml:4"), "{shown}");
    assert!(line("interval = \"1s\"").ends_with(" # default"), "{shown}");
    assert!(line("webhook = []").ends_with(" # default"), "{shown}");
    let json = show_json(&loaded);
    assert_eq!(json["pool[0].horizon"]["value"], "90s");
    assert_eq!(json["pool[0].horizon"]["origin"], "r.toml:4");
    assert_eq!(json["watch.interval"]["origin"], "default");
    assert_eq!(json["alerts.command[0].run"]["value"][1], "a b");
    let none = show(&load_nothing());
    assert_eq!(super::tests::loaded(&none).settings, Settings::default(), "{none}");
}

fn load_nothing() -> Loaded {
    let path = Arc::default();
    let (settings, lines) = (Settings::default(), BTreeMap::new());
    Loaded { settings, file: None, warnings: Vec::new(), lines, path }
}

#[test]
fn secrets_are_not_shown() {
    let loaded = loaded(
        "[[alerts.webhook]]\nname = \"a\"\nurl = \"https://hooks.example.org/T0/s3cr3t\"\n\
         headers = { Authorization = \"Bearer s3cr3t\" }\n\
         [[alerts.webhook]]\nname = \"b\"\nurl = \"https://hooks.example.org?s3cr3t\"\n\
         [[alerts.otlp]]\nname = \"c\"\nendpoint = \"http://127.0.0.1:4317\"\nheaders.x = \"s3cr3t\"",
    );
    let (text, json) = (show(&loaded), show_json(&loaded).to_string());
    for shown in [&text, &json] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
        assert!(shown.contains("https://hooks.example.org/…"), "{shown}");
        assert!(shown.contains("\"http://127.0.0.1:4317\""), "{shown}");
        assert!(shown.contains("Authorization"), "{shown}");
    }
}
