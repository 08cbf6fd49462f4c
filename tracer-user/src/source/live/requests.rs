//! Follows the request probes of every PHP that runs (`--usdt`). A thread of its own reads binaries
//! and attaches: the kernel waits for the mmap_lock of each process of a binary, which one that is
//! short of memory can hold for seconds.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::enrich::process;
use crate::event::{Event, Hook, ProcessCause, ProcessKey, Stamped};
use crate::kernel::uprobe::{Uprobe, Uprobes, is_on_overlay};
use crate::php::target::{FileId, Target};
use crate::php::usdt::{self, NoProbes, RequestProbes};
use crate::text::printable;

/// Binaries whose probes are followed at a time.
const BINARIES: usize = 16;
/// Binaries that are remembered as refused, and lines that say so at most.
const REFUSED: usize = 64;
/// Processes that wait for the thread, and as many again that wait for room there.
const QUEUE: usize = 1024;
/// How long the start waits until those are attached to that run already.
const PATIENCE: Duration = Duration::from_secs(2);
const STACK_BYTES: usize = 256 << 10;
const LOST: &str = "where requests begin and end is not seen";

/// The request probes that are followed.
#[derive(Debug)]
pub struct Requests {
    /// None = it is to end.
    thread: Option<SyncSender<ProcessKey>>,
    /// Is closed when the thread has let go of everything.
    ended: Receiver<Found>,
    /// Living PHP processes whose binary was asked for.
    asked: FxHashSet<ProcessKey>,
    /// The queue had no room for these yet.
    waiting: VecDeque<ProcessKey>,
}

/// What the thread says of those that ran at its start.
#[derive(Debug, Default)]
struct Found {
    followed: usize,
    refused: Vec<String>,
}

/// Why a binary's requests are not followed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Probes(#[from] NoProbes),
    #[error("the kernel refused the probe: {0}")]
    Attach(#[source] io::Error),
    #[error("{BINARIES} other binaries of PHP are followed already")]
    TooMany,
}

impl Requests {
    /// Attaches the programs, begin and end, to what runs now, and then to what
    /// [`observe`](Self::observe) sees. None = it cannot; the hook says why, or what could be had.
    pub fn start(programs: anyhow::Result<[OwnedFd; 2]>) -> (Option<Self>, Hook) {
        match programs.and_then(Self::try_start) {
            Ok((requests, hook)) => (Some(requests), hook),
            Err(error) => {
                tracing::warn!("--usdt: {error:#}: {LOST}");
                (None, hook("missing", format!("{LOST} ({error:#})")))
            }
        }
    }

    fn try_start([begin, end]: [OwnedFd; 2]) -> anyhow::Result<(Self, Hook)> {
        let uprobes = Uprobes::detect()
            .ok_or_else(|| anyhow::anyhow!("this kernel has no uprobes (CONFIG_UPROBE_EVENTS)"))?;
        let attacher = Attacher {
            uprobes,
            begin,
            end,
            followed: FxHashMap::default(),
            refused: FxHashSet::default(),
            said: 0,
        };
        let (thread, wanted) = sync_channel(QUEUE);
        let (say, found) = sync_channel(1);
        let run = move || {
            attacher.run(&wanted, &say);
            drop(say);
        };
        thread::Builder::new().name("usdt".to_owned()).stack_size(STACK_BYTES).spawn(run)?;
        let hook = match found.recv_timeout(PATIENCE) {
            Ok(found) => found.hook(),
            Err(RecvTimeoutError::Timeout) => {
                hook("missing", format!("{LOST} yet (processes of PHP do not answer)"))
            }
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("its thread failed"),
        };
        Ok((Self::new(thread, found), hook))
    }

    fn new(thread: SyncSender<ProcessKey>, ended: Receiver<Found>) -> Self {
        let (asked, waiting) = (FxHashSet::default(), VecDeque::new());
        Self { thread: Some(thread), ended, asked, waiting }
    }

    /// Sees the events of the source; the binary of a PHP process that is new is attached to.
    pub fn observe(&mut self, events: &[Stamped]) {
        for at in events {
            match &at.event {
                Event::Process(process) => {
                    let key = process.key();
                    if process.cause == ProcessCause::Exec {
                        self.asked.remove(&key);
                    }
                    if process.php.is_some() && self.asked.insert(key) {
                        self.ask(key);
                    }
                }
                Event::Exit(exit) => {
                    self.asked.remove(&exit.key());
                }
                Event::Tick(_) => {
                    for _ in 0..self.waiting.len() {
                        if let Some(key) = self.waiting.pop_front() {
                            self.ask(key);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, key: ProcessKey) {
        let Some(thread) = &self.thread else { return };
        if thread.try_send(key).is_err() && self.waiting.len() < QUEUE {
            self.waiting.push_back(key);
        }
    }
}

/// A thread that is killed, as the end of the process kills it, cannot take its breakpoints out of
/// other processes: the kernel says "leaking uprobe", and each stays until it is met once more.
impl Drop for Requests {
    fn drop(&mut self) {
        self.thread = None;
        let deadline = Instant::now() + PATIENCE;
        while self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
    }
}

impl Found {
    fn hook(self) -> Hook {
        let reason = self.refused.join("; ");
        match (self.followed, self.refused.is_empty()) {
            (0, true) => {
                hook("missing", "no PHP runs yet; what starts later is followed".to_owned())
            }
            (0, false) => hook("missing", format!("{LOST} ({reason})")),
            (_, true) => hook("attached", reason),
            (_, false) => hook("degraded", reason),
        }
    }
}

fn hook(state: &str, reason: String) -> Hook {
    let (name, mechanism) = ("php/request".to_owned(), "usdt".to_owned());
    Hook { name, mechanism, state: state.to_owned(), reason }
}

/// What the thread has.
#[derive(Debug)]
struct Attacher {
    uprobes: Uprobes,
    begin: OwnedFd,
    end: OwnedFd,
    followed: FxHashMap<FileId, Vec<Uprobe>>,
    refused: FxHashSet<FileId>,
    /// Lines said about refused binaries.
    said: usize,
}

impl Attacher {
    /// Until the other end of `wanted` is dropped.
    fn run(mut self, wanted: &Receiver<ProcessKey>, say: &SyncSender<Found>) {
        let mut found = Found::default();
        for target in processes() {
            if let Some(refused) = self.meet(&target)
                && found.refused.len() < BINARIES
            {
                found.refused.push(refused);
            }
        }
        found.followed = self.followed.len();
        if say.send(found).is_err() {
            tracing::debug!("--usdt: the processes of PHP answered late");
        }
        while let Ok(key) = wanted.recv() {
            match Target::open(key.tgid) {
                Ok(target) if target.key() == key => drop(self.meet(&target)),
                _ => {}
            }
        }
    }

    /// Attaches to the binary of a process if it is a new one. What is refused is said once for each
    /// binary, and returned.
    fn meet(&mut self, target: &Target) -> Option<String> {
        let (file, name) = usdt::binary(target).ok()??;
        let id = identify(&file)?;
        if self.followed.contains_key(&id) || self.refused.contains(&id) {
            return None;
        }
        let refused = match self.attach(&file) {
            Ok(uprobes) => {
                tracing::debug!("--usdt: {} is followed", printable(&name));
                self.followed.insert(id, uprobes);
                return None;
            }
            Err(refused) => format!("{name}: {refused}"),
        };
        if self.refused.len() >= REFUSED {
            self.refused.clear();
        }
        self.refused.insert(id);
        if self.said < REFUSED {
            self.said += 1;
            tracing::warn!("--usdt: {}: {LOST}", printable(&refused));
        }
        Some(refused)
    }

    fn attach(&mut self, file: &File) -> Result<Vec<Uprobe>, Refused> {
        let probes = RequestProbes::read(file)?;
        if self.followed.len() >= BINARIES {
            self.forget_unused();
        }
        if self.followed.len() >= BINARIES {
            return Err(Refused::TooMany);
        }
        let of = |program| move |place| (program, place);
        let begins = probes.begin.iter().map(of(&self.begin));
        let ends = probes.end.iter().map(of(&self.end));
        let attach = |(program, place): (&OwnedFd, &usdt::Place)| {
            self.uprobes.attach(program.as_fd(), file, place.offset, place.semaphore)
        };
        begins.chain(ends).map(attach).collect::<Result<_, _>>().map_err(Refused::Attach)
    }

    /// Lets go of the binaries that nobody runs any more.
    fn forget_unused(&mut self) {
        let file = |target: Target| Some(usdt::binary(&target).ok()??.0);
        let used: FxHashSet<FileId> =
            processes().filter_map(file).filter_map(|file| identify(&file)).collect();
        self.followed.retain(|id, _| used.contains(id));
    }
}

/// Containers of one image share the files of its layers, each under a device of its own.
fn identify(file: &File) -> Option<FileId> {
    let id = FileId::of(&file.metadata().ok()?);
    Some(if is_on_overlay(file) { id.on_any_device() } else { id })
}

/// The processes that run now.
fn processes() -> impl Iterator<Item = Target> {
    let tgids = process::list().unwrap_or_default();
    tgids.into_iter().filter_map(|tgid| Target::open(tgid).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exit, Php, Process};

    fn process(tgid: u32, is_php: bool, cause: ProcessCause) -> Stamped {
        let php = Php { sapi: "fpm".into(), pool: None, master_tgid: None, version: None };
        let event = Event::Process(Process {
            tgid,
            start_ns: 1,
            ppid: 1,
            comm: "php-fpm8.2".into(),
            cmdline: None,
            exe: None,
            uid: 0,
            cgroup: None,
            php: is_php.then_some(php),
            cause,
        });
        Stamped { t_ns: 0, wall_ns: 0, event }
    }

    #[test]
    fn each_php_process_is_asked_for_once_for_each_program() {
        let (thread, wanted) = sync_channel(2);
        let mut requests = Requests::new(thread, sync_channel(1).1);
        let exit = Exit { tgid: 2, start_ns: 1, code: None, signal: None, peak_bytes: None };
        let exit = Stamped { event: Event::Exit(exit), ..process(2, true, ProcessCause::Found) };
        let mut asked = |events: &[Stamped]| {
            requests.observe(events);
            wanted.try_iter().map(|key| key.tgid).collect::<Vec<_>>()
        };
        let found = process(2, true, ProcessCause::Update);
        assert_eq!(asked(&[process(1, false, ProcessCause::Fork), found.clone()]), [2]);
        assert_eq!(asked(std::slice::from_ref(&found)), [0_u32; 0]);
        assert_eq!(asked(&[process(2, false, ProcessCause::Exec), found.clone()]), [2]);
        assert_eq!(asked(&[exit, found]), [2]);
        let many: Vec<Stamped> =
            (3..6).map(|tgid| process(tgid, true, ProcessCause::Update)).collect();
        assert_eq!(asked(&many), [3, 4]);
        let tick = Event::Tick(crate::event::Tick {});
        assert_eq!(asked(&[Stamped { t_ns: 0, wall_ns: 0, event: tick }]), [5]);
    }

    #[test]
    fn the_hook_says_what_could_be_had() {
        let found = |followed, refused: &[&str]| {
            let refused = refused.iter().map(|text| (*text).to_owned()).collect();
            Found { followed, refused }.hook()
        };
        assert_eq!(found(1, &[]), hook("attached", String::new()));
        assert_eq!(found(1, &["/x: y"]), hook("degraded", "/x: y".to_owned()));
        assert_eq!(found(0, &["/x: y"]).reason, format!("{LOST} (/x: y)"));
        assert_eq!(found(0, &[]).state, "missing");
        let (requests, hook) = Requests::start(Err(anyhow::anyhow!("no")));
        assert!(requests.is_none() && hook.state == "missing" && hook.reason.contains("no"));
    }

    #[test]
    fn the_processes_include_this_one() {
        assert!(processes().any(|target| target.key().tgid == std::process::id()));
    }
}
