//! Follows every process from one look to the next. An idle process costs reading its
//! stat; its status and cgroup are read when faults or resident pages moved.

use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Stamper;
use crate::enrich::php;
use crate::enrich::process::{self, Identity, Reader};
use crate::event::{CgroupMove, Event, Exit, Growth, Process, ProcessCause, ProcessKey};

/// The command line of an old process is read again after this many looks.
const TITLE_ROUNDS: u32 = 32;

/// The cgroup and oom_score_adj of an idle process are read again after this many looks; those of
/// one whose memory moves, at each.
const IDLE_ROUNDS: u32 = 4;

/// All living processes but kernel threads and this one.
#[derive(Debug)]
pub struct Processes {
    table: FxHashMap<u32, Known>,
    reader: Reader,
    tgids: Vec<u32>,
    round: u32,
    opened_ns: u64,
    cgroups: FxHashSet<Arc<str>>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    memory: Growth,
    peak_bytes: u64,
    rss_pages: u64,
    start_stack: u64,
    age: u32,
    seen: u32,
    title_wanted: bool,
}

/// What one stat tells of a process that goes on.
struct Look {
    key: ProcessKey,
    ppid: u32,
    faults: (u64, u64),
    rss_pages: u64,
    start_stack: u64,
    renamed: Option<Arc<str>>,
}

impl Processes {
    /// Nothing is known yet. Processes that started after `opened_ns` are new ones.
    pub fn new(opened_ns: u64) -> Self {
        Self {
            table: FxHashMap::default(),
            reader: Reader::default(),
            tgids: Vec::new(),
            round: 0,
            opened_ns,
            cgroups: FxHashSet::default(),
        }
    }

    /// Looks at all processes. `ask` has a command line read elsewhere; false = not now.
    pub fn round(
        &mut self,
        ask: &mut impl FnMut(ProcessKey) -> bool,
        events: &mut Stamper<'_>,
    ) -> io::Result<()> {
        self.round = self.round.wrapping_add(1);
        let mut tgids = std::mem::take(&mut self.tgids);
        let listed = process::list_into(&mut tgids);
        if listed.is_ok() {
            for &tgid in tgids.iter().filter(|tgid| **tgid != std::process::id()) {
                match self.look(tgid, events) {
                    Ok(true) => self.refresh_title(tgid, ask),
                    // Gone: it is left unseen.
                    Ok(false) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        tracing::debug!(tgid, %error, "process not readable");
                        if let Some(known) = self.table.get_mut(&tgid) {
                            known.seen = self.round;
                        }
                    }
                }
            }
            self.bury(events);
        }
        self.tgids = tgids;
        listed
    }

    /// Takes in a command line that was asked for.
    pub fn learn(&mut self, found: Identity, events: &mut Stamper<'_>) {
        let Some(known) = self.table.get_mut(&found.key.tgid) else { return };
        let identity = &mut known.identity;
        let same = identity.comm == found.comm
            && identity.cmdline == found.cmdline
            && identity.exe == found.exe
            && identity.php == found.php;
        if identity.key != found.key || same {
            return;
        }
        // Moves between cgroups are told by the rounds alone.
        *identity = Identity { cgroup: identity.cgroup.take(), ..found };
        events.push(process_event(identity, ProcessCause::Update));
    }

    /// Paths of the cgroups in use, each once or more often.
    pub fn cgroups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.table.values().filter_map(|known| known.identity.cgroup.as_ref())
    }

    /// False = kernel thread, or ended.
    fn look(&mut self, tgid: u32, events: &mut Stamper<'_>) -> io::Result<bool> {
        let stat = self.reader.stat(tgid)?;
        if stat.kernel_thread || stat.ended() {
            return Ok(false);
        }
        let known = self.table.get(&tgid).filter(|known| known.identity.key == stat.key());
        let comm = String::from_utf8_lossy(stat.comm);
        let look = Look {
            key: stat.key(),
            ppid: stat.ppid,
            faults: (stat.minor_faults, stat.major_faults),
            rss_pages: stat.rss_pages,
            start_stack: stat.start_stack,
            renamed: known.filter(|known| *known.identity.comm != *comm).map(|_| comm.into()),
        };
        if known.is_some() {
            self.follow(look, events)?;
        } else {
            self.meet(&look, events)?;
        }
        Ok(true)
    }

    /// First look at a process.
    fn meet(&mut self, look: &Look, events: &mut Stamper<'_>) -> io::Result<()> {
        let tgid = look.key.tgid;
        let mut identity = self.reader.identity(tgid)?;
        if identity.key != look.key {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(path) = identity.cgroup.take() {
            identity.cgroup = Some(intern(&mut self.cgroups, path));
        }
        let status = self.reader.status(tgid)?;
        let oom_score_adj = self.reader.oom_score_adj(tgid)?;
        let cause = self.cause(look);
        let memory = process::growth(look.key, look.faults, &status, oom_score_adj);
        let known = Known {
            identity,
            memory,
            peak_bytes: status.peak_bytes,
            rss_pages: look.rss_pages,
            start_stack: look.start_stack,
            age: 0,
            seen: self.round,
            title_wanted: true,
        };
        match self.table.entry(tgid) {
            Entry::Occupied(mut entry) => {
                events.push(exit_event(entry.get()));
                events.push(process_event(&known.identity, cause));
                entry.insert(known);
            }
            Entry::Vacant(entry) => {
                events.push(process_event(&known.identity, cause));
                entry.insert(known);
            }
        }
        events.push(Event::Growth(memory));
        Ok(())
    }

    /// A stack at the parent's address was inherited by fork, any other was made by exec.
    fn cause(&self, look: &Look) -> ProcessCause {
        if look.key.start_ns < self.opened_ns || look.start_stack == 0 {
            return ProcessCause::Found;
        }
        match self.table.get(&look.ppid) {
            Some(parent) if parent.start_stack == look.start_stack => ProcessCause::Fork,
            _ => ProcessCause::Exec,
        }
    }

    /// A further look at a process that is known.
    fn follow(&mut self, look: Look, events: &mut Stamper<'_>) -> io::Result<()> {
        let Some(known) = self.table.get_mut(&look.key.tgid) else { return Ok(()) };
        known.seen = self.round;
        known.age = known.age.saturating_add(1);
        known.identity.ppid = look.ppid;
        let tgid = look.key.tgid;
        // A process on its way out has no stack any more.
        if look.start_stack != 0 && look.start_stack != known.start_stack {
            let cgroup = known.identity.cgroup.take();
            known.identity = Identity { cgroup, ..self.reader.identity(tgid)? };
            known.start_stack = look.start_stack;
            known.age = 0;
            known.title_wanted = true;
            events.push(process_event(&known.identity, ProcessCause::Exec));
        } else if let Some(comm) = look.renamed {
            let identity = &mut known.identity;
            identity.comm = comm;
            identity.php = php::identify(
                &identity.comm,
                identity.cmdline.as_deref(),
                identity.exe.as_deref(),
                identity.ppid,
            );
            known.title_wanted = true;
            events.push(process_event(identity, ProcessCause::Update));
        }
        let before = (known.memory.minor_faults, known.memory.major_faults, known.rss_pages);
        let active = before != (look.faults.0, look.faults.1, look.rss_pages);
        if !active && known.age.wrapping_add(tgid) % IDLE_ROUNDS != 0 {
            return Ok(());
        }
        let oom_score_adj = self.reader.oom_score_adj(tgid)?;
        let mut memory = Growth { oom_score_adj, ..known.memory };
        if active {
            let status = self.reader.status(tgid)?;
            known.rss_pages = look.rss_pages;
            known.peak_bytes = known.peak_bytes.max(status.peak_bytes);
            memory = process::growth(look.key, look.faults, &status, oom_score_adj);
        }
        if memory != known.memory {
            known.memory = memory;
            events.push(Event::Growth(memory));
        }
        let path = self.reader.cgroup_changed(tgid, known.identity.cgroup.as_deref());
        if let Ok(Some(path)) = path {
            let to = intern(&mut self.cgroups, path);
            let from = known.identity.cgroup.replace(Arc::clone(&to));
            let ProcessKey { tgid, start_ns } = look.key;
            events.push(Event::CgroupMove(CgroupMove { tgid, start_ns, from, to }));
        }
        Ok(())
    }

    /// Titles are set soon after fork or exec, and seldom later.
    fn refresh_title(&mut self, tgid: u32, ask: &mut impl FnMut(ProcessKey) -> bool) {
        let Some(known) = self.table.get_mut(&tgid) else { return };
        let due = known.age.is_power_of_two() && known.age < TITLE_ROUNDS
            || known.age.wrapping_add(tgid) % TITLE_ROUNDS == 0;
        if known.title_wanted || due {
            known.title_wanted = !ask(known.identity.key);
        }
    }

    /// Those that were not seen in this round are gone.
    fn bury(&mut self, events: &mut Stamper<'_>) {
        let round = self.round;
        self.table.retain(|_, known| {
            let alive = known.seen == round;
            if !alive {
                events.push(exit_event(known));
            }
            alive
        });
        if self.round.is_multiple_of(TITLE_ROUNDS) {
            self.cgroups.retain(|path| Arc::strong_count(path) > 1);
        }
    }
}

/// One allocation for a path, however many processes are in it.
fn intern(paths: &mut FxHashSet<Arc<str>>, path: Arc<str>) -> Arc<str> {
    if let Some(known) = paths.get(&path) {
        return Arc::clone(known);
    }
    paths.insert(Arc::clone(&path));
    path
}

fn process_event(identity: &Identity, cause: ProcessCause) -> Event {
    let Identity { key, ppid, comm, cmdline, exe, uid, cgroup, php } = identity.clone();
    let ProcessKey { tgid, start_ns } = key;
    Event::Process(Process { tgid, start_ns, ppid, comm, cmdline, exe, uid, cgroup, php, cause })
}

fn exit_event(known: &Known) -> Event {
    let ProcessKey { tgid, start_ns } = known.identity.key;
    let peak_bytes = (known.peak_bytes > 0).then_some(known.peak_bytes);
    Event::Exit(Exit { tgid, start_ns, code: None, signal: None, peak_bytes })
}
