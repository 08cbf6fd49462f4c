//! Table C: ways to see growth, weighed: what a minimal program costs a fault, what it sees, and
//! what a sweep by the task iterator costs.

use std::env;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::kernel::btf::Btf;
use rampage::kernel::load::{Kernel, LoadOptions, Sweep};
use tests::cgroup::MemoryCgroup;

use crate::bpf::{self, CounterMap};
use crate::faults::{Faulting, Way, thread_cpu_ns};
use crate::program::count_by_tgid;
use crate::sample::Spread;
use crate::tracing::{Active, Tracing};

/// First argument of this program when it is to be a crowd of sleeping processes.
pub const CROWD: &str = "sleeping-crowd";

const TIME: Duration = Duration::from_millis(300);
const COUNTERS: u32 = 4096;
/// Page faults between two samples.
const PERIOD: u64 = 64;

/// A way to see growth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Off,
    RssStat,
    UserFaults,
    SampledFaults,
    Rampage,
}

impl Hook {
    const ALL: [Self; 5] =
        [Self::Off, Self::RssStat, Self::UserFaults, Self::SampledFaults, Self::Rampage];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "none",
            Self::RssStat => "tp_btf rss_stat, counted by tgid",
            Self::UserFaults => "tp_btf page_fault_user, counted by tgid",
            Self::SampledFaults => "every 64th page fault (perf event), counted by tgid",
            Self::Rampage => "rampage: rss_stat with the quantum cache, all hooks on",
        }
    }

    fn start(self, btf: &Btf, map: &CounterMap) -> Result<Active> {
        let program = count_by_tgid(map);
        Ok(match self {
            Self::Off => Active::Off,
            Self::RssStat => {
                Active::Programs(vec![bpf::attach_tracepoint(btf, "rss_stat", &program)?])
            }
            Self::UserFaults => {
                Active::Programs(vec![bpf::attach_tracepoint(btf, "page_fault_user", &program)?])
            }
            Self::SampledFaults => {
                Active::Programs(vec![bpf::attach_page_faults(PERIOD, &program)?])
            }
            Self::Rampage => Tracing::Rampage.start(btf)?,
        })
    }
}

/// Costs per fault in interleaved rounds, then how often each is called for 1 MiB taken.
pub fn hooks(rounds: usize, btf: &Btf, worker: &mut Faulting) -> Result<()> {
    let mut small = [const { Vec::new() }; Hook::ALL.len()];
    let mut huge = [const { Vec::new() }; Hook::ALL.len()];
    for round in 0..rounds {
        for turn in 0..Hook::ALL.len() {
            let at = (turn + round) % Hook::ALL.len();
            let active = Hook::ALL[at].start(btf, &CounterMap::new(COUNTERS)?)?;
            small[at].push(worker.run(Way::Small, TIME)?.fault_ns);
            huge[at].push(worker.run(Way::Huge, TIME)?.fault_ns);
            active.stop(worker.pid())?;
        }
    }
    println!("\n## Ways to see growth, minimal programs: {rounds} rounds");
    println!("| hook | added ns per 4 KiB fault | times none | added ns per THP fault |");
    println!("|---|---|---|---|");
    for (at, hook) in Hook::ALL.iter().enumerate() {
        println!(
            "| {} | {} | {} | {} |",
            hook.name(),
            Spread::of_pairs(&small[at], &small[0], |ours, base| ours - base).show(0),
            Spread::of_pairs(&small[at], &small[0], |ours, base| ours / base).show(3),
            Spread::of_pairs(&huge[at], &huge[0], |ours, base| ours - base).show(0),
        );
    }
    println!("\n## Calls of the program per MiB taken");
    println!("| hook | {} |", Way::ALL.map(Way::name).join(" | "));
    println!("|---|---|---|---|---|");
    for hook in [Hook::RssStat, Hook::UserFaults, Hook::SampledFaults] {
        let mut cells = Vec::new();
        for way in Way::ALL {
            let map = CounterMap::new(COUNTERS)?;
            let active = hook.start(btf, &map)?;
            let timing = worker.run(way, TIME)?;
            active.stop(worker.pid())?;
            // The cycle that warms up is counted by the program, but not by the worker.
            let cycles = timing.taken_mib / AREA_MIB;
            let taken_mib = (cycles + 1.0) * AREA_MIB;
            cells.push(format!("{:.2}", map.get(worker.pid())? as f64 / taken_mib));
        }
        println!("| {} | {} |", hook.name(), cells.join(" | "));
    }
    Ok(())
}

const AREA_MIB: f64 = (crate::faults::AREA_BYTES >> 20) as f64;

/// CPU time of a sweep over crowds of these sizes.
pub fn sweeps(sizes: &[u32]) -> Result<()> {
    println!("\n## A sweep by the task iterator");
    println!(
        "| processes | ms, nothing changed | ms, all written | share of a core at 1 Hz | at 20 Hz |"
    );
    println!("|---|---|---|---|---|");
    for &size in sizes {
        let _crowd = Crowd::start(size)?;
        let options =
            LoadOptions { ring_bytes: 4 << 20, step_bytes: None, forbid: Vec::new(), verbose: 0 };
        let mut kernel = Kernel::load(&options)?;
        let mut time = |which| -> Result<(f64, u32)> {
            let mut written = 0;
            let start = thread_cpu_ns();
            kernel.sweep(which, |_| written += 1)?;
            Ok(((thread_cpu_ns() - start) as f64 / 1e6, written))
        };
        let mut changed = Vec::new();
        let mut all = Vec::new();
        let (_, seen) = time(Sweep::All)?;
        ensure!(seen >= size, "the sweep gave {seen} processes, not {size}");
        for _ in 0..20 {
            changed.push(time(Sweep::Changed)?.0);
            all.push(time(Sweep::All)?.0);
        }
        let changed = Spread::of(changed);
        println!(
            "| {seen} | {} | {} | {:.3} % | {:.2} % |",
            changed.show(2),
            Spread::of(all).show(2),
            changed.median / 10.0,
            changed.median * 2.0,
        );
    }
    Ok(())
}

/// Sleeping processes in a memory cgroup of their own, which ends them when dropped.
struct Crowd {
    parent: std::process::Child,
    cgroup: Option<MemoryCgroup>,
}

impl Crowd {
    fn start(size: u32) -> Result<Self> {
        let cgroup = MemoryCgroup::new("bench-crowd", 4 << 30)?;
        let mut command = Command::new(env::current_exe()?);
        command.args([CROWD, &size.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        cgroup.confine(&mut command)?;
        let mut parent = command.spawn().context("starting the crowd")?;
        let mut ready = [0];
        let stdout = parent.stdout.take();
        let crowd = Self { parent, cgroup: Some(cgroup) };
        stdout.context("stdout")?.read_exact(&mut ready).context("the crowd did not start")?;
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.parent.kill().ok();
        self.parent.wait().ok();
        self.cgroup.take();
    }
}

/// The crowd itself: forks, says so, and waits to be killed.
pub fn crowd(size: u32) -> Result<()> {
    for _ in 0..size {
        // SAFETY: this process has one thread; the child makes two calls that allocate nothing.
        unsafe {
            match libc::fork() {
                0 => {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    loop {
                        libc::pause();
                    }
                }
                -1 => return Err(std::io::Error::last_os_error()).context("fork"),
                _ => {}
            }
        }
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}
