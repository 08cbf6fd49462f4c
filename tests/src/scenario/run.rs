//! One round of a scenario on the real kernel: what rampage said of it, and the facts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::cast::Cast;
use super::facts::{self, Facts};
use super::said::Said;
use super::sample::{Sample, Sampler};
use super::spec::{Scenario, Start};
use super::stage::Stage;
use super::timeline::{self, Recorder};
use super::truth::Moment;
use crate::clock;
use crate::trace::Trace;
use crate::tracer;

/// A limit is reached when this part of it is used.
const FULL: f64 = 0.97;
/// Between the start of the actors and the timeline.
const PAUSE: Duration = Duration::from_millis(300);

/// What came of a round.
#[derive(Debug)]
pub struct Round {
    /// All that was recorded.
    pub trace: Trace,
    /// Its file, in `folder`.
    pub path: PathBuf,
    /// What rampage said live.
    pub said: Vec<Said>,
    /// What a replay said otherwise; None = the same.
    pub replayed_otherwise: Option<String>,
    /// What is known from outside.
    pub facts: Facts,
    /// Usage and resident memory.
    pub samples: Vec<Sample>,
}

/// Plays it; the trace is written to `folder`.
pub fn round(scenario: &Scenario, folder: &Path) -> Result<Round> {
    let path = folder.join(format!("{}.jsonl", scenario.name));
    let mut stage = Stage::new(scenario)?;
    stage.start_all(scenario, Start::Early)?;
    let mut recorder = Recorder::default();
    if scenario.tracer_at.is_none() {
        recorder.start(&path)?;
    }
    stage.start_all(scenario, Start::Ready)?;
    std::thread::sleep(PAUSE);
    let watched: Vec<_> = stage.cgroups().map(|(_, cgroup)| cgroup).collect();
    let sampler = Sampler::start(stage.cgroup(&scenario.truth.limit)?, &watched);
    let start_ns = clock::boot_ns();
    let moments = timeline::play(scenario, &mut stage, &mut recorder, &path)?;
    let samples = sampler.finish();
    let tracer = recorder.tracer.context("the recorder never ran")?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let replayed_otherwise = differs(&trace, &path)?;

    let mut cast = Cast::of(&trace, &stage.leaders);
    for (name, key) in &stage.workers {
        cast.call(name, *key);
    }
    let cgroups = stage.cgroups().map(|(name, cgroup)| (name.to_owned(), cgroup.path())).collect();
    let (killed, ooms) = facts::killed(&trace, &cast, &cgroups);
    let onset_ns = onset(scenario, start_ns, &moments)?.map(|ns| ns.max(recorder.ready_ns));
    let full = |sample: &&Sample| sample.usage_bytes as f64 >= FULL * sample.limit_bytes as f64;
    let end_ns = samples.last().map_or(start_ns, |sample| sample.t_ns);
    // A kill does the harm; where none comes, the limit that is reached.
    let harm_ns = match (killed.first(), scenario.truth.culprit.is_empty()) {
        (Some(kill), _) => kill.t_ns,
        (None, true) => end_ns,
        (None, false) => samples.iter().find(full).map_or(end_ns, |sample| sample.t_ns),
    };
    let said = Said::in_trace(&trace);
    let facts = Facts { start_ns, onset_ns, harm_ns, cast, cgroups, killed, ooms };
    Ok(Round { trace, path, said, replayed_otherwise, facts, samples })
}

fn onset(scenario: &Scenario, start_ns: u64, moments: &[u64]) -> Result<Option<u64>> {
    Ok(match &scenario.truth.onset {
        None => None,
        Some(Moment::Seconds(second)) => Some(start_ns + (second * 1e9) as u64),
        Some(Moment::Step(name)) => {
            let at = scenario.step.iter().position(|step| step.name.as_ref() == Some(name));
            Some(moments[at.with_context(|| format!("no step is called {name}"))?])
        }
    })
}

/// The first finding in which live and replay differ.
fn differs(trace: &Trace, path: &Path) -> Result<Option<String>> {
    let live = trace.findings_json();
    let replayed = tracer::replay_findings(path)?;
    let first = live.iter().zip(&replayed).find(|(live, replayed)| **live != *replayed);
    if let Some((live, replayed)) = first {
        return Ok(Some(format!("live {live}, replayed {replayed}")));
    }
    let counts = (live.len(), replayed.len());
    Ok((counts.0 != counts.1).then(|| format!("{} findings live, {} replayed", counts.0, counts.1)))
}
