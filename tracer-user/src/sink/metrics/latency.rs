//! How long events take from where they happen to the pipeline, over the last one to two minutes.

/// Length of a window, ns: what is told is of the present one and the one before.
const WINDOW_NS: u64 = 60_000_000_000;
/// Eight buckets for each doubling.
const BUCKETS: usize = 496;

/// Latencies of two windows.
#[derive(Debug)]
pub(super) struct Latency {
    windows: Box<[Window; 2]>,
    present: usize,
    began_ns: u64,
}

#[derive(Debug)]
struct Window {
    counts: [u32; BUCKETS],
    max_ns: u64,
}

/// Statistics, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statistics {
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let window = || Window { counts: [0; BUCKETS], max_ns: 0 };
        Self { windows: Box::new([window(), window()]), present: 0, began_ns: 0 }
    }
}

impl Latency {
    /// An event was taken in at `now_ns`, this long after it happened.
    pub fn add(&mut self, now_ns: u64, latency_ns: u64) {
        self.turn(now_ns);
        let window = &mut self.windows[self.present];
        let count = &mut window.counts[bucket(latency_ns)];
        *count = count.saturating_add(1);
        window.max_ns = window.max_ns.max(latency_ns);
    }

    /// None = there was no event.
    pub fn statistics(&mut self, now_ns: u64) -> Option<Statistics> {
        self.turn(now_ns);
        let [one, other] = &*self.windows;
        let both =
            || one.counts.iter().zip(&other.counts).map(|(a, b)| u64::from(*a) + u64::from(*b));
        let all: u64 = both().sum();
        let max_ns = one.max_ns.max(other.max_ns);
        let quantile = |percent: u64| {
            let rank = (all * percent).div_ceil(100);
            let mut below = 0;
            let at = both().position(|count| {
                below += count;
                below >= rank
            });
            at.map_or(max_ns, |at| highest(at).min(max_ns))
        };
        (all > 0).then(|| Statistics { p50_ns: quantile(50), p99_ns: quantile(99), max_ns })
    }

    fn turn(&mut self, now_ns: u64) {
        let age_ns = now_ns.saturating_sub(self.began_ns);
        if age_ns < WINDOW_NS {
            return;
        }
        if age_ns >= 2 * WINDOW_NS {
            self.windows[self.present].clear();
        }
        self.present = 1 - self.present;
        self.windows[self.present].clear();
        self.began_ns = now_ns;
    }
}

impl Window {
    fn clear(&mut self) {
        self.counts.fill(0);
        self.max_ns = 0;
    }
}

fn bucket(ns: u64) -> usize {
    if ns < 8 {
        return ns as usize;
    }
    let doublings = ns.ilog2() as usize;
    (doublings - 2) * 8 + (ns >> (doublings - 3) & 7) as usize
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let shift = bucket / 8 - 1;
    let next = (8 + bucket as u128 % 8 + 1) << shift;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn every_value_has_a_bucket_that_is_exact_to_an_eighth() {
        let mut last = 0;
        for value in (0..64).flat_map(|shift| [1_u64 << shift, (1 << shift) + (1 << shift) / 3]) {
            let at = bucket(value);
            let highest = highest(at);
            assert!(at < BUCKETS && at >= last, "{value}");
            assert!(highest >= value && highest - value <= value / 8, "{value} {highest}");
            last = at;
        }
        assert_eq!((bucket(u64::MAX), highest(BUCKETS - 1)), (BUCKETS - 1, u64::MAX));
    }

    #[test]
    fn it_tells_of_the_last_one_to_two_minutes() {
        let mut latency = Latency::default();
        assert_eq!(latency.statistics(1000 * S), None);
        for n in 1..=100 {
            latency.add(1000 * S, n * 1_000_000);
        }
        let told = latency.statistics(1001 * S).unwrap();
        let near = |ns: u64, ms: u64| ns >= ms * 1_000_000 && ns <= ms * 1_125_000;
        assert!(near(told.p50_ns, 50) && near(told.p99_ns, 99), "{told:?}");
        assert_eq!(told.max_ns, 100_000_000);
        latency.add(1061 * S, 1000);
        assert_eq!(latency.statistics(1062 * S).map(|told| told.max_ns), Some(100_000_000));
        assert_eq!(latency.statistics(1122 * S).map(|told| told.max_ns), Some(1000));
        assert_eq!(latency.statistics(2000 * S), None);
    }
}
