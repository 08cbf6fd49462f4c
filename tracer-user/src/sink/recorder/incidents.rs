//! Incidents: folders that retention of the rolling trace does not touch. Segments are hard links, so
//! that one begins at once and takes no room of its own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::directory::{Directory, sync_folder};
use super::facts;
use super::incident::{FILE, Incident, IncidentState, safe_name};
use super::segments::Segments;
use crate::event::{FindingState, Severity};
use crate::settings;
use crate::trace::lines::time_text;
use crate::trace::segment;

/// An incident that goes on longer than this is followed by another one, ns.
const LONGEST_NS: u64 = 30 * 60 * 1_000_000_000;
/// Lines of the findings, in the folder.
const FINDINGS: &str = "findings.jsonl";
/// Folders that are looked at.
const MOST_FOLDERS: usize = 10_000;

/// A line of the trace, as far as incidents ask.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    severity: Option<Severity>,
    #[serde(default)]
    state: FindingState,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    subject: Option<Named>,
    #[serde(default)]
    victims: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    comm: String,
}

/// One that is over.
#[derive(Debug)]
struct Kept {
    /// Of its first segment: the order, whatever the clock did.
    number: u64,
    path: PathBuf,
    bytes: u64,
    /// Its last segment was still written to.
    grows: bool,
}

/// The one that goes on.
struct Open {
    path: PathBuf,
    findings: File,
    told: Incident,
    number: u64,
    bytes: u64,
    /// Something is not on the disk yet …
    is_changed: bool,
    /// … and is to be there at once.
    is_pressing: bool,
}

/// When something was said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub t_ns: u64,
    pub wall_ns: i64,
}

/// All incidents.
pub(super) struct Incidents {
    directory: Directory,
    kept: Vec<Kept>,
    open: Option<Open>,
    /// None could be begun, and it was said.
    is_failing: bool,
}

impl Incidents {
    /// Those that are there; one that was under way when the recorder was killed is over now.
    pub fn open(directory: Directory) -> Self {
        let mut kept = Vec::new();
        let folders = fs::read_dir(directory.incidents()).into_iter().flatten();
        for entry in folders.take(MOST_FOLDERS).flatten() {
            let path = entry.path();
            // Folders that others made are nobody's to remove.
            let is_ours = [FILE, FINDINGS].iter().any(|name| path.join(name).is_file());
            if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if let Ok(told) = Incident::read(&path)
                && told.state == IncidentState::Open
            {
                let told = Incident { state: IncidentState::CutShort, ..told };
                if let Err(error) = tell(&directory, &path, &told) {
                    tracing::warn!("cannot close the incident {}: {error}", path.display());
                }
            }
            let bytes = bytes_of(&path);
            kept.push(Kept { number: first_number(&path), bytes, path, grows: false });
        }
        Self { directory, kept, open: None, is_failing: false }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        (self.kept.len() + usize::from(self.open.is_some())) as u64
    }

    /// Takes a line of a finding or a kill; a critical one begins an incident, or prolongs it.
    pub fn take(
        &mut self,
        line: &[u8],
        at: Moment,
        segments: &Segments,
        settings: &settings::Recorder,
        header: &[u8],
    ) {
        let Ok(said) = serde_json::from_slice::<Said>(line) else { return };
        self.pass(at.t_ns, settings);
        let is_kill = said.severity.is_none();
        let is_over = said.state == FindingState::Closed;
        let is_critical = is_kill || (said.severity == Some(Severity::Critical) && !is_over);
        if is_critical && self.open.is_none() {
            match self.begin(&said, at, segments, settings) {
                Ok(open) => {
                    self.open = Some(open);
                    self.add(line, &said, is_critical, at);
                    self.keep_facts(header, at.wall_ns);
                    self.is_failing = false;
                    self.limit(settings);
                    return;
                }
                Err(error) if !std::mem::replace(&mut self.is_failing, true) => {
                    tracing::warn!("an incident could not be kept: {error}");
                }
                Err(_) => {}
            }
        }
        self.add(line, &said, is_critical, at);
    }

    /// Time passes: an incident may be over.
    pub fn pass(&mut self, t_ns: u64, settings: &settings::Recorder) {
        let after_ns = settings.incident_after.as_nanos();
        let is_over = self.open.as_ref().is_some_and(|open| {
            t_ns.saturating_sub(open.told.end_ns) > after_ns
                || t_ns.saturating_sub(open.told.start_ns) > LONGEST_NS
        });
        if is_over {
            self.close(IncidentState::Ended);
            self.limit(settings);
        }
    }

    /// The recorder ends: so does an incident that is under way.
    pub fn finish(&mut self, settings: &settings::Recorder) {
        self.close(IncidentState::CutShort);
        self.limit(settings);
    }

    /// A new segment has begun: it belongs to the incident that is under way.
    pub fn link(&mut self, segment: &Path, settings: &settings::Recorder) {
        // What was linked before has its last size now.
        for kept in self.kept.iter_mut().filter(|kept| kept.grows) {
            kept.grows = false;
            kept.bytes = bytes_of(&kept.path);
        }
        self.limit(settings);
        let Some(open) = &mut self.open else { return };
        let grown = bytes_of(&open.path);
        if grown > settings.max_incidents_size.get() {
            open.problem("max_incidents_size is reached: later segments are not kept");
            return;
        }
        open.link(segment);
        if let Err(error) = sync_folder(&open.path) {
            open.problem(&format!("its folder could not be synced: {error}"));
        }
        open.is_changed = true;
        self.settle(true);
        self.limit(settings);
    }

    /// Brings what is new of the incident that is under way to the disk: what is pressing, or `all`.
    pub fn settle(&mut self, all: bool) {
        let Some(open) = self.open.as_mut().filter(|open| open.is_changed) else { return };
        if !all && !open.is_pressing {
            return;
        }
        open.is_pressing = false;
        if let Err(error) = open.findings.sync_data() {
            open.problem(&format!("{FINDINGS} may lack findings: {error}"));
        }
        match tell(&self.directory, &open.path, &open.told) {
            Ok(()) => open.is_changed = false,
            Err(error) => open.problem(&format!("{FILE} could not be written: {error}")),
        }
    }

    fn begin(
        &self,
        said: &Said,
        at: Moment,
        segments: &Segments,
        settings: &settings::Recorder,
    ) -> io::Result<Open> {
        let path = self.make_folder(said, at.wall_ns)?;
        let begun = self.begin_in(&path, at, segments, settings);
        if begun.is_err() {
            let _ = fs::remove_dir_all(&path);
        }
        begun
    }

    fn begin_in(
        &self,
        path: &Path,
        at: Moment,
        segments: &Segments,
        settings: &settings::Recorder,
    ) -> io::Result<Open> {
        let findings = self.directory.make_file(&path.join(FINDINGS))?;
        let start = time_text(at.wall_ns);
        let told = Incident {
            end: start.clone(),
            start,
            start_ns: at.t_ns,
            end_ns: at.t_ns,
            ..Incident::default()
        };
        let path = path.to_owned();
        let mut open =
            Open { path, findings, told, number: 0, bytes: 0, is_changed: true, is_pressing: true };
        let before_ns = settings.incident_before.as_nanos();
        for segment in &segments.before(at.t_ns, at.wall_ns, before_ns) {
            open.link(segment);
        }
        open.number = first_number(&open.path);
        sync_folder(&open.path)?;
        Ok(open)
    }

    /// `2026-11-28T03-12-09Z-oom-mysqld`, or with a number behind it when that is taken.
    fn make_folder(&self, said: &Said, wall_ns: i64) -> io::Result<PathBuf> {
        let time = time_text(wall_ns);
        let second = time.split('.').next().unwrap_or_default().replace(':', "-");
        let mut name = format!("{second}Z-{}", safe_name(said.kind.as_deref().unwrap_or("oom")));
        if let Some(subject) = said.subject.as_ref().or(said.victims.first()) {
            name.push('-');
            name.push_str(&safe_name(&subject.comm));
        }
        let mut attempt = 1;
        loop {
            let tried = if attempt == 1 { name.clone() } else { format!("{name}-{attempt}") };
            let path = self.directory.incidents().join(tried);
            match self.directory.make_folder(&path, false) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {
                    attempt += 1;
                }
                made => return made.map(|()| path),
            }
        }
    }

    /// Writes a line of the incident under way, and counts it.
    fn add(&mut self, line: &[u8], said: &Said, is_critical: bool, at: Moment) {
        let Some(open) = &mut self.open else { return };
        let told = &mut open.told;
        if is_critical {
            told.end = time_text(at.wall_ns);
            told.end_ns = told.end_ns.max(at.t_ns);
        }
        told.add_kind(said.kind.as_deref().unwrap_or("oom"));
        for subject in said.subject.iter().chain(&said.victims) {
            told.add_subject(&subject.comm);
        }
        if let Some(severity) = said.severity {
            told.findings += 1;
            told.critical += u64::from(is_critical);
            if said.state != FindingState::Closed {
                let is_verdict = said.kind.as_deref() == Some("oom_verdict");
                told.summarise(severity, is_verdict, &said.summary);
            }
            if let Err(error) = open.findings.write_all(line) {
                open.problem(&format!("{FINDINGS} lacks a finding: {error}"));
            }
        } else {
            told.kills += 1;
        }
        open.is_changed = true;
        open.is_pressing |= is_critical;
    }

    fn keep_facts(&mut self, header: &[u8], wall_ns: i64) {
        let Some(open) = &mut self.open else { return };
        let text = facts::collect(header, wall_ns).to_string();
        if let Err(error) =
            self.directory.replace_file(&open.path.join("facts.json"), text.as_bytes())
        {
            open.problem(&format!("facts.json could not be written: {error}"));
        }
    }

    fn close(&mut self, state: IncidentState) {
        if let Some(open) = &mut self.open {
            open.told.state = state;
            open.is_changed = true;
        }
        self.settle(true);
        if let Some(open) = self.open.take() {
            let bytes = bytes_of(&open.path);
            self.kept.push(Kept { number: open.number, path: open.path, bytes, grows: true });
        }
    }

    /// Removes the oldest that are too many or too large; never the one under way.
    pub fn limit(&mut self, settings: &settings::Recorder) {
        if let Some(open) = &mut self.open {
            open.bytes = bytes_of(&open.path);
        }
        self.kept.retain(|kept| kept.path.exists());
        self.kept.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
        let (open, open_bytes) = self.open.as_ref().map_or((0, 0), |open| (1, open.bytes));
        let most = (settings.max_incidents as usize).saturating_sub(open);
        let mut bytes = open_bytes + self.kept.iter().map(|kept| kept.bytes).sum::<u64>();
        while self.kept.len() > most || bytes > settings.max_incidents_size.get() {
            let Some(oldest) = self.kept.first() else { break };
            if let Err(error) = fs::remove_dir_all(&oldest.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("cannot remove the incident {}: {error}", oldest.path.display());
                break;
            }
            bytes -= oldest.bytes;
            self.kept.remove(0);
        }
    }
}

impl Open {
    fn link(&mut self, segment: &Path) {
        let Some(name) = segment.file_name() else { return };
        match fs::hard_link(segment, self.path.join(name)) {
            Ok(()) => self.told.segments.push(name.to_string_lossy().into_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                self.problem(&format!("{} could not be linked: {error}", name.to_string_lossy()));
            }
        }
    }

    /// Notes what could not be kept, and says it once.
    fn problem(&mut self, problem: &str) {
        if self.told.add_problem(problem) {
            tracing::warn!("the incident {} is not whole: {problem}", self.path.display());
            self.is_changed = true;
        }
    }
}

fn tell(directory: &Directory, folder: &Path, told: &Incident) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(told)?;
    text.push(b'\n');
    directory.replace_file(&folder.join(FILE), &text)
}

/// Bytes of the files in a folder.
pub(crate) fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Of the first segment in a folder; 0 = there is none.
fn first_number(folder: &Path) -> u64 {
    let segments = segment::list(folder).unwrap_or_default();
    segments.first().map_or(0, |(number, _)| *number)
}
