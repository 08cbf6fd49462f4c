//! The procfs source against real processes: what it says of a child that grows inside a memory
//! cgroup must be what /proc says.

#![expect(clippy::expect_used, reason = "a test ends where its host does not obey")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rampage::enrich::cgroup::{Hierarchy, Version};
use rampage::enrich::process;
use rampage::event::{Config, Event, Growth, ProcessCause, Stamped};
use rampage::php::Disclosure;
use rampage::source::Source;
use rampage::source::procfs::ProcfsSource;
use tests::clock;

const LIMIT_BYTES: u64 = 64 << 20;

/// A memory cgroup with a limit, removed with all that is in it. Processes go into cgroups below,
/// as v2 wants it.
struct TestCgroup {
    folder: PathBuf,
    path: String,
    hierarchy: Hierarchy,
}

impl TestCgroup {
    fn new(name: &str) -> Self {
        let hierarchy = Hierarchy::detect().expect("a memory cgroup hierarchy");
        let name = format!("rampage-{name}-{}", std::process::id());
        let path = format!("{}/{name}", hierarchy.root.trim_end_matches('/'));
        let folder = hierarchy.mount.join(&name);
        let limit = match hierarchy.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        if hierarchy.version == Version::V2 {
            fs::write(hierarchy.mount.join("cgroup.subtree_control"), "+memory")
                .expect("the memory controller");
        }
        fs::create_dir(&folder).expect("privilege to make a cgroup");
        let cgroup = Self { folder, path, hierarchy };
        fs::write(cgroup.folder.join(limit), LIMIT_BYTES.to_string()).expect("a limit");
        if cgroup.hierarchy.version == Version::V2 {
            fs::write(cgroup.folder.join("cgroup.subtree_control"), "+memory").expect("memory");
        }
        cgroup
    }

    fn below(&self, name: &str) -> Below {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).expect("a cgroup");
        Below { folder, path: format!("{}/{name}", self.path) }
    }
}

/// A cgroup inside a [`TestCgroup`].
struct Below {
    folder: PathBuf,
    path: String,
}

impl Below {
    /// A program started in here; `tail -c` keeps what it is fed until its input ends.
    fn spawn(&self, program: &str) -> Grower {
        let procs = self.folder.join("cgroup.procs");
        let script = format!("echo $$ > '{}' && exec {program}", procs.display());
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sh");
        let grower = Grower(child);
        let joined = || {
            let processes = fs::read_to_string(&procs).expect("cgroup.procs");
            processes.lines().any(|line| line == grower.tgid().to_string())
        };
        let until = Instant::now() + clock::patient(Duration::from_secs(10));
        while !joined() {
            assert!(Instant::now() < until, "the child did not join its cgroup");
            std::thread::sleep(Duration::from_millis(1));
        }
        grower
    }

    fn take(&self, tgid: u32) {
        fs::write(self.folder.join("cgroup.procs"), tgid.to_string()).expect("a living process");
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Kills what is left in a cgroup and removes it.
fn remove(folder: &Path) {
    let until = Instant::now() + clock::patient(Duration::from_secs(5));
    while fs::remove_dir(folder).is_err() && Instant::now() < until {
        let left = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for tgid in left.lines().filter_map(|line| line.parse().ok()) {
            // SAFETY: kill takes any number; this one is of a process in our own cgroup.
            unsafe { libc::kill(tgid, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(20));
    }
}

struct Grower(Child);

impl Grower {
    fn tgid(&self) -> u32 {
        self.0.id()
    }

    fn grow(&mut self, bytes: usize) {
        let input = self.0.stdin.as_mut().expect("stdin");
        let block = vec![b'x'; 1 << 16];
        for _ in 0..bytes >> 16 {
            input.write_all(&block).expect("a reader");
        }
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Tracer {
    source: ProcfsSource,
    runtime: tokio::runtime::Runtime,
    events: Vec<Stamped>,
}

impl Tracer {
    fn open() -> Self {
        let config = Config { interval_ns: 20_000_000, ..Config::default() };
        Self {
            source: ProcfsSource::open(&config, Disclosure::default()).expect("/proc"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            events: Vec::new(),
        }
    }

    fn next(&mut self) -> &[Stamped] {
        let first = self.events.len();
        self.runtime.block_on(self.source.next(&mut self.events)).expect("events");
        &self.events[first..]
    }

    /// Asks for events until one is wanted, for ten seconds at most.
    fn until<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let until = Instant::now() + clock::patient(Duration::from_secs(10));
        while Instant::now() < until {
            if let Some(found) = self.next().iter().find_map(|at| wanted(&at.event)) {
                return found;
            }
        }
        panic!("no {what} within ten seconds")
    }
}

fn growth_of(tgid: u32, least_bytes: u64) -> impl Fn(&Event) -> Option<Growth> {
    move |event| match event {
        Event::Growth(growth) if growth.tgid == tgid && growth.anon_bytes >= least_bytes => {
            Some(*growth)
        }
        _ => None,
    }
}

#[test]
fn follows_a_child_that_grows_moves_and_ends() {
    let cgroup = TestCgroup::new("procfs");
    let (first, second) = (cgroup.below("first"), cgroup.below("second"));
    let mut child = first.spawn("tail -c 100M");
    let tgid = child.tgid();
    let mut tracer = Tracer::open();
    assert!(matches!(&tracer.next()[0].event, Event::Header(header) if header.source == "procfs"
        && header.hooks.iter().any(|hook| hook.name == "oom" && hook.state == "missing")));

    let title = tracer.until("command line", |event| match event {
        Event::Process(found) if found.tgid == tgid && found.comm.as_ref() == "tail" => {
            found.cmdline.clone()
        }
        _ => None,
    });
    assert_eq!(title.as_ref(), "tail -c 100M");
    let own = std::process::id();
    assert!(!tracer.events.iter().any(
        |at| matches!(&at.event, Event::Process(found) if found.tgid == own || found.tgid == 2)
    ));

    child.grow(32 << 20);
    let growth = tracer.until("growth", growth_of(tgid, 32 << 20));
    let kept = process::memory(tgid).unwrap();
    assert_eq!(growth.key(), kept.key());
    // Before the reader has come to rest the two looks may differ by what it still reads.
    assert!(growth.anon_bytes.abs_diff(kept.anon_bytes) <= 1 << 20, "{growth:?} {kept:?}");
    assert!(growth.minor_faults > 0 && growth.anon_bytes < 40 << 20);

    let path = cgroup.path.clone();
    let sample = tracer.until("cgroup", |event| match event {
        Event::Cgroup(found) if *found.path == *path && found.usage_bytes >= 32 << 20 => {
            Some(found.clone())
        }
        _ => None,
    });
    assert_eq!(sample.max_bytes, Some(LIMIT_BYTES));
    assert_eq!(sample.id, cgroup.hierarchy.id(&path).unwrap());
    assert_eq!(sample.events.map(|events| events.oom_kill), Some(0));

    second.take(tgid);
    let (from, to) = tracer.until("move", |event| match event {
        Event::CgroupMove(moved) if moved.tgid == tgid => {
            Some((moved.from.clone(), Arc::clone(&moved.to)))
        }
        _ => None,
    });
    assert_eq!((from.as_deref(), &*to), (Some(&*first.path), &*second.path));
    drop(child);
    let end = tracer.until("exit", |event| match event {
        Event::Exit(exit) if exit.tgid == tgid => Some(*exit),
        _ => None,
    });
    assert_eq!((end.start_ns, end.code, end.signal), (growth.start_ns, None, None));
    let moves = |at: &&Stamped| matches!(&at.event, Event::CgroupMove(moved) if moved.tgid == tgid);
    let moved: Vec<_> = tracer.events.iter().filter(moves).collect();
    assert_eq!(moved.len(), 1, "the end is no move: {moved:?}");
    assert!(end.peak_bytes.unwrap() >= growth.anon_bytes);
    drop(second);
    tracer.until("removal", |event| match event {
        Event::CgroupGone(gone) if *gone.path == *to => Some(()),
        _ => None,
    });
    assert!(tracer.events.is_sorted_by_key(|at| at.t_ns));
}

#[test]
fn an_idle_process_that_is_offered_to_the_oom_killer_is_seen() {
    let cgroup = TestCgroup::new("procfs-adj");
    let idle = cgroup.below("idle");
    let child = idle.spawn("tail -c 1M");
    let tgid = child.tgid();
    let mut tracer = Tracer::open();
    let offered = |adj: i32| {
        move |event: &Event| match event {
            Event::Growth(growth) if growth.tgid == tgid && growth.oom_score_adj == adj => {
                Some(*growth)
            }
            _ => None,
        }
    };
    let before = tracer.until("first look", growth_of(tgid, 0));
    assert!(before.page_table_bytes > 0 && before.data_bytes > 0);
    let adj = before.oom_score_adj + 100;
    tests::proc::set_oom_score_adj(tgid, adj).expect("oom_score_adj");
    let after = tracer.until("another adj", offered(adj));
    assert!(after.page_table_bytes > 0 && after.data_bytes > 0);
}

#[test]
fn tells_fork_from_exec() {
    let cgroup = TestCgroup::new("causes");
    let mut tracer = Tracer::open();
    tracer.until("first round", |event| matches!(event, Event::Tick(_)).then_some(()));
    // The shell reads a line and then becomes another program; its child stays a shell.
    let below = cgroup.below("shell");
    let mut shell = below.spawn("sh -c '(sleep 60; true) & read line; exec tail -c 1M'");
    let tgid = shell.tgid();
    let cause = |wanted: ProcessCause, comm: &'static str| {
        move |event: &Event| match event {
            Event::Process(found) if found.cause == wanted && found.comm.as_ref() == comm => {
                (found.tgid == tgid || found.ppid == tgid).then_some(found.tgid)
            }
            _ => None,
        }
    };
    let forked = tracer.until("fork", cause(ProcessCause::Fork, "sh"));
    assert_ne!(forked, tgid);
    writeln!(shell.0.stdin.as_mut().unwrap(), "go").unwrap();
    assert_eq!(tracer.until("exec", cause(ProcessCause::Exec, "tail")), tgid);
}

/// CPU time of this thread: waiting for the interval costs none.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

#[test]
fn a_look_at_a_cgroup_is_quick() {
    let cgroup = TestCgroup::new("sample");
    let started_ns = cpu_ns();
    for _ in 0..100 {
        cgroup.hierarchy.sample(&cgroup.path).unwrap();
    }
    let each_ns = (cpu_ns() - started_ns) / 100;
    println!("one look at a memory cgroup: {} us of CPU", each_ns / 1000);
    assert!(each_ns < 10_000_000 * u64::from(clock::patience()));
}

#[test]
fn a_round_is_quick_and_holds_no_descriptors() {
    const CHILDREN: usize = 300;
    let cgroup = TestCgroup::new("many");
    let below = cgroup.below("crowd");
    // To start them takes more than a minute in an emulated machine.
    let crowd: Vec<_> = (0..CHILDREN).map(|_| below.spawn("sleep infinity")).collect();
    let mut tracer = Tracer::open();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let tick = |event: &Event| matches!(event, Event::Tick(_)).then_some(());
    tracer.until("first round", tick);
    let first = tracer
        .events
        .iter()
        .filter(|at| {
            matches!(&at.event, Event::Process(found)
            if crowd.iter().any(|child| child.tgid() == found.tgid))
        })
        .count();
    assert_eq!(first, CHILDREN);
    let mut rounds_ns = Vec::new();
    while rounds_ns.len() < 21 {
        let started_ns = cpu_ns();
        let ticked = tracer.next().iter().any(|at| matches!(at.event, Event::Tick(_)));
        if ticked {
            rounds_ns.push(cpu_ns() - started_ns);
        }
    }
    rounds_ns.sort_unstable();
    let listed = process::list().unwrap().len();
    println!("a round over {listed} tasks: {} us of CPU (median)", rounds_ns[10] / 1000);
    assert!(rounds_ns[10] < 200_000_000 * u64::from(clock::patience()), "{rounds_ns:?}");
    assert!(descriptors() <= before + 4, "{} descriptors, {before} before", descriptors());
}
