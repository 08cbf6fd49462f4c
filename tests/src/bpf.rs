//! The kernel's bpf(2) and perf_event_open(2), asked without the program under test: which programs
//! and links there are, and whether a function of the kernel can be hooked at its entry.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

const BTF: &str = "/sys/kernel/btf/vmlinux";

// enum bpf_cmd, include/uapi/linux/bpf.h.
const PROG_LOAD: i32 = 5;
const PROG_GET_NEXT_ID: i32 = 11;
const RAW_TRACEPOINT_OPEN: i32 = 17;
const LINK_GET_NEXT_ID: i32 = 31;

/// Size of the attributes that are passed: all fields up to attach_btf_id.
const ATTRIBUTE_BYTES: usize = 128;

#[repr(C, align(8))]
struct Attributes([u8; ATTRIBUTE_BYTES]);

impl Attributes {
    fn new() -> Self {
        Self([0; ATTRIBUTE_BYTES])
    }

    fn u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, offset: usize, value: u64) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn call(&mut self, command: i32) -> io::Result<i32> {
        let (attributes, size) = (self.0.as_mut_ptr(), ATTRIBUTE_BYTES);
        // SAFETY: the attributes are as long as said, and what their pointers name outlives the call.
        match unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) } {
            -1 => Err(io::Error::last_os_error()),
            result => Ok(result as i32),
        }
    }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just given this descriptor, to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Ids of all BPF programs and links in the kernel.
pub fn objects() -> Result<BTreeSet<(&'static str, u32)>> {
    let mut found = BTreeSet::new();
    for (kind, command) in [("prog", PROG_GET_NEXT_ID), ("link", LINK_GET_NEXT_ID)] {
        let mut last = 0;
        loop {
            // start_id, next_id.
            let mut attributes = Attributes::new().u32(0, last);
            match attributes.call(command) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(error) => return Err(error).with_context(|| format!("listing BPF {kind}s")),
            }
            let [a, b, c, d] = [4, 5, 6, 7].map(|at| attributes.0[at]);
            last = u32::from_ne_bytes([a, b, c, d]);
            found.insert((kind, last));
        }
    }
    Ok(found)
}

/// Whether a program that does nothing can be attached to the entry of `function` through BTF.
pub fn can_fentry(function: &str) -> bool {
    const TRACING: u32 = 26;
    const TRACE_FENTRY: u32 = 24;
    /// `r0 = 0; exit`.
    const NOTHING: [u64; 2] = [0xb7, 0x95];
    let id = fs::read(BTF).ok().and_then(|btf| function_id(&btf, function));
    let Some(id) = id else { return false };
    let license = c"GPL";
    let program = Attributes::new()
        .u32(0, TRACING)
        .u32(4, NOTHING.len() as u32)
        .u64(8, NOTHING.as_ptr() as u64)
        .u64(16, license.as_ptr() as u64)
        .u32(68, TRACE_FENTRY)
        .u32(108, id)
        .call(PROG_LOAD)
        .map(owned);
    let Ok(program) = program else { return false };
    let link = Attributes::new().u32(8, program.as_raw_fd() as u32).call(RAW_TRACEPOINT_OPEN);
    link.map(owned).is_ok()
}

/// Whether a breakpoint can be set at the entry of `function`.
pub fn can_kprobe(function: &str) -> bool {
    /// PERF_ATTR_SIZE_VER5.
    const SIZE: usize = 112;
    let kind = fs::read_to_string("/sys/bus/event_source/devices/kprobe/type");
    let Some(kind) = kind.ok().and_then(|text| text.trim().parse().ok()) else { return false };
    let Ok(name) = CString::new(function) else { return false };
    // type, size, kprobe_func of struct perf_event_attr.
    let event = Attributes::new().u32(0, kind).u32(4, SIZE as u32).u64(56, name.as_ptr() as u64);
    // SAFETY: the attributes are longer than they say, the name outlives the call; CPU 0, any task.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, event.0.as_ptr(), -1, 0, -1, 0_u64) };
    if fd >= 0 {
        drop(owned(fd as i32));
    }
    fd >= 0
}

/// Type id of a function in BTF (Documentation/bpf/btf.rst).
fn function_id(btf: &[u8], name: &str) -> Option<u32> {
    const FUNC: u32 = 12;
    let word = |at: usize| Some(u32::from_ne_bytes(btf.get(at..at + 4)?.try_into().ok()?));
    let header_bytes = word(4)? as usize;
    let types = header_bytes + word(8)? as usize;
    let end = types + word(12)? as usize;
    let strings = header_bytes + word(16)? as usize;
    let (mut at, mut id) = (types, 1);
    while at < end {
        let (name_at, info) = (strings + word(at)? as usize, word(at + 4)?);
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == FUNC {
            let text = btf.get(name_at..)?;
            if text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
                return Some(id);
            }
        }
        at += 12
            + match kind {
                // Integers, variables, declaration tags.
                1 | 14 | 17 => 4,
                // Arrays.
                3 => 12,
                // Structs, unions, 64-bit enums, sections.
                4 | 5 | 19 | 15 => 12 * members,
                // Enums, prototypes.
                6 | 13 => 8 * members,
                _ => 0,
            };
        id += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_after_types_of_every_size() {
        // void f(int): 1 = int, 2 = array, 3 = struct of one, 4 = enum of two, 5 = prototype, 6 = f.
        let types: Vec<u32> = [
            &[0, 1 << 24, 4, 32][..],
            &[0, 3 << 24, 0, 1, 1, 9],
            &[0, 4 << 24 | 1, 4, 0, 1, 0],
            &[0, 6 << 24 | 2, 4, 0, 0, 0, 1],
            &[0, 13 << 24 | 1, 0, 0, 1],
            &[4, 12 << 24, 5],
        ]
        .concat();
        let strings = b"\0xf\0f\0";
        let length = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let words = header.iter().chain(&types);
        let mut btf: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        btf.extend(strings);
        assert_eq!(function_id(&btf, "f"), Some(6));
        assert_eq!(function_id(&btf, "xf"), None);
        for length in 0..btf.len() - strings.len() {
            assert_eq!(function_id(&btf[..length], "f"), None, "cut at {length}");
        }
    }

    #[test]
    fn no_function_of_that_name_can_be_hooked() {
        assert!(!can_fentry("no_such_function_of_any_kernel"));
        assert!(!can_kprobe("no_such_function_of_any_kernel"));
    }
}
