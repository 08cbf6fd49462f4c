//! Hostile redis.conf: whatever it holds, reading and judging it ends.

use std::fs;
use std::path::Path;

use super::config::Config;
use super::{directives, line};
use crate::mutate::{self, mutate};
use crate::observed::Observed;
use crate::{Notes, Root, audit};

const STATUS: &str = "Package: redis-server\nStatus: install ok installed\nVersion: 5:7.0.15-1\n";

#[test]
fn fuzz() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/redis/cases.txt");
    let corpus = fs::read_to_string(corpus).unwrap().replace("@DIR@", "/etc/redis");
    let texts: Vec<&str> = corpus.split("==> ").skip(1).collect();
    let folder = tempfile::tempdir().unwrap();
    for path in ["etc/redis/conf.d", "proc", "var/lib/dpkg"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    fs::write(folder.path().join("proc/meminfo"), "MemTotal: 1048576 kB\n").unwrap();
    fs::write(folder.path().join("var/lib/dpkg/status"), STATUS).unwrap();
    let root = Root::new(folder.path()).unwrap();
    let files =
        ["redis.conf", "redis.conf", "redis-b.conf", "more.conf", "a.conf", "conf.d/b.conf"];
    mutate::fuzz(|rng, round| {
        let text = texts[rng.usize(..texts.len())];
        let mut text = text.split_once('\n').unwrap_or_default().1.as_bytes().to_vec();
        for _ in 0..rng.usize(1..8) {
            mutate(&mut text, rng);
        }
        for words in text.split(|&byte| byte == b'\n').filter_map(line::words) {
            let words: Vec<String> =
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            let Some(first) = words.first() else { continue };
            let directive = directives::find(first)
                .unwrap_or_else(|| &directives::all()[rng.usize(..directives::all().len())]);
            for word in &words {
                let _ = directive.kind.value(word);
            }
        }
        // The whole way costs some system calls: not each time.
        if round.is_multiple_of(8) {
            let path = folder.path().join("etc/redis").join(files[rng.usize(..files.len())]);
            fs::write(&path, &text).unwrap();
            let args = [String::from_utf8_lossy(&text).into_owned()];
            Config::read(&root, Some(&path), &args, rng.bool(), &mut Notes::default());
            audit(&root, &Observed::default());
        }
    });
}
