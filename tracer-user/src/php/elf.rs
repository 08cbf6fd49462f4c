//! A PHP binary: the symbols that a look needs, its version, and the offsets that its own code
//! tells. Read once per file, before there is pressure, from its dynamic symbols, which Debian and
//! the container images keep where everything else is stripped.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::read::{Object as _, ObjectSymbol as _, ReadCache, ReadRef};
use object::{Endianness, elf};

use super::layout::{self, Layout, Version};
use crate::event::look::Reason;

/// What stands before the version in every binary of PHP.
const MARK: &[u8] = b"X-Powered-By: PHP/";
/// Larger parts of a file are no read-only data of PHP.
const MAX_DATA_BYTES: u64 = 64 << 20;
const CHUNK_BYTES: usize = 128 << 10;
/// Bytes of a function that are looked at.
const CODE_BYTES: usize = 64;
const MAX_SYMBOLS: usize = 200_000;
/// Most that is read of headers, symbols and their names, bytes: a section may claim any size.
const BUDGET_BYTES: u64 = 64 << 20;

/// A binary of PHP, addresses as in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// `8.2.36`.
    pub version: String,
    /// Where its program starts.
    pub entry: u64,
    /// The lowest address that is loaded, rounded down to a page.
    pub lowest: u64,
    /// sapi_globals.
    pub sapi_globals: u64,
    /// sapi_module.
    pub sapi_module: Option<u64>,
    /// executor_globals.
    pub executor_globals: Option<u64>,
    /// The pointer to the memory manager's heap.
    pub heap: Option<u64>,
    /// zend_mm_heap.real_size; real_peak and limit follow it.
    pub heap_real_size: Option<u64>,
    /// Offsets; None = this version is not known.
    pub layout: Option<Layout>,
}

/// What is loaded of a file.
struct Image<'a> {
    file: &'a File,
    loads: Vec<Load>,
}

struct Load {
    address: u64,
    offset: u64,
    bytes: u64,
    written: bool,
    executable: bool,
}

/// A file of which only so much is read.
pub(super) struct Bounded {
    cache: ReadCache<File>,
    left: Cell<u64>,
}

impl Bounded {
    /// At most this many bytes of `file`.
    pub(super) fn new(file: &File, bytes: u64) -> io::Result<Self> {
        Ok(Self { cache: ReadCache::new(file.try_clone()?), left: Cell::new(bytes) })
    }

    fn spend(&self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'data> ReadRef<'data> for &'data Bounded {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.spend(size)?;
        (&self.cache).read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        // Names of C functions are far shorter.
        let end = range.end.min(range.start.saturating_add(4096));
        let found = (&self.cache).read_bytes_at_until(range.start..end, delimiter)?;
        self.spend(found.len() as u64)?;
        Ok(found)
    }
}

#[derive(Default)]
struct Symbols {
    sapi_globals: Option<u64>,
    sapi_module: Option<u64>,
    executor_globals: Option<u64>,
    zend_mm_get_heap: Option<u64>,
    zend_memory_usage: Option<u64>,
    zend_is_executing: Option<u64>,
    thread_safe: bool,
}

impl Build {
    /// Reads a program or a library.
    pub fn read(file: &File) -> Result<Self, Reason> {
        let bounded = Bounded::new(file, BUDGET_BYTES).map_err(|error| unreadable(&error))?;
        let parsed = object::read::elf::ElfFile64::<Endianness, _>::parse(&bounded)
            .map_err(|_| Reason::NoPhp)?;
        let header = parsed.elf_header();
        let endian = parsed.endian();
        let machine = header.e_machine(endian);
        if machine != elf::EM_X86_64 {
            return Err(Reason::Machine { machine });
        }
        let mut loads = Vec::new();
        for program in parsed.elf_program_headers() {
            if program.p_type(endian) == elf::PT_LOAD {
                loads.push(Load {
                    address: program.p_vaddr(endian),
                    offset: program.p_offset(endian),
                    bytes: program.p_filesz(endian),
                    written: program.p_flags(endian) & elf::PF_W != 0,
                    executable: program.p_flags(endian) & elf::PF_X != 0,
                });
            }
        }
        let image = Image { file, loads };
        let version = image.version();
        let mut symbols = Symbols::default();
        for symbol in parsed.dynamic_symbols().chain(parsed.symbols()).take(MAX_SYMBOLS) {
            if !symbol.is_undefined()
                && let Ok(name) = symbol.name_bytes()
            {
                symbols.note(name, symbol.address());
            }
        }
        if symbols.thread_safe && symbols.sapi_globals.is_none() {
            return Err(Reason::ThreadSafe);
        }
        let Some(sapi_globals) = symbols.sapi_globals else {
            return Err(match version {
                Some(_) => Reason::Stripped { symbol: "sapi_globals".into() },
                None => Reason::NoPhp,
            });
        };
        let version = version.ok_or(Reason::NoVersion)?;
        let layout = Version::parse(&version).and_then(layout::of);
        let code = |at: Option<u64>| image.code(at?);
        // What the code itself says stands above the table.
        let by_code = code(symbols.zend_memory_usage).and_then(|code| real_size(&code));
        let current = code(symbols.zend_is_executing).and_then(|code| executing(&code));
        Ok(Self {
            version,
            entry: header.e_entry(endian),
            lowest: image.loads.iter().map(|load| load.address & !4095).min().unwrap_or(0),
            sapi_globals,
            sapi_module: symbols.sapi_module,
            executor_globals: symbols.executor_globals,
            heap: symbols.zend_mm_get_heap.and_then(|at| heap_pointer(&image.code(at)?, at)),
            heap_real_size: by_code.or(layout.map(|known| known.heap_real_size)),
            layout: layout.map(|known| Layout {
                current_execute_data: current.unwrap_or(known.current_execute_data),
                ..known
            }),
        })
    }
}

impl Symbols {
    fn note(&mut self, name: &[u8], address: u64) {
        let place = match name {
            b"sapi_globals" => &mut self.sapi_globals,
            b"sapi_module" => &mut self.sapi_module,
            b"executor_globals" => &mut self.executor_globals,
            b"zend_mm_get_heap" => &mut self.zend_mm_get_heap,
            b"zend_memory_usage" => &mut self.zend_memory_usage,
            b"zend_is_executing" => &mut self.zend_is_executing,
            b"tsrm_get_ls_cache" | b"executor_globals_offset" => {
                self.thread_safe = true;
                return;
            }
            _ => return,
        };
        place.get_or_insert(address);
    }
}

impl Image<'_> {
    /// The start of a function; what the file does not hold is 0.
    fn code(&self, address: u64) -> Option<[u8; CODE_BYTES]> {
        let load = self.loads.iter().find(|load| {
            load.executable
                && address.checked_sub(load.address).is_some_and(|within| within < load.bytes)
        })?;
        let within = address - load.address;
        let bytes = usize::try_from(load.bytes - within).unwrap_or(CODE_BYTES).min(CODE_BYTES);
        let mut code = [0; CODE_BYTES];
        self.file.read_exact_at(&mut code[..bytes], load.offset.checked_add(within)?).ok()?;
        Some(code)
    }

    /// The version, from the read-only data.
    fn version(&self) -> Option<String> {
        let constant = self.loads.iter().filter(|load| !load.written && !load.executable);
        // The larger part holds the strings; looking there first saves reading the other.
        let mut constant: Vec<&Load> = constant.collect();
        constant.sort_by_key(|load| std::cmp::Reverse(load.offset));
        constant.into_iter().find_map(|load| self.version_in(load))
    }

    fn version_in(&self, load: &Load) -> Option<String> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let overlap = MARK.len() + 32;
        let mut at = 0;
        while at < load.bytes.min(MAX_DATA_BYTES) {
            let left = usize::try_from(load.bytes - at).unwrap_or(CHUNK_BYTES);
            let chunk = &mut buffer[..left.min(CHUNK_BYTES)];
            self.file.read_exact_at(chunk, load.offset.checked_add(at)?).ok()?;
            if let Some(found) = version(chunk) {
                return Some(found);
            }
            at += (CHUNK_BYTES - overlap) as u64;
        }
        None
    }
}

/// What follows the mark, up to its NUL.
fn version(bytes: &[u8]) -> Option<String> {
    let mut from = 0;
    // The first byte is searched for by itself: that is quick also in a build for debugging.
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == MARK[0]) {
        let rest = &bytes[from + at..];
        if let Some(text) = rest.strip_prefix(MARK) {
            let end = text.iter().take(31).position(|byte| *byte == 0)?;
            let text = std::str::from_utf8(&text[..end]).ok()?;
            return Version::parse(text).map(|_| text.to_owned());
        }
        from += at + 1;
    }
    None
}

/// `[endbr64]; mov rax, [rip + N]; ret`: the address that is read.
fn heap_pointer(code: &[u8], address: u64) -> Option<u64> {
    let start = if code.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) { 4 } else { 0 };
    let code = code.get(start..start + 8)?;
    if !code.starts_with(&[0x48, 0x8b, 0x05]) || code[7] != 0xc3 {
        return None;
    }
    let next = address.checked_add(start as u64 + 7)?;
    next.checked_add_signed(i64::from(displacement(code, 3)?))
}

/// `cmp qword [rax + N], 0`.
fn executing(code: &[u8]) -> Option<u64> {
    let at = code.windows(8).position(|op| op.starts_with(&[0x48, 0x83, 0xb8]) && op[7] == 0)?;
    offset(displacement(code, at + 3)?)
}

/// The first `mov rax, [rax + N]` with a wide N.
fn real_size(code: &[u8]) -> Option<u64> {
    let at = code.windows(3).position(|op| op == [0x48, 0x8b, 0x80])?;
    offset(displacement(code, at + 3)?)
}

fn displacement(code: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(code.get(at..at + 4)?.try_into().ok()?))
}

/// An offset inside a struct of PHP.
fn offset(value: i32) -> Option<u64> {
    u64::try_from(value).ok().filter(|offset| *offset < 4096 && offset % 8 == 0)
}

fn unreadable(error: &io::Error) -> Reason {
    Reason::Unreadable { kind: error.kind().to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn offsets_are_found_in_the_code_of_debian_8_2() {
        let get_heap = [0x48, 0x8b, 0x05, 0x79, 0x99, 0x2b, 0x00, 0xc3];
        assert_eq!(heap_pointer(&get_heap, 0x2c_8b70), Some(0x58_24f0));
        let mut marked = vec![0xf3, 0x0f, 0x1e, 0xfa];
        marked.extend(get_heap);
        assert_eq!(heap_pointer(&marked, 0x2c_8b6c), Some(0x58_24f0));
        let usage = [0x40, 0x84, 0xff, 0x74, 0x0c, 0x48, 0x8b, 0x80, 0x10, 0x01, 0x00, 0x00, 0xc3];
        assert_eq!(real_size(&usage), Some(0x110));
        let is_executing = [0x48, 0x83, 0xb8, 0xe8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x95, 0xc0, 0xc3];
        assert_eq!(executing(&is_executing), Some(488));
    }

    #[test]
    fn other_code_tells_nothing() {
        for code in [&[][..], &[0x48], &[0x48, 0x8b, 0x05, 0, 0, 0, 0, 0x90], &[0xff; 64]] {
            assert_eq!(
                (heap_pointer(code, 0), executing(code), real_size(code)),
                (None, None, None)
            );
        }
        let far = [0x48, 0x83, 0xb8, 0xe8, 0x01, 0x00, 0x7f, 0x00];
        assert_eq!(executing(&far), None);
        assert_eq!(heap_pointer(&[0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3], u64::MAX), None);
    }

    #[test]
    fn versions_stand_behind_their_mark() {
        assert_eq!(version(b"\0XX-Powered-By: PHP/8.2.36\0").as_deref(), Some("8.2.36"));
        assert_eq!(version(b"X-Powered-By: PHP/8.5.0-dev\0x").as_deref(), Some("8.5.0-dev"));
        for bad in [&b"X-Powered-By: PHP/"[..], b"X-Powered-By: PHP/x\0", b"X-Powered-By: PHP/8.2"]
        {
            assert_eq!(version(bad), None);
        }
        let endless = [MARK, &[b'9'; 999]].concat();
        assert_eq!(version(&endless), None);
    }

    #[test]
    fn files_that_are_no_php() {
        let exe = File::open("/bin/true").unwrap();
        assert_eq!(Build::read(&exe).unwrap_err(), Reason::NoPhp);
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0xff; 4096]] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            assert_eq!(Build::read(&file).unwrap_err(), Reason::NoPhp);
        }
    }

    #[test]
    fn a_section_that_claims_gigabytes_is_not_read() {
        let mut bytes = std::fs::read("/bin/true").unwrap();
        let word = |bytes: &[u8], at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
        };
        let sections = word(&bytes, 0x28);
        let dynsym = (sections..bytes.len()).step_by(64).find(|at| bytes[at + 4] == 11).unwrap();
        bytes[dynsym + 32..dynsym + 40].copy_from_slice(&(24_u64 << 30).to_le_bytes());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len(64 << 30).unwrap();
        assert_eq!(Build::read(&file).unwrap_err(), Reason::NoPhp);
    }

    #[test]
    fn a_damaged_program_is_refused_without_a_panic() {
        let mut bytes = std::fs::read("/bin/true").unwrap();
        let mut state = 1_u32;
        for _ in 0..300 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = state as usize % bytes.len().min(2048);
            bytes[at] = (state >> 24) as u8;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            assert!(Build::read(&file).is_err());
        }
    }
}
