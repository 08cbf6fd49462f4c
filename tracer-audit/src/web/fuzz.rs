//! Hostile files: whatever they hold, reading them ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::apache::mpm::Mpm;
use super::{apache, nginx};
use crate::{Notes, Root};

#[test]
fn fuzz() {
    let seconds = std::env::var("RAMPAGE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end =
        Instant::now() + Duration::from_millis(seconds.map_or(1500, |seconds: u64| seconds * 1000));
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/web");
    let texts = |name: &str| -> Vec<String> {
        let entries = fs::read_dir(corpus.join(name)).unwrap();
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    };
    let (apaches, nginxes) = (texts("apache"), texts("nginx"));
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new(folder.path()).unwrap();
    fs::write(folder.path().join("part"), "Include main\n").unwrap();
    let conf = Path::new("/main");
    let environment = BTreeMap::from([("X".to_owned(), "5".to_owned())]);
    let mut rounds = 0_u64;
    while Instant::now() < end {
        let of_apache = rng.bool();
        let texts = if of_apache { &apaches } else { &nginxes };
        let text = texts[rng.usize(..texts.len())].replace("@DIR@/", "");
        let mut text = text.replace("=== ", "# ").into_bytes();
        for _ in 0..rng.usize(1..8) {
            crate::mutate::mutate(&mut text, &mut rng);
        }
        fs::write(folder.path().join("main"), &text).unwrap();
        let started = Instant::now();
        let mut notes = Notes::default();
        if of_apache {
            let config = apache::read::Config::read(&root, conf, &environment, &mut notes);
            Mpm::of(&config);
        } else {
            nginx::read::Config::read(&root, conf, &mut notes);
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
