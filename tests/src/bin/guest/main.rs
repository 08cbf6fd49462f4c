//! Runs tests one by one, each a process of its own, and says how each went: one JSON object a line.
//!
//! As the first process of a virtual machine it sets the machine up first, talks through its
//! console, and switches off at the end; `guest PLAN` does the same work in a machine that runs
//! already, and talks to standard output. The other side is `cargo xtask vm`.

mod machine;
mod order;
mod run;

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::order::{Plan, Said};

fn main() -> Result<()> {
    if std::process::id() == 1 {
        machine::live();
    }
    let path = std::env::args_os().nth(1).context("usage: guest PLAN")?;
    let mut out = std::io::stdout().lock();
    let plan = read(Path::new(&path))?;
    run::all(&plan, &mut out)?;
    say(&mut out, &Said::Finished {})
}

fn read(path: &Path) -> Result<Plan> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Writes one line.
fn say(out: &mut impl Write, said: &Said) -> Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    out.write_all(&line).and_then(|()| out.flush()).context("saying it")
}
