//! What /proc says of processes: the oracle for sizes and for who is alive.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

/// Memory of one process in bytes, by /proc/PID/status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// RssAnon.
    pub anon_bytes: u64,
    /// RssFile.
    pub file_bytes: u64,
    /// RssShmem.
    pub shmem_bytes: u64,
    /// VmSwap.
    pub swap_bytes: u64,
}

/// Memory of a process now.
pub fn memory(tgid: u32) -> Result<Memory> {
    let path = format!("/proc/{tgid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).with_context(|| format!("{path} has no {name}"))
    };
    Ok(Memory {
        anon_bytes: field("RssAnon")?,
        file_bytes: field("RssFile")?,
        shmem_bytes: field("RssShmem")?,
        swap_bytes: field("VmSwap")?,
    })
}

/// oom_score_adj, page tables and private writable mappings of a process now, bytes.
pub fn judged(tgid: u32) -> Result<(i32, u64, u64)> {
    let path = format!("/proc/{tgid}/oom_score_adj");
    let adj = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let status =
        |name| Ok::<_, anyhow::Error>(field(&format!("/proc/{tgid}/status"), name, ':')? << 10);
    Ok((adj.trim().parse()?, status("VmPTE")?, status("VmData")?))
}

/// Sets oom_score_adj of a process.
pub fn set_oom_score_adj(tgid: u32, adj: i32) -> Result<()> {
    let path = format!("/proc/{tgid}/oom_score_adj");
    fs::write(&path, adj.to_string()).with_context(|| format!("writing {adj} to {path}"))
}

/// Start of a process, CLOCK_BOOTTIME ns in ticks of 10 ms, and whether it has an address space (no
/// kernel thread, no zombie); None = it is gone.
pub fn start(tgid: u32) -> Option<(u64, bool)> {
    let fields = stat_fields(tgid).ok()?;
    let ticks: u64 = fields.get(19)?.parse().ok()?;
    let size: u64 = fields.get(20)?.parse().ok()?;
    Some((ticks * 10_000_000, size > 0))
}

/// Major faults of a process so far, all its threads together.
pub fn major_faults(tgid: u32) -> Result<u64> {
    stat_number(tgid, 9)
}

/// Minor faults, likewise.
pub fn minor_faults(tgid: u32) -> Result<u64> {
    stat_number(tgid, 7)
}

/// CPU time that a process took, user and system, all its threads together, ms in steps of 10.
pub fn cpu_ms(tgid: u32) -> Result<u64> {
    Ok((stat_number(tgid, 11)? + stat_number(tgid, 12)?) * 10)
}

fn stat_number(tgid: u32, field: usize) -> Result<u64> {
    let fields = stat_fields(tgid)?;
    let number = fields.get(field).and_then(|field| field.parse().ok());
    number.with_context(|| format!("no field {field} in /proc/{tgid}/stat"))
}

/// Fields of /proc/PID/stat that follow the comm: the state is number 0.
fn stat_fields(tgid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{tgid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let rest = text.rfind(')').and_then(|at| text.get(at + 2..));
    let rest = rest.with_context(|| format!("no fields after the comm in {path}"))?;
    Ok(rest.split(' ').map(str::to_owned).collect())
}

/// Living processes with an address space: tgid → start, ns.
pub fn processes() -> Result<BTreeMap<u32, u64>> {
    list(|has_memory| has_memory)
}

/// All that lives, kernel threads and zombies too: tgid → start, ns.
pub fn everyone() -> Result<BTreeMap<u32, u64>> {
    list(|_| true)
}

fn list(wanted: impl Fn(bool) -> bool) -> Result<BTreeMap<u32, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(tgid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some((start_ns, has_memory)) = start(tgid)
            && wanted(has_memory)
        {
            found.insert(tgid, start_ns);
        }
    }
    Ok(found)
}

/// Whether a task may be preempted inside of a tracepoint's program: seen on 7.3, not on 6.18. The
/// kernel leaves out (`recursion_misses`) what others on that CPU call meanwhile.
pub fn tracepoints_are_preemptible() -> Result<bool> {
    Ok(release()?.0 >= 7)
}

/// Where in the kernel a process waits, for an error message.
pub fn waiting(tgid: u32) -> String {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{tgid}/{name}")).unwrap_or_default();
        text.trim().replace('\n', " ")
    };
    format!("{} {} {}", read("stat"), read("wchan"), read("stack"))
}

/// Tasks (processes and threads) made since boot, by /proc/stat.
pub fn tasks_made() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let value = text.lines().find_map(|line| line.strip_prefix("processes "));
    Ok(value.context("/proc/stat has no `processes`")?.trim().parse()?)
}

/// How far the cheap read of an RSS counter of a process with one thread may be off, bytes.
pub fn counter_error_bytes() -> Result<u64> {
    counter_error_bytes_of(1)
}

/// The same with `threads`, the main one included, that take one page at a fault.
///
/// Since Linux 6.2 each CPU keeps less than a batch of max(32, 2 × CPUs) pages to itself
/// (lib/percpu_counter.c, compute_batch_value). Before that each thread keeps what it took since it
/// last gave it to the process, at the begin of a fault that finds more than 64 counted
/// (mm/memory.c, TASK_RSS_EVENTS_THRESH, `events++ >`): the fault that gave, which is not counted,
/// and 65 that are.
pub fn counter_error_bytes_of(threads: u64) -> Result<u64> {
    let cpus = cpus()? as u64;
    let pages = match release()? >= (6, 2) {
        true => (u64::max(32, 2 * cpus) - 1) * cpus,
        false => 66 * threads,
    };
    Ok(pages * 4096)
}

/// Major and minor version of the kernel.
fn release() -> Result<(u32, u32)> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("release {text}"),
    }
}

/// Online CPUs.
pub fn cpus() -> Result<usize> {
    let stat = fs::read_to_string("/proc/stat")?;
    let is_cpu = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
    Ok(stat.lines().filter(is_cpu).count())
}

/// A counter of /proc/vmstat.
pub fn vmstat(name: &str) -> Result<u64> {
    field("/proc/vmstat", name, ' ')
}

/// A quantity of /proc/meminfo, bytes.
pub fn meminfo(name: &str) -> Result<u64> {
    Ok(field("/proc/meminfo", name, ':')? << 10)
}

/// A quantity of /proc/PID/smaps_rollup, bytes: counted page by page, so exact.
pub fn rollup(tgid: u32, name: &str) -> Result<u64> {
    Ok(field(&format!("/proc/{tgid}/smaps_rollup"), name, ':')? << 10)
}

fn field(path: &str, name: &str, separator: char) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(separator));
    let value = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("{path} has no {name}"))
}
