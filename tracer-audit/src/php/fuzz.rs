//! Hostile files: whatever they hold, reading and judging them ends.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::ini::{Reader, Statement, parse, quantity};
use crate::observed::Observed;
use crate::{Root, audit};

/// Takes everything, and stands for no variable.
struct Sink;

impl Reader for Sink {
    fn variable(&mut self, name: &str, _line: u32) -> String {
        name.to_owned()
    }

    fn statement(&mut self, line: u32, statement: Statement) -> bool {
        assert!(line > 0, "{statement:?}");
        true
    }
}

#[test]
fn fuzz() {
    let seconds = std::env::var("RAMPAGE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end =
        Instant::now() + Duration::from_millis(seconds.map_or(1500, |seconds: u64| seconds * 1000));
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/php");
    let mut texts: Vec<Vec<u8>> = fs::read_dir(corpus.join("fpm"))
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let values = fs::read_to_string(corpus.join("ini/memory_limit.values")).unwrap();
    texts.push(
        values.lines().map(|value| format!("memory_limit = {value}\n")).collect::<String>().into(),
    );
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc/php/8.2/fpm");
    fs::create_dir_all(&etc).unwrap();
    fs::create_dir_all(folder.path().join("proc")).unwrap();
    fs::write(folder.path().join("proc/meminfo"), "MemTotal: 1048576 kB\n").unwrap();
    let root = Root::new(folder.path()).unwrap();
    let mut rounds = 0_u64;
    while Instant::now() < end {
        let mut text = texts[rng.usize(..texts.len())].clone();
        for _ in 0..rng.usize(1..8) {
            crate::mutate::mutate(&mut text, &mut rng);
        }
        let started = Instant::now();
        parse(&text, &mut Sink);
        let line = String::from_utf8_lossy(&text);
        quantity::parse(&line, None);
        quantity::parse(&line, Some(super::Version::new(7, 4)));
        // The whole way costs some system calls: not each time.
        if rounds.is_multiple_of(16) {
            let [conf, ini] =
                if rng.bool() { ["php-fpm.conf", "php.ini"] } else { ["php.ini", "php-fpm.conf"] };
            let text = String::from_utf8_lossy(&text).replace("@DIR@", "/etc/php/8.2/fpm");
            fs::write(etc.join(conf), text.replace("=== ", "; ")).unwrap();
            if rng.bool() {
                fs::write(etc.join(ini), &text).unwrap();
            }
            let report = audit(&root, &Observed::default());
            for finding in &report.findings {
                assert!(finding.summary.len() < 20_000, "seed {seed}: {}", finding.summary.len());
            }
        }
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "seed {seed} round {rounds} takes too long"
        );
        rounds += 1;
    }
    assert!(rounds > 100, "only {rounds} rounds");
    println!("{rounds} rounds, seed {seed}");
}
