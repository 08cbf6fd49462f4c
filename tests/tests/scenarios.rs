//! Recorded scenarios through today's model and detectors, against their truth; and, in guests, the
//! scenarios that need what this host lacks.

use anyhow::{Result, ensure};
use tests::needs;
use tests::scenario::{fixture, run, score, spec};

/// Played in guests, and not recorded: they need what the host of the fixtures lacks.
const GUESTS_ONLY: [&str; 5] =
    ["group-kill", "memory-high", "protected-culprit", "swap-fills", "swap-full"];

#[test]
fn recorded_scenarios_are_judged_by_the_truth() -> Result<()> {
    let folder = spec::folder();
    let (mut scored, mut failed) = (0, Vec::new());
    for scenario in spec::all(&folder)? {
        let Some(score) = fixture::score_recorded(&scenario, &folder.join("traces"))? else {
            let name = &*scenario.name;
            ensure!(GUESTS_ONLY.contains(&name), "{name} has no fixture");
            continue;
        };
        scored += 1;
        if !score.is_ok() {
            let why = score.broken.into_iter().chain(score.failures).collect::<Vec<_>>();
            failed.push(format!("{}: {}", scenario.name, why.join("; ")));
        }
    }
    ensure!(scored > 0, "no scenario has a fixture");
    println!("{} of {scored} right", scored - failed.len());
    ensure!(failed.is_empty(), "{} of {scored} fail:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// Plays one scenario on this kernel.
fn play(text: &str, name: &str) -> Result<()> {
    let scenario = spec::Scenario::parse(name, text)?;
    let lacks = scenario.lacks();
    ensure!(lacks.is_empty(), "{name} needs {}, too: name it in needs!", lacks.join(", "));
    let folder = tempfile::tempdir()?;
    let round = run::round(&scenario, folder.path())?;
    let score = score::score(&scenario.truth, &round.facts, &round.said);
    let otherwise = round.replayed_otherwise.unwrap_or_default();
    ensure!(otherwise.is_empty(), "a replay says otherwise: {otherwise}");
    ensure!(score.is_ok(), "{name}: {:?} {:?}", score.broken, score.failures);
    Ok(())
}

macro_rules! play {
    ($name:literal) => {
        play(include_str!(concat!("../scenarios/", $name, ".toml")), $name)
    };
}

#[test]
fn a_group_kill() -> Result<()> {
    needs!(Btf, CgroupV2);
    play!("group-kill")
}

#[test]
fn memory_high_throttles() -> Result<()> {
    needs!(Btf, CgroupV2);
    play!("memory-high")
}

#[test]
fn growth_into_swap() -> Result<()> {
    needs!(Btf, CgroupV2, Swap);
    play!("swap-fills")
}

#[test]
fn swap_that_is_full() -> Result<()> {
    needs!(Btf, CgroupV2, Swap);
    play!("swap-full")
}

#[test]
fn a_culprit_that_is_protected() -> Result<()> {
    needs!(Btf, LowerAdj);
    play!("protected-culprit")
}
