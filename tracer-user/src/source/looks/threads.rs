//! The threads that look: into a process, or for the names of a stack that the kernel saw.

use std::io;

use tracer_ebpf::PhpStackRecord;

use crate::enrich::process;
use crate::enrich::worker::Worker;
use crate::event::look::{Look, Part, Reason};
use crate::event::{PhpGrowth, ProcessKey};
use crate::php::{Disclosure, LookOptions, Looker, Names};

/// Threads: one that is held up in the kernel (by a process that waits for memory with its
/// mmap_lock held) leaves the others.
const THREADS: usize = 4;
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
        let mut thread = Thread { looker: first.sharing(), options, names: Names::default() };
        move |ask| Some(thread.answer(ask))
    });
    Worker::start("php", readers)
}

struct Thread {
    looker: Looker,
    options: LookOptions,
    names: Names,
}

impl Thread {
    fn answer(&mut self, ask: Ask) -> Told {
        match ask {
            Ask::Look(key) => self.look(key),
            Ask::Name(record) => {
                let grown = PhpGrowth {
                    tgid: record.task.tgid,
                    start_ns: record.task.start_ns,
                    private_bytes: record.private_bytes,
                    stack: self.names.of(&mut self.looker, &record),
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
}
