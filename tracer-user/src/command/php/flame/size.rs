//! How far a process has grown since its growth was last given to a place. Two figures tell: that of
//! /proc, which is exact since Linux 6.16, and that of the kernel programs, which lags behind by
//! some pages for each CPU that the process ran on.

use super::folded::Place;
use super::watch::Step;

/// A sample of the kernel programs stands for at least this, bytes.
const SAMPLE_BYTES: u64 = 256 << 10;

/// The size of a process, anon + swap.
#[derive(Debug)]
pub struct Size {
    now_bytes: u64,
    /// From here on growth was given to no place yet.
    base_bytes: u64,
    /// What was given back since the last step.
    shrunk_bytes: u64,
    /// At the last sample.
    sampled_bytes: Option<u64>,
}

/// How the size changed from one step to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it grew.
    pub grown_bytes: u64,
    /// What it gave back before that.
    pub shrunk_bytes: u64,
}

impl Change {
    /// The step of which this place was seen; `seen`: a look or a sample told it.
    pub fn step(self, place: Place, seen: bool) -> Step {
        let Self { grown_bytes, shrunk_bytes } = self;
        Step { grown_bytes, shrunk_bytes, place, seen }
    }
}

impl Size {
    /// Growth counts from here.
    pub fn new(bytes: u64) -> Self {
        Self { now_bytes: bytes, base_bytes: bytes, shrunk_bytes: 0, sampled_bytes: None }
    }

    /// What /proc says now.
    pub fn is_now(&mut self, bytes: u64) {
        self.now_bytes = bytes;
        self.fell_to(bytes);
    }

    /// Growth that was given to no place yet, bytes.
    pub fn grown_bytes(&self) -> u64 {
        self.now_bytes.saturating_sub(self.base_bytes)
    }

    /// Gives it to one.
    pub fn rest(&mut self) -> Change {
        let grown_bytes = self.grown_bytes();
        self.grow_by(grown_bytes)
    }

    /// Gives that to a place which there was when the kernel programs saw this size.
    pub fn sampled(&mut self, bytes: u64) -> Change {
        let before = self.sampled_bytes.replace(bytes);
        if before.is_some_and(|before| bytes < before.saturating_add(SAMPLE_BYTES)) {
            // Between two readings of /proc it was smaller, or there were no sample.
            self.fell_to(bytes.saturating_sub(SAMPLE_BYTES));
        }
        // Where the kernel programs' figure lags behind, the next one makes up for it.
        self.grow_by(bytes.saturating_sub(self.base_bytes))
    }

    fn fell_to(&mut self, bytes: u64) {
        self.shrunk_bytes += self.base_bytes.saturating_sub(bytes);
        self.base_bytes = self.base_bytes.min(bytes);
    }

    fn grow_by(&mut self, grown_bytes: u64) -> Change {
        self.base_bytes += grown_bytes;
        Change { grown_bytes, shrunk_bytes: std::mem::take(&mut self.shrunk_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn change(grown_bytes: u64, shrunk_bytes: u64) -> Change {
        Change { grown_bytes, shrunk_bytes }
    }

    #[test]
    fn growth_counts_from_the_smallest_since_the_last_step() {
        let mut size = Size::new(10 * MIB);
        size.is_now(12 * MIB);
        assert_eq!(size.rest(), change(2 * MIB, 0));
        size.is_now(9 * MIB);
        size.is_now(14 * MIB);
        assert_eq!(size.grown_bytes(), 5 * MIB);
        assert_eq!(size.rest(), change(5 * MIB, 3 * MIB));
        assert_eq!(size.rest(), change(0, 0));
    }

    #[test]
    fn samples_and_the_rest_add_up() {
        let mut size = Size::new(10 * MIB);
        assert_eq!(size.sampled(12 * MIB), change(2 * MIB, 0));
        size.is_now(15 * MIB);
        assert_eq!(size.sampled(13 * MIB), change(MIB, 0));
        assert_eq!(size.rest(), change(2 * MIB, 0));
    }

    #[test]
    fn a_figure_that_lags_behind_costs_nothing() {
        let mut size = Size::new(10 * MIB);
        assert_eq!(size.sampled(9 * MIB), change(0, 0));
        assert_eq!(size.sampled(11 * MIB), change(MIB, 0));
        size.is_now(12 * MIB);
        assert_eq!(size.rest(), change(MIB, 0));
    }

    #[test]
    fn a_sample_that_is_no_larger_says_that_it_was_smaller_between() {
        let mut size = Size::new(10 * MIB);
        size.sampled(20 * MIB);
        assert_eq!(size.sampled(15 * MIB), change(SAMPLE_BYTES, 5 * MIB + SAMPLE_BYTES));
        size.is_now(3 * MIB);
        assert_eq!(size.sampled(5 * MIB), change(2 * MIB, 12 * MIB));
    }
}
