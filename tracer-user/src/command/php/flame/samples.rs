//! Growth as the kernel programs see it, in the process itself at the moment that it grows. A sample
//! has the stack; which request it is in is told by looks, taken while it grows.

use std::fmt;
use std::sync::Arc;

use tracer_ebpf::{PhpStackRecord, kind};

use super::folded::Place;
use super::size::Size;
use super::watch::Step;
use crate::enrich::clock;
use crate::event::ProcessKey;
use crate::kernel::load::{Kernel, LoadOptions, Order};
use crate::kernel::record::Record;
use crate::php::{Activity, Frame, Look, LookOptions, Looker, Names, Reason, Request, Target};

/// A request is believed to go on for a tenth of the time that it has taken, but not longer than
/// this, ns: while it grows it is looked into again by then. Short ones mostly follow one another.
const LOOK_EVERY_NS: u64 = 100_000_000;
/// Bytes of the ring; only what is sampled here is of interest.
const RING_BYTES: u64 = 2 << 20;
/// Records that are taken at a time: every record of a full ring, and little more.
const BATCH: usize = 32_768;

/// Samples of one process.
pub struct Samples {
    kernel: Kernel,
    /// Samples that the ring had no room for.
    lost: u64,
    looker: Looker,
    options: LookOptions,
    names: Names,
    key: ProcessKey,
    current_at: u64,
    seen: Seen,
    /// It gave memory back since the look, as at the end of a request.
    fell: bool,
    /// The outermost file of the last stack.
    outermost: Option<Arc<str>>,
}

/// A look, and of which time it tells the request.
#[derive(Debug)]
struct Seen {
    look: Look,
    /// When it was taken, and when its request began, at the latest; CLOCK_BOOTTIME ns.
    at_ns: u64,
    began_ns: u64,
    /// The request is believed to go on until then.
    until_ns: u64,
}

impl Samples {
    /// Loads the kernel programs and has the process of this look sampled. Else the looker, and why
    /// not.
    pub fn start(
        looker: Looker,
        options: LookOptions,
        first: Look,
    ) -> Result<Self, (Looker, String)> {
        let key = first.key();
        let Some(current_at) = looker.current_at(&key) else {
            return Err((looker, "its stack is kept where the kernel cannot follow it".to_owned()));
        };
        let load = LoadOptions {
            ring_bytes: RING_BYTES,
            step_bytes: None,
            forbid: Vec::new(),
            verbose: 0,
        };
        let loaded = Kernel::load(&load).map_err(|unsupported| unsupported.reason);
        let sampled = loaded.and_then(|mut kernel| {
            let order = Order::Sample { tgid: key.tgid, current_at };
            kernel.sample(order).map_err(|error| format!("it cannot be sampled: {error}"))?;
            Ok(kernel)
        });
        let kernel = match sampled {
            Ok(kernel) => kernel,
            Err(why) => return Err((looker, why)),
        };
        Ok(Self {
            kernel,
            lost: 0,
            looker,
            options,
            names: Names::default(),
            key,
            current_at,
            outermost: outermost(&first.stack, first.stack_cut),
            seen: Seen::new(first, clock::boot_ns()),
            fell: false,
        })
    }

    /// Takes the samples since the last call.
    pub fn take(&mut self, target: &Target, size: &mut Size, steps: &mut Vec<Step>) {
        let records = self.records();
        if records.is_empty() {
            return;
        }
        let is_whole = !self.lost_some();
        for record in records {
            let change = size.sampled(record.private_bytes);
            self.fell |= change.shrunk_bytes > 0;
            // After a loss nobody knows how much of the growth is of this place.
            let place = if is_whole { self.place(target, &record) } else { Place::unsampled() };
            steps.push(change.step(place, is_whole));
        }
    }

    /// The records of this process in the order of time. Everything else that the programs tell is
    /// left.
    fn records(&mut self) -> Vec<PhpStackRecord> {
        let mut records = Vec::new();
        for _ in 0..BATCH {
            let Some(bytes) = self.kernel.ring.next() else { break };
            if bytes.first_chunk() != Some(&kind::PHP_STACK.to_ne_bytes()) {
                continue;
            }
            match Record::decode(&bytes) {
                Ok(Record::PhpStack(record))
                    if (record.task.tgid, record.task.start_ns)
                        == (self.key.tgid, self.key.start_ns) =>
                {
                    records.push(record);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("{error}"),
            }
        }
        records.sort_by_key(|record| record.head.t_ns);
        records
    }

    /// Whether samples were lost since the last call.
    fn lost_some(&mut self) -> bool {
        let lost = match self.kernel.drops() {
            Ok(drops) => drops[kind::PHP_STACK as usize],
            Err(error) => {
                tracing::debug!("{error}");
                return false;
            }
        };
        std::mem::replace(&mut self.lost, lost) != lost
    }

    fn place(&mut self, target: &Target, record: &PhpStackRecord) -> Place {
        let mut frames = self.names.of(&mut self.looker, record);
        let mut cut = record.cut != 0;
        let outermost = outermost(&frames, cut);
        let is_other = outermost.is_some() && outermost != self.outermost;
        let t_ns = record.head.t_ns;
        if is_other || self.fell || t_ns >= self.seen.until_ns {
            self.look(target, t_ns);
        }
        self.outermost = outermost.or(self.outermost.take());
        let request = self.seen.request_at(t_ns);
        match (record.depth, cut) {
            (0, false) => {
                let activity = self.seen.look.activity;
                return match request {
                    None if activity != Activity::Request => Place::between(activity),
                    request => Place::sampled(request, &[], false),
                };
            }
            _ if frames.is_empty() => return Place::unnamed(request),
            (_, true) if request.is_some() => cut = extend(&mut frames, &self.seen.look),
            _ => {}
        }
        Place::sampled(request, &frames, cut)
    }

    /// Looks into the process, unless that was done since `t_ns`.
    fn look(&mut self, target: &Target, t_ns: u64) {
        let now_ns = clock::boot_ns();
        if self.seen.at_ns > t_ns {
            return;
        }
        self.fell = false;
        let look = self.looker.look_at(target, &self.options);
        if look.lacks(&Reason::Gone) {
            // What was known before is all that will be.
            self.seen.until_ns = u64::MAX;
            return;
        }
        self.seen = Seen::new(look, now_ns);
        // Another program keeps its stack elsewhere.
        let current_at = self.looker.current_at(&self.key).filter(|at| *at != self.current_at);
        if let Some(current_at) = current_at {
            self.current_at = current_at;
            let order = Order::Sample { tgid: self.key.tgid, current_at };
            if let Err(error) = self.kernel.sample(order) {
                tracing::debug!("{order:?}: {error}");
            }
        }
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Samples").field("key", &self.key).field("seen", &self.seen).finish()
    }
}

impl Seen {
    /// `at_ns`: when it was begun.
    fn new(look: Look, at_ns: u64) -> Self {
        // Others count the time from when the script first asked for it.
        let knows = matches!(look.sapi.as_deref(), Some("fpm" | "apache"));
        let elapsed_ns = look.request.as_ref().and_then(|request| request.elapsed_ns);
        let began_ns = elapsed_ns.filter(|_| knows).map_or(0, |ns| at_ns.saturating_sub(ns));
        let took_ns = look.request.as_ref().map_or(0, |_| at_ns - began_ns);
        let until_ns = at_ns.saturating_add((took_ns / 10).min(LOOK_EVERY_NS));
        Self { look, at_ns, began_ns, until_ns }
    }

    /// The request at a time that is not long after the look; None = another one ran then.
    fn request_at(&self, t_ns: u64) -> Option<&Request> {
        self.look.request.as_ref().filter(|_| self.began_ns <= t_ns)
    }
}

/// The file of the outermost call, where that is known.
fn outermost(frames: &[Frame], cut: bool) -> Option<Arc<str>> {
    frames.last().filter(|_| !cut)?.file.clone()
}

/// Puts the calls behind a stack that was cut, if a look met its last two calls in one place. Tells
/// whether there are still more.
fn extend(frames: &mut Vec<Frame>, look: &Look) -> bool {
    let Some(last) = frames.last_chunk::<2>() else { return true };
    let mut places = look.stack.windows(2).enumerate().filter(|(_, pair)| *pair == last);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => {
            frames.extend_from_slice(&look.stack[at + 2..]);
            look.stack_cut
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: &str, line: u32) -> Frame {
        let (function, file) = (Some(function.into()), Some("/srv/a.php".into()));
        Frame { class: None, function, file, line: Some(line) }
    }

    fn look(sapi: &str, elapsed_ns: u64) -> Look {
        let request = Request { elapsed_ns: Some(elapsed_ns), ..Request::default() };
        let (sapi, request) = (Some(sapi.into()), Some(request));
        Look { sapi, request, ..Look::new(7, 1) }
    }

    #[test]
    fn growth_before_a_request_is_not_of_it() {
        let seen = Seen::new(look("fpm", 300), 1000);
        assert_eq!((seen.began_ns, seen.at_ns, seen.until_ns), (700, 1000, 1030));
        assert!(seen.request_at(699).is_none());
        assert!(seen.request_at(700).is_some() && seen.request_at(1050).is_some());
        // On the command line there is one, and its time begins when the script asks for it.
        assert!(Seen::new(look("cli", 300), 1000).request_at(1).is_some());
        let idle = Seen::new(Look::new(7, 1), 1000);
        assert!(idle.request_at(1001).is_none() && idle.until_ns == 1000);
        let long = 3600 * 1_000_000_000;
        assert_eq!(Seen::new(look("fpm", long), long).until_ns, long + LOOK_EVERY_NS);
    }

    #[test]
    fn a_stack_that_was_cut_goes_on_where_a_look_met_it() {
        let cut = || vec![call("grow", 3), call("load", 7), call("all", 9)];
        let with = |stack, stack_cut| Look { stack, stack_cut, ..Look::new(7, 1) };
        let outer = [call("run", 2), call("main", 1)];

        let mut frames = cut();
        let met = [&[call("other", 5), call("load", 7), call("all", 9)][..], &outer].concat();
        assert!(!extend(&mut frames, &with(met.clone(), false)));
        assert_eq!(frames, [&cut()[..], &outer].concat());
        assert!(extend(&mut cut(), &with(met.clone(), true)), "the look was cut, too");

        let elsewhere = [&[call("load", 8), call("all", 9)][..], &outer].concat();
        let twice = [&met[..], &met].concat();
        for stack in [elsewhere, twice, Vec::new()] {
            let mut frames = cut();
            assert!(extend(&mut frames, &with(stack, false)));
            assert_eq!(frames, cut());
        }
        assert!(extend(&mut vec![call("all", 9)], &with(met, false)));
    }

    #[test]
    fn only_a_whole_stack_has_an_outermost_file() {
        let frames = [call("grow", 3), call("load", 7)];
        assert_eq!(outermost(&frames, false).as_deref(), Some("/srv/a.php"));
        assert_eq!(outermost(&frames, true), None);
        assert_eq!(outermost(&[], false), None);
    }
}
