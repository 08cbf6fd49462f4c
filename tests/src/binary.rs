//! Where the programs under test are: the release build of `rampage` and this crate's `hog`.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// `$RAMPAGE_BIN`, or `release/rampage` in the target folder of this test.
pub fn rampage() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RAMPAGE_BIN") {
        let path = PathBuf::from(path);
        anyhow::ensure!(path.is_file(), "RAMPAGE_BIN={} is no file", path.display());
        return Ok(path);
    }
    let test = std::env::current_exe()?;
    test.ancestors()
        .map(|folder| folder.join("release/rampage"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no release/rampage in a folder above {}: run `cargo build --release` first, or \
                 name the binary in RAMPAGE_BIN",
                test.display()
            )
        })
}

/// The hog that cargo built beside this test.
pub fn hog() -> Result<PathBuf> {
    named("hog")
}

/// A program of this crate that cargo built beside this test.
pub fn named(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    test.ancestors()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} in a folder above {}", test.display()))
}
