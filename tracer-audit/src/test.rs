//! What the unit tests of several subjects share.

use std::fs;

use crate::{Finding, Root};

/// A file system with these files.
pub fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = Root::new(folder.path()).unwrap();
    (folder, root)
}

/// Files in one text: `-- PATH` begins one.
pub fn files(text: &str) -> Vec<(&str, &str)> {
    text.split("-- ").skip(1).map(|part| part.split_once('\n').unwrap()).collect()
}

/// The only finding of a kind.
pub fn one<'a>(found: &'a [Finding], kind: &str) -> &'a Finding {
    let mut own = found.iter().filter(|finding| finding.kind == kind);
    let first = own.next().unwrap_or_else(|| panic!("no {kind} in {found:#?}"));
    assert_eq!(own.next(), None);
    first
}

/// Where a change is made, and the line.
pub fn to(finding: &Finding) -> String {
    let change = finding.change.as_ref().unwrap();
    format!("{} {}", change.at, change.to)
}
