//! A small language to write event sequences in tests: time in seconds, sizes in MiB.

use std::sync::Arc;

use super::Model;
use crate::detect::{self, Detector, Ledger};
use crate::event::look::{Activity, Frame, Look, Request};
use crate::event::{
    Cgroup, Config, Event, Exit, Finding, FindingKind, FindingState, Growth, Header, Lost, Oom,
    OomScope, Party, Php, PhpGrowth, Pressure, Process, ProcessCause, ProcessKey, ScopeKind,
    Signal, Stall, StallKind, Stamped, Tick, Victim,
};

pub(crate) const MIB: u64 = 1 << 20;

/// Model and detectors, fed by hand.
pub(crate) struct Script {
    pub model: Model,
    pub detectors: Vec<Box<dyn Detector>>,
    pub ledger: Ledger,
    pub findings: Vec<(f64, Finding)>,
    /// All events so far.
    pub log: Vec<Stamped>,
    /// Now, ns; starts at 1000 s.
    pub t_ns: u64,
}

/// The key that all processes of a script have: they start with the host.
pub(crate) fn key(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start_ns: 10_000_000 }
}

/// Makes a look one in the middle of a request that has run for some time, in a line of `load()`.
pub(crate) fn in_request(look: &mut Look, uri: &str, elapsed: f64, line: u32) {
    look.activity = Activity::Request;
    look.request = Some(Request {
        method: Some(Arc::from("GET")),
        uri: Some(Arc::from(uri)),
        script: Some(Arc::from("/srv/index.php")),
        elapsed_ns: Some((elapsed * 1e9) as u64),
        ..Request::default()
    });
    look.stack = vec![load(line)];
}

/// A line of `load()`.
fn load(line: u32) -> Frame {
    Frame {
        class: Some(Arc::from("App\\Import")),
        function: Some(Arc::from("load")),
        file: Some(Arc::from("/srv/Import.php")),
        line: Some(line),
    }
}

pub(crate) fn bytes(mib: f64) -> u64 {
    (mib * MIB as f64) as u64
}

impl Script {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let mut script = Self {
            model: Model::new(&config),
            detectors: detect::all(&config),
            ledger: Ledger::default(),
            findings: Vec::new(),
            log: Vec::new(),
            t_ns: 1_000_000_000_000,
        };
        script.feed(Event::Header(Box::new(Header {
            config,
            source: "live".to_owned(),
            ..Header::default()
        })));
        script
    }

    pub fn feed(&mut self, event: Event) {
        let at = Stamped { t_ns: self.t_ns, wall_ns: 0, event };
        if let Event::Config(config) = &at.event {
            self.detectors.iter_mut().for_each(|detector| detector.configure(config));
        }
        self.model.apply(&at);
        for detector in &mut self.detectors {
            detector.observe(&self.model, &at, &mut self.ledger);
        }
        self.log.push(at);
        let now = self.now();
        let news = self.ledger.take_news();
        self.findings.extend(news.into_iter().map(|finding| (now, finding)));
    }

    /// Seconds since the script began.
    pub fn now(&self) -> f64 {
        (self.t_ns as f64 - 1e12) / 1e9
    }

    pub fn wait(&mut self, seconds: f64) -> &mut Self {
        self.t_ns += (seconds * 1e9).round() as u64;
        self
    }

    pub fn tick(&mut self) {
        self.feed(Event::Tick(Tick {}));
    }

    pub fn state(&mut self, tgid: u32, comm: &str, cgroup: Option<&str>, cause: ProcessCause) {
        self.feed(Event::Process(Process {
            tgid,
            start_ns: key(tgid).start_ns,
            ppid: 0,
            comm: Arc::from(comm),
            cmdline: None,
            exe: None,
            uid: 33,
            cgroup: cgroup.map(Arc::from),
            php: None,
            cause,
        }));
    }

    pub fn process(&mut self, tgid: u32, comm: &str, cgroup: &str) {
        self.state(tgid, comm, Some(cgroup), ProcessCause::Found);
    }

    /// A process of which parent and program are known.
    pub fn program(&mut self, parent: u32, tgid: u32, comm: &str, exe: &str) {
        self.feed(Event::Process(Process {
            tgid,
            start_ns: key(tgid).start_ns,
            ppid: parent,
            comm: Arc::from(comm),
            cmdline: None,
            exe: Some(Arc::from(exe)),
            uid: 0,
            cgroup: None,
            php: None,
            cause: ProcessCause::Found,
        }));
    }

    pub fn worker(&mut self, tgid: u32, pool: &str, cgroup: &str) {
        self.worker_of(tgid, pool, cgroup, 900);
    }

    pub fn worker_of(&mut self, tgid: u32, pool: &str, cgroup: &str, master: u32) {
        self.feed(Event::Process(Process {
            tgid,
            start_ns: key(tgid).start_ns,
            ppid: master,
            comm: Arc::from("php-fpm8.2"),
            cmdline: Some(Arc::from(format!("php-fpm: pool {pool}"))),
            exe: None,
            uid: 33,
            cgroup: Some(Arc::from(cgroup)),
            php: Some(Php {
                sapi: Arc::from("fpm"),
                pool: Some(Arc::from(pool)),
                master_tgid: Some(master),
                version: None,
            }),
            cause: ProcessCause::Found,
        }));
    }

    pub fn fork(&mut self, parent: u32, tgid: u32, comm: &str, cgroup: &str) {
        self.feed(Event::Process(Process {
            tgid,
            start_ns: key(tgid).start_ns,
            ppid: parent,
            comm: Arc::from(comm),
            cmdline: None,
            exe: None,
            uid: 33,
            cgroup: Some(Arc::from(cgroup)),
            php: None,
            cause: ProcessCause::Fork,
        }));
    }

    pub fn size(&mut self, tgid: u32, mib: f64) {
        self.feed(Event::Growth(Growth {
            tgid,
            start_ns: key(tgid).start_ns,
            anon_bytes: bytes(mib),
            ..Growth::default()
        }));
    }

    /// Its own memory, and shared memory that it maps.
    pub fn shared_size(&mut self, tgid: u32, mib: f64, shared: f64) {
        self.feed(Event::Growth(Growth {
            tgid,
            start_ns: key(tgid).start_ns,
            anon_bytes: bytes(mib),
            shmem_bytes: bytes(shared),
            ..Growth::default()
        }));
    }

    /// A look at a worker of pool `www`.
    pub fn look(&mut self, tgid: u32, change: impl FnOnce(&mut Look)) {
        let mut look = Look::new(tgid, key(tgid).start_ns);
        look.pool = Some(Arc::from("www"));
        change(&mut look);
        self.feed(Event::Php(Box::new(look)));
    }

    /// The same, [`in_request`].
    pub fn look_in_request(&mut self, tgid: u32, uri: &str, elapsed: f64, line: u32) {
        self.look(tgid, |look| in_request(look, uri, elapsed, line));
    }

    /// The kernel samples that it has so much now, in this line of `load()`.
    pub fn sample(&mut self, tgid: u32, mib: f64, line: u32) {
        self.feed(Event::PhpGrowth(Box::new(PhpGrowth {
            tgid,
            start_ns: key(tgid).start_ns,
            private_bytes: bytes(mib),
            stack: vec![Frame::default(), load(line)],
        })));
    }

    /// Records were lost.
    pub fn lost(&mut self, source: &str, records: u64) {
        self.feed(Event::Lost(Lost { source: Arc::from(source), records }));
    }

    pub fn exit(&mut self, tgid: u32) {
        self.ended(tgid, Some(0), None);
    }

    /// It ended by a signal.
    pub fn exit_by(&mut self, tgid: u32, signal: u32) {
        self.ended(tgid, None, Some(signal));
    }

    fn ended(&mut self, tgid: u32, code: Option<u32>, signal: Option<u32>) {
        let start_ns = key(tgid).start_ns;
        self.feed(Event::Exit(Exit { tgid, start_ns, code, signal, peak_bytes: None }));
    }

    /// `sender` sends a signal, under the name that it has in the model.
    pub fn signal(&mut self, sender: u32, target: u32, signal: u32) {
        self.sent(sender, target, signal, false);
    }

    /// The kernel does, while somebody runs.
    pub fn signal_from_kernel(&mut self, target: u32, signal: u32) {
        self.sent(1, target, signal, true);
    }

    fn sent(&mut self, sender: u32, target: u32, signal: u32, from_kernel: bool) {
        let (sender, target) = (self.party(sender), self.party(target));
        self.feed(Event::Signal(Box::new(Signal { signal, sender, target, from_kernel })));
    }

    fn party(&self, tgid: u32) -> Party {
        let process = self.model.living_or_exited(&key(tgid));
        let comm = process.map_or_else(|| Arc::from("gone"), |process| Arc::clone(&process.comm));
        Party { tgid, start_ns: key(tgid).start_ns, comm, cgroup: None }
    }

    pub fn cgroup(&mut self, path: &str, usage: f64, max: f64, reclaimable: Option<f64>) {
        self.feed(Event::Cgroup(Box::new(Cgroup {
            path: Arc::from(path),
            usage_bytes: bytes(usage),
            max_bytes: Some(bytes(max)),
            reclaimable_bytes: reclaimable.map(bytes),
            ..Cgroup::default()
        })));
    }

    /// Memory and swap of a cgroup, nothing of it reclaimable.
    pub fn swapping_cgroup(&mut self, path: &str, usage: f64, swap: f64, max: f64) {
        self.feed(Event::Cgroup(Box::new(Cgroup {
            path: Arc::from(path),
            usage_bytes: bytes(usage),
            swap_usage_bytes: bytes(swap),
            max_bytes: Some(bytes(max)),
            reclaimable_bytes: Some(0),
            ..Cgroup::default()
        })));
    }

    /// A cgroup, with all that is known of it.
    pub fn cgroup_with(&mut self, path: &str, usage: f64, change: impl FnOnce(&mut Cgroup)) {
        let mut cgroup = Cgroup {
            path: Arc::from(path),
            usage_bytes: bytes(usage),
            reclaimable_bytes: Some(0),
            ..Cgroup::default()
        };
        change(&mut cgroup);
        self.feed(Event::Cgroup(Box::new(cgroup)));
    }

    /// PSI of a cgroup, percent.
    pub fn psi(&mut self, path: &str, some: f64, full: f64) {
        self.feed(Event::Pressure(Pressure {
            scope: Arc::from(path),
            some_avg10: Some(some),
            full_avg10: Some(full),
            ..Pressure::default()
        }));
    }

    /// A process waited so many seconds for memory, until now.
    pub fn stall(&mut self, tgid: u32, kind: StallKind, seconds: f64) {
        let process = self.model.process(&key(tgid));
        self.feed(Event::Stall(Stall {
            tgid,
            start_ns: key(tgid).start_ns,
            cgroup: process.and_then(|process| process.cgroup.clone()),
            kind,
            duration_ns: (seconds * 1e9) as u64,
        }));
    }

    pub fn host(&mut self, total: f64, available: f64, swap_free: f64) {
        self.feed(Event::Pressure(Pressure {
            scope: Arc::from("host"),
            used_bytes: bytes(total - available),
            limit_bytes: Some(bytes(total)),
            available_bytes: Some(bytes(available)),
            swap_free_bytes: Some(bytes(swap_free)),
            ..Pressure::default()
        }));
    }

    pub fn victim(&self, tgid: u32, comm: &str, cgroup: &str, mib: f64) -> Victim {
        Victim {
            tgid,
            start_ns: key(tgid).start_ns,
            comm: Arc::from(comm),
            cgroup: Some(Arc::from(cgroup)),
            anon_bytes: bytes(mib),
            file_bytes: 0,
            shmem_bytes: 0,
            swap_bytes: 0,
            oom_score_adj: 0,
        }
    }

    pub fn oom(&mut self, scope: OomScope, trigger: u32, victims: Vec<Victim>) -> Finding {
        let process = self.model.living_or_exited(&key(trigger));
        let cgroup = process.and_then(|process| process.cgroup.clone());
        let trigger = Party { cgroup, ..self.party(trigger) };
        let before = self.findings.len();
        self.feed(Event::Oom(Box::new(Oom { scope, trigger, victims })));
        let verdicts: Vec<_> = self.findings[before..]
            .iter()
            .filter(|(_, finding)| finding.kind == FindingKind::OomVerdict)
            .collect();
        assert_eq!(verdicts.len(), 1, "each kill has exactly one verdict");
        verdicts[0].1.clone()
    }

    /// Findings of a kind when they were raised.
    pub fn of_kind(&self, kind: FindingKind) -> Vec<&(f64, Finding)> {
        self.of_kinds(&[kind])
    }

    /// The same of several kinds.
    pub fn of_kinds(&self, kinds: &[FindingKind]) -> Vec<&(f64, Finding)> {
        let is_asked = |finding: &Finding| {
            kinds.contains(&finding.kind) && finding.state == FindingState::Raised
        };
        self.findings.iter().filter(|(_, finding)| is_asked(finding)).collect()
    }

    /// All that was said of findings of a kind.
    pub fn news_of(&self, kind: FindingKind) -> Vec<&(f64, Finding)> {
        self.findings.iter().filter(|(_, finding)| finding.kind == kind).collect()
    }
}

pub(crate) fn memcg(path: &str, mib: f64) -> OomScope {
    OomScope {
        kind: ScopeKind::Memcg,
        cgroup: Some(Arc::from(path)),
        limit_bytes: Some(bytes(mib)),
    }
}
