//! Whatever a file holds, the loader comes back with settings or with problems that have a line.

use std::path::Path;
use std::time::Instant;

use super::sample::tests::uncommented;
use super::{SettingsError, parse, show};

/// Files that are tried, unless `$RAMPAGE_FILES` says how many.
const FILES: u32 = 4_000;
/// Pieces that mean something to TOML or to a key.
const PIECES: [&str; 40] = [
    "\n",
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    ".",
    ",",
    "{",
    "}",
    "#",
    "\\",
    "\\u0000",
    "\\U0010FFFF",
    "\r",
    "\0",
    "\u{7f}",
    "\u{202e}",
    "é",
    "\u{feff}",
    "-1",
    "0",
    "64MB",
    "\"64MiB\"",
    "99999999999999999999",
    "1e400",
    "nan",
    "true",
    "1979-05-27T07:32:00Z",
    "[watch]\n",
    "[[pool]]\n",
    "name = \"a\"\n",
    "watch.step = \"1M\"\n",
    "headers = { a = \"b\" }\n",
    "\"0s\"",
    "_",
];

/// Marsaglia's xorshift: the same files each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// Some tables of the sample with some of their keys, changed in a few places.
fn file(tables: &[Vec<&str>], random: &mut Random) -> Vec<u8> {
    const REQUIRED: [&str; 5] = ["[", "name", "url", "endpoint", "run"];
    let mut file = Vec::new();
    for _ in 0..random.below(4) {
        let table = &tables[random.below(tables.len())];
        let share = random.below(6);
        for line in table {
            let is_required = REQUIRED.iter().any(|begin| line.starts_with(begin));
            if is_required || random.below(6) < share {
                file.extend_from_slice(line.as_bytes());
                file.push(b'\n');
            }
        }
    }
    if random.below(4) == 0 {
        file.truncate(random.below(file.len() + 1));
    }
    for _ in 0..random.below(4) {
        let at = random.below(file.len() + 1);
        let until = (at + random.below(12)).min(file.len());
        match random.below(6) {
            0 => drop(file.drain(at..until)),
            1 => file.insert(at, random.below(256) as u8),
            2 => {
                let copied = file[at..until].to_vec();
                let to = random.below(file.len() + 1);
                drop(file.splice(to..to, copied));
            }
            3 => {
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())].as_bytes();
                drop(file.splice(at..until, piece.iter().copied()));
            }
        }
    }
    file
}

#[test]
fn any_file_is_settings_or_problems_with_their_lines() {
    let began = Instant::now();
    let sample = uncommented();
    let mut tables: Vec<Vec<&str>> = Vec::new();
    for line in sample.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if line.starts_with('[') {
            tables.push(Vec::new());
        }
        tables.last_mut().unwrap().push(line);
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut good, mut wrong) = (0, 0);
    let files = std::env::var("RAMPAGE_FILES").map_or(FILES, |text| text.parse().unwrap());
    for number in 0..files {
        let file = file(&tables, &mut random);
        let say = || format!("file {number}: {:?}", String::from_utf8_lossy(&file));
        match parse(Path::new("f"), &file) {
            Ok(loaded) => {
                good += 1;
                // Without secrets, what is shown is what is in force.
                let alerts = &loaded.settings.alerts;
                if alerts.webhook.is_empty() && alerts.otlp.is_empty() {
                    let again = parse(Path::new("g"), show(&loaded).as_bytes());
                    let again = again.unwrap_or_else(|error| panic!("{}: {error:#?}", say()));
                    assert_eq!(again.settings, loaded.settings, "{}", say());
                }
            }
            Err(SettingsError::Invalid { problems }) => {
                wrong += 1;
                assert!((1..=201).contains(&problems.len()), "{}", say());
                let most = 1 + file.iter().filter(|byte| **byte == b'\n').count() as u32;
                for problem in &problems {
                    assert!((1..=most).contains(&problem.line), "{problem}: {}", say());
                    let text = problem.to_string();
                    assert!(text.starts_with(&format!("f:{}: ", problem.line)), "{text}");
                    assert!(!text.contains(char::is_control) && text.len() < 1000, "{text:?}");
                    assert!(!text.contains("TOML that can be read"), "{text}: {}", say());
                }
            }
            Err(error) => panic!("{error}: {}", say()),
        }
    }
    println!("{good} files good, {wrong} wrong, in {:.1} s", began.elapsed().as_secs_f64());
    assert!(good > files / 5 && wrong > files / 5, "{good} good, {wrong} wrong");
}
