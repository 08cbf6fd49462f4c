//! What else reads the host's files, side by side: systemd-sysctl writes into files that stand for the
//! kernel's, earlyoom is started with --dryrun and ended as soon as it has said what it will do. Needs Debian's
//! packages systemd, util-linux and earlyoom.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails as the test does"
)]

mod tree;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use audit::system::earlyoom::EarlyOom;
use audit::system::sysctl;
use audit::{Machine, Notes, Root};
use tree::Tree;

/// Ends it also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The thresholds of memory and swap that it tells, per cent; None where it refuses to start.
fn asked(words: &[String]) -> Option<(String, String)> {
    let mut command = Command::new("sh");
    command.args(["-c", "exec earlyoom --dryrun \"$@\" 2>&1", "sh"]).args(words);
    let child = command.stdout(Stdio::piped()).spawn().expect("sh");
    let mut running = Running(child);
    let output = running.0.stdout.take().unwrap();
    for line in BufReader::new(output).lines() {
        let line = line.unwrap();
        assert!(!line.contains("not found"), "earlyoom of Debian's package earlyoom: {line}");
        if let Some(rest) = line.strip_prefix("sending SIGTERM when mem <=") {
            let (memory, swap) = rest.split_once("% and swap <=").unwrap();
            let swap = swap.split('%').next().unwrap();
            return Some((memory.trim().to_owned(), swap.trim().to_owned()));
        }
    }
    None
}

#[test]
fn options_are_read_as_earlyoom_reads_them() {
    let values = [
        "5", "5,2", "5,", ",5", "2,5", "0,5", "5,2,1", "-5", "5 ", " 5", "5%", "1e1", "7.5", "abc",
        "", "0", "0,0", "99", "99.5", "100", "101",
    ];
    let mut cases: Vec<Vec<String>> = Vec::new();
    for value in values {
        cases.extend(["-m", "-s"].map(|name| vec![name.to_owned(), value.to_owned()]));
        cases.push(vec![format!("-m{value}")]);
    }
    for line in [
        "",
        "-M 1048576",
        "-M 300000.5,1000",
        "-M 0",
        "-m 5 -M 2000000",
        "-m 5 -M 1000",
        "-m 5 -m 6",
        "-gm 5",
        "-nr 5 -p",
        "--prefer=x -m 4",
        "--pref x --avo y -s 3",
        "--prefer",
        "--dryrun=1",
        "--bogus",
        "--",
        "-m 5 -- -m 7",
        "-m 5 more",
        "-x",
        "-r",
        "-N /bin/true -m 8",
    ] {
        cases.push(line.split_whitespace().map(str::to_owned).collect());
    }
    let host = Root::new(std::path::Path::new("/")).unwrap();
    let machine = Machine::read(&host, &mut Notes::default());
    for words in cases {
        let ours = EarlyOom::parse(&words);
        let swap = ours.swap_percent(machine.swap_total_bytes);
        let memory = ours.memory_percent(machine.total_bytes);
        let ours = (!ours.refused).then(|| (format!("{memory:.2}"), format!("{swap:.2}")));
        assert_eq!(ours, asked(&words), "{words:?}");
    }
}

/// What systemd-sysctl writes, side by side: into files that stand for the kernel's.
#[test]
fn generated_sysctl_folders_are_read_as_systemd_sysctl_reads_them() {
    const SCRIPT: &str = r#"
set -e
mount --bind "$1/run" /run
mount --bind "$1/usr/local/lib" /usr/local/lib
mount --bind "$1/usr/lib/sysctl.d" /usr/lib/sysctl.d
mount --bind "$1/etc" /etc
mount --bind "$1/sys" /proc/sys
exec /lib/systemd/systemd-sysctl
"#;
    let seed = std::env::var("RAMPAGE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..30 {
        let tree = Tree::new();
        for key in sysctl::KEYS {
            tree.put(&format!("sys/{}", key.replace('.', "/")), b"unset");
        }
        tree.put("usr/lib/sysctl.d/00.conf", b"");
        if random.bool() {
            tree.link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
        }
        for _ in 0..random.u8(1..7) {
            let folder =
                ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"];
            let names =
                ["10.conf", "50-a.conf", "60", "99-z.conf", ".h.conf", "10.conf.bak", "9.conf"];
            let path = format!("{}/{}", pick(&mut random, &folder), pick(&mut random, &names));
            let path = if random.u8(..5) == 0 { "etc/sysctl.conf".to_owned() } else { path };
            if random.u8(..12) == 0 {
                tree.link_once(&format!("/{path}"), "/dev/null");
            } else if !tree.folder.path().join(&path).is_symlink() {
                tree.put(&path, sysctl_lines(&mut random).as_bytes());
            }
        }
        let output = tree.apart(SCRIPT);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours = sysctl::read(&tree.root(), &mut Notes::default());
        for (key, ours) in ours {
            let path = tree.folder.path().join("sys").join(key.replace('.', "/"));
            let theirs = fs::read_to_string(path).unwrap();
            // What is shorter than what was there leaves its end in place.
            let theirs = theirs.lines().next().unwrap_or_default().to_owned();
            let ours = ours.configured.map_or("unset".to_owned(), |set| set.value);
            assert_eq!(ours, theirs, "{key}, RAMPAGE_SEED={seed}, round {round}: {errors}");
        }
    }
}

fn sysctl_lines(random: &mut fastrand::Rng) -> String {
    let keys = [
        "vm.swappiness",
        "vm/swappiness",
        "-vm.swappiness",
        "vm.overcommit_*",
        "vm.overcommit_memory",
        "-vm/overcommit_ratio",
        "vm/*on_oom",
        "vm.panic_on_oom",
        "*.panic",
        "kernel..panic",
        "/kernel/panic",
        "vm.min_free_kbytes",
        "VM.swappiness",
    ];
    let mut text = String::new();
    for _ in 0..random.u8(..6) {
        let key = pick(random, &keys);
        let number = random.u8(..100);
        text.push_str(&match random.u8(..10) {
            0 => format!("# {key}={number}\n"),
            1 => format!(" ;{key}={number}\n"),
            2 => format!("{key}\n"),
            3 => format!("  {key} = {number} \n"),
            4 => format!("{key}={number} # why\n"),
            5 => format!("{key} {number}\n"),
            6 => "\n".to_owned(),
            _ => format!("{key}={number}\n"),
        });
    }
    text
}

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}
