//! Hostile option files: whatever they hold, reading and judging them ends.

use std::fs;
use std::path::Path;

use super::{option_file, options, variables};
use crate::mutate::{self, mutate};
use crate::observed::Observed;
use crate::{Root, audit};

const STATUS: &str =
    "Package: mariadb-server\nStatus: install ok installed\nVersion: 1:10.11.19-0+deb12u1\n";

#[test]
fn fuzz() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/mysql/cases.txt");
    let corpus = fs::read_to_string(corpus).unwrap().replace("@DIR@", "/etc/mysql");
    let texts: Vec<&str> = corpus.split("==> ").skip(1).collect();
    let folder = tempfile::tempdir().unwrap();
    for path in
        ["etc/mysql/conf.d", "etc/mysql/more.d", "etc/mysql/mysql.conf.d", "proc", "var/lib/dpkg"]
    {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    fs::write(folder.path().join("proc/meminfo"), "MemTotal: 1048576 kB\n").unwrap();
    fs::write(folder.path().join("var/lib/dpkg/status"), STATUS).unwrap();
    let root = Root::new(folder.path()).unwrap();
    let files = ["my.cnf", "other.cnf", "conf.d/a.cnf", "more.d/x.cnf", "mysql.conf.d/dead.cnf"];
    mutate::fuzz(|rng, round| {
        let text = texts[rng.usize(..texts.len())];
        let mut text = text.split_once('\n').unwrap_or_default().1.as_bytes().to_vec();
        for _ in 0..rng.usize(1..8) {
            mutate(&mut text, rng);
        }
        for entry in option_file::parse(&text) {
            if let option_file::What::Option(option) = entry.what {
                let _ = options::resolve(&option, rng.bool());
                let _ = variables::number(option.split('=').next_back().unwrap_or_default());
            }
        }
        // The whole way costs some system calls: not each time.
        if round.is_multiple_of(8) {
            let path = folder.path().join("etc/mysql").join(files[rng.usize(..files.len())]);
            fs::write(&path, &text).unwrap();
            let report = audit(&root, &Observed::default());
            assert!(report.budget.worst_bytes(crate::Subject::Mysql).is_some());
            if rng.u8(..) == 0 {
                fs::remove_file(&path).unwrap();
            }
        }
    });
}
