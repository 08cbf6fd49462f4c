//! A process that takes memory as told on its command line, and keeps count of it in a file shared
//! with the test, so that the count outlives a SIGKILL.
//!
//! `hog [--counter FILE] STEP…`; a block stands between the words `{` and `}`. Each step at the top
//! level prints one JSON line with the counters when it is done.
//!
//! | step | what it does |
//! |---|---|
//! | `wait` | reads a line from standard input |
//! | `anon:MIB[:RATE]` | touches MIB of new anonymous memory, 4 KiB pages, at RATE MiB/s |
//! | `thp:MIB[:RATE]` | the same with transparent huge pages |
//! | `any:MIB[:RATE]` | the same with pages as the host's policy has it |
//! | `shm:MIB[:RATE]` | the same in a memfd |
//! | `map:MIB` | maps MIB of new anonymous memory and touches none of it |
//! | `touch[:RATE]` | touches all that was mapped so |
//! | `populate:MIB` | maps MIB of new anonymous memory, filled by the kernel in one go |
//! | `file:PATH` | maps PATH shared and reads each page |
//! | `free` | unmaps all that this process (or thread) has mapped |
//! | `fork { … }` | starts a child that runs the block and exits |
//! | `thread { … }` | starts a thread that runs the block |
//! | `repeat:N { … }` | runs the block N times |
//! | `reap`, `join` | waits for all children, all threads |
//! | `exec[:PATH]` | runs itself (or PATH, a link to it) anew with the words that follow |
//! | `kill:SIGNAL:PID` | sends a signal |
//! | `ignore:SIGNAL` | ignores a signal from now on |
//! | `comm:NAME`, `comm-hex:HEX` | sets the thread's name |
//! | `adj:N` | sets oom_score_adj |
//! | `sleep:MS`, `hold` | sleeps, for ever |
//! | `exit:CODE` | ends the process |
//! | `junk:ANYTHING` | does nothing: something to stand in a command line |

mod system;

use std::ffi::{CString, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use system::{fail, map, map_with, memfd, set_comm, wait_for_line};
use tests::counters::{Counters, Slot};

const PAGE_BYTES: usize = 4096;
const HUGE_BYTES: usize = 2 << 20;
/// Bytes between two looks at the clock.
const PACE_BYTES: u64 = 64 << 10;

/// One mapping and how much of it was touched.
struct Region {
    address: *mut libc::c_void,
    len: usize,
    slot: Slot,
    touched_bytes: u64,
}

/// State of one process or thread.
struct Hog {
    counters: &'static Counters,
    counter_path: Option<OsString>,
    /// Not the first process: its memory is counted apart.
    child: bool,
    regions: Vec<Region>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

fn main() {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut counter_path = None;
    if words.first().is_some_and(|word| word == "--counter") {
        words.remove(0);
        counter_path = Some(words.remove(0));
    }
    let counters = match &counter_path {
        Some(path) => Counters::map(path.as_ref()),
        None => Counters::anonymous(),
    };
    let counters = counters.unwrap_or_else(|error| fail(&format!("counters: {error}")));
    let mut hog =
        Hog { counters, counter_path, child: false, regions: Vec::new(), threads: Vec::new() };
    hog.run(&words, true);
}

impl Hog {
    fn run(&mut self, words: &[OsString], report: bool) {
        let mut at = 0;
        while at < words.len() {
            let word = words[at].clone();
            let text = word.to_string_lossy().into_owned();
            let (name, argument) = text.split_once(':').unwrap_or((&text, ""));
            at += 1;
            let mut block: &[OsString] = &[];
            if matches!(name, "fork" | "thread" | "repeat") {
                let end = block_end(words, at);
                block = &words[at + 1..end];
                at = end + 1;
            }
            match name {
                "wait" => wait_for_line(),
                "anon" | "thp" | "any" | "shm" => self.grow(name, argument),
                "map" => self.reserve(argument),
                "touch" => self.touch(argument),
                "populate" => self.populate(argument),
                "kill" => system::send(argument),
                // SAFETY: SIG_IGN is valid for every signal; a wrong number is refused.
                "ignore" => drop(unsafe { libc::signal(number(argument) as i32, libc::SIG_IGN) }),
                "file" => self.map_file(&word.as_bytes()["file:".len()..]),
                "free" => self.free(),
                "fork" => self.fork(block),
                "thread" => self.thread(block),
                "repeat" => (0..number(argument)).for_each(|_| self.run(block, false)),
                "reap" => self.reap(),
                "join" => self.threads.drain(..).for_each(|thread| drop(thread.join())),
                "exec" => self.exec(argument, &words[at..]),
                "comm" => set_comm(&word.as_bytes()["comm:".len()..]),
                "comm-hex" => set_comm(&unhex(argument)),
                "adj" => std::fs::write("/proc/self/oom_score_adj", argument)
                    .unwrap_or_else(|error| fail(&format!("oom_score_adj: {error}"))),
                "sleep" => std::thread::sleep(Duration::from_millis(number(argument))),
                "hold" => loop {
                    std::thread::sleep(Duration::from_secs(3600));
                },
                // SAFETY: _exit takes any code and does not return.
                "exit" => unsafe { libc::_exit(number(argument) as i32) },
                "junk" => {}
                _ => fail(&format!("no step is called {text}")),
            }
            if report {
                self.report(name);
            }
        }
    }

    fn slot(&self, own: Slot) -> &AtomicU64 {
        self.counters.slot(if self.child { Slot::ChildBytes } else { own })
    }

    fn grow(&mut self, kind: &str, argument: &str) {
        let (mib, rate) = argument.split_once(':').unwrap_or((argument, "0"));
        let (len, rate) = (number(mib) as usize * (1 << 20), number(rate) << 20);
        let (slot, mapping) = match kind {
            "shm" => (Slot::Shmem, map(len, memfd(len))),
            "thp" | "any" => (Slot::Anon, map(len + HUGE_BYTES, -1)),
            _ => (Slot::Anon, map(len, -1)),
        };
        let huge = matches!(kind, "thp" | "any");
        let skip = if huge { mapping.align_offset(HUGE_BYTES) } else { 0 };
        let advice = match kind {
            "thp" => libc::MADV_HUGEPAGE,
            "any" => libc::MADV_NORMAL,
            _ => libc::MADV_NOHUGEPAGE,
        };
        // SAFETY: the range was mapped just now and belongs to nobody else. Advice may be refused
        // (no THP in this kernel), which changes nothing that is counted.
        unsafe { libc::madvise(mapping.cast(), len + if huge { HUGE_BYTES } else { 0 }, advice) };
        let region = Region {
            address: mapping.cast(),
            len: len + if huge { HUGE_BYTES } else { 0 },
            slot,
            touched_bytes: len as u64,
        };
        self.regions.push(region);
        // SAFETY: the mapping is len bytes longer than skip at least.
        self.write_pages(unsafe { mapping.add(skip) }, len, slot, rate);
    }

    /// Writes to each page of the `len` bytes from `address`, which are mapped and writable.
    fn write_pages(&self, address: *mut u8, len: usize, slot: Slot, rate: u64) {
        let started = Instant::now();
        let counter = self.slot(slot);
        for offset in (0..len).step_by(PAGE_BYTES) {
            // SAFETY: offset lies inside the mapping, which is writable.
            unsafe { address.add(offset).write_volatile(1) };
            counter.fetch_add(PAGE_BYTES as u64, Ordering::Relaxed);
            let done = (offset + PAGE_BYTES) as u64;
            if rate > 0 && done.is_multiple_of(PACE_BYTES) {
                let due = started + Duration::from_nanos(done * 1_000_000_000 / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn reserve(&mut self, argument: &str) {
        let len = number(argument) as usize * (1 << 20);
        let address: *mut libc::c_void = map(len, -1).cast();
        // SAFETY: the range was mapped just now; refused advice changes nothing that is counted.
        unsafe { libc::madvise(address, len, libc::MADV_NOHUGEPAGE) };
        self.regions.push(Region { address, len, slot: Slot::Anon, touched_bytes: 0 });
    }

    fn touch(&mut self, argument: &str) {
        let mut regions = std::mem::take(&mut self.regions);
        for region in regions.iter_mut().filter(|region| region.touched_bytes == 0) {
            self.write_pages(
                region.address.cast(),
                region.len,
                region.slot,
                number(argument) << 20,
            );
            region.touched_bytes = region.len as u64;
        }
        self.regions = regions;
    }

    fn populate(&mut self, argument: &str) {
        let len = number(argument) as usize * (1 << 20);
        let address = map_with(len, -1, libc::MAP_POPULATE).cast();
        self.slot(Slot::Anon).fetch_add(len as u64, Ordering::Relaxed);
        self.regions.push(Region { address, len, slot: Slot::Anon, touched_bytes: len as u64 });
    }

    fn map_file(&mut self, path: &[u8]) {
        let file = std::fs::File::open(std::ffi::OsStr::from_bytes(path))
            .unwrap_or_else(|error| fail(&format!("file: {error}")));
        let len = file.metadata().map_or(0, |data| data.len()) as usize;
        // SAFETY: a new read-only mapping of an open file; the result is checked.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            fail("mmap of a file");
        }
        for offset in (0..len).step_by(PAGE_BYTES) {
            // SAFETY: offset is below the length of the mapping, which is readable.
            unsafe { mapping.cast::<u8>().add(offset).read_volatile() };
            self.slot(Slot::File).fetch_add(PAGE_BYTES as u64, Ordering::Relaxed);
        }
        let touched_bytes = len.next_multiple_of(PAGE_BYTES) as u64;
        self.regions.push(Region { address: mapping, len, slot: Slot::File, touched_bytes });
    }

    fn free(&mut self) {
        for region in std::mem::take(&mut self.regions) {
            // SAFETY: the region was mapped by this process and nothing refers to it any more.
            unsafe { libc::munmap(region.address, region.len) };
            self.slot(region.slot).fetch_sub(region.touched_bytes, Ordering::Relaxed);
        }
    }

    fn fork(&mut self, block: &[OsString]) {
        // SAFETY: the child goes on in this interpreter and leaves by _exit.
        match unsafe { libc::fork() } {
            -1 => fail("fork"),
            0 => {
                self.child = true;
                self.regions.clear();
                self.run(block, false);
                // SAFETY: _exit does not return; nothing of the parent's is flushed twice.
                unsafe { libc::_exit(0) }
            }
            _ => {
                self.counters.slot(Slot::Forks).fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn thread(&mut self, block: &[OsString]) {
        let block = block.to_vec();
        let (counters, child) = (self.counters, self.child);
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let mut hog = Hog {
                counters,
                counter_path: None,
                child,
                regions: Vec::new(),
                threads: Vec::new(),
            };
            hog.run(&block, false);
        });
        match thread {
            Ok(thread) => self.threads.push(thread),
            Err(error) => fail(&format!("thread: {error}")),
        }
    }

    fn reap(&self) {
        let mut status = 0;
        // SAFETY: wait writes to `status` only.
        while unsafe { libc::wait(&raw mut status) } > 0 {
            self.counters.slot(Slot::Reaped).fetch_add(1, Ordering::Relaxed);
        }
    }

    fn exec(&self, path: &str, rest: &[OsString]) {
        let program = match path {
            "" => std::env::current_exe().unwrap_or_else(|_| fail("current_exe")).into_os_string(),
            path => OsString::from(path),
        };
        let mut arguments = vec![program.clone()];
        if let Some(path) = &self.counter_path {
            arguments.extend([OsString::from("--counter"), path.clone()]);
        }
        arguments.extend_from_slice(rest);
        let strings: Vec<CString> = arguments
            .into_iter()
            .filter_map(|argument| CString::new(argument.into_vec()).ok())
            .collect();
        let mut pointers: Vec<*const libc::c_char> =
            strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        for slot in [Slot::Anon, Slot::Shmem, Slot::File] {
            if !self.child {
                self.counters.slot(slot).store(0, Ordering::Relaxed);
            }
        }
        // SAFETY: the pointers end with null and point to strings that live until the call.
        unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
        fail("execv");
    }

    fn report(&self, step: &str) {
        let value = |slot| self.counters.slot(slot).load(Ordering::Relaxed);
        let line = format!(
            "{{\"step\":\"{step}\",\"anon_bytes\":{},\"shmem_bytes\":{},\"file_bytes\":{},\"forks\":{},\"reaped\":{}}}\n",
            value(Slot::Anon),
            value(Slot::Shmem),
            value(Slot::File),
            value(Slot::Forks),
            value(Slot::Reaped),
        );
        // SAFETY: the buffer is valid for its length; a line is short enough to go out whole.
        unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
    }
}

fn number(text: &str) -> u64 {
    if text.is_empty() {
        return 0;
    }
    text.parse().unwrap_or_else(|_| fail(&format!("{text} is no number")))
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    (0..text.len()).step_by(2).filter_map(byte).collect()
}

/// Index of the `}` that closes the `{` at `open`.
fn block_end(words: &[OsString], open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.as_bytes() {
            b"{" => depth += 1,
            b"}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && at > open {
            return at;
        }
    }
    fail("a block lacks its braces")
}
