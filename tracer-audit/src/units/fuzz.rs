//! Damaged files and names: nothing crashes, nothing hangs, no limit is made up.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::settings::{Defaults, Settings};
use super::values::{self, Limit};
use super::{Service, lines, search};
use crate::mutate;
use crate::origin::Notes;
use crate::root::Root;
use crate::system::{earlyoom, sysctl};

const CORPUS: [&str; 7] = [
    include_str!("../../tests/corpus/units/order.tree"),
    include_str!("../../tests/corpus/units/lines.tree"),
    include_str!("../../tests/corpus/units/manager.tree"),
    include_str!("../../tests/corpus/units/sizes.txt"),
    include_str!("../../tests/corpus/units/spans.txt"),
    include_str!("../../tests/fixtures/debian/usr/lib/systemd/system/mariadb.service"),
    "# a\nvm.swappiness = 10\n-vm.over*=1\n;b\nEARLYOOM_ARGS=\"-m 5,2 --prefer '(^|/)php' --avoid=x -s7\"\n",
];

/// What systemd makes something of.
const WORDS: [&str; 13] =
    ["\\\n", "%", "-", "@", "=", "\r", "\u{feff}", "‰", ".5", "E", "/", "'", "0x"];

/// A part of `text`, damaged: most of a file says nothing about the damage to one line of it.
fn damaged(random: &mut fastrand::Rng, text: &str) -> Vec<u8> {
    let begin = random.usize(..text.len());
    let end = (begin + random.usize(1..600)).min(text.len());
    let mut bytes = text.as_bytes()[begin..end].to_vec();
    for _ in 0..random.u8(1..8) {
        if random.u8(..5) == 0 {
            let at = random.usize(..=bytes.len());
            let word = WORDS[random.usize(..WORDS.len())];
            drop(bytes.splice(at..at, word.bytes()));
        } else {
            mutate::mutate(&mut bytes, random);
        }
    }
    bytes
}

fn round(random: &mut fastrand::Rng) {
    let text = CORPUS[random.usize(..CORPUS.len())];
    let bytes = damaged(random, text);
    let file: Arc<Path> = Path::new("/etc/systemd/system/a.service").into();
    let mut with_header = b"[Service]\n".to_vec();
    with_header.extend_from_slice(&bytes);
    for bytes in [&bytes, &with_header] {
        let parsed = lines::parse(bytes, &["Unit", "Service", "Install"]);
        let count = bytes.iter().filter(|byte| b"\n\r\0".contains(byte)).count() as u32 + 1;
        assert!(parsed.assignments.iter().all(|line| (1..=count).contains(&line.line)));
        let mut settings = Settings::new(&Defaults::default());
        settings.apply(&file, &parsed, "Service");
        settings.finish();
        assert!(!matches!(settings.memory_max.value, Limit::Bytes(0 | u64::MAX)));
        assert!((-1000..=1000).contains(&settings.oom_score_adjust.value));
        assert!(settings.faults.len() <= parsed.assignments.len());
        Defaults::default().apply(&file, &lines::parse(bytes, &["Manager"]));
    }
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines() {
        if let Some(Limit::Share(share)) = values::limit(line) {
            assert!((1..=10_000).contains(&share));
            assert!(Limit::Share(share).bytes(u64::MAX, 4096).is_some());
        }
        let _ = (
            values::span_us(line),
            values::boolean(line),
            values::integer(line),
            values::unsigned(line),
        );
        let _ = (Service::of(line), search::is_unit_name(line), super::specifiers(line, line));
        let _ = (super::slices(line), super::slice_path(&super::default_slice(line)));
    }
    let mut options = sysctl::Options::default();
    options.take(&file, &text, &mut Notes::default());
    let _ = (options.get("vm/swappiness"), earlyoom::EarlyOom::of_line(&text));
}

/// A tree of damaged files, links and folders under damaged names.
fn tree(random: &mut fastrand::Rng) {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "php8.3-fpm.service",
        "mariadb@.service",
        "mariadb@x.service",
        "redis.service",
        "a-b-c.service",
        "-.slice",
    ];
    for _ in 0..random.u8(1..12) {
        let unit = names[random.usize(..names.len())];
        let mut name = String::from_utf8_lossy(&damaged(random, unit)).into_owned();
        if random.bool() {
            name = unit.to_owned();
        }
        let path = search::UNIT_PATHS[random.usize(..search::UNIT_PATHS.len())];
        let base = folder.path().join(&path[1..]);
        let path = match random.u8(..4) {
            0 => base.join(format!("{name}.d")).join("10.conf"),
            1 => base.join("multi-user.target.wants").join(&name),
            _ => base.join(&name),
        };
        // What is no name for a file is none for a unit.
        let Some(parent) = path.parent().filter(|_| !name.contains(['\0', '/'])) else {
            continue;
        };
        if fs::create_dir_all(parent).is_err() {
            continue;
        }
        let _ = match random.u8(..5) {
            0 => std::os::unix::fs::symlink(names[random.usize(..names.len())], &path),
            1 => std::os::unix::fs::symlink("../../../../../../dev/null", &path),
            2 => fs::create_dir_all(&path),
            _ => {
                let text = CORPUS[random.usize(..CORPUS.len())];
                fs::write(&path, damaged(random, text))
            }
        };
    }
    let root = Root::new(folder.path()).unwrap();
    let facts = super::read(&root, &[], &mut Notes::default());
    assert!(facts.units.iter().all(|unit| Service::of(&unit.name).is_some()));
    let _ = crate::audit(&root, &Default::default());
}

#[test]
fn fuzz() {
    mutate::fuzz(|random, number| {
        round(random);
        if number.is_multiple_of(100) {
            tree(random);
        }
    });
}
