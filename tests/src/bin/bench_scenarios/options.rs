//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "usage: bench_scenarios [--only NAME…] [--jobs N] [--rounds N] [--keep DIR] \
                     [--json FILE] [--bless]";

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// Names; empty = all.
    pub only: Vec<String>,
    /// Scenarios at a time.
    pub jobs: usize,
    /// How often each is played.
    pub rounds: usize,
    /// Where traces are kept.
    pub keep: Option<PathBuf>,
    /// Where the results are written.
    pub json: Option<PathBuf>,
    /// The traces become fixtures.
    pub bless: bool,
}

impl Options {
    /// Reads it.
    pub fn of(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options =
            Self { only: Vec::new(), jobs: 1, rounds: 1, keep: None, json: None, bless: false };
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match &*word {
                "--jobs" => options.jobs = value()?.parse().context("--jobs")?,
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--keep" => options.keep = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--bless" => options.bless = true,
                "--only" => {
                    while let Some(name) = words.next_if(|word| !word.starts_with("--")) {
                        options.only.push(name);
                    }
                    ensure!(!options.only.is_empty(), "--only needs a name");
                }
                _ => bail!("{word}: {USAGE}"),
            }
        }
        ensure!(options.jobs > 0 && options.rounds > 0, "{USAGE}");
        Ok(options)
    }
}
