//! PHP's own request probes (USDT): where a binary says that they are. Debian's 8.2 has them, its
//! 8.4 has none. The format is SystemTap's
//! (<https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>): a note for each probe,
//! with addresses as the linker knew them before the file was prelinked.

use std::fs::File;
use std::io;

use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, elf};

use super::elf::Bounded;
use super::looker;
use super::target::Target;
use super::who;
use crate::enrich::php;

/// Most that is read of a file, bytes.
const BUDGET_BYTES: u64 = 8 << 20;
/// Notes that are looked at; PHP has about twenty.
const MAX_NOTES: usize = 1024;
/// Places of one probe; PHP has one.
const MAX_PLACES: usize = 8;
const NOTE_TYPE: u32 = 3;
const NOTE_NAME: &[u8] = b"stapsdt";
const PROVIDER: &[u8] = b"php";
const BEGIN: &[u8] = b"request__startup";
const END: &[u8] = b"request__shutdown";

/// Where a probe is, as offsets in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The instruction.
    pub offset: u64,
    /// The counter of those who listen, which its code may ask first; None = it has none.
    pub semaphore: Option<u64>,
}

/// The request probes of a binary; neither list is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestProbes {
    /// request__startup.
    pub begin: Vec<Place>,
    /// request__shutdown.
    pub end: Vec<Place>,
}

/// Why a binary's request probes cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NoProbes {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is no 64-bit ELF file, or a damaged one")]
    NoElf,
    #[error("it was built without request probes (USDT)")]
    NoNotes,
    #[error("its notes of probes are damaged")]
    Damaged,
    #[error("it has more than {MAX_PLACES} places of a request probe")]
    TooMany,
    #[error("its probe at {address:#x} is not in its code")]
    NoCode { address: u64 },
    #[error("the semaphore of its probe, at {address:#x}, is not in its data")]
    NoSemaphore { address: u64 },
}

/// A segment that is loaded.
struct Load {
    address: u64,
    offset: u64,
    bytes: u64,
    flags: u32,
}

/// The binary of PHP in a process, and its name: its program, or a library of it. None = the process
/// is no PHP.
pub fn binary(target: &Target) -> io::Result<Option<(File, String)>> {
    let path = target.exe_path()?;
    if php::identify("", None, Some(&path), 0).is_some() {
        return Ok(Some((target.open_file("exe")?, path)));
    }
    if !who::may_load_php(&path) {
        return Ok(None);
    }
    Ok(looker::library(target)?.map(|(file, mapping)| (file, mapping.path)))
}

impl RequestProbes {
    /// Reads a program or a library.
    pub fn read(file: &File) -> Result<Self, NoProbes> {
        let bounded = Bounded::new(file, BUDGET_BYTES)?;
        let data = &bounded;
        let header = elf::FileHeader64::<Endianness>::parse(data).map_err(|_| NoProbes::NoElf)?;
        let endian = header.endian().map_err(|_| NoProbes::NoElf)?;
        let sections = header.sections(endian, data).map_err(|_| NoProbes::NoElf)?;
        let Some((_, notes)) = sections.section_by_name(endian, b".note.stapsdt") else {
            return Err(NoProbes::NoNotes);
        };
        let base = sections.section_by_name(endian, b".stapsdt.base");
        let base = base.map(|(_, section)| section.sh_addr(endian));
        let segments = header.program_headers(endian, data).map_err(|_| NoProbes::NoElf)?;
        let loads: Vec<Load> = segments
            .iter()
            .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
            .map(|segment| Load {
                address: segment.p_vaddr(endian),
                offset: segment.p_offset(endian),
                bytes: segment.p_filesz(endian),
                flags: segment.p_flags(endian),
            })
            .collect();
        let (mut begin, mut end) = (Vec::new(), Vec::new());
        let mut notes =
            notes.notes(endian, data).map_err(|_| NoProbes::Damaged)?.ok_or(NoProbes::Damaged)?;
        for _ in 0..MAX_NOTES {
            let Some(note) = notes.next().map_err(|_| NoProbes::Damaged)? else { break };
            if note.n_type(endian) != NOTE_TYPE || note.name() != NOTE_NAME {
                continue;
            }
            let note = Note::parse(note.desc(), endian).ok_or(NoProbes::Damaged)?;
            let places = match (note.provider, note.name) {
                (PROVIDER, BEGIN) => &mut begin,
                (PROVIDER, END) => &mut end,
                _ => continue,
            };
            if places.len() == MAX_PLACES {
                return Err(NoProbes::TooMany);
            }
            places.push(note.place(base, &loads)?);
        }
        if begin.is_empty() || end.is_empty() {
            return Err(NoProbes::NoNotes);
        }
        Ok(Self { begin, end })
    }
}

/// What a note says: addresses, then words with a NUL behind each.
struct Note<'a> {
    location: u64,
    base: u64,
    semaphore: u64,
    provider: &'a [u8],
    name: &'a [u8],
}

impl<'a> Note<'a> {
    fn parse(bytes: &'a [u8], endian: Endianness) -> Option<Self> {
        let (numbers, text) = bytes.split_at_checked(24)?;
        let number = |at: usize| {
            let bytes: [u8; 8] = numbers.get(at..at + 8)?.try_into().ok()?;
            Some(match endian {
                Endianness::Little => u64::from_le_bytes(bytes),
                Endianness::Big => u64::from_be_bytes(bytes),
            })
        };
        let mut words = text.split(|byte| *byte == 0);
        let (provider, name) = (words.next()?, words.next()?);
        // Behind its NUL there is at least the one of the arguments.
        words.next()?;
        Some(Self {
            location: number(0)?,
            base: number(8)?,
            semaphore: number(16)?,
            provider,
            name,
        })
    }

    /// `base` is where the section that the note was made with lies now.
    fn place(&self, base: Option<u64>, loads: &[Load]) -> Result<Place, NoProbes> {
        let moved = match base {
            Some(now) if self.base != 0 => now.wrapping_sub(self.base),
            _ => 0,
        };
        let address = self.location.wrapping_add(moved);
        let offset = offset(loads, address, elf::PF_X).ok_or(NoProbes::NoCode { address })?;
        let semaphore = match self.semaphore {
            0 => None,
            before => {
                let address = before.wrapping_add(moved);
                let found = offset_of_counter(loads, address);
                Some(found.ok_or(NoProbes::NoSemaphore { address })?)
            }
        };
        Ok(Place { offset, semaphore })
    }
}

fn offset_of_counter(loads: &[Load], address: u64) -> Option<u64> {
    // The kernel takes 32 bits of it.
    offset(loads, address, elf::PF_W).filter(|offset| u32::try_from(*offset).is_ok())
}

/// Where in the file an address is that is loaded with this flag.
fn offset(loads: &[Load], address: u64, flag: u32) -> Option<u64> {
    let load = loads.iter().find(|load| {
        load.flags & flag != 0
            && address.checked_sub(load.address).is_some_and(|within| within < load.bytes)
    })?;
    load.offset.checked_add(address - load.address)
}

#[cfg(test)]
mod tests;
