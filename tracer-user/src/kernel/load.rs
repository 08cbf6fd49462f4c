//! Loads the object and attaches its programs by the plan, rung by rung.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, FEntry, Iter, KProbe, Program, RawTracePoint, UProbe};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use bytes::BytesMut;
use serde::Serialize;
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{PhpSuspect, drop_reason, sweep_mode};

use super::Unsupported;
use super::btf::{Btf, VMLINUX};
use super::offsets;
use super::plan::{Abilities, Mechanism, Planned, is_target, plan};
use super::refusal::{POLL, permission, refusal, short};
use crate::event::Hook;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf.o"));

/// Share of the ring that growth may fill; the rest is kept for births, deaths and kills.
const HIGH_WATER_PERCENT: u64 = 75;

/// Settings of the kernel side.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Bytes of the ring buffer.
    pub ring_bytes: u64,
    /// Step of growth reports; None = by the tightest limit.
    pub step_bytes: Option<u64>,
    /// Mechanisms that must not be used.
    pub forbid: Vec<String>,
    /// 0 = quiet; 1 and more = debug lines of the kernel programs.
    pub verbose: u8,
}

/// A program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadedProgram {
    /// Its name in the object.
    pub name: String,
    /// Instructions that the verifier walked through, over all paths; None before 5.16.
    pub verified_instructions: Option<u32>,
    /// Instructions after the kernel's rewriting; None where it does not tell.
    pub translated_instructions: Option<u32>,
}

/// The kernel programs, loaded and attached. Dropping it detaches everything.
pub struct Kernel {
    ebpf: Ebpf,
    /// Records.
    pub ring: RingBuf<MapData>,
    drops: PerCpuArray<MapData, u64>,
    control: Array<MapData, u32>,
    suspects: HashMap<MapData, u32, Suspect>,
    /// Debug lines of the kernel programs, with `-v`.
    pub logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// What was attached, and what is lost.
    pub hooks: Vec<Hook>,
    chunk: BytesMut,
}

/// Which processes a sweep gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Those that changed since they were last given.
    Changed,
    /// All.
    All,
}

/// What the kernel is to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The growth of this process, whose pointer to its innermost call is there.
    Sample {
        /// Process id.
        tgid: u32,
        /// Address in the process.
        current_at: u64,
    },
    /// This process no more.
    Stop {
        /// Process id.
        tgid: u32,
    },
}

impl Kernel {
    /// Loads and attaches.
    pub fn load(options: &LoadOptions) -> Result<Self, Unsupported> {
        // The kernel's types are large: they are read, asked, and gone before the programs load.
        let (globals, abilities, outline) = {
            let btf = Btf::open(Path::new(VMLINUX)).map_err(|error| Unsupported {
                reason: format!("the kernel's type information is missing: {error}"),
                remedy: format!("boot a kernel with CONFIG_DEBUG_INFO_BTF=y, or {POLL}"),
            })?;
            let globals = offsets::resolve(&btf).map_err(|error| Unsupported {
                reason: error.to_string(),
                remedy: format!("report this kernel, or {POLL}"),
            })?;
            let abilities = Abilities::of(&btf, kprobes(), &options.forbid);
            (globals, abilities, btf.outline(is_target))
        };
        let outline =
            aya::Btf::parse(&outline, aya::Endianness::default()).map_err(|error| Unsupported {
                reason: format!("the kernel's type information is not usable: {error}"),
                remedy: format!("report this kernel, or {POLL}"),
            })?;
        let pages = Pages::of(options.step_bytes);
        let ring_bytes = u32::try_from(options.ring_bytes).unwrap_or(u32::MAX);
        let high_water =
            u32::try_from(options.ring_bytes * HIGH_WATER_PERCENT / 100).unwrap_or(u32::MAX);
        let mut loader = loader_without_types();
        loader.btf(None);
        for (name, value) in &globals {
            loader.override_global(name, value, true);
        }
        let self_tgid = std::process::id();
        let level: u8 = if options.verbose > 0 { LOG_DEBUG } else { 0 };
        loader
            .override_global("SELF_TGID", &self_tgid, true)
            .override_global("PAGE_SHIFT", &pages.shift, true)
            .override_global("QUANTUM_SHIFT", &pages.quantum_shift, true)
            .override_global("STEP_PAGES", &pages.step, true)
            .override_global("STEP_MAX_PAGES", &pages.step_max, true)
            .override_global("STEP_MIN_PAGES", &pages.step_min, true)
            .override_global("RING_HIGH_WATER", &high_water, true)
            .override_global(aya_log::LEVEL, &level, false)
            .map_max_entries("EVENTS", ring_bytes);
        if options.verbose == 0 {
            loader.map_max_entries("AYA_LOGS", Pages::size());
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| {
            let error = anyhow::Error::from(error);
            refusal("the kernel refused the maps of its programs", &error)
        })?;
        drop(loader);
        let hooks = attach(&mut ebpf, &outline, &plan(&abilities))?;
        drop(outline);
        let logger = if options.verbose > 0 { EbpfLogger::init(&mut ebpf).ok() } else { None };
        let ring = RingBuf::try_from(take(&mut ebpf, "EVENTS")?).map_err(own_map)?;
        let drops = PerCpuArray::try_from(take(&mut ebpf, "DROPS")?).map_err(own_map)?;
        let control = Array::try_from(take(&mut ebpf, "CONTROL")?).map_err(own_map)?;
        let suspects = HashMap::try_from(take(&mut ebpf, "SUSPECTS")?).map_err(own_map)?;
        Ok(Self { ebpf, ring, drops, control, suspects, logger, hooks, chunk: BytesMut::new() })
    }

    /// Loads the programs for PHP's request probes, begin and end, which are not attached by the plan
    /// but by [`Uprobes`](super::uprobe::Uprobes). The error says in one line what was refused.
    pub fn request_programs(&mut self) -> anyhow::Result<[OwnedFd; 2]> {
        let mut load = |name: &str| {
            let program = self.ebpf.program_mut(name);
            let program: &mut UProbe = program
                .ok_or_else(|| anyhow::anyhow!("the object has no program {name}"))?
                .try_into()?;
            if let Err(error) = program.load() {
                let error = anyhow::Error::from(error);
                tracing::debug!("{name}: {error:#}");
                anyhow::bail!("the kernel refused its program: {}", short(&error));
            }
            Ok(program.fd()?.as_fd().try_clone_to_owned()?)
        };
        Ok([load("request_begin")?, load("request_end")?])
    }

    /// Begins or ends to sample where a PHP process grows.
    pub fn sample(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Sample { tgid, current_at } => {
                let suspect = Suspect(PhpSuspect { current_at, ..PhpSuspect::default() });
                self.suspects.insert(tgid, suspect, 0)?;
            }
            Order::Stop { tgid } => self.suspects.remove(&tgid)?,
        }
        Ok(())
    }

    /// Whether there is a task iterator.
    pub fn can_sweep(&self) -> bool {
        self.hooks.iter().any(|hook| hook.mechanism == Mechanism::Iterator.name())
    }

    /// Runs the task iterator and gives its records one by one; none where there is no iterator.
    pub fn sweep(&mut self, which: Sweep, mut each: impl FnMut(&[u8])) -> anyhow::Result<()> {
        if !self.can_sweep() {
            return Ok(());
        }
        let mode = match which {
            Sweep::Changed => sweep_mode::CHANGED,
            Sweep::All => sweep_mode::ALL,
        };
        self.control.set(0, mode, 0)?;
        let program: &mut Iter = self
            .ebpf
            .program_mut("sweep")
            .ok_or_else(|| anyhow::anyhow!("the object has no sweep"))?
            .try_into()?;
        let link = program.attach()?;
        let mut file: File = program.take_link(link)?.into_file()?;
        const RECORD: usize = size_of::<tracer_ebpf::ProcessRecord>();
        // The kernel gives whole records, up to its own buffer of eight pages at a time.
        self.chunk.resize(32 << 10, 0);
        let mut filled = 0;
        loop {
            match file.read(&mut self.chunk[filled..]) {
                Ok(0) => return Ok(()),
                Ok(read) => filled += read,
                // Tasks come and go while the iterator walks: it asks to be called again.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let whole = filled - filled % RECORD;
            for record in self.chunk[..whole].chunks_exact(RECORD) {
                each(record);
            }
            self.chunk.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }

    /// Becomes ready when the kernel announces records. To be called inside a tokio runtime.
    pub fn wait_for_records(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let fd = self.ring.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd always gives the same descriptor, and is open as long as it lives.
        unsafe { AsyncFd::register(fd) }.map_err(Into::into)
    }

    /// Attached programs and their descriptors, valid as long as this lives.
    pub fn program_fds(&self) -> impl Iterator<Item = (&str, RawFd)> {
        self.ebpf.programs().filter_map(|(name, program)| {
            let fd = match program {
                Program::BtfTracePoint(program) => program.fd(),
                Program::RawTracePoint(program) => program.fd(),
                Program::FEntry(program) => program.fd(),
                Program::KProbe(program) => program.fd(),
                Program::UProbe(program) => program.fd(),
                Program::Iter(program) => program.fd(),
                _ => return None,
            };
            Some((name, fd.ok()?.as_fd().as_raw_fd()))
        })
    }

    /// What the kernel made of each program that it took, by name.
    pub fn programs(&self) -> Vec<LoadedProgram> {
        let loaded = |(name, program): (&str, &Program)| {
            let info = program.info().ok()?;
            Some(LoadedProgram {
                name: name.to_owned(),
                verified_instructions: info.verified_instruction_count(),
                translated_instructions: info.size_translated().map(|bytes| bytes / 8),
            })
        };
        let mut programs: Vec<_> = self.ebpf.programs().filter_map(loaded).collect();
        programs.sort_by(|one, other| one.name.cmp(&other.name));
        programs
    }

    /// Records and measurements given up so far, by kind and reason, over all CPUs.
    pub fn drops(&self) -> anyhow::Result<[u64; drop_reason::COUNT as usize]> {
        let mut sums = [0u64; drop_reason::COUNT as usize];
        for (slot, sum) in (0..).zip(&mut sums) {
            *sum = self.drops.get(&slot, 0)?.iter().sum();
        }
        Ok(sums)
    }
}

/// The value of the map of suspects.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Suspect(PhpSuspect);

// SAFETY: three u64 without padding; any bytes are valid.
unsafe impl aya::Pod for Suspect {}

/// aya-log's level for debug lines.
const LOG_DEBUG: u8 = 4;

/// Sizes of growth reports in pages.
struct Pages {
    shift: u32,
    quantum_shift: u32,
    step: u32,
    step_max: u32,
    step_min: u32,
}

impl Pages {
    fn size() -> u32 {
        // SAFETY: sysconf has no preconditions.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u32::try_from(size).unwrap_or(4096)
    }

    fn of(step_bytes: Option<u64>) -> Self {
        let shift = Self::size().trailing_zeros();
        let pages = |bytes: u64| u32::try_from(bytes >> shift).unwrap_or(u32::MAX).max(1);
        let (step_max, step_min) = (pages(4 << 20), pages(256 << 10));
        let step = step_bytes.map_or(0, pages);
        let smallest = if step == 0 { step_min } else { step.min(step_min) };
        Self { shift, quantum_shift: smallest.ilog2(), step, step_max, step_min }
    }
}

/// Memory of all BPF maps that this process holds, bytes, as the kernel accounts it.
pub fn map_bytes() -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc/self/fdinfo") else { return 0 };
    entries
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter(|info| info.contains("map_type:"))
        .filter_map(|info| {
            let line = info.lines().find_map(|line| line.strip_prefix("memlock:"))?;
            line.trim().parse::<u64>().ok()
        })
        .sum()
}

/// Whether this host has kprobes: its perf events say so (4.17).
fn kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

/// A loader that has not read the kernel's types: aya reads them in any case, which takes 39 MiB,
/// and goes on without them when the file cannot be opened. No relocation needs them here.
fn loader_without_types<'a>() -> EbpfLoader<'a> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit and setrlimit read and write a struct of this type.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return EbpfLoader::new();
        }
        let none = libc::rlimit { rlim_cur: 0, ..limit };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none);
        let loader = EbpfLoader::new();
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        loader
    }
}

/// The hooks as they are planned for this kernel, without trying any; readable types are enough.
pub fn planned(forbid: &[String]) -> Vec<Hook> {
    let abilities = Btf::open(Path::new(VMLINUX))
        .map(|btf| Abilities::of(&btf, kprobes(), forbid))
        .unwrap_or_default();
    plan(&abilities)
        .into_iter()
        .map(|planned| {
            let best = planned.rungs.first();
            Hook {
                name: format!("{}/{}", planned.subsystem, planned.target),
                mechanism: best.map_or("none", |(mechanism, _)| mechanism.name()).to_owned(),
                state: if best.is_some() { "planned" } else { "missing" }.to_owned(),
                reason: if best.is_some() { String::new() } else { planned.lost.to_owned() },
            }
        })
        .collect()
}

/// Attaches each hook by its first rung that holds.
fn attach(ebpf: &mut Ebpf, btf: &aya::Btf, plan: &[Planned]) -> Result<Vec<Hook>, Unsupported> {
    let mut hooks = Vec::with_capacity(plan.len());
    for planned in plan {
        let mut refused = Vec::new();
        let mut attached = None;
        for &(mechanism, program) in &planned.rungs {
            let result = attach_one(ebpf, btf, planned.target, mechanism, program);
            if let Err(error) = &result {
                // With the verifier's log.
                tracing::debug!("{program} as {}: {error:#}", mechanism.name());
            }
            match result {
                Ok(()) => {
                    attached = Some(mechanism);
                    break;
                }
                Err(error) if planned.needed && permission(&error) => {
                    return Err(refusal("the kernel refused a program", &error));
                }
                Err(error) => refused.push(format!("{}: {}", mechanism.name(), short(&error))),
            }
        }
        if planned.rungs.is_empty() {
            refused.push("this kernel has no way to hook it".to_owned());
        }
        if attached.is_none() && planned.needed {
            return Err(Unsupported {
                reason: format!("{} cannot be hooked: {}", planned.target, refused.join("; ")),
                remedy: POLL.to_owned(),
            });
        }
        hooks.push(Hook {
            name: format!("{}/{}", planned.subsystem, planned.target),
            mechanism: attached.map_or("none", Mechanism::name).to_owned(),
            state: match (attached, refused.is_empty()) {
                (Some(_), true) => "attached",
                (Some(_), false) => "degraded",
                (None, _) => "missing",
            }
            .to_owned(),
            reason: match attached {
                Some(_) => refused.join("; "),
                None => format!("{} ({})", planned.lost, refused.join("; ")),
            },
        });
    }
    Ok(hooks)
}

fn attach_one(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    target: &str,
    mechanism: Mechanism,
    name: &str,
) -> anyhow::Result<()> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| anyhow::anyhow!("the object has no program {name}"))?;
    match mechanism {
        Mechanism::TpBtf => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(target, btf)?;
            program.attach()?;
        }
        Mechanism::RawTracepoint => {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load()?;
            program.attach(target)?;
        }
        Mechanism::Fentry => {
            let program: &mut FEntry = program.try_into()?;
            program.load(target, btf)?;
            program.attach()?;
        }
        Mechanism::Kprobe => {
            let program: &mut KProbe = program.try_into()?;
            program.load()?;
            program.attach(target, 0)?;
        }
        // Attached anew for each sweep.
        Mechanism::Iterator => {
            let program: &mut Iter = program.try_into()?;
            program.load(target, btf)?;
        }
    }
    Ok(())
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Unsupported> {
    ebpf.take_map(name).ok_or_else(|| Unsupported {
        reason: format!("the object has no map {name}"),
        remedy: "rebuild rampage".to_owned(),
    })
}

fn own_map(error: aya::maps::MapError) -> Unsupported {
    Unsupported { reason: error.to_string(), remedy: "rebuild rampage".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantum_is_never_larger_than_the_step() {
        for step in [None, Some(64 << 10), Some(300 << 10), Some(1 << 20), Some(64 << 20)] {
            let pages = Pages::of(step);
            let smallest = if pages.step == 0 { pages.step_min } else { pages.step };
            assert!(1 << pages.quantum_shift <= smallest, "{step:?}");
            assert!(pages.step_min <= pages.step_max);
        }
    }
}
