//! The slot of an FPM worker in the pool's scoreboard, which is memory that master and workers
//! share: since when it serves its request, how far it is, and how many it has had. FPM keeps it
//! whether or not a status page is configured.

use super::layout::scoreboard;
use super::remote::{Remote, half, word};
use super::target::Mapping;

/// Larger mappings are something else (opcache's has many MiB).
const MAX_BYTES: u64 = 128 << 10;
const PAGE_BYTES: usize = 4096;
/// A start far off the present is no start, seconds since 1970.
const STARTS: std::ops::Range<u64> = 1_000_000_000..10_000_000_000;

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Requests so far.
    pub requests: u64,
    /// See [`scoreboard`].
    pub stage: u32,
    /// When the request was accepted, CLOCK_MONOTONIC ns; None = between requests.
    pub accepted_ns: Option<u64>,
}

/// The slot of a worker, as far as it could be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its address.
    At(u64),
    /// There is none.
    Nowhere,
    /// Not in what is in memory: it may be found later.
    NotYet,
}

impl Found {
    /// Its address.
    pub fn address(self) -> Option<u64> {
        match self {
            Self::At(address) => Some(address),
            Self::Nowhere | Self::NotYet => None,
        }
    }
}

/// Looks for the slot of `tgid` (as its own pid namespace calls it).
pub fn find(mappings: &[Mapping], remote: &mut Remote, tgid: u32) -> Found {
    let mut result = Found::Nowhere;
    for mapping in mappings {
        let bytes = mapping.end.saturating_sub(mapping.start);
        if !mapping.shared || bytes > MAX_BYTES || !mapping.path.starts_with("/dev/zero") {
            continue;
        }
        // A worker need not have touched every page: those that it has not are no slot of its own.
        let pages: Vec<(u64, usize)> = (mapping.start..mapping.end)
            .step_by(PAGE_BYTES)
            .map(|page| (page, PAGE_BYTES))
            .collect();
        let Ok(fetched) = remote.fetch(&pages) else { return Found::NotYet };
        let mut bytes = Vec::with_capacity(pages.len() * PAGE_BYTES);
        for place in 0..pages.len() {
            match fetched.get(place) {
                Some(page) => bytes.extend_from_slice(page),
                None => {
                    result = Found::NotYet;
                    bytes.resize(bytes.len() + PAGE_BYTES, 0);
                }
            }
        }
        let slots = (0..bytes.len().saturating_sub(scoreboard::BYTES)).step_by(8);
        for at in slots {
            if parse(&bytes[at..at + scoreboard::BYTES], tgid).is_some() {
                return Found::At(mapping.start + at as u64);
            }
        }
    }
    result
}

/// A slot, if it is this worker's.
pub fn parse(bytes: &[u8], tgid: u32) -> Option<Slot> {
    let stage = half(bytes, scoreboard::STAGE)?;
    let start = word(bytes, scoreboard::START_EPOCH)?;
    if half(bytes, scoreboard::TGID)? != tgid
        || half(bytes, scoreboard::USED)? != 1
        || !STARTS.contains(&start)
        || !(scoreboard::ACCEPTING..=scoreboard::FINISHED).contains(&stage)
    {
        return None;
    }
    let accepted_s = word(bytes, scoreboard::ACCEPTED_S)?;
    let accepted_us = word(bytes, scoreboard::ACCEPTED_US)?;
    let accepted_ns = (accepted_us < 1_000_000)
        .then(|| accepted_s.checked_mul(1_000_000_000)?.checked_add(accepted_us * 1000))
        .flatten();
    Some(Slot {
        requests: word(bytes, scoreboard::REQUESTS)?,
        stage,
        accepted_ns: accepted_ns.filter(|ns| *ns != 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> [u8; scoreboard::BYTES] {
        let mut bytes = [0; scoreboard::BYTES];
        bytes[scoreboard::USED] = 1;
        bytes[scoreboard::START_EPOCH..][..8].copy_from_slice(&1_795_514_353_u64.to_ne_bytes());
        bytes[scoreboard::TGID..][..4].copy_from_slice(&14170_u32.to_ne_bytes());
        bytes[scoreboard::REQUESTS] = 7;
        bytes[scoreboard::STAGE] = 4;
        bytes[scoreboard::ACCEPTED_S] = 2;
        bytes[scoreboard::ACCEPTED_US] = 5;
        bytes
    }

    #[test]
    fn a_slot_tells_request_stage_and_time() {
        let expected = Slot { requests: 7, stage: 4, accepted_ns: Some(2_000_005_000) };
        assert_eq!(parse(&slot(), 14170), Some(expected));
    }

    #[test]
    fn other_memory_is_no_slot() {
        assert_eq!(parse(&slot(), 14171), None);
        assert_eq!(parse(&slot()[..40], 14170), None);
        for at in [scoreboard::USED, scoreboard::STAGE, scoreboard::START_EPOCH + 5] {
            let mut bytes = slot();
            bytes[at] = 99;
            assert_eq!(parse(&bytes, 14170), None, "{at}");
        }
        let mut far = slot();
        far[scoreboard::ACCEPTED_S..][..16].fill(0xff);
        assert_eq!(parse(&far, 14170).unwrap().accepted_ns, None);
    }
}
