//! Whole runs through the pipeline, on real files. Mounted disks that fill up or fail are in `tests`.

mod disturbed;
mod kept;
mod story;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::incident::Incident;
use super::*;
use crate::cli::Speed;
use crate::event::{Growth, Stall, StallKind, Tick};
use crate::pipeline::Pipeline;
use crate::run::block_on;
use crate::settings::{Size, Span};
use crate::source::replay::{Break, ReplaySource};
use crate::source::{Flow, Source};

const S: u64 = 1_000_000_000;
/// 2026-01-31T12:00:00Z, and boot 1000 s before.
const WALL_NS: i64 = 1_769_860_800_000_000_000;
const BOOT_NS: u64 = 1000 * S;

fn settings(folder: &Path) -> settings::Recorder {
    settings::Recorder {
        directory: folder.to_owned(),
        segment_size: Size::bytes(1 << 20),
        segment_age: Span::from_secs(5),
        ..settings::Recorder::default()
    }
}

/// So long after the start.
fn at(t_ns: u64, event: Event) -> Stamped {
    Stamped { t_ns: BOOT_NS + t_ns, wall_ns: WALL_NS + t_ns.cast_signed(), event }
}

fn header(boot_id: &str) -> Event {
    Event::Header(Box::new(Header {
        schema: crate::event::SCHEMA.to_owned(),
        boot_id: boot_id.to_owned(),
        source: "live".to_owned(),
        ..Header::default()
    }))
}

fn tick() -> Event {
    Event::Tick(Tick {})
}

/// Can be told from every other, and is no part of any state.
fn stall(number: u64) -> Event {
    Event::Stall(Stall {
        tgid: 1,
        start_ns: 0,
        cgroup: None,
        kind: StallKind::Memcg,
        duration_ns: number,
    })
}

fn growth(tgid: u32, anon_bytes: u64) -> Event {
    Event::Growth(Growth { tgid, start_ns: 10_000_000, anon_bytes, ..Growth::default() })
}

/// Keeps all that goes through a pipeline.
#[derive(Default)]
struct Seen(Vec<Stamped>);

impl Sink for Seen {
    fn event(&mut self, _: &Model, at: &Stamped) -> Result<(), SinkError> {
        self.0.push(at.clone());
        Ok(())
    }
}

impl Seen {
    fn findings(&self) -> Vec<&Stamped> {
        self.0.iter().filter(|at| matches!(at.event, Event::Finding(_))).collect()
    }

    fn stalls(&self) -> Vec<u64> {
        let number = |at: &Stamped| match &at.event {
            Event::Stall(stall) => Some(stall.duration_ns),
            _ => None,
        };
        self.0.iter().filter_map(number).collect()
    }

    fn lost(&self) -> BTreeMap<String, u64> {
        let mut lost = BTreeMap::new();
        for at in &self.0 {
            if let Event::Lost(said) = &at.event {
                *lost.entry(said.source.to_string()).or_default() += said.records;
            }
        }
        lost
    }
}

/// Events through a pipeline into a recorder, and what it saw.
fn record(settings: &settings::Recorder, events: &[Stamped]) -> Seen {
    let mut seen = Seen::default();
    let mut recorder = Recorder::open(settings).unwrap();
    let mut pipeline = Pipeline::new(vec![&mut recorder, &mut seen]);
    events.iter().for_each(|at| pipeline.feed(at).unwrap());
    pipeline.finish("signal").unwrap();
    drop(pipeline);
    seen
}

/// What replay makes of a file or a folder, where it breaks, and whether it is whole.
fn replay(path: &Path) -> (Seen, Vec<Break>, bool) {
    let mut source = ReplaySource::open(path, Speed::Max).unwrap();
    let mut seen = Seen::default();
    let mut pipeline = Pipeline::new(vec![&mut seen]);
    block_on(async {
        let mut events = Vec::new();
        loop {
            let flow = source.next(&mut events).await?;
            events.drain(..).try_for_each(|at| pipeline.feed(&at))?;
            if flow != Flow::More {
                return Ok(());
            }
        }
    })
    .unwrap();
    drop(pipeline);
    assert_eq!(source.damaged_file(), None, "{}", path.display());
    (seen, source.breaks().to_vec(), source.is_complete())
}

fn segments_of(folder: &Path) -> Vec<(u64, PathBuf)> {
    segment::list(&folder.join("segments")).unwrap()
}

fn incidents_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("incidents")).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// Waits until something holds: the writer has its own time.
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
