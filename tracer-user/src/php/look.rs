//! One look at one PHP process: request, memory and stack, read while PHP goes on running. What was
//! read is read again at the end; where it moved, the whole is tried anew.

use std::time::{SystemTime, UNIX_EPOCH};

use super::elf::Build;
use super::layout::{heap, sapi, scoreboard as slot};
use super::remote::{Remote, word};
use super::request::{self, Disclosure, Raw, Server};
use super::scoreboard::{self, Slot};
use super::stack::{self, Walk};
use crate::enrich::clock;
use crate::event::look::{Activity, Look, Memory, Part, Reason};

/// Tries until nothing moved meanwhile.
const ATTEMPTS: u32 = 3;
/// PHP never takes less than a chunk, and never sets a lower limit, bytes.
const CHUNK_BYTES: u64 = 2 << 20;
/// Larger limits mean none (half of the address space is how PHP writes that), bytes.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Where the state of one process is.
#[derive(Debug)]
pub struct Place<'a> {
    /// Its binary.
    pub build: &'a Build,
    /// What is added to the addresses in the binary.
    pub bias: u64,
    /// How it gets its requests.
    pub server: Server,
    /// Its slot in FPM's scoreboard.
    pub slot: Option<u64>,
    /// Its tgid in its own pid namespace.
    pub own_tgid: u32,
}

/// One try.
#[derive(Default)]
struct Attempt {
    activity: Activity,
    slot: Option<Slot>,
    raw: Option<Raw>,
    started_wall_s: Option<f64>,
    memory: Option<Memory>,
    walk: Option<Walk>,
    missing: Vec<(Part, Reason)>,
    torn: bool,
}

/// Fills `look`. An error says why nothing more could be read.
pub fn look(
    place: &Place<'_>,
    remote: &mut Remote,
    show: Disclosure,
    look: &mut Look,
) -> Result<(), Reason> {
    let mut last = Attempt::default();
    for number in 1..=ATTEMPTS {
        let swapped = remote.swapped();
        last = match try_once(place, remote) {
            Ok(attempt) => attempt,
            // What an earlier try found is better than nothing.
            Err(reason) if number > 1 => {
                look.miss(Part::Stack, reason);
                break;
            }
            Err(reason) => return Err(reason),
        };
        // What is swapped out does not come back by trying again.
        // A function's own data can be gone by the time that it is read.
        let damaged = last.walk.as_ref().is_some_and(|walk| walk.defects > 0);
        if !(last.torn || damaged) || remote.swapped() > swapped {
            break;
        }
        look.torn += 1;
    }
    let swapped = remote.absent() > 0;
    let absent = |reason| if swapped { Reason::SwappedOut } else { reason };
    look.activity = last.activity;
    look.requests = last.slot.map(|slot| slot.requests);
    look.memory = last.memory;
    if let Some(raw) = &last.raw {
        if last.torn {
            look.miss(Part::Request, Reason::Torn);
        } else {
            let mut request = raw.disclose(show);
            request.elapsed_ns = elapsed_ns(&last, raw);
            if request.script.is_none() && request.uri.is_none() {
                look.miss(Part::Request, absent(implausible(place)));
            } else {
                if request.uri_rewritten && swapped {
                    look.miss(Part::Request, Reason::SwappedOut);
                }
                look.request = Some(request);
            }
        }
    }
    if let Some(walk) = last.walk {
        look.torn += walk.torn;
        if walk.moved || last.torn {
            look.miss(Part::Stack, Reason::Torn);
        } else if walk.defects > 0 {
            look.miss(Part::Stack, absent(implausible(place)));
        }
        look.stack = walk.frames;
        look.stack_cut = walk.cut;
    }
    for (part, reason) in last.missing {
        look.miss(part, if reason == implausible(place) { absent(reason) } else { reason });
    }
    Ok(())
}

fn try_once(place: &Place<'_>, remote: &mut Remote) -> Result<Attempt, Reason> {
    let Place { build, bias, .. } = place;
    let globals_at = bias.wrapping_add(build.sapi_globals);
    let layout = build.layout;
    let current_at = build
        .executor_globals
        .zip(layout)
        .map(|(globals, layout)| bias.wrapping_add(globals + layout.current_execute_data));
    let first = remote.fetch(&[
        (globals_at, sapi::BYTES),
        (place.slot.unwrap_or(0), slot::BYTES),
        (build.heap.map_or(0, |at| bias.wrapping_add(at)), 8),
    ])?;
    let mut attempt = Attempt::default();
    let Some(globals) = first.get(0) else {
        attempt.missing.push((Part::All, implausible(place)));
        return Ok(attempt);
    };
    attempt.slot = first.get(1).and_then(|bytes| scoreboard::parse(bytes, place.own_tgid));
    attempt.activity = match (globals[sapi::STARTED], attempt.slot.map(|slot| slot.stage)) {
        (1, Some(slot::ACCEPTING)) | (0, _) => Activity::Idle,
        (1, Some(slot::END | slot::FINISHED)) => Activity::Finishing,
        (1, _) => Activity::Request,
        _ => Activity::Unknown,
    };
    match memory(remote, first.word(2, 0), build.heap_real_size)? {
        Some(Ok(memory)) => attempt.memory = Some(memory),
        Some(Err(reason)) => attempt.missing.push((Part::Memory, reason)),
        None if build.heap.is_none() => {
            let symbol = "zend_mm_get_heap".into();
            attempt.missing.push((Part::Memory, Reason::Stripped { symbol }));
        }
        None => attempt.missing.push((Part::Memory, implausible(place))),
    }
    match attempt.activity {
        Activity::Idle => return Ok(attempt),
        Activity::Unknown => {
            attempt.missing.push((Part::Request, implausible(place)));
            return Ok(attempt);
        }
        Activity::Request | Activity::Finishing => {}
    }
    attempt.started_wall_s =
        word(globals, sapi::REQUEST_TIME).map(f64::from_bits).filter(|time| *time > 1e9);
    let raw = request::read(remote, globals, place.server)?;
    if raw.put_away {
        attempt.torn = attempt.activity == Activity::Request && attempt.slot.is_some();
        attempt.activity = Activity::Finishing;
        return Ok(attempt);
    }
    match (layout, current_at) {
        (Some(layout), Some(at)) => attempt.walk = Some(stack::walk(remote, at, &layout)?),
        (None, _) => {
            let version = build.version.as_str().into();
            attempt.missing.push((Part::Stack, Reason::UnknownVersion { version }));
        }
        (_, None) => {
            let symbol = "executor_globals".into();
            attempt.missing.push((Part::Stack, Reason::Stripped { symbol }));
        }
    }
    attempt.torn = !is_same_request(place, remote, globals, &attempt, &raw)?;
    attempt.raw = Some(raw);
    Ok(attempt)
}

/// Whether the process is still in the request that was read, and what was read still stands there.
fn is_same_request(
    place: &Place<'_>,
    remote: &mut Remote,
    globals: &[u8],
    attempt: &Attempt,
    raw: &Raw,
) -> Result<bool, Reason> {
    let mut places = vec![
        (place.bias.wrapping_add(place.build.sapi_globals), sapi::BYTES),
        (place.slot.unwrap_or(0), slot::BYTES),
    ];
    places.extend(raw.witness.iter().map(|(at, bytes)| (*at, bytes.len())));
    let again = remote.fetch(&places)?;
    let same_globals = again.get(0).is_some_and(|now| {
        let same = |at: usize, bytes: usize| now[at..at + bytes] == globals[at..at + bytes];
        same(sapi::SERVER_CONTEXT, 16) && same(sapi::PATH_TRANSLATED, 16) && same(sapi::STARTED, 1)
    });
    let same_slot = attempt.slot.is_none_or(|slot| {
        let now = again.get(1).and_then(|bytes| scoreboard::parse(bytes, place.own_tgid));
        now.is_some_and(|now| now.requests == slot.requests && now.stage == slot.stage)
    });
    let same_texts = raw
        .witness
        .iter()
        .enumerate()
        .all(|(at, (_, bytes))| again.get(at + 2).is_some_and(|now| now == bytes));
    Ok(same_globals && same_slot && same_texts)
}

/// The memory manager's figures, if they can be true. None = they cannot, or are not to be had.
fn memory(
    remote: &mut Remote,
    heap_at: Option<u64>,
    real_size: Option<u64>,
) -> Result<Option<Result<Memory, Reason>>, Reason> {
    let (Some(at), Some(real_size)) = (heap_at, real_size) else { return Ok(None) };
    let fetched = remote.fetch(&[(at, heap::SIZE + 8), (at.saturating_add(real_size), 24)])?;
    let (Some(head), Some(real)) = (fetched.get(0), fetched.get(1)) else { return Ok(None) };
    if head[heap::USE_CUSTOM..heap::USE_CUSTOM + 4] != [0; 4] {
        return Ok(Some(Err(Reason::OtherAllocator)));
    }
    let number = |bytes, at| word(bytes, at).unwrap_or(0);
    let (used_bytes, real_bytes) = (number(head, heap::SIZE), number(real, 0));
    let (real_peak_bytes, limit_bytes) = (number(real, 8), number(real, 16));
    // The counters move while they are read: they are only held against each other roughly.
    let plausible = real_bytes.is_multiple_of(4096)
        && real_bytes < 1 << 47
        && used_bytes <= real_bytes.saturating_add(CHUNK_BYTES)
        && real_bytes <= real_peak_bytes.saturating_add(CHUNK_BYTES)
        && limit_bytes >= CHUNK_BYTES;
    let limit_bytes = (limit_bytes < UNLIMITED_BYTES).then_some(limit_bytes);
    Ok(plausible.then_some(Ok(Memory { used_bytes, real_bytes, real_peak_bytes, limit_bytes })))
}

/// Time in the request: by FPM's scoreboard, by apache, or since the script asked for the time.
fn elapsed_ns(attempt: &Attempt, raw: &Raw) -> Option<u64> {
    if let Some(accepted_ns) = attempt.slot.and_then(|slot| slot.accepted_ns) {
        return clock::monotonic_ns().checked_sub(accepted_ns);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    if let Some(started_ns) = raw.started_wall_ns {
        return u64::try_from(now.as_nanos()).ok()?.checked_sub(started_ns);
    }
    let elapsed_s = now.as_secs_f64() - attempt.started_wall_s?;
    (0.0..1e9).contains(&elapsed_s).then_some((elapsed_s * 1e9) as u64)
}

fn implausible(place: &Place<'_>) -> Reason {
    Reason::Implausible { version: place.build.version.as_str().into() }
}

#[cfg(test)]
mod tests;
