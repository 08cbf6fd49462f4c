//! Records become events. Remembers which processes are known, so that each is introduced before
//! anything is said of it, and which ones the worker should look up in /proc.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tracer_ebpf::{CgroupPathRecord, PATH_BYTES, ProcessRecord, kind, path_op, stall};

use super::cgroups::Cgroups;
use super::ended::Ended;
use super::kills::{Kills, party};
use super::unswept::Unswept;
use crate::enrich::clock;
use crate::enrich::process::Identity;
use crate::event::{
    CgroupGone, CgroupMove, Event, Exit, Growth, Oom, Php, Process, ProcessCause, ProcessKey,
    RequestEdge, RequestPhase, Signal, Stall, StallKind, Stamped,
};
use crate::kernel::record::Record;

/// A growing process is looked up again after this time: titles change.
const ASK_AGAIN_NS: u64 = 5_000_000_000;
/// Processes waiting to be looked up at most.
const MAX_WANTED: usize = 16_384;

/// What was said of a process so far.
struct Known {
    comm: Arc<str>,
    ppid: u32,
    uid: u32,
    cgroup_id: u64,
    cgroup: Option<Arc<str>>,
    cmdline: Option<Arc<str>>,
    exe: Option<Arc<str>>,
    php: Option<Php>,
    /// When it was last handed to the worker; 0 = never.
    asked_ns: u64,
    /// Number of the sweep that saw it last.
    sweep: u32,
    /// Time of the last that was said of it. A sweep may take long over a process that ends
    /// meanwhile, and still its exit comes last.
    said_ns: u64,
}

/// Translates records to events.
#[derive(Default)]
pub struct Translator {
    known: FxHashMap<ProcessKey, Known>,
    ended: Ended,
    kills: Kills,
    unswept: Unswept,
    wanted: VecDeque<ProcessKey>,
    /// Born since the last tick, not looked up yet.
    born: Vec<ProcessKey>,
    sweep: u32,
    wall_offset_ns: i64,
}

impl Translator {
    /// `memsw` as for [`Kills::new`].
    pub fn new(memsw: bool) -> Self {
        Self { kills: Kills::new(memsw), ..Self::default() }
    }

    /// Takes the offset of the wall clock, which may be set while tracing.
    pub fn set_clock(&mut self) {
        self.wall_offset_ns = clock::wall_offset_ns();
    }

    /// An event of this time.
    pub fn stamp(&self, t_ns: u64, event: Event) -> Stamped {
        let wall_ns = i64::try_from(t_ns).unwrap_or(i64::MAX).saturating_add(self.wall_offset_ns);
        Stamped { t_ns, wall_ns, event }
    }

    /// Takes one record.
    pub fn take(&mut self, record: &Record, cgroups: &mut Cgroups, out: &mut Vec<Stamped>) {
        self.settle_kills(record.t_ns(), out);
        match record {
            Record::Process(record) => self.process(record, cgroups, out),
            Record::Oom(record) => {
                for (t_ns, oom) in self.kills.mark(record, |id| cgroups.path(id)) {
                    self.killed(t_ns, oom, out);
                }
            }
            Record::Signal(record) => {
                let mut nowhere = |_| None;
                let signal = Signal {
                    signal: record.signal,
                    sender: party(&record.sender, 0, &mut nowhere),
                    target: party(&record.target, 0, &mut nowhere),
                    from_kernel: record.from_kernel != 0,
                };
                out.push(self.stamp(record.head.t_ns, Event::Signal(Box::new(signal))));
            }
            Record::Stall(record) => {
                let stall = Stall {
                    tgid: record.task.tgid,
                    start_ns: record.task.start_ns,
                    cgroup: cgroups.path(record.cgroup_id),
                    kind: match record.kind {
                        stall::DIRECT => StallKind::Direct,
                        _ => StallKind::Memcg,
                    },
                    duration_ns: record.duration_ns,
                };
                out.push(self.stamp(record.head.t_ns, Event::Stall(stall)));
            }
            Record::Cgroup(record) => {
                self.kills.note(record);
                if let Some(event) = cgroups.charge(record) {
                    out.push(self.stamp(record.head.t_ns, event));
                }
            }
            Record::CgroupPath(record) => self.cgroup_path(record, cgroups, out),
            // Named first, by those who look into processes.
            Record::PhpStack(_) => {}
        }
    }

    /// Tells of a group kill that has got no mark for a while, also when nothing else happens.
    pub fn settle_kills(&mut self, now_ns: u64, out: &mut Vec<Stamped>) {
        if let Some((t_ns, oom)) = self.kills.settle(now_ns) {
            self.killed(t_ns, oom, out);
        }
    }

    /// Whether a group kill may still go on.
    pub fn awaits_marks(&self) -> bool {
        self.kills.is_open()
    }

    fn killed(&self, t_ns: u64, oom: Oom, out: &mut Vec<Stamped>) {
        out.push(self.stamp(t_ns, Event::Oom(Box::new(oom))));
    }

    fn process(&mut self, record: &ProcessRecord, cgroups: &mut Cgroups, out: &mut Vec<Stamped>) {
        let key = ProcessKey { tgid: record.task.tgid, start_ns: record.task.start_ns };
        if self.ended.contains(&key) {
            return;
        }
        let cause = match record.head.kind {
            kind::FORK => Some(ProcessCause::Fork),
            kind::EXEC => Some(ProcessCause::Exec),
            _ if !self.known.contains_key(&key) => Some(ProcessCause::Found),
            _ => None,
        };
        if let Some(cause) = cause {
            self.introduce(key, record, cause, cgroups, out);
        }
        let ended = record.head.kind == kind::EXIT;
        let growth = growth(record);
        let Some(known) = self.known.get_mut(&key) else { return };
        known.said_ns = known.said_ns.max(record.head.t_ns);
        let t_ns = if ended { known.said_ns } else { record.head.t_ns };
        if let Some(phase) = phase(record.head.kind) {
            out.push(self.stamp(t_ns, Event::Request(edge(&growth, phase))));
        // Before 6.16 the memory of an ended process cannot be read any more.
        } else if !ended || growth.private_bytes() + growth.file_bytes + growth.shmem_bytes > 0 {
            out.push(self.stamp(t_ns, Event::Growth(growth)));
        }
        if ended {
            self.known.remove(&key);
            self.ended.add(key);
            self.unswept.forget(&key);
            out.push(self.stamp(t_ns, Event::Exit(exit(record))));
            return;
        }
        let sweep = self.sweep;
        let Some(known) = self.known.get_mut(&key) else { return };
        known.sweep = sweep;
        if record.head.kind == kind::SWEEP {
            self.unswept.forget(&key);
        }
        if known.cgroup_id != record.cgroup_id && record.cgroup_id != 0 {
            known.cgroup_id = record.cgroup_id;
            let from = known.cgroup.take();
            known.cgroup = cgroups.path(record.cgroup_id);
            if let Some(to) = known.cgroup.clone() {
                let moved = CgroupMove { tgid: key.tgid, start_ns: key.start_ns, from, to };
                out.push(self.stamp(t_ns, Event::CgroupMove(moved)));
            }
        }
        let Some(known) = self.known.get_mut(&key) else { return };
        if let Some(path) = &known.cgroup {
            cgroups.touch(path);
        }
        if record.head.kind == kind::GROWTH && t_ns.saturating_sub(known.asked_ns) > ASK_AGAIN_NS {
            known.asked_ns = t_ns;
            self.want(key, true);
        }
    }

    fn introduce(
        &mut self,
        key: ProcessKey,
        record: &ProcessRecord,
        cause: ProcessCause,
        cgroups: &mut Cgroups,
        out: &mut Vec<Stamped>,
    ) {
        let known = Known {
            comm: comm(&record.task.comm),
            ppid: record.ppid,
            uid: record.uid,
            cgroup_id: record.cgroup_id,
            cgroup: cgroups.path(record.cgroup_id),
            cmdline: None,
            exe: None,
            php: None,
            asked_ns: 0,
            sweep: self.sweep,
            said_ns: record.head.t_ns,
        };
        out.push(self.stamp(record.head.t_ns, Event::Process(known.event(key, cause))));
        self.known.insert(key, known);
        if self.born.len() < MAX_WANTED {
            self.born.push(key);
        }
    }

    fn cgroup_path(
        &mut self,
        record: &CgroupPathRecord,
        cgroups: &mut Cgroups,
        out: &mut Vec<Stamped>,
    ) {
        let t_ns = record.head.t_ns;
        let len = (record.path_len as usize).min(PATH_BYTES);
        let path: Arc<str> = Arc::from(String::from_utf8_lossy(&record.path[..len]));
        match record.op {
            path_op::MKDIR => cgroups.made(record.cgroup_id, &path),
            path_op::RMDIR => {
                cgroups.gone(record.cgroup_id);
                self.kills.forget(record.cgroup_id);
                let gone = CgroupGone { id: record.cgroup_id, path };
                out.push(self.stamp(t_ns, Event::CgroupGone(gone)));
            }
            _ => {
                let key = ProcessKey { tgid: record.task.tgid, start_ns: record.task.start_ns };
                let mut from = None;
                if let Some(known) = self.known.get_mut(&key) {
                    from = known.cgroup.replace(path.clone());
                    known.cgroup_id = record.cgroup_id;
                }
                cgroups.touch(&path);
                let moved = CgroupMove { tgid: key.tgid, start_ns: key.start_ns, from, to: path };
                out.push(self.stamp(t_ns, Event::CgroupMove(moved)));
            }
        }
    }

    /// A sweep begins.
    pub fn begin_sweep(&mut self) {
        self.sweep = self.sweep.wrapping_add(1);
    }

    /// Reads from /proc whom the sweep does not show: `all` looks for such processes, else only
    /// those found before are read again.
    pub fn read_unswept(&mut self, all: bool, now_ns: u64, out: &mut Vec<Stamped>) {
        let looks = if all {
            let sweep = self.sweep;
            let swept: FxHashSet<u32> = self
                .known
                .iter()
                .filter(|(_, known)| known.sweep == sweep)
                .map(|(key, _)| key.tgid)
                .collect();
            self.unswept.look(&swept)
        } else {
            self.unswept.look_again()
        };
        for look in looks {
            if self.ended.contains(&look.key) {
                self.unswept.forget(&look.key);
                continue;
            }
            if let Some(identity) = look.identity
                && !self.known.contains_key(&look.key)
            {
                let known = Known {
                    comm: identity.comm,
                    ppid: identity.ppid,
                    uid: identity.uid,
                    cgroup_id: 0,
                    cgroup: identity.cgroup,
                    cmdline: None,
                    exe: identity.exe,
                    php: identity.php,
                    asked_ns: 0,
                    sweep: self.sweep,
                    said_ns: now_ns,
                };
                let event = Event::Process(known.event(look.key, ProcessCause::Found));
                out.push(self.stamp(now_ns, event));
                self.known.insert(look.key, known);
                self.born.push(look.key);
            }
            if let Some(known) = self.known.get_mut(&look.key) {
                known.sweep = self.sweep;
                known.said_ns = known.said_ns.max(now_ns);
            }
            if let Some(growth) = look.growth {
                out.push(self.stamp(now_ns, Event::Growth(growth)));
            }
        }
    }

    /// A sweep of all processes ended: whoever it did not see is gone, its exit was lost.
    pub fn end_sweep(&mut self, now_ns: u64, out: &mut Vec<Stamped>) {
        let sweep = self.sweep;
        let gone: Vec<ProcessKey> = self
            .known
            .iter()
            .filter(|(_, known)| known.sweep != sweep)
            .map(|(key, _)| *key)
            .collect();
        for ProcessKey { tgid, start_ns } in gone {
            self.known.remove(&ProcessKey { tgid, start_ns });
            let exit = Exit { tgid, start_ns, code: None, signal: None, peak_bytes: None };
            out.push(self.stamp(now_ns, Event::Exit(exit)));
        }
    }

    /// Those born since the last tick and still there are looked up: most short-lived ones never
    /// are.
    pub fn ask_at_tick(&mut self) {
        for key in std::mem::take(&mut self.born) {
            if let Some(known) = self.known.get_mut(&key)
                && known.asked_ns == 0
            {
                known.asked_ns = 1;
                self.want(key, false);
            }
        }
    }

    fn want(&mut self, key: ProcessKey, urgent: bool) {
        if self.wanted.len() >= MAX_WANTED {
            return;
        }
        if urgent { self.wanted.push_front(key) } else { self.wanted.push_back(key) }
    }

    /// The next process to look up.
    pub fn next_wanted(&mut self) -> Option<ProcessKey> {
        self.wanted.pop_front()
    }

    /// The worker had no room.
    pub fn want_again(&mut self, key: ProcessKey) {
        self.want(key, true);
    }

    /// Takes what /proc said of a process.
    pub fn learn(&mut self, identity: &Identity, now_ns: u64, out: &mut Vec<Stamped>) {
        let Some(known) = self.known.get_mut(&identity.key) else { return };
        let news = known.cmdline != identity.cmdline
            || known.exe != identity.exe
            || known.php != identity.php
            || known.comm != identity.comm
            || (known.cgroup.is_none() && identity.cgroup.is_some());
        if !news {
            return;
        }
        known.said_ns = known.said_ns.max(now_ns);
        known.comm.clone_from(&identity.comm);
        known.cmdline.clone_from(&identity.cmdline);
        known.exe.clone_from(&identity.exe);
        known.php.clone_from(&identity.php);
        if known.cgroup.is_none() {
            known.cgroup.clone_from(&identity.cgroup);
        }
        let event = Event::Process(known.event(identity.key, ProcessCause::Update));
        out.push(self.stamp(now_ns, event));
    }
}

impl Known {
    fn event(&self, key: ProcessKey, cause: ProcessCause) -> Process {
        Process {
            tgid: key.tgid,
            start_ns: key.start_ns,
            ppid: self.ppid,
            comm: self.comm.clone(),
            cmdline: self.cmdline.clone(),
            exe: self.exe.clone(),
            uid: self.uid,
            cgroup: self.cgroup.clone(),
            php: self.php.clone(),
            cause,
        }
    }
}

/// A name from the kernel, up to its NUL, with invalid UTF-8 replaced.
pub fn comm(bytes: &[u8; 16]) -> Arc<str> {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    Arc::from(String::from_utf8_lossy(&bytes[..len]))
}

fn growth(record: &ProcessRecord) -> Growth {
    Growth {
        tgid: record.task.tgid,
        start_ns: record.task.start_ns,
        anon_bytes: record.memory.anon_bytes,
        file_bytes: record.memory.file_bytes,
        shmem_bytes: record.memory.shmem_bytes,
        swap_bytes: record.memory.swap_bytes,
        minor_faults: record.minor_faults,
        major_faults: record.major_faults,
        stall_ns: record.stall_ns,
        oom_score_adj: record.oom_score_adj,
        page_table_bytes: record.page_table_bytes,
        data_bytes: record.data_bytes,
    }
}

/// Of the kinds that are edges of requests.
fn phase(kind: u32) -> Option<RequestPhase> {
    match kind {
        kind::REQUEST_BEGIN => Some(RequestPhase::Begin),
        kind::REQUEST_END => Some(RequestPhase::End),
        _ => None,
    }
}

fn edge(growth: &Growth, phase: RequestPhase) -> RequestEdge {
    RequestEdge {
        tgid: growth.tgid,
        start_ns: growth.start_ns,
        phase,
        anon_bytes: growth.anon_bytes,
        file_bytes: growth.file_bytes,
        shmem_bytes: growth.shmem_bytes,
        swap_bytes: growth.swap_bytes,
    }
}

/// Wait status: the signal in the low seven bits, else the code in the next byte.
fn exit(record: &ProcessRecord) -> Exit {
    let signal = record.exit_code & 0x7f;
    Exit {
        tgid: record.task.tgid,
        start_ns: record.task.start_ns,
        code: (signal == 0).then_some((record.exit_code >> 8) & 0xff),
        signal: (signal != 0).then_some(signal),
        peak_bytes: (record.peak_bytes != 0).then_some(record.peak_bytes),
    }
}
