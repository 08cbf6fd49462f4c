//! Plays scenarios, several at a time, each in its own cgroups with its own recorder.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::Serialize;
use tests::scenario::fixture;
use tests::scenario::others::{self, Other};
use tests::scenario::run::{self, Round};
use tests::scenario::score::{self, Score};
use tests::scenario::spec::{self, Half, Scenario};

use crate::earlyoom::EarlyOom;
use crate::options::Options;

/// A round that did not go as the truth has it says nothing: it is played again so often.
const TRIES: usize = 2;

/// What came of one scenario in one round.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name.
    pub name: String,
    /// It is of the half that rules are tuned on.
    pub is_for_rules: bool,
    /// From 1.
    pub round: usize,
    /// Why it was not played.
    pub skipped: Option<String>,
    /// Why it could not be played.
    pub error: Option<String>,
    /// The score.
    pub score: Option<Score>,
    /// earlyoom, threshold, polling.
    pub others: [Other; 3],
}

impl Row {
    fn new(scenario: &Scenario, round: usize) -> Self {
        Self {
            name: scenario.name.clone(),
            is_for_rules: scenario.half == Half::Rules,
            round,
            skipped: None,
            error: None,
            score: None,
            others: [Other::default(); 3],
        }
    }

    /// It failed.
    pub fn is_bad(&self) -> bool {
        self.error.is_some() || self.score.as_ref().is_some_and(|score| !score.is_ok())
    }

    /// One line about it.
    pub fn outcome(&self) -> String {
        if let Some(lack) = &self.skipped {
            return format!("skipped: needs {lack}, which this host lacks");
        }
        if let Some(error) = &self.error {
            return format!("ERROR {error}");
        }
        match &self.score {
            Some(Score { broken: Some(why), .. }) => format!("BROKEN {why}"),
            Some(score) if !score.is_ok() => format!("FAIL {}", score.failures.join("; ")),
            _ => "ok".to_owned(),
        }
    }
}

/// Plays them all; rows in the order of scenarios and rounds.
pub fn all(scenarios: &[Scenario], options: &Options, earlyoom: &EarlyOom) -> Result<Vec<Row>> {
    let rounds =
        (1..=options.rounds).flat_map(|round| (0..scenarios.len()).map(move |at| (at, round)));
    let queue: Mutex<VecDeque<(usize, usize)>> = Mutex::new(rounds.collect());
    let rows = Mutex::new(Vec::new());
    let total = scenarios.len() * options.rounds;
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((at, round)) = next else { return };
                    let row = one(&scenarios[at], round, options, earlyoom);
                    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                    rows.push((at, row));
                    let (_, row) = &rows[rows.len() - 1];
                    let number =
                        if options.rounds > 1 { format!(" round {round}") } else { String::new() };
                    eprintln!("[{}/{total}] {}{number}: {}", rows.len(), row.name, row.outcome());
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(at, row)| (*at, row.round));
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn one(scenario: &Scenario, round: usize, options: &Options, earlyoom: &EarlyOom) -> Row {
    let mut row = Row::new(scenario, round);
    let lacks = scenario.lacks();
    if !lacks.is_empty() {
        row.skipped = Some(lacks.join(", "));
        return row;
    }
    for attempt in 1..=TRIES {
        if let Err(error) = play(scenario, options, earlyoom, &mut row) {
            row.error = Some(format!("{error:#}"));
        }
        let is_broken = row.score.as_ref().is_some_and(|score| score.broken.is_some());
        if attempt < TRIES && (is_broken || row.error.is_some()) {
            eprintln!("{}: played again: {}", scenario.name, row.outcome());
            row = Row::new(scenario, round);
        } else {
            break;
        }
    }
    row
}

fn play(scenario: &Scenario, options: &Options, earlyoom: &EarlyOom, row: &mut Row) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let played = run::round(scenario, folder.path())?;
    let Round { facts, samples, said, .. } = &played;
    let mut score = score::score(&scenario.truth, facts, said);
    if let Some(difference) = &played.replayed_otherwise {
        score.failures.push(format!("a replay says otherwise: {difference}"));
    }
    let end_ns = samples.last().map_or(facts.harm_ns, |sample| sample.t_ns);
    let alarms = [
        earlyoom.between(facts.start_ns, end_ns),
        others::threshold(samples),
        others::polling(samples),
    ];
    row.others = alarms.map(|alarms| others::judge(&scenario.truth, facts, &alarms));
    let is_bad = !score.is_ok();
    row.score = Some(score);
    if let Some(keep) = &options.keep {
        let name = format!("{}.{}.jsonl", scenario.name, row.round);
        self::keep(&played.path, &keep.join(name))?;
    } else if is_bad && options.rounds > 1 {
        let name = format!("rampage-{}.{}.jsonl", scenario.name, row.round);
        let path = std::env::temp_dir().join(name);
        self::keep(&played.path, &path)?;
        eprintln!("{}: the trace of round {} is {}", scenario.name, row.round, path.display());
    }
    if options.bless && row.score.as_ref().is_some_and(|score| score.broken.is_none()) {
        let blessed = fixture::bless(scenario, &played, &spec::folder().join("traces"))?;
        let whole = if blessed.is_whole { ", whole: thinned it scores otherwise" } else { "" };
        eprintln!("{}: a fixture of {} KiB{whole}", scenario.name, blessed.bytes.div_ceil(1024));
    }
    Ok(())
}

fn keep(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("keeping {}", to.display()))?;
    Ok(())
}
