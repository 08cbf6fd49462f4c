//! `rampage php`: what PHP workers do now. The looks are taken by threads, so that a worker that
//! cannot be read at once holds up neither the others nor the answer.

mod flame;
mod show;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::cli::{self, UsageError};
use crate::enrich::process;
use crate::kernel::Unsupported;
use crate::php::{Look, LookOptions, Looker, Reason, Role, Target, Who, who};

/// The answer comes within two seconds, whatever the state of the host.
const ANSWER_WITHIN: Duration = Duration::from_millis(1800);
/// Threads that look.
const THREADS: usize = 4;
/// A thread that says nothing for this long is stuck: another one goes on with the rest.
const STUCK: Duration = Duration::from_millis(100);
/// Most threads, the stuck ones among them.
const MAX_THREADS: usize = 64;
/// For one process, before pages are brought in from swap.
const FIRST: Duration = Duration::from_millis(300);

/// A PHP process, its size, and a look at it.
#[derive(Debug, Serialize)]
pub struct Worker {
    /// Who it is.
    #[serde(skip)]
    pub who: Who,
    /// What a command-line process runs.
    pub job: Option<Arc<str>>,
    /// Private memory in RAM.
    pub anon_bytes: u64,
    /// Private memory that is swapped out.
    pub swap_bytes: u64,
    /// The look.
    #[serde(flatten)]
    pub look: Look,
}

/// Prints one worker, or all.
pub fn execute(args: &cli::Php) -> anyhow::Result<()> {
    let show = args.disclosure.disclosure();
    if let (Some(tgid), Some(file)) = (args.tgid, &args.flame) {
        let options = LookOptions { show, ..LookOptions::default() };
        return flame::execute(tgid, file, args.duration, options);
    }
    let options = LookOptions { show, timeout: Duration::from_secs(1), ..LookOptions::default() };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match args.tgid {
        Some(tgid) => {
            let worker = one(tgid, options)?;
            if args.json { json(&mut out, &[worker]) } else { show::one(&mut out, &worker) }
        }
        None => {
            let (workers, silent) = all(options, ANSWER_WITHIN)?;
            if args.json {
                json(&mut out, &workers).and_then(|()| silence(&silent))
            } else {
                show::all(&mut out, &workers, &silent)
            }
        }
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

fn json(out: &mut impl Write, workers: &[Worker]) -> io::Result<()> {
    for worker in workers {
        serde_json::to_writer(&mut *out, worker)?;
        writeln!(out)?;
    }
    Ok(())
}

fn silence(silent: &Silent) -> io::Result<()> {
    match show::silence(silent) {
        Some(line) => writeln!(io::stderr(), "rampage: {line}"),
        None => Ok(()),
    }
}

/// One process. What is swapped out is waited for, as long as there is time.
fn one(tgid: u32, options: LookOptions) -> anyhow::Result<Worker> {
    let target = open(tgid)?;
    let comm = target.comm().to_owned();
    let (found, answers) = channel();
    thread::spawn(move || {
        let mut looker = Looker::new();
        let mut examine = |options: &LookOptions| -> anyhow::Result<Option<Worker>> {
            let Some(who) = who::recognise(&target, &mut looker)? else { return Ok(None) };
            Ok(Some(worker(who, &mut looker, &target, options)))
        };
        let first = examine(&LookOptions { timeout: FIRST, ..options });
        let again = matches!(&first, Ok(Some(worker)) if worker.look.lacks(&Reason::SwappedOut));
        let _ = found.send(first);
        if again {
            let _ = found.send(examine(&LookOptions { wait: true, ..options }));
        }
    });
    let mut best = None;
    let deadline = Instant::now() + ANSWER_WITHIN;
    while let Ok(answer) = answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        best = Some(answer?);
    }
    match best {
        Some(Some(worker)) => permitted(worker),
        Some(None) => Err(UsageError::NoPhp { tgid, comm }.into()),
        None => Err(no_answer(tgid)),
    }
}

fn open(tgid: u32) -> anyhow::Result<Target> {
    Target::open(tgid).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => UsageError::NoSuchProcess { tgid }.into(),
        _ => anyhow::Error::new(error).context(format!("process {tgid}")),
    })
}

fn no_answer(tgid: u32) -> anyhow::Error {
    anyhow::anyhow!(
        "process {tgid} does not answer in time: it may be held up in the kernel; try again"
    )
}

fn permitted(worker: Worker) -> anyhow::Result<Worker> {
    if worker.look.lacks(&Reason::NotPermitted) {
        return Err(not_permitted());
    }
    Ok(worker)
}

fn not_permitted() -> anyhow::Error {
    let reason = "the memory of other users' processes may not be read".to_owned();
    Unsupported { reason, remedy: "run as root, or with CAP_SYS_PTRACE".to_owned() }.into()
}

/// Who could not be looked into in time.
#[derive(Debug, Default)]
pub struct Silent {
    /// A look at them was begun.
    held_up: Vec<u32>,
    /// So many were left, none of them PHP by its name unless others held up everything.
    not_reached: usize,
}

impl Silent {
    /// About them; None = there are none.
    pub(super) fn line(&self) -> Option<String> {
        show::silence(self)
    }
}

/// All workers, the largest first, and who could not be looked into `within` this time.
pub(super) fn all(options: LookOptions, within: Duration) -> anyhow::Result<(Vec<Worker>, Silent)> {
    let deadline = Instant::now() + within;
    let mut tgids = process::list().context("cannot list /proc")?;
    // Those that their name gives away come first: there may be no time for all.
    tgids.sort_by_cached_key(|tgid| !is_likely(*tgid));
    let tgids: Arc<[u32]> = tgids.into();
    let next = Arc::new(AtomicUsize::new(0));
    let (found, answers) = channel();
    let first = Looker::new();
    let spawn = || {
        let (tgids, next, found) = (Arc::clone(&tgids), Arc::clone(&next), found.clone());
        let looker = first.sharing();
        thread::spawn(move || examine_all(looker, &tgids, &next, &found, &options));
    };
    (0..THREADS).for_each(|_| spawn());
    let (mut workers, mut done, mut threads) = (Vec::new(), FxHashSet::default(), THREADS);
    while done.len() < tgids.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        match answers.recv_timeout(left.min(STUCK)) {
            Ok((tgid, worker)) => {
                done.insert(tgid);
                workers.extend::<Option<Worker>>(worker.map(|worker| *worker));
            }
            Err(_) if left.is_zero() => break,
            Err(_) if threads < MAX_THREADS => {
                threads += 1;
                spawn();
            }
            Err(_) => {}
        }
    }
    workers.sort_by_key(|worker| {
        (std::cmp::Reverse(worker.anon_bytes + worker.swap_bytes), worker.look.tgid)
    });
    let begun = next.load(Ordering::Relaxed).min(tgids.len());
    let silent = Silent {
        held_up: tgids[..begun].iter().filter(|tgid| !done.contains(tgid)).copied().collect(),
        not_reached: tgids.len() - begun,
    };
    if !workers.is_empty() && workers.iter().all(|one| one.look.lacks(&Reason::NotPermitted)) {
        return Err(not_permitted());
    }
    Ok((workers, silent))
}

/// A process, and what it is if it is a worker.
type Examined = (u32, Option<Box<Worker>>);

/// Whether a process is PHP by its name.
fn is_likely(tgid: u32) -> bool {
    let comm = std::fs::read(format!("/proc/{tgid}/comm")).unwrap_or_default();
    who::may_load_php(String::from_utf8_lossy(&comm).trim_end())
}

fn examine_all(
    mut looker: Looker,
    tgids: &[u32],
    next: &AtomicUsize,
    found: &Sender<Examined>,
    options: &LookOptions,
) {
    while let Some(&tgid) = tgids.get(next.fetch_add(1, Ordering::Relaxed)) {
        let examined = Target::open(tgid).and_then(|target| {
            let who = who::recognise(&target, &mut looker)?;
            let who = who.filter(|who| who.role != Role::Master);
            Ok(who.map(|who| Box::new(worker(who, &mut looker, &target, options))))
        });
        // One that ended meanwhile is no worker any more.
        if found.send((tgid, examined.ok().flatten())).is_err() {
            return;
        }
    }
}

fn worker(who: Who, looker: &mut Looker, target: &Target, options: &LookOptions) -> Worker {
    let size = process::memory(target.key().tgid).unwrap_or_default();
    let mut look = looker.look_at(target, options);
    look.sapi.get_or_insert_with(|| Arc::clone(&who.sapi));
    look.version = look.version.or_else(|| who.version.clone());
    look.pool = match &who.role {
        Role::Pool(pool) => pool.clone(),
        _ => None,
    };
    let job = match &who.role {
        Role::Script(job) => Some(Arc::clone(job)).filter(|job| !job.is_empty()),
        _ => None,
    };
    Worker { who, job, anon_bytes: size.anon_bytes, swap_bytes: size.swap_bytes, look }
}
