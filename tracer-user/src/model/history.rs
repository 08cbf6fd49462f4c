//! Sizes over time in 272 bytes: dense for the last moments, sparse for the last minute. What the
//! sizes mean (growth, episodes, rates) is [`super::trend`]'s.

/// Points of one tier: 64 bytes, a cache line.
const POINTS: usize = 8;
/// Least distance of two points of a tier, ns; eight of the last tier cover 80 s.
const SPACING_NS: [u64; 4] = [16_000_000, 250_000_000, 2_000_000_000, 10_000_000_000];
/// A point's time counts in 2^16 ns (66 µs), so that 32 bits last for three days.
const TIME_SHIFT: u32 = 16;
/// A point's size counts in 4 KiB, so that 32 bits last for 16 TiB.
const SIZE_SHIFT: u32 = 12;
/// When the clock of the points runs out, this much of the past stays exact, ns.
const REBASE_NS: u64 = 200_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Point {
    /// Time since the base.
    offset: u32,
    size: u32,
}

/// A bounded list of (time, size), thinned with age. A point that leaves a tier is offered to the
/// next, which takes it when it is far enough from the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    base_ns: u64,
    /// Newest tier first; within a tier oldest point first.
    tiers: [[Point; POINTS]; SPACING_NS.len()],
    lens: [u8; SPACING_NS.len()],
}

impl History {
    /// Adds what holds at `t_ns`; times must not fall, an earlier one counts as the last.
    pub fn push(&mut self, t_ns: u64, bytes: u64) {
        let len = usize::from(self.lens[0]);
        if len == 0 {
            self.base_ns = t_ns;
        }
        let mut offset = t_ns.saturating_sub(self.base_ns) >> TIME_SHIFT;
        if offset > u64::from(u32::MAX) {
            self.rebase(t_ns.saturating_sub(REBASE_NS));
            offset = t_ns.saturating_sub(self.base_ns) >> TIME_SHIFT;
        }
        let newest = len.checked_sub(1).map_or(0, |at| self.tiers[0][at].offset);
        let point = Point {
            offset: u32::try_from(offset).unwrap_or(u32::MAX).max(newest),
            size: u32::try_from(bytes >> SIZE_SHIFT).unwrap_or(u32::MAX),
        };
        // The newest point always tells the present; it stays for good once it is far enough
        // from the one before.
        let is_near = len >= 2 && point.offset - self.tiers[0][len - 2].offset < spacing(0);
        if is_near || (len >= 1 && point.offset == newest) {
            self.tiers[0][len - 1] = point;
        } else {
            self.append(0, point);
        }
    }

    /// Growth towards the last point began later than at the point before it: moves that one.
    pub fn delay_before_last(&mut self, t_ns: u64) {
        let len = usize::from(self.lens[0]);
        if len < 2 {
            return;
        }
        let offset = t_ns.saturating_sub(self.base_ns) >> TIME_SHIFT;
        let last = self.tiers[0][len - 1].offset;
        let before = &mut self.tiers[0][len - 2].offset;
        *before = u32::try_from(offset).unwrap_or(u32::MAX).clamp(*before, last);
    }

    /// The size at a time, interpolated; before the first point that one, after the last that one.
    /// 0 when there is none.
    pub fn size_at(&self, t_ns: u64) -> u64 {
        let offset = t_ns.saturating_sub(self.base_ns) >> TIME_SHIFT;
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let mut later: Option<Point> = None;
        for (tier, len) in self.tiers.iter().zip(self.lens) {
            for point in tier[..usize::from(len)].iter().rev() {
                if point.offset <= offset {
                    return between(*point, later, offset);
                }
                later = Some(*point);
            }
        }
        later.map_or(0, |first| u64::from(first.size) << SIZE_SHIFT)
    }

    fn append(&mut self, tier: usize, point: Point) {
        let len = usize::from(self.lens[tier]);
        if len < POINTS {
            self.tiers[tier][len] = point;
            self.lens[tier] += 1;
            return;
        }
        let leaving = self.tiers[tier][0];
        self.tiers[tier].copy_within(1.., 0);
        self.tiers[tier][POINTS - 1] = point;
        self.offer(tier + 1, leaving);
    }

    fn offer(&mut self, tier: usize, point: Point) {
        if tier == SPACING_NS.len() {
            return;
        }
        let last = usize::from(self.lens[tier]).checked_sub(1);
        let far = last.is_none_or(|at| {
            point.offset.saturating_sub(self.tiers[tier][at].offset) >= spacing(tier)
        });
        if far {
            self.append(tier, point);
        }
    }

    fn rebase(&mut self, base_ns: u64) {
        let shift = base_ns.saturating_sub(self.base_ns) >> TIME_SHIFT;
        let shift = u32::try_from(shift).unwrap_or(u32::MAX);
        for point in self.tiers.as_flattened_mut() {
            point.offset = point.offset.saturating_sub(shift);
        }
        self.base_ns = base_ns;
    }
}

const fn spacing(tier: usize) -> u32 {
    (SPACING_NS[tier] >> TIME_SHIFT) as u32
}

fn between(from: Point, to: Option<Point>, offset: u32) -> u64 {
    let size = match to {
        Some(to) if to.offset > from.offset => {
            let part = f64::from(offset - from.offset) / f64::from(to.offset - from.offset);
            f64::from(from.size) + (f64::from(to.size) - f64::from(from.size)) * part
        }
        _ => f64::from(from.size),
    };
    (size as u64) << SIZE_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MIB: u64 = 1 << 20;

    /// Feeds a straight line of `rate` bytes per second, one point each `step_ns`.
    fn line(from_ns: u64, until_ns: u64, step_ns: u64, rate: u64) -> History {
        let mut history = History::default();
        let mut t = from_ns;
        while t <= until_ns {
            history.push(t, (t - from_ns) / 1000 * rate / 1_000_000);
            t += step_ns;
        }
        history
    }

    #[test]
    fn a_minute_is_remembered_at_every_pace() {
        for step_ms in [1, 5, 10, 37, 100, 500, 1000, 3000] {
            let end = 1000 * S;
            let history = line(0, end, step_ms * 1_000_000, MIB);
            for ago in [0, 1, 2, 5, 10, 20, 40, 60] {
                let size = history.size_at(end - ago * S) as f64 / MIB as f64;
                let truth = (end / S - ago) as f64;
                let error = (size - truth).abs();
                let bound = 0.2 + step_ms as f64 / 1000.0;
                assert!(error <= bound, "step {step_ms} ms, {ago} s ago: {size} is not {truth}");
            }
        }
    }

    #[test]
    fn outside_of_the_points_the_nearest_holds() {
        let history = line(50 * S, 52 * S, S, 100 * MIB);
        assert_eq!(history.size_at(0), 0);
        assert_eq!(history.size_at(u64::MAX), 200 * MIB);
        assert_eq!(History::default().size_at(S), 0);
    }

    #[test]
    fn the_clock_of_the_points_may_run_out() {
        let mut history = History::default();
        history.push(5, MIB);
        let later = 100 * 24 * 3600 * S;
        history.push(later, 2 * MIB);
        history.push(later + 10 * S, 12 * MIB);
        assert_eq!(history.size_at(later + 5 * S) / MIB, 7);
        assert_eq!(history.size_at(later - 300 * S), MIB);
        history.push(u64::MAX, u64::MAX);
        assert!(history.size_at(u64::MAX) > 1 << 40);
    }

    #[test]
    fn a_time_that_falls_counts_as_the_last() {
        let mut history = line(10 * S, 20 * S, S, MIB);
        history.push(3 * S, 50 * MIB);
        assert_eq!(history.size_at(20 * S), 50 * MIB);
    }

    #[test]
    fn it_stays_small() {
        assert!(size_of::<History>() <= 272, "{}", size_of::<History>());
    }
}
