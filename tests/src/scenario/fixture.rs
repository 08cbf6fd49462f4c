//! Recorded scenarios: `traces/NAME.jsonl.zst` with the facts beside it in `traces/NAME.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rampage::pipeline::Pipeline;
use rampage::trace::lines;

use super::facts::Facts;
use super::run::Round;
use super::said::{Collected, Said};
use super::score::{self, Score};
use super::spec::Scenario;
use super::thin;

/// Slow to write, small to keep.
const LEVEL: i32 = 19;

/// What a fixture says of how it was made.
#[derive(Debug)]
pub struct Blessed {
    /// Size of the trace, compressed.
    pub bytes: usize,
    /// The thinned trace scored otherwise, so that all of it was kept.
    pub is_whole: bool,
}

/// Keeps a round; thinned, where that scores the same.
pub fn bless(scenario: &Scenario, round: &Round, folder: &Path) -> Result<Blessed> {
    let live = score::score(&scenario.truth, &round.facts, &round.said);
    let text = |lines: &[&crate::trace::Line]| -> String {
        lines.iter().map(|line| format!("{}\n", line.json)).collect()
    };
    let thinned = text(&thin::thin(&round.trace, &round.facts));
    let again = score::score(&scenario.truth, &round.facts, &replay(&thinned)?);
    let is_whole = serde_json::to_value(&again)? != serde_json::to_value(&live)?;
    let all: Vec<_> = round.trace.lines.iter().collect();
    let kept = if is_whole { text(&all) } else { thinned };
    let packed = zstd::encode_all(kept.as_bytes(), LEVEL)?;
    fs::create_dir_all(folder)?;
    let (trace, facts) = paths(folder, &scenario.name);
    fs::write(&trace, &packed).with_context(|| trace.display().to_string())?;
    let json = serde_json::to_string(&round.facts)? + "\n";
    fs::write(&facts, json).with_context(|| facts.display().to_string())?;
    Ok(Blessed { bytes: packed.len(), is_whole })
}

/// Replays and scores a fixture; None = there is none.
pub fn score_recorded(scenario: &Scenario, folder: &Path) -> Result<Option<Score>> {
    let (trace, facts) = paths(folder, &scenario.name);
    if !trace.exists() {
        return Ok(None);
    }
    let packed = fs::read(&trace).with_context(|| trace.display().to_string())?;
    let text = String::from_utf8(zstd::decode_all(packed.as_slice())?)?;
    let json = fs::read_to_string(&facts).with_context(|| facts.display().to_string())?;
    let facts: Facts = serde_json::from_str(&json)?;
    Ok(Some(score::score(&scenario.truth, &facts, &replay(&text)?)))
}

/// What the pipeline says of a trace.
fn replay(text: &str) -> Result<Vec<Said>> {
    let mut collected = Collected::default();
    let mut pipeline = Pipeline::new(vec![&mut collected]);
    for line in text.lines() {
        pipeline.feed(&lines::decode(line.as_bytes()).with_context(|| line.to_owned())?)?;
    }
    pipeline.finish("end of input")?;
    drop(pipeline);
    Ok(collected.0)
}

fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.jsonl.zst")), folder.join(format!("{name}.json")))
}
