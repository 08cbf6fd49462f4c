//! What each tested kernel offers rampage, as recorded in `tests/kernels/`: reads the records,
//! holds new ones against them, and writes docs/kernel-support.md. Recording is the work of
//! `kernel_facts` (`tests/src/bin/`) inside of the guests.

mod compare;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

pub use table::render;

/// Files of a record.
const FILES: [&str; 2] = ["btf.zst", "support.json"];

/// A kernel's support.json.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Support {
    arch: String,
    facts: Facts,
    hooks: Vec<Hook>,
    lower_hooks: Vec<Hook>,
    programs: BTreeMap<String, Instructions>,
    release: String,
}

/// Those facts that the table shows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Facts {
    kprobes: bool,
    fentry: bool,
}

/// A hook as the doctor found it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Hook {
    mechanism: String,
    name: String,
    reason: String,
    state: String,
}

/// Size of a program, instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Instructions {
    translated: Option<u32>,
    verified: Option<u32>,
}

impl Instructions {
    /// What is held to the budget.
    fn held(self) -> Option<u32> {
        self.verified.or(self.translated)
    }
}

/// Records by their name, oldest kernel first.
type Records = BTreeMap<Name, Support>;

/// Name of a record: a version (`6.12`), or a word, which stands behind all versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// Parts of the version; a word has none, and a number above all versions in their place.
    version: Vec<u32>,
    text: String,
}

impl Name {
    fn new(text: &str) -> Self {
        let version = text.split('.').map(str::parse).collect::<Result<_, _>>();
        Self { version: version.unwrap_or_else(|_| vec![u32::MAX]), text: text.to_owned() }
    }
}

/// Reads all records of a folder; it must have one.
fn read(folder: &Path) -> anyhow::Result<Records> {
    let mut records = Records::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path().join("support.json");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let support = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        records.insert(Name::new(&entry.file_name().to_string_lossy()), support);
    }
    ensure!(!records.is_empty(), "{} has no record of a kernel", folder.display());
    Ok(records)
}

/// Holds the records in `new_dir` against those in `old_dir` and prints what changed. Fails on any
/// complaint ([`compare::complaints`]); with `bless` there are none: the new records are taken over and
/// `docs_path` is written from them.
pub fn execute(
    old_dir: &Path,
    new_dir: &Path,
    docs_path: &Path,
    bless: bool,
) -> anyhow::Result<()> {
    let new = read(new_dir)?;
    // The first blessing has nothing to be held against.
    let changes = match bless && !old_dir.is_dir() {
        true => Vec::new(),
        false => compare::changes(&read(old_dir)?, &new),
    };
    print!("{}", compare::table(&changes));
    if bless {
        fs::create_dir_all(old_dir).with_context(|| old_dir.display().to_string())?;
        take_over(&new, new_dir, old_dir)?;
        return fs::write(docs_path, render(old_dir)?)
            .with_context(|| docs_path.display().to_string());
    }
    let complaints = compare::complaints(&changes);
    if complaints.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nwhat is meant to be so is recorded by `cargo xtask verifier --bless`",
        complaints.join("\n")
    )
}

/// Copies records.
fn take_over(records: &Records, from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in records.keys() {
        let (from, to) = (from.join(&name.text), to.join(&name.text));
        fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
        for file in FILES {
            fs::copy(from.join(file), to.join(file))
                .with_context(|| format!("copying {}", from.join(file).display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_in_the_order_of_their_versions() {
        let mut names = ["newest", "6.12", "5.10", "6.1"].map(Name::new);
        names.sort();
        assert_eq!(names.map(|name| name.text), ["5.10", "6.1", "6.12", "newest"]);
    }

    #[test]
    fn the_documentation_is_that_of_the_records() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let kernels = root.join("tests/kernels");
        let written = fs::read_to_string(root.join("docs/kernel-support.md")).unwrap();
        assert!(
            written == render(&kernels).unwrap(),
            "docs/kernel-support.md is not made from tests/kernels: `cargo xtask verifier --bless`"
        );
        // Nothing is to complain of a record beside itself.
        let records = read(&kernels).unwrap();
        assert!(compare::changes(&records, &records).is_empty());
    }
}
