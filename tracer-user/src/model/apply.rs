//! How events change the model. What contradicts the known is passed over; nothing here may panic.

use std::sync::Arc;

use super::bound::{self, Bound};
use super::gauge::Gauge;
use super::pools::PoolKey;
use super::process::{Baseline, NO_NODE, Process};
use super::roster::Known;
use super::{Model, REPORT_NS};
use crate::event::look::Look;
use crate::event::{
    self, CgroupMove, Event, Growth, Header, Pressure, ProcessCause, ProcessKey, RequestEdge,
    Stall, StallKind, Stamped,
};

/// Rates of silent processes and cgroups are refreshed this often at most, ns.
const REFRESH_NS: u64 = 200_000_000;
/// A limit from here on is none (v1 says 2^63 - 4096 for "unlimited").
const NO_LIMIT: u64 = 1 << 62;

impl Model {
    /// Takes in one event. What contradicts the known (growth of the dead, events of a reused
    /// tgid's former owner, news older than the last) is passed over.
    pub fn apply(&mut self, at: &Stamped) {
        self.certainty.event(at.t_ns, self.tick_ns);
        self.now_ns = self.now_ns.max(at.t_ns);
        let t_ns = at.t_ns;
        match &at.event {
            Event::Growth(growth) => self.growth(t_ns, growth),
            Event::Request(edge) => self.request_edge(t_ns, edge),
            Event::Cgroup(cgroup) => self.cgroup_state(t_ns, cgroup),
            Event::Process(process) => self.process_state(t_ns, process),
            Event::Php(look) => self.look(t_ns, look),
            Event::PhpGrowth(grown) => {
                if let Some(process) = self.roster.living_mut(&grown.key())
                    && let Some(insight) = &mut process.insight
                {
                    insight.sampled(grown, &mut self.names);
                }
            }
            Event::Exit(exit) => {
                if let Known::Living(slot) = self.roster.locate(&exit.key()) {
                    self.bury(slot, t_ns);
                }
            }
            Event::Tick(_) => self.tick(),
            Event::Pressure(pressure) => self.pressure(t_ns, pressure),
            Event::Stall(stall) => self.stall(t_ns, stall),
            Event::CgroupMove(moved) => self.cgroup_move(t_ns, moved),
            Event::CgroupGone(gone) => self.tree.gone(&gone.path),
            Event::Header(header) => self.header(header),
            Event::Config(config) => self.config.clone_from(config),
            Event::Oom(oom) => {
                // The sizes of the victims are no growth reports.
                for victim in &oom.victims {
                    if let Some(process) = self.roster.living_mut(&victim.key()) {
                        process.is_killed = true;
                    }
                }
            }
            Event::Lost(lost) => self.certainty.lost(self.now_ns, &lost.source, lost.records),
            Event::Signal(_)
            | Event::Finding(_)
            | Event::Restated(_)
            | Event::End(_)
            | Event::Unknown => {}
        }
    }

    fn header(&mut self, header: &Header) {
        self.host.mem_total_bytes = header.mem_total_bytes;
        self.host.swap_total_bytes = header.swap_total_bytes;
        self.host.page_bytes = header.page_bytes;
        self.samples = header.source == "live";
        // Polling sees a change with the next poll only.
        self.report_ns = if header.source == "procfs" { self.tick_ns } else { REPORT_NS };
    }

    fn growth(&mut self, t_ns: u64, growth: &Growth) {
        let Some(slot) = self.slot(&growth.key(), t_ns) else { return };
        let report_ns = self.report_ns;
        let Some(process) = self.roster.get_mut(slot) else { return };
        let shared_bytes = process.memory.shmem_bytes;
        let Some(moved) = process.take(t_ns, growth, report_ns) else { return };
        let settles = t_ns < self.certainty.settled_ns();
        if settles {
            process.settle(t_ns);
        }
        if process.rate_bytes_per_s != 0.0 && !process.refreshed {
            process.refreshed = true;
            self.moving.push((slot, process.key));
        }
        if moved == 0 && growth.shmem_bytes == shared_bytes {
            return;
        }
        let (node, recent, tick_ns) = (process.node, process.recent_at(t_ns), self.tick_ns);
        let take = |gauge: &mut Gauge| {
            gauge.moved(t_ns, moved, tick_ns);
            if settles {
                gauge.settle();
            }
            if gauge.bound.is_some() {
                gauge.growers.update(slot, recent, t_ns);
            }
        };
        self.tree.for_chain(node, |node| take(&mut node.gauge));
        take(&mut self.host_gauge);
    }

    /// The memory at an edge of a request; faults and stalls stay as they were last told.
    fn request_edge(&mut self, t_ns: u64, edge: &RequestEdge) {
        let known = self.process(&edge.key()).map(|process| process.memory).unwrap_or_default();
        let growth = Growth {
            tgid: edge.tgid,
            start_ns: edge.start_ns,
            anon_bytes: edge.anon_bytes,
            file_bytes: edge.file_bytes,
            shmem_bytes: edge.shmem_bytes,
            swap_bytes: edge.swap_bytes,
            ..known
        };
        self.growth(t_ns, &growth);
        if let Some(process) = self.roster.living_mut(&edge.key())
            && let Some(insight) = &mut process.insight
        {
            insight.edge(t_ns, edge, &mut self.requests);
        }
    }

    fn process_state(&mut self, t_ns: u64, state: &event::Process) {
        let Some(slot) = self.slot(&state.key(), t_ns) else { return };
        let is_exec = state.cause == ProcessCause::Exec;
        if is_exec {
            self.leave_gauges(slot);
        }
        if let Some(path) = &state.cgroup {
            self.enter_cgroup(slot, path);
        }
        let inherited = match state.cause {
            ProcessCause::Fork => self.roster.by_tgid(state.ppid).map(Process::private_bytes),
            _ => None,
        };
        let Self { roster, names, pools, .. } = self;
        let Some(process) = roster.get_mut(slot) else { return };
        if is_exec {
            process.exec(t_ns);
        }
        if let (Some(bytes), Baseline::Unknown) = (inherited, process.baseline) {
            process.baseline = Baseline::Assumed;
            process.first_seen_bytes = bytes;
        }
        if state.ppid != 0 {
            process.ppid = state.ppid;
        }
        process.comm = names.get(&state.comm);
        process.uid = state.uid;
        if is_exec || state.cmdline.is_some() {
            process.cmdline = state.cmdline.as_ref().map(|text| names.get(text));
        }
        if is_exec || state.exe.is_some() {
            process.exe = state.exe.as_ref().map(|text| names.get(text));
        }
        let before = PoolKey::of(process);
        process.php = state.php.as_ref().map(|php| names.php(php));
        let now = PoolKey::of(process);
        if before != now {
            pools.leave(before.as_ref(), slot);
            pools.join(now, slot);
        }
    }

    /// A look at a process that is not known, or no longer, tells nothing.
    fn look(&mut self, t_ns: u64, look: &Look) {
        self.looks = true;
        let Some(process) = self.roster.living_mut(&look.key()) else { return };
        let bytes = look.private_bytes.unwrap_or(process.private_bytes());
        let insight = process.insight.get_or_insert_default();
        insight.take(t_ns, look, bytes, &mut self.names, &mut self.requests);
    }

    fn cgroup_move(&mut self, t_ns: u64, moved: &CgroupMove) {
        let key = moved.key();
        if let Some(slot) = self.slot(&key, t_ns) {
            self.enter_cgroup(slot, &moved.to);
        }
    }

    fn cgroup_state(&mut self, t_ns: u64, state: &event::Cgroup) {
        let at = self.tree.intern(&state.path);
        let tick_ns = self.tick_ns;
        let swap_above_bytes = self.swap_left_above(at);
        let Some(node) = self.tree.get_mut(at).filter(|node| node.cgroup.path == state.path) else {
            return;
        };
        node.is_known = true;
        let cgroup = &mut node.cgroup;
        cgroup.usage_bytes = state.usage_bytes;
        cgroup.max_bytes = state.max_bytes.filter(|limit| *limit < NO_LIMIT);
        cgroup.high_bytes = state.high_bytes.filter(|limit| *limit < NO_LIMIT);
        cgroup.swap_usage_bytes = state.swap_usage_bytes;
        cgroup.swap_max_bytes = state.swap_max_bytes.filter(|limit| *limit < NO_LIMIT);
        cgroup.reclaimable_bytes = state.reclaimable_bytes.unwrap_or(cgroup.reclaimable_bytes);
        cgroup.shmem_bytes = state.shmem_bytes.or(cgroup.shmem_bytes);
        if state.events.is_some() {
            (cgroup.oom_group, cgroup.oom_disabled) = (state.oom_group, state.oom_disabled);
        }
        if let (Some(before), Some(now)) = (cgroup.events, state.events)
            && now.high > before.high
        {
            cgroup.throttled_ns = Some(t_ns);
        }
        cgroup.events = state.events.or(cgroup.events);
        cgroup.memsw_max_bytes = state.memsw_max_bytes.filter(|limit| *limit < NO_LIMIT);
        node.gauge.bound = bound::of(cgroup, swap_above_bytes.min(cgroup.swap_left_bytes()));
        let charge = state.usage_bytes.saturating_add(state.swap_usage_bytes);
        node.gauge.sample(t_ns, charge, state.reclaimable_bytes, tick_ns);
        if t_ns < self.certainty.settled_ns() {
            node.gauge.settle();
        }
        cgroup.rate_bytes_per_s = node.gauge.rate(t_ns, tick_ns);
    }

    /// What may still be swapped out below a cgroup: free swap of the host, and what the limits
    /// above leave, bytes.
    fn swap_left_above(&self, at: u32) -> u64 {
        let above = self.tree.chain(at).skip(1).map(|node| node.cgroup.swap_left_bytes());
        above.fold(self.host.swap_free_bytes, u64::min)
    }

    fn pressure(&mut self, t_ns: u64, state: &Pressure) {
        let percent = |value: Option<f64>| value.filter(|value| (0.0..=100.0).contains(value));
        let (some, full) = (percent(state.some_avg10), percent(state.full_avg10));
        if &*state.scope != "host" {
            let at = self.tree.intern(&state.scope);
            if let Some(node) = self.tree.get_mut(at)
                && node.cgroup.path == state.scope
            {
                node.is_known = true;
                (node.cgroup.some_avg10, node.cgroup.full_avg10) = (some, full);
            }
            return;
        }
        let host = &mut self.host;
        (host.some_avg10, host.full_avg10) = (some, full);
        if host.mem_total_bytes == 0 {
            host.mem_total_bytes = state.limit_bytes.unwrap_or(0);
        }
        host.swap_free_bytes = state.swap_free_bytes.unwrap_or(host.swap_free_bytes);
        host.swap_total_bytes = host.swap_total_bytes.max(host.swap_free_bytes);
        host.shmem_bytes = state.shmem_bytes.or(host.shmem_bytes);
        let Some(available) = state.available_bytes else { return };
        host.available_bytes = available;
        let total = host.mem_total_bytes.saturating_add(host.swap_total_bytes);
        let left = available.saturating_add(host.swap_free_bytes);
        let gauge = &mut self.host_gauge;
        let bound = Bound { limit_bytes: total, capacity_bytes: total, ..Bound::default() };
        gauge.bound = (total > 0).then_some(bound);
        gauge.sample(t_ns, total.saturating_sub(left), Some(0), self.tick_ns);
        if t_ns < self.certainty.settled_ns() {
            gauge.settle();
        }
        host.rate_bytes_per_s = gauge.rate(t_ns, self.tick_ns);
    }

    /// Waiting at a cgroup's limit counts for all limits above it, too: which of them it was is not
    /// told. The host's shortage is another one.
    fn stall(&mut self, t_ns: u64, stall: &Stall) {
        let key = stall.key();
        let add = |gauge: &mut Gauge| {
            gauge.stalls.get_or_insert_default().add(key, t_ns, stall.duration_ns);
        };
        if stall.kind == StallKind::Direct {
            return add(&mut self.host_gauge);
        }
        let known = self.process(&key).map(|process| process.node).filter(|at| *at != NO_NODE);
        let told = || self.tree.find(stall.cgroup.as_ref()?);
        let Some(at) = known.or_else(told) else { return };
        self.tree.for_chain(at, |node| {
            if node.cgroup.max_bytes.is_some() || node.cgroup.high_bytes.is_some() {
                add(&mut node.gauge);
            }
        });
    }

    /// Rates of those who fell silent fade, and the long dead are forgotten. Each process that is
    /// visited here sent an event since it was last still.
    fn tick(&mut self) {
        let now_ns = self.now_ns;
        self.roster.forget(now_ns);
        if now_ns.saturating_sub(self.refreshed_ns) < REFRESH_NS {
            return;
        }
        self.refreshed_ns = now_ns;
        let Self { roster, moving, tree, .. } = self;
        moving.retain(|(slot, key)| {
            let Some(process) = roster.get_mut(*slot).filter(|process| process.key == *key) else {
                return false;
            };
            process.rate_bytes_per_s = process.rate_at(now_ns);
            process.refreshed = process.rate_bytes_per_s != 0.0;
            process.refreshed
        });
        for node in tree.nodes_mut().filter(|node| node.cgroup.rate_bytes_per_s != 0.0) {
            node.cgroup.rate_bytes_per_s = node.gauge.rate(now_ns, self.tick_ns);
        }
        self.host.rate_bytes_per_s = self.host_gauge.rate(now_ns, self.tick_ns);
    }

    /// The slot of a process, which is taken in if it is new; None = it is dead.
    fn slot(&mut self, key: &ProcessKey, t_ns: u64) -> Option<u32> {
        match self.roster.locate(key) {
            Known::Living(slot) => return Some(slot),
            Known::Ended => return None,
            Known::Replaces(slot) => self.bury(slot, t_ns),
            Known::New => {}
        }
        let comm = self.names.get(&Arc::from("?"));
        Some(self.roster.insert(Process::new(*key, t_ns, comm)))
    }

    fn bury(&mut self, slot: u32, t_ns: u64) {
        self.leave_gauges(slot);
        if let Some(process) = self.roster.get_mut(slot) {
            self.pools.leave(PoolKey::of(process).as_ref(), slot);
            let bytes = process.private_bytes();
            if let Some(insight) = &mut process.insight {
                insight.ended(process.key, t_ns, bytes, &mut self.requests);
            }
            self.tree.release(process.node);
            process.node = NO_NODE;
            process.refreshed = false;
        }
        self.roster.bury(slot, t_ns);
    }

    fn enter_cgroup(&mut self, slot: u32, path: &str) {
        let to = self.tree.intern(path);
        let Some(process) = self.roster.get_mut(slot) else { return };
        if process.node == to {
            return;
        }
        let from = std::mem::replace(&mut process.node, to);
        process.cgroup = self.tree.get(to).map(|node| Arc::clone(&node.cgroup.path));
        // The charge stays where it was made: only the lists of growers change.
        self.tree.for_chain(from, |node| node.gauge.growers.remove(slot));
        self.tree.acquire(to);
        self.tree.release(from);
    }

    fn leave_gauges(&mut self, slot: u32) {
        let Some(process) = self.roster.get(slot) else { return };
        let had = process.contribution();
        let leave = |gauge: &mut Gauge| {
            gauge.growers.remove(slot);
            gauge.left(had);
        };
        self.tree.for_chain(process.node, |node| leave(&mut node.gauge));
        leave(&mut self.host_gauge);
    }
}
