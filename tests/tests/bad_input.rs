//! Damaged and hostile trace files: one clear line, exit code 0 or 4, never a panic, and nothing
//! raw on a terminal.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binary;
mod synthetic;

use std::fs;
use std::path::Path;

use binary::{rampage, run};
use rampage::event::*;
use synthetic::{at, header, process, read, recording, write};

fn replay(path: &Path) -> (i32, String, String) {
    run(rampage().args(["replay", "--plain"]).arg(path))
}

#[test]
fn what_is_no_trace_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    let noise: Vec<u8> = Noise(7).take(3 << 20).collect();
    let binary = fs::read(std::env::current_exe().unwrap()).unwrap();
    let newlines = "\n".repeat(2 << 20);
    let contents: [(&[u8], &str); 8] = [
        (b"", "empty file"),
        (b"\n", "no header"),
        (b"root:x:0:0:root:/root:/bin/bash\n", "no header"),
        (b"{\"type\":\"header\",\"schema\":\"other/1\"}\n", "no header"),
        (b"\x28\xb5\x2f\xfd garbage in a frame", "zstd frame"),
        (&noise, "no header"),
        (&binary, "no header"),
        (newlines.as_bytes(), "no header"),
    ];
    for (content, message) in contents {
        fs::write(&path, content).unwrap();
        let (code, _, stderr) = replay(&path);
        assert_eq!(code, 4, "{message}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("rampage: ") && stderr.contains(message), "{stderr}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_wrong_usage() {
    for path in ["/nonexistent/t.jsonl", "/"] {
        let (code, _, stderr) = replay(Path::new(path));
        assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
        assert!(stderr.contains(path), "{stderr}");
    }
}

#[test]
fn a_newer_schema_is_read_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    write(&path, &recording());
    let today = replay(&path);
    let text = fs::read_to_string(&path).unwrap();
    let newer = text
        .replacen("rampage/1", "rampage/2", 1)
        .replace("\"type\":\"tick\"", "\"type\":\"tick\",\"mood\":{\"of\":[\"the\",\"host\"]}");
    let unknown = newer.replacen(
        '\n',
        "\n{\"t\":1,\"time\":\"2030-01-01T00:00:00Z\",\"type\":\"aura\"}\n",
        3,
    );
    fs::write(&path, unknown).unwrap();
    let (code, stdout, stderr) = replay(&path);
    assert_eq!((code, stdout), (0, today.1), "what is understood gives the same");
    assert!(stderr.contains("rampage/2") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn noise_between_lines_is_passed_over_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.jsonl");
    write(&path, &recording());
    let whole = replay(&path).1;
    let text = fs::read(&path).unwrap();
    let middle = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut noisy = text[..middle].to_vec();
    noisy.extend(Noise(3).take(5000));
    noisy.push(b'\n');
    noisy.extend(vec![b'x'; 2 << 20]);
    noisy.push(b'\n');
    noisy.extend(&text[middle..]);
    fs::write(&path, noisy).unwrap();
    let (code, stdout, stderr) = replay(&path);
    assert_eq!((code, stdout), (4, whole), "{stderr}");
    assert!(stderr.contains(&format!("line 2, byte {middle}")), "{stderr}");
}

#[test]
fn hostile_names_are_never_raw_on_a_terminal_and_always_valid_json() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "\x1b]0;owned\x07\x1b[2J\r\n\u{9b}31m\u{202e}\"}\\\u{200b}";
    let path = folder.path().join("t\x1b[2J.jsonl");
    let mut events = vec![at(0, header()), at(0, process(7, hostile))];
    for record in 0..3 {
        let lost = Lost { source: hostile.repeat(40).into(), records: record };
        events.push(at(record, Event::Lost(lost)));
        events.push(at(record, Event::Tick(Tick {})));
    }
    write(&path, &events);
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 3]).unwrap();
    let (code, stdout, stderr) = replay(&path);
    assert_eq!(code, 4);
    assert!(stdout.contains("owned"), "the name is shown");
    for (name, output) in [("stdout", &stdout), ("stderr", &stderr)] {
        let raw = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}');
        assert!(!output.contains(raw), "{name}: {output:?}");
    }
    let (_, json, _) = run(rampage().args(["replay", "--json"]).arg(&path));
    assert!(json.lines().count() >= events.len());
    for line in json.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

/// xorshift64*: the same bytes in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % bound
    }

    /// One to four mutations of a file.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let start = self.below(bytes.len());
            let end = (start + 1 + self.below(200)).min(bytes.len());
            match self.below(6) {
                0 => bytes[start] ^= 1 << self.below(8),
                1 => bytes[start..end].iter_mut().for_each(|byte| *byte = self.below(256) as u8),
                2 => drop(bytes.drain(start..end)),
                3 => bytes.extend_from_within(start..end),
                4 => bytes[start..end].fill(0),
                _ => {
                    let noise: Vec<u8> = self.take(end - start).collect();
                    bytes.splice(start..start, noise);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
    }
}

impl Iterator for Noise {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        Some(self.below(256) as u8)
    }
}

#[test]
fn no_mutation_makes_the_reader_panic_or_invent_events() {
    let folder = tempfile::tempdir().unwrap();
    let mut noise = Noise(0x5eed);
    for name in ["t.jsonl", "t.jsonl.zst"] {
        let path = folder.path().join(name);
        write(&path, &recording());
        let original = fs::read(&path).unwrap();
        let (whole, _) = read(&path);
        let mut damaged = 0;
        for round in 0..1000 {
            let mut bytes = original.clone();
            noise.mutate(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            let (events, damage) = read(&path);
            assert!(events.len() <= whole.len() + 4, "{name}, mutation {round}");
            if let Some(damage) = damage {
                damaged += 1;
                let line = damage.to_string();
                assert!(!line.is_empty() && !line.contains(char::is_control), "{line}");
            } else if name.ends_with(".zst") {
                assert!(whole.starts_with(&events), "mutation {round}: frames have checksums");
            }
        }
        assert!(damaged > 800, "{name}: {damaged} of 1000 mutations were seen");
    }
}
