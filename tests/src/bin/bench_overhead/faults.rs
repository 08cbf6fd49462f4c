//! The program that faults: a process of its own, pinned to one CPU, in a memory cgroup. It touches
//! fresh memory page by page and times only that; giving the memory back is not timed.
//!
//! What is timed is CPU time of the thread: programs that run at a fault are part of it, other work
//! on the host is not, but for what it does to caches and the clock of the CPU.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context, Result, bail, ensure};
use tests::cgroup::MemoryCgroup;

use crate::sample::Spread;

/// First argument of this program when it is to be the faulting process.
pub const ROLE: &str = "faulting-process";

/// What is taken in one cycle.
pub const AREA_BYTES: usize = 128 << 20;
const HUGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// Room for the area and the process; 1/64 of it is rampage's largest step.
const LIMIT_BYTES: u64 = 512 << 20;

/// How memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// 4 KiB pages, touched one by one.
    Small,
    /// Transparent huge pages of 2 MiB, likewise.
    Huge,
    /// 4 KiB pages, by one call of madvise(MADV_POPULATE_WRITE).
    Populate,
    /// 4 KiB pages, first touched by the kernel in read(2).
    Kernel,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Small, Self::Huge, Self::Populate, Self::Kernel];

    /// As tables say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "4 KiB pages touched",
            Self::Huge => "THP touched",
            Self::Populate => "populated by madvise",
            Self::Kernel => "filled by read(2)",
        }
    }
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// CPU time of a fault, ns: the median of the cycles of the round.
    pub fault_ns: f64,
    /// Memory taken in the round, MiB.
    pub taken_mib: f64,
    /// Page faults in the round, by getrusage.
    pub faults: u64,
}

/// The running process; killed when dropped.
pub struct Faulting {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    _cgroup: MemoryCgroup,
}

impl Faulting {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let cgroup = MemoryCgroup::new("bench-faults", LIMIT_BYTES)?;
        let mut command = Command::new(env::current_exe()?);
        command.arg(ROLE).stdin(Stdio::piped()).stdout(Stdio::piped());
        cgroup.confine(&mut command)?;
        let mut child = command.spawn().context("starting the faulting process")?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, orders, answers, _cgroup: cgroup })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it fault for this long, warm-up aside.
    pub fn run(&mut self, way: Way, time: Duration) -> Result<Timing> {
        self.order(way, time)?;
        self.finish()
    }

    /// Sends the order of [`Self::run`].
    pub fn order(&mut self, way: Way, time: Duration) -> Result<()> {
        writeln!(self.orders, "{} {}", way as u32, time.as_millis()).context("faulting process")
    }

    /// Waits until the order has been carried out.
    pub fn finish(&mut self) -> Result<Timing> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
        let [fault_ns, taken_mib, faults] = numbers[..] else {
            bail!("the faulting process said {line:?}")
        };
        Ok(Timing { fault_ns, taken_mib, faults: faults as u64 })
    }
}

impl Drop for Faulting {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The faulting process itself: a line `WAY MILLISECONDS` in, a line of timing out.
pub fn serve() -> Result<()> {
    pin_to_last_cpu()?;
    let area = Area::map()?;
    for line in io::stdin().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let way = words.next().and_then(|word| word.parse::<usize>().ok());
        let way = way.and_then(|at| Way::ALL.get(at)).context("way")?;
        let millis = words.next().context("time")?.parse()?;
        let Timing { fault_ns, taken_mib, faults } =
            area.run(*way, Duration::from_millis(millis))?;
        println!("{fault_ns} {taken_mib} {faults}");
    }
    Ok(())
}

struct Area(*mut u8);

impl Area {
    fn map() -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                AREA_BYTES + HUGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        ensure!(address != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let address = address.cast::<u8>();
        // SAFETY: the mapping is longer than the area by what this skips at most.
        Ok(Self(unsafe { address.add(address.align_offset(HUGE_BYTES)) }))
    }

    fn run(&self, way: Way, time: Duration) -> Result<Timing> {
        let huge = way == Way::Huge;
        self.advise(if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE })?;
        let zero = std::fs::File::open("/dev/zero")?;
        self.cycle(way, &zero)?;
        let (mut cycles, mut faults) = (Vec::new(), 0);
        let start = Instant::now();
        while start.elapsed() < time {
            let (cycle_ns, cycle_faults) = self.cycle(way, &zero)?;
            let expected = AREA_BYTES / if huge { HUGE_BYTES } else { PAGE_BYTES };
            if way != Way::Populate {
                let off = cycle_faults.abs_diff(expected as u64);
                ensure!(off <= expected as u64 / 50 + 8, "{cycle_faults} faults, not {expected}");
            }
            cycles.push(cycle_ns as f64 / expected as f64);
            faults += cycle_faults;
        }
        let taken_mib = ((cycles.len() * AREA_BYTES) >> 20) as f64;
        Ok(Timing { fault_ns: Spread::of(cycles).median, taken_mib, faults })
    }

    /// Takes the whole area once: CPU time in ns, and faults.
    fn cycle(&self, way: Way, zero: &std::fs::File) -> Result<(u64, u64)> {
        let faults = minor_faults();
        let start = thread_cpu_ns();
        match way {
            Way::Small | Way::Huge => {
                let stride = if way == Way::Huge { HUGE_BYTES } else { PAGE_BYTES };
                for offset in (0..AREA_BYTES).step_by(stride) {
                    // SAFETY: inside the area, which is mapped for writing.
                    unsafe { self.0.add(offset).write_volatile(1) };
                }
            }
            Way::Populate => self.advise(libc::MADV_POPULATE_WRITE)?,
            Way::Kernel => {
                let mut filled = 0;
                while filled < AREA_BYTES {
                    // SAFETY: the rest of the area is valid for writing.
                    let read = unsafe {
                        let fd = std::os::fd::AsRawFd::as_raw_fd(zero);
                        libc::read(fd, self.0.add(filled).cast(), AREA_BYTES - filled)
                    };
                    ensure!(read > 0, "reading /dev/zero: {}", io::Error::last_os_error());
                    filled += read.cast_unsigned();
                }
            }
        }
        let spent = thread_cpu_ns() - start;
        let faults = minor_faults() - faults;
        self.advise(libc::MADV_DONTNEED)?;
        Ok((spent, faults))
    }

    fn advise(&self, advice: i32) -> Result<()> {
        // SAFETY: the area is ours, and nothing in it is referred to.
        let result = unsafe { libc::madvise(self.0.cast(), AREA_BYTES, advice) };
        ensure!(result == 0, "madvise {advice}: {}", io::Error::last_os_error());
        Ok(())
    }
}

/// CPU time of this thread, ns.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// CPU time of a process, all its threads, living and ended, ns.
pub fn process_cpu_ns(pid: u32) -> Result<u64> {
    /// CPUCLOCK_SCHED of include/linux/posix-timers_types.h; what clock_getcpuclockid(3) gives.
    const SCHED: i32 = 2;
    clock_ns((!pid.cast_signed() << 3) | SCHED).with_context(|| format!("CPU time of {pid}"))
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, which is valid for that.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}

fn minor_faults() -> u64 {
    // SAFETY: zeroes are a valid rusage, and getrusage writes one.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage.ru_minflt.cast_unsigned()
    }
}

fn pin_to_last_cpu() -> Result<()> {
    let last = std::thread::available_parallelism()?.get() - 1;
    // SAFETY: zeroes are a valid cpu_set_t; CPU_SET and the call stay inside it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(last, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    ensure!(result == 0, "pinning to CPU {last}: {}", io::Error::last_os_error());
    Ok(())
}
