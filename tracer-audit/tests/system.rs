//! earlyoom's own reading of its options, side by side: it is started with --dryrun and ended as soon as it has
//! said what it will do. Needs Debian's package earlyoom.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of a test fails as the test does"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use audit::system::earlyoom::EarlyOom;
use audit::{Machine, Notes, Root};

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
