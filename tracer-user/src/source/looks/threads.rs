//! The threads that look: into a process, or for the names of a stack that the kernel saw.

use std::io;
use std::time::{Duration, Instant};

use tracer_ebpf::{PHP_FRAMES, PhpStackRecord};

use crate::enrich::process;
use crate::enrich::worker::Worker;
use crate::event::look::{Frame, Look, Part, Reason};
use crate::event::{PhpGrowth, ProcessKey};
use crate::php::{Disclosure, LookOptions, Looker};

/// Threads: one that is held up in the kernel (by a process that waits for memory with its
/// mmap_lock held) leaves the others.
const THREADS: usize = 4;
/// Stacks whose names a thread remembers …
const REMEMBERED: usize = 16;
/// … for so long: PHP frees functions, and puts others in their place.
const TRUSTED: Duration = Duration::from_millis(250);

/// What a thread is asked.
#[derive(Debug)]
pub enum Ask {
    /// A look at a process.
    Look(ProcessKey),
    /// The names of a stack, and the time at which it was seen.
    Name(Box<PhpStackRecord>),
}

/// What a thread found.
#[derive(Debug)]
pub enum Told {
    /// A look, and where the process has the pointer to its innermost call, if that is known.
    Look(Box<Look>, Option<u64>),
    /// A stack with names, and when it was seen, CLOCK_BOOTTIME ns.
    Grown(u64, Box<PhpGrowth>),
}

/// Starts them.
pub fn start(show: Disclosure) -> io::Result<Worker<Told, Ask>> {
    let options = LookOptions { show, ..LookOptions::default() };
    let first = Looker::new();
    let readers = (0..THREADS).map(|_| {
        let mut thread = Thread { looker: first.sharing(), options, named: Vec::new() };
        move |ask| Some(thread.answer(ask))
    });
    Worker::start("php", readers)
}

struct Thread {
    looker: Looker,
    options: LookOptions,
    named: Vec<Named>,
}

/// A stack that was named lately.
struct Named {
    key: ProcessKey,
    calls: Vec<(u64, u64)>,
    frames: Vec<Frame>,
    at: Instant,
}

impl Thread {
    fn answer(&mut self, ask: Ask) -> Told {
        match ask {
            Ask::Look(key) => self.look(key),
            Ask::Name(record) => {
                let key = ProcessKey { tgid: record.task.tgid, start_ns: record.task.start_ns };
                let grown = PhpGrowth {
                    tgid: key.tgid,
                    start_ns: key.start_ns,
                    private_bytes: record.private_bytes,
                    stack: self.name(key, &record),
                };
                Told::Grown(record.head.t_ns, Box::new(grown))
            }
        }
    }

    fn look(&mut self, key: ProcessKey) -> Told {
        let mut look = self.looker.look(key.tgid, &self.options);
        if look.key() != key {
            // It is gone, and its tgid perhaps another one's.
            look = Look::new(key.tgid, key.start_ns);
            look.miss(Part::All, Reason::Gone);
        }
        let size = process::memory(key.tgid).ok().filter(|size| size.key() == key);
        look.private_bytes = size.map(|size| size.private_bytes());
        let current_at = self.looker.current_at(&key);
        Told::Look(Box::new(look), current_at)
    }

    fn name(&mut self, key: ProcessKey, record: &PhpStackRecord) -> Vec<Frame> {
        let depth = (record.depth as usize).min(PHP_FRAMES);
        let calls: Vec<(u64, u64)> =
            record.frames[..depth].iter().map(|call| (call.opline, call.function)).collect();
        self.named.retain(|named| named.at.elapsed() < TRUSTED);
        if let Some(known) =
            self.named.iter().find(|named| named.key == key && named.calls == calls)
        {
            return known.frames.clone();
        }
        let frames = self.looker.name(key, &calls);
        if self.named.len() == REMEMBERED {
            self.named.remove(0);
        }
        let at = Instant::now();
        self.named.push(Named { key, calls, frames: frames.clone(), at });
        frames
    }
}
