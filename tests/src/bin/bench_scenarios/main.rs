//! `cargo xtask bench scenarios`: plays scenarios of tests/scenarios on this kernel and scores what
//! rampage said of them, beside what others would have said. Ends with 1 when one fails.

mod earlyoom;
mod options;
mod play;
mod report;
mod table;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use tests::scenario::spec;

use earlyoom::EarlyOom;
use options::Options;

fn main() -> Result<ExitCode> {
    let options = Options::of(std::env::args().skip(1))?;
    let mut scenarios = spec::all(&spec::folder())?;
    if !options.only.is_empty() {
        for name in &options.only {
            ensure!(scenarios.iter().any(|s| s.name == *name), "no scenario is called {name}");
        }
        scenarios.retain(|scenario| options.only.contains(&scenario.name));
    }
    let earlyoom = EarlyOom::start()?;
    let rows = play::all(&scenarios, &options, &earlyoom)?;
    table::print(&rows);
    if let Some(path) = &options.json {
        report::write(&rows, path)?;
    }
    let failed = rows.iter().filter(|row| row.is_bad()).count();
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
