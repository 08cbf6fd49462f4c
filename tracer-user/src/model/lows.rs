//! The least that a size was in each of the last few spans of time: what a leak leaves behind,
//! whatever comes and goes above it.
//!
//! Spans start at four seconds. When eight of them have risen they are joined two by two, so that
//! a slow rise is watched over hours in the same space; when they have not risen, they start anew.

use super::trend::NOISE_BYTES;

/// Most spans that are kept.
const MOST: usize = 8;
/// Length of the first spans, ns: several garbage collections, requests or reports fit.
const SPAN_NS: u64 = 4_000_000_000;
/// Fewer of the first, short spans show no trend.
const LEAST: usize = 6;
/// Share of the pairs of spans of which the later has more.
const RISING: f64 = 0.85;
/// Sizes are kept in 4 KiB, so that 32 bits last for 16 TiB.
const SIZE_SHIFT: u32 = 12;
/// [`NOISE_BYTES`] in that unit.
const NOISE: u32 = (NOISE_BYTES >> SIZE_SHIFT) as u32;

/// Minima of a size, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Lows {
    span_ns: u64,
    start_ns: u64,
    low_bytes: u64,
    last_bytes: u64,
    lows: [u32; MOST],
    len: u8,
}

/// A rise of the least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloorRise {
    /// From the first span's least to the last one's, bytes.
    pub rise_bytes: u64,
    /// The last span's least, bytes.
    pub floor_bytes: u64,
    /// From the middle of the first span to that of the last, s.
    pub watched_s: f64,
    /// The median of the rises between any two spans, bytes per second.
    pub rate_bytes_per_s: f64,
}

impl Lows {
    pub fn new(t_ns: u64, bytes: u64) -> Self {
        Self {
            span_ns: SPAN_NS,
            start_ns: t_ns,
            low_bytes: bytes,
            last_bytes: bytes,
            lows: [0; MOST],
            len: 0,
        }
    }

    /// Takes in a size; it held since the one before until now.
    pub fn push(&mut self, t_ns: u64, bytes: u64) {
        let spans = t_ns.saturating_sub(self.start_ns) / self.span_ns;
        if spans > MOST as u64 {
            // It stood still for longer than is looked at.
            *self = Self::new(t_ns, bytes);
            return;
        }
        for _ in 0..spans {
            if t_ns.saturating_sub(self.start_ns) < self.span_ns {
                break;
            }
            self.close();
        }
        self.low_bytes = self.low_bytes.min(bytes);
        self.last_bytes = bytes;
    }

    fn close(&mut self) {
        let low = u32::try_from(self.low_bytes >> SIZE_SHIFT).unwrap_or(u32::MAX);
        if self.len > 0 && low.saturating_add(NOISE) < self.lows[0] {
            // All that it had kept is gone.
            self.len = 0;
            self.span_ns = SPAN_NS;
        }
        self.lows[usize::from(self.len)] = low;
        self.len += 1;
        self.start_ns = self.start_ns.saturating_add(self.span_ns);
        self.low_bytes = self.last_bytes;
        if usize::from(self.len) == MOST {
            self.join();
        }
    }

    /// Spans that rose are joined two by two; of those that did not, the last one is kept.
    fn join(&mut self) {
        let half = |from: usize| self.lows[from..from + MOST / 2].iter().copied().min();
        if half(MOST / 2) <= half(0).map(|low| low.saturating_add(NOISE)) {
            self.lows[0] = self.lows[MOST - 1];
            self.len = 1;
            self.span_ns = SPAN_NS;
            return;
        }
        for at in 0..MOST / 2 {
            self.lows[at] = self.lows[2 * at].min(self.lows[2 * at + 1]);
        }
        self.len = (MOST / 2) as u8;
        self.span_ns = self.span_ns.saturating_mul(2);
    }

    /// The rise, if it is even: nearly each span's least is above each earlier one's, the later half
    /// of the spans rose by at least half as much as the earlier, and no step is more than half of
    /// it all. The rate is the median of those between any two spans (Theil and Sen), which a
    /// single odd span does not move.
    pub fn rise(&self) -> Option<FloorRise> {
        let lows = &self.lows[..usize::from(self.len)];
        let least = if self.span_ns == SPAN_NS { LEAST } else { MOST / 2 };
        if lows.len() < least {
            return None;
        }
        let span_s = self.span_ns as f64 / 1e9;
        let mut rates = [0.0; MOST * (MOST - 1) / 2];
        let (mut pairs, mut rising) = (0, 0);
        for (at, low) in lows.iter().enumerate() {
            for (distance, later) in (1_u32..).zip(&lows[at + 1..]) {
                let rise = (f64::from(*later) - f64::from(*low)) * f64::from(1 << SIZE_SHIFT);
                rates[pairs] = rise / (span_s * f64::from(distance));
                pairs += 1;
                rising += usize::from(later > low);
            }
        }
        let rates = &mut rates[..pairs];
        rates.sort_unstable_by(f64::total_cmp);
        let (first, middle, last) = (lows[0], lows[lows.len() / 2], lows[lows.len() - 1]);
        let (all, late) = (last.saturating_sub(first), last.saturating_sub(middle));
        let early = all.saturating_sub(late);
        let steps = lows.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let largest = steps.max().unwrap_or(0);
        let is_even = late >= early / 2 && largest <= all / 2;
        let is_rising = rising as f64 >= RISING * pairs as f64;
        (all > 0 && is_even && is_rising).then(|| FloorRise {
            rise_bytes: u64::from(all) << SIZE_SHIFT,
            floor_bytes: u64::from(last) << SIZE_SHIFT,
            watched_s: span_s * (lows.len() - 1) as f64,
            rate_bytes_per_s: rates[pairs / 2],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MIB: u64 = 1 << 20;

    /// A size for each half second.
    fn rise(seconds: u64, mib: impl Fn(f64) -> f64) -> Option<FloorRise> {
        let mut lows = Lows::new(0, (mib(0.0) * MIB as f64) as u64);
        for half in 1..=2 * seconds {
            let t = half as f64 / 2.0;
            lows.push(half * S / 2, (mib(t) * MIB as f64) as u64);
        }
        lows.rise()
    }

    #[test]
    fn an_even_rise_is_seen_below_a_sawtooth_and_over_hours() {
        for seconds in [30, 60, 500, 7200] {
            let saw = |t: f64| 20.0 + 0.5 * t + (t * 3.7 % 11.0) * 4.0;
            // Just after spans were joined there are too few of them.
            let found = [seconds, seconds * 5 / 4, seconds * 3 / 2].map(|s| rise(s, saw));
            let found: Vec<_> = found.into_iter().flatten().collect();
            assert!(!found.is_empty(), "{seconds}");
            for rise in found {
                let rate = rise.rate_bytes_per_s / MIB as f64;
                assert!((0.3..0.8).contains(&rate), "{rate} in {seconds} s");
            }
        }
    }

    #[test]
    fn warm_up_steps_and_standstill_are_no_leak() {
        for seconds in 20..200 {
            assert_eq!(rise(seconds, |t| 100.0 * (1.0 - (-t / 5.0).exp())), None, "{seconds}");
            assert_eq!(rise(seconds, |t| if t < 30.0 { 10.0 } else { 100.0 }), None, "{seconds}");
            assert_eq!(rise(seconds, |t| 50.0 + t % 7.0), None, "{seconds}");
        }
    }

    #[test]
    fn after_silence_it_starts_anew() {
        let mut lows = Lows::new(0, 0);
        for s in 0..40 {
            lows.push(s * S, s * MIB);
        }
        assert!(lows.rise().is_some());
        lows.push(4000 * S, 40 * MIB);
        assert_eq!(lows.rise(), None);
        lows.push(u64::MAX, u64::MAX);
        lows.push(0, 0);
    }
}
