//! `rampage incidents`: what the flight recorder kept apart.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::{Incidents, UsageError};
use crate::settings;
use crate::sink::SinkError;
use crate::sink::recorder::bytes_of;
use crate::sink::recorder::incident::{FILE, Incident, IncidentState};
use crate::text::{self, printable};
use crate::trace::segment;

/// Folders that are looked at.
const MOST: usize = 10_000;

/// Lists the incidents, the newest last.
pub fn execute(args: &Incidents) -> anyhow::Result<()> {
    let directory = args.directory.clone().unwrap_or_else(state_directory);
    let listed = match list(&directory.join("incidents")) {
        // Nothing was ever recorded where nobody said that something was.
        Err(error) if error.kind() == ErrorKind::NotFound && args.directory.is_none() => Vec::new(),
        listed => {
            listed.map_err(|source| UsageError::StateDirectory { path: directory, source })?
        }
    };
    let mut out = String::new();
    for listed in &listed {
        if args.json {
            out.push_str(&serde_json::to_string(listed)?);
            out.push('\n');
        } else {
            listed.write(&mut out)?;
        }
    }
    if listed.is_empty() && !args.json {
        out.push_str("no incidents\n");
    }
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(out.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| SinkError::writing("standard output", error).into())
}

/// Where `serve` keeps its state.
fn state_directory() -> PathBuf {
    let settings = settings::load(None).map(|loaded| loaded.settings);
    settings.unwrap_or_default().recorder.directory
}

/// A folder below `incidents`.
#[derive(Debug, Serialize)]
struct Listed {
    /// Its name.
    name: String,
    /// Where it is: what `rampage replay` takes.
    path: PathBuf,
    /// Its files together. Segments that it shares with others count in full.
    bytes: u64,
    /// What it says; null = it is damaged.
    incident: Option<Incident>,
    /// What is wrong with it.
    problem: Option<String>,
    #[serde(skip)]
    number: u64,
}

fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)?.take(MOST) {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            listed.push(Listed::read(entry.path()));
        }
    }
    // Segments tell the order, whatever the clock did.
    listed.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    Ok(listed)
}

impl Listed {
    fn read(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let segments = segment::list(&path).unwrap_or_default();
        let (incident, problem) = match Incident::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (None, Some(format!("{FILE} is missing: the recorder was killed as it began")))
            }
            Err(error) => (None, Some(format!("{FILE}: {error}"))),
            Ok(incident) => {
                let is_there = |name: &String| path.join(name).is_file();
                let missing = incident.segments.iter().filter(|name| !is_there(name)).count();
                let problem = match (missing, segments.is_empty()) {
                    (_, true) => Some("it has no segments".to_owned()),
                    (0, false) => None,
                    _ => Some(format!("segments are missing: {missing}")),
                };
                (Some(incident), problem)
            }
        };
        let number = segments.first().map_or(0, |(number, _)| *number);
        Self { name, bytes: bytes_of(&path), path, incident, problem, number }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let path = printable(&self.path.to_string_lossy()).into_owned();
        let size = text::bytes(self.bytes);
        if let Some(told) = &self.incident {
            let start = told.start.split('.').next().unwrap_or_default().replace('T', " ");
            let lasted = text::seconds(told.end_ns.saturating_sub(told.start_ns) as f64 / 1e9);
            let state = match told.state {
                IncidentState::Ended => "",
                IncidentState::Open => "  goes on",
                IncidentState::CutShort => "  cut short",
            };
            let kinds = told.kinds.join(", ");
            let subjects = told.subjects.join(", ");
            writeln!(
                out,
                "{}Z  {lasted:>8}  {size:>9}  {:<24}  {:<24}{state}",
                printable(&start),
                text::fit(&printable(&kinds), 24),
                text::fit(&printable(&subjects), 24),
            )?;
            if !told.summary.is_empty() {
                writeln!(out, "    {}", printable(&told.summary))?;
            }
            for problem in &told.problems {
                writeln!(out, "    not whole: {}", printable(problem))?;
            }
        } else {
            writeln!(out, "{}  {size:>9}", printable(&self.name))?;
        }
        if let Some(problem) = &self.problem {
            writeln!(out, "    damaged: {}", printable(problem))?;
        }
        writeln!(out, "    {path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(listed: &[Listed]) -> String {
        let mut out = String::new();
        for listed in listed {
            listed.write(&mut out).unwrap();
        }
        out
    }

    #[test]
    fn incidents_are_listed_in_order_and_damaged_ones_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, number: u64, told: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            if number > 0 {
                fs::write(path.join(segment::name(number, 0)), [0; 2048]).unwrap();
            }
            if !told.is_empty() {
                fs::write(path.join(FILE), told).unwrap();
            }
        };
        let told = Incident {
            state: IncidentState::Ended,
            start: "2026-11-28T03:12:09.123Z".to_owned(),
            start_ns: 1_000_000_000,
            end_ns: 43_000_000_000,
            kinds: vec!["runaway".to_owned(), "oom".to_owned()],
            subjects: vec!["php\x1b[2J".to_owned()],
            summary: "php\u{202e} is running away".to_owned(),
            segments: vec![segment::name(7, 0)],
            ..Incident::default()
        };
        make("b", 7, &serde_json::to_string(&told).unwrap());
        make("a", 9, "{\"state\":");
        make("c", 8, "");
        make("d", 0, &serde_json::to_string(&told).unwrap());
        fs::write(folder.path().join("file"), "").unwrap();
        let listed = list(folder.path()).unwrap();
        let names: Vec<_> = listed.iter().map(|listed| listed.name.as_str()).collect();
        assert_eq!(names, ["d", "b", "c", "a"]);
        let problems: Vec<_> =
            listed.iter().map(|listed| listed.problem.as_deref().unwrap_or("-")).collect();
        assert_eq!(problems[..2], ["it has no segments", "-"]);
        assert!(problems[2].contains("is missing") && problems[3].contains("EOF"), "{problems:?}");
        let told = text(&listed[1..2]);
        assert!(told.starts_with("2026-11-28 03:12:09Z"), "{told}");
        assert!(told.contains(" 42.0 s ") || told.contains(" 42 s "), "{told}");
        assert!(told.contains("runaway, oom") && told.contains("php\\x1b[2J"), "{told}");
        assert!(told.contains("\\u{202e}") && !text(&listed).contains('\x1b'));
        let json = serde_json::to_string(&listed[3]).unwrap();
        assert!(json.contains("\"incident\":null") && json.contains("EOF"), "{json}");
    }
}
