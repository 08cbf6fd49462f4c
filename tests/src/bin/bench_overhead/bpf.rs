//! bpf(2) and perf_event_open(2), as much of them as minimal programs need. The numbers are those of
//! include/uapi/linux/bpf.h and perf_event.h.

use std::ffi::{CStr, c_long};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use rampage::kernel::btf::Btf;

const MAP_CREATE: c_long = 0;
const MAP_LOOKUP_ELEM: c_long = 1;
const PROG_LOAD: c_long = 5;
const PROG_GET_NEXT_ID: c_long = 11;
const PROG_GET_FD_BY_ID: c_long = 13;
const OBJ_GET_INFO_BY_FD: c_long = 15;
const RAW_TRACEPOINT_OPEN: c_long = 17;

const MAP_TYPE_PERCPU_HASH: u32 = 5;
const PROG_TYPE_KPROBE: u32 = 2;
const PROG_TYPE_TRACEPOINT: u32 = 5;
const PROG_TYPE_PERF_EVENT: u32 = 7;
const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const PROG_TYPE_TRACING: u32 = 26;
const TRACE_RAW_TP: u32 = 23;

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_PAGE_FAULTS: u64 = 2;
const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;

const LICENSE: &CStr = c"GPL";

/// A program that runs as long as this lives.
pub struct Attached {
    _links: Vec<OwnedFd>,
    _program: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    unused: [u32; 9],
    attach_btf_id: u32,
    attach_prog_fd: u32,
    pad: u32,
}
const _: () = assert!(std::mem::offset_of!(ProgLoad, attach_btf_id) == 108);

/// Attaches instructions to a tracepoint by its BTF.
pub fn attach_tracepoint(btf: &Btf, name: &str, instructions: &[u64]) -> Result<Attached> {
    let id = btf
        .typedef_id(&format!("btf_trace_{name}"))
        .with_context(|| format!("this kernel has no tracepoint {name}"))?;
    let program = load(PROG_TYPE_TRACING, TRACE_RAW_TP, id, instructions)
        .with_context(|| format!("loading a program for {name}"))?;
    #[repr(C)]
    struct Open {
        name: u64,
        prog_fd: u32,
        pad: u32,
    }
    let mut open = Open { name: 0, prog_fd: number(&program), pad: 0 };
    let link = descriptor(RAW_TRACEPOINT_OPEN, &mut open)
        .with_context(|| format!("attaching to {name}"))?;
    Ok(Attached { _links: vec![link], _program: program })
}

/// Attaches instructions to every `period`th page fault of each CPU, user's and kernel's.
pub fn attach_page_faults(period: u64, instructions: &[u64]) -> Result<Attached> {
    #[repr(C)]
    #[derive(Default)]
    struct PerfAttr {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup_events: u32,
        bp_type: u32,
        config1: u64,
    }
    let program = load(PROG_TYPE_PERF_EVENT, 0, 0, instructions).context("loading a program")?;
    let attr = PerfAttr {
        kind: PERF_TYPE_SOFTWARE,
        size: size_of::<PerfAttr>() as u32,
        config: PERF_COUNT_SW_PAGE_FAULTS,
        sample_period: period,
        ..PerfAttr::default()
    };
    let mut links = Vec::new();
    for cpu in 0..possible_cpus()? {
        // SAFETY: the kernel reads `size` bytes of attr; the other arguments are numbers.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, cpu as libc::c_int, -1, 0)
        };
        let event = own(fd).with_context(|| format!("page-fault event of CPU {cpu}"))?;
        for (request, argument) in
            [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)]
        {
            // SAFETY: both requests take a number.
            if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
                return Err(io::Error::last_os_error()).context("page-fault event");
            }
        }
        links.push(event);
    }
    Ok(Attached { _links: links, _program: program })
}

fn load(
    prog_type: u32,
    attach_type: u32,
    btf_id: u32,
    instructions: &[u64],
) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..5].copy_from_slice(b"bench");
    descriptor(
        PROG_LOAD,
        &mut ProgLoad {
            prog_type,
            insn_cnt: instructions.len() as u32,
            insns: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            prog_name: name,
            expected_attach_type: attach_type,
            attach_btf_id: btf_id,
            ..ProgLoad::default()
        },
    )
}

/// A per-CPU hash of u32 → u64.
pub struct CounterMap(OwnedFd);

impl CounterMap {
    /// An empty one.
    pub fn new(entries: u32) -> Result<Self> {
        let mut create: [u32; 5] = [MAP_TYPE_PERCPU_HASH, 4, 8, entries, 0];
        Ok(Self(descriptor(MAP_CREATE, &mut create).context("making a per-CPU hash")?))
    }

    /// Its descriptor, for instructions.
    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Sum over all CPUs; 0 when there is no such key.
    pub fn get(&self, key: u32) -> Result<u64> {
        #[repr(C)]
        struct Lookup {
            map_fd: u32,
            pad: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let mut values = vec![0_u64; possible_cpus()?];
        let mut lookup = Lookup {
            map_fd: number(&self.0),
            pad: 0,
            key: (&raw const key) as u64,
            value: values.as_mut_ptr() as u64,
            flags: 0,
        };
        match call(MAP_LOOKUP_ELEM, &mut lookup) {
            Ok(_) => Ok(values.iter().sum()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(0),
            Err(error) => Err(error).context("reading a per-CPU hash"),
        }
    }
}

/// Tracing programs that are loaded now, whoever loaded them.
pub fn loaded_tracing_programs() -> Result<usize> {
    let mut found = 0;
    // start_id, next_id, open_flags
    let mut next = [0_u32; 3];
    loop {
        match call(PROG_GET_NEXT_ID, &mut next) {
            Ok(_) => next[0] = next[1],
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error).context("listing BPF programs"),
        }
        let mut by_id = [next[1], 0, 0];
        // It may have gone since.
        let Ok(program) = descriptor(PROG_GET_FD_BY_ID, &mut by_id) else { continue };
        let mut info = [0_u32; 16];
        #[repr(C)]
        struct Info {
            fd: u32,
            len: u32,
            info: u64,
        }
        let mut request = Info {
            fd: number(&program),
            len: size_of_val(&info) as u32,
            info: info.as_mut_ptr() as u64,
        };
        call(OBJ_GET_INFO_BY_FD, &mut request).context("asking for a BPF program")?;
        let tracing = [
            PROG_TYPE_KPROBE,
            PROG_TYPE_TRACEPOINT,
            PROG_TYPE_PERF_EVENT,
            PROG_TYPE_RAW_TRACEPOINT,
            PROG_TYPE_TRACING,
        ];
        found += usize::from(tracing.contains(&info[0]));
    }
}

fn possible_cpus() -> Result<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or("0");
    Ok(last.parse::<usize>().context("possible CPUs")? + 1)
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn call<T>(command: c_long, attributes: &mut T) -> io::Result<c_long> {
    // SAFETY: the kernel reads and writes at most the given size; pointers inside the attributes
    // point to what lives until after the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor<T>(command: c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    call(command, attributes).and_then(own)
}

fn own(result: c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
