//! systemd's own reading of units, side by side: `systemd --test` loads the same files in a namespace of its
//! own and dumps what came of them; `systemd-analyze timespan` reads the same time spans. Needs Debian's
//! systemd and util-linux, and user namespaces; no running manager.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails as the test does"
)]

mod manager;
mod tree;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use audit::units::load::{self, Loaded};
use audit::units::search::{Names, instance_of, is_template};
use audit::units::settings::{ManagedOom, OomPolicy, Restart};
use audit::units::values::{self, Limit};
use audit::{Machine, Notes, Root};
use manager::{dump, get, unpack};
use tree::Tree;

fn word<T: serde::Serialize + std::fmt::Debug>(value: T) -> String {
    // OnAbnormal is on-abnormal.
    let mut word = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// As the audit reads a unit, in the words of the dump.
fn ours(loaded: &Loaded, total_bytes: u64, plain_adjust: &str) -> Vec<(&'static str, String)> {
    let settings = &loaded.settings;
    let bytes = |limit: Limit| limit.bytes(total_bytes, 4096).unwrap_or(u64::MAX).to_string();
    let adjust = &settings.oom_score_adjust;
    let paths = |path: &Path| {
        path.display().to_string().replacen(
            "/lib/",
            "/usr/lib/",
            usize::from(path.starts_with("/lib")),
        )
    };
    vec![
        ("Fragment Path", loaded.files.fragment.as_deref().map(paths).unwrap_or_default()),
        (
            "DropIn Path",
            loaded.files.drop_ins.iter().map(|path| paths(path)).collect::<Vec<_>>().join(" "),
        ),
        ("MemoryMax", bytes(settings.memory_max.value)),
        ("MemoryHigh", bytes(settings.memory_high.value)),
        ("MemorySwapMax", bytes(settings.memory_swap_max.value)),
        ("Restart", word::<Restart>(settings.restart.value)),
        ("OOMPolicy", word::<OomPolicy>(settings.oom_policy.value)),
        (
            "OOMScoreAdjust",
            adjust.at.as_ref().map_or(plain_adjust.to_owned(), |_| adjust.value.to_string()),
        ),
        ("ManagedOOMSwap", word::<ManagedOom>(settings.managed_oom_swap.value)),
        ("ManagedOOMMemoryPressure", word::<ManagedOom>(settings.managed_oom_pressure.value)),
        ("RestartSec", span(settings.restart_us.value)),
        ("Slice", audit::units::slice_of(&loaded.files.name, settings)),
    ]
}

/// As the manager shows it, of what the corpus has: whole seconds below a minute, or less than one.
fn span(us: u64) -> String {
    match us {
        0 => "0".to_owned(),
        us if us < 1_000_000 => format!("{}ms", us / 1000),
        us if us < 60_000_000 => format!("{}s", us / 1_000_000),
        us => format!("{us}us"),
    }
}

fn theirs(fields: &[(String, String)], key: &str, plain_adjust: &str) -> String {
    let path =
        |path: &str| path.replacen("/lib/", "/usr/lib/", usize::from(path.starts_with("/lib/")));
    match key {
        "Fragment Path" => path(get(fields, key)),
        "DropIn Path" => {
            let paths = fields.iter().filter(|(name, _)| name == key);
            paths.map(|(_, value)| path(value)).collect::<Vec<_>>().join(" ")
        }
        // The older name counts where the newer one is not set.
        "MemoryMax" if get(fields, key) == u64::MAX.to_string() => {
            get(fields, "MemoryLimit").to_owned()
        }
        // A reset takes away also what the manager of an ordinary user adds.
        "OOMScoreAdjust" if get(fields, key).is_empty() => plain_adjust.to_owned(),
        _ => get(fields, key).to_owned(),
    }
}

/// What the manager gives a service that says nothing: it adds to its own where an ordinary user runs it.
fn plain_adjust() -> String {
    static ADJUST: OnceLock<String> = OnceLock::new();
    let ask = || {
        let tree = Tree::new();
        tree.put("usr/lib/systemd/system/plain.service", b"[Service]\nExecStart=/bin/true\n");
        let (dump, _) = dump(&tree, &["plain.service".to_owned()]);
        get(&dump["plain.service"], "OOMScoreAdjust").to_owned()
    };
    ADJUST.get_or_init(ask).clone()
}

/// The files of a unit, for whoever has to find out why it is read in two ways.
fn texts(root: &Root, loaded: &Loaded) -> String {
    let paths = loaded.files.fragment.iter().chain(&loaded.files.drop_ins);
    let text = |path: &Path| root.text(path).unwrap_or_else(|error| error.to_string());
    paths.map(|path| format!("-- {}\n{}", path.display(), text(path))).collect()
}

/// Where lines are that the audit says systemd passes over.
fn faults_of(loaded: &Loaded) -> impl Iterator<Item = (String, u32)> {
    loaded.settings.faults.iter().map(|fault| {
        let file = fault.at.file.display().to_string();
        let file = file.replacen("/lib/", "/usr/lib/", usize::from(file.starts_with("/lib/")));
        (file, fault.at.line.unwrap_or(0))
    })
}

/// Compares all units of `tree`; how many there were.
fn compare(tree: &Tree, what: &str) -> usize {
    let root = tree.root();
    let mut notes = Notes::default();
    let names = Names::read(&root, &mut notes);
    let mut units: Vec<String> = names.all().map(str::to_owned).collect();
    units.extend(names.wanted().iter().cloned());
    units.retain(|name| name.ends_with(".service") && !is_template(name));
    units.sort();
    units.dedup();
    let (dump, mut passed_over) = dump(tree, &units);
    let total_bytes = Machine::read(&Root::new(Path::new("/")).unwrap(), &mut notes).total_bytes;
    let plain_adjust = plain_adjust();
    let defaults = load::defaults(&root, &mut notes);
    let mut faults = Vec::new();
    for unit in &units {
        let ours_loaded = load::unit(&root, &names, &defaults, unit, &mut notes);
        let by_alias = dump
            .iter()
            .find(|(_, fields)| fields.iter().any(|(key, value)| key == "Alias" && value == unit));
        let Some(fields) = dump.get(unit).or(by_alias.map(|(_, fields)| fields)) else {
            assert!(
                ours_loaded.is_none(),
                "{what}: {unit} is not known to systemd: {ours_loaded:?}"
            );
            continue;
        };
        let state = get(fields, "Unit Load State");
        let Some(loaded) = ours_loaded else {
            assert!(
                matches!(state, "not-found" | "error" | "bad-setting"),
                "{what}: {unit} is {state}"
            );
            continue;
        };
        if loaded.files.fragment.is_none() {
            assert_eq!(state, "masked", "{what}: {unit}");
            continue;
        }
        assert_eq!(state, "loaded", "{what}: {unit}");
        for (key, value) in ours(&loaded, total_bytes, &plain_adjust) {
            assert_eq!(
                value,
                theirs(fields, key, &plain_adjust),
                "{what}: {key} of {unit}:\n{}",
                texts(&root, &loaded)
            );
        }
        faults.extend(faults_of(&loaded));
    }
    faults.sort();
    faults.dedup();
    passed_over.sort();
    for (file, line) in &faults {
        // systemd names the last line of one that is continued.
        let named = |line: u32| passed_over.contains(&(file.clone(), line));
        assert!(named(*line) || named(line + 1), "{what}: systemd takes {file}:{line}");
    }
    units.len()
}

#[test]
fn hand_written_trees_are_read_as_systemd_reads_them() {
    for (name, text) in [
        ("order", include_str!("corpus/units/order.tree")),
        ("lines", include_str!("corpus/units/lines.tree")),
        ("manager", include_str!("corpus/units/manager.tree")),
    ] {
        let tree = unpack(text);
        let count = compare(&tree, name);
        assert!(count >= 4, "{name}: {count}");
    }
}

#[test]
fn bytes_that_are_no_text_are_read_as_systemd_reads_them() {
    let tree = Tree::new();
    let long = format!(
        "[Service]\nExecStart=/bin/true\nDescription={}\nMemoryMax=1G\n",
        "x".repeat(1 << 20)
    );
    let cases: [(&str, &[u8]); 9] = [
        ("plain", b"[Service]\nExecStart=/bin/true\n"),
        ("latin", b"[Service]\nExecStart=/bin/true\nMemoryMax=1G\nDescription=\xe4\n"),
        ("latin-comment", b"[Service]\nExecStart=/bin/true\n# \xe4\nMemoryMax=1G\n"),
        ("nul", b"[Service]\nExecStart=/bin/true\nMemoryMax=1G\0MemoryHigh=1G\n\0\nRestart=always\n"),
        ("return", b"[Service]\r\nExecStart=/bin/true\r\nMemoryMax=1G\rMemoryHigh=1G\n\rRestart=always\r\n"),
        ("bom", b"\xef\xbb\xbf[Service]\nExecStart=/bin/true\nMemoryMax=1G\n"),
        ("bom-later", b"[Service]\nExecStart=/bin/true\n\xef\xbb\xbfMemoryMax=1G\n\xef\xbb\xbfMemoryHigh=1G\n"),
        ("control", b"[Service]\nExecStart=/bin/true\n[Unit\x07]\nMemoryMax=1G\n"),
        ("long", long.as_bytes()),
    ];
    for (name, bytes) in cases {
        tree.put(&format!("usr/lib/systemd/system/{name}.service"), bytes);
    }
    assert_eq!(compare(&tree, "bytes"), cases.len());
}

#[test]
fn each_size_is_taken_or_refused_as_by_systemd() {
    let tree = Tree::new();
    tree.put("usr/lib/systemd/system/plain.service", b"[Service]\nExecStart=/bin/true\n");
    let sizes: Vec<&str> = include_str!("corpus/units/sizes.txt").lines().collect();
    for (index, size) in sizes.iter().enumerate() {
        for (key, kind) in [("MemoryMax", "max"), ("MemoryHigh", "high"), ("MemorySwapMax", "swap")]
        {
            // What is refused leaves 7M in place.
            let text = format!("[Service]\nExecStart=/bin/true\n{key}=7M\n{key}={size}\n");
            tree.put(&format!("usr/lib/systemd/system/{kind}{index}.service"), text.as_bytes());
        }
    }
    assert_eq!(compare(&tree, "sizes"), 3 * sizes.len() + 1);
}

#[test]
fn each_span_is_taken_or_refused_as_by_systemd() {
    for text in include_str!("corpus/units/spans.txt").lines() {
        let output = Command::new("systemd-analyze").args(["timespan", "--", text]).output();
        let output = output.expect("systemd-analyze of Debian's package systemd");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let theirs =
            printed.lines().find_map(|line| line.trim().strip_prefix("μs: ")?.parse::<u64>().ok());
        assert_eq!(values::span_us(text), theirs, "{text:?}: {printed}");
    }
}

/// A unit's limit of starts is in no dump. What is: which lines systemd passes over, and what it makes of the
/// limit of log lines, which it reads with the same parser.
#[test]
fn each_start_limit_is_taken_or_refused_as_by_systemd() {
    const BURSTS: [&str; 22] = [
        "0",
        "5",
        "+5",
        "-5",
        "",
        "0x10",
        "0X1f",
        "010",
        "08",
        "0b11",
        "0o17",
        "4294967295",
        "4294967296",
        "5 5",
        "1e3",
        "abc",
        "5s",
        "infinity",
        "--5",
        "0x",
        "-0",
        "+0",
    ];
    let output = Command::new("/lib/systemd/systemd").arg("--dump-configuration-items").output();
    let output = output.expect("systemd of Debian's package systemd");
    let items = String::from_utf8(output.stdout).unwrap();
    let section = |name: &str| items.split('[').find(|part| part.starts_with(name)).unwrap();
    let kind = |part: &str, key: &str| {
        let line = part.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    let (of_unit, of_service) = (section("Unit]"), section("Service]"));
    let log = kind(of_service, "LogRateLimitBurst");
    assert_eq!(
        (&log, &log),
        (&kind(of_unit, "StartLimitBurst"), &kind(of_service, "StartLimitBurst"))
    );

    let tree = Tree::new();
    tree.put("usr/lib/systemd/system/plain.service", b"[Service]\nExecStart=/bin/true\n");
    let intervals: Vec<&str> = include_str!("corpus/units/spans.txt").lines().collect();
    let mut texts = Vec::new();
    for (key, values) in [
        ("StartLimitBurst", &BURSTS[..]),
        ("StartLimitInterval", &intervals),
        ("StartLimitIntervalSec", &intervals),
        ("LogRateLimitBurst", &BURSTS),
    ] {
        for value in values {
            texts.push((key, *value, "Unit"));
            texts.push((key, *value, "Service"));
        }
    }
    let name = |index: usize| format!("limit{index}.service");
    for (index, (key, value, section)) in texts.iter().enumerate() {
        let text = format!("[{section}]\n{key}=7\n{key}={value}\n[Service]\nExecStart=/bin/true\n");
        tree.put(&format!("usr/lib/systemd/system/{}", name(index)), text.as_bytes());
    }
    let units: Vec<String> = (0..texts.len()).map(name).collect();
    let (dump, mut passed_over) = dump(&tree, &units);
    let root = tree.root();
    let mut notes = Notes::default();
    let names = Names::read(&root, &mut notes);
    let defaults = load::defaults(&root, &mut notes);
    let mut faults = Vec::new();
    for (unit, (key, value, section)) in units.iter().zip(&texts) {
        if *key == "LogRateLimitBurst" {
            // Ours has no such key: theirs alone says what becomes of the value.
            passed_over.retain(|(file, _)| !file.ends_with(&format!("/{unit}")));
            let theirs = get(&dump[unit], key).to_owned();
            let ours = values::unsigned(value).unwrap_or(7);
            let ours = if ours == 0 { String::new() } else { ours.to_string() };
            assert!(*section == "Unit" || ours == theirs, "{value:?}: {ours:?}, {theirs:?}");
            continue;
        }
        let loaded = load::unit(&root, &names, &defaults, unit, &mut notes).unwrap();
        faults.extend(faults_of(&loaded));
        if *key == "StartLimitBurst" {
            let burst = loaded.settings.start_limit_burst.value;
            assert_eq!(burst, values::unsigned(value).unwrap_or(7), "{value:?}");
        }
    }
    faults.sort();
    passed_over.sort();
    assert_eq!(faults, passed_over);
    assert!(faults.len() > 40, "{}", faults.len());
}

#[test]
fn the_search_path_is_systemds() {
    let output = Command::new("systemd-analyze").args(["--system", "unit-paths"]).output();
    let output = output.expect("systemd-analyze of Debian's package systemd");
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(audit::units::search::UNIT_PATHS.to_vec(), theirs.lines().collect::<Vec<_>>());
}

#[test]
fn generated_trees_are_read_as_systemd_reads_them() {
    let seed = std::env::var("RAMPAGE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..3 {
        let tree = Tree::new();
        tree.put("usr/lib/systemd/system/plain.service", b"[Service]\nExecStart=/bin/true\n");
        for number in 0..60 {
            generate(&tree, &mut random, number);
        }
        let count = compare(&tree, &format!("RAMPAGE_SEED={seed}, round {round}"));
        assert!(count > 50);
    }
}

const FOLDERS: [&str; 5] = [
    "/etc/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];

fn generate(tree: &Tree, random: &mut fastrand::Rng, number: u32) {
    let stem = format!(
        "{}{number}",
        random.choice(["a", "a-b", "a-b-c", "php8.", "x--y-", "-z"]).unwrap()
    );
    let (name, wanted) = if random.u8(..4) == 0 {
        (format!("{stem}@.service"), Some(format!("{stem}@i-{number}.service")))
    } else {
        (format!("{stem}.service"), None)
    };
    for _ in 0..random.u8(1..3) {
        let folder = random.choice(FOLDERS).unwrap();
        let path = format!("{folder}/{name}");
        match random.u8(..20) {
            0 => tree.link_once(&path, "/dev/null"),
            1 => tree.put(&path, b""),
            _ => tree.put(
                &path,
                format!("[Service]\nExecStart=/bin/true\n{}", lines(random)).as_bytes(),
            ),
        }
    }
    if let Some(instance) = &wanted {
        tree.link_once(&format!("/etc/systemd/system/all.target.wants/{instance}"), &name);
    }
    let unit = wanted.unwrap_or(name.clone());
    let mut folders = vec![unit.clone(), name.clone()];
    folders.extend(unit.char_indices().filter(|&(_, letter)| letter == '-').map(|(at, _)| {
        match instance_of(&unit) {
            Some(_) => format!("{}@.service", &unit[..=at]),
            None => format!("{}.service", &unit[..=at]),
        }
    }));
    if random.u8(..4) == 0 {
        folders.push("service".to_owned());
    }
    for _ in 0..random.u8(..5) {
        let folder = random.choice(FOLDERS).unwrap();
        let own = random.choice(&folders).unwrap();
        // A link of the same name from an earlier unit may already be there.
        let path = format!(
            "{folder}/{own}.d/{}.conf",
            random.choice(["10", "20", "a", "zz", "override"]).unwrap()
        );
        if random.u8(..15) == 0 {
            tree.link_once(&path, "/dev/null");
        } else if !tree.folder.path().join(&path[1..]).is_symlink() {
            tree.put(&path, format!("[Service]\n{}", lines(random)).as_bytes());
        }
    }
}

fn lines(random: &mut fastrand::Rng) -> String {
    let sizes: Vec<&str> = include_str!("corpus/units/sizes.txt").lines().collect();
    let mut text = String::new();
    for _ in 0..random.u8(..6) {
        let size = *random.choice(&sizes).unwrap();
        let line = match random.u8(..13) {
            0 => format!("MemoryMax={size}"),
            1 => format!("MemoryHigh = {size}"),
            2 => format!("MemoryLimit={size}"),
            3 => format!("MemorySwapMax={size}"),
            4 => format!(
                "Restart={}",
                random
                    .choice(["no", "always", "on-abort", "on-abnormal", "", "yes", "on-failure"])
                    .unwrap()
            ),
            5 => format!(
                "OOMPolicy={}",
                random.choice(["stop", "continue", "kill", "", "STOP"]).unwrap()
            ),
            6 => format!(
                "OOMScoreAdjust={}",
                random
                    .choice(["-1000", "1000", "1001", "0x10", "-010", "", " 5", "5 5", "+7"])
                    .unwrap()
            ),
            7 => format!(
                "RestartSec={}",
                random.choice(["5", "7s", "100ms", "-1", "", "3 s", "59"]).unwrap()
            ),
            8 => format!("ManagedOOMSwap={}", random.choice(["kill", "auto", "", "no"]).unwrap()),
            9 => format!(
                "ManagedOOMMemoryPressure={}",
                random.choice(["kill", "auto", "x"]).unwrap()
            ),
            10 => format!(
                "{}={}",
                random
                    .choice(["StartLimitBurst", "StartLimitInterval", "StartLimitIntervalSec"])
                    .unwrap(),
                random.choice(["0", "5", "1min", "x", ""]).unwrap()
            ),
            11 => format!(
                "{}[{}]",
                random.choice(["# ", "", "; "]).unwrap(),
                random.choice(["Service", "Unit", "Else"]).unwrap()
            ),
            _ => format!("Delegate={}", random.choice(["yes", "no", "", "memory"]).unwrap()),
        };
        let line = if random.u8(..8) == 0 { line.replacen('=', "=\\\n", 1) } else { line };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
