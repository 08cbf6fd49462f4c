//! Reads the memory of another process: many places with one system call, bounded in bytes and in
//! time, without stopping it. Places that cannot be read are left out; what comes back is a copy of
//! bytes that others wrote, to be believed by nobody.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::layout::string;
use super::target::Target;
use crate::event::look::Reason;

const PAGE: u64 = 4096;
/// Bit of a pagemap entry: the page is in memory.
const PRESENT: u64 = 1 << 63;
/// Bit of a pagemap entry: the page is swapped out.
const SWAPPED: u64 = 1 << 62;
/// Most places in one system call (IOV_MAX is 1024).
const PLACES: usize = 256;
/// Most that one look reads, bytes.
const BUDGET_BYTES: usize = 512 << 10;
/// What is read of a string at first, bytes.
const GUESS: usize = 120;
/// Largest address of user space on x86-64 with five levels.
const HIGHEST: u64 = 1 << 56;

/// Reads one process's memory.
#[derive(Debug)]
pub struct Remote {
    tgid: libc::pid_t,
    /// Pages that are not in memory are left out by it; None = they are waited for.
    pagemap: Option<File>,
    deadline: Instant,
    budget: usize,
    resident: Vec<u64>,
    swapped: u32,
    absent: u32,
}

/// What was read, in the order of the places.
#[derive(Debug, Default)]
pub struct Fetched {
    bytes: Vec<u8>,
    parts: Vec<(usize, usize, bool)>,
}

impl Fetched {
    /// One place; None = it could not be read.
    pub fn get(&self, place: usize) -> Option<&[u8]> {
        let &(start, bytes, read) = self.parts.get(place)?;
        if read { self.bytes.get(start..start + bytes) } else { None }
    }

    /// A word of a place.
    pub fn word(&self, place: usize, at: usize) -> Option<u64> {
        word(self.get(place)?, at)
    }
}

/// Eight bytes as a number.
pub fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Four bytes as a number.
pub fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

impl Remote {
    /// Reads until `deadline`. With `wait`, pages that are swapped out are brought in, which can
    /// block for much longer than that.
    pub fn new(target: &Target, deadline: Instant, wait: bool) -> Result<Self, Reason> {
        let pagemap = if wait {
            None
        } else {
            Some(target.open_file("pagemap").map_err(|error| reason(&error))?)
        };
        Ok(Self {
            tgid: libc::pid_t::try_from(target.key().tgid).map_err(|_| Reason::Gone)?,
            pagemap,
            deadline,
            budget: BUDGET_BYTES,
            resident: Vec::with_capacity(64),
            swapped: 0,
            absent: 0,
        })
    }

    /// Places left out because they are swapped out, so far.
    pub fn swapped(&self) -> u32 {
        self.swapped
    }

    /// Places left out because they are not in memory, for whatever reason: a damaged pointer also
    /// leads where nothing ever was.
    pub fn absent(&self) -> u32 {
        self.absent
    }

    /// Reads places (address, bytes). An error says why no more can be read at all.
    pub fn fetch(&mut self, places: &[(u64, usize)]) -> Result<Fetched, Reason> {
        if Instant::now() >= self.deadline {
            return Err(Reason::Deadline);
        }
        let mut fetched = Fetched { bytes: Vec::new(), parts: Vec::with_capacity(places.len()) };
        let mut total = 0;
        for &(address, bytes) in places {
            let end = address.checked_add(bytes as u64);
            let valid = address >= PAGE && bytes > 0 && end.is_some_and(|end| end < HIGHEST);
            fetched.parts.push((total, bytes, valid));
            total += bytes;
        }
        self.budget = self.budget.checked_sub(total).ok_or(Reason::TooMuch)?;
        fetched.bytes.resize(total, 0);
        for (at, &(address, bytes)) in places.iter().enumerate() {
            if fetched.parts[at].2 && !self.is_resident(address, bytes) {
                fetched.parts[at].2 = false;
                self.absent += 1;
            }
        }
        let wanted: Vec<usize> = (0..places.len()).filter(|&at| fetched.parts[at].2).collect();
        for chunk in wanted.chunks(PLACES) {
            self.fetch_chunk(places, chunk, &mut fetched)?;
        }
        Ok(fetched)
    }

    fn fetch_chunk(
        &self,
        places: &[(u64, usize)],
        mut wanted: &[usize],
        fetched: &mut Fetched,
    ) -> Result<(), Reason> {
        let base = fetched.bytes.as_mut_ptr();
        while !wanted.is_empty() {
            if Instant::now() >= self.deadline {
                return Err(Reason::Deadline);
            }
            let local: Vec<libc::iovec> = wanted
                .iter()
                .map(|&at| {
                    let (start, bytes, _) = fetched.parts[at];
                    libc::iovec { iov_base: base.wrapping_add(start).cast(), iov_len: bytes }
                })
                .collect();
            let remote: Vec<libc::iovec> = wanted
                .iter()
                .map(|&at| {
                    let (address, bytes) = places[at];
                    let base = std::ptr::without_provenance_mut(address as usize);
                    libc::iovec { iov_base: base, iov_len: bytes }
                })
                .collect();
            // SAFETY: every local range lies in `fetched.bytes`, apart from the others, and the
            // buffer lives and is not moved through the call; the kernel checks the remote ones.
            let done = unsafe {
                libc::process_vm_readv(
                    self.tgid,
                    local.as_ptr(),
                    local.len() as libc::c_ulong,
                    remote.as_ptr(),
                    remote.len() as libc::c_ulong,
                    0,
                )
            };
            let mut done = match usize::try_from(done) {
                Ok(done) => done,
                Err(_) => match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::EFAULT) => 0,
                    error => return Err(reason(&error)),
                },
            };
            // It stops at the first place that cannot be read; the others come with the next call.
            let read = wanted.iter().take_while(|&&at| {
                let bytes = fetched.parts[at].1;
                done >= bytes && {
                    done -= bytes;
                    true
                }
            });
            let read = read.count();
            if let Some(&failed) = wanted.get(read) {
                fetched.parts[failed].2 = false;
            }
            wanted = wanted.get(read + 1..).unwrap_or_default();
        }
        Ok(())
    }

    fn is_resident(&mut self, address: u64, bytes: usize) -> bool {
        let Some(pagemap) = &self.pagemap else { return true };
        let (first, last) = (address / PAGE, (address + bytes as u64 - 1) / PAGE);
        for page in first..=last {
            if self.resident.contains(&page) {
                continue;
            }
            let mut entry = [0; 8];
            let known = pagemap.read_exact_at(&mut entry, page * 8).is_ok();
            let entry = u64::from_ne_bytes(entry);
            if !known || entry & PRESENT == 0 {
                self.swapped += u32::from(entry & SWAPPED != 0);
                return false;
            }
            self.resident.push(page);
        }
        true
    }

    /// Texts of zend_strings, each cut to `most` bytes. None = none, damaged, or not readable.
    pub fn strings(&mut self, at: &[u64], most: usize) -> Result<Vec<Option<Vec<u8>>>, Reason> {
        let aligned = |address: u64| address.is_multiple_of(8);
        let places: Vec<(u64, usize)> = at
            .iter()
            .map(|&address| match aligned(address) {
                true => (address, in_page(address, string::VALUE + GUESS)),
                false => (0, 0),
            })
            .collect();
        let heads = self.fetch(&places)?;
        let mut texts: Vec<Option<Vec<u8>>> = vec![None; at.len()];
        let (mut rest, mut split) = (Vec::new(), Vec::new());
        for (place, &address) in at.iter().enumerate() {
            let Some(head) = heads.get(place) else { continue };
            let Some(length) = string_length(head) else {
                // The head itself may lie across two pages.
                if head.len() < string::VALUE {
                    split.push((place, address));
                }
                continue;
            };
            let whole = string::VALUE + length + 1;
            if whole <= head.len() {
                texts[place] = terminated(head, length).map(<[u8]>::to_vec);
            } else {
                rest.push((place, address, whole.min(string::VALUE + most)));
            }
        }
        if !split.is_empty() {
            let places: Vec<(u64, usize)> =
                split.iter().map(|&(_, address)| (address, string::VALUE)).collect();
            let heads = self.fetch(&places)?;
            for (at, &(place, address)) in split.iter().enumerate() {
                if let Some(length) = heads.get(at).and_then(string_length) {
                    let whole = string::VALUE + length + 1;
                    rest.push((place, address, whole.min(string::VALUE + most)));
                }
            }
        }
        if rest.is_empty() {
            return Ok(texts);
        }
        let places: Vec<(u64, usize)> =
            rest.iter().map(|&(_, address, bytes)| (address, bytes)).collect();
        let fetched = self.fetch(&places)?;
        for (at, &(place, ..)) in rest.iter().enumerate() {
            let Some(bytes) = fetched.get(at) else { continue };
            let Some(length) = string_length(bytes) else { continue };
            texts[place] = if string::VALUE + length < bytes.len() {
                terminated(bytes, length).map(<[u8]>::to_vec)
            } else {
                Some(bytes[string::VALUE..].to_vec())
            };
        }
        Ok(texts)
    }

    /// A C string, cut to `most` bytes. None = not readable, or no end in sight.
    pub fn c_string(&mut self, address: u64, most: usize) -> Result<Option<Vec<u8>>, Reason> {
        let mut text = Vec::new();
        while text.len() < most {
            let at = address.saturating_add(text.len() as u64);
            let bytes =
                in_page(at, if text.is_empty() { GUESS } else { 4096 }).min(most - text.len());
            let fetched = self.fetch(&[(at, bytes)])?;
            let Some(bytes) = fetched.get(0) else {
                return Ok(None);
            };
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&bytes[..end]);
                return Ok(Some(text));
            }
            text.extend_from_slice(bytes);
        }
        Ok(Some(text))
    }
}

/// As many of `bytes` as lie in the page of `address`: a page that is there can be read, the next
/// one may not.
fn in_page(address: u64, bytes: usize) -> usize {
    bytes.min((PAGE - address % PAGE) as usize)
}

/// Length of a zend_string, where this can be one.
fn string_length(head: &[u8]) -> Option<usize> {
    if half(head, string::TYPE_INFO)? & 15 != string::TYPE {
        return None;
    }
    let length = usize::try_from(word(head, string::LENGTH)?).ok()?;
    // Function names and files have bounds far below this.
    (length <= 1 << 20).then_some(length)
}

/// The text of a string that was read whole: a NUL follows it.
fn terminated(bytes: &[u8], length: usize) -> Option<&[u8]> {
    let text = bytes.get(string::VALUE..)?;
    (*text.get(length)? == 0).then(|| &text[..length])
}

/// What an error of the kernel means to a look.
pub fn reason(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => Reason::Gone,
        Some(libc::EPERM | libc::EACCES) => Reason::NotPermitted,
        _ if error.kind() == io::ErrorKind::NotFound => Reason::Gone,
        _ => Reason::Unreadable { kind: error.kind().to_string().into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn own(wait: bool) -> Remote {
        let target = Target::open(std::process::id()).unwrap();
        Remote::new(&target, Instant::now() + Duration::from_secs(10), wait).unwrap()
    }

    /// A zend_string.
    fn zend(text: &[u8]) -> Vec<u64> {
        let mut bytes = vec![0; string::VALUE];
        bytes[string::TYPE_INFO] = string::TYPE as u8;
        bytes[string::LENGTH..string::VALUE].copy_from_slice(&text.len().to_ne_bytes());
        bytes.extend_from_slice(text);
        bytes.resize((bytes.len() / 8 + 1) * 8, 0);
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    fn address<T>(of: &[T]) -> u64 {
        of.as_ptr().addr() as u64
    }

    #[test]
    fn places_that_cannot_be_read_are_left_out_and_the_others_are_not() {
        let here = [1_u64, 2, 3];
        let at = address(&here);
        for wait in [false, true] {
            let places = [
                (at, 8),
                (8192, 8),
                (at + 8, 16),
                (u64::MAX - 3, 8),
                (0, 8),
                (1 << 47, 8),
                (at, 0),
            ];
            let fetched = own(wait).fetch(&places).unwrap();
            assert_eq!((fetched.word(0, 0), fetched.word(2, 0)), (Some(1), Some(2)));
            assert_eq!(fetched.word(2, 8), Some(3));
            for bad in [1, 3, 4, 5, 6, 7] {
                assert_eq!(fetched.get(bad), None, "{bad}");
            }
        }
    }

    #[test]
    fn more_places_than_one_call_takes() {
        let numbers: Vec<u64> = (0..1000).collect();
        let mut places: Vec<_> = numbers.iter().map(|n| (address(&numbers) + n * 8, 8)).collect();
        places[500] = (4096, 8);
        let fetched = own(true).fetch(&places).unwrap();
        for n in 0..1000 {
            assert_eq!(fetched.word(n as usize, 0), (n != 500).then_some(n), "{n}");
        }
    }

    #[test]
    fn bytes_and_time_are_bounded() {
        let held = vec![1_u8; 400 << 10];
        let mut remote = own(true);
        assert!(remote.fetch(&[(address(&held), held.len())]).is_ok());
        let more = remote.fetch(&[(address(&held), held.len())]);
        assert_eq!(more.unwrap_err(), Reason::TooMuch);
        let target = Target::open(std::process::id()).unwrap();
        let mut late = Remote::new(&target, Instant::now(), true).unwrap();
        assert_eq!(late.fetch(&[(address(&held), 1)]).unwrap_err(), Reason::Deadline);
    }

    #[test]
    fn strings_short_long_cut_and_forged() {
        let long = zend(&[b'x'; 9000]);
        let short = zend(b"foreach");
        let mut huge = zend(b"a");
        huge[2] = u64::MAX;
        let mut other = zend(b"a");
        other[0] = 7 << 32;
        let mut open = zend(b"abc");
        *open.last_mut().unwrap() = u64::MAX;
        let at = [&long, &short, &huge, &other, &open].map(|text| address(text));
        let mut all = at.to_vec();
        all.extend([0, at[1] + 1, 4096]);
        let texts = own(true).strings(&all, 4096).unwrap();
        assert_eq!(texts[0].as_deref(), Some(&[b'x'; 4096][..]));
        assert_eq!(texts[1].as_deref(), Some(&b"foreach"[..]));
        assert!(texts[2..].iter().all(Option::is_none), "{texts:?}");
    }

    #[test]
    fn a_string_whose_head_lies_across_two_pages_is_read_whole() {
        let long = zend(&[b'x'; 3000]);
        let mut pages = vec![0_u64; 3 * 512];
        for before in [8, 16, 24] {
            let edge = address(&pages).next_multiple_of(4096) + 4096 - before;
            let at = ((edge - address(&pages)) / 8) as usize;
            pages[at..at + long.len()].copy_from_slice(&long);
            let texts = own(true).strings(&[edge], 4096).unwrap();
            assert_eq!(texts[0].as_deref(), Some(&[b'x'; 3000][..]), "{before}");
        }
    }

    #[test]
    fn c_strings_end_at_their_nul_or_where_they_are_cut() {
        let mut text = vec![b'u'; 65536];
        text.push(0);
        let mut remote = own(true);
        assert_eq!(remote.c_string(address(&text), 8192).unwrap().unwrap().len(), 8192);
        assert_eq!(remote.c_string(address(&text[65530..]), 99).unwrap().unwrap(), b"uuuuuu");
        assert_eq!(remote.c_string(4096, 99).unwrap(), None);
        assert_eq!(remote.c_string(u64::MAX, 99).unwrap(), None);
    }

    #[test]
    fn pages_that_were_never_touched_are_left_alone() {
        // Always a mapping of its own: above what malloc serves from memory that was used before.
        let fresh = Vec::<u8>::with_capacity(64 << 20);
        let middle = fresh.as_ptr().addr() as u64 + (32 << 20);
        let mut remote = own(false);
        assert_eq!(remote.fetch(&[(middle, 8)]).unwrap().get(0), None);
        assert_eq!((remote.swapped(), remote.absent()), (0, 1));
        assert!(own(true).fetch(&[(middle, 8)]).unwrap().get(0).is_some());
    }
}
