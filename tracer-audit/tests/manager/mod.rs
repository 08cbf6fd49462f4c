//! The real manager, which loads units and dumps what came of them.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use crate::tree::Tree;

/// In namespaces of its own: the files of `$1` where systemd looks for them; no generator adds to them, and
/// what it has to say does not go to the console. The manager refuses to be tested by root, so the last step
/// becomes somebody else.
const SCRIPT: &str = r#"
set -e
mount --bind "$1/etc/systemd" /etc/systemd
mount --bind "$1/run" /run
mount --bind "$1/usr/local/lib" /usr/local/lib
mount --bind "$1/usr/lib/systemd/system" /usr/lib/systemd/system
mount -t tmpfs none /usr/lib/systemd/system-generators
if [ -e /dev/console ]; then mount --bind /dev/null /dev/console; fi
exec unshare --user --map-user=1000 env HOME=/nonexistent SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=warning \
    SYSTEMD_LOG_COLOR=0 SYSTEMD_LOG_LOCATION=0 /lib/systemd/systemd --test --system --unit=all.target
"#;

/// One unit of the manager's dump, and the places of lines that it warned about.
pub type Dump = BTreeMap<String, Vec<(String, String)>>;

/// A file of the corpus: `-- PATH` begins a file, `-- PATH -> TARGET` is a link.
pub fn unpack(text: &str) -> Tree {
    let tree = Tree::new();
    for part in text.split("\n-- ").skip(1) {
        let (head, body) = part.split_once('\n').unwrap_or((part, ""));
        match head.split_once(" -> ") {
            Some((path, target)) => tree.link(path, target),
            None if body.is_empty() => tree.put(head, b""),
            None => tree.put(head, format!("{body}\n").as_bytes()),
        }
    }
    tree
}

/// Loads `units` with the real manager: its dump, and the lines that it passed over.
pub fn dump(tree: &Tree, units: &[String]) -> (Dump, Vec<(String, u32)>) {
    let wants = units.join(" ");
    tree.put("usr/lib/systemd/system/all.target", format!("[Unit]\nWants={wants}\n").as_bytes());
    // Under test it reads the other manager's configuration, in the same way.
    for folder in ["etc", "run", "usr/local/lib"] {
        for (theirs, ours) in [("user.conf", "system.conf"), ("user.conf.d", "system.conf.d")] {
            let folder = tree.folder.path().join(folder).join("systemd");
            if folder.join(ours).exists() {
                symlink(ours, folder.join(theirs)).unwrap();
            }
        }
    }
    let output = tree.apart(SCRIPT);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("-> Unit all.target"), "systemd of Debian's package systemd: {errors}");
    let mut dump = Dump::new();
    let mut unit = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("\t-> Unit ") {
            unit = name.trim_end_matches(':').to_owned();
        } else if let Some((key, value)) = line.trim().split_once(": ") {
            dump.entry(unit.clone()).or_default().push((key.to_owned(), value.trim().to_owned()));
        }
    }
    let passed_over = errors.lines().filter_map(|line| {
        let (file, rest) = line.split_once(':')?;
        let (number, _) = rest.split_once(':')?;
        Some((
            file.replacen("/lib/", "/usr/lib/", usize::from(file.starts_with("/lib/"))),
            number.parse().ok()?,
        ))
    });
    (dump, passed_over.collect())
}

/// A field of a unit; empty where the dump has none.
pub fn get<'a>(fields: &'a [(String, String)], key: &str) -> &'a str {
    fields.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
}
