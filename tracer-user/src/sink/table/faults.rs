//! Major faults per second of the rows on the screen, from their counters at two times.

use rustc_hash::FxHashMap;

use super::view::Row;
use crate::event::ProcessKey;

/// A rate is measured over at least this time, ns.
const WINDOW_NS: u64 = 1_000_000_000;
/// Rows that left the screen are forgotten after this time, ns.
const FORGET_NS: u64 = 5_000_000_000;

#[derive(Debug)]
struct Sample {
    since_ns: u64,
    seen_ns: u64,
    faults: u64,
    per_s: Option<f64>,
}

/// Fault counters of the rows that were on the screen lately.
#[derive(Debug, Default)]
pub(super) struct MajorFaults {
    samples: FxHashMap<ProcessKey, Sample>,
}

impl MajorFaults {
    /// Fills in the rates of `rows` at the time `now_ns`.
    pub(super) fn rate(&mut self, rows: &mut [Row], now_ns: u64) {
        for row in rows {
            let sample = self.samples.entry(row.key).or_insert(Sample {
                since_ns: now_ns,
                seen_ns: now_ns,
                faults: row.major_faults,
                per_s: None,
            });
            sample.seen_ns = now_ns;
            let elapsed_ns = now_ns.saturating_sub(sample.since_ns);
            if elapsed_ns >= WINDOW_NS {
                let faults = row.major_faults.saturating_sub(sample.faults);
                sample.per_s = Some(faults as f64 * 1e9 / elapsed_ns as f64);
                sample.since_ns = now_ns;
                sample.faults = row.major_faults;
            }
            row.standing.major_per_s = sample.per_s;
        }
        self.samples.retain(|_, sample| now_ns.saturating_sub(sample.seen_ns) < FORGET_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::Standing;
    use super::super::state::State;
    use super::super::view::{choose, tests::candidate};
    use super::*;

    #[test]
    fn rates_come_from_two_samples_and_old_rows_are_forgotten() {
        let one = std::iter::once(candidate(1, "x"));
        let (mut rows, ..) = choose(one, |_| Standing::default(), &State::default(), 0, 1);
        let mut faults = MajorFaults::default();
        let mut at = |now_ns, count, rows: &mut [Row]| {
            rows[0].major_faults = count;
            faults.rate(rows, now_ns);
            rows[0].standing.major_per_s
        };
        assert_eq!(at(0, 100, &mut rows), None);
        assert_eq!(at(WINDOW_NS / 2, 150, &mut rows), None);
        assert_eq!(at(2 * WINDOW_NS, 160, &mut rows), Some(30.0));
        assert_eq!(at(2 * WINDOW_NS + 1, 999, &mut rows), Some(30.0), "until the next window");
        assert_eq!(at(3 * WINDOW_NS, 10, &mut rows), Some(0.0), "counters never run backwards");
        faults.rate(&mut [], 3 * WINDOW_NS + FORGET_NS);
        assert!(faults.samples.is_empty());
    }
}
