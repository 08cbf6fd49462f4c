//! Hostile files: whatever they hold, reading and judging them ends.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::ini::{Reader, Statement, parse, quantity};
use crate::mutate::{self, mutate};
use crate::observed::Observed;
use crate::{Root, audit};

/// Takes everything, and stands for no variable.
struct Sink;

impl Reader for Sink {
    fn has_fallbacks(&self) -> bool {
        true
    }

    fn variable(&mut self, name: &str, fallback: Option<&str>, _line: u32) -> String {
        fallback.unwrap_or(name).to_owned()
    }

    fn statement(&mut self, line: u32, statement: Statement) -> bool {
        assert!(line > 0, "{statement:?}");
        true
    }
}

#[test]
fn fuzz() {
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
    mutate::fuzz(|rng, round| {
        let mut text = texts[rng.usize(..texts.len())].clone();
        for _ in 0..rng.usize(1..8) {
            mutate(&mut text, rng);
        }
        if rng.bool() {
            let at = rng.usize(..=text.len());
            text.splice(at..at, *b"${a:-${b:-\"c\"}d}");
        }
        parse(&text, &mut Sink);
        let line = String::from_utf8_lossy(&text);
        quantity::parse(&line, None);
        quantity::parse(&line, Some(super::Version::new(7, 4)));
        // The whole way costs some system calls: not each time.
        if round.is_multiple_of(16) {
            let [conf, ini] =
                if rng.bool() { ["php-fpm.conf", "php.ini"] } else { ["php.ini", "php-fpm.conf"] };
            let text = String::from_utf8_lossy(&text).replace("@DIR@", "/etc/php/8.2/fpm");
            fs::write(etc.join(conf), text.replace("=== ", "; ")).unwrap();
            if rng.bool() {
                fs::write(etc.join(ini), &text).unwrap();
            }
            let report = audit(&root, &Observed::default());
            for finding in &report.findings {
                assert!(finding.summary.len() < 2000, "{}", finding.summary.len());
            }
        }
    });
}

#[test]
fn files_of_many_lines_end() {
    // The largest that is read; without optimisation that would take minutes.
    let most = if cfg!(debug_assertions) { 128 << 10 } else { 4 << 20 };
    let many = |line: &dyn Fn(u32) -> String| -> String {
        let lines = (0..1_000_000).map(line);
        lines
            .scan(0, |len, line| {
                *len += line.len();
                (*len < most).then_some(line)
            })
            .collect()
    };
    let texts = [
        many(&|number| format!("[{number}]\n")),
        many(&|_| "[a]\n".to_owned()),
        many(&|_| "#\n".to_owned()),
        "[a]\n".to_owned() + &many(&|number| format!("php_value[{number}]=1\n")),
        many(&|number| format!("{number}=1\n")),
        many(&|_| "include=/etc/php/8.2/fpm/php-fpm.conf\n".to_owned()),
        many(&|_| "((((".to_owned()),
        many(&|_| "a=${b".to_owned()),
        "a=".to_owned() + &many(&|_| "${b:-".to_owned()),
        "[PATH=/a]\n".to_owned() + &many(&|_| "memory_limit=2G\n".to_owned()),
        "events {}\n".to_owned() + &many(&|_| "fastcgi_pass php;\n".to_owned()),
        many(&|_| "a{".to_owned()),
        "[a]\nphp_value[memory_limit]=x".to_owned() + &many(&|_| "x".to_owned()),
        "[a]\npm.max_children=x".to_owned() + &many(&|_| "x".to_owned()),
        "memory_limit=x".to_owned() + &many(&|_| "x".to_owned()),
        "[x".to_owned() + &many(&|_| "x".to_owned()) + "]\n",
        "<x".to_owned() + &many(&|_| "x".to_owned()) + ">\n",
        many(&|_| "<IfModule core.c>\n".to_owned()),
        many(&|_| "Include *\n".to_owned()),
        many(&|_| "a \\\n".to_owned()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let paths = [
        "php/8.2/fpm/php-fpm.conf",
        "php/8.2/fpm/php.ini",
        "nginx/nginx.conf",
        "apache2/apache2.conf",
    ];
    let paths = paths.map(|path| folder.path().join("etc").join(path));
    let root = Root::new(folder.path()).unwrap();
    for text in texts {
        for path in &paths {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &text).unwrap();
        }
        let started = Instant::now();
        let report = audit(&root, &Observed::default());
        let took = started.elapsed();
        assert!(report.findings.len() < 5000);
        let longest = report.findings.iter().map(|finding| finding.summary.len()).max();
        assert!(longest < Some(2000), "{longest:?} for {:?}", &text[..20]);
        assert!(took < Duration::from_secs(20), "{took:?} for {:?}", &text[..20]);
    }
}
