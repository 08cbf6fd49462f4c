//! Looks at memory that was forged: this process plays the worker.

use std::time::{Duration, Instant};

use super::*;
use crate::php::layout::{self, Layout, Version, fcgi, frame, function, string};
use crate::php::target::Target;

const WORDS: usize = 16 << 10;

/// Memory of a worker, laid out by the test.
struct Forge {
    memory: Vec<u64>,
    used: usize,
    globals: usize,
    executor: usize,
    heap: usize,
}

impl Forge {
    fn new() -> Self {
        let mut forge = Self { memory: vec![0; WORDS], used: 0, globals: 0, executor: 0, heap: 0 };
        forge.globals = forge.take(sapi::BYTES);
        forge.executor = forge.take(600);
        forge.heap = forge.take(400);
        forge
    }

    /// Place of so many bytes, in words.
    fn take(&mut self, bytes: usize) -> usize {
        let at = self.used;
        self.used += bytes.div_ceil(8);
        at
    }

    fn address(&self, at: usize) -> u64 {
        self.memory.as_ptr().addr() as u64 + at as u64 * 8
    }

    fn set(&mut self, at: usize, byte: usize, value: u64) {
        self.memory[at + byte / 8] = value;
    }

    fn bytes(&mut self, text: &[u8]) -> usize {
        let at = self.take(text.len() + 1);
        for (byte, value) in text.iter().enumerate() {
            self.memory[at + byte / 8] |= u64::from(*value) << (8 * (byte % 8));
        }
        at
    }

    fn zend_string(&mut self, text: &[u8]) -> u64 {
        let mut bytes = vec![0; string::VALUE];
        bytes[string::TYPE_INFO] = string::TYPE as u8;
        bytes[string::LENGTH..string::VALUE].copy_from_slice(&text.len().to_ne_bytes());
        bytes.extend_from_slice(text);
        let at = self.bytes(&bytes);
        self.address(at)
    }

    /// A call of a user function.
    fn call(&mut self, name: Option<&[u8]>, prev: u64) -> u64 {
        let layout = layout();
        let (func, opline, call) = (self.take(200), self.take(32), self.take(frame::BYTES));
        self.set(func, 0, u64::from(function::USER));
        if let Some(name) = name {
            let name = self.zend_string(name);
            self.set(func, function::NAME, name);
        }
        let file = self.zend_string(b"/srv/a.php");
        self.set(func, layout.filename as usize, file);
        self.set(func, layout.filename as usize + 8, 1 | 99 << 32);
        self.set(opline, function::LINE as usize, 7);
        let addresses = (self.address(opline), self.address(func));
        self.set(call, frame::OPLINE, addresses.0);
        self.set(call, frame::FUNC, addresses.1);
        self.set(call, frame::PREV, prev);
        self.address(call)
    }

    fn run(&mut self, current: u64) {
        self.set(self.globals, sapi::STARTED & !7, 1 << (8 * (sapi::STARTED % 8)));
        self.set(self.executor, layout().current_execute_data as usize, current);
    }

    /// FastCGI parameters.
    fn parameters(&mut self, parameters: &[(&[u8], &[u8])]) {
        let context = self.take(fcgi::BUCKETS as usize + 8);
        let block = self.take(fcgi::HEAD_BYTES + parameters.len() * fcgi::BUCKET_BYTES);
        let block_at = self.address(block);
        self.set(context, fcgi::BUCKETS as usize, block_at);
        self.set(block, 0, parameters.len() as u64);
        for (index, (name, value)) in parameters.iter().enumerate() {
            let bucket = block + (fcgi::HEAD_BYTES + index * fcgi::BUCKET_BYTES) / 8;
            let hash = (u64::from(name[3]) << 2)
                + (u64::from(name[name.len() - 2]) << 4)
                + (u64::from(name[name.len() - 1]) << 2)
                + name.len() as u64;
            let (name_at, value_at) = (self.bytes(name), self.bytes(value));
            let (name_at, value_at) = (self.address(name_at), self.address(value_at));
            self.set(bucket, 0, hash | (name.len() as u64) << 32);
            self.set(bucket, fcgi::NAME, name_at);
            self.set(bucket, fcgi::VALUE_LENGTH, value.len() as u64);
            self.set(bucket, fcgi::VALUE, value_at);
        }
        let context = self.address(context);
        self.set(self.globals, sapi::SERVER_CONTEXT, context);
    }

    fn look(&self) -> Look {
        self.look_for(Duration::from_secs(5))
    }

    fn look_for(&self, timeout: Duration) -> Look {
        let build = Build {
            version: "8.2.36".to_owned(),
            entry: 0,
            lowest: 0,
            sapi_globals: self.address(self.globals),
            sapi_module: None,
            executor_globals: Some(self.address(self.executor)),
            heap: Some(self.address(self.heap)),
            heap_real_size: Some(0x110),
            layout: Some(layout()),
        };
        let place =
            Place { build: &build, bias: 0, server: Server::FastCgi, slot: None, own_tgid: 1 };
        let target = Target::open(std::process::id()).unwrap();
        let mut found = Look::new(target.key().tgid, 0);
        let mut remote = Remote::new(&target, Instant::now() + timeout, true).unwrap();
        let show = Disclosure { query: true, client: true };
        if let Err(reason) = look(&place, &mut remote, show, &mut found) {
            found.miss(Part::All, reason);
        }
        found
    }
}

fn layout() -> Layout {
    layout::of(Version { major: 8, minor: 2 }).unwrap()
}

fn implausible() -> Reason {
    Reason::Implausible { version: "8.2.36".into() }
}

#[test]
fn a_request_its_memory_and_its_stack() {
    let mut forge = Forge::new();
    let main = forge.call(None, 0);
    let current = forge.call(Some(b"import"), main);
    forge.run(current);
    forge.parameters(&[
        (b"REQUEST_URI", b"/a?b"),
        (b"HTTP_HOST", b"h"),
        (b"SCRIPT_FILENAME", b"/s"),
    ]);
    let heap = forge.take(400);
    let heap_at = forge.address(heap);
    forge.set(forge.heap, 0, heap_at);
    forge.set(heap, 16, 3 << 20);
    for (at, mib) in [(0x110, 4), (0x118, 6), (0x120, 128)] {
        forge.set(heap, at, mib << 20);
    }
    let look = forge.look();
    assert_eq!((look.activity, &look.missing[..], look.torn), (Activity::Request, &[][..], 0));
    let request = look.request.unwrap();
    assert_eq!(request.uri.as_deref(), Some("/a?b"));
    assert_eq!((request.host.as_deref(), request.script.as_deref()), (Some("h"), Some("/s")));
    let lines: Vec<_> = look.stack.iter().map(|frame| (frame.name(), frame.line)).collect();
    assert_eq!(lines, [(Some("import".to_owned()), Some(7)), (None, Some(7))]);
    let memory = look.memory.unwrap();
    assert_eq!((memory.used_bytes, memory.real_bytes), (3 << 20, 4 << 20));
    assert_eq!((memory.real_peak_bytes, memory.limit_bytes), (6 << 20, Some(128 << 20)));
}

#[test]
fn heaps_that_cannot_be_are_not_shown() {
    let mut forge = Forge::new();
    let heap = forge.take(400);
    let heap_at = forge.address(heap);
    assert!(forge.look().lacks(&implausible()));
    forge.set(forge.heap, 0, heap_at);
    for figures in [[1, 1, 1, 1], [9 << 20, 4 << 20, 6 << 20, 128 << 20], [u64::MAX; 4]] {
        forge.set(heap, 16, figures[0]);
        for (at, figure) in [0x110, 0x118, 0x120].into_iter().zip(&figures[1..]) {
            forge.set(heap, at, *figure);
        }
        let look = forge.look();
        assert!(look.memory.is_none() && look.lacks(&implausible()), "{look:?}");
    }
    forge.set(heap, 0, 1);
    assert!(forge.look().lacks(&Reason::OtherAllocator));
}

#[test]
fn stale_pointers_of_an_idle_worker_are_not_followed() {
    let mut forge = Forge::new();
    let current = forge.call(Some(b"old"), 0);
    forge.run(current);
    forge.parameters(&[(b"REQUEST_URI", b"/stale")]);
    forge.set(forge.globals, sapi::STARTED & !7, 0);
    let look = forge.look();
    assert_eq!((look.activity, look.request, look.stack.len()), (Activity::Idle, None, 0));
    forge.set(forge.globals, sapi::STARTED & !7, u64::MAX);
    assert_eq!(forge.look().activity, Activity::Unknown);
}

#[test]
fn circles_and_endless_chains_end() {
    let mut forge = Forge::new();
    let first = forge.call(Some(b"a"), 0);
    let second = forge.call(Some(b"b"), first);
    let at = (first - forge.address(0)) as usize / 8;
    forge.set(at, frame::PREV, second);
    forge.run(second);
    let look = forge.look();
    assert_eq!((look.stack.len(), look.stack_cut), (2, true));
    assert!(look.lacks(&implausible()), "{look:?}");

    let mut forge = Forge::new();
    let mut prev = 0;
    for _ in 0..200 {
        prev = forge.call(Some(b"deep"), prev);
    }
    forge.run(prev);
    let look = forge.look();
    assert_eq!((look.stack.len(), look.stack_cut), (64, true));
}

#[test]
fn pointers_into_nowhere_give_what_is_left() {
    for bad in [1, 8, 0xdead_beef_0000, u64::MAX, u64::MAX - 7, 1 << 47] {
        let mut forge = Forge::new();
        let main = forge.call(None, bad);
        let current = forge.call(Some(b"f"), main);
        forge.run(current);
        forge.set(forge.globals, sapi::SERVER_CONTEXT, bad);
        forge.set(forge.globals, sapi::URI, bad);
        forge.set(forge.globals, sapi::METHOD, bad);
        forge.set(forge.globals, sapi::PATH_TRANSLATED, bad);
        let look = forge.look();
        assert_eq!(look.stack.len(), 2, "{look:?}");
        assert!(look.request.is_none() && look.lacks(&implausible()));
    }
}

#[test]
fn lengths_that_lie_are_bounded() {
    let mut forge = Forge::new();
    let name = forge.zend_string(b"f");
    let main = forge.call(None, 0);
    let current = forge.call(Some(b"f"), main);
    let at = (name - forge.address(0)) as usize / 8;
    forge.set(at, string::LENGTH, u64::MAX);
    let func = forge.memory[(current - forge.address(0)) as usize / 8 + frame::FUNC / 8];
    let func = (func - forge.address(0)) as usize / 8;
    forge.set(func, function::NAME, name);
    forge.run(current);
    forge.parameters(&[(b"REQUEST_URI", b"/u")]);
    let look = forge.look();
    assert_eq!(look.request.as_ref().unwrap().uri.as_deref(), Some("/u"));
    assert!(look.lacks(&implausible()) && look.stack[0].function.is_none(), "{look:?}");

    let long = [b"/".to_vec(), vec![b'u'; 64 << 10]].concat();
    let mut forge = Forge::new();
    forge.run(0);
    forge.parameters(&[(b"REQUEST_URI", &long), (b"HTTP_HOST", b"\xff\x1b[2J")]);
    let request = forge.look().request.unwrap();
    assert_eq!((request.uri.unwrap().len(), request.cut), (4096, true));
    assert_eq!(request.host.as_deref(), Some("\u{fffd}\u{1b}[2J"));
}

#[test]
fn noise_is_survived_within_bounds() {
    let mut state = 7_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut forge = Forge::new();
    let started = Instant::now();
    let mut longest = Duration::ZERO;
    for round in 0..3000 {
        let here = forge.address(0);
        for at in 0..forge.memory.len() {
            // Pointers into the same memory, small numbers, anything, nothing.
            forge.memory[at] = match random() % 6 {
                0..=2 => here + random() % (WORDS as u64 * 8) / 8 * 8,
                3 => random() % 64,
                4 => random(),
                _ => 0,
            };
            if round % 8 != 0 && at > 4096 {
                break;
            }
        }
        let current = here + random() % 32000 / 8 * 8;
        forge.run(current);
        let begun = Instant::now();
        let look = forge.look();
        longest = longest.max(begun.elapsed());
        assert!(look.stack.len() <= 64);
        if started.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    // The look may take 0.1 s; this host may be busy.
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    assert!(forge.look_for(Duration::ZERO).lacks(&Reason::Deadline));
}
