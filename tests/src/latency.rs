//! How long a finding takes from the kernel's event to the reader of `rampage watch --json`: a
//! reader that does nothing but note when each finding came, and processes that are killed at a
//! limit again and again, each a runaway first.

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rampage::event::{Event, Evidence, FindingState};

use crate::clock;
use crate::marks::Mark;
use crate::trace::Line;
use crate::tracer::{self, Process};

const START: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(15);
/// Room for findings, so that the reader need not ask for memory.
const KEPT_BYTES: usize = 8 << 20;
/// A pipe holds less.
const CHUNK_BYTES: usize = 1 << 20;

/// A running `rampage watch --json` whose findings are kept with the time of their arrival.
#[derive(Debug)]
pub struct Watched {
    process: Process,
    ready: Arc<AtomicBool>,
    findings: Arc<AtomicUsize>,
    reader: JoinHandle<Kept>,
}

/// Lines of findings, one after the other, and of each when it came, where it ends, and whether a
/// tick raised it.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    lines: Vec<(u64, usize, bool)>,
}

/// A finding that came.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The finding, with its times.
    pub line: Line,
    /// It was raised by a tick, not by what had just happened.
    pub by_tick: bool,
}

impl Watched {
    /// Ready when this returns.
    pub fn start() -> Result<Self> {
        let mut process = tracer::start("watch --json", None, Stdio::piped())?;
        let source = process.child.stdout.take().context("rampage has no stdout")?;
        let (ready, findings) = (Arc::default(), Arc::default());
        let (told, counted) = (Arc::clone(&ready), Arc::clone(&findings));
        let reader = std::thread::spawn(move || read(source, &told, &counted));
        let watched = Self { process, ready, findings, reader };
        clock::wait_for("the first tick", START, || {
            Ok(watched.ready.load(Ordering::Relaxed).then_some(()))
        })?;
        Ok(watched)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// How many findings came so far.
    pub fn findings(&self) -> usize {
        self.findings.load(Ordering::Relaxed)
    }

    /// Ends it and returns what came.
    pub fn finish(mut self) -> Result<Vec<Arrived>> {
        self.process.signal(libc::SIGTERM);
        let status =
            clock::wait_for("rampage's end", END, || Ok(self.process.child.try_wait()?))?;
        if !status.success() {
            let mut said = String::new();
            self.process.child.stderr.take().context("stderr")?.read_to_string(&mut said)?;
            bail!("rampage: {status}: {said}");
        }
        let Ok(kept) = self.reader.join() else { bail!("the reader panicked") };
        let mut from = 0;
        let mut arrived = Vec::with_capacity(kept.lines.len());
        for (arrival_ns, end, by_tick) in kept.lines {
            let text = std::str::from_utf8(&kept.bytes[from..end])?;
            arrived.push(Arrived { line: Line::parse(text.trim_end(), arrival_ns)?, by_tick });
            from = end;
        }
        Ok(arrived)
    }
}

/// Reads until the end. What comes with one read came at one time.
fn read(mut source: impl Read, ready: &AtomicBool, findings: &AtomicUsize) -> Kept {
    let mut kept = Kept { bytes: Vec::with_capacity(KEPT_BYTES), ..Kept::default() };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut line = Vec::with_capacity(CHUNK_BYTES);
    let mut by_tick = false;
    while let Ok(length @ 1..) = source.read(&mut chunk) {
        let arrival_ns = clock::boot_ns();
        for piece in chunk[..length].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if !line.ends_with(b"\n") {
                continue;
            }
            if is(&line, "finding") {
                kept.bytes.extend_from_slice(&line);
                kept.lines.push((arrival_ns, kept.bytes.len(), by_tick));
                findings.fetch_add(1, Ordering::Relaxed);
            } else {
                by_tick = is(&line, "tick");
                ready.fetch_or(by_tick, Ordering::Relaxed);
            }
            line.clear();
        }
    }
    kept
}

/// Whether a line is of this type, which follows the two times at its begin.
fn is(line: &[u8], kind: &str) -> bool {
    const TIMES: usize = 80;
    let head = &line[..line.len().min(TIMES + kind.len())];
    let word = format!("\"type\":\"{kind}\"");
    head.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Latencies, ns, in order.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Of the verdicts on kills in `marks`: from the kernel's own mark of the victim.
    pub fn of_verdicts(arrived: &[Arrived], marks: &[Mark]) -> Self {
        let of = |arrived: &Arrived| {
            let Evidence::OomVerdict(verdict) = evidence(arrived)? else { return None };
            let tgid = verdict.victims.first()?.tgid;
            let mark = marks.iter().rfind(|mark| mark.tid == tgid)?;
            Some(arrived.line.arrival_ns.saturating_sub(mark.t_ns))
        };
        Self::sorted(arrived.iter().filter_map(of))
    }

    /// Of the runaways that a report of growth raised: from that report, made in the kernel.
    pub fn of_runaways(arrived: &[Arrived]) -> Self {
        Self::of_reports(arrived, |evidence| matches!(evidence, Evidence::Runaway(_)))
    }

    /// Of processes that somebody ended: from their exit's report, made in the kernel.
    pub fn of_ends(arrived: &[Arrived]) -> Self {
        Self::of_reports(arrived, |evidence| matches!(evidence, Evidence::Killed(_)))
    }

    fn of_reports(arrived: &[Arrived], is_wanted: impl Fn(&Evidence) -> bool) -> Self {
        let of = |arrived: &Arrived| {
            let is_wanted = is_wanted(evidence(arrived)?) && !arrived.by_tick;
            let line = &arrived.line;
            is_wanted.then(|| line.arrival_ns.saturating_sub(line.t_ns))
        };
        Self::sorted(arrived.iter().filter_map(of))
    }

    fn sorted(latencies: impl Iterator<Item = u64>) -> Self {
        let mut latencies: Vec<u64> = latencies.collect();
        latencies.sort_unstable();
        Self(latencies)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency that this share of them does not exceed, ms; 0 when there are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let at = rank.clamp(1, self.0.len().max(1)) - 1;
        self.0.get(at).map_or(0.0, |ns| *ns as f64 / 1e6)
    }
}

/// Of a finding that was raised.
fn evidence(arrived: &Arrived) -> Option<&Evidence> {
    let Event::Finding(finding) = &arrived.line.event else { return None };
    (finding.state == FindingState::Raised).then_some(&finding.evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_nearest_rank() {
        let latencies = Latencies((1..=200).map(|ms| ms * 1_000_000).collect());
        assert_eq!(latencies.quantile_ms(0.5), 100.0);
        assert_eq!(latencies.quantile_ms(0.99), 198.0);
        assert_eq!(latencies.quantile_ms(1.0), 200.0);
        assert_eq!(Latencies::default().quantile_ms(0.5), 0.0);
    }

    #[test]
    fn findings_and_ticks_are_told_apart() {
        let text: &[u8] = b"{\"t\":1,\"time\":\"x\",\"type\":\"tick\"}\n\
            {\"t\":1,\"time\":\"x\",\"type\":\"finding\"}\n\
            {\"t\":2,\"time\":\"x\",\"type\":\"growth\"}\n\
            {\"t\":2,\"time\":\"x\",\"type\":\"finding\"}\n";
        let (ready, findings) = (AtomicBool::new(false), AtomicUsize::new(0));
        let kept = read(text, &ready, &findings);
        let by_tick: Vec<bool> = kept.lines.iter().map(|(.., by_tick)| *by_tick).collect();
        assert_eq!(by_tick, [true, false]);
        assert!(ready.into_inner());
        assert_eq!(findings.into_inner(), 2);
    }
}
