//! Hostile files: whatever they hold, reading them ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::apache::mpm::Mpm;
use super::{apache, nginx};
use crate::mutate::{self, mutate};
use crate::{Notes, Root};

#[test]
fn fuzz() {
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
    mutate::fuzz(|rng, _| {
        let of_apache = rng.bool();
        let texts = if of_apache { &apaches } else { &nginxes };
        let text = texts[rng.usize(..texts.len())].replace("@DIR@/", "");
        let mut text = text.replace("=== ", "# ").into_bytes();
        for _ in 0..rng.usize(1..8) {
            mutate(&mut text, rng);
        }
        fs::write(folder.path().join("main"), &text).unwrap();
        let mut notes = Notes::default();
        if of_apache {
            let config = apache::read::Config::read(&root, conf, &environment, &mut notes);
            Mpm::of(&config);
        } else {
            nginx::read::Config::read(&root, conf, &mut notes);
        }
    });
}
